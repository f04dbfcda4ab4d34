"""What a pack costs and gains: time and bytes of packing, images per second of a loader over it, the checksums.

    python -m benchmarks.evidence.packed --data FOLDER

FOLDER is an ImageFolder. Links to its files make `--images` of them, in a temporary folder that the packs go to, too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

import gpuaug as ga
from gpuaug.data.packs.read import verify
from gpuaug.data.workers import SPAWN

BATCH = 64


def repeated(data: Path, folder: Path, images: int) -> Path:
    """An ImageFolder of links."""
    files = sorted(path for path in data.rglob("*") if path.is_file() and path.parent != data)
    for number in range(images):
        path = files[number % len(files)]
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        os.symlink(path.resolve(), folder / path.parent.name / f"{number // len(files):03d}_{path.name}")
    return folder


def loader(dataset: Any, workers: int) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        BATCH,
        shuffle=True,
        num_workers=workers,
        collate_fn=ga.ragged_collate,
        persistent_workers=True,
        **SPAWN,
    )


def speed(batches: DataLoader[Any]) -> float:
    """Images per second, from asking for the first batch to having the last."""
    begin, count = time.perf_counter(), 0
    for images, *_ in batches:
        count += len(images)
    return count / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=2240)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = repeated(chosen.data, folder / "source", chosen.images)
        for encoding in ("raw", "jpeg"):
            made = ga.data.pack(source, folder / encoding, encoding=encoding, workers=chosen.workers)
            print(f"pack {encoding}: {made.images} images, {made.bytes / 1e6:.0f} MB, {made.seconds:.1f} s")
            begin = time.perf_counter()
            assert not verify(folder / encoding)
            print(f"verify {encoding}: {made.bytes / 1e9 / (time.perf_counter() - begin):.1f} GB/s")
        ways = {
            "files": ga.data.ImageFolder(source),
            "jpeg": ga.data.Packed(folder / "jpeg"),
            "raw": ga.data.Packed(folder / "raw"),
            "raw, verify=False": ga.data.Packed(folder / "raw", verify=False),
        }
        loaders = {name: loader(dataset, chosen.workers) for name, dataset in ways.items()}
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(chosen.rounds + 1):
            for name, batches in loaders.items():
                found = speed(batches)
                if turn:  # the first starts the workers
                    speeds[name].append(found)
        for name, values in speeds.items():
            print(f"{name}: {statistics.median(values):.0f} images/s ({min(values):.0f} to {max(values):.0f})")


if __name__ == "__main__":
    main()
