"""`gpuaug compare`."""

# no `from __future__ import annotations`: typer reads the annotations

from pathlib import Path
from typing import Annotated

import typer

from gpuaug.cli.arguments import fraction
from gpuaug.cli.errors import FAILED, profiler_errors, writing
from gpuaug.cli.output import check_outputs

__all__ = ["command"]


def command(
    before: Annotated[Path, typer.Argument(help="JSON file of gpuaug profile.")],
    after: Annotated[Path, typer.Argument(help="JSON file of a later profile.")],
    tolerance: Annotated[str, typer.Option(help="Share by which the second may be slower.")] = "5%",
    html: Annotated[Path | None, typer.Option(help="HTML file for the comparison. It needs no network.")] = None,
) -> None:
    """Show two reports side by side; exit with status 3 if the second is slower."""
    with profiler_errors():
        from gpuaug.profiler.report import load
        from gpuaug.profiler.show.terminal import compared

        share = fraction(tolerance)
        check_outputs(html=html)
        reports = load(before), load(after)
        if html is not None:
            from gpuaug.profiler.show.comparison import to_html

            with writing():
                html.write_text(to_html(*reports, share), encoding="utf-8")
            typer.echo(f"Wrote {html}.", err=True)
        slower, text = compared(*reports, share)
        typer.echo(text)
    if slower:
        raise typer.Exit(FAILED)
