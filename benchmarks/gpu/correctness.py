"""The tests that need a device, in several processes, with a time for each and for all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..locations import PACKAGE, ROOT
from .process import end_group
from .results import NO_DEVICE, Options, Results, run
from .watched import FILE, KEPT, PATIENCE, WARMED, stack

__all__ = ["Watch", "main"]

TESTS = Path("tests") / "backends" / "test_gpu.py"
WORKERS = 8  # at most: more would only compile the same kernels at the same time
PATIENCE_S = 60.0  # for one test, with what it still has to compile
RESTARTS = 3  # of a pytest without workers, whose process ended within a test
TAIL = 25  # last lines of pytest that are shown if it ran nothing


def measure(results: Results, options: Options) -> None:
    """Run pytest until all tests have ended, or the time has."""
    if ROOT is None or not (ROOT / TESTS).exists():
        results.skip(f"there is no {TESTS}: the tests are in the repository, not in the package")
        return
    for name in ("pytest", "xdist"):
        if find_spec(name) is None:
            results.note(f"{name} is not installed")
    if find_spec("pytest") is None:
        results.skip("pytest is not installed")
        return
    if options.dry:
        _rehearse_warming(results)
    run_tests(results, [str(TESTS)], 0 if options.dry else workers(), results.left() - 2.0, dry=options.dry)


def workers() -> int:
    """Half of the cores; 0 without xdist."""
    if find_spec("xdist") is None:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores // 2, WORKERS))


@dataclass
class Watch:
    """What the plugin's lines have said so far."""

    results: Results
    file: Path  # the plugin's lines
    collected: int = 0
    ended: dict[str, str] = field(default_factory=dict)  # outcome of each test
    running: dict[str, str] = field(default_factory=dict)  # test of each worker
    read: int = 0

    def look(self) -> None:
        """Take in the lines that are new."""
        data = self.file.read_bytes()[self.read :]
        data = data[: data.rfind(b"\n") + 1]
        self.read += len(data)
        rows = [row for row in map(self._line, map(json.loads, data.splitlines())) if row]
        self.results.add(rows)

    def _line(self, line: dict[str, Any]) -> dict[str, Any] | None:
        """The row of a line, if it is one."""
        kind, worker = line.pop("kind"), line.pop("worker", "")
        if kind == "collected":
            self.collected = max(self.collected, line["count"])
        elif kind == "started":
            self.running[worker] = line["test"]
        elif kind == "warmed":
            said = f"; {len(line['said'])} lists were not: {line['said'][0]}" if line["said"] else ""
            self.results.note(f"{worker}: {line['kernels']} launches compiled in {line['seconds']:.1f} s{said}")
        elif kind == "lost":
            self._failed(line["test"], f"the device was lost: {line['text']}")
        elif kind == "ended":
            return self._ended(line)
        return None

    def _ended(self, line: dict[str, Any]) -> dict[str, Any] | None:
        name, outcome, text = line["test"], line["outcome"], line.pop("text")
        workers = [worker for worker, test in self.running.items() if test == name]
        for worker in workers:
            del self.running[worker]
        if outcome == "failed":
            self._failed(name, text + "".join(map(self._hung, workers)))
        if name in self.ended:  # its teardown, or it was said to be lost
            return None
        self.ended[name] = outcome
        line = {**line, "seconds": round(line["seconds"], 3)}
        return {**line, "text": text} if outcome != "passed" and outcome != "skipped" else line

    def died(self, code: int) -> None:
        """A process without workers has ended within a test."""
        for worker, test in self.running.items():
            self._failed(test, f"its process ended with {code}{self._hung(worker)}")
        self.running.clear()

    def _hung(self, worker: str) -> str:
        """What a process was doing when its test took too long, if it was that."""
        file = stack(str(self.file), worker)
        text = file.read_text(errors="replace") if file.exists() else ""
        return "\n" + "\n".join(text.splitlines()[:KEPT]) if text else ""

    def _failed(self, name: str, text: str) -> None:
        self.ended.setdefault(name, "failed")
        # the text may say that a device was lost, which is another process's
        self.results.found["failed"].append({"what": name, "error": _sentence(text), "lines": text})
        print(f"FAILED {name}: {_sentence(text)}", flush=True)


def _sentence(text: str) -> str:
    """The line that says most: pytest puts an E before it."""
    lines = [line.removeprefix("E").strip() for line in text.splitlines() if line.startswith("E ")]
    return " ".join((lines or text.strip().splitlines() or ["no text"])[0 if lines else -1].split())[:300]


def run_tests(results: Results, paths: list[str], count: int, seconds: float, dry: bool = False) -> None:
    """Run the marked tests of `paths` in `count` workers for at most `seconds`, with a row for each."""
    end = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        file, log = Path(folder) / "lines", Path(folder) / "log"
        file.touch()
        watch = Watch(results, file)
        own = {FILE: str(file), PATIENCE: str(min(PATIENCE_S, max(seconds / 3, 5.0))), WARMED: "" if dry else "1"}
        for _ in range(1 + RESTARTS):
            code = _pytest(watch, _command(paths, count, watch), {**_ours(), **own}, log, end)
            if code is None or not watch.running:  # out of time, or to the end
                break
            watch.died(code)
        results.row(tests=watch.collected, **Counter(watch.ended.values()), workers=count, status=code)
        _conclude(results, watch, code, seconds, log, dry)


def _command(paths: list[str], count: int, watch: Watch) -> list[str]:
    command = [sys.executable, "-m", "pytest", *paths, "-m", "gpu", "-p", f"{PACKAGE}.gpu.watched"]
    command += ["-p", "no:cacheprovider", "-q", "--tb=short", "-o", "faulthandler_timeout=0"]
    if count:
        command += ["-n", str(count), "--max-worker-restart", "16"]
    return command + [word for test in watch.ended for word in ("--deselect", test)]


def _ours() -> dict[str, str]:
    """The environment without what a pytest that runs this has put there, such as the number of its worker."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


def _pytest(watch: Watch, command: list[str], environment: dict[str, str], log: Path, end: float) -> int | None:
    """Run it until `end`, taking in its lines; its exit status, None if it was stopped."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    said = time.monotonic()
    try:
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.2)
            watch.look()
            if time.monotonic() - said > 5.0:
                said = time.monotonic()
                print(f"{len(watch.ended)} of {watch.collected} tests", flush=True)
        code = process.poll()
    finally:
        end_group(process, 1.0 if process.poll() is None else 0.0)
    watch.look()
    return code


def _conclude(results: Results, watch: Watch, code: int | None, seconds: float, log: Path, dry: bool) -> None:
    tail = log.read_text(errors="replace").strip().splitlines()[-TAIL:]
    missing = watch.collected - len(watch.ended)
    if missing > 0:
        running = ", ".join(watch.running.values()) or "nothing"
        why = "in their process" if code is not None else f"within {seconds:.0f} s"
        results.fail("tests", f"{missing} of {watch.collected} did not end {why}; running: {running}")
    if not watch.ended:
        results.fail("tests", f"none ran: {' | '.join(tail[-6:])}")
    elif not dry and set(watch.ended.values()) == {"skipped"}:
        results.fail("tests", f"all were skipped: {NO_DEVICE}")
    if results.failed:
        print("\n".join(tail), flush=True)


def _rehearse_warming(results: Results) -> None:
    """A few of the lists, in the interpreter, which compiles nothing."""
    from .warm import warm

    launches, said = warm(0, 40, most=4)
    if said or not launches:
        results.fail("warm", said[0] if said else "nothing was launched")


def main() -> int:
    return run("correctness", measure)


if __name__ == "__main__":
    sys.exit(main())
