"""`gpuaug demo`."""

# no `from __future__ import annotations`: typer reads the annotations

from pathlib import Path
from typing import Annotated

import typer

from gpuaug.cli.errors import one_line_errors, require

__all__ = ["command"]

NEEDED = {"matplotlib": "matplotlib", "sklearn": "scikit-learn"}  # module: package


def command(
    data: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="ImageFolder to use instead of the packaged photographs."),
    ] = None,
    out: Annotated[Path, typer.Option(help="File for the picture.")] = Path("preview.png"),
    backend: Annotated[str, typer.Option(help="auto, numba or torch.")] = "auto",
    quick: Annotated[bool, typer.Option("--quick", help="Takes seconds instead of minutes; rough figures.")] = False,
) -> None:
    """Draw a picture, measure the speed, train with and without augmentation. No network, under three minutes."""
    require("demo", NEEDED)
    from gpuaug.demo.run import run

    with one_line_errors():
        run(data, out, backend=backend, quick=quick)
