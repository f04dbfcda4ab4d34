"""Labels: the sample's label times its share, plus the partner's label times the rest."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpuaug.kernels.triton.common import (
    MIX_PARTNER,
    MIX_SHARE,
)
from gpuaug.kernels.triton.runtime.launch import launch
from gpuaug.kernels.triton.runtime.plan import Layout, Params
from gpuaug.kernels.triton.runtime.tape import empty

__all__ = ["labels", "labels_kernel"]


@triton.jit
def _soft(labels, sample, column, mask, classes, ONE_HOT: tl.constexpr):
    if ONE_HOT:
        value = tl.where(column == tl.load(labels + sample), 1.0, 0.0)
    else:
        value = tl.load(labels + sample.to(tl.int64) * classes + column, mask, other=0)
    return value


@triton.jit(do_not_specialize=["rows_at", "row_words", "mix_at"])
def labels_kernel(
    labels, out, block, rows_at, row_words, mix_at, classes, ONE_HOT: tl.constexpr, WIDTH: tl.constexpr
):  # fmt: skip
    """labels: (B,) class numbers or (B, classes); out: (B, classes) float. Every product and sum is rounded to out's
    dtype, as torch does. Grid (cdiv(classes, WIDTH), B).
    """
    sample = tl.program_id(1)
    column = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    mask = column < classes
    mix = block + rows_at + sample * row_words + mix_at
    kind = out.dtype.element_ty
    wide = tl.float64 if kind == tl.float64 else tl.float32
    low, high = tl.load(mix + MIX_SHARE).to(tl.int64) & 0xFFFFFFFF, tl.load(mix + MIX_SHARE + 1).to(tl.int64) << 32
    exact = (low | high).to(tl.float64, bitcast=True)
    share, rest = exact.to(wide), (1.0 - exact).to(wide)
    own = _soft(labels, sample, column, mask, classes, ONE_HOT).to(kind)
    other = _soft(labels, tl.load(mix + MIX_PARTNER), column, mask, classes, ONE_HOT).to(kind)
    part = (other.to(wide) * rest).to(kind).to(wide) + (own.to(wide) * share).to(kind).to(wide)
    tl.store(out + sample.to(tl.int64) * classes + column, tl.where(rest == 0, own, part.to(kind)), mask)


def labels(labels: Tensor, num_classes: int | None, layout: Layout, params: Params) -> Tensor:
    """Soft labels (B, classes) of mixed samples, as in the torch backend."""
    one_hot = labels.ndim == 1
    classes = num_classes if one_hot else labels.shape[1]
    assert classes is not None
    dtype = labels.dtype if labels.is_floating_point() and not one_hot else torch.float32
    out = empty((len(labels), classes), dtype, labels.device)
    width = min(triton.next_power_of_2(classes), 1024)
    grid = (triton.cdiv(classes, width), len(labels))
    given = labels.contiguous()
    launch(labels_kernel, grid, given, out, *params.arguments, layout.mix_at, classes, ONE_HOT=one_hot, WIDTH=width)
    return out
