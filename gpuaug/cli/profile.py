"""`gpuaug profile`."""

# no `from __future__ import annotations`: typer reads the annotations

from pathlib import Path
from typing import Annotated

import typer

from gpuaug.cli.arguments import duration, holds, metric, threshold
from gpuaug.cli.errors import FAILED, profiler_errors
from gpuaug.cli.output import check_outputs, progress, show, usable, write
from gpuaug.cli.target import appliable, made, tuned

__all__ = ["command"]


def command(
    target: Annotated[
        str, typer.Argument(metavar="FILE.py:NAME", help="Function that returns a DataLoader, or the loader itself.")
    ],
    model: Annotated[
        str | None, typer.Option(help="FILE.py:NAME of a function that returns the training step.")
    ] = None,
    budget: Annotated[str, typer.Option(help="Approximate duration, such as 60s or 2m.")] = "60s",
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
) -> None:
    """Find where a training job loses time, predict what a change gains, and measure whether that is right."""
    with profiler_errors():
        from gpuaug.profiler.session import measure

        thresholds = [threshold(text) for text in fail_if or ()]
        seconds = duration(budget)
        check_outputs(json=json, html=html, trace=trace, png=png)
        usable(device)
        loader = made(target, "target")
        if apply:
            appliable(loader, target)
        step = made(model, "--model") if model else None
        if model and not callable(step):
            raise ValueError(f"profile: `--model` must give a step that takes a batch, got {type(step).__name__}.")
        with progress(quiet) as say:
            found = measure(
                loader, step, budget=seconds, cold=cold, proof=receipt, ignore=ignore or (), device=device, report=say
            )
        write(found, json=json, html=html, trace=trace, png=png)
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
