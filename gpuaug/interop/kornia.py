"""Conversion of Kornia's augmentations, found by name, without an import of it. They work on floats in [0, 1]."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from gpuaug.interop.arguments import even, plain
from gpuaug.interop.fidelity import TIES
from gpuaug.interop.foreign import Found, Read, Rule, convert_all, fixed, gated, needs
from gpuaug.interop.report import ALIKE, EXACT, WITHIN, Conversion
from gpuaug.transforms.base import Transform
from gpuaug.transforms.blur import GaussianBlur, MotionBlur
from gpuaug.transforms.color import (
    ColorJitter,
    RandomAdjustSharpness,
    RandomAutocontrast,
    RandomChannelPermutation,
    RandomEqualize,
    RandomGrayscale,
    RandomInvert,
    RandomPosterize,
    RandomSolarize,
)
from gpuaug.transforms.convert import Normalize, ToDtype
from gpuaug.transforms.crop import CenterCrop, RandomCrop, RandomResizedCrop, Resize
from gpuaug.transforms.geometric import RandomAffine, RandomHorizontalFlip, RandomRotation, RandomVerticalFlip

__all__ = ["from_kornia"]

LEVELS = "levels are whole numbers"
STRETCH = "levels are rounded after each change, which the next may stretch"
REMEDIES = {
    "ColorJiggle": "it adds brightness; use gpuaug.ColorJitter, as Kornia's ColorJitter",
    "RandomBrightness": "it adds; use gpuaug.ColorJitter(brightness), which multiplies",
    "RandomContrast": "it blends with black; use gpuaug.ColorJitter(contrast=)",
    "RandomSaturation": "it works on HSV; use gpuaug.ColorJitter(saturation=)",
    "RandomErasing": "use gpuaug.RandomErasing, whose ratio is log-uniform",
    "RandomGaussianNoise": "it is not clipped to [0, 1]; use gpuaug.GaussianNoise",
    "RandomPerspective": "use gpuaug.RandomPerspective, whose corners are whole pixels",
    "RandomJPEG": "use gpuaug.JPEG, which compresses as libjpeg does",
    "RandomMixUpV2": "its weight is uniform; use gpuaug.MixUp",
    "RandomCutMixV2": "use gpuaug.CutMix",
    "RandomElasticTransform": "put it into gpuaug.Opaque",
}


def _mode(step: Any) -> str:
    return str(step.flags["resample"].name).lower()


def _alone(step: Any) -> None:
    """Each image has its own draw."""
    needs(step, same_on_batch=False, p_batch=1.0)


def _flip(step: Any, read: Read) -> Found:
    _alone(step)
    op = RandomHorizontalFlip if type(step).__name__ == "RandomHorizontalFlip" else RandomVerticalFlip
    return [op(step.p)], EXACT, ""


def _center(step: Any, read: Read) -> Found:
    needs(step, p=1.0, p_batch=1.0)
    return [CenterCrop(plain(step.flags["size"]))], ALIKE, "an odd margin is rounded the other way, by one pixel"


def _crop(step: Any, read: Read) -> Found:
    _alone(step)
    needs(step, p=1.0, p_batch=1.0)
    flags = step.flags
    padding = None if flags["padding"] is None else plain(flags["padding"])
    if isinstance(padding, tuple) and len(padding) != 4:
        raise ValueError("RandomCrop: padding of two numbers is not supported, only one or four")
    if flags["padding_mode"] != "constant" or flags["pad_if_needed"]:
        raise ValueError("RandomCrop: only padding_mode='constant' and pad_if_needed=False are supported")
    fill = plain(flags["fill"])
    level = tuple(255 * one for one in fill) if isinstance(fill, tuple) else 255 * fill
    return [RandomCrop(plain(flags["size"]), padding, fill=level)], EXACT, ""


def _resampled(step: Any, steps: list[Transform]) -> Found:
    if step.flags["align_corners"]:
        return steps, ALIKE, "Kornia aligns the corner pixels, so pixels lie up to half a pixel elsewhere"
    return steps, WITHIN, LEVELS


def _resize(step: Any, read: Read) -> Found:
    needs(step, p=1.0, p_batch=1.0)
    flags, word = step.flags, _mode(step)
    if flags["antialias"] or word != "bilinear" or flags["side"] != "short":
        raise ValueError("Resize: only antialias=False, resample='bilinear' and side='short' are supported")
    return _resampled(step, [Resize(plain(flags["size"]), word, antialias=False)])


def _resized_crop(step: Any, read: Read) -> Found:
    _alone(step)
    needs(step, p=1.0, p_batch=1.0)
    if _mode(step) != "bilinear":
        raise ValueError("RandomResizedCrop: only resample='bilinear' is supported")
    if step.flags["cropping_mode"] != "slice" and not step.flags["align_corners"]:
        raise ValueError("RandomResizedCrop: cropping_mode='resample' is supported with align_corners=True only")
    drawn = step._param_generator
    crop = RandomResizedCrop(plain(step.flags["size"]), plain(drawn.scale), plain(drawn.ratio), antialias=False)
    return _resampled(step, [crop])


def _warps(step: Any) -> str:
    word = _mode(step)
    if word not in ("nearest", "bilinear"):
        raise ValueError(f"{type(step).__name__}: only resample='nearest' or 'bilinear' is supported")
    return word


def _warped(step: Any) -> tuple[str, str]:
    return (ALIKE, TIES) if _mode(step) == "nearest" else (WITHIN, LEVELS)


def _rotation(step: Any, read: Read) -> Found:
    _alone(step)
    low, high = _range(step._param_generator.sampler_dict["degrees"])
    return gated(RandomRotation((low, high), _warps(step), fill=None), step.p), *_warped(step)


def _affine(step: Any, read: Read) -> Found:
    _alone(step)
    drawn, word = step._param_generator, _warps(step)
    if drawn.translate is not None:
        raise ValueError("RandomAffine: translate is not supported, Kornia does not move by whole pixels")
    if drawn.scale_4_sampler is not None or step.flags["padding_mode"].name != "ZEROS":
        raise ValueError("RandomAffine: only one scale for both sides and padding_mode='zeros' are supported")
    low, high = _range(drawn.degree_sampler)
    scale = None if drawn.scale is None else tuple(plain(drawn.scale))[:2]
    shear = None
    if drawn.shear is not None:
        shear_y = (0.0, 0.0) if drawn.shear_y_sampler is None else _range(drawn.shear_y_sampler)
        shear = (*_range(drawn.shear_x_sampler), *shear_y)
    warp = RandomAffine((low, high), scale=scale, shear=shear, interpolation=word, fill=None)
    return gated(warp, step.p), *_warped(step)


def _range(sampler: Any) -> tuple[float, float]:
    low, high = float(sampler.low), float(sampler.high)
    return round(low, 6), round(high, 6)  # float32 there


def _gray(step: Any, read: Read) -> Found:
    _alone(step)
    if step.rgb_weights is not None:
        raise ValueError("RandomGrayscale: rgb_weights is not supported; leave it out")
    return [RandomGrayscale(step.p)], ALIKE, "grey is rounded down to whole levels"


def _invert(step: Any, read: Read) -> Found:
    _alone(step)
    if float(step.flags["max_val"]) != 1:
        raise ValueError("RandomInvert: only max_val=1 is supported")
    return [RandomInvert(step.p)], EXACT, ""


def _posterize(step: Any, read: Read) -> Found:
    _alone(step)
    bits = fixed(step, "bits", _range(step._param_generator.bit_sampler))
    return [RandomPosterize(int(bits), step.p)], EXACT, ""


def _solarize(step: Any, read: Read) -> Found:
    _alone(step)
    drawn = step._param_generator.sampler_dict
    if _range(drawn["additions"]) != (0, 0):
        raise ValueError("RandomSolarize: additions are not supported, only (0, 0)")
    return [RandomSolarize(255 * fixed(step, "thresholds", _range(drawn["thresholds"])), step.p)], EXACT, ""


def _equalize(step: Any, read: Read) -> Found:
    _alone(step)
    return [RandomEqualize(step.p)], EXACT, ""


def _autocontrast(step: Any, read: Read) -> Found:
    _alone(step)
    return [RandomAutocontrast(step.p)], WITHIN, LEVELS


def _sharpness(step: Any, read: Read) -> Found:
    _alone(step)
    factor = fixed(step, "sharpness", _range(step._param_generator.sampler_dict["sharpness"]))
    return [RandomAdjustSharpness(factor, step.p)], *((WITHIN, LEVELS) if factor <= 1 else (ALIKE, STRETCH))


def _jitter(step: Any, read: Read) -> Found:
    _alone(step)
    names = ("brightness", "contrast", "saturation", "hue")
    spans = [_range(getattr(step._param_generator, f"{name}_sampler")) for name in names]
    neutral = [(1.0, 1.0)] * 3 + [(0.0, 0.0)]
    given = [None if span == none else span for span, none in zip(spans, neutral, strict=True)]
    steps = gated(ColorJitter(*given), step.p)
    one = sum(span is not None for span in given) == 1
    return steps, *((WITHIN, LEVELS) if one else (ALIKE, STRETCH))


def _hue(step: Any, read: Read) -> Found:
    _alone(step)
    span = _range(step._param_generator.sampler_dict["hue_factor"])
    return gated(ColorJitter(hue=span), step.p), WITHIN, LEVELS


def _blur(step: Any, read: Read) -> Found:
    _alone(step)
    if step.flags["border_type"].name != "REFLECT":
        raise ValueError("RandomGaussianBlur: only border_type='reflect' is supported")
    size = plain(step.flags["kernel_size"])
    height, width = size if isinstance(size, tuple) else (size, size)
    sigma = _range(step._param_generator.sigma_sampler)
    return gated(GaussianBlur(even((width, height)), sigma), step.p), WITHIN, LEVELS


def _motion(step: Any, read: Read) -> Found:
    _alone(step)
    drawn = step._param_generator
    if not isinstance(drawn.kernel_size, int):
        raise ValueError("RandomMotionBlur: only one kernel_size is supported")
    border, word = (step.flags[name].name.lower() for name in ("border_type", "resample"))
    angle, direction = _range(drawn.angle_sampler), _range(drawn.direction_sampler)
    return [MotionBlur(drawn.kernel_size, angle, direction, border, word, step.p)], WITHIN, LEVELS


def _shuffle(step: Any, read: Read) -> Found:
    _alone(step)
    return gated(RandomChannelPermutation(), step.p), EXACT, ""


def _normalize(step: Any, read: Read) -> Found:
    needs(step, p=1.0, p_batch=1.0)
    mean, std = (tuple(round(value, 6) for value in step.flags[name].flatten().tolist()) for name in ("mean", "std"))
    steps: list[Transform] = [ToDtype(torch.float32, scale=True), Normalize(mean, std)]
    return steps, EXACT, ""


RULES: dict[str, Rule] = {
    "RandomHorizontalFlip": _flip,
    "RandomVerticalFlip": _flip,
    "CenterCrop": _center,
    "RandomCrop": _crop,
    "Resize": _resize,
    "RandomResizedCrop": _resized_crop,
    "RandomRotation": _rotation,
    "RandomAffine": _affine,
    "RandomGrayscale": _gray,
    "RandomInvert": _invert,
    "RandomPosterize": _posterize,
    "RandomSolarize": _solarize,
    "RandomEqualize": _equalize,
    "RandomAutoContrast": _autocontrast,
    "RandomSharpness": _sharpness,
    "ColorJitter": _jitter,
    "RandomHue": _hue,
    "RandomGaussianBlur": _blur,
    "RandomMotionBlur": _motion,
    "RandomChannelShuffle": _shuffle,
    "Normalize": _normalize,
}
SEQUENCES = ("AugmentationSequential", "ImageSequential", "Sequential", "ModuleList")


def _leaves(transform: Any, place: str) -> Iterator[tuple[str, Any]]:
    name = type(transform).__name__
    if name in SEQUENCES[:2]:
        count = len(list(transform.children()))
        if transform.random_apply not in (False, (count, count), None):
            raise ValueError(
                f"from_kornia: `transform` must be without random_apply, got {transform.random_apply!r}. Use "
                "gpuaug.RandomChoice or RandomOrder."
            )
        if getattr(transform, "_same_on_batch", None):
            raise ValueError("from_kornia: `transform` must be without same_on_batch, got True. Each image has a draw.")
    if isinstance(transform, (list, tuple)) or name in SEQUENCES:
        children = transform if isinstance(transform, (list, tuple)) else transform.children()
        for number, child in enumerate(children):
            yield from _leaves(child, f"{place}[{number}]")
        return
    yield place, transform


def from_kornia(transform: object) -> Conversion:
    """Convert augmentations of Kornia to a list of gpuaug's: `Augment(train=from_kornia(sequential))`.

    Converted are the operations that both have: flips, crops, Resize, RandomRotation, RandomAffine without shifts,
    ColorJitter, RandomHue, RandomGrayscale, RandomInvert, RandomPosterize, RandomSolarize, RandomEqualize,
    RandomAutoContrast, RandomSharpness, RandomGaussianBlur, RandomMotionBlur, RandomChannelShuffle and Normalize, which
    becomes ToDtype and Normalize: gpuaug takes uint8 images. Without Normalize the result is uint8.

    Args:
        transform: An augmentation, AugmentationSequential, ImageSequential, nn.Sequential, or a list of these.

    Returns:
        The list of gpuaug's transforms, with a `report`.

    Raises:
        ValueError: If steps cannot be converted. The message names all of them.
    """
    return convert_all("from_kornia", "Kornia", list(_leaves(transform, "")), RULES, REMEDIES)
