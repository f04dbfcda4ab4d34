"""Prove and measure the engine on one GPU, in the minutes that there are: python -m benchmarks.gpu --out DIR

Each part is a process with a time limit; DIR has what was found as soon as it is there, `summary.txt` on one screen.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..locations import PACKAGE, ROOT
from .carry import install
from .charts import draw
from .parts import FULL, PARTS, SHORT, Part, dry_share, share, size
from .process import python, run_part, skip
from .results import NO_DEVICE, short, write
from .summary import summary

__all__ = ["Plan", "main", "run_all"]

INTERRUPTED = 130  # what a shell expects after Ctrl-C


class Plan:
    """What is asked for: the parts, where their results go, and how long all of it may take."""

    def __init__(
        self,
        out: Path,
        budget: float = FULL,
        *,
        parts: Sequence[Part] = PARTS,
        only: Sequence[str] = (),
        dry: bool = False,
        jpegs: Path | None = None,
        wheels: Path | None = None,
    ) -> None:
        self.out, self.budget, self.dry, self.jpegs, self.wheels = out, budget, dry, jpegs, wheels
        names = [part.name for part in parts]
        unknown = [name for name in only if name not in names]
        if unknown:
            raise ValueError(f"benchmarks.gpu: `only` must be of {', '.join(names)}, got {unknown[0]}.")
        for name, folder in (("jpegs", jpegs), ("wheels", wheels)):
            if folder is not None and not folder.is_dir():
                raise ValueError(f"benchmarks.gpu: `{name}` must be a folder, got {folder}.")
        if budget <= 0:
            raise ValueError(f"benchmarks.gpu: `budget` must be above 0 (seconds), got {budget}.")
        self.all = list(parts)
        self.parts = [part for part in parts if not only or part.name in only]
        self.start = time.monotonic()

    @property
    def left(self) -> float:
        return self.budget - (time.monotonic() - self.start)

    def command(self, part: Part, seconds: float) -> list[str]:
        given = ["--out", str(self.out), "--seconds", f"{seconds:.1f}", "--size", size(self.budget)]
        given += ["--jpegs", str(self.jpegs)] if self.jpegs else []
        return [*python(part.runs), *given, *(["--dry"] if self.dry else [])]


def run_all(plan: Plan) -> int:
    """Every part that fits, each apart from the others; then the exit status: 1 if something failed."""
    plan.out.mkdir(parents=True, exist_ok=True)
    if plan.parts == plan.all:
        for part in plan.all:  # of an earlier run
            (plan.out / f"{part.name}.json").unlink(missing_ok=True)
    modules = Path(tempfile.mkdtemp(prefix="wheels-"))
    try:
        said = install(plan.wheels, modules) if plan.wheels else []
        for line in said:
            print(line, flush=True)
        _run_parts(plan, _environment(plan, modules), said)
    finally:
        shutil.rmtree(modules, ignore_errors=True)
        _tell(plan, charts=True)
        for rest in plan.out.glob(".*.part"):
            rest.unlink()
    print((plan.out / "summary.txt").read_text(), flush=True)
    return 1 if any(found["failed"] for found in _found(plan).values()) else 0


def _run_parts(plan: Plan, environment: dict[str, str], notes: list[str]) -> None:
    lacking = ""
    for number, part in enumerate(plan.parts):
        seconds = dry_share(plan.left) if plan.dry else share(plan.parts[number:], plan.left, plan.budget)
        print(f"{part.name}: {seconds:.0f} s of {max(plan.left, 0):.0f} s", flush=True)
        if find_spec(part.runs) is None:
            skip(plan.out, part.name, f"there is no module {part.runs}")
        elif lacking:
            skip(plan.out, part.name, lacking)
        elif not seconds:
            skip(plan.out, part.name, f"no time: {max(plan.left, 0):.0f} s of {plan.budget:.0f} s were left")
        else:
            command = plan.command(part, seconds * 0.94 - 0.5)  # the rest is to write what was found
            found = run_part(part.name, command, plan.out, seconds, environment)
            if notes:
                found["notes"] += notes
                write(plan.out / f"{part.name}.json", json.dumps(found, indent=1) + "\n")
                notes = []
            lacking = NO_DEVICE if any(NO_DEVICE in one["error"] for one in found["failed"]) else ""
            print(f"{part.name}: {found['status']} after {found['taken_s']:.0f} s", flush=True)
        _tell(plan)


def _environment(plan: Plan, modules: Path) -> dict[str, str]:
    """Of the parts: this checkout first, carried wheels last."""
    paths = [str(ROOT or ""), *os.environ.get("PYTHONPATH", "").split(os.pathsep), str(modules)]
    own = {"PYTHONPATH": os.pathsep.join(path for path in paths if path), "PYTHONFAULTHANDLER": "1"}
    if plan.dry:
        own |= {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own}


def _found(plan: Plan) -> dict[str, dict[str, Any]]:
    """What the parts' files have, also those of earlier runs that were not asked for again."""
    files = {part.name: plan.out / f"{part.name}.json" for part in plan.all}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}


def _tell(plan: Plan, charts: bool = False) -> None:
    """Rewrite the summary, and at the end the charts; neither may cost a result."""
    found = _found(plan)
    said = ""
    if charts:
        try:
            draw(found, plan.out / "charts.png")
        except Exception as error:
            said = f"charts.png could not be drawn: {short(error)}"
    try:
        text = summary(found, [part.name for part in plan.all], plan.budget - plan.left, plan.budget, plan.dry, said)
    except Exception as error:
        text = f"The summary could not be written: {short(error)}\n"
    write(plan.out / "summary.txt", text)


def main(given: Sequence[str] | None = None) -> int:
    """Parse the command line and run what it asks for."""
    parser = argparse.ArgumentParser(prog=f"python -m {PACKAGE}.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    budget = f"seconds for everything; planned for {FULL} and {SHORT} (default: {FULL})"
    parser.add_argument("--budget", type=float, default=FULL, help=budget)
    parser.add_argument("--only", default="", metavar="PART,PART", help=f"of {', '.join(part.name for part in PARTS)}")
    parser.add_argument("--jpegs", type=Path, metavar="FOLDER", help="photographs for training")
    parser.add_argument("--wheels", type=Path, metavar="FOLDER", help="wheels of Kornia and others, for the parts only")
    parser.add_argument("--dry", action="store_true", help="everything, tiny, on pretend CUDA")
    options = vars(parser.parse_args(given))
    only = [name for name in options.pop("only").split(",") if name]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        return run_all(Plan(**options, only=only))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Stopped; what was found so far is kept.", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
