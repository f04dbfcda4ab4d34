"""Random lists with random targets: no crash, and the same masks and boxes from every backend.

python -m tests.support.target_fuzz 10000 [backend ...]
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

import gpuaug as ga
from tests.support.lists import random_crops, random_pixels
from tests.support.targets import boxes_of, masks_of, points_of

__all__ = ["case", "check", "disagreements"]

TYPES = (torch.uint8, torch.bool, torch.int16, torch.int32, torch.int64, torch.float32)
REFUSED = (
    "with AugMix",
    "with TimmAugMix",
    "at this step",
    "at least",
    "smaller than the image",
    "less than twice the image",
    "use a smaller sigma",
)  # by lists, in words


def case(seed: int) -> tuple[list[Any], dict[str, Any], Any, Any]:
    """A list, arguments of Augment, images and their targets."""
    random = np.random.default_rng(seed)
    several = bool(random.integers(3) == 0)
    count = int(random.integers(1, 6))
    sizes = [tuple(map(int, random.integers(8, 60, 2))) for _ in range(count if several else 1)]
    sizes = sizes if several else sizes * count
    images: Any = [torch.from_numpy(random.integers(0, 256, (3, *size), np.uint8)) for size in sizes]
    images = ga.Ragged.from_images(images) if several else torch.stack(images)
    crops, pixels = random_crops(seed), random_pixels(seed)
    end = next((n for n, step in enumerate(pixels) if step.kind != "pixel"), len(pixels))
    levels, end_ = pixels[:end], pixels[end:]
    steps = [*crops, *levels] if random.integers(2) else [*levels, *crops]
    if several:
        one = ga.Resize((int(random.integers(5, 40)), 21))
        steps = [one, *steps] if random.integers(2) else [*steps, one]
    steps += end_
    if random.integers(4) == 0:
        steps.append(ga.SanitizeBoundingBoxes(min_size=2, min_visibility=float(random.choice([0, 0.3]))))
    dtype = TYPES[random.integers(len(TYPES))]
    fill = int(random.choice([0, 1] if dtype is torch.bool else [0, 100]))
    arguments = {
        "exact": bool(random.integers(2)), "mask_fill": fill, "erase_masks": bool(random.integers(2)),
        "flip_pairs": [None, [(0, 1)]][random.integers(2)], "seed": seed,
    }  # fmt: skip
    number = int(random.integers(0, 5))
    masks, every, points = (
        masks_of(sizes, dtype, seed),
        boxes_of(sizes, number, seed=seed),
        points_of(sizes, number, seed),
    )
    if any(step.kind == "mix" for step in steps):
        mapping = {"masks": masks if several else torch.stack(masks), "labels": torch.arange(count) % 2}
        return steps, arguments, images, mapping
    rows = [
        {"boxes": boxes, "labels": torch.arange(number), "keypoints": point, "masks": torch.stack([mask] * number)}
        if number
        else {"boxes": boxes, "masks": mask}
        for boxes, point, mask in zip(every, points, masks, strict=True)
    ]
    return steps, arguments, images, rows


def check(seed: int, backends: tuple[str, ...] = ("torch", "numba")) -> str:
    """Empty if all is well, "refused" if the list is refused in words, else what is wrong."""
    steps, arguments, images, rows = case(seed)
    found = []
    for backend in backends:
        augment = ga.Augment(steps, backend=backend, **arguments)
        try:
            found.append(augment(images, rows, index=torch.arange(len(images))))
        except ValueError as error:
            if any(words in str(error) for words in REFUSED):
                return "refused"
            return f"{type(error).__name__}: {error}"
    size = found[0][0].shape[-2:]
    for result, targets in found:
        if not torch.equal(result, found[0][0]):
            return "images differ"
        if isinstance(targets, dict):
            pairs = zip(tree_leaves(targets), tree_leaves(found[0][1]), strict=True)
            if not all(torch.equal(one, other) for one, other in pairs):
                return "mixed targets differ"
            continue
        for row, first in zip(targets, found[0][1], strict=True):
            for key, value in row.items():
                if not torch.equal(torch.as_tensor(value), torch.as_tensor(first[key])):
                    return f"{key} differ"
            if row["masks"].shape[-2:] != size:
                return f"masks of {tuple(row['masks'].shape)} with images of {tuple(size)}"
            boxes = row["boxes"].as_subclass(torch.Tensor)
            if len(boxes) and not (boxes >= 0).all() & (boxes <= torch.tensor([*size[::-1]] * 2)).all():
                return f"boxes outside: {boxes.tolist()}"
    return ""


def disagreements(seeds: range, backends: tuple[str, ...] = ("torch", "numba")) -> Counter[str]:
    """How many lists end in what way."""
    found: Counter[str] = Counter()
    for seed in seeds:
        what = check(seed, backends)
        found[what] += 1
        if what not in ("", "refused"):
            print(f"{seed}: {what}", flush=True)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    number, *names = sys.argv[1:]
    print(dict(disagreements(range(int(number)), tuple(names) or ("torch", "numba"))))
