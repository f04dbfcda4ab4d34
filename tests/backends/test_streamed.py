"""Large results are written past the caches: the same bits, where lines allow it and where they do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import gpuaug as ga

pytest.importorskip("numba")

from gpuaug.kernels import numba as backend
from gpuaug.kernels.numba.llvm.vectors import LINE
from gpuaug.kernels.numba.runtime import buffers


def steps(dtype: torch.dtype, size: int) -> list[Any]:
    if dtype is torch.uint8:
        return [ga.RandomCrop(size), ga.RandomInvert(0.5)]
    return [ga.RandomCrop(size), ga.ToDtype(dtype, scale=True), ga.Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.1))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("size", [8, 13, 16, 40])
def test_the_same_bits(dtype: torch.dtype, channels_last: bool, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randint(0, 256, (9, 3, 50, 60), dtype=torch.uint8)
    form = torch.channels_last if channels_last else torch.contiguous_format
    augment = ga.Augment(steps(dtype, size), seed=1, backend="numba", memory_format=form)
    draw = augment.sample(images, index=torch.arange(9))
    expected = augment.render(images, draw).clone()  # its memory is used again
    monkeypatch.setattr(backend, "STREAMED", 0)
    assert torch.equal(augment.render(images, draw), expected)


@pytest.mark.parametrize(("size", "batch", "streams"), [(224, 64, True), (224, 8, False), (225, 64, False)])
def test_who_is_streamed(size: int, batch: int, streams: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small results stay in the caches, planes that do not begin at a line cannot be written past them, and new memory
    is in them already, since it was cleared there."""
    found = []

    class Batch(backend._Batch):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            found.append((self.streams, self.result.ctypes.data % LINE))

    monkeypatch.setattr(backend, "_Batch", Batch)
    images = torch.zeros((batch, 3, size, size), dtype=torch.uint8)
    augment = ga.Augment([ga.RandomHorizontalFlip(), ga.ToDtype(torch.float32)], backend="numba")
    buffers._kept.clear()
    augment(images)
    augment(images)
    assert found == [(False, 0), (streams, 0)]
