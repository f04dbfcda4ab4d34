"""What torchvision (and where it has nothing, grid_sample or Kornia) answers for one image and one sample's parameters.

Every function takes (op, image, sample): the transform, uint8 (C, H, W), and one row of the params it drew.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F
from torchvision.transforms.v2.functional import _color as color
from torchvision.transforms.v2.functional import _geometry as geometry

import gpuaug as ga
from gpuaug import philox
from gpuaug.kernels.torch.elastic import shifts
from gpuaug.transforms.base import Canvas
from gpuaug.transforms.policy import NAMES

Sample = dict[str, Any]
Answer = Callable[[Any, Tensor, Sample], Tensor]


@dataclass(frozen=True)
class Tolerance:
    """How many levels a value may be off; `ties`: on either side of a tie between pixels is right."""

    levels: float = 0
    ties: bool = False


EXACT, WITHIN_1, NEAREST = Tolerance(), Tolerance(levels=1), Tolerance(ties=True)
WARP = {"nearest": NEAREST, "bilinear": WITHIN_1, "bicubic": WITHIN_1}
TIE = 1e-3  # pixels; torchvision's float32 grid is off by up to 2e-4 at 224

# elsewhere torchvision resizes bilinearly in float32 and rounds; where it is native, the contract is every bit
NATIVE = geometry._do_native_uint8_resize_on_cpu(InterpolationMode.BILINEAR)


def mode(op: Any) -> InterpolationMode:
    return InterpolationMode(op.interpolation)


def fill(op: Any) -> Any:
    return list(op.fill) if isinstance(op.fill, tuple) else op.fill


def resize_tolerance(op: Any, _: Sample) -> Tolerance:
    return EXACT if NATIVE or op.interpolation != "bilinear" else WITHIN_1


def warp_tolerance(op: Any, _: Sample) -> Tolerance:
    return WARP[op.interpolation]


def crop_resized(op: ga.RandomResizedCrop, image: Tensor, sample: Sample) -> Tensor:
    size = [op.size, op.size] if isinstance(op.size, int) else list(op.size)
    return F.resized_crop(image, *map(int, sample["box"]), size, mode(op), op.antialias)


def crop_padded(op: ga.RandomCrop, image: Tensor, sample: Sample) -> Tensor:
    theirs = v2.RandomCrop(op.size, op.padding, op.pad_if_needed, fill(op), op.padding_mode)
    params = theirs.make_params([image])
    left, top, *_ = params["padding"] if params["needs_pad"] else (0, 0)
    padded = F.pad(image, params["padding"], fill(op), op.padding_mode) if params["needs_pad"] else image
    y, x = int(sample["start"][0]) + top, int(sample["start"][1]) + left
    height, width = F.get_size(padded)  # of an image, or the one that boxes belong to
    assert 0 <= y <= height - params["height"]
    assert 0 <= x <= width - params["width"]
    return F.crop(padded, y, x, params["height"], params["width"])


def bicubic(op: Any, image: Tensor, matrix: Sequence[float]) -> Tensor:
    """grid_sample's bicubic on torchvision's grid, for an inverse matrix."""
    height, width = image.shape[-2:]
    theta = torch.tensor(matrix, dtype=torch.float32).reshape(1, 2, 3)
    return sampled(op, image, geometry._affine_grid(theta, w=width, h=height, ow=width, oh=height))


def sampled(op: Any, image: Tensor, grid: Tensor) -> Tensor:
    values = geometry._apply_grid_transform(image.float(), grid, "bicubic", fill(op))
    return values.round().clamp(0, 255).to(torch.uint8)


def center(op: Any, image: Tensor) -> list[float]:
    height, width = image.shape[-2:]
    return [0.0, 0.0] if op.center is None else [op.center[0] - width * 0.5, op.center[1] - height * 0.5]


def rotated(op: ga.RandomRotation, image: Tensor, sample: Sample) -> Tensor:
    degrees = float(sample["degrees"])
    if op.interpolation == "bicubic":
        matrix = geometry._get_inverse_affine_matrix(center(op, image), -degrees, [0.0, 0.0], 1.0, [0.0, 0.0])
        return bicubic(op, image, matrix)
    return F.rotate(image, degrees, mode(op), center=op.center and list(op.center), fill=fill(op))


def affine(op: ga.RandomAffine, image: Tensor, sample: Sample) -> Tensor:
    shift, shear = [int(value) for value in sample["translate"]], [float(value) for value in sample["shear"]]
    degrees, scale = float(sample["degrees"]), float(sample["scale"])
    if op.interpolation == "bicubic":
        moves = [float(value) for value in shift]
        return bicubic(op, image, geometry._get_inverse_affine_matrix(center(op, image), degrees, moves, scale, shear))
    return F.affine(image, degrees, shift, scale, shear, mode(op), fill(op), op.center and list(op.center))


def perspective(op: ga.RandomPerspective, image: Tensor, sample: Sample) -> Tensor:
    height, width = F.get_size(image)
    start = [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]
    end = sample["corners"].astype(int).tolist()
    if op.interpolation == "bicubic":
        coefficients = geometry._get_perspective_coeffs(start, end)
        grid = geometry._perspective_grid(coefficients, width, height, torch.float32, torch.device("cpu"))
        return sampled(op, image, grid)
    return F.perspective(image, start, end, mode(op), fill(op))


def bent(op: ga.ElasticTransform, image: Tensor, sample: Sample) -> Tensor:
    moved = displacement(op, sample, *F.get_size(image))
    if op.interpolation == "bicubic":  # torchvision's has no clamp, and wraps around
        return sampled(op, image, geometry._create_identity_grid(F.get_size(image), moved.device, moved.dtype) + moved)
    return F.elastic(image, moved, mode(op), fill(op))


def displacement(op: ga.ElasticTransform, sample: Sample, height: int, width: int) -> Tensor:
    """(1, H, W, 2) in torchvision's units, of which 2 are the width or height; test_elastic.py compares it."""
    params = {"noise": np.asarray(sample["noise"])[None]}
    (instruction,) = op.replace(fill=0).instructions(params, Canvas(np.array([[height, width]]), 1))
    moved = shifts(instruction.operands, instruction.kernel, (height, width), torch.device("cpu"))
    return moved.permute(0, 2, 3, 1) * 2 / torch.tensor([width, height])


def drawn_displacement(op: ga.ElasticTransform, sample: Sample, height: int, width: int) -> Tensor:
    """(1, H, W, 2) as torchvision makes it of the noise of one sample, which is from the numpy Philox."""
    count = 2 * height * width
    counter = np.arange(-(-count // 8), dtype=np.uint64)
    key = [np.full_like(counter, number) for number in sample["noise"].tolist()]
    words = np.stack(philox.philox(counter, *key, 0), axis=1)
    halves = np.stack([words & np.uint64(0xFFFF), words >> np.uint64(16)], axis=-1).reshape(-1)[:count]
    uniforms = torch.from_numpy(halves.astype(np.float32) / 2**16).reshape(2, 1, 1, height, width)
    theirs = v2.ElasticTransform(*([*each] if isinstance(each, tuple) else each for each in (op.alpha, op.sigma)))
    with mock.patch("torch.rand", side_effect=list(uniforms)):
        found: Tensor = theirs.make_params([torch.empty(1, height, width)])["displacement"]
    return found


def jitter(op: ga.ColorJitter, image: Tensor, sample: Sample) -> Tensor:
    for number in sample["order"]:
        name = ("brightness", "contrast", "saturation", "hue")[number]
        if f"{name}_factor" in sample:
            adjust = contrast if name == "contrast" else getattr(F, f"adjust_{name}")
            image = adjust(image, float(sample[f"{name}_factor"]))
    return image


def distorted(op: ga.RandomPhotometricDistort, image: Tensor, sample: Sample) -> Tensor:
    """By torchvision's own order of the changes."""
    factors = [float(sample[f"{name}_factor"]) for name in ("brightness", "contrast", "saturation", "hue")]
    given: list[Any] = [*factors, sample["permutation"].tolist()]
    names = ("brightness_factor", "contrast_factor", "saturation_factor", "hue_factor", "channel_permutation")
    changed = zip(names, given, sample["changed"], strict=True)
    params = {name: value if gate else None for name, value, gate in changed}
    theirs = v2.RandomPhotometricDistort()
    theirs._call_kernel = lambda functional, inpt, **arguments: functional(inpt, **arguments)
    with mock.patch.object(F, "adjust_contrast", contrast_of):
        return theirs.transform(image, {**params, "contrast_before": bool(sample["contrast_before"])})


def distortion_tolerance(op: ga.RandomPhotometricDistort, sample: Sample) -> Tolerance:
    """1 level after hue, and what a contrast behind it makes of that."""
    _, contrasted, _, turned, _ = sample["changed"]
    factor = float(sample["contrast_factor"])
    after = contrasted and not sample["contrast_before"]
    return Tolerance(int(turned) * (math.ceil(factor + abs(1 - factor)) if after else 1))


def contrast_of(image: Tensor, contrast_factor: float) -> Tensor:
    return contrast(image, contrast_factor)


def contrast(image: Tensor, factor: float) -> Tensor:
    """F.adjust_contrast, but with an exact mean, and with every value rounded alike.

    ATen adds a mean of one value by vectors, and fuses multiplication and addition there; what is left over at the end
    of an image it does in parts with and in parts without. A mean repeated for each pixel is always added the first
    way. `test_contrast_is_torchvisions_but_for_two_roundings` holds the two together.
    """
    grey = image.float() if len(image) == 1 else color._rgb_to_grayscale_image(image, 1, False).floor()
    mean = grey.sum(dtype=torch.float64).float() / grey.numel()
    return color._blend(image, mean.expand_as(image).contiguous(), factor)


def jitter_tolerance(op: ga.ColorJitter, sample: Sample) -> Tolerance:
    """1 level after hue, and what the steps behind it make of that."""
    levels = 0
    for number in sample["order"]:
        name = ("brightness", "contrast", "saturation", "hue")[number]
        factor = float(sample.get(f"{name}_factor", 1.0))
        if name == "hue":
            levels = 1 if op.hue is not None else 0
        else:
            levels = math.ceil(levels * (factor + (0 if name == "brightness" else abs(1 - factor))))
    return Tolerance(levels)


def normals(sample: Sample, shape: torch.Size) -> Tensor:
    """The standard normals of one sample's pixels, from the numpy Philox."""
    count, (index,) = math.prod(shape), sample["keys"].index
    counter = np.arange(-(-count // 8), dtype=np.uint64)
    op = np.uint64(sample["op"] | philox.PIXELS) | (index >> np.uint64(32) << np.uint64(16))
    low = np.full_like(counter, index & np.uint64(philox.MASK))
    look = np.full_like(counter, sample["keys"].look[0])
    words = np.stack(philox.philox(counter, np.full_like(counter, op), low, look, sample["keys"].key), axis=1)
    halves = np.stack([words & np.uint64(0xFFFF), words >> np.uint64(16)], axis=-1).reshape(-1)[:count]
    return torch.from_numpy(philox.normal_table()[halves.astype(np.int64)]).reshape(shape)


def noisy(op: ga.GaussianNoise, image: Tensor, sample: Sample) -> Tensor:
    with mock.patch("torch.randn_like", lambda like, dtype=None: normals(sample, like.shape)):
        return F.gaussian_noise(image, op.mean, op.sigma, op.clip)


def erased(op: ga.RandomErasing, image: Tensor, sample: Sample) -> Tensor:
    for box in np.reshape(sample["box"], (-1, 4)):
        image = erased_box(op, image, sample, box)
    return image


def erased_box(op: ga.RandomErasing, image: Tensor, sample: Sample, box: Any) -> Tensor:
    top, left, height, width = (int(value) for value in box)
    if op.value == "random":
        value = normals(sample, image.shape)[:, top : top + height, left : left + width]
    else:
        value = torch.tensor(op.value, dtype=torch.float32).reshape(-1, 1, 1)
    return F.erase(image, top, left, height, width, value)


def motion(op: ga.MotionBlur, image: Tensor, sample: Sample) -> Tensor:
    import kornia  # here, as in gpuaug: the other ops are tested where it is not installed

    degrees, direction = (torch.tensor([sample[name]], dtype=torch.float32) for name in ("degrees", "direction"))
    levels = kornia.filters.motion_blur(
        image[None].float(), op.kernel_size, degrees, direction, op.border_type, op.resample
    )
    return levels[0].round().clamp(0, 255).to(torch.uint8)


def compressed(op: ga.JPEG, image: Tensor, sample: Sample) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torchvision's encoders are to move to TorchCodec
        return F.jpeg(image, int(sample["quality"]))


def policy_op(op: Any, image: Tensor, number: int, magnitude: float) -> Tensor:
    """One op of a policy, by torchvision's own switch."""
    theirs = v2.RandAugment(interpolation=mode(op), fill=fill(op))
    fills = theirs._fill
    with mock.patch.object(F, "adjust_contrast", contrast_of):
        return theirs._apply_image_or_video_transform(image, NAMES[number], float(magnitude), mode(op), fills)


def policy(op: Any, image: Tensor, sample: Sample) -> Tensor:
    for number, magnitude in zip(sample["ops"], sample["magnitude"], strict=True):
        image = policy_op(op, image, number, magnitude)
    return image


def augmix(op: ga.AugMix, image: Tensor, sample: Sample) -> Tensor:
    chains = []
    for numbers, magnitudes in zip(sample["ops"], sample["magnitude"], strict=True):
        chains.append(policy(op, image, {"ops": numbers, "magnitude": magnitudes}))
    return blended(image, chains, sample["weights"])


def blended(image: Tensor, chains: Sequence[Tensor], weights: Any) -> Tensor:
    """As AugMix.forward adds up."""
    first, *others = torch.tensor(weights, dtype=torch.float32)
    total = first * image
    for weight, chain in zip(others, chains, strict=True):
        total.add_(weight * chain)
    return total.to(torch.uint8)


def policy_tolerance(op: Any, sample: Sample) -> Tolerance | None:
    """Exact without a warp. An op behind a warp may stretch what it is off by; see `test_policies_op_by_op`."""
    warps = int(((sample["ops"] >= 1) & (sample["ops"] <= 5)).sum())
    if warps == 0:
        return EXACT
    return WARP[op.interpolation] if sample["ops"].size == 1 else None


def mixed_up(op: ga.MixUp, image: Tensor, sample: Sample) -> Tensor:
    """torchvision's own arithmetic, on a batch in which the sample before is the drawn partner."""
    pair = torch.stack([sample["batch"][sample["partner"]], image])
    lam = float(sample["weight"])
    return v2.MixUp(num_classes=2).transform(pair, {"labels": None, "batch_size": 2, "lam": lam})[1]


def cut(op: ga.CutMix, image: Tensor, sample: Sample) -> Tensor:
    pair = torch.stack([sample["batch"][sample["partner"]], image])
    height, width = image.shape[-2:]
    theirs = v2.CutMix(num_classes=2)
    place = [int(sample["place"][0] * height), int(sample["place"][1] * width)]
    theirs._dist = mock.Mock(sample=lambda _: float(sample["weight"]))
    with mock.patch("torch.randint", side_effect=[torch.tensor([place[1]]), torch.tensor([place[0]])]):  # x, then y
        params = theirs.make_params([pair])
    return theirs.transform(pair, params | {"labels": None, "batch_size": 2})[1]


def sizes(value: Any) -> list[int] | None:
    """An argument of one or more whole numbers, as the functionals take it."""
    return [value] if isinstance(value, int) else value if value is None else list(value)


def autocontrast(image: Tensor) -> Tensor:
    """Channel by channel: torchvision takes 1 or 3."""
    return torch.cat([F.autocontrast(channel) for channel in image.split(1)])


def sharpness(image: Tensor, factor: float) -> Tensor:
    return torch.cat([F.adjust_sharpness(channel, factor) for channel in image.split(1)])


def plain(function: Callable[..., Tensor], *names: str) -> Answer:
    """`function(image)`, with the op's own arguments `names` behind it."""
    return lambda op, image, sample: function(image, *(getattr(op, name) for name in names))
