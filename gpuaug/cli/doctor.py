"""`gpuaug doctor`."""

from __future__ import annotations

import typer

from gpuaug.cli.errors import profiler_errors

__all__ = ["command"]


def command() -> None:
    """Show versions, cores, memory, the decode rate of a core, copy speeds, and the backends that work here."""
    with profiler_errors():
        from gpuaug.profiler.doctor import examine
        from gpuaug.profiler.show.terminal import examined

        typer.echo(examined(examine()))
