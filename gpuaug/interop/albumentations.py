"""Conversion of Albumentations' transforms, found by name, without an import of it. It works by OpenCV."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from gpuaug.interop.fidelity import TIES, weakest
from gpuaug.interop.foreign import Found, Read, Rule, convert_all, fixed, gated, needs
from gpuaug.interop.report import ALIKE, EXACT, WITHIN, Conversion
from gpuaug.transforms.base import Transform
from gpuaug.transforms.blur import GaussianBlur
from gpuaug.transforms.color import (
    ColorJitter,
    Grayscale,
    RandomAutocontrast,
    RandomChannelPermutation,
    RandomEqualize,
    RandomGrayscale,
    RandomInvert,
    RandomPosterize,
    RandomSolarize,
)
from gpuaug.transforms.container import RandomApply, RandomChoice
from gpuaug.transforms.convert import Normalize, ToDtype
from gpuaug.transforms.crop import CenterCrop, Pad, RandomCrop, RandomResizedCrop, Resize
from gpuaug.transforms.degrade import GaussianNoise
from gpuaug.transforms.geometric import RandomHorizontalFlip, RandomRotation, RandomVerticalFlip

__all__ = ["from_albumentations"]

INTERPOLATIONS = {0: "nearest", 1: "bilinear", 2: "bicubic", 6: "nearest-exact"}  # OpenCV's numbers
BORDERS = {0: "constant", 1: "edge", 2: "symmetric", 4: "reflect"}
GREY = "grey is rounded differently"
# arguments for masks and boxes: what is accepted, and what to do
OF_TARGETS: tuple[tuple[str, tuple[Any, ...], str], ...] = (
    ("fill_mask", (0, None), "leave it out, and pass mask_fill to Augment"),
    ("mask_interpolation", (0,), "leave it out, as masks take the nearest pixel"),
    ("rotate_method", ("largest_box",), "leave it out, as boxes are those around the turned corners"),
)
REMEDIES = {
    "RandomBrightnessContrast": "use gpuaug.ColorJitter(brightness, contrast)",
    "HueSaturationValue": "use gpuaug.ColorJitter(saturation=, hue=)",
    "RGBShift": "use gpuaug.ColorJitter(hue=)",
    "ShiftScaleRotate": "use gpuaug.RandomAffine(degrees, translate, scale)",
    "Affine": "use gpuaug.RandomAffine, which scales both sides alike and moves by whole pixels",
    "Perspective": "use gpuaug.RandomPerspective",
    "CoarseDropout": "use gpuaug.RandomErasing(max_count=)",
    "Erasing": "use gpuaug.RandomErasing, whose ratio is log-uniform",
    "ImageCompression": "use gpuaug.JPEG, which compresses as torchvision does",
    "MotionBlur": "use gpuaug.MotionBlur, whose kernel is Kornia's",
    "Blur": "use gpuaug.GaussianBlur",
    "Sharpen": "use gpuaug.RandomAdjustSharpness",
    "SomeOf": "use gpuaug.RandomChoice for one of them, or RandomOrder for all",
    "RandomRotate90": "use gpuaug.RandomRotation",
    "PadIfNeeded": "use gpuaug.RandomCrop(pad_if_needed=True)",
}


def _word(step: Any, table: dict[int, str] = INTERPOLATIONS) -> str:
    number = getattr(step, "interpolation" if table is INTERPOLATIONS else "border_mode")
    if number not in table:
        name = "interpolation" if table is INTERPOLATIONS else "border_mode"
        raise ValueError(f"{type(step).__name__}: {name}={number} of OpenCV is not supported, only {table}")
    return table[number]


def _of(step: Any, *names: str) -> Any:
    """The argument, by its name in this version or an earlier one."""
    return next((getattr(step, name) for name in names if hasattr(step, name)), getattr(step, names[0], None))


def _as_masks_do(step: Any) -> None:
    """Raise an error for what a step does to masks and boxes in a way of its own."""
    for name, accepted, remedy in OF_TARGETS:
        value = getattr(step, name, accepted[0])
        if value not in accepted:
            raise ValueError(f"{type(step).__name__}: {name}={value!r} is not supported; {remedy}")


def _resized(step: Any, made: Callable[[str], Transform]) -> Found:
    word = _word(step)
    _as_masks_do(step)
    needs(step, area_for_downscale=None, p=1)
    if word == "bicubic":
        return [made(word)], ALIKE, "OpenCV rounds the weights of bicubic differently, by a few levels"
    return [made(word)], *((WITHIN, "OpenCV rounds its weights differently") if word == "bilinear" else (EXACT, ""))


def _resize(step: Any, read: Read) -> Found:
    return _resized(step, lambda word: Resize((step.height, step.width), word, antialias=False))


def _edge(step: Any, read: Read) -> Found:
    needs(step, max_size_hw=None)
    size = step.max_size if isinstance(step.max_size, int) else fixed(step, "max_size", (*step.max_size,) * 2)
    longest = type(step).__name__ == "LongestMaxSize"
    steps, _, _ = _resized(
        step,
        lambda word: (
            Resize(None, word, max_size=size, antialias=False) if longest else Resize(size, word, antialias=False)
        ),
    )
    return steps, ALIKE, "the other side is rounded down, there to the nearest pixel"


def _resized_crop(step: Any, read: Read) -> Found:
    if hasattr(step, "sampling_method"):
        needs(step, sampling_method="standard")
    size, scale, ratio = (tuple(getattr(step, name)) for name in ("size", "scale", "ratio"))
    return _resized(step, lambda word: RandomResizedCrop(size, scale, ratio, word, antialias=False))


def _crop(step: Any, read: Read) -> Found:
    needs(step, p=1)
    size = (step.height, step.width)
    if not step.pad_if_needed:
        return [RandomCrop(size)], EXACT, ""
    needs(step, pad_position=("center",))
    raise ValueError("RandomCrop: pad_if_needed=True pads each side by half of what is missing; use gpuaug.RandomCrop")


def _center(step: Any, read: Read) -> Found:
    needs(step, p=1, pad_if_needed=False)
    return [CenterCrop((step.height, step.width))], ALIKE, "an odd margin is rounded the other way, by one pixel"


def _pad(step: Any, read: Read) -> Found:
    needs(step, p=1)
    _as_masks_do(step)
    return [Pad(step.padding, step.fill, _word(step, BORDERS))], EXACT, ""


def _gray(step: Any, read: Read) -> Found:
    needs(step, method="weighted_average", num_output_channels=(1, 3))
    if step.num_output_channels == 1:
        needs(step, p=1)
        return [Grayscale(1)], WITHIN, GREY
    return [RandomGrayscale(step.p)], WITHIN, GREY


def _posterize(step: Any, read: Read) -> Found:
    return [RandomPosterize(fixed(step, "num_bits", step.num_bits), step.p)], EXACT, ""


def _solarize(step: Any, read: Read) -> Found:
    return [RandomSolarize(255 * fixed(step, "threshold_range", step.threshold_range), step.p)], EXACT, ""


def _equalize(step: Any, read: Read) -> Found:
    needs(step, mode="pil", by_channels=True, mask=None)
    return [RandomEqualize(step.p)], EXACT, ""


def _autocontrast(step: Any, read: Read) -> Found:
    needs(step, method="pil", cutoff=0, ignore=None)
    return [RandomAutocontrast(step.p)], WITHIN, "the table is rounded differently"


def _jitter(step: Any, read: Read) -> Found:
    names = ("brightness", "contrast", "saturation", "hue")
    spans: list[Any] = [tuple(_of(step, f"{name}_range", name)) for name in names]
    neutral = [(1.0, 1.0)] * 3 + [(0.0, 0.0)]
    given: list[Any] = [None if span == none else span for span, none in zip(spans, neutral, strict=True)]
    steps = gated(ColorJitter(*given), step.p)
    if given[3] is not None:
        return steps, ALIKE, "OpenCV's hue has 180 steps"
    if given[1] is None and given[2] is None:
        return steps, EXACT, ""
    if given[0] is None and given[2] is None and given[1][1] <= 2:
        return steps, WITHIN, GREY
    return steps, ALIKE, f"{GREY}, by up to two levels, which other changes may stretch"


def _blur(step: Any, read: Read) -> Found:
    size = fixed(step, "blur_range", _of(step, "blur_range", "blur_limit"))
    if size % 2 == 0:
        raise ValueError("GaussianBlur: a size of 0 depends on sigma, give an odd one, blur_range=(7, 7)")
    sigma = tuple(_of(step, "sigma_range", "sigma_limit"))
    return gated(GaussianBlur(size, sigma), step.p), WITHIN, "weights have 14 bits"


def _rotate(step: Any, read: Read) -> Found:
    needs(step, border_mode=0, crop_border=False)
    _as_masks_do(step)
    word = _word(step)
    if word == "nearest-exact":
        raise ValueError("Rotate: interpolation=6 of OpenCV is not supported, only nearest, bilinear or bicubic")
    turn = RandomRotation(tuple(_of(step, "angle_range", "limit")), word, fill=step.fill)
    why = TIES if word == "nearest" else "the border is blended differently, and OpenCV's positions have 5 bits"
    return gated(turn, step.p), ALIKE, why


def _noise(step: Any, read: Read) -> Found:
    needs(step, per_channel=True)
    std, mean = fixed(step, "std_range", step.std_range), fixed(step, "mean_range", step.mean_range)
    return gated(GaussianNoise(mean, std), step.p), ALIKE, "normal noise by other random numbers"


def _normalize(step: Any, read: Read) -> Found:
    needs(step, normalization="standard", max_pixel_value=255.0, p=1)
    if getattr(step, "clip_range", None) is not None:
        raise ValueError("Normalize: clip_range is not supported; leave it out")
    steps: list[Transform] = [ToDtype(torch.float32, scale=True), Normalize(tuple(step.mean), tuple(step.std))]
    return steps, EXACT, ""


def _to_float(step: Any, read: Read) -> Found:
    needs(step, max_value=(None, 255, 255.0), p=1)
    return [ToDtype(torch.float32, scale=True)], EXACT, ""


def _shuffle(step: Any, read: Read) -> Found:
    if getattr(step, "channel_order", None) is not None:
        raise ValueError("ChannelShuffle: channel_order is not supported; leave it out")
    return gated(RandomChannelPermutation(), step.p), EXACT, ""


def _nothing(step: Any, read: Read) -> Found:
    return [], EXACT, ""


def _together(children: list[Found]) -> tuple[str, str]:
    return weakest([(fidelity, why) for _, fidelity, why in children])


def _forced(child: Any, read: Read) -> Found:
    """A child that is applied for sure."""
    from copy import copy

    sure = copy(child)
    sure.p = 1.0
    return read(sure)


def _one_of(step: Any, read: Read) -> Found:
    """One of the children by the shares of their p, with the chance p; the child then runs for sure."""
    children = [_forced(child, read) for child in step.transforms]
    shares = [step.p * share for share in step.transforms_ps]
    kept = [(steps, share) for (steps, _, _), share in zip(children, shares, strict=True) if steps]
    if not kept:
        return [], EXACT, ""
    choice = RandomChoice([one[0] if len(one) == 1 else one for one, _ in kept], [share for _, share in kept])
    return [choice], *_together(children)


def _sequential(step: Any, read: Read) -> Found:
    children = [read(child) for child in step.transforms]
    steps = [one for found, _, _ in children for one in found]
    if step.p == 1:
        return steps, *_together(children)
    return [RandomApply(steps, step.p)] if steps else [], *_together(children)


RULES: dict[str, Rule] = {
    "HorizontalFlip": lambda step, read: ([RandomHorizontalFlip(step.p)], EXACT, ""),
    "VerticalFlip": lambda step, read: ([RandomVerticalFlip(step.p)], EXACT, ""),
    "InvertImg": lambda step, read: ([RandomInvert(step.p)], EXACT, ""),
    "RandomCrop": _crop,
    "CenterCrop": _center,
    "RandomResizedCrop": _resized_crop,
    "Resize": _resize,
    "SmallestMaxSize": _edge,
    "LongestMaxSize": _edge,
    "Pad": _pad,
    "ToGray": _gray,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "Equalize": _equalize,
    "AutoContrast": _autocontrast,
    "ColorJitter": _jitter,
    "GaussianBlur": _blur,
    "Rotate": _rotate,
    "GaussNoise": _noise,
    "ChannelShuffle": _shuffle,
    "Normalize": _normalize,
    "ToFloat": _to_float,
    "ToTensorV2": _nothing,
    "NoOp": _nothing,
    "OneOf": _one_of,
    "Sequential": _sequential,
}


def _leaves(transform: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(transform, (list, tuple)) or type(transform).__name__ == "Compose":
        children = transform if isinstance(transform, (list, tuple)) else transform.transforms
        if getattr(transform, "p", 1) != 1:
            raise ValueError(f"from_albumentations: `transform` must be a Compose with p=1, got p={transform.p}.")
        for number, child in enumerate(children):
            yield from _leaves(child, f"{place}[{number}]")
        return
    yield place, transform


def from_albumentations(transform: object) -> Conversion:
    """Convert transforms of Albumentations to a list of gpuaug's: `Augment(train=from_albumentations(compose))`.

    Converted are the operations that both have: flips, crops, Resize, SmallestMaxSize, LongestMaxSize, Pad, Rotate,
    ToGray, InvertImg, Posterize, Solarize, Equalize and AutoContrast (as Pillow), ColorJitter, GaussianBlur,
    GaussNoise, ChannelShuffle, Normalize, ToFloat, ToTensorV2, NoOp, OneOf and Sequential. Boxes, masks and key points
    are passed to Augment, so `bbox_params` and `keypoint_params` of a Compose are not read; steps with `fill_mask`,
    `mask_interpolation` or `rotate_method` of their own are refused.

    Args:
        transform: A transform, a Compose, or a list of these.

    Returns:
        The list of gpuaug's transforms, with a `report`.

    Raises:
        ValueError: If steps cannot be converted. The message names all of them.
    """
    leaves = list(_leaves(transform, ""))
    return convert_all("from_albumentations", "Albumentations", leaves, RULES, REMEDIES)
