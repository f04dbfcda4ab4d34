"""JPEG artefacts, batched: the pixels after encoding an image at a quality and decoding it, bit for bit.

Only the lossy steps run (entropy coding is lossless), in the integer arithmetic of libjpeg(-turbo) at its defaults:
RGB -> YCbCr (jccolor.c), edge replication and 2x2 chroma averaging (jcprepct.c, jcsample.c), the 'islow' forward DCT
(jfdctint.c), rounded division by the scaled tables of ITU T.81 Annex K (jcparam.c, jcdctmgr.c), the 'islow' inverse DCT
(jidctint.c), triangle-filter chroma upsampling (jdsample.c, jdmainct.c) and YCbCr -> RGB (jdcolor.c).

Written from the algorithms. `gpuaug.kernels.numba.jpeg` gives the same bits for one sample.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from gpuaug.kernels.jpeg import (
    CB_TO_BLUE,
    CB_TO_GREEN,
    CB_WEIGHTS,
    CHROMA_TABLE,
    CR_TO_GREEN,
    CR_TO_RED,
    CR_WEIGHTS,
    LUMA_TABLE,
    LUMA_WEIGHTS,
)


@lru_cache(maxsize=16)
def _base_tables(device: torch.device) -> Tensor:
    """The two T.81 tables on `device`: int32 (2, 8, 8), luma then chroma. Copied to the device once."""
    return torch.tensor([LUMA_TABLE, CHROMA_TABLE], dtype=torch.int32, device=device).view(2, 8, 8)


def _tables(quality: Tensor) -> Tensor:
    """Quantisation steps, int32 (n, 2, 8, 8) in 1..255, for int (n,) qualities (jpeg_quality_scaling, baseline)."""
    q = quality.to(torch.int32).clamp(1, 100)
    scale = torch.where(q < 50, 5000 // q, 200 - 2 * q)
    steps = (_base_tables(quality.device) * scale.view(-1, 1, 1, 1) + 50) // 100
    return steps.clamp(1, 255)


def _odd_part(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The rotation in both DCTs (Loeffler, Ligtenberg, Moschytz), constants scaled by 2**13; int32 in and out.

    Forward: a..d are the differences x3-x4, x2-x5, x1-x6, x0-x7 and the results the frequencies 7, 5, 3, 1.
    Inverse: a..d are the frequencies 7, 5, 3, 1 and the results the odd halves of samples 3, 2, 1, 0.
    """
    z5 = (a + b + c + d) * 9633
    z1 = (a + d) * -7373
    z2 = (b + c) * -20995
    z3 = (a + c) * -16069 + z5
    z4 = (b + d) * -3196 + z5
    return a * 2446 + z1 + z3, b * 16819 + z2 + z4, c * 25172 + z2 + z3, d * 12299 + z1 + z4


def _fdct(x: Tensor, dim: int, shift: int) -> Tensor:
    """8-point forward DCT of int32 x along `dim` (of size 8), divided by 2**shift with rounding (jfdctint.c)."""
    x0, x1, x2, x3, x4, x5, x6, x7 = x.unbind(dim)
    s0, s1, s2, s3 = x0 + x7, x1 + x6, x2 + x5, x3 + x4
    t10, t11, t12, t13 = s0 + s3, s1 + s2, s1 - s2, s0 - s3
    z1 = (t12 + t13) * 4433
    f7, f5, f3, f1 = _odd_part(x3 - x4, x2 - x5, x1 - x6, x0 - x7)
    f0, f4 = (t10 + t11) << 13, (t10 - t11) << 13
    out = torch.stack((f0, f1, z1 + t13 * 6270, f3, f4, f5, z1 - t12 * 15137, f7), dim)
    return (out + (1 << (shift - 1))) >> shift


def _idct(x: Tensor, dim: int, shift: int) -> Tensor:
    """8-point inverse DCT of int32 x along `dim` (of size 8), divided by 2**shift with rounding (jidctint.c)."""
    x0, x1, x2, x3, x4, x5, x6, x7 = x.unbind(dim)
    z1 = (x2 + x6) * 4433
    t2, t3 = z1 - x6 * 15137, z1 + x2 * 6270
    t0, t1 = (x0 + x4) << 13, (x0 - x4) << 13
    e0, e1, e2, e3 = t0 + t3, t1 + t2, t1 - t2, t0 - t3
    o3, o2, o1, o0 = _odd_part(x7, x5, x3, x1)
    out = torch.stack((e0 + o0, e1 + o1, e2 + o2, e3 + o3, e3 - o3, e2 - o2, e1 - o1, e0 - o0), dim)
    return (out + (1 << (shift - 1))) >> shift


def _matrix(transform: Callable[[Tensor, int, int], Tensor]) -> list[int]:
    """(64,): the matrix of a transform, from the unit vectors: before its rounding a transform is linear."""
    return transform(torch.eye(8, dtype=torch.int32, device="cpu") << 11, 0, 11).flatten().tolist()


FORWARD, INVERSE = _matrix(_fdct), _matrix(_idct)  # row: result, column: input; scaled by 2**13


def _pad(x: Tensor, rows: int, cols: int) -> Tensor:
    """x (..., h, w) grown to (..., rows, cols) by repeating its last row and column (expand_right/bottom_edge)."""
    h, w = x.shape[-2:]
    if cols > w:
        x = torch.cat((x, x[..., -1:].expand(*x.shape[:-1], cols - w)), -1)
    if rows > h:
        x = torch.cat((x, x[..., -1:, :].expand(*x.shape[:-2], rows - h, x.shape[-1])), -2)
    return x


def _code(planes: Tensor, steps: Tensor) -> Tensor:
    """Planes int32 (n, p, h, w), values 0..255, through DCT, quantisation by steps (n, 8, 8) and back; same shape.

    All sums stay below 2**31: a quantised block has an orthonormal norm of at most 8 * (128 + 128), so no sample
    exceeds 2048 before the clamp, and 2048 * 2**18 = 2**29 (intermediate sums wrap harmlessly). The clamp is that of
    libjpeg-turbo's SIMD code, which saturates; the C range-limit table wraps beyond 512 levels.
    """
    n, p, h, w = planes.shape
    rows, cols = -(-h // 8), -(-w // 8)
    x = _pad(planes, rows * 8, cols * 8).view(n, p, rows, 8, cols, 8) - 128
    x = _fdct(_fdct(x, 5, 11), 3, 15)  # eight times the orthonormal DCT
    step = steps.view(n, 1, 1, 8, 1, 8)
    level = (x.abs() + 4 * step) // (8 * step)
    x = torch.where(x < 0, -level, level) * step
    x = _idct(_idct(x, 3, 11), 5, 18)
    return (x + 128).clamp(0, 255).view(n, p, rows * 8, cols * 8)[..., :h, :w]


def _downsample(x: Tensor) -> Tensor:
    """Chroma int32 (n, p, h, w) averaged over 2x2, to (n, p, ceil(h/2), 8 * ceil(w/16)) (h2v2_downsample).

    Columns are replicated before averaging up to whole blocks; rows only to an even count (the caller replicates the
    averaged rows). The rounding bias alternates 1, 2, 1, 2 along a row.
    """
    h, w = x.shape[-2:]
    x = _pad(x, h + h % 2, -(-w // 16) * 16)
    total = x[..., ::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, ::2] + x[..., 1::2, 1::2]
    bias = 1 + (torch.arange(total.shape[-1], dtype=torch.int32, device=x.device) & 1)
    return (total + bias) >> 2


def _upsample(x: Tensor) -> Tensor:
    """Chroma int32 (n, p, ch, cw) to (n, p, 2ch, 2cw) (h2v2_fancy_upsample: weights 9, 3, 3, 1 over 16).

    The rounding bias is 8 on even and 7 on odd columns; beyond the last real sample the edge is repeated. Up to two
    columns libjpeg repeats samples instead (h2v2_upsample).
    """
    n, p, ch, cw = x.shape
    if cw <= 2:
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)
    above = torch.cat((x[..., :1, :], x[..., :-1, :]), -2)
    below = torch.cat((x[..., 1:, :], x[..., -1:, :]), -2)
    rows = torch.stack((3 * x + above, 3 * x + below), -2).view(n, p, 2 * ch, cw)
    left = torch.cat((rows[..., :1], rows[..., :-1]), -1)
    right = torch.cat((rows[..., 1:], rows[..., -1:]), -1)
    return torch.stack(((3 * rows + left + 8) >> 4, (3 * rows + right + 7) >> 4), -1).view(n, p, 2 * ch, 2 * cw)


def _weighted(x: Tensor, weights: tuple[int, int, int]) -> Tensor:
    """Weighted sum of the channels of int32 x (n, 3, h, w)."""
    r, g, b = x.unbind(1)
    return weights[0] * r + weights[1] * g + weights[2] * b


def jpeg(canvas: Tensor, quality: Tensor) -> Tensor:
    """JPEG-encode and decode every sample at its own quality.

    Args:
        canvas: uint8 (n, C, h, w), C = 3 (RGB, coded YCbCr 4:2:0) or 1 (grey); any h, w >= 1. Not written to.
        quality: int (n,) on the same device, 1 (worst) .. 100 (best), clamped to that range as libjpeg does.

    Returns:
        uint8 (n, C, h, w), equal to torchvision's encode_jpeg + decode_jpeg.
    """
    channels, h, w = canvas.shape[1:]
    steps = _tables(quality)
    x = canvas.to(torch.int32)
    if channels == 1:
        return _code(x, steps[:, 0]).to(torch.uint8)
    if channels != 3:
        raise ValueError(f"jpeg needs 1 or 3 channels, got {channels}")
    # jccolor.c: coefficients are round(c * 2**16); 8421375 = 128.5 * 2**16 - 1.
    luma = (_weighted(x, LUMA_WEIGHTS) + 32768) >> 16
    cb = (_weighted(x, CB_WEIGHTS) + 8421375) >> 16
    cr = (_weighted(x, CR_WEIGHTS) + 8421375) >> 16
    luma = _code(luma.unsqueeze(1), steps[:, 0])[:, 0]
    chroma = _downsample(torch.stack((cb, cr), 1))
    chroma = _code(chroma, steps[:, 1])[..., : (w + 1) // 2]
    cb, cr = (_upsample(chroma)[..., :h, :w] - 128).unbind(1)
    # jdcolor.c
    r = luma + ((CR_TO_RED * cr + 32768) >> 16)
    g = luma + ((CB_TO_GREEN * cb + CR_TO_GREEN * cr + 32768) >> 16)
    b = luma + ((CB_TO_BLUE * cb + 32768) >> 16)
    return torch.stack((r, g, b), 1).clamp(0, 255).to(torch.uint8)
