"""Crops by sums of four products of bytes (kernels/numba/crop_dot.py): the bits of the twin, wherever it serves."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import gpuaug as ga

numba = pytest.importorskip("numba")

from gpuaug.kernels.numba import crop_dot  # noqa: E402
from gpuaug.kernels.numba.llvm.dot import DOT  # noqa: E402
from gpuaug.kernels.numba.runtime.jit import kernel  # noqa: E402

needs_dot = pytest.mark.skipif(not DOT, reason="the processor has no AVX-512 with VBMI and VNNI")
LAYOUTS = ("planar", "interleaved", "ragged", "strided")


def source(layout: str, channels: int, height: int, width: int, count: int = 6) -> Tensor | ga.Ragged:
    generator = torch.Generator().manual_seed(width)
    images = torch.randint(0, 256, (count, channels, height, 2 * width), dtype=torch.uint8, generator=generator)
    images[::2] = torch.where(images[::2] < 128, 0, 255)  # the largest sums
    if layout == "strided":  # every other column
        return images[..., ::2]
    images = images[..., :width].contiguous()
    if layout == "interleaved":
        return images.contiguous(memory_format=torch.channels_last)
    return ga.Ragged.from_images(list(images)) if layout == "ragged" else images


def check(steps: list[Any], images: Tensor | ga.Ragged) -> None:
    index = torch.arange(len(images))
    result, twin = (ga.Augment(steps, seed=3, backend=name)(images, index=index) for name in ("numba", "torch"))
    assert torch.equal(result, twin)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 3, 4, 18])
@pytest.mark.parametrize("size", [63, 64, 65, 100, (70, 224), (224, 129)])
def test_layouts_and_sizes(layout: str, channels: int, size: Any) -> None:
    images = source(layout, channels, 90, 120)
    check([ga.RandomResizedCrop(size, scale=(0.05, 1.0)), ga.RandomHorizontalFlip(0.5)], images)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(("height", "width"), [(9, 5), (40, 70), (150, 210), (300, 230), (70, 700)])
def test_filters_and_scales(layout: str, mode: str, antialias: bool, height: int, width: int) -> None:
    images = source(layout, 3, height, width, 3)
    check([ga.Resize((80, 72), interpolation=mode, antialias=antialias), ga.RandomHorizontalFlip(0.5)], images)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_windows_that_reach_beyond_the_image(layout: str, mode: str) -> None:
    images = source(layout, 3, 60, 90)
    crop = ga.RandomCrop(96, padding=[30, 17], fill=9, padding_mode=mode)
    check([ga.Resize((80, 90)), crop, ga.RandomHorizontalFlip(0.5), ga.RandomVerticalFlip(0.5)], images)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_windows_that_show_a_part(layout: str) -> None:
    check([ga.Resize(150), ga.CenterCrop(96)], source(layout, 3, 97, 203))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_columns_too_far_apart(interpolation: str) -> None:
    """More than about three pixels from one column to the next are left to the other passes."""
    for width in (500, 640, 2000):
        check([ga.Resize((64, 128), interpolation=interpolation)], source("ragged", 3, 40, width, 2))


AT_THE_END = """
import ctypes, mmap
import torch
import gpuaug as ga

pages = 40
area = mmap.mmap(-1, pages * mmap.PAGESIZE)
address = ctypes.addressof(ctypes.c_char.from_buffer(area))
usable = (pages - 1) * mmap.PAGESIZE
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address + usable), mmap.PAGESIZE, 0) == 0
whole = torch.frombuffer(area, dtype=torch.uint8, count=usable)
whole.random_(0, 256)
images = whole[-4 * 3 * 90 * 120 :].view(4, 3, 90, 120)
ragged = ga.Ragged(images.flatten(), [(90, 120)] * 4, 3)
for source, copied in (
    (images, images.clone()), (ragged, ga.Ragged(ragged.data.clone(), ragged.sizes, 3)),
    (images.view(4, 90, 120, 3).permute(0, 3, 1, 2), images.clone().view(4, 90, 120, 3).permute(0, 3, 1, 2)),
):
    for steps in ([ga.RandomResizedCrop(96, scale=(0.3, 1.0))], [ga.Resize((64, 70))], [ga.Resize((300, 400))]):
        for interpolation in ("bilinear", "bicubic"):
            augment = ga.Augment([steps[0].replace(interpolation=interpolation)], seed=0, backend="numba")
            for start in range(0, 80, 4):
                draw = augment.sample(source, index=torch.arange(start, start + 4))
                assert torch.equal(augment.render(source, draw), augment.render(copied, draw))
print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="protects a page as Linux does")
def test_nothing_is_read_behind_the_batch() -> None:
    """The page behind the last pixel cannot be read: a vector that reaches into it ends the process."""
    done = subprocess.run([sys.executable, "-c", AT_THE_END], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "done"), done.stderr


@needs_dot
def test_who_is_served() -> None:
    """Otherwise the tests above would prove nothing of these passes."""
    assert all(_arranged(width, n_in) for width, n_in in ((224, 224 * 3), (224, 100), (64, 64), (224, 3)))
    assert not any(_arranged(width, n_in) for width, n_in in ((224, 224 * 4), (100, 5000)))


def _arranged(width: int, n_in: int, step: int = 3) -> bool:
    scale = n_in / width
    first = np.minimum((np.arange(width) * scale).astype(np.int32), n_in - 1)
    count = np.minimum(np.full(width, 2 * int(np.ceil(scale)) + 1, np.int32), n_in - first).astype(np.int32)
    row = int(count.max()) + 1
    table = np.zeros(width * row + 4, np.int16)
    pitch = (width + 15) // 16 * 16
    lanes = np.zeros(crop_dot.lanes_size(width), np.int32)
    values = np.zeros(32 * (crop_dot.CHUNKS + 1), np.int32)
    chunks = (int(count.max()) + 3) // 4
    return bool(
        _arrange(
            np.arange(width, dtype=np.int32), np.zeros(pitch, np.int32), first, count, 0, n_in, width, row, chunks,
            table, np.int32(14), step, lanes, values,
        )
    )  # fmt: skip


@kernel
def _arrange(
    pixels: Any, columns: Any, first: Any, counts: Any, lo: int, n_in: int, width: int, row: int, chunks: int,
    table: Any, precision: Any, step: int, lanes: Any, values: Any,
) -> bool:  # fmt: skip
    return crop_dot.arrange(  # type: ignore[no-any-return]
        pixels, columns, first, counts, lo, n_in, width, row, chunks, table, precision, step, lanes, values
    )
