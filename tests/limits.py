"""What a version of Triton needs beyond the limits in test_compiled.py, kernel by kernel, and why.

torch pins Triton, so an older version is what users of that torch have. A row says what was measured; the test fails if
a kernel needs more, and a row that nothing needs any more can go.
"""

from __future__ import annotations

from typing import NamedTuple

import triton

__all__ = ["LIMITS", "Limit", "allowed", "version"]


class Limit(NamedTuple):
    """One exception.

    Attributes:
        first, last: versions of Triton, (major, minor), both inclusive.
        what: "registers" of a thread, or bytes of "stack" (of a thread) or "shared" memory (of a block).
        kernel: its name.
        capabilities: of the GPUs, as 80 of sm_80; empty for all.
        most: the limit there.
        why: where it comes from.
    """

    first: tuple[int, int]
    last: tuple[int, int]
    what: str
    kernel: str
    capabilities: tuple[int, ...]
    most: int
    why: str


OLD = ((3, 6), (3, 6))
LIMITS = (
    Limit(*OLD, "registers", "taps_kernel", (75,), 66, "as ptxas allots them; two above the limit, on one GPU"),
    Limit(*OLD, "shared", "crop_kernel", (), 512, "3 changes of layout go through shared memory; from 3.8 on none"),
    Limit(*OLD, "shared", "step_kernel", (), 4096, "15 changes of layout go through shared memory; from 3.8 on none"),
    Limit(
        *OLD,
        "stack",
        "step_kernel",
        (80,),
        8,
        "AugMix: two words, none of them spilled (local memory is 0)",
    ),
)


def version() -> tuple[int, int]:
    """Of the installed Triton: (major, minor)."""
    major, minor = triton.__version__.split(".")[:2]
    return int(major), int(minor)


def allowed(what: str, kernel: str, capability: int, installed: tuple[int, int] | None = None) -> int:
    """The largest limit that a row gives; 0 if there is none."""
    installed = version() if installed is None else installed
    rows = [
        row.most
        for row in LIMITS
        if row.first <= installed <= row.last
        and (row.what, row.kernel) == (what, kernel)
        and (not row.capabilities or capability in row.capabilities)
    ]
    return max(rows, default=0)
