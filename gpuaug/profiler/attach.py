"""What a running job spends its time on, from samples of the stacks of its processes, which py-spy takes.

Shares of time do not say what a change would gain, so there are no predictions, no recommendations and no receipt.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from gpuaug.profiler.judge.verdict import FINE, WORDS

__all__ = ["Frame", "Sampled", "attach", "sampled", "stacks"]

RATE = 50  # samples per second
WIDTH = 80  # characters of a line
MOST_FUNCTIONS = 10  # functions that are listed
PYSPY = "py-spy"
PATIENCE = 60  # seconds that py-spy may take beyond the duration, to find the processes and to end
INSTALL = "profile: `--attach` needs the program py-spy, which is not installed. Run pip install py-spy."
DENIED = "Run it as the user that started the job, or with sudo; in a container, with the capability SYS_PTRACE."
OTHER = "Pass the id of the Python process that trains, or of the launcher that started it."

# Parts of a file's path, by what its functions do. The innermost function that is known decides
TRANSFORMS = (
    "/torchvision/transforms/", "/albumentations/", "/kornia/", "/imgaug/", "/timm/data/auto_augment",
    "/timm/data/transforms", "/timm/data/random_erasing", "/gpuaug/transforms/", "/gpuaug/engine/",
)  # fmt: skip
DECODERS = (
    "/PIL/ImageFile.", "ImagePlugin.", "/torchvision/io/image", "/gpuaug/data/decode", "/imageio/", "/tifffile/",
)  # fmt: skip
READERS = ("/h5py/", "/zarr/", "/zipfile", "/tarfile", "/fsspec/", "/lmdb/", "/pathlib", "/webdataset/gopen")
GENERIC = ("forward", "wrapper", "inner", "transform", "apply", "call", "compose")  # functions that say nothing
OUTER = ("Compose", "Transform", "Sequential", "Module", "BaseCompose", "BasicTransform")  # classes that say nothing

WORKER, FETCH = "torch/utils/data/_utils/worker", "torch/utils/data/_utils/fetch"
LOADER, COLLATE = "torch/utils/data/dataloader", "torch/utils/data/_utils/collate"
SAMPLES = {"__getitem__", "__getitems__", "__next__", "__iter__", "<listcomp>"}  # called by a fetch, before collating

Frame = tuple[str, str]  # (function, with its class before a dot where Python tells it, file)


@dataclass(frozen=True)
class Sampled:
    """What was seen of a job.

    Attributes:
        pid: Id of the process.
        seconds: Duration of sampling.
        samples: Number of stacks in the processes that loop over a loader.
        workers: Number of worker processes that were seen; each epoch may have its own.
        waiting: Fraction of the time in which the loop waits for a batch.
        starting: Fraction of the time in which a loader starts its workers.
        fetching: Fraction of the time in which the loop fetches by itself, without workers.
        busy: Fraction of the workers' time in which they fetch; 0 without workers.
        stages: {stage: fraction of the time of fetching}, the largest first.
        functions: The same for the innermost functions, at most ten.
    """

    pid: int
    seconds: float
    samples: int
    workers: int
    waiting: float
    starting: float
    fetching: float
    busy: float
    stages: dict[str, float]
    functions: dict[str, float]

    @property
    def exposed(self) -> float:
        """Fraction of the time in which the loop has no batch to work on."""
        return self.waiting + self.starting + self.fetching

    @property
    def verdict(self) -> str:
        """What limits the job, in one sentence."""
        much = f"{self.exposed:.0%} of the time of the loop"
        if self.exposed < FINE:
            return f"The step limits the job: only {much} waits for data."
        if self.starting > self.waiting + self.fetching:
            return f"The start of each epoch limits the job: {self.starting:.0%} of the time of the loop."
        if not self.stages:
            return f"The data path limits the job: {much} waits for data, but no worker was seen fetching."
        groups: dict[str, float] = {}
        for stage, share in self.stages.items():
            groups[group_of(stage)] = groups.get(group_of(stage), 0.0) + share
        group, part = max(groups.items(), key=lambda item: item[1])
        what = WORDS[group]
        return (
            f"{what[0].upper()}{what[1:]} limits the job: {much} waits for data, and {part:.0%} of the time of "
            f"fetching is {what}."
        )

    def __str__(self) -> str:
        lines = [*wrap(self.verdict, WIDTH, initial_indent="Verdict  ", subsequent_indent=" " * 9), ""]
        seen = f"{self.workers} worker processes were seen; they fetch {self.busy:.0%} of their time"
        who = seen if self.workers else "no worker processes were seen"
        lines += [
            f"Loop     {self.waiting:.0%} waits for a batch, {self.fetching:.0%} fetches by itself, "
            f"{self.starting:.0%} starts workers",
            f"         {max(0.0, 1 - self.exposed):.0%} is the step and all else",
            f"Data     {who}",
            "",
            f"{'stage':<34}of the time of fetching",
            *(f"{stage:<34}{share:>6.1%}" for stage, share in self.stages.items()),
            "",
            "innermost function",
            *(f"{name:<34}{share:>6.1%}" for name, share in self.functions.items()),
            "",
            f"{self.samples:,} stacks of process {self.pid} and its children in {self.seconds:.0f} s, by py-spy.",
            "Shares of time do not say what a change would gain: `gpuaug profile FILE.py:NAME` does.",
        ]
        return "\n".join(lines)


def attach(pid: int, seconds: float) -> Sampled:
    """Sample the stacks of a running job and of its workers, which are its child processes.

    Args:
        pid: Id of the process that loops over a loader, or of the launcher that started it.
        seconds: Duration, at least 1.

    Raises:
        ValueError: If there is no such process, or if no loop over a loader was seen in it.
        RuntimeError: If py-spy is not installed, or may not read the process.
    """
    if not isinstance(seconds, (int, float)) or not seconds >= 1:
        raise ValueError(f"profile: `budget` must be seconds of at least 1, got {seconds!r}.")
    if not _runs(pid):
        raise ValueError(f"profile: `--attach` must be the id of a process that runs here, got {pid}.")
    return sampled(stacks(_recorded(pid, seconds)), pid, seconds)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return pid > 0


def _recorded(pid: int, seconds: float) -> str:
    """py-spy's samples: a line for each stack, with the number of times that it was seen."""
    beside = Path(sys.executable).with_name(PYSPY)
    program = shutil.which(PYSPY) or (str(beside) if beside.is_file() else None)
    if program is None:
        raise RuntimeError(INSTALL)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "stacks"
        options = ["--format", "raw", "--subprocesses", "--idle", "--full-filenames", "--nolineno", "--rate", str(RATE)]
        options += ["--duration", str(round(seconds)), "--output", str(out)]
        command = [program, "record", "--pid", str(pid), *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + PATIENCE, check=False)
        if not out.is_file():
            lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            last = lines[-1] if lines else f"it ended with status {done.returncode}"
            said = next((line for line in lines if line.startswith("Error: ")), last)  # a backtrace may follow
            said = said.removeprefix("Error: ").strip().rstrip(".")
            remedy = OTHER if said.lower().startswith("no python") else DENIED
            raise RuntimeError(f"profile: py-spy could not read process {pid}: {said}. {remedy}")
        return out.read_text(encoding="utf-8", errors="replace")


def stacks(text: str) -> Iterator[tuple[str, list[Frame], int]]:
    """(process, frames from the outermost, number of samples) of each line of py-spy's format `raw`."""
    for line in text.splitlines():
        names, _, count = line.rpartition(" ")
        if not count.isdigit():
            continue
        processes = re.findall(r'process (\d+):"', names)
        frames = [(match[1], match[2]) for match in re.finditer(r"([^;]+?) \(([^;()]+\.\w+)(?::\d+)?\)(?=;|$)", names)]
        yield processes[-1] if processes else "", frames, int(count)


def sampled(found: Iterable[tuple[str, list[Frame], int]], pid: int, seconds: float) -> Sampled:
    """Sum stacks up.

    Raises:
        ValueError: If none of them loops over a loader.
    """
    workers: set[str] = set()
    loops: set[str] = set()
    main: dict[str, Counter[str]] = {}  # process -> what its main thread does
    idle, stages, functions = 0, Counter[str](), Counter[str]()
    for process, frames, count in found:
        files = [file for _, file in frames]
        if any(WORKER in file for file in files):
            workers.add(process)
            stage = stage_of(frames)
            if stage is None:
                idle += count
            else:
                stages[stage] += count
                functions[_named(frames[-1])] += count
        elif process not in workers and files and not files[0].endswith("threading.py"):
            what = doing(frames)
            if what == "fetching":
                stages[stage_of(frames) or "getitem"] += count
                functions[_named(frames[-1])] += count
            if what != "step":
                loops.add(process)
            main.setdefault(process, Counter())[what] += count
    if not loops:
        raise ValueError(
            f"profile: `--attach` must be the id of a job that loops over a DataLoader of torch, but in "
            f"{seconds:.0f} s process {pid} and its children did not. Try again later, or for longer (--budget 30s)."
        )
    total = sum((main[process] for process in loops), Counter[str]())
    whole, fetched = sum(total.values()), sum(stages.values())
    own = total["fetching"]
    return Sampled(
        pid=pid,
        seconds=seconds,
        samples=whole + fetched - own + idle,
        workers=len(workers),
        waiting=total["waiting"] / whole,
        starting=total["starting"] / whole,
        fetching=own / whole,
        busy=(fetched - own) / max(1, fetched - own + idle),
        stages={stage: count / fetched for stage, count in stages.most_common()},
        functions={name: count / fetched for name, count in functions.most_common(MOST_FUNCTIONS)},
    )


def doing(frames: Sequence[Frame]) -> str:
    """What a main thread does: waiting for a batch, fetching one by itself, starting workers, or the step."""
    inside = [_function(name) for name, file in frames if LOADER in file]
    if any(FETCH in file for _, file in frames):
        return "fetching"
    if "__next__" in inside:
        return "waiting"
    return "starting" if "__iter__" in inside or "_get_iterator" in inside else "step"


def stage_of(frames: Sequence[Frame]) -> str | None:
    """The stage of a fetch; None outside of one."""
    at = next((k for k in range(len(frames) - 1, -1, -1) if FETCH in frames[k][1]), None)
    if at is None:
        return None
    inner = frames[at + 1 :]
    for name, file in reversed(inner):
        name, path = _function(name), file.replace("\\", "/")
        if any(part in path for part in DECODERS) or (path.endswith("/PIL/Image.py") and name in ("open", "load")):
            return "decode"
        if any(part in path for part in READERS):
            return "storage"
        if COLLATE in path:
            return "collate"
        if any(part in path for part in TRANSFORMS):
            return _transform(inner)
    sampling = not inner or SAMPLES & {_function(frames[at][0]), _function(inner[0][0])}
    return "getitem" if sampling else "collate"


def _transform(frames: Sequence[Frame]) -> str:
    """The name of a transform: of the outermost class or function of its library that says something, else its file."""
    own = [(name, file) for name, file in frames if any(part in file.replace("\\", "/") for part in TRANSFORMS)]
    for name, _ in own:
        kind, _, function = name.rpartition(".")
        says = kind not in OUTER if kind else function not in GENERIC
        if says and not name.startswith(("_", "<")):
            return f"{kind or function} (transform)"
    return f"{Path(own[-1][1]).stem.lstrip('_')} (transform)"


def _named(frame: Frame) -> str:
    """A function with its file."""
    return f"{frame[0]} ({Path(frame[1]).name})"


def _function(name: str) -> str:
    """The name of a function without its class."""
    return name.rpartition(".")[2]


def group_of(stage: str) -> str:
    """The group of a stage, as in a report."""
    if stage.endswith(" (transform)"):
        return "augmentation"
    return "dataset" if stage == "getitem" else stage
