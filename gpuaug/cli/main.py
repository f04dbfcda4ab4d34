"""The command `gpuaug`: which commands there are, and what each of them needs."""

# no `from __future__ import annotations`: typer reads the annotations, and is only imported inside `app`

import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

from gpuaug.cli.errors import require

if TYPE_CHECKING:
    import typer

__all__ = ["app", "main"]

# Each command, in the order of --help, and the extra that installs what it needs. `command` of gpuaug.cli.NAME runs it.
COMMANDS = {
    "demo": "demo",
    "advise": "pack",
    "preview": "demo",
    "show": "config",
    "pack": "pack",
    "verify": "pack",
    "profile": "profile",
    "report": "profile",
    "whatif": "profile",
    "compare": "profile",
    "doctor": "profile",
    "warmup": "cpu",
    "tune": "tune",
    "bench": "bench",
}
BASE = {"typer": "typer", "rich": "rich"}  # module: package, of every command
REPORTS = {"pydantic": "pydantic"}  # reads the profiler's reports
TUNING = {"optuna": "optuna", "sklearn": "scikit-learn", "scipy": "scipy", "matplotlib": "matplotlib"}


def main() -> None:
    """Run the command line, or say what to install for it."""
    name = "".join(sys.argv[1:2])
    require(COMMANDS.get(name, "pack"), BASE)
    if name in ("report", "whatif", "compare"):
        require("profile", REPORTS)
    if "gpuaug.profiler.unchanged" in sys.modules:  # GPUAUG_PROFILE is for the jobs, not for the command
        import_module("gpuaug.profiler.unchanged").stop()
    if name == "tune":
        require("tune", TUNING)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    app()()


def app() -> "typer.Typer":
    """The application with all commands."""
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
            bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
        ] = False,
    ) -> None:
        pass

    for name in COMMANDS:
        commands.command(name)(import_module(f"gpuaug.cli.{name}").command)
    return commands
