"""What a command says when something is missing or wrong, and the status with which it exits."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator

__all__ = ["FAILED", "INTERRUPTED", "one_line_errors", "profiler_errors", "require", "writing"]

FAILED = 3  # exit status if a threshold is passed, or a job became slower
INTERRUPTED = 130  # exit status that a shell expects after Ctrl-C
OWN = re.compile(r"(profile|whatif|compare|doctor|replay): ")  # the beginning of the profiler's own messages


def require(extra: str, packages: dict[str, str]) -> None:
    """Exit if a package is missing, and name the extra that installs it.

    Args:
        extra: Name of the extra.
        packages: Name of the package for each module that is needed.
    """
    missing = [package for module, package in packages.items() if importlib.util.find_spec(module) is None]
    if missing:
        sys.exit(f'The gpuaug command needs {", ".join(missing)}. Run pip install "gpuaug[{extra}]".')


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Print errors that the user can act on as one line without a traceback; exit with status 1."""
    import typer

    try:
        yield
    except typer.Exit:  # a RuntimeError
        raise
    except (ValueError, RuntimeError, OSError) as error:
        typer.echo(" ".join(str(error).split()), err=True)
        raise typer.Exit(1) from None


@contextlib.contextmanager
def profiler_errors() -> Iterator[None]:
    """The same for the profiler's own errors; errors of the user's code are printed with their traceback."""
    import typer

    try:
        yield
    except typer.Exit:
        raise
    except Exception as error:
        own = OWN.match(str(error))
        if not own:  # raised by the data set, a transform, or the step
            traceback.print_exc()
        text = str(error) if own else f"profile: the loader or the step raised {type(error).__name__}, see above."
        typer.echo(" ".join(text.split()), err=True)
        raise typer.Exit(1) from None


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Raise errors of the file system in the profiler's own form."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"profile: {error.filename} cannot be written: {error.strerror}.") from None
