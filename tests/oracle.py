"""The oracle: for every op, how to build it and torchvision's answer for ONE image with ONE sample's parameters.

A row is `answer(op, image, sample)`; `sample` is one row of the params dict that `Augment.sample` drew. Bicubic warps
come from grid_sample, MotionBlur from Kornia; torchvision has neither. `wrong` is the answer to a slightly different
question, which the comparison must tell from the right one.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unittest import mock

import kornia
import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F
from torchvision.transforms.v2.functional import _geometry as geometry

import gpuaug as ga
from gpuaug import philox
from gpuaug.program import Keys
from gpuaug.transforms.policy import NAMES

__all__ = [
    "EXACT",
    "ROWS",
    "WARP",
    "Row",
    "Tolerance",
    "answer",
    "augmix",
    "blended",
    "differs",
    "policy_op",
    "replay",
    "take",
    "wrong",
]

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


def differs(got: Tensor, expected: Tensor, tolerance: Tolerance) -> str:
    """Empty if `got` is the oracle's answer, else what is wrong."""
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return f"{got.dtype} {tuple(got.shape)} is not {expected.dtype} {tuple(expected.shape)}"
    if tolerance == EXACT and got.dtype.is_floating_point:
        same = got.view(integer(got.dtype)) == expected.view(integer(got.dtype))
        gap = (got.double() - expected.double()).abs()
    else:
        gap = (got.double() - expected.double()).abs()
        same = gap <= tolerance.levels
    missed = int((~same).sum())
    if missed == 0:
        return ""
    return f"{missed} of {same.numel()} values differ, by up to {float(gap.max()):g}; {tolerance} is allowed"


def on_ties(respond: Callable[[], list[Tensor]]) -> list[list[Tensor]]:
    """What `respond` says when torchvision's warps look a little to the left or right, and up or down."""
    original, answers = geometry._apply_grid_transform, []
    for x, y in ((-TIE, -TIE), (-TIE, TIE), (TIE, -TIE), (TIE, TIE)):

        def near(
            image: Tensor, grid: Tensor, *arguments: Any, step: tuple[float, float] = (x, y), **named: Any
        ) -> Tensor:
            height, width = image.shape[-2:]
            shift = torch.tensor([2 * step[0] / width, 2 * step[1] / height])
            return original(image, grid + shift, *arguments, **named)

        with mock.patch.object(geometry, "_apply_grid_transform", near):
            answers.append(respond())
    return answers


def integer(dtype: torch.dtype) -> torch.dtype:
    """The integer dtype to look at the bits of a float dtype with."""
    return {2: torch.int16, 4: torch.int32}[dtype.itemsize]


def take(params: dict[str, Any], number: int) -> Sample:
    """The parameters of one sample; "op" belongs to all."""
    row: Sample = {}
    for name, value in params.items():
        row[name] = take(value, number) if isinstance(value, dict) else value if name == "op" else value[number]
    return row


def answer(op: Any, image: Tensor, sample: Sample) -> Tensor:
    """torchvision's answer, or the image where the op's gate said no."""
    return ROWS[type(op)].answer(op, image, sample) if sample.get("applied", True) else image


def wrong(op: Any, image: Tensor, sample: Sample) -> Tensor:
    """An answer that is slightly off."""
    return ROWS[type(op)].wrong(op, image, sample)


def replay(augment: ga.Augment, draw: ga.Draw, images: Sequence[Tensor], last: Answer = answer) -> list[Tensor]:
    """The oracle's batch: the list's steps one after another, sample by sample; `last` answers the last step."""
    pipeline = augment.train_pipeline if draw.training else augment.eval_pipeline
    results = [image.contiguous() for image in images]
    for place, (op, params) in enumerate(zip(pipeline.steps, draw.params, strict=True)):
        respond = last if place == len(pipeline.steps) - 1 else answer
        keys = [
            {"keys": Keys(draw.keys.seed, draw.keys.epoch, draw.keys.index[b : b + 1])} for b in range(len(results))
        ]
        samples = [take(params, b) | keys[b] | {"batch": results, "number": b} for b in range(len(results))]
        results = [respond(op, image, sample) for image, sample in zip(results, samples, strict=True)]
    return [result.to(pipeline.dtype) if result.is_floating_point() else result for result in results]


# --- how to be slightly wrong -----------------------------------------------------------------------------------


def other_gate(op: Any, image: Tensor, sample: Sample) -> Tensor:
    """Applied where it was not, and the other way round."""
    return answer(op, image, {**sample, "applied": not sample["applied"]})


def moved(**amounts: float) -> Answer:
    """The sample's parameters, each moved by an amount."""

    def respond(op: Any, image: Tensor, sample: Sample) -> Tensor:
        near = {name: sample[name] + amount for name, amount in amounts.items() if name in sample}
        return answer(op, image, {**sample, **near})

    return respond


def instead(change: Callable[[Any], Any]) -> Answer:
    """Another op than the one that ran."""
    return lambda op, image, sample: answer(change(op), image, sample)


def shifted(op: Any, image: Tensor, sample: Sample) -> Tensor:
    """The right answer for an image one pixel further right."""
    return answer(op, image.roll(1, -1), sample)


# --- rows -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One op: `ops` at several strengths, and what torchvision makes of a sample."""

    ops: Sequence[Any]  # an op, or a list of steps that ends with it
    answer: Answer
    wrong: Answer = other_gate
    tolerance: Callable[[Any, Sample], Tolerance | None] = lambda op, sample: EXACT
    channels: Sequence[int] = (1, 2, 3, 4, 5)
    count: int = 7  # samples per batch


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
    assert 0 <= y <= padded.shape[1] - params["height"]
    assert 0 <= x <= padded.shape[2] - params["width"]
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
    height, width = image.shape[-2:]
    start = [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]
    end = sample["corners"].astype(int).tolist()
    if op.interpolation == "bicubic":
        coefficients = geometry._get_perspective_coeffs(start, end)
        grid = geometry._perspective_grid(coefficients, width, height, torch.float32, torch.device("cpu"))
        return sampled(op, image, grid)
    return F.perspective(image, start, end, mode(op), fill(op))


def jitter(op: ga.ColorJitter, image: Tensor, sample: Sample) -> Tensor:
    for number in sample["order"]:
        name = ("brightness", "contrast", "saturation", "hue")[number]
        if f"{name}_factor" in sample:
            image = getattr(F, f"adjust_{name}")(image, float(sample[f"{name}_factor"]))
    return image


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
    epoch = np.full_like(counter, sample["keys"].epoch)
    words = np.stack(philox.philox(counter, np.full_like(counter, op), low, epoch, sample["keys"].seed), axis=1)
    halves = np.stack([words & np.uint64(0xFFFF), words >> np.uint64(16)], axis=-1).reshape(-1)[:count]
    return torch.from_numpy(philox.normal_table()[halves.astype(np.int64)]).reshape(shape)


def noisy(op: ga.GaussianNoise, image: Tensor, sample: Sample) -> Tensor:
    with mock.patch("torch.randn_like", lambda like, dtype=None: normals(sample, like.shape)):
        return F.gaussian_noise(image, op.mean, op.sigma, op.clip)


def erased(op: ga.RandomErasing, image: Tensor, sample: Sample) -> Tensor:
    top, left, height, width = (int(value) for value in sample["box"])
    if op.value == "random":
        value = normals(sample, image.shape)[:, top : top + height, left : left + width]
    else:
        value = torch.tensor(op.value, dtype=torch.float32).reshape(-1, 1, 1)
    return F.erase(image, top, left, height, width, value)


def motion(op: ga.MotionBlur, image: Tensor, sample: Sample) -> Tensor:
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


def other_op(op: Any, image: Tensor, sample: Sample) -> Tensor:
    """Brightness for Contrast, Solarize for Posterize, and so on."""
    return answer(
        op, image, {**sample, "ops": np.clip(sample["ops"] - 1, 6, 14), "magnitude": sample["magnitude"].clip(-1, 1)}
    )


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


def chosen(op: ga.RandomChoice, image: Tensor, sample: Sample) -> Tensor:
    number = int(sample["chosen"])
    if number == len(op.transforms):
        return image
    return answer(op.transforms[number], image, inner(sample, number))


def in_turn(numbers: Callable[[Any, Sample], Sequence[int]]) -> Answer:
    """The children one after another."""

    def respond(op: Any, image: Tensor, sample: Sample) -> Tensor:
        for number in numbers(op, sample):
            image = answer(op.transforms[number], image, inner(sample, number))
        return image

    return respond


def inner(sample: Sample, number: int) -> Sample:
    return sample[str(number)] | {name: sample[name] for name in ("keys", "batch", "number")}


FLOATS = ga.ToDtype(torch.float32, scale=True)
NORMALIZE = ga.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


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


WARPS = ("nearest", "bilinear", "bicubic")
TILTED = {"degrees": (10, 160), "translate": (0.2, 0.3), "scale": (0.6, 1.7), "shear": (-20, 30, -15, 5)}

ROWS: dict[type, Row] = {
    ga.RandomHorizontalFlip: Row([ga.RandomHorizontalFlip(0.6)], plain(F.horizontal_flip)),
    ga.RandomVerticalFlip: Row([ga.RandomVerticalFlip(0.6)], plain(F.vertical_flip)),
    ga.RandomRotation: Row(
        [ga.RandomRotation(45, name, fill=fill) for name in WARPS for fill in (0, None, (200, 3, 90))]
        + [ga.RandomRotation((170, 190), name, center=(3.5, 12), fill=128) for name in WARPS],
        rotated,
        moved(degrees=5),
        warp_tolerance,
    ),
    ga.RandomAffine: Row(
        [ga.RandomAffine(**TILTED, interpolation=name, fill=fill) for name in WARPS for fill in (0, None, 77)]
        + [ga.RandomAffine(0, translate=(0.3, 0.3)), ga.RandomAffine(30, scale=(0.5, 2), center=(0, 5))],
        affine,
        moved(degrees=5),
        warp_tolerance,
    ),
    ga.RandomPerspective: Row(
        [ga.RandomPerspective(0.5, 0.7, name, fill) for name in WARPS for fill in (0, None, (1, 200, 30))]
        + [ga.RandomPerspective(1.0, 0.7, name) for name in WARPS],
        perspective,
        other_gate,
        warp_tolerance,
    ),
    ga.Resize: Row(
        [ga.Resize((20, 31), name) for name in ("nearest", "nearest-exact", "bilinear", "bicubic")]
        + [ga.Resize((61, 29), name, antialias=False) for name in ("bilinear", "bicubic")]
        + [
            ga.Resize(24),
            ga.Resize(40, max_size=50),
            ga.Resize(None, max_size=30),
            ga.Resize((33, 47)),
            ga.Resize((5, 300)),
        ],
        lambda op, image, _: F.resize(image, sizes(op.size), mode(op), op.max_size, op.antialias),
        shifted,
        resize_tolerance,
    ),
    ga.CenterCrop: Row(
        [ga.CenterCrop(20), ga.CenterCrop((33, 16)), ga.CenterCrop((50, 60)), ga.CenterCrop((17, 58))],
        lambda op, image, _: F.center_crop(image, sizes(op.size)),
        shifted,
    ),
    ga.Pad: Row(
        [ga.Pad((1, 2, 3, 4), 9, name) for name in ("constant", "edge", "reflect", "symmetric")]
        + [ga.Pad(5, (1, 2, 200)), ga.Pad((7, 0))],
        lambda op, image, _: F.pad(image, sizes(op.padding), fill(op), op.padding_mode),
        shifted,
    ),
    ga.RandomCrop: Row(
        [
            ga.RandomCrop((30, 28), 4, padding_mode=name, fill=50)
            for name in ("constant", "edge", "reflect", "symmetric")
        ]
        + [
            ga.RandomCrop(20),
            ga.RandomCrop((40, 60), pad_if_needed=True),
            ga.RandomCrop(32, (1, 2, 3, 4), fill=(1, 9, 200)),
        ],
        crop_padded,
        shifted,
    ),
    ga.RandomResizedCrop: Row(
        [
            ga.RandomResizedCrop((24, 31), interpolation=name)
            for name in ("nearest", "nearest-exact", "bilinear", "bicubic")
        ]
        + [ga.RandomResizedCrop(60, (0.01, 0.2), antialias=False), ga.RandomResizedCrop(16, (1, 2), (3, 4), "bicubic")],
        crop_resized,
        lambda op, image, sample: answer(op, image, {**sample, "box": sample["box"] + np.array([0, 1, 0, 0])}),
        resize_tolerance,
    ),
    ga.ColorJitter: Row(
        [
            *(ga.ColorJitter(0.4, 0.4, 0.4, 0.1), ga.ColorJitter(0.9, 0.9, 0.9), ga.ColorJitter(hue=(-0.5, 0.44))),
            *(ga.ColorJitter(brightness=(0, 3)), ga.ColorJitter(contrast=(0, 3)), ga.ColorJitter(saturation=(0, 3))),
        ],
        jitter,
        moved(brightness_factor=0.05, contrast_factor=0.1, saturation_factor=0.1, hue_factor=0.05),
        jitter_tolerance,
        (1, 3),
    ),
    ga.RandomGrayscale: Row(
        [ga.RandomGrayscale(0.6)], lambda op, image, _: F.rgb_to_grayscale(image, len(image)), channels=(1, 3)
    ),
    ga.Grayscale: Row(
        [ga.Grayscale(1), ga.Grayscale(3)],
        plain(F.rgb_to_grayscale, "num_output_channels"),
        shifted,
        channels=(1, 3),
    ),
    ga.RandomInvert: Row([ga.RandomInvert(0.6)], plain(F.invert)),
    ga.RandomPosterize: Row(
        [ga.RandomPosterize(bits, 0.7) for bits in range(9)],
        plain(F.posterize, "bits"),
        instead(lambda op: ga.RandomPosterize(op.bits + (1 if op.bits < 4 else -1))),
    ),
    ga.RandomSolarize: Row(
        [ga.RandomSolarize(threshold, 0.7) for threshold in (0, 0.5, 100, 127.5, 200, 255)],
        plain(F.solarize, "threshold"),
        instead(lambda op: ga.RandomSolarize(op.threshold + (50 if op.threshold < 128 else -50))),
    ),
    ga.RandomAutocontrast: Row([ga.RandomAutocontrast(0.6)], plain(autocontrast)),
    ga.RandomEqualize: Row([ga.RandomEqualize(0.6)], plain(F.equalize)),
    ga.RandomAdjustSharpness: Row(
        [ga.RandomAdjustSharpness(factor, 0.7) for factor in (0, 0.3, 1.9, 10)],
        plain(sharpness, "sharpness_factor"),
        instead(lambda op: ga.RandomAdjustSharpness(op.sharpness_factor + 0.1)),
    ),
    ga.RandomChannelPermutation: Row(
        [ga.RandomChannelPermutation()],
        lambda op, image, sample: F.permute_channels(image, sample["permutation"].tolist()),
        lambda op, image, sample: answer(op, image, {**sample, "permutation": np.roll(sample["permutation"], 1)}),
        channels=(2, 3, 4, 5),
    ),
    ga.GaussianBlur: Row(
        [ga.GaussianBlur(3), ga.GaussianBlur((9, 5), (0.5, 3)), ga.GaussianBlur(23, 4.0), ga.GaussianBlur((1, 7), 1.5)],
        lambda op, image, sample: F.gaussian_blur(image, op.kernel_size, [float(sample["sigma"])] * 2),
        lambda op, image, sample: answer(op, image, {**sample, "sigma": sample["sigma"] / 2}),
        lambda op, sample: WITHIN_1,
    ),
    ga.MotionBlur: Row(
        [ga.MotionBlur(5, 90, 0.5, border, p=0.7) for border in ("constant", "reflect", "replicate", "circular")]
        + [ga.MotionBlur(3, 45, 1), ga.MotionBlur(15, (-180, 180), (-1, 1), "replicate", "bilinear", p=0.7)],
        motion,
        moved(degrees=90),
        lambda op, sample: WITHIN_1,
    ),
    ga.GaussianNoise: Row(
        [ga.GaussianNoise(), ga.GaussianNoise(0.1, 0.02), ga.GaussianNoise(-0.2, 0.5, clip=False)],
        noisy,
        lambda op, image, sample: answer(op, image, {**sample, "op": sample["op"] + 1}),
    ),
    ga.JPEG: Row(
        [ga.JPEG(75), ga.JPEG((1, 30)), ga.JPEG((80, 100))],
        compressed,
        lambda op, image, sample: answer(op, image, {**sample, "quality": sample["quality"] % 100 + 1}),
        channels=(1, 3),
    ),
    ga.RandomErasing: Row(
        [
            ga.RandomErasing(0.7),
            ga.RandomErasing(0.7, (0.3, 0.9), (0.1, 9), value=255),
            ga.RandomErasing(value=(1, 2, 3)),
        ]
        + [[FLOATS, ga.RandomErasing(0.7, value=value)] for value in (0.0, 1.5, (0.1, 0.2, 0.7), "random")],
        erased,
        lambda op, image, sample: answer(op, image, {**sample, "box": sample["box"] + np.array([1, 1, 0, 0])}),
    ),
    ga.ToDtype: Row(
        [
            ga.ToDtype(dtype, scale)
            for dtype in (torch.float32, torch.float16, torch.bfloat16)
            for scale in (True, False)
        ]
        + [ga.ToDtype(torch.uint8)],
        lambda op, image, _: image if op.dtype == torch.uint8 else F.to_dtype(image, torch.float32, op.scale),
        shifted,
    ),
    ga.Normalize: Row(
        [
            [FLOATS, NORMALIZE],
            [FLOATS, ga.Normalize((0.4,), (0.3,))],
            [ga.ToDtype(torch.float32), ga.Normalize((100,), (-7,))],
        ]
        + [[ga.ToDtype(dtype, scale=True), NORMALIZE] for dtype in (torch.float16, torch.bfloat16)],
        lambda op, image, _: F.normalize(image, list(op.mean), list(op.std)),
        instead(lambda op: ga.Normalize([value + 0.05 for value in op.mean], op.std)),
    ),
    ga.RandAugment: Row(
        [
            ga.RandAugment(),
            ga.RandAugment(3, 30, fill=(124, 116, 104)),
            ga.RandAugment(1, 14, interpolation="bilinear", fill=0),
        ],
        policy,
        other_op,
        policy_tolerance,
        (1, 3),
        20,
    ),
    ga.AutoAugment: Row(
        [
            ga.AutoAugment(name, fill=fill)
            for name, fill in (("imagenet", None), ("cifar10", 128), ("svhn", (1, 2, 200)))
        ],
        policy,
        other_op,
        policy_tolerance,
        (1, 3),
        20,
    ),
    ga.TrivialAugmentWide: Row(
        [ga.TrivialAugmentWide(), ga.TrivialAugmentWide(11, fill=9), ga.TrivialAugmentWide(interpolation="bilinear")],
        policy,
        other_op,
        policy_tolerance,
        (1, 3),
        20,
    ),
    ga.AugMix: Row(
        [ga.AugMix(chain_depth=1), ga.AugMix(10, 2, 1, 0.5, all_ops=False, interpolation="nearest", fill=100)],
        augmix,
        lambda op, image, sample: answer(op, image, {**sample, "weights": np.roll(sample["weights"], 1)}),
        policy_tolerance,
        (1, 3),
        20,
    ),
    ga.MixUp: Row(
        [
            [FLOATS, ga.MixUp(alpha=alpha, num_classes=5, mode=mode)]
            for alpha in (0.2, 1)
            for mode in ("batch", "pair", "elem")
        ],
        mixed_up,
        moved(weight=0.05),
    ),
    ga.CutMix: Row(
        [
            [FLOATS, ga.CutMix(alpha=alpha, num_classes=5, mode=mode)]
            for alpha in (0.2, 1)
            for mode in ("batch", "pair", "elem")
        ],
        cut,
        moved(weight=-0.3),
    ),
    ga.RandomApply: Row(
        [
            ga.RandomApply(
                [ga.RandomInvert(), ga.RandomApply([ga.RandomEqualize(0.4), ga.RandomVerticalFlip()], 0.8)], 0.6
            )
        ],
        in_turn(lambda op, sample: range(len(op.transforms))),
    ),
    ga.RandomOrder: Row(
        [ga.RandomOrder([ga.RandomSolarize(100, 0.9), ga.RandomPosterize(3, 0.9), ga.RandomAutocontrast(0.9)])],
        in_turn(lambda op, sample: sample["order"]),
        lambda op, image, sample: answer(op, image, {**sample, "order": sample["order"][::-1]}),
    ),
    ga.RandomChoice: Row(
        [
            ga.RandomChoice(
                [ga.RandomInvert(0.8), [ga.RandomEqualize(1), ga.RandomSolarize(40, 0.5)], ga.JPEG(30)], [0.3, 0.3, 0.2]
            ),
            ga.RandomChoice([ga.RandomResizedCrop(20), ga.CenterCrop(20), ga.Resize((20, 20))]),
            [
                FLOATS,
                ga.RandomChoice(
                    [ga.MixUp(num_classes=3, mode="elem"), ga.CutMix(num_classes=3, mode="elem")], [0.4, 0.4]
                ),
            ],
        ],
        chosen,
        lambda op, image, sample: answer(op, image, {**sample, "chosen": (sample["chosen"] + 1) % len(op.transforms)}),
        channels=(1, 3),
    ),
    ga.Compose: Row([[ga.Compose([ga.RandomInvert(), ga.RandomEqualize()])]], plain(F.equalize)),  # opened by the list
}
