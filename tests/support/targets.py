"""Masks, boxes and key points for tests, and where torchvision moves them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

import gpuaug as ga
from gpuaug import checks
from tests.support.answers import policy_op
from tests.support.images import batch
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
    "drawn",
    "follows",
    "larger",
    "masks_of",
    "moved",
    "moving_lists",
    "plain_lists",
    "points_of",
    "replayed",
    "rotated_of",
    "same_boxes",
]

COUNT, SIZE = 6, (37, 45)  # of a batch, (height, width) of its images
SIZES = [(33, 47), (48, 36), (36, 36), (64, 90), (37, 40), (50, 53)]
CLOSE: dict[str, Any] = {"atol": 1e-3, "rtol": 0}  # pixels
WARPS = range(1, 6)  # numbers of the geometric ops of a policy
POLICIES = (ga.AutoAugment, ga.RandAugment, ga.TrivialAugmentWide)
NOT_TORCHVISIONS = (ga.AugMix, ga.TimmAugMix, ga.TimmAutoAugment, ga.TimmRandAugment)  # nor have they functionals there


def moving_lists() -> list[Any]:
    """Parameters of a test: the lists of all ops whose last step moves pixels by a matrix."""
    # torchvision resizes masks by nearest-exact in Resize and by nearest in RandomResizedCrop; ours follow the pixels
    found = [case for case in cases() if follows(case.values[0][-1])]
    return [case for case in found if "Crop(size=(24, 31), interpolation='nearest-exact'" not in case.id]


def plain_lists() -> list[Any]:
    """Those of them for which torchvision moves boxes and key points as the pixels."""
    last = [(case, case.values[0][-1]) for case in moving_lists()]
    constant = [(case, op) for case, op in last if getattr(op, "padding_mode", "constant") == "constant"]
    return [case for case, op in constant if not larger(op)]


def larger(op: Any) -> bool:
    """Whether it is a CenterCrop that pads: torchvision pads masks with 0, and boxes by one pixel less than images."""
    return isinstance(op, ga.CenterCrop) and any(a > b for a, b in zip(checks.size("", op.size), SIZE, strict=True))


def drawn(steps: list[Any], backend: str = "torch", **arguments: Any) -> tuple[ga.Augment, Tensor, ga.Draw]:
    """An Augment with one draw for each image, taken step by step as torchvision does."""
    images = batch("photo", COUNT, 3, SIZE)
    augment = ga.Augment(steps, backend=backend, exact=True, seed=0, **arguments)
    return augment, images, augment.sample(images, index=torch.arange(COUNT))


def follows(op: Any) -> bool:
    """Whether torchvision can say where this op moves targets."""
    children = getattr(op, "children", ())
    known = op.kind in ("pixel", "crop") and op.moves and not isinstance(op, NOT_TORCHVISIONS)
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


def rotated_of(
    sizes: list[tuple[int, int]], format_: str, mode: str | None = "soft", count: int = 6, seed: int = 1
) -> list[Any]:
    """torchvision's rotated BoundingBoxes, float64, for each image: of any angle, some along the axes, some cut off."""
    random = np.random.default_rng(seed)
    found = []
    for height, width in sizes:
        low, high = (0, 0, 2, 2, -180), (width, height, width / 1.5, height / 1.5, 180)
        numbers = random.uniform(low, high, (count, 5))
        numbers[::3, 4] = np.rint(numbers[::3, 4] / 90) * 90
        boxes = tv_tensors.BoundingBoxes(
            torch.from_numpy(numbers), format="CXCYWHR", canvas_size=(height, width), clamping_mode=mode
        )  # type: ignore[call-overload]
        boxes = functional.convert_bounding_box_format(boxes, new_format=format_)
        found.append(functional.clamp_bounding_boxes(boxes))  # as any step before would have left them
    return found


def same_boxes(got: Any, expected: Any) -> Tensor:
    """(N,) bool: which boxes are equal within 0.001 pixels and degrees; angles a full turn apart are equal."""
    one, other = got.as_subclass(Tensor).double(), expected.as_subclass(Tensor).double()
    apart = (one - other).abs()
    if one.shape[-1] == 5:
        apart[:, 4] = (apart[:, 4] + 180) % 360 - 180
    return (apart.abs() <= CLOSE["atol"]).all(1)


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
    turned = [box.as_subclass(Tensor).float() for box in rotated_of([(height, width)] * count, "CXCYWHR")]
    return {
        "masks": {"masks": masks},
        "wide masks": {"masks": masks.long(), "labels": torch.arange(count)},
        "boxes": {"boxes": corners},
        "rotated boxes": [{"boxes": _turned(box, (height, width))} for box in turned],
        "key points": {"keypoints": points},
        "objects": [
            {"boxes": box, "labels": labels, "masks": mask.expand(5, -1, -1).clone(), "keypoints": point, "id": 7}
            for box, mask, point in zip(corners, masks, points, strict=True)
        ],
    }


def _turned(boxes: Tensor, size: tuple[int, int]) -> Any:
    return tv_tensors.BoundingBoxes(boxes, format="CXCYWHR", canvas_size=size)  # type: ignore[call-overload]


def close(got: Any, expected: Any) -> bool:
    """Equal bits but for boxes and key points, whose arithmetic a device may order differently."""
    pairs = zip(tree_leaves(got), tree_leaves(expected), strict=True)
    return all(
        torch.allclose(one, other, atol=1e-4) if isinstance(one, torch.Tensor) and one.dtype == torch.float32
        else torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
        for one, other in pairs
    )  # fmt: skip
