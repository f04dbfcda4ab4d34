"""Shared by the kernels: opcodes, access to pixels, and arithmetic that gives the same bits on every backend.

All kernels are compiled without fused multiply-adds (`runtime/launch.py`), so `*` and `+` round separately. Where the
result must be rounded only once, the code calls `tl.fma`. A program works on a tile of pixels of one sample: with
`C` == 3 on all channels, with `C` == 1 on one channel, for images with another number of channels. Levels are int32
in registers.
"""

from __future__ import annotations

import triton
import triton.language as tl

from gpuaug import instructions, philox
from gpuaug.instructions import (
    LUMA,
    Blur,
    Box,
    Branch,
    Convolve,
    Elastic,
    Factor,
    Feature,
    Flip,
    Hue,
    Jpeg,
    KeyWord,
    MixWord,
    Noise,
    Op,
    Warp,
    WindowWord,
    bits,
)

__all__ = ["anywhere", "byte", "float_at", "gathered", "luma", "operand", "read", "rint", "tile", "wrap"]

# opcodes, as the first word of an instruction
TABLE = tl.constexpr(int(Op.TABLE))
CONTRAST = tl.constexpr(int(Op.CONTRAST))
AUTOCONTRAST = tl.constexpr(int(Op.AUTOCONTRAST))
EQUALIZE = tl.constexpr(int(Op.EQUALIZE))
SATURATION = tl.constexpr(int(Op.SATURATION))
GRAYSCALE = tl.constexpr(int(Op.GRAYSCALE))
HUE = tl.constexpr(int(Op.HUE))
PERMUTE = tl.constexpr(int(Op.PERMUTE))
SHARPNESS = tl.constexpr(int(Op.SHARPNESS))
WARP = tl.constexpr(int(Op.WARP))
FLIP = tl.constexpr(int(Op.FLIP))
BLUR = tl.constexpr(int(Op.BLUR))
CONVOLVE = tl.constexpr(int(Op.CONVOLVE))
NOISE = tl.constexpr(int(Op.NOISE))
JPEG = tl.constexpr(int(Op.JPEG))
ERASE = tl.constexpr(int(Op.ERASE))
BRANCH = tl.constexpr(int(Op.BRANCH))
JOIN = tl.constexpr(int(Op.JOIN))
MERGE = tl.constexpr(int(Op.MERGE))
ELASTIC = tl.constexpr(int(Op.ELASTIC))
# bits of MAY. They are the left operand of `&`: in the interpreter MAY is an int, which has no `&` for a constexpr
HAS_TABLE = tl.constexpr(bits([Op.TABLE]))
HAS_CONTRAST = tl.constexpr(bits([Op.CONTRAST]))
HAS_AUTOCONTRAST = tl.constexpr(bits([Op.AUTOCONTRAST]))
HAS_EQUALIZE = tl.constexpr(bits([Op.EQUALIZE]))
HAS_SATURATION = tl.constexpr(bits([Op.SATURATION]))
HAS_GRAYSCALE = tl.constexpr(bits([Op.GRAYSCALE]))
HAS_HUE = tl.constexpr(bits([Op.HUE]))
HAS_PERMUTE = tl.constexpr(bits([Op.PERMUTE]))
HAS_SHARPNESS = tl.constexpr(bits([Op.SHARPNESS]))
HAS_WARP = tl.constexpr(bits([Op.WARP]))
HAS_FLIP = tl.constexpr(bits([Op.FLIP]))
HAS_CONVOLVE = tl.constexpr(bits([Op.CONVOLVE]))
HAS_NOISE = tl.constexpr(bits([Op.NOISE]))
HAS_ERASE = tl.constexpr(bits([Op.ERASE]))
HAS_BRANCH = tl.constexpr(bits([Op.BRANCH]))
HAS_JOIN = tl.constexpr(bits([Op.JOIN]))
HAS_MERGE = tl.constexpr(bits([Op.MERGE]))
HAS_STATISTICS = tl.constexpr(bits([Op.CONTRAST, Op.AUTOCONTRAST, Op.EQUALIZE]))
HAS_BICUBIC = tl.constexpr(bits([Feature.BICUBIC]))
HAS_BILINEAR = tl.constexpr(bits([Feature.BILINEAR]))
HAS_PROJECTIVE = tl.constexpr(bits([Feature.PROJECTIVE]))

# operands
FACTOR, REST = tl.constexpr(int(Factor.FACTOR)), tl.constexpr(int(Factor.REST))
TURN = tl.constexpr(int(Hue.TURN))
MATRIX, INTERPOLATION = tl.constexpr(int(Warp.MATRIX)), tl.constexpr(int(Warp.INTERPOLATION))
HAS_FILL, PROJECTIVE = tl.constexpr(int(Warp.HAS_FILL)), tl.constexpr(int(Warp.PROJECTIVE))
KEY, SCALE, TAPS = tl.constexpr(int(Elastic.KEY)), tl.constexpr(int(Elastic.SCALE)), tl.constexpr(int(Elastic.TAPS))
HORIZONTAL, VERTICAL = tl.constexpr(int(Flip.HORIZONTAL)), tl.constexpr(int(Flip.VERTICAL))
WEIGHTS_ACROSS, WEIGHTS_DOWN = tl.constexpr(int(Blur.WIDTH)), tl.constexpr(int(Blur.HEIGHT))
SIZE, BORDER = tl.constexpr(int(Convolve.SIZE)), tl.constexpr(int(Convolve.BORDER))
MEAN, SIGMA = tl.constexpr(int(Noise.MEAN)), tl.constexpr(int(Noise.SIGMA))
CLIP, OP = tl.constexpr(int(Noise.CLIP)), tl.constexpr(int(Noise.OP))
QUALITY = tl.constexpr(int(Jpeg.QUALITY))
TOP, LEFT = tl.constexpr(int(Box.TOP)), tl.constexpr(int(Box.LEFT))
HEIGHT, WIDTH = tl.constexpr(int(Box.HEIGHT)), tl.constexpr(int(Box.WIDTH))
WEIGHT = tl.constexpr(int(Branch.WEIGHT))

# words of an instruction, and of a row
OPCODE_AT, ERASE_WORDS = tl.constexpr(instructions.OPCODE_AT), tl.constexpr(instructions.ERASE_WORDS)
OPERANDS_AT, FILL_AT = tl.constexpr(instructions.OPERANDS_AT), tl.constexpr(instructions.FILL_AT)
KEY_LOW, KEY_HIGH = tl.constexpr(int(KeyWord.KEY_LOW)), tl.constexpr(int(KeyWord.KEY_HIGH))
LOOK = tl.constexpr(int(KeyWord.LOOK))
INDEX_LOW, INDEX_HIGH = tl.constexpr(int(KeyWord.INDEX_LOW)), tl.constexpr(int(KeyWord.INDEX_HIGH))
WINDOW_RESIZED, WINDOW_START = tl.constexpr(int(WindowWord.RESIZED)), tl.constexpr(int(WindowWord.START))
WINDOW_FLIP, WINDOW_OFFSET = tl.constexpr(int(WindowWord.FLIP)), tl.constexpr(int(WindowWord.OFFSET))
WINDOW_SOURCE_WIDTH = tl.constexpr(int(WindowWord.SOURCE_WIDTH))
MIX_PARTNER, MIX_BOX = tl.constexpr(int(MixWord.PARTNER)), tl.constexpr(int(MixWord.BOX))
MIX_WEIGHT, MIX_REST = tl.constexpr(int(MixWord.WEIGHT)), tl.constexpr(int(MixWord.REST))
MIX_SHARE = tl.constexpr(int(MixWord.SHARE))

# constants
NEAREST = tl.constexpr(instructions.NEAREST)
NEAREST_EXACT = tl.constexpr(instructions.NEAREST_EXACT)
BILINEAR = tl.constexpr(instructions.BILINEAR)
BICUBIC = tl.constexpr(instructions.BICUBIC)
CONSTANT = tl.constexpr(instructions.CONSTANT)
EDGE = tl.constexpr(instructions.EDGE)
REFLECT = tl.constexpr(instructions.REFLECT)
CIRCULAR = tl.constexpr(instructions.CIRCULAR)
FRACTION = tl.constexpr(instructions.FRACTION)
LINE_FRACTION = tl.constexpr(instructions.LINE_FRACTION)
SMALL = tl.constexpr(instructions.SMALL)
CUBIC = tl.constexpr(instructions.CUBIC)
PIXELS = tl.constexpr(philox.PIXELS)
LUMA_R, LUMA_G, LUMA_B = tl.constexpr(LUMA[0]), tl.constexpr(LUMA[1]), tl.constexpr(LUMA[2])


@triton.jit
def tile(width, BH: tl.constexpr, BW: tl.constexpr):
    """Rows (BH, 1) and columns (1, BW) of this program's tile. The first grid axis numbers the tiles, row by row."""
    across = tl.cdiv(width, BW)
    number = tl.program_id(0)
    y = (number // across) * BH + tl.arange(0, BH)
    x = (number % across) * BW + tl.arange(0, BW)
    return y[:, None], x[None, :]


@triton.jit
def float_at(pointer):
    """Load the words at `pointer` as float32."""
    return tl.load(pointer).to(tl.float32, bitcast=True)


@triton.jit
def operand(instruction, number: tl.constexpr):
    """Operand `number` of the instruction at `instruction`."""
    return float_at(instruction + OPERANDS_AT + number)


@triton.jit
def rint(x):
    """Round half to even, for |x| below 2**22: adding 1.5 * 2**23 leaves no fraction bits."""
    return (x + 12582912.0) - 12582912.0


@triton.jit
def byte(x):
    """Convert a float to a level as torchvision does: clamp, then truncate."""
    return tl.minimum(tl.maximum(x, 0.0), 255.0).to(tl.int32)


@triton.jit
def luma(r, g, b):
    """The grey level, a whole number in float32."""
    red = r.to(tl.float32) * LUMA_R
    green = tl.fma(g.to(tl.float32), tl.full(g.shape, LUMA_G, tl.float32), red)
    return tl.floor(tl.fma(b.to(tl.float32), tl.full(b.shape, LUMA_B, tl.float32), green))


@triton.jit
def anywhere(base, index):
    """base + index: pointers (rows, columns) to any addresses, read by neighbouring threads along a row.

    If neither axis seems contiguous, Triton 3.6 places the threads of a warp along the columns. Then memory access is
    slow, and the layout changes before the next store. So the code declares that pairs are contiguous, but not
    aligned; each element is still loaded separately.
    """
    pointers = base + index
    if pointers.shape[1] > 1:
        pointers = tl.max_contiguous(tl.multiple_of(pointers, [1, 1]), [1, 2])
    return pointers


@triton.jit
def read(canvas, index, mask, plane, C: tl.constexpr):
    """Load levels at `index` from the first channel and, if C is 3, from the next two; zero where not `mask`."""
    a = tl.load(canvas + index, mask, other=0).to(tl.int32)
    b = a
    c = a
    if C == 3:
        b = tl.load(canvas + plane + index, mask, other=0).to(tl.int32)
        c = tl.load(canvas + 2 * plane + index, mask, other=0).to(tl.int32)
    return a, b, c


@triton.jit
def gathered(canvas, index, mask, plane, C: tl.constexpr):
    """As `read`, for pixels that may be anywhere."""
    a = tl.load(anywhere(canvas, index), mask, other=0).to(tl.int32)
    b = a
    c = a
    if C == 3:
        b = tl.load(anywhere(canvas + plane, index), mask, other=0).to(tl.int32)
        c = tl.load(anywhere(canvas + 2 * plane, index), mask, other=0).to(tl.int32)
    return a, b, c


@triton.jit
def write(out, index, mask, plane, a, b, c, C: tl.constexpr):
    """Store levels at `index`, in the layout of `read`."""
    tl.store(out + index, a.to(out.dtype.element_ty), mask)
    if C == 3:
        tl.store(out + plane + index, b.to(out.dtype.element_ty), mask)
        tl.store(out + 2 * plane + index, c.to(out.dtype.element_ty), mask)


@triton.jit
def wrap(i, size, border):
    """The pixel at index `i` of an axis with a border of at most `size` - 1; undefined outside for CONSTANT."""
    clamped = tl.minimum(tl.maximum(i, 0), size - 1)
    mirrored = tl.where(i < 0, -i, tl.where(i >= size, 2 * size - 2 - i, i))
    around = tl.where(i < 0, i + size, tl.where(i >= size, i - size, i))
    at = tl.where(border == REFLECT, mirrored, tl.where(border == CIRCULAR, around, clamped))
    return tl.minimum(tl.maximum(at, 0), size - 1)
