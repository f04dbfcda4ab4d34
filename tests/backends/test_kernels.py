"""The Triton kernels touch what they may and write what they must (long: a case for each kernel).

In the interpreter, with every load and store watched (`interpreter.Watch`): shipped tiles, images with ragged edges.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

import gpuaug as ga
from gpuaug.engine.render import render
from gpuaug.program import Op
from tests.support.backends import INTERPRETED
from tests.support.bits import BOXES, RESIZES, SINGULAR, WARPS, bits, difference, injected
from tests.support.images import LAYOUTS, batch, ragged
from tests.support.oracle import FLOATS, NORMALIZE

if not INTERPRETED:
    pytest.skip("Triton's interpreter is not at hand", allow_module_level=True)

import triton
import triton.language as tl
from triton.runtime.interpreter import InterpretedFunction

from benchmarks.evidence.interpreter import RULES, SHIPPED, AccessError, May, Watch
from gpuaug.kernels.triton.runtime import launch

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = (18, 35)  # two tiles high or three, and two wide, the last ones cut off
WIDE = (18, 70)  # more than one tile of `statistics`, too
Items = list[Any]


def lowered(
    steps: list[Any], images: Any, change: Callable[[Any], Any], finish: bool, **options: Any
) -> tuple[Items, int | None]:
    """The items of a draw, and the number of classes; without `finish` the result is the last canvas."""
    augment = ga.Augment(steps, backend="torch", **options)
    draw = augment.sample(images, index=torch.arange(3, 3 + len(images)))
    arguments = change(draw.params), draw.keys, draw.canvas, augment.exact, augment.memory_format
    items = augment._pipeline(True).lower(*arguments)
    return items if finish else [*items[:-1], replace(items[-1], finish=None)], augment.train_pipeline.num_classes


def raw(values: Tensor) -> Tensor:
    return values.contiguous().view(torch.uint8)


def check(
    steps: list[Any],
    images: Any,
    change: Callable[[Any], Any] = lambda params: params,
    labels: Tensor | None = None,
    finish: bool = False,
    edit: Callable[[Items], None] = lambda items: None,
    **options: Any,
) -> list[str]:
    """Render with shipped tiles and with whole images, watched, on memory full of two bytes; the twin is what to equal.

    Returns:
        The kernels that ran.
    """
    items, num_classes = lowered(steps, images, change, finish, **options)
    edit(items)
    expected, expected_labels = render(items, images, "torch", labels, num_classes)
    before = images.data.clone()
    for poison, tiles in ((0xA5, SHIPPED), (0x3C, dict(launch.TILES))):
        source = images if isinstance(images, ga.Ragged) else None
        with mock.patch.dict(launch.TILES, tiles), Watch(poison, source) as watch:
            got, got_labels = render(items, images, "triton", labels, num_classes)
        assert difference(got, expected) == "", f"tiles {tiles}"
        if labels is not None:
            assert got_labels is not None
            assert expected_labels is not None
            assert got_labels.dtype == expected_labels.dtype
            assert torch.equal(raw(got_labels), raw(expected_labels)), f"tiles {tiles}"
    assert torch.equal(images.data, before)
    return watch.kernels


# --- crop -------------------------------------------------------------------------------------------------------

RESAMPLES = [(name, antialias) for name in RESIZES for antialias in (True, False) if antialias or "nearest" not in name]
PADDINGS = ("constant", "edge", "reflect", "symmetric")


@pytest.mark.parametrize(("name", "antialias"), RESAMPLES)
def test_resampling(name: str, antialias: bool) -> None:
    step = ga.RandomResizedCrop(SMALL, interpolation=name, antialias=antialias)
    check([step, ga.RandomHorizontalFlip()], batch("photo", 3, 3, (47, 61)))
    check([ga.Resize((9, 35), name, antialias=antialias)], batch("noise", 1, 1, (11, 70)))


@pytest.mark.parametrize("mode", PADDINGS)
def test_padding(mode: str) -> None:
    flips = [ga.RandomHorizontalFlip(), ga.RandomVerticalFlip()]
    check([ga.RandomCrop((37, 70), 6, padding_mode=mode, fill=(7, 90, 200)), *flips], batch("photo", 2, 3, (33, 66)))
    check([ga.Resize((14, 30)), ga.Pad((1, 2, 4, 2), 9, mode), *flips], batch("photo", 3, 1, (23, 21)))


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_ragged(channels: int) -> None:
    images = ragged("noise", channels, [(20, 31), (33, 9), (1, 7), (40, 71)])
    check([ga.RandomResizedCrop(SMALL), ga.RandomVerticalFlip()], images)
    check([ga.CenterCrop(SMALL), ga.RandomHorizontalFlip()], images)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_strided_sources(layout: str) -> None:
    for channels, size in ((3, (7, 35)), (5, (3, 4))):
        images = LAYOUTS[layout](batch("photo", 2, channels, (21, 38)))
        check([ga.RandomResizedCrop(size)], images)
        check([ga.CenterCrop((9, 40) if channels == 3 else size), ga.RandomHorizontalFlip()], images)
    check([FLOATS], images, finish=True)


@pytest.mark.parametrize("name", RESIZES)
def test_extreme_windows(name: str) -> None:
    for box in ((0, 0, 9, 11), (8, 10, 1, 1), (0, 0, 1, 11), (0, 10, 9, 1), (2, 3, 2, 3), (4, 3, 3, 5)):
        for antialias in (True, False):
            step = ga.RandomResizedCrop((3, 5), interpolation=name, antialias=antialias)
            check([step], batch("noise", 2, 1, (9, 11)), injected(box=box))


def test_long_sides() -> None:
    """More outputs of an axis than one program of `taps` finds at a time."""
    for size, source in (((2, 300), (3, 270)), ((300, 1), (310, 2))):
        check([ga.Resize(size)], batch("noise", 1, 1, source))


# --- instructions, statistics and filters ------------------------------------------------------------------------

JITTER = ga.ColorJitter(0.4, 0.4, 0.4, 0.1)
BORDERS = ("constant", "reflect", "replicate", "circular")
FLIPS = [ga.RandomVerticalFlip(), ga.RandomHorizontalFlip()]
PIXELS: list[tuple[list[Any], tuple[int, ...]]] = [
    ([JITTER], (1, 3)),
    ([ga.RandomSolarize(99, 0.7), *FLIPS], (1, 3, 5)),
    ([ga.RandomGrayscale(0.9), ga.RandomInvert()], (3,)),
    ([ga.RandomPosterize(3), ga.RandomAdjustSharpness(1.9, 0.7)], (3, 5)),
    ([ga.RandomInvert(), ga.RandomChannelPermutation()], (1, 3, 5)),
    *(([ga.MotionBlur(5, 90, 0.5, border, p=0.9)], (3,)) for border in BORDERS),
    ([ga.MotionBlur(15, (-180, 180), (-1, 1), "replicate", "bilinear", p=0.9)], (1,)),
    ([ga.GaussianBlur((9, 5), (0.5, 3)), ga.RandomSolarize(30)], (1, 3)),
    ([ga.RandomApply([ga.GaussianBlur(23, 4.0)])], (1,)),
    ([ga.RandomChoice([ga.JPEG((1, 30)), ga.JPEG((80, 100)), ga.RandomInvert(1)])], (1, 3)),
    ([ga.GaussianNoise(0.1, 0.2), ga.GaussianNoise(-0.2, 0.5, clip=False)], (1, 3, 5)),
    (
        [ga.RandomErasing(0.8, value=9), ga.RandomInvert(), ga.RandomErasing(0.7, value=255), ga.RandomInvert()],
        (1, 3, 5),
    ),
    *(([ga.RandomRotation(45, name, fill=fill)], (5 if fill else 1,)) for name in WARPS for fill in (77, None)),
    *(([ga.RandomPerspective(0.7, 1, name), ga.RandomAffine(30, (0.3, 0.3), fill=5)], (3,)) for name in WARPS),
    *(([ga.RandomApply([ga.ElasticTransform(30, 0.7, name, fill=77)], 0.7)], (3, 1)) for name in WARPS),
    ([ga.RandAugment(3, 30, fill=(124, 116, 104))], (3,)),
    ([ga.AugMix(chain_depth=2)], (3,)),
    ([ga.AugMix(interpolation="nearest", all_ops=False, chain_depth=1)], (1,)),
]
TONES = [
    [ga.RandomAutocontrast(0.7), ga.RandomEqualize(0.7), ga.ColorJitter(contrast=0.5)],
    [ga.ColorJitter(contrast=(0, 3)), ga.RandomSolarize(99), ga.RandomAutocontrast(0.7)],
    [ga.RandomRotation(30, "bilinear", fill=0), ga.RandomEqualize(0.8), ga.RandomInvert(0.5), ga.RandomEqualize(0.8)],
    [ga.RandomChoice([ga.RandomAutocontrast(1), ga.RandomEqualize(1), ga.ColorJitter(contrast=1)])],
    [ga.RandomAutocontrast(0.7), ga.RandomSolarize(99), ga.RandomEqualize(0.7)],
]


@pytest.mark.parametrize(("steps", "channels"), [pytest.param(*row, id=repr(row[0])[:60]) for row in PIXELS])
def test_pixels(steps: list[Any], channels: tuple[int, ...]) -> None:
    for count in channels:
        check(steps, batch("photo", 3 if count < 5 else 2, count, SMALL))


@pytest.mark.parametrize("steps", TONES, ids=repr)
def test_tones(steps: list[Any]) -> None:
    """Also in a run of several instructions: an instruction sees the pixels after those before it."""
    for channels in (5,) if steps == TONES[-1] else (3, 1):
        check(steps, batch("noise", 3, channels, WIDE))


def test_every_opcode_is_drawn() -> None:
    """By what `test_pixels` and `test_tones` render."""
    drawn = set[int]()
    for steps, channels in [*PIXELS, *((steps, (3,)) for steps in TONES)]:
        for count in channels:
            items, _ = lowered(steps, batch("photo", 3, count, SMALL), lambda params: params, False)
            drawn |= {
                opcode for item in items for instruction in item.instructions for opcode in instruction.opcode.tolist()
            }
    assert drawn == {value for name, value in vars(Op).items() if not name.startswith("_")}


TINY = [
    [ga.RandomResizedCrop((2, 3)), ga.RandomInvert()],
    [ga.RandomRotation(45, "bicubic"), ga.RandomEqualize(1), FLOATS],
    [ga.RandomPosterize(2), *FLIPS, ga.RandomAutocontrast(1), ga.RandomErasing(1)],
    [ga.RandomAdjustSharpness(2, 1), ga.JPEG(50), FLOATS, ga.MixUp(num_classes=2)],
    [ga.MotionBlur(3, 45, 1, "constant"), ga.GaussianNoise(), ga.ToDtype(torch.float16)],
    [ga.RandAugment(), ga.AugMix()],
]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1)])
@pytest.mark.parametrize("steps", TINY, ids=repr)
def test_tiny_images(steps: list[Any], size: tuple[int, int]) -> None:
    check(steps, batch("noise", 2, 3, size), finish=True)


@pytest.mark.parametrize("name", WARPS)
def test_extreme_matrices(name: str) -> None:
    """Coordinates far outside, infinite or no number."""
    identity, far = np.eye(3), np.eye(3) * [[1e30], [1e30], [1]]
    away, flat = np.array([[1, 0, 1e7], [0, 1, -1e7], [0, 0, 1]]), np.array([[1, 0, 0], [0, 1, 0], [0.1, 0, -1]])
    matrices = [identity, far, away, flat, np.zeros((3, 3)), np.full((3, 3), np.nan), np.full((3, 3), np.inf)]
    for fill in (7, None):

        def edit(items: Items) -> None:
            for number, matrix in enumerate(matrices):
                items[0].instructions[0].operands[number, :9] = matrix.reshape(9)

        check([ga.RandomPerspective(p=1, interpolation=name, fill=fill)], batch("noise", 7, 3, (5, 6)), edit=edit)
    for corners in SINGULAR:
        step = ga.RandomPerspective(p=1, interpolation=name, fill=7)
        check([step], batch("noise", 1, 1, SMALL), injected(corners=corners))


# --- finish and labels -------------------------------------------------------------------------------------------

DTYPES = (torch.uint8, torch.float32, torch.float16, torch.bfloat16)
FORMATS = (torch.contiguous_format, torch.channels_last)
MIXES = {"mixup": ga.MixUp(num_classes=3, mode="elem"), "cutmix": ga.CutMix(num_classes=3, mode="elem")}
LABELS = torch.tensor([2, 0, 1])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("end", ["erase", "random", *MIXES])
def test_finish(dtype: torch.dtype, memory_format: torch.memory_format, end: str) -> None:
    floats = [] if dtype == torch.uint8 else [ga.ToDtype(dtype, scale=True), NORMALIZE]
    random = [ga.RandomErasing(0.9, value="random")] if floats else []
    ends = {
        "erase": [ga.RandomErasing(0.9, value=0.25), ga.RandomErasing(0.9, value=3)],
        "random": [ga.RandomErasing(0.9, value=2), *random],
    }
    steps = [ga.RandomSolarize(99), *floats, *ends.get(end, random), *([MIXES[end]] if end in MIXES else [])]
    labels = LABELS if end in MIXES else None
    check(steps, batch("photo", 3, 3, SMALL), labels=labels, finish=True, memory_format=memory_format)


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_finish_of_any_channels(channels: int, memory_format: torch.memory_format) -> None:
    steps = [ga.RandomVerticalFlip(), FLOATS, ga.RandomErasing(0.9, value="random"), MIXES["mixup"]]
    images = batch("noise", 3, channels, (9, 17))
    check(steps, images, labels=LABELS, finish=True, memory_format=memory_format)
    check([steps[0], MIXES["cutmix"]], images, labels=LABELS, finish=True, memory_format=memory_format)


def test_mix_after_a_run() -> None:
    """The partner's run is evaluated once more, with its own instructions and tables."""
    start = [ga.RandomRotation(30), ga.RandomEqualize(0.6), ga.GaussianNoise()]
    for mix in MIXES.values():
        check([*start, FLOATS, mix], batch("photo", 3, 3, SMALL), labels=LABELS, finish=True)


@pytest.mark.parametrize("box", [*BOXES, (30, 40, 100, 100), (-5, -5, 8, 8)], ids=str)
def test_extreme_boxes(box: tuple[int, ...]) -> None:
    images = batch("noise", 1, 3, (33, 47))
    check([ga.RandomErasing(1, value=9)], images, injected(box=box), finish=True)
    check([FLOATS, ga.RandomErasing(1, value="random")], images, injected(box=box), finish=True)
    check([ga.RandomErasing(1, value=9), ga.RandomInvert()], images, _first(box), finish=True)


def _first(box: tuple[int, ...]) -> Callable[[list[Any]], list[Any]]:
    return lambda params: [*injected(box=box)(params[:1]), *params[1:]]


@pytest.mark.parametrize("weight", [0, 1, 0.5, 1e-12])
def test_extreme_weights(weight: float) -> None:
    for mix in MIXES.values():
        check([FLOATS, mix], batch("noise", 3, 3, SMALL), injected(weight=weight), LABELS, finish=True)


@pytest.mark.parametrize("classes", [1, 5, 1030])
def test_labels(classes: int) -> None:
    images = batch("noise", 4, 1, (1, 3))
    soft = torch.rand((4, classes), generator=torch.Generator().manual_seed(1))
    kinds = [soft.to(dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64)]
    kinds += [
        soft.t().contiguous().t(),
        (soft > 0.5).long(),
        torch.arange(4) % classes,
        torch.zeros(4, dtype=torch.uint8),
    ]
    for mix in (ga.MixUp(num_classes=classes, mode="elem"), ga.CutMix(num_classes=classes, mode="pair")):
        for labels in kinds if mix.mode == "elem" else kinds[:1]:
            assert "labels_kernel" in check([FLOATS, mix], images, labels=labels, finish=True)


# --- samples do not depend on one another --------------------------------------------------------------------------

EVERYTHING = [
    ga.RandomResizedCrop(SMALL),
    ga.RandomHorizontalFlip(),
    ga.RandAugment(1),
    ga.GaussianBlur(3),
    ga.RandomApply([ga.JPEG(50)]),
    ga.ElasticTransform(9.0, 0.7),
    ga.AugMix(chain_depth=1, mixture_width=1),
    ga.ToDtype(torch.bfloat16, scale=True),
    ga.RandomErasing(0.8, value="random"),
]


def test_samples_are_independent() -> None:
    images, order = batch("photo", 3, 3, (29, 41)), torch.tensor([2, 0, 1])
    with mock.patch.dict(launch.TILES, SHIPPED):
        straight, shuffled = (
            ga.Augment(EVERYTHING, seed=0, backend="triton")(images[rows], index=rows)
            for rows in (torch.arange(3), order)
        )
    assert torch.equal(bits(shuffled), bits(straight[order]))
    assert not torch.equal(bits(shuffled), bits(straight))


def kernels() -> set[str]:
    """The names of all kernels of the backend."""
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("gpuaug.kernels.triton.")]
    found = {name: value for module in modules for name, value in vars(module).items() if name.endswith("_kernel")}
    return {name for name, value in found.items() if isinstance(value, InterpretedFunction)}


def test_every_kernel_is_watched() -> None:
    mix = [ga.MixUp(num_classes=3)]
    seen = check([*EVERYTHING, *mix], batch("photo", 3, 3, (29, 41)), labels=LABELS, finish=True)
    assert set(seen) == kernels() == set(RULES)


# --- the watch can fail --------------------------------------------------------------------------------------------


@triton.jit
def toy_kernel(source, out, block, rows_at, row_words, FAULT: tl.constexpr):  # noqa: N803
    """Copies rows of 5 bytes, grid (2, B); the first program of a sample takes 3 of them, the second the others."""
    half, sample = tl.program_id(0), tl.program_id(1)
    x = half * 3 + tl.arange(0, 4)
    mask = x < tl.where(half == 0, 3, 5)
    v = tl.load(source + sample * 5 + x, mask, other=0)
    if FAULT == "beyond":
        v = tl.load(source + sample * 5 + x, x < 6, other=0)
    elif FAULT == "before":
        v = tl.load(source + sample * 5 + x - 8, mask, other=0)
    elif FAULT == "other argument":
        v = tl.load(block + sample * 5 + x, mask, other=0).to(tl.uint8)
    elif FAULT == "unwritten":
        v = tl.load(out + sample * 5 + x, mask, other=0)
    elif FAULT == "read only":
        tl.store(source + sample * 5 + x, v, mask)
    elif FAULT == "misaligned":
        v = tl.load((source + sample * 5 + 1).to(tl.pointer_type(tl.int16)) + x * 0, mask, other=0).to(tl.uint8)
    elif FAULT == "atomic":
        tl.atomic_add(block + x, 1, mask)
    if FAULT == "missing":
        tl.store(out + sample * 5 + x, v, mask & (x < 4))
    elif FAULT == "twice":
        tl.store(out + sample * 5 + x, v, x < 5)
    elif FAULT == "same place":
        tl.store(out + sample * 5 + x * 0, v, mask)
    elif FAULT == "neighbour":
        tl.store(out + (1 - sample) * 5 + x, v, mask)
    else:
        tl.store(out + sample * 5 + x, v, mask)
    if FAULT == "race":
        tl.load(out + sample * 5 + x * 0 + 2, mask)


TOY = {"toy_kernel": {"source": May.READ, "block": May.READ, "out": May.READ | May.WRITE | May.WHOLE}}
FAULTS = {
    "none": "",
    "beyond": r"load at byte 5 of `source`, program \(1, 0, 0\): outside the part of its sample",
    "before": r"load at byte -8 of `source`, program \(0, 0, 0\): outside its memory",
    "other argument": r"load at byte 20 of `block`, program \(0, 1, 0\): outside",
    "unwritten": r"load at byte 0 of `out`, program \(0, 0, 0\): nobody has written it",
    "read only": "store at byte 0 of `source`, .* not allowed",
    "misaligned": "`source`, .* not aligned",
    "atomic": "an atomic",
    "missing": r"`out`: byte 4 was written 0 times \(2 such\)",
    "twice": r"store at byte 3 of `out`, program \(1, 0, 0\): written already",
    "same place": r"store at byte 0 of `out`, program \(0, 0, 0\): written already",
    "neighbour": r"store at byte 5 of `out`, program \(0, 0, 0\): outside the part of its sample",
    "race": r"load at byte 2 of `out`, program \(1, 0, 0\): another program writes it",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_caught(fault: str) -> None:
    source, block = torch.arange(10, dtype=torch.uint8).reshape(2, 5), torch.zeros(10, dtype=torch.int32)
    with Watch(rules=TOY) as watch:
        out = torch.empty_like(source)
        arguments = (toy_kernel, (2, 2), source, out, block, 2, 4)
        if fault == "none":
            watch.launch(*arguments, FAULT=fault)
            assert torch.equal(out, source)
        else:
            with pytest.raises(AccessError, match=f"toy_kernel: .*{FAULTS[fault]}"):
                watch.launch(*arguments, FAULT=fault)


@triton.jit
def unwrapped(i, size, border):
    return i


@triton.jit
def tile_too_wide(width, BH: tl.constexpr, BW: tl.constexpr):  # noqa: N803
    y = (tl.program_id(0) // tl.cdiv(width, BW)) * BH + tl.arange(0, BH)
    x = (tl.program_id(0) % tl.cdiv(width, BW)) * BW + tl.arange(0, BW)
    return y[:, None], tl.where(x == width, 0, x)[None, :]


MUTANTS = [  # in which module, what stands for what, and what is said of it
    ("filter", "wrap", unwrapped, [ga.GaussianBlur(5, 1.0)], "blur_kernel: load at byte .* of `source`"),
    ("finish", "tile", tile_too_wide, [FLOATS], "finish_kernel: store at byte .* of `out`, .* written already"),
]


@pytest.mark.parametrize(("module", "name", "mutant", "steps", "message"), MUTANTS)
def test_mutants_are_caught(module: str, name: str, mutant: Any, steps: list[Any], message: str) -> None:
    owner, images = sys.modules[f"gpuaug.kernels.triton.{module}"], batch("noise", 2, 1, SMALL)
    with mock.patch.object(owner, name, mutant), pytest.raises(AccessError, match=message):
        check(steps, images, finish=True)


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (1, r"load at byte 595 of `canvas`, program \(2, 0, 0\): outside its memory"),
        (2, r"load at byte 595 of `canvas`, program \(2, 0, 0\): outside the part of its sample"),
    ],
)
def test_a_canvas_too_small_is_caught(count: int, message: str) -> None:
    """By one row: the last sample's programs read beyond it, the others' read their neighbours."""
    original = Watch.launch

    def shortened(watch: Watch, kernel: Any, grid: Any, canvas: Tensor, *arguments: Any, **constants: Any) -> None:
        original(watch, kernel, grid, canvas[:, :, :-1].clone(), *arguments, **constants)

    with mock.patch.object(Watch, "launch", shortened), pytest.raises(AccessError, match=f"finish_kernel: {message}"):
        check([FLOATS], batch("noise", count, 1, SMALL), finish=True)
