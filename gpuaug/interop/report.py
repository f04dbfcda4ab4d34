"""What a converter made of each step of another library: a list of gpuaug's transforms, with a report."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from gpuaug.transforms.base import Transform

__all__ = ["ALIKE", "EXACT", "UNSUPPORTED", "WITHIN", "Conversion", "Line", "Report", "shortened"]

EXACT = "exact"  # the same draw gives the same pixels
WITHIN = "within one level"  # the same draw gives pixels that are at most one level of 255 off
ALIKE = "statistically equal"  # the same distribution of draws; pixels of one draw differ more, `why` says how
UNSUPPORTED = "unsupported"  # stays in the worker
WIDTH = 80  # columns of the table
COLUMNS = (28, 29, 19)  # with two spaces between them


@dataclass(frozen=True)
class Line:
    """One step: what it was, what it became (empty: nothing has to be done), how equal its pixels are, and why."""

    theirs: str
    ours: str
    fidelity: str
    why: str = ""


class Report(Sequence[Line]):
    """What became of each step, in order. `print` shows a table of 80 columns.

    Args:
        lines: The lines, in the order of the steps.

    Each line has `theirs`, `ours`, `fidelity` and `why`. The fidelity is "exact" (the same draw gives the same pixels),
    "within one level" (of 255), "statistically equal" (the same distribution of draws, but the pixels of one draw
    differ, as `why` says), or "unsupported" (the step stays in the worker).
    """

    def __init__(self, lines: Iterable[Line] = ()) -> None:
        self._lines = tuple(lines)

    def __getitem__(self, number):  # type: ignore[no-untyped-def]  # an int or a slice
        return self._lines[number]

    def __len__(self) -> int:
        return len(self._lines)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Report) and self._lines == other._lines

    def __hash__(self) -> int:
        return hash(self._lines)

    @property
    def fidelity(self) -> str:
        """The weakest of its lines; "exact" without lines."""
        order = (EXACT, WITHIN, ALIKE, UNSUPPORTED)
        return max((line.fidelity for line in self._lines), key=order.index, default=EXACT)

    def __str__(self) -> str:
        rows = [row for line in self._lines for row in _rows(line)]
        header = ("step", "becomes", "pixels")
        return "\n".join([_row(header), _row(tuple("-" * width for width in COLUMNS)), *rows])

    def __repr__(self) -> str:
        return f"<Report of {len(self)} steps: {self.fidelity}>"


def _row(cells: Sequence[str]) -> str:
    return "  ".join(f"{cell:{width}}" for cell, width in zip(cells, COLUMNS, strict=True)).rstrip()


def _rows(line: Line) -> Iterator[str]:
    """The lines of text of a row: cells are wrapped, and the reason stands below them."""
    texts = (line.theirs, line.ours or "nothing to do", line.fidelity)
    cells = [textwrap.wrap(text, width) or [""] for text, width in zip(texts, COLUMNS, strict=True)]
    for number in range(max(map(len, cells))):
        yield _row([cell[number] if number < len(cell) else "" for cell in cells])
    if line.why:
        yield from textwrap.wrap(line.why, WIDTH - 4, initial_indent="    ", subsequent_indent="    ")


def shortened(value: object, most: int = 100) -> str:
    """The repr of a step, shortened."""
    text = " ".join(repr(value).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


class Conversion(list[Transform]):
    """The list that a converter returns: `Augment(train=conversion)`, with what became of each step.

    Args:
        steps: gpuaug's transforms.
        report: One line for each step of the other library, printed as a table.
        worker: The steps of the other library that stay in the worker, in order, with `split=True`; they run on each
            image before the batch is made. Empty otherwise.
    """

    def __init__(self, steps: Iterable[Transform], report: Report | None = None, worker: Sequence[object] = ()) -> None:
        super().__init__(steps)
        self.report = Report() if report is None else report
        self.worker = list(worker)
