"""`gpuaug profile --attach PID` and `gpuaug profile --run FILE.py`: jobs that run as they are."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import typer

from gpuaug.cli.arguments import duration
from gpuaug.cli.output import check_outputs

__all__ = ["other_way"]

SECONDS = "10s"  # duration of --attach


def other_way(
    attach: int | None,
    run: Path | None,
    words: Sequence[str],
    budget: str | None,
    quiet: bool,
    options: Mapping[str, object],
) -> None:
    """Look at a running job, or run a script and report on it. The second does not return.

    Args:
        attach: Id of a running process, or None.
        run: Script to run, or None.
        words: Arguments of the script.
        budget: Value of --budget.
        quiet: Whether to print the verdict alone.
        options: {name: value} of options that other ways of profiling have.
    """
    if attach is not None and run is not None:
        raise ValueError("profile: `--attach` and `--run` must not be given together. Remove one.")
    if attach is not None:
        given = [f"--{name}" for name, value in options.items() if value]
        if given or words:
            what = given[0] if given else words[0]
            raise ValueError(f"profile: `--attach` only takes --budget and --quiet, got {what}. Remove it.")
        from gpuaug.profiler.attach import attach as look

        found = look(attach, duration(budget or SECONDS))
        typer.echo(found.verdict if quiet else str(found))
        return
    assert run is not None
    given = [f"--{name}" for name, value in options.items() if value and name != "json"]
    given += ["--budget"] if budget is not None else ["--quiet"] if quiet else []
    if given:
        raise ValueError(f"profile: `--run` only takes --json and, behind --, the script's arguments, got {given[0]}.")
    if not run.is_file():
        raise ValueError(f"profile: `--run` must name a file, and there is no file {run}.")
    file = options["json"]
    json = []
    if file is not None:
        check_outputs(json=Path(str(file)))  # better now than after the job
        json = ["--json", str(Path(str(file)).resolve())]
    sys.stdout.flush()
    command = [sys.executable, "-m", "gpuaug.profiler.run", *json, str(run), *words]
    os.execv(sys.executable, command)
