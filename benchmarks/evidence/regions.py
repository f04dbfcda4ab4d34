"""Whether decoding only what a draw reads gives the same bits, over many images and epochs, and what it saves.

    python -m benchmarks.evidence.regions FOLDER --pairs 100000

FOLDER is an ImageFolder of JPEGs. Each image is decoded whole once; in each epoch the part that RandomResizedCrop draws
is decoded by itself, by nvImageCodec from the file and by torchvision from tiles, and compared with the whole. Every
16th epoch the augmented pixels are compared as well, through data set, collate and module.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import gpuaug as ga
from gpuaug.data.decode import decode, read
from gpuaug.data.packs.retile import retiled
from gpuaug.data.parts import decode_part, readable

from ..locations import PACKAGE, RESULTS

__all__ = ["compare"]

STORED = RESULTS / "regions.json"
SIZE, BATCH, OFTEN = 224, 64, 16
STEPS = [
    ga.RandomResizedCrop(SIZE), ga.RandomHorizontalFlip(), ga.ToDtype(torch.float32, scale=True),
    ga.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
]  # fmt: skip


def compare(folder: Path, pairs: int) -> dict[str, Any]:
    """Count (image, epoch) pairs whose part differs from the whole, for each way of decoding parts."""
    augment = ga.Augment(STEPS, seed=0)
    plain, dataset = ga.data.ImageFolder(folder), ga.data.ImageFolder(folder, regions=augment)
    files = [read(path) for path, _ in plain.samples]
    ways = {"nvImageCodec": files, "tiles": [retiled(file) for file in files]}
    headers = {way: [readable(file) for file in given] for way, given in ways.items()}
    rows = [row for row in range(len(files)) if all(found[row] is not None for found in headers.values())]
    whole = [decode(files[row]) for row in rows]
    sizes = [tuple(image.shape[1:]) for image in whole]
    different = dict.fromkeys([*ways, "augmented"], 0)
    seconds: dict[str, list[float]] = {way: [] for way in [*ways, "whole"]}
    count, checked, shares, epoch = 0, 0, [], 0
    while count < pairs:
        augment.set_epoch(epoch)
        mode = augment.begin_pass(train=True, shared=True)
        number = dataset.finder.follow(True, augment.pass_key(mode))
        boxes = dataset.finder.find(dataset.finder.cut(), rows, sizes)
        for way, given in ways.items():
            begin = time.thread_time()
            parts = [
                decode_part(given[row], headers[way][row], box) for row, box in zip(rows, boxes.tolist(), strict=True)
            ]
            seconds[way].append((time.thread_time() - begin) / len(rows))
            different[way] += sum(map(_differs, parts, whole, boxes.tolist()))
        begin = time.thread_time()
        for row in rows if epoch < OFTEN else ():
            decode(files[row])
        if epoch < OFTEN:
            seconds["whole"].append((time.thread_time() - begin) / len(rows))
        shares.append(float((boxes[:, 2] * boxes[:, 3] / np.prod(sizes, axis=1)).mean()))
        dataset.finder.leave(number)
        if epoch % OFTEN == 0:
            different["augmented"] += _augmented(plain, dataset, epoch)
            checked += len(plain)
        count, epoch = count + len(rows), epoch + 1
    medians = {way: statistics.median(values) * 1e3 for way, values in seconds.items()}
    return {
        "pairs": count,
        "images": len(rows),
        "different": different,
        "augmented": checked,
        "share": float(np.mean(shares)),
        "cpu_ms": medians,
        "bytes_of_tiles": sum(map(len, ways["tiles"])) / sum(map(len, files)),
        "nvimgcodec": version("nvidia-nvimgcodec-cu13"),
        "torchvision": version("torchvision"),
    }


def _differs(part: Tensor, whole: Tensor, box: Any) -> bool:
    top, left, height, width = box
    return not torch.equal(part, whole[:, top : top + height, left : left + width])


def _augmented(plain: Any, dataset: Any, epoch: int) -> int:
    """How many images of an epoch come out of the module differently."""
    results = []
    for one in (plain, dataset):
        module = ga.Augment(STEPS, seed=0)
        loader = ga.DeviceLoader(DataLoader(one, BATCH, collate_fn=ga.ragged_collate), "cpu", module, train=True)
        loader.set_epoch(epoch)
        results.append([images.clone() for images, _ in loader])
    return sum(int((a != b).flatten(1).any(1).sum()) for a, b in zip(*results, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(prog=f"python -m {PACKAGE}.evidence.regions", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="an ImageFolder of JPEGs")
    parser.add_argument("--pairs", type=int, default=100_000, help="(image, epoch) pairs (default: 100,000)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help=f"stored runs are in benchmarks/results/{STORED.name}"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = compare(options.folder, options.pairs)
    for name, value in found.items():
        print(f"{name}: {value}")
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
