"""How captions are written: colours, and lines that fit under a tile."""

from __future__ import annotations

from collections.abc import Sequence

from gpuaug.engine.pipeline import Pipeline
from gpuaug.transforms.base import BETWEEN, Convert
from gpuaug.transforms.mix import Mix

__all__ = ["FAINT", "INK", "OTHER", "OWN", "code_of", "title_of", "wrapped"]

INK, FAINT = "#1f2328", "#656d76"
OWN, OTHER = "#3b6fb6", "#e69f00"  # the two parts of a mix's bar


def wrapped(words: Sequence[str], line: int) -> str:
    """Parts of a caption in lines of at most `line` characters, broken between two of them."""
    lines = [""]
    for word in words:
        longer = f"{lines[-1]}{BETWEEN}{word}" if lines[-1] else word
        if len(longer) <= line or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def title_of(pipeline: Pipeline) -> str:
    """The steps of a list in one line, without conversions."""
    steps = (step for step in pipeline.steps if not isinstance(step, Convert))
    return "  ·  ".join(f"{step!r}" if not isinstance(step, Mix) else type(step).__name__ for step in steps)


def code_of(pipeline: Pipeline) -> str:
    """The steps of a list as code, a line each."""
    return "[\n" + "".join(f"    {step!r},\n" for step in pipeline.steps) + "]"
