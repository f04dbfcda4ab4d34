"""What a part of `python -m benchmarks.gpu` found, in a file that is whole after every row.

A part is a module of its own that ends with

    def measure(results: Results, options: Options) -> None:
        results.row(case="RandAugment", batch=256, device_us=1.5)

    if __name__ == "__main__":
        sys.exit(run("speed", measure))

and runs as `python -m benchmarks.gpu.speed --out DIR --seconds S --size full|short [--dry] [--jpegs FOLDER]`. `--dry`
runs the same code with tiny sizes on pretend CUDA (`benchmarks.gpu.dry`).

The summary and the charts look for these figures in rows; a row may have any others beside them:

    speed     recipe ("crop + flip", "RandAugment", ..., with " + MixUp" or " + CutMix"), batch, way ("gpuaug", "gpuaug
              graph", "read and write", "torchvision batch", "torchvision each", "kornia", "kornia compiled", ...),
              device_us (an image), host_us (a call), wall_us (an image)
    training  network ("resnet18", "resnet50"), batch, source ("cached", "augment", "augment on a side stream", ...),
              images_s, share (of a step that augmentation takes, 0.01 is 1 %)
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..locations import PACKAGE

__all__ = [
    "NO_DEVICE", "STARTED", "Options", "Poisoned", "Results", "arguments", "device", "run", "short", "write",
]  # fmt: skip

if "--dry" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton

NO_DEVICE = "torch sees no CUDA device"
STARTED = "GPUAUG_PART_STARTED"  # variable: time.monotonic() of when the part's process was started
LONGEST = 300  # characters of an error that are kept

# After these a process cannot use the device any more, whatever it tries
POISON = re.compile(
    r"illegal memory access|illegal address|illegal instruction|misaligned address|unspecified launch failure|"
    r"device-side assert|invalid program counter|hardware stack error|uncorrectable ECC",
    re.IGNORECASE,
)


class Poisoned(RuntimeError):  # noqa: N818
    """The device is lost to this process."""


@dataclass(frozen=True)
class Options:
    """A part's command line."""

    out: Path
    seconds: float  # that the part may take, from its start
    size: str = "full"  # or "short"
    dry: bool = False
    jpegs: Path | None = None  # a folder of photographs

    @property
    def full(self) -> bool:
        """Whether the whole table of rows is wanted, as far as the time goes."""
        return self.size == "full" and not self.dry


class Results:
    """The rows, failures and notes of one part; `out/PART.json` has them after every call."""

    def __init__(self, out: Path, part: str, seconds: float, dry: bool) -> None:
        self.path, self.seconds = out / f"{part}.json", seconds
        self.start = float(os.environ.get(STARTED, time.monotonic()))  # with the process, before torch was imported
        self.found: dict[str, Any] = {"part": part, "dry": dry, "status": "running", "limit_s": seconds, "taken_s": 0.0}
        self.found |= {"failed": [], "notes": [], "rows": []}
        out.mkdir(parents=True, exist_ok=True)
        self._write()

    def row(self, **figures: Any) -> None:
        """Add a row of figures, keep it in the file and show it. Units belong into the names: device_us, gb_s."""
        self.found["rows"].append(figures)
        self._write()
        print("  ".join(f"{name} {_shown(value)}" for name, value in figures.items() if value is not None), flush=True)

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Add several rows without showing them."""
        if rows:
            self.found["rows"] += rows
            self._write()

    def fail(self, what: str, error: BaseException | str) -> None:
        """Record that `what` failed, and go on; raises Poisoned if the process has lost the device by this."""
        text = short(error)
        self.found["failed"].append({"what": what, "error": text})
        self._write()
        print(f"FAILED {what}: {text}", flush=True)
        if not isinstance(error, Poisoned) and POISON.search(str(error)):
            self.found["poisoned"] = True
            self._write()
            raise Poisoned(f"the device is lost to this process since {what}")

    def note(self, text: str) -> None:
        """Say something that is neither a figure nor a failure, for instance what was left out and why."""
        self.found["notes"].append(text)
        self._write()
        print(f"note: {text}", flush=True)

    def skip(self, reason: str) -> None:
        """The part cannot be done here, which is no failure; return after this."""
        self.found |= {"status": "skipped", "reason": reason}
        self._write()
        print(f"skipped: {reason}", flush=True)

    def left(self) -> float:
        """Seconds left to this part; negative if it is late."""
        return self.seconds - (time.monotonic() - self.start)

    def close(self, status: str = "done") -> None:
        """Nothing more comes."""
        if self.found["status"] == "running":
            self.found["status"] = "failed" if self.failed and status == "done" else status
        self._write()

    @property
    def failed(self) -> bool:
        return bool(self.found["failed"])

    def _write(self) -> None:
        self.found["taken_s"] = round(time.monotonic() - self.start, 1)
        write(self.path, json.dumps(self.found, indent=1, default=_plain) + "\n")


def short(error: BaseException | str) -> str:
    """Type and message in one line of at most LONGEST characters, the middle left out."""
    text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    text = " ".join(text.split())
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[: half - 2]} ... {text[-half + 3 :]}"


def write(path: Path, text: str | bytes) -> None:
    """Replace a file at once: whoever stops this finds the old one or the new one."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(text.encode() if isinstance(text, str) else text)
    os.replace(part, path)


def _plain(value: Any) -> Any:
    """Of numbers that are NumPy's or torch's, paths and dtypes."""
    return value.item() if hasattr(value, "item") else str(value)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def arguments(part: str = "", given: Sequence[str] | None = None) -> Options:
    """Parse a part's command line."""
    parser = argparse.ArgumentParser(prog=f"python -m {PACKAGE}.gpu.{part or 'PART'}")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where PART.json is written")
    parser.add_argument("--seconds", type=float, default=60.0, help="that it may take (default: 60)")
    parser.add_argument("--size", choices=("full", "short"), default="full", help="how many rows to try")
    parser.add_argument("--dry", action="store_true", help="tiny, on pretend CUDA: finds slips, measures nothing")
    parser.add_argument("--jpegs", type=Path, metavar="FOLDER", help="photographs; default: the packaged ones")
    return Options(**vars(parser.parse_args(given)))


def run(part: str, measure: Callable[[Results, Options], None], given: Sequence[str] | None = None) -> int:
    """The main of a part: its exit status, 1 if something failed. What `measure` raises is a failure like others."""
    options = arguments(part, given)
    results = Results(options.out, part, options.seconds, options.dry)
    try:
        with device(options.dry):
            try:
                measure(results, options)
                _last_errors()
            except Poisoned:
                raise
            except Exception as error:
                traceback.print_exc()
                results.fail(part, error)
    except Poisoned:
        pass
    except BaseException as error:  # asked to stop
        results.fail(part, error)
        raise
    finally:
        results.close()
    sys.stdout.flush()
    return 1 if results.failed else 0


def device(dry: bool) -> Any:
    """A context in which there is a device: the real one, or, for a dry run, what stands in for it."""
    if not dry:
        return nullcontext()
    from .dry import pretend

    return pretend()


def _last_errors() -> None:
    """Raise what the device has still to say."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
