"""NVIDIA DALI: CPU pipelines, which need no GPU, and GPU pipelines where there is one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.auto_aug import augmentations, auto_augment, rand_augment, trivial_augment
from nvidia.dali.plugin.pytorch import DALIClassificationIterator
from torch import Tensor

from ..cases import JITTER, MEAN, PARITY, RECIPES, SIZE, SOURCE, STD
from .peer import Peer, PeerError, check_fixed

Op = Callable[[Any], Any]
LEVELS = {"mean": [255 * value for value in MEAN], "std": [255 * value for value in STD]}
TURN = 360.0  # hue is in degrees
LINEAR = types.DALIInterpType.INTERP_LINEAR


def uniform(low: float, high: float) -> Any:
    return fn.random.uniform(range=(low, high))


def jitter(brightness: float, contrast: float, saturation: float, hue: float) -> Op:
    """Four random factors in one operator; the contrast is about the middle grey, not about the image's mean."""
    return lambda images: fn.color_twist(
        images,
        brightness=uniform(1 - brightness, 1 + brightness),
        contrast=uniform(1 - contrast, 1 + contrast),
        saturation=uniform(1 - saturation, 1 + saturation),
        hue=uniform(-hue * TURN, hue * TURN),
    )


def affine(angle: Any, scale: Any, shear: Any, offset: Any) -> Op:
    """About the centre."""
    centre = (SOURCE / 2, SOURCE / 2)

    def run(images: Any) -> Any:
        scaling = fn.transforms.scale(scale=scale() if callable(scale) else scale, center=centre)
        shearing = fn.transforms.shear(scaling, angles=shear() if callable(shear) else shear, center=centre)
        turning = fn.transforms.rotation(shearing, angle=angle() if callable(angle) else angle, center=centre)
        matrix = fn.transforms.translation(turning, offset=offset() if callable(offset) else offset)
        return fn.warp_affine(images, matrix=matrix, fill_value=0, inverse_map=False, interp_type=LINEAR)

    return run


def policy(augmentation: Any, place: int) -> Op:
    """One of the operations DALI's own policies are made of, at a place in 0..30 of its range."""
    return lambda images: augmentation(images, magnitude_bin=place, num_magnitude_bins=31)


def sometimes(op: Op, p: float) -> Op:
    def run(images: Any) -> Any:
        if fn.random.coin_flip(probability=p, dtype=types.BOOL):
            images = op(images)
        return images

    return run


def gray(images: Any) -> Any:
    one = fn.color_space_conversion(images, image_type=types.RGB, output_type=types.GRAY)
    return fn.color_space_conversion(one, image_type=types.GRAY, output_type=types.RGB)


def normalize(images: Any) -> Any:
    return fn.crop_mirror_normalize(images, dtype=types.FLOAT, output_layout="CHW", **LEVELS)


def after_crop(images: Any, case: str) -> Any:
    """What follows RandomResizedCrop in a recipe."""
    flip = fn.random.coin_flip()
    if not RECIPES[case]:  # the operator that normalises flips, too
        return fn.crop_mirror_normalize(images, dtype=types.FLOAT, output_layout="CHW", mirror=flip, **LEVELS)
    images = fn.flip(images, horizontal=flip)
    for name in RECIPES[case]:
        images = RANDOM[name](images)
    return normalize(images)


RANDOM: dict[str, Op] = {
    "RandomHorizontalFlip": lambda x: fn.flip(x, horizontal=1),
    "RandomCrop": lambda x: fn.crop(x, crop=(SIZE, SIZE), crop_pos_x=uniform(0, 1), crop_pos_y=uniform(0, 1)),
    "RandomResizedCrop": lambda x: fn.random_resized_crop(x, size=(SIZE, SIZE), interp_type=LINEAR, antialias=True),
    "RandomRotation": lambda x: fn.rotate(x, angle=uniform(-30, 30), keep_size=True, fill_value=0, interp_type=LINEAR),
    "RandomAffine": affine(
        lambda: uniform(-15, 15),
        lambda: fn.random.uniform(range=(0.8, 1.2), shape=2),
        lambda: fn.random.uniform(range=(-10, 10), shape=2),
        lambda: fn.random.uniform(range=(-0.1 * SOURCE, 0.1 * SOURCE), shape=2),
    ),
    "Brightness": lambda x: fn.brightness(x, brightness=uniform(0.6, 1.4)),
    "Contrast": lambda x: fn.contrast(x, contrast=uniform(0.6, 1.4)),
    "Saturation": lambda x: fn.saturation(x, saturation=uniform(0.6, 1.4)),
    "Hue": lambda x: fn.hue(x, hue=uniform(-0.1 * TURN, 0.1 * TURN)),
    "ColorJitter": jitter(*JITTER),
    "RandomGrayscale": gray,
    "RandomInvert": policy(augmentations.invert, 0),
    "RandomPosterize": policy(augmentations.posterize.augmentation(mag_range=(4, 4)), 0),
    "RandomSolarize": policy(augmentations.solarize.augmentation(mag_range=(128, 128)), 0),
    "RandomAutocontrast": policy(augmentations.auto_contrast, 0),
    "RandomEqualize": policy(augmentations.equalize, 0),
    "RandomAdjustSharpness": policy(augmentations.sharpness.augmentation(mag_range=(0.9, 0.9)), 0),
    "GaussianBlur": lambda x: fn.gaussian_blur(x, window_size=9, sigma=uniform(0.1, 2.0)),
    "GaussianNoise": lambda x: fn.noise.gaussian(x, mean=0.0, stddev=25.5),
    "JPEG": lambda x: fn.jpeg_compression_distortion(x, quality=fn.random.uniform(range=(50, 95), dtype=types.INT32)),
    "RandomErasing": lambda x: fn.erase(
        x,
        anchor=fn.random.uniform(range=(0, 0.6), shape=2),
        shape=fn.random.uniform(range=(0.1, 0.6), shape=2),
        normalized=True,
        axis_names="HW",
        fill_value=0,
    ),
    "Normalize": normalize,
    "RandAugment": lambda x: rand_augment.rand_augment(x, n=2, m=9),
    "TrivialAugmentWide": trivial_augment.trivial_augment_wide,
    "AutoAugment": auto_augment.auto_augment_image_net,
    "SimCLR jitter": sometimes(jitter(0.8, 0.8, 0.8, 0.2), 0.8),
    "SimCLR grayscale": sometimes(gray, 0.2),
    "SimCLR blur": sometimes(lambda x: fn.gaussian_blur(x, window_size=23, sigma=uniform(0.1, 2.0)), 0.5),
}
FIXED: dict[str, Op] = {
    "RandomResizedCrop": lambda x: fn.resize(x, size=(SIZE, SIZE), interp_type=LINEAR, antialias=True),
    "RandomRotation": lambda x: fn.rotate(x, angle=30, keep_size=True, fill_value=0, interp_type=LINEAR),
    "RandomAffine": affine(15.0, [1.1, 1.1], [0.0, 0.0], [0.0, 0.0]),
    "Brightness": lambda x: fn.brightness(x, brightness=1.4),
    "Contrast": lambda x: fn.contrast(x, contrast=1.4),
    "Saturation": lambda x: fn.saturation(x, saturation=1.4),
    "Hue": lambda x: fn.hue(x, hue=0.1 * TURN),
    "GaussianBlur": lambda x: fn.gaussian_blur(x, window_size=9, sigma=1.0),
    "JPEG": lambda x: fn.jpeg_compression_distortion(x, quality=75),
    **{
        name: RANDOM[name]
        for name in (
            "RandomHorizontalFlip", "RandomGrayscale", "RandomInvert", "RandomPosterize", "RandomSolarize",
            "RandomAutocontrast", "RandomEqualize", "RandomAdjustSharpness", "Normalize",
        )
    },
}  # fmt: skip


class Dali(Peer):
    work = "antialiased; draws of its own; its policies and ColorJitter differ a little in ranges and formulas"

    def prepare(self, images: list[Tensor], batch: int) -> Any:
        arrays = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in images]
        return [arrays[start : start + batch] for start in range(0, len(arrays), batch)]

    def op(self, case: str, fixed: bool) -> Any:
        if case not in RANDOM:
            raise PeerError(f"DALI has no {case}")
        check_fixed(case, fixed, FIXED)
        return self.pipeline((FIXED if fixed else RANDOM)[case])

    def recipe(self, case: str) -> Any:
        def deterministic(images: Any) -> Any:
            resized = fn.resize(images, resize_shorter=256, interp_type=LINEAR, antialias=True)
            flipped = fn.flip(fn.crop(resized, crop=(SIZE, SIZE), rounding="truncate"), horizontal=1)
            return normalize(fn.brightness(flipped, brightness=1.2))

        def recipe(images: Any) -> Any:
            return after_crop(RANDOM["RandomResizedCrop"](images), case)

        return self.pipeline(deterministic if case == PARITY else recipe)

    def pipeline(self, op: Op) -> Any:
        """Works when it is asked to and not ahead, so that its work is in its own time."""
        gpu = self.device == "cuda"
        fed: list[Any] = []

        @pipeline_def(
            batch_size=1024, num_threads=self.threads, device_id=0 if gpu else None, seed=1, enable_conditionals=True,
            prefetch_queue_depth=1, exec_async=False, exec_pipelined=False,
        )  # fmt: skip
        def graph() -> Any:
            images = fn.external_source(lambda: fed.pop(), batch=True, layout="HWC", dtype=types.UINT8, no_copy=True)
            return op(images.gpu() if gpu else images)

        pipeline = built(graph)

        def run(arrays: list[Any]) -> Any:
            fed.append(arrays)
            (result,) = pipeline.run()
            return result

        return run

    def run(self, transform: Any, prepared: Any) -> Iterator[Any]:
        return (transform(batch) for batch in prepared)

    def tensors(self, result: Any) -> list[Tensor]:
        arrays = [np.array(one) for batch in result for one in (batch.as_cpu() if self.device == "cuda" else batch)]
        images = [torch.from_numpy(array) for array in arrays]
        return [image.permute(2, 0, 1) if image.shape[-1] == 3 else image for image in images]


def loader(folder: Path, case: str, batch: int, threads: int, fused: bool) -> Any:
    """A pipeline from files, as its ImageNet example has it; `fused` decodes only what the crop needs."""

    @pipeline_def(batch_size=batch, num_threads=threads, device_id=None, seed=1, enable_conditionals=True)
    def graph() -> Any:
        files, labels = fn.readers.file(file_root=str(folder), random_shuffle=True, name="reader")
        if fused:
            area = {"random_aspect_ratio": [3 / 4, 4 / 3], "random_area": [0.08, 1.0], "num_attempts": 10}
            cropped = fn.decoders.image_random_crop(files, output_type=types.RGB, **area)
            images = fn.resize(cropped, size=(SIZE, SIZE), interp_type=LINEAR, antialias=True)
        else:
            images = RANDOM["RandomResizedCrop"](fn.decoders.image(files, output_type=types.RGB))
        return after_crop(images, case), labels

    pipeline = built(graph)
    return _Epochs(DALIClassificationIterator(pipeline, reader_name="reader", auto_reset=True))


class _Epochs:
    """Batches as (images, labels)."""

    def __init__(self, iterator: Any) -> None:
        self.iterator = iterator

    def __iter__(self) -> Any:
        for (batch,) in self.iterator:
            yield batch["data"], batch["label"]


def built(graph: Any) -> Any:
    """A pipeline, without the warnings about names that DALI's own policies still use."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda *_, **__: None
        pipeline = graph()
        pipeline.build()
    return pipeline
