"""From looks at the workers' stacks to the functions of each row, with their part of its time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpuaug.profiler.model.rows import Row

__all__ = ["Function", "Key", "Times", "functions_of"]

Key = tuple[str, str, str, int, str]  # (stage, name, file, line, line of the caller)
Times = tuple[int, int]  # (looks, nanoseconds on a core)

ENOUGH = 20  # looks at a row, for parts of it
LEAST = 0.03  # part of a row's time, from which on a function is listed
MOST = 10  # functions of a row


@dataclass(frozen=True)
class Function:
    """A function in which workers spend the time of a row on a core.

    Attributes:
        row: Name of the row.
        name: Name of the function, with that of its class where Python tells it.
        file, line: Place of the function; in the user's own code, the line that ran.
        caller: file:line in the user's code that called it; empty if the function is the user's own, or if no line of
            the user's is known.
        seconds: Time of a batch on a core in the function itself, without the functions that it calls in turn.
        share: Part of the row's time on a core.
    """

    row: str
    name: str
    file: str
    line: int
    caller: str
    seconds: float
    share: float


def functions_of(found: Mapping[Key, Times], rows: Sequence[Row]) -> list[Function]:
    """The functions of each row, the slowest first; of rows that were seen too rarely, none.

    Args:
        found: What was seen, by stage.
        rows: Rows of a trace.
    """
    listed = []
    for row in rows:
        stage = {"storage": "read"}.get(row.name, row.name)
        seen = {key[1:]: times for key, times in found.items() if key[0] == stage and row.place == "worker"}
        total = sum(spent for _, spent in seen.values())
        if sum(looks for looks, _ in seen.values()) < ENOUGH or not total:
            continue
        seconds = float(row.computing.mean())
        for (name, file, line, caller), (_, spent) in sorted(seen.items(), key=lambda item: -item[1][1])[:MOST]:
            part = spent / total
            if part >= LEAST:
                listed.append(Function(row.name, name, file, line, caller, seconds * part, part))
    return listed
