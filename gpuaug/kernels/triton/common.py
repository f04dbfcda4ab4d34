"""What the kernels share: the opcodes they know, reading pixels, and arithmetic that is exact on every backend.

All kernels are compiled without fused multiply-adds (`launch.py`), so `*` and `+` round each on their own; where the
contract has one rounding, `tl.fma` says so. A program works on a tile of pixels of one sample. With `C` == 3 it holds
all channels; with `C` == 1 it holds one, and images of another number of channels are taken one channel at a time.
Levels travel as int32.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gpuaug import program
from gpuaug.program import Feature, Op

__all__ = ["anywhere", "byte", "gathered", "luma", "operand", "read", "rint", "tile", "wrap"]

IDENTITY = tl.constexpr(Op.IDENTITY)
TABLE = tl.constexpr(Op.TABLE)
CONTRAST = tl.constexpr(Op.CONTRAST)
AUTOCONTRAST = tl.constexpr(Op.AUTOCONTRAST)
EQUALIZE = tl.constexpr(Op.EQUALIZE)
SATURATION = tl.constexpr(Op.SATURATION)
GRAYSCALE = tl.constexpr(Op.GRAYSCALE)
HUE = tl.constexpr(Op.HUE)
PERMUTE = tl.constexpr(Op.PERMUTE)
SHARPNESS = tl.constexpr(Op.SHARPNESS)
WARP = tl.constexpr(Op.WARP)
FLIP = tl.constexpr(Op.FLIP)
CONVOLVE = tl.constexpr(Op.CONVOLVE)
NOISE = tl.constexpr(Op.NOISE)
ERASE = tl.constexpr(Op.ERASE)
BRANCH = tl.constexpr(Op.BRANCH)
JOIN = tl.constexpr(Op.JOIN)
MERGE = tl.constexpr(Op.MERGE)
# the bits of MAY. Written first, as the interpreter hands MAY on as an int, which does not know a constexpr
HAS_AUTOCONTRAST = tl.constexpr(1 << Op.AUTOCONTRAST)
HAS_BRANCH = tl.constexpr(1 << Op.BRANCH)
HAS_CONTRAST = tl.constexpr(1 << Op.CONTRAST)
HAS_CONVOLVE = tl.constexpr(1 << Op.CONVOLVE)
HAS_EQUALIZE = tl.constexpr(1 << Op.EQUALIZE)
HAS_ERASE = tl.constexpr(1 << Op.ERASE)
HAS_FLIP = tl.constexpr(1 << Op.FLIP)
HAS_GRAYSCALE = tl.constexpr(1 << Op.GRAYSCALE)
HAS_HUE = tl.constexpr(1 << Op.HUE)
HAS_JOIN = tl.constexpr(1 << Op.JOIN)
HAS_BICUBIC = tl.constexpr(1 << Feature.BICUBIC)
HAS_BILINEAR = tl.constexpr(1 << Feature.BILINEAR)
HAS_PROJECTIVE = tl.constexpr(1 << Feature.PROJECTIVE)
HAS_MERGE = tl.constexpr(1 << Op.MERGE)
HAS_NOISE = tl.constexpr(1 << Op.NOISE)
HAS_PERMUTE = tl.constexpr(1 << Op.PERMUTE)
HAS_SATURATION = tl.constexpr(1 << Op.SATURATION)
HAS_SHARPNESS = tl.constexpr(1 << Op.SHARPNESS)
HAS_TABLE = tl.constexpr(1 << Op.TABLE)
HAS_WARP = tl.constexpr(1 << Op.WARP)

NEAREST = tl.constexpr(program.NEAREST)
NEAREST_EXACT = tl.constexpr(program.NEAREST_EXACT)
BILINEAR = tl.constexpr(program.BILINEAR)
BICUBIC = tl.constexpr(program.BICUBIC)
CONSTANT = tl.constexpr(program.CONSTANT)
EDGE = tl.constexpr(program.EDGE)
REFLECT = tl.constexpr(program.REFLECT)
CIRCULAR = tl.constexpr(program.CIRCULAR)


@triton.jit
def tile(width, BH: tl.constexpr, BW: tl.constexpr):
    """Rows (BH, 1) and columns (1, BW) of this program's tile; the first grid axis counts tiles, row by row."""
    across = tl.cdiv(width, BW)
    number = tl.program_id(0)
    y = (number // across) * BH + tl.arange(0, BH)
    x = (number % across) * BW + tl.arange(0, BW)
    return y[:, None], x[None, :]


@triton.jit
def operand(instruction, number: tl.constexpr):
    """Operand `number` of the instruction at `instruction`."""
    return tl.load(instruction + 1 + number).to(tl.float32, bitcast=True)


@triton.jit
def rint(x):
    """The nearest whole number, half to even, for |x| below 2**22: adding 1.5 * 2**23 leaves no fraction bits."""
    return (x + 12582912.0) - 12582912.0


@triton.jit
def byte(x):
    """A level as torchvision makes it: clamp, then truncate."""
    return tl.minimum(tl.maximum(x, 0.0), 255.0).to(tl.int32)


@triton.jit
def luma(r, g, b):
    """Whole levels, float32. ITU-R BT.601, as torchvision."""
    red = r.to(tl.float32) * 0.2989
    green = tl.fma(g.to(tl.float32), tl.full(g.shape, 0.587, tl.float32), red)
    return tl.floor(tl.fma(b.to(tl.float32), tl.full(b.shape, 0.114, tl.float32), green))


@triton.jit
def anywhere(base, index):
    """base + index, pointers (rows, columns) to what lies anywhere, for threads side by side along a row.

    Where neither axis looks contiguous, Triton 3.6 lets the threads of a warp go down the columns: the slow way
    through memory, and a change of layout before the next store. So it is told of pairs; as it is also told that they
    are not aligned, it still loads each by itself.
    """
    pointers = base + index
    if pointers.shape[1] > 1:
        pointers = tl.max_contiguous(tl.multiple_of(pointers, [1, 1]), [1, 2])
    return pointers


@triton.jit
def read(canvas, index, mask, plane, C: tl.constexpr):
    """Levels at `index` of the first channel and, if C is 3, of the two planes after it; zero where not `mask`."""
    a = tl.load(canvas + index, mask, other=0).to(tl.int32)
    b = a
    c = a
    if C == 3:
        b = tl.load(canvas + plane + index, mask, other=0).to(tl.int32)
        c = tl.load(canvas + 2 * plane + index, mask, other=0).to(tl.int32)
    return a, b, c


@triton.jit
def gathered(canvas, index, mask, plane, C: tl.constexpr):
    """As `read`, where the pixels of a row need not lie next to one another."""
    a = tl.load(anywhere(canvas, index), mask, other=0).to(tl.int32)
    b = a
    c = a
    if C == 3:
        b = tl.load(anywhere(canvas + plane, index), mask, other=0).to(tl.int32)
        c = tl.load(anywhere(canvas + 2 * plane, index), mask, other=0).to(tl.int32)
    return a, b, c


@triton.jit
def write(out, index, mask, plane, a, b, c, C: tl.constexpr):
    """The inverse of `read`."""
    tl.store(out + index, a.to(out.dtype.element_ty), mask)
    if C == 3:
        tl.store(out + plane + index, b.to(out.dtype.element_ty), mask)
        tl.store(out + 2 * plane + index, c.to(out.dtype.element_ty), mask)


@triton.jit
def wrap(i, size, border):
    """Where index `i`, at most `size` - 1 beyond the image, reads along an axis; anything for CONSTANT outside."""
    clamped = tl.minimum(tl.maximum(i, 0), size - 1)
    mirrored = tl.where(i < 0, -i, tl.where(i >= size, 2 * size - 2 - i, i))
    around = tl.where(i < 0, i + size, tl.where(i >= size, i - size, i))
    at = tl.where(border == REFLECT, mirrored, tl.where(border == CIRCULAR, around, clamped))
    return tl.minimum(tl.maximum(at, 0), size - 1)
