"""`gpuaug profile`."""

# no `from __future__ import annotations`: typer reads the annotations

from pathlib import Path
from typing import Annotated

import typer

from gpuaug.cli.arguments import duration, holds, metric, since_start, threshold
from gpuaug.cli.errors import FAILED, profiler_errors
from gpuaug.cli.output import check_outputs, progress, show, time_to_write, usable, write
from gpuaug.cli.running import other_way
from gpuaug.cli.target import appliable, made, set_arguments, tuned

__all__ = ["command"]

LEAST = 1.0  # seconds of measuring, whatever the budget


def command(
    target: Annotated[
        str, typer.Argument(metavar="FILE.py:NAME", help="Function that returns a loader, or the loader itself.")
    ] = "",
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="-- ARGUMENTS", help="Arguments for the script, as sys.argv.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="FILE.py:NAME of a function that returns the training step.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Wall time of the command, such as 60s (default) or 2m; of --attach 10s.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="JSON file for the report, for whatif and compare.")] = None,
    html: Annotated[Path | None, typer.Option(help="HTML file for the report. It needs no network.")] = None,
    trace: Annotated[
        Path | None, typer.Option(help="File for a timeline, .json or .json.gz, for ui.perfetto.dev.")
    ] = None,
    png: Annotated[Path | None, typer.Option(help="PNG file for a picture of the result.")] = None,
    cold: Annotated[bool, typer.Option("--cold", help="Also measure with files outside of the page cache.")] = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Write FILE_tuned.py, with the first recommendation applied.")
    ] = False,
    receipt: Annotated[
        bool, typer.Option("--receipt/--no-receipt", help="Try the first recommendation, and measure its gain.")
    ] = True,
    fail_if: Annotated[
        list[str] | None, typer.Option(help='Exit with status 3 if true, such as "exposed>20%". May be repeated.')
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="Id of a recommendation to omit. May be repeated.")] = None,
    device: Annotated[str | None, typer.Option(help="Device for augmentation in predictions: cpu or cuda.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the verdict.")] = False,
    attach: Annotated[
        int | None, typer.Option(metavar="PID", help="Look at a running job with py-spy: verdict and stages only.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="FILE.py", help="Run a script unchanged, and report when it ends.")
    ] = None,
) -> None:
    """Find where a training job loses time, predict what a change gains, and measure whether that is right."""
    outputs = {"json": json, "html": html, "trace": trace, "png": png}
    with profiler_errors():
        if attach is not None or run is not None:
            words = [target, *(arguments or [])] if target or arguments else []
            more = {"model": model, "device": device, "ignore": ignore, "fail-if": fail_if, "apply": apply}
            other_way(attach, run, words, budget, quiet, {**outputs, **more, "cold": cold, "no-receipt": not receipt})
            return
        from gpuaug.profiler.session import measure

        thresholds = [threshold(text) for text in fail_if or ()]
        seconds = duration(budget or "60s")
        check_outputs(**outputs)
        usable(device)
        set_arguments(target, arguments or [])
        loader = made(target, "target")
        if apply:
            appliable(loader, target)
        step = made(model, "--model") if model else None
        if model and not callable(step):
            raise ValueError(f"profile: `--model` must give a step that takes a batch, got {type(step).__name__}.")
        left = max(LEAST, seconds - since_start() - time_to_write(**outputs))
        with progress(quiet) as say:
            found = measure(
                loader, step, budget=left, cold=cold, proof=receipt, ignore=ignore or (), device=device, report=say
            )
        if left == LEAST and seconds > LEAST:
            found.skipped["most passes"] = f"imports and making the loader took the {seconds:g} s; raise --budget"
        write(found, **outputs)
        show(found, quiet)
        if apply:
            tuned(found, target)
        failed = [text for text, passes in ((t, holds(found, t)) for t in thresholds) if passes]
    for name, sign, value in failed:
        typer.echo(
            f"{name} is {metric(found, name):.4g}, which is {'above' if sign == '>' else 'below'} {value:g}.", err=True
        )
    if failed:
        raise typer.Exit(FAILED)
