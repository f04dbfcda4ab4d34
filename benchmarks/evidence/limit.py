"""How near crop + flip + normalise on the CPU comes to a program that only reads and writes the same bytes.

    python -m benchmarks.evidence.limit FOLDER --json benchmarks/results/limit.json

FOLDER is an ImageFolder of photographs. They are decoded first, and lie in memory as a batch of different sizes. The
bytes that must be read are those of the boxes that RandomResizedCrop draws, the bytes that must be written are the
result's. The limit is the time in which torch copies as many bytes, in the same process and on the same number of
threads. The kinds of work take turns. Beside it stand a pass that only reads and one that only writes, since a core may
write much more slowly than it reads.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gpuaug as ga
from gpuaug.data.decode import decode_file
from gpuaug.data.workers import cores

from ..cases import MEAN, SIZE, STD
from ..locations import PACKAGE, RESULTS
from ..machine import describe
from ..measure import Run, median, take_turns

__all__ = ["COMMAND", "STORED", "limit"]

STORED = RESULTS / "limit.json"
COMMAND = "python -m benchmarks.evidence.limit FOLDER"
BATCHES = (8, 64, 256)
DTYPES = {"float32": torch.float32, "float16": torch.float16}
COPIED = 256 * 3 * SIZE * SIZE  # numbers of the result of the largest batch in float32: more than the caches hold

Record = dict[str, Any]


def limit(
    images: Sequence[Tensor], threads: Sequence[int], rounds: int, batches: Sequence[int] = BATCHES
) -> list[Record]:
    """A row for each number of threads, batch and dtype.

    Args:
        images: Photographs, uint8 (3, H, W). They are repeated if a batch needs more.

    Returns:
        Rows with the bytes read and written, the seconds of the call and of copying as many bytes, each a median of
        `rounds` turns, and their ratio, `share`. Rows without a dtype say how many bytes a second are copied, read and
        written.
    """
    before = torch.get_num_threads()
    given, taken = torch.rand(COPIED), torch.empty(COPIED)
    moves: dict[str, Run] = {
        "copied": lambda: taken.copy_(given),
        "read": given.sum,
        "written": lambda: taken.fill_(1.0),
    }
    moved = {"copied": 2 * given.nbytes, "read": given.nbytes, "written": given.nbytes}
    rows: list[Record] = []
    try:
        for number in threads:
            torch.set_num_threads(number)
            for batch in batches:
                calls = dict(_calls(images, batch))
                runs = {**moves, **{name: call for name, (call, _) in calls.items()}}
                seconds = {name: median(times) for name, times in take_turns(runs, rounds).items()}
                speeds = {name: moved[name] / seconds[name] for name in moves}
                rows.append({"threads": number, "batch": batch, **speeds})
                for name, (_, size) in calls.items():
                    copying = size / speeds["copied"]
                    row = {"dtype": name, "bytes": size, "seconds": seconds[name], "limit": copying}
                    rows.append({"threads": number, "batch": batch, **row, "share": copying / seconds[name]})
    finally:
        torch.set_num_threads(before)
    return rows


def _calls(images: Sequence[Tensor], batch: int) -> Iterator[tuple[str, tuple[Callable[[], Any], int]]]:
    """For each dtype the call, and the bytes that it must read and write."""
    source = ga.Ragged.from_images([images[number % len(images)] for number in range(batch)])
    index = torch.arange(batch)
    for name, dtype in DTYPES.items():
        steps = [ga.RandomResizedCrop(SIZE), ga.RandomHorizontalFlip(), ga.ToDtype(dtype, scale=True)]
        augment = ga.Augment([*steps, ga.Normalize(MEAN, STD)], seed=0, backend="numba")
        draw = augment.sample(source, index=index)
        box = draw.params[0]["box"].astype(int)
        size = int(3 * (box[:, 2] * box[:, 3]).sum()) + batch * 3 * SIZE * SIZE * dtype.itemsize

        def call(augment: ga.Augment = augment) -> Any:
            return augment.render(source, augment.sample(source, index=index))

        yield name, (call, size)


def table(rows: Sequence[Record]) -> Iterator[str]:
    """The rows in words."""
    for row in rows:
        where = f"{row['threads']} thread{'s' * (row['threads'] > 1)}, batch {row['batch']}"
        if "dtype" in row:
            each = row["seconds"] / row["batch"] * 1e3
            yield f"{where}, {row['dtype']}: {each:.3f} ms an image, {row['share']:.0%} of the limit"
        else:
            speeds = (f"{name} {row[name] / 1e9:.1f}" for name in ("copied", "read", "written"))
            yield f"{where}: GB a second {', '.join(speeds)}"


def main() -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {PACKAGE}.evidence.limit", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="an ImageFolder of photographs")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each kind of work (default: 15)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help=f"the stored run is in benchmarks/results/{STORED.name}"
    )
    options = parser.parse_args()
    dataset = ga.data.ImageFolder(options.folder)
    images = [decode_file(path) for path, _ in dataset.samples[: max(BATCHES)]]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    rows = limit(images, sorted({1, cores()}), options.rounds)
    print(*table(rows), sep="\n")
    if options.json is not None:
        created = datetime.now(timezone.utc).isoformat(timespec="seconds")
        found = {"created": created, "command": COMMAND, "load": load, **describe(), "rows": rows}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
