"""Several objects in each frame of a clip: masks, boxes and key points of each are those of the frame by itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import gpuaug as ga
from tests.support.targets import boxes_of, masks_of, points_of

B, T, N, SIZE = 3, 4, 2, (30, 37)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool], ids=str)
def test_objects_of_each_frame(dtype: torch.dtype, backend: str) -> None:
    steps = [ga.RandomResizedCrop(16), ga.RandomHorizontalFlip(), ga.RandomRotation(20)]
    augment = ga.Augment(steps, backend=backend, seed=5, mask_fill=1)
    clips = torch.zeros(B, T, 3, *SIZE, dtype=torch.uint8)
    draw = augment.sample(clips)
    every = [SIZE] * (B * T * N)
    masks = torch.stack(masks_of(every, dtype)).view(B, T, N, *SIZE)
    boxes = torch.stack([box.as_subclass(Tensor)[0] for box in boxes_of(every)]).view(B, T, N, 4)
    points = torch.stack([point.as_subclass(Tensor)[0] for point in points_of(every)]).view(B, T, N, 4, 2)
    _, whole = augment.render(clips, draw, {"masks": masks, "boxes": boxes, "keypoints": points})
    rows = [{"masks": m, "boxes": b, "keypoints": p} for m, b, p in zip(masks, boxes, points, strict=True)]
    _, listed = augment.render(clips, draw, rows)
    assert whole["masks"].shape == (B, T, N, 16, 16)
    assert whole["masks"].dtype == dtype
    for frame in range(T):
        each = [{"masks": m[frame], "boxes": b[frame], "keypoints": p[frame]}
                for m, b, p in zip(masks, boxes, points, strict=True)]  # fmt: skip
        _, expected = augment.render(clips[:, frame], draw, each)
        for number in range(B):
            for key, value in expected[number].items():
                assert torch.equal(whole[key][number, frame], value), key
                assert torch.equal(listed[number][key][frame], value), key


def test_objects_of_frames_are_not_mixed() -> None:
    clips = torch.zeros(B, T, 3, *SIZE, dtype=torch.uint8)
    masks = torch.zeros(B, T, N, *SIZE, dtype=torch.uint8)
    with pytest.raises(ValueError, match="masks of objects"):
        ga.Augment([ga.CutMix()])(clips, {"masks": masks, "labels": torch.arange(B)})
