"""`gpuaug verify`."""

# no `from __future__ import annotations`: typer reads the annotations

from pathlib import Path
from typing import Annotated

import typer

from gpuaug.cli.errors import one_line_errors, require
from gpuaug.cli.pack import NEEDED
from gpuaug.cli.progress import bar

__all__ = ["command"]


def command(
    path: Annotated[Path, typer.Argument(metavar="DST", help="Folder that gpuaug pack wrote.")],
) -> None:
    """Read a whole pack and name every damaged shard; exit with status 1 if there are any."""
    require("pack", NEEDED)
    with one_line_errors():
        from gpuaug.data.packs.read import verify

        with bar("bytes") as report:
            damaged = verify(path, report)
        for what in damaged.values():
            typer.echo(what)
        if damaged:
            shards = "that shard" if len(damaged) == 1 else f"these {len(damaged):,} shards"
            typer.echo(f"Delete {shards} and run gpuaug pack again.")
            raise typer.Exit(1)
        typer.echo(f"{path}: every byte is as it was written.")
