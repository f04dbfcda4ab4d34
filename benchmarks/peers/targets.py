"""Images with masks, boxes and key points through each library: crop + flip + affine + colour jitter to floats."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

import gpuaug as ga

from ..cases import JITTER
from . import OURS
from .peer import PeerError

__all__ = ["FOLLOWERS", "Batch", "Follower"]

AFFINE: dict[str, Any] = {"degrees": 15, "translate": (0.1, 0.1), "scale": (0.8, 1.2), "shear": 10}
Result = dict[str, Tensor]


@dataclass
class Batch:
    """Images (B, 3, H, W) uint8, cropped to `side`, with what follows them.

    masks: (B, H, W) or None. boxes: (B, N, 4) float32, corners, or None. points: (B, K, 2) float32 or None.
    """

    images: Tensor
    side: int
    masks: Tensor | None = None
    boxes: Tensor | None = None
    points: Tensor | None = None

    def given(self) -> Result:
        """The targets under the names that torchvision gives them."""
        found = {"masks": self.masks, "boxes": self.boxes, "keypoints": self.points}
        return {key: value for key, value in found.items() if value is not None}


class Follower(abc.ABC):
    """A library in the contest. Its arguments are converted to what it takes before anything is timed.

    work: what differs in its work. drops: whether it leaves out boxes that are cut off. clips: whether it clips boxes.
    """

    work = ""
    drops = False
    clips = True

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.prepare()

    @abc.abstractmethod
    def prepare(self) -> None:
        """Make the transform and what it takes."""

    @abc.abstractmethod
    def run(self) -> Iterator[Any]:
        """What is timed: a result for each image or batch."""

    @abc.abstractmethod
    def results(self, made: Any) -> list[Result]:
        """What `run` gave, for each image: `image` and the targets."""


def steps(v: Any, side: int) -> list[Any]:
    """The list in the vocabulary of gpuaug and torchvision."""
    return [
        v.RandomResizedCrop(side),
        v.RandomHorizontalFlip(),
        v.RandomAffine(**AFFINE),
        v.ColorJitter(*JITTER),
        v.ToDtype(torch.float32, scale=True),
    ]


class Mapping(Follower):
    work = "one mapping for the batch; each image its own draw"

    def prepare(self) -> None:
        self.augment: Callable[..., Any] = ga.Augment(steps(ga, self.batch.side))
        self.targets: Any = self.batch.given() or None
        if self.batch.points is not None:
            self.targets["keypoints"] = self.batch.points[:, None]  # one group in each image

    def run(self) -> Iterator[Any]:
        yield self.augment(self.batch.images, self.targets)

    def results(self, made: Any) -> list[Result]:
        (found,) = made
        images, targets = (found, {}) if self.targets is None else found
        if "keypoints" in targets:
            targets = {**targets, "keypoints": targets["keypoints"][:, 0]}
        return [
            {"image": image, **{key: value[number] for key, value in targets.items()}}
            for number, image in enumerate(images)
        ]


class Listed(Mapping):
    work = "a list with a mapping for each image"

    def prepare(self) -> None:
        super().prepare()
        if self.targets is None:
            raise PeerError("no targets: the same as the mapping")
        given = self.targets
        self.targets = [
            {key: value[number] for key, value in given.items()} for number in range(len(self.batch.images))
        ]

    def results(self, made: Any) -> list[Result]:
        ((images, rows),) = made
        found = [{"image": image, **row} for image, row in zip(images, rows, strict=True)]
        return [{**row, "keypoints": row["keypoints"][0]} if "keypoints" in row else row for row in found]


class ImagesOnly(Mapping):
    work = "the same images without targets: what the rest is for the targets"

    def prepare(self) -> None:
        if not self.batch.given():
            raise PeerError("no targets: the same as the mapping")
        self.batch = Batch(self.batch.images, self.batch.side)
        super().prepare()


class Torchvision(Follower):
    work = "one sample at a time, tv_tensors"

    def prepare(self) -> None:
        from torchvision import tv_tensors as tv
        from torchvision.transforms import v2

        images, size = self.batch.images, tuple(self.batch.images.shape[-2:])
        corners = partial(tv.BoundingBoxes, format="XYXY", canvas_size=size)
        wraps = {"masks": tv.Mask, "boxes": corners, "keypoints": partial(tv.KeyPoints, canvas_size=size)}
        given = self.batch.given()
        self.samples = [
            (tv.Image(image), {key: wraps[key](value[number]) for key, value in given.items()})
            for number, image in enumerate(images)
        ]
        self.transform = v2.Compose(steps(v2, self.batch.side))

    def run(self) -> Iterator[Any]:
        return (self.transform(image, targets) for image, targets in self.samples)

    def results(self, made: Any) -> list[Result]:
        return [{"image": image, **targets} for image, targets in made]


class Kornia(Follower):
    work = "AugmentationSequential on a batch; float32 all the way, masks too, not antialiased; does not clip boxes"
    clips = False

    def prepare(self) -> None:
        import kornia.augmentation as ka

        side, keys = (self.batch.side, self.batch.side), {"masks": "mask", "boxes": "bbox_xyxy"}
        self.keys = ["input", *(keys.get(key, key) for key in self.batch.given())]
        self.transform = ka.AugmentationSequential(
            ka.RandomResizedCrop(side),
            ka.RandomHorizontalFlip(),
            ka.RandomAffine(AFFINE["degrees"], AFFINE["translate"], AFFINE["scale"], AFFINE["shear"], p=1.0),
            ka.ColorJitter(*JITTER),
            data_keys=self.keys,
        )

    def run(self) -> Iterator[Any]:
        batch = self.batch
        given = [value[:, None].float() if key == "masks" else value for key, value in batch.given().items()]
        made = self.transform(batch.images.float() / 255, *given)
        found = dict(zip(self.keys, made if given else [made], strict=True))
        if batch.masks is not None:
            found["mask"] = found["mask"][:, 0].to(batch.masks.dtype)
        yield found

    def results(self, made: Any) -> list[Result]:
        (found,) = made
        names = {"input": "image", "mask": "masks", "bbox_xyxy": "boxes"}
        return [
            {names.get(key, key): value[number] for key, value in found.items()}
            for number in range(len(self.batch.images))
        ]


class Albumentations(Follower):
    work = "one sample at a time, OpenCV, not antialiased; masks stay uint8 until the end; drops boxes that are cut off"
    drops = True

    def prepare(self) -> None:
        import albumentations as al
        import numpy as np

        from .albumentations import RANDOM, compose

        batch, side = self.batch, self.batch.side
        corners = al.BboxParams("pascal_voc") if batch.boxes is not None else None
        points = al.KeypointParams("xy", remove_invisible=False) if batch.points is not None else None
        crop = al.RandomResizedCrop(size=(side, side))
        chain = [crop, al.HorizontalFlip(), RANDOM["RandomAffine"](), RANDOM["ColorJitter"]()]
        chain += [al.ToFloat(max_value=255), al.ToTensorV2()]
        self.transform = compose(chain, bbox_params=corners, keypoint_params=points)
        names = {"masks": "mask", "boxes": "bboxes"}
        arrays = {names.get(key, key): value.numpy() for key, value in batch.given().items()}
        if batch.masks is not None:
            arrays["mask"] = batch.masks.to(torch.uint8).numpy()  # OpenCV does not move int64
        pixels = np.ascontiguousarray(batch.images.permute(0, 2, 3, 1).numpy())
        self.samples = [
            {"image": image, **{key: np.ascontiguousarray(value[number]) for key, value in arrays.items()}}
            for number, image in enumerate(pixels)
        ]

    def run(self) -> Iterator[Any]:
        return (self._typed(self.transform(**sample)) for sample in self.samples)

    def _typed(self, made: dict[str, Any]) -> Result:
        """The result as tensors of the types that were given."""
        found: Result = {"image": made["image"]}
        if self.batch.masks is not None:
            found["masks"] = made["mask"].to(self.batch.masks.dtype)
        for key, name in (("boxes", "bboxes"), ("keypoints", "keypoints")):
            if name in self.samples[0]:
                found[key] = torch.as_tensor(made[name], dtype=torch.float32)
        return found

    def results(self, made: Any) -> list[Result]:
        return list(made)


FOLLOWERS: dict[str, type[Follower]] = {
    OURS: Mapping,
    f"{OURS}, list": Listed,
    f"{OURS}, images only": ImagesOnly,
    "torchvision v2, tensors": Torchvision,
    "Kornia": Kornia,
    "AlbumentationsX": Albumentations,
}
