"""Tables of the transforms for README and docs, made of the registry and the rows.

python -m tests.support.ops.table [--reference]
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any

from .row import ROWS

__all__ = ["by_group", "reference"]

Op = type[Any]


def by_group() -> str:
    """A Markdown table with a line for each group of ops."""
    groups: dict[str, list[str]] = {}
    for op, row in ROWS.items():
        groups.setdefault(row.group, []).append(f"`{op.__name__}`")
    return table(["what", "transforms"], ([group, " ".join(names)] for group, names in groups.items()))


def reference() -> str:
    """A Markdown table with a line for each op: what it does, what is left in evaluation, torchvision's counterpart."""
    rows = ([f"`{op.__name__}`", summary(op), evaluation(row.example), theirs(op)] for op, row in ROWS.items())
    return table(["transform", "what it does", "in evaluation", "in torchvision v2"], rows)


def table(header: list[str], rows: Iterator[list[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in [header, *rows]]
    return "\n".join([lines[0], f"|{'---|' * len(header)}", *lines[1:]])


def summary(op: Op) -> str:
    """The first sentence of the docstring."""
    first = " ".join((inspect.getdoc(op) or "").split("\n\n")[0].split())
    return first.partition(". ")[0].rstrip(".")


def evaluation(example: Any) -> str:
    counterpart = example.for_evaluation()
    if counterpart is None:
        return "as `eval` says"
    if list(counterpart) == [example]:
        return "stays"
    return ", ".join(f"`{type(step).__name__}`" for step in counterpart) or "left out"


def theirs(op: Op) -> str:
    return "none" if op.torchvision is None else "same name" if op.torchvision == op.__name__ else f"`{op.torchvision}`"


if __name__ == "__main__":
    print(reference() if "--reference" in sys.argv[1:] else by_group())
