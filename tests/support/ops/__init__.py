"""One row for every op: the tests, the tables and the benchmarks follow from it and from the op's class."""

from __future__ import annotations

from . import color, containers, convert, crops, degrade, mix, policies, policies_timm, warps
from .convert import NORMALIZE
from .row import FLOATS, NO_DRAWS, ROWS, Drawn, Pixels, Row, Timed, added, answer, wrong

__all__ = ["FLOATS", "NORMALIZE", "NO_DRAWS", "ROWS", "Drawn", "Pixels", "Row", "Timed", "added", "answer", "wrong"]

for _group in (crops, warps, color, degrade, convert, policies, policies_timm, mix, containers):
    ROWS.update(_group.ROWS)
