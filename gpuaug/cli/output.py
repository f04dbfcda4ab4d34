"""What `gpuaug profile` writes and prints, and the checks of it before anything is measured."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gpuaug.cli.errors import writing

if TYPE_CHECKING:
    from gpuaug.profiler import Report

__all__ = ["check_outputs", "progress", "show", "time_to_write", "usable", "write"]


SUFFIXES = {"png": (".png",), "trace": (".json", ".gz")}
NEEDED = {"html": "jinja2", "png": "matplotlib"}  # packages that write a form of the report
SECONDS = {"html": 0.5, "png": 2.0, "trace": 0.3}  # to write a form of the report, imports included
AT_THE_END = 0.4  # seconds to print the report and to end


def check_outputs(**outputs: Path | None) -> None:
    """Raise if a form of the report cannot be written, before anything is measured.

    Args:
        outputs: Path of each form: json, html, trace, png.
    """
    for name, path in outputs.items():
        if path is None:
            continue
        if path.is_dir() or not path.resolve().parent.is_dir():
            raise ValueError(f"profile: a file must lie in a folder that exists, got {path}.")
        if name in NEEDED and importlib.util.find_spec(NEEDED[name]) is None:
            raise ValueError(f'profile: --{name} needs {NEEDED[name]}. Run pip install "gpuaug[profile]".')
        if name in SUFFIXES and path.suffix not in SUFFIXES[name]:
            raise ValueError(f"profile: `--{name}` must name a {' or '.join(SUFFIXES[name])} file, got {path}.")


def time_to_write(**outputs: Path | None) -> float:
    """Seconds to print the report, and to write it to these files, about.

    Args:
        outputs: Path of each form: json, html, trace, png.
    """
    return AT_THE_END + sum(SECONDS.get(name, 0.0) for name, path in outputs.items() if path is not None)


def usable(device: str | None) -> None:
    """Raise if there is no such device here."""
    import torch

    try:
        if device is not None:
            torch.empty(1, device=device)
    except Exception as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"profile: `--device` must be a device that works here, got {device!r}: {first}") from None


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[Callable[[str], None]]:
    """A function that prints the name of the current measurement to stderr."""
    from rich.console import Console

    console = Console(stderr=True)  # lines, no spinner: the spinner's thread would be measured too
    yield lambda what: None if quiet else console.print(f"{what} ...", style="dim", highlight=False)


@writing()
def write(
    report: Report,
    *,
    json: Path | None = None,
    html: Path | None = None,
    trace: Path | None = None,
    png: Path | None = None,
) -> None:
    """Write the report in every form for which there is a file, and say so."""
    if json is not None:
        report.save(json)
    if html is not None:
        from gpuaug.profiler.show.html import to_html

        html.write_text(to_html(report), encoding="utf-8")
    if trace is not None:
        from gpuaug.profiler.show.timeline import save

        save(report, trace)
    if png is not None:
        from gpuaug.profiler.show.png import save_png

        save_png(report, png)
    for path in filter(None, (json, html, trace, png)):
        typer.echo(f"Wrote {path}.", err=True)


def show(report: Report, quiet: bool) -> None:
    """Print the report; when quiet, its verdict alone."""
    from rich.console import Console

    from gpuaug.profiler.show.terminal import to_rich
    from gpuaug.profiler.show.words import doubts

    if quiet:
        typer.echo(report.verdict.text + (f" UNRELIABLE: {doubt}." if (doubt := doubts(report)) else ""))
    else:
        console = Console()
        console.print(to_rich(report, console.width))
