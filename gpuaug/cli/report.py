"""`gpuaug report`."""

# no `from __future__ import annotations`: typer reads the annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpuaug.cli.errors import profiler_errors
from gpuaug.cli.output import check_outputs, show, write

if TYPE_CHECKING:
    from gpuaug.profiler.report import Report

__all__ = ["command"]


def command(
    report: Annotated[Path, typer.Argument(help="JSON file of gpuaug profile.")],
    html: Annotated[Path | None, typer.Option(help="HTML file for the report. It needs no network.")] = None,
    trace: Annotated[
        Path | None, typer.Option(help="File for a timeline, .json or .json.gz, for ui.perfetto.dev.")
    ] = None,
    png: Annotated[Path | None, typer.Option(help="PNG file for a picture of the result.")] = None,
    how: Annotated[str | None, typer.Option(help="Id of a recommendation: print its lines of code alone.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the verdict.")] = False,
) -> None:
    """Show a saved profile again, in the terminal and as files; the job does not run."""
    with profiler_errors():
        from gpuaug.profiler.report import load

        check_outputs(html=html, trace=trace, png=png)
        found = load(report)
        write(found, html=html, trace=trace, png=png)
        if how is None:
            show(found, quiet)
        else:
            typer.echo(lines_of(found, how))


def lines_of(found: "Report", name: str) -> str:
    """The lines of a recommendation."""
    listed = {one.id: one.how for one in found.advice if one.how}
    if name not in listed:
        given = ", ".join(listed) or "none, since the report recommends nothing"
        raise ValueError(f"profile: `--how` must be one of {given}, got {name!r}.")
    return listed[name]
