"""From looks at the workers' stacks to the functions of each row, with their part of its time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpuaug.profiler.model.rows import READERS, Row

__all__ = ["Function", "Key", "Times", "functions_of"]

Key = tuple[str, str, str, int, str]  # (stage, name, file, line, line of the caller)
Times = tuple[int, int, int]  # (looks, nanoseconds on a core, nanoseconds waiting)

ENOUGH = 20  # looks at a row, for shares
LEAST = 0.03  # part of a row's time, from which on a function is listed
MOST = 10  # functions of a row


@dataclass(frozen=True)
class Function:
    """A function in which workers spend the time of a row.

    Attributes:
        row: Name of the row.
        name: Name of the function, with that of its class where Python tells it.
        file, line: Place of the function; in the user's own code, the line that ran.
        caller: file:line in the user's code that called it; empty if the function is the user's own, or if no line of
            the user's is known.
        seconds: Time of a batch in the function itself, without the functions that it calls in turn.
        share: Part of the row's time.
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
        rows: Rows of a trace: waits in reading, decoding and the data set's own code belong to `storage`.
    """
    times: dict[str, dict[tuple[str, str, int, str], float]] = {}
    looks: dict[str, int] = {}
    for (stage, name, file, line, caller), (count, computing, waiting) in found.items():
        spent = {stage: computing, "storage": waiting} if stage in READERS else {stage: computing + waiting}
        if stage == "read":
            spent = {"storage": computing + waiting}
        for place, seconds in spent.items():
            own = times.setdefault(place, {})
            own[name, file, line, caller] = own.get((name, file, line, caller), 0.0) + seconds
            looks[place] = looks.get(place, 0) + count
    listed = []
    for row in rows:
        seen = times.get(row.name, {}) if row.place == "worker" else {}
        total = sum(seen.values())
        if looks.get(row.name, 0) < ENOUGH or not total:
            continue
        ranked = sorted(seen.items(), key=lambda item: -item[1])[:MOST]
        listed += [
            Function(row.name, *key, row.seconds * part / total, part / total)
            for key, part in ranked
            if part >= LEAST * total
        ]
    return listed
