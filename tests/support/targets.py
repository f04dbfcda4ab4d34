"""Masks, boxes and key points for tests, and where torchvision moves them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torchvision import tv_tensors

import gpuaug as ga
from tests.support.answers import policy_op
from tests.support.lists import cases
from tests.support.ops import ROWS
from tests.support.oracle import take

__all__ = [
    "CLOSE",
    "COUNT",
    "SIZE",
    "SIZES",
    "WARPS",
    "boxes_of",
    "follows",
    "masks_of",
    "moved",
    "moving_lists",
    "points_of",
    "replayed",
]

COUNT, SIZE = 6, (37, 45)  # of a batch, (height, width) of its images
SIZES = [(33, 47), (48, 36), (36, 36), (64, 90), (37, 40), (50, 53)]
CLOSE: dict[str, Any] = {"atol": 1e-3, "rtol": 0}  # pixels
WARPS = range(1, 6)  # numbers of the geometric ops of a policy
POLICIES = (ga.AutoAugment, ga.RandAugment, ga.TrivialAugmentWide)


def moving_lists() -> list[Any]:
    """Parameters of a test: the lists of all ops whose last step moves pixels by a matrix."""
    return [case for case in cases() if follows(case.values[0][-1])]


def follows(op: Any) -> bool:
    """Whether torchvision can say where this op moves targets."""
    children = getattr(op, "children", ())
    known = op.kind in ("pixel", "crop") and op.moves and not isinstance(op, ga.AugMix)
    return known and all(follows(child) or not child.moves for child in children)


def moved(op: Any, value: Any, sample: dict[str, Any], fill: float) -> Any:
    """A torchvision target where torchvision's functionals move it, with the parameters that were drawn."""
    if not sample.get("applied", True):
        return value
    if isinstance(op, POLICIES):
        for number, magnitude in zip(sample["ops"], sample["magnitude"], strict=True):
            if number in WARPS:
                value = policy_op(op.replace(fill=fill), value, number, magnitude)
        return value
    if isinstance(op, ga.RandomChoice):
        chosen = int(sample["chosen"])
        return value if chosen == len(op.transforms) else moved(op.transforms[chosen], value, sample[str(chosen)], fill)
    if isinstance(op, (ga.RandomApply, ga.RandomOrder)):
        for number in sample.get("order", range(len(op.transforms))):
            value = moved(op.transforms[number], value, sample[str(number)], fill)
        return value
    if not op.moves:
        return value
    if hasattr(op, "interpolation") and op.interpolation == "bicubic":
        op = op.replace(interpolation="bilinear")  # targets take neither
    return ROWS[type(op)].answer(op.replace(fill=fill) if hasattr(op, "fill") else op, value, sample)


def replayed(augment: ga.Augment, draw: ga.Draw, values: list[Any], fill: float = 0) -> list[Any]:
    """Torchvision targets, one for each image, through the steps of a list."""
    pipeline = augment.train_pipeline if draw.training else augment.eval_pipeline
    results = []
    for number, value in enumerate(values):
        result = value
        for op, params in zip(pipeline.steps, draw.params, strict=True):
            result = moved(op, result, take(params, number), fill)
        results.append(result)
    return results


def masks_of(sizes: list[tuple[int, int]], dtype: torch.dtype = torch.uint8, seed: int = 0) -> list[Tensor]:
    """One mask (H, W) for each image: areas of several classes, with numbers that torchvision's float32 holds."""
    generator = torch.Generator().manual_seed(seed)
    most = 2 if dtype is torch.bool else 120
    found = []
    for height, width in sizes:
        coarse = torch.randint(0, most, (-(-height // 3), -(-width // 3)), generator=generator)
        fine = coarse.repeat_interleave(3, 0).repeat_interleave(3, 1)[:height, :width]
        found.append((fine * (1001 if dtype.itemsize > 1 else 1)).to(dtype).contiguous())
    return found


def boxes_of(sizes: list[tuple[int, int]], count: int = 5, format_: str = "XYXY", seed: int = 0) -> list[Any]:
    """torchvision's BoundingBoxes (count, 4) for each image."""
    random = np.random.default_rng(seed)
    found = []
    for height, width in sizes:
        x, y = (np.sort(random.uniform(0, side, (count, 2)), axis=1) for side in (width, height))
        corners = torch.from_numpy(np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)).float()
        if format_ != "XYXY":
            size = corners[:, 2:] - corners[:, :2]
            corners = torch.cat([corners[:, :2] + (size / 2 if format_ == "CXCYWH" else 0), size], dim=1)
        found.append(tv_tensors.BoundingBoxes(corners, format=format_, canvas_size=(height, width)))  # type: ignore[call-overload]
    return found


def points_of(sizes: list[tuple[int, int]], count: int = 3, seed: int = 0) -> list[Any]:
    """torchvision's KeyPoints (count, 4, 2) for each image."""
    random = np.random.default_rng(seed)
    found = []
    for height, width in sizes:
        places = random.uniform(0, 1, (count, 4, 2)) * (width - 1, height - 1)
        found.append(tv_tensors.KeyPoints(torch.from_numpy(places).float(), canvas_size=(height, width)))
    return found


def target_cases(images: Any) -> dict[str, Any]:
    """Targets of a dense batch, in the forms that are rendered differently."""
    count, _, height, width = images.shape
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(0, 9, (count, height, width), generator=generator, dtype=torch.uint8)
    corners = torch.rand(count, 5, 2, 2, generator=generator).sort(dim=2).values.flatten(2) * 30
    points = torch.rand(count, 2, 4, 3, generator=generator) * 30
    labels = torch.arange(5)
    return {
        "masks": {"masks": masks},
        "wide masks": {"masks": masks.long(), "labels": torch.arange(count)},
        "boxes": {"boxes": corners},
        "key points": {"keypoints": points},
        "objects": [
            {"boxes": box, "labels": labels, "masks": mask.expand(5, -1, -1).clone(), "keypoints": point, "id": 7}
            for box, mask, point in zip(corners, masks, points, strict=True)
        ],
    }


def close(got: Any, expected: Any) -> bool:
    """Equal bits but for boxes and key points, whose arithmetic a device may order differently."""
    pairs = zip(tree_leaves(got), tree_leaves(expected), strict=True)
    return all(
        torch.allclose(one, other, atol=1e-4) if isinstance(one, torch.Tensor) and one.dtype == torch.float32
        else torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
        for one, other in pairs
    )  # fmt: skip
