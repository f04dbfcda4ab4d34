"""`gpuaug show`: what a configuration says, with all that it leaves to defaults."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpuaug.cli.errors import one_line_errors

if TYPE_CHECKING:
    from gpuaug import Augment
    from gpuaug.transforms.base import Transform

__all__ = ["command", "lines"]

WIDTH = 80  # columns


def command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Configuration, .json, .yaml or .yml.", show_default=False)
    ],
) -> None:
    """Show the lists of a configuration, with defaults."""
    with one_line_errors():
        try:
            from gpuaug import from_file

            augment = from_file(file)
        except ImportError as error:
            raise ValueError(str(error)) from None
        typer.echo("\n".join(lines(augment)))


def lines(augment: Augment) -> Iterator[str]:
    """The lists, then the other arguments, at most 80 columns wide where words allow it."""
    derived = ", derived from train" if augment.derives_eval else ""
    for title, pipeline in (("train", augment.train_pipeline), (f"eval{derived}", augment.eval_pipeline)):
        yield title
        for number, step in enumerate(pipeline.steps):
            yield from _step(step, f"{number:4d}  ")
        if not pipeline.steps:
            yield "      nothing"
        yield ""
    given = augment._numbering.given
    seed = str(augment.seed) if given else "drawn when the module is made"
    settings = {"seed": seed, "backend": augment.backend, "memory_format": str(augment.memory_format)}
    settings |= {
        name: repr(getattr(augment, name)) for name in ("exact", "mask_fill", "erase_masks", "flip_pairs", "same")
    }
    yield "settings"
    yield from _wrapped([f"{name} = {value}" for name, value in settings.items()], "      ", "")


def _step(step: Transform, lead: str) -> Iterator[str]:
    """A step's name and arguments; then its defaults; then its children."""
    indent = " " * len(lead)
    given: list[str] = []
    defaults: list[str] = []
    for name, argument in inspect.signature(type(step)).parameters.items():
        value: Any = getattr(step, name)
        if name != "transforms":
            (defaults if value == argument.default else given).append(f"{name} = {value!r}")
    yield from _wrapped(given, f"{lead}{type(step).__name__}{'  ' if given else ''}", f"{indent}  ")
    if defaults:
        yield from _wrapped(defaults, f"{indent}  defaults: ", f"{indent}    ")
    for child in step.children:
        yield from _step(child, f"{indent}- ")


def _wrapped(words: list[str], first: str, rest: str) -> Iterator[str]:
    """Words with commas between them, broken at commas."""
    rest = rest or " " * len(first)
    line = first
    for number, word in enumerate(words):
        piece = word + ("," if number < len(words) - 1 else "")
        if len(line) + len(piece) > WIDTH and line.strip() and line != rest:
            yield line.rstrip()
            line = rest
        if len(line) + len(piece) > WIDTH:  # one value that is longer than a line
            *whole, line = textwrap.wrap(piece, WIDTH, initial_indent=line, subsequent_indent=rest)
            yield from whole
            line += " "
        else:
            line += piece + " "
    yield line.rstrip()
