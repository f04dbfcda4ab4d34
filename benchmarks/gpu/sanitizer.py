"""compute-sanitizer over every kernel: memory that is not ours, races in shared memory, memory that nobody wrote.

Its tools watch whole processes, kernels of torch and others too. Only what they say of our kernels is a failure.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ..locations import PACKAGE
from .launches import kernels
from .process import end_group, python
from .results import Options, Results, run

__all__ = ["TOOLS", "Verdict", "find", "main", "read"]

NAME = "compute-sanitizer"
PLACES = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer", "/opt/nvidia/compute-sanitizer", "/usr/bin")
MEMCHECK, RACECHECK, INITCHECK = "memcheck", "racecheck", "initcheck"
TOOLS: dict[str, list[str]] = {  # and their options
    MEMCHECK: ["--report-api-errors", "no"],  # torch asks for things that may fail
    RACECHECK: ["--racecheck-report", "all"],
    INITCHECK: ["--report-api-errors", "no"],
}
LIMIT = "500"  # errors that are printed
WATCHED = python(f"{PACKAGE}.gpu.each_kernel")
SHOWN = 6  # errors that are kept in words
REFUSED = re.compile(r"not supported|unsupported|permission|privilege|failed to initialize|no cuda-capable", re.I)


def measure(results: Results, options: Options) -> None:
    """Run the list alone, then under each of the tools, all of them at the same time."""
    if options.dry:
        _rehearse(results)
        return
    tool = find()
    if tool is None:
        results.skip(f"there is no {NAME} in PATH or {PLACES[0]}")
        return
    start = time.monotonic()
    alone = subprocess.run(WATCHED, capture_output=True, text=True, timeout=max(results.left(), 1.0))
    results.row(tool="none", seconds=time.monotonic() - start, launched=_launched(alone.stdout))
    if alone.returncode:
        results.fail("without a tool", (alone.stdout + alone.stderr)[-600:])
    watch(results, tool)


def find() -> str | None:
    """Where the tool is."""
    return shutil.which(NAME) or next((str(path) for place in PLACES if (path := Path(place, NAME)).exists()), None)


def watch(results: Results, tool: str) -> None:
    """The three at the same time: they are slow for the host's sake, and the device has room."""
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / name for name in TOOLS}
        start = time.monotonic()
        running = {name: _start(tool, name, file) for name, file in files.items()}
        waiting = dict(running)
        try:
            while waiting and results.left() > 1.0:
                time.sleep(0.1)
                for name, process in list(waiting.items()):
                    if process.poll() is not None:
                        del waiting[name]
                        _judge(results, name, files[name], process.returncode, time.monotonic() - start)
        finally:
            for process in running.values():
                end_group(process, 0.0)
        for name in waiting:
            _judge(results, name, files[name], None, time.monotonic() - start)


def _start(tool: str, name: str, file: Path) -> subprocess.Popen[bytes]:
    command = [tool, "--tool", name, *TOOLS[name], "--print-limit", LIMIT, *WATCHED]
    own = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}  # else an access beyond a tensor is still in the allocator's memory
    with file.open("wb") as out:
        return subprocess.Popen(command, env={**os.environ, **own}, stdout=out, stderr=out, start_new_session=True)


@dataclass
class Verdict:
    """What a tool has said."""

    errors: Counter[str] = field(default_factory=Counter)  # of each of our kernels
    others: int = 0  # blocks that name none of them
    texts: list[str] = field(default_factory=list)  # of ours, the first few
    total: int | None = None  # its own count; None: it did not come to an end
    launched: str = ""
    refused: str = ""


def read(output: str, names: set[str]) -> Verdict:
    """Parse its output: blocks of lines that begin with =========, the summary, and what the program printed."""
    found = Verdict(launched=_launched(output))
    marked = [line[9:] for line in output.splitlines() if line.startswith("=========")]
    for block in _blocks(marked):
        text = " ".join(" ".join(block).split())
        own = [name for name in names if re.search(rf"\b{name}\b", text)]
        if own:
            found.errors[own[0]] += 1
            found.texts += [text[:400]] if len(found.texts) < SHOWN else []
        else:
            found.others += 1
            if REFUSED.search(text):
                found.refused = text[:200]
    counts = [re.search(r"(?:ERROR SUMMARY: |RACECHECK SUMMARY: )(\d+)", line) for line in marked]
    totals = [int(count[1]) for count in counts if count]
    found.total = totals[-1] if totals else None
    return found


def _blocks(lines: list[str]) -> list[list[str]]:
    """Lines of one error each: the first is indented by one space, the others by more, until an empty one."""
    blocks: list[list[str]] = []
    for line in lines:
        text = line.strip()
        if not text or "SUMMARY" in text or text.startswith("COMPUTE-SANITIZER"):
            blocks.append([])
        elif line.startswith("  ") and blocks and blocks[-1]:
            blocks[-1].append(text)
        else:
            blocks.append([text])
    return [block for block in blocks if block]


def _judge(results: Results, name: str, file: Path, code: int | None, taken: float) -> None:
    output = file.read_text(errors="replace")
    found = read(output, kernels())
    count = sum(found.errors.values())
    if found.total is None and found.refused and not count:
        results.note(f"{name} was refused: {found.refused}")
        results.row(tool=name, refused=found.refused)
        return
    results.row(
        tool=name, errors=count, of_kernels=dict(found.errors), elsewhere=found.others, total=found.total, status=code,
        seconds=taken, launched=found.launched,
    )  # fmt: skip
    for text in found.texts:
        results.fail(name, f"{name}: {text}")
    if code is None:
        results.fail(name, f"it did not come to an end in {taken:.0f} s")
    elif found.total is None or not found.launched:
        lines = [line for line in output.strip().splitlines() if line.strip("= ")]
        results.fail(name, f"it said nothing that can be judged: {' | '.join(lines[-4:])}")
    elif "other bits" in output or "never launched" in output:
        results.fail(name, "under it the list did not give the twin's bits, or did not launch every kernel")


def _launched(output: str) -> str:
    return next((line.removeprefix("launched: ") for line in output.splitlines() if line.startswith("launched: ")), "")


def _rehearse(results: Results) -> None:
    """The list in this process, which has pretend CUDA; no tool."""
    from .each_kernel import run_each
    from .launches import listening

    with listening() as seen:
        wrong = run_each()
    results.row(tool="none", launched=", ".join(f"{name} {count}" for name, count in sorted(Counter(seen).items())))
    for name in wrong:
        results.fail(name, "other bits than the twin")
    for name in sorted(kernels() - set(seen)):
        results.fail(name, "never launched")


def main() -> int:
    return run("sanitizer", measure)


if __name__ == "__main__":
    sys.exit(main())
