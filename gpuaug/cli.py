"""The command `gpuaug`."""

# no `from __future__ import annotations`: typer reads the annotations, and is only imported inside `app`

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if TYPE_CHECKING:
    import typer

__all__ = ["main"]

NEEDED = {"typer": "typer", "rich": "rich", "matplotlib": "matplotlib", "sklearn": "scikit-learn"}  # module: package


def main() -> None:
    """Run the command line, or say what to install for it."""
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        sys.exit(f'The gpuaug command needs {", ".join(missing)}. Run pip install "gpuaug[demo]".')
    app()()


def app() -> "typer.Typer":
    """The commands."""
    import typer

    import gpuaug

    commands = typer.Typer(
        no_args_is_help=True, add_completion=False, help=gpuaug.__doc__, pretty_exceptions_enable=False
    )

    def show_version(wanted: bool) -> None:
        if wanted:
            typer.echo(f"gpuaug {gpuaug.__version__}")
            raise typer.Exit

    @commands.callback()
    def root(
        version: Annotated[
            bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and leave.")
        ] = False,
    ) -> None:
        pass

    @commands.command()
    def demo(
        data: Annotated[
            Path | None, typer.Option(exists=True, file_okay=False, help="ImageFolder to use in place of what ships.")
        ] = None,
        out: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("preview.png"),
        backend: Annotated[str, typer.Option(help="auto, numba or torch.")] = "auto",
        quick: Annotated[bool, typer.Option("--quick", help="Seconds, not minutes; rough figures.")] = False,
    ) -> None:
        """Draw a picture, measure the speed, train with and without augmentation. No network, under three minutes."""
        from gpuaug.demo import run

        try:
            run(data, out, backend=backend, quick=quick)
        except (ValueError, RuntimeError) as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(1) from None

    return commands
