"""`gpuaug compare`."""

# no `from __future__ import annotations`: typer reads the annotations

from pathlib import Path
from typing import Annotated

import typer

from gpuaug.cli.arguments import fraction
from gpuaug.cli.errors import FAILED, profiler_errors

__all__ = ["command"]


def command(
    before: Annotated[Path, typer.Argument(help="JSON file of gpuaug profile.")],
    after: Annotated[Path, typer.Argument(help="JSON file of a later profile.")],
    tolerance: Annotated[str, typer.Option(help="Share by which the second may be slower.")] = "5%",
) -> None:
    """Show two reports side by side; exit with status 3 if the second is slower."""
    with profiler_errors():
        from gpuaug.profiler.report import load
        from gpuaug.profiler.show.terminal import compared

        slower, text = compared(load(before), load(after), fraction(tolerance))
        typer.echo(text)
    if slower:
        raise typer.Exit(FAILED)
