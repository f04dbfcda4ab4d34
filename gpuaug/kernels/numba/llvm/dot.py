"""The vector code of `crop_dot`: bytes multiplied by 16-bit weights, four taps at once (AVX-512 with VBMI and VNNI).

vpdpbusd adds four products of an unsigned and a signed byte to a 32-bit sum. A weight w is 256 high + low with bytes
-128 <= high < 128 and 0 <= low < 256. With x' = x - 128, which is a signed byte,

    sum(w x) = 256 sum(high x) + sum(low x') + 128 sum(low),

where the last sum is known before any pixel is read. All of it is exact, so it equals the sum of `llvm.crop`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gpuaug.kernels.numba.llvm.lookup import VBMI
from gpuaug.kernels.numba.llvm.vectors import I8, I32, I64, address, c64, data_of, load, mask, splat

__all__ = [
    "CHUNK", "DOT", "HEAD", "ROWS", "SPAN", "START", "across_planar", "across_rgb", "down", "halves", "orders_planar",
    "orders_rgb", "spread_planar", "spread_rgb",
]  # fmt: skip

DOT = bool(VBMI and binding.get_host_cpu_features().get("avx512vnni", False))
ROWS = 4  # rows that lie together: a tap of each in one byte of 32 bits
SPAN = 64  # bytes that one vector of outputs may read for four taps
EACH = 0x01010101  # times a byte: that byte four times
START, HEAD, CHUNK = 16, 32, 48  # where the parts of a vector's lanes begin, and their lengths

BYTES, WORDS, INTS = ir.VectorType(I8, 64), ir.VectorType(ir.IntType(16), 32), ir.VectorType(I32, 16)


def _call(builder: ir.IRBuilder, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.avx512.{name}.512"), arguments)


def _accumulate(
    builder: ir.IRBuilder, sums: list[ir.Value], levels: ir.Value, high: ir.Value, low: ir.Value
) -> list[ir.Value]:
    """Add four taps to the sums of the high and of the low bytes."""
    signed = builder.xor(levels, ir.Constant(INTS, [-0x7F7F7F80] * 16))  # 0x80808080
    return [
        _call(builder, "vpdpbusd", INTS, sums[0], levels, high),
        _call(builder, "vpdpbusd", INTS, sums[1], low, signed),
    ]


def _packed(builder: ir.IRBuilder, sums: list[list[ir.Value]], precision: ir.Value) -> ir.Value:
    """Four vectors of sums as clamped bytes: in each quarter, four bytes of the first, four of the second, ..."""
    shift, eight = splat(builder, precision, 16), ir.Constant(INTS, [8] * 16)
    whole = [builder.ashr(builder.add(builder.shl(high, eight), low), shift) for high, low in sums]
    words = [_call(builder, "packssdw", WORDS, whole[k], whole[k + 1]) for k in (0, 2)]
    return _call(builder, "packuswb", BYTES, *words)


def _loop(builder: ir.IRBuilder, count: ir.Value, sums: list[list[ir.Value]], step: Any) -> list[list[ir.Value]]:
    """`step(number, sums)` for each number below count, at least once; the first time without a loop."""
    first = step(c64(0), sums)
    kept = [[cgutils.alloca_once_value(builder, one) for one in pair] for pair in first]
    with cgutils.for_range(builder, builder.sub(count, c64(1)), intp=I64) as loop:
        more = step(builder.add(loop.index, c64(1)), [[builder.load(one) for one in pair] for pair in kept])
        for pair, new in zip(kept, more, strict=True):
            for one, value in zip(pair, new, strict=True):
                builder.store(value, one)
    return [[builder.load(one) for one in pair] for pair in kept]


def _across(lines: int) -> Any:
    """16 columns of ROWS rows, from pixels of `lines` interleaved bytes to as many planes."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        src, lanes, mid = (data_of(context, builder, sig, args, n) for n in (0, 2, 6))
        rows = [builder.extract_value(args[1], r) for r in range(ROWS)]
        _, _, _, at, chunks, precision, _, to, plane = args
        zero = ir.Constant(INTS, None)
        size = builder.add(builder.mul(chunks, c64(CHUNK)), c64(HEAD))
        done = []
        for j in range(lines):
            here = builder.add(at, builder.mul(size, c64(j)))
            bias = load(builder, lanes, here, INTS, 4)
            start = builder.sext(load(builder, lanes, builder.add(here, c64(START)), I32, 4), I64)
            begins = [builder.add(row, start) for row in rows]

            def chunk(k: ir.Value, sums: list[list[ir.Value]], here: ir.Value = here, begins: Any = begins) -> Any:
                taps = builder.add(builder.add(here, c64(HEAD)), builder.mul(k, c64(CHUNK)))
                order, high, low = (load(builder, lanes, builder.add(taps, c64(16 * p)), INTS, 4) for p in range(3))
                order, further = builder.bitcast(order, BYTES), builder.mul(k, c64(4 * lines))
                found = []
                for begin, pair in zip(begins, sums, strict=True):
                    pixels = load(builder, src, builder.add(begin, further), BYTES)
                    levels = builder.bitcast(_call(builder, "permvar.qi", BYTES, pixels, order), INTS)
                    found.append(_accumulate(builder, pair, levels, high, low))
                return found

            sums = _loop(builder, chunks, [[zero, bias]] * ROWS, chunk)
            packed = _packed(builder, sums, precision)
            order = [16 * q + 4 * row + i for q in range(4) for i in range(4) for row in range(ROWS)]
            done.append(builder.bitcast(builder.shuffle_vector(packed, packed, mask(order)), INTS))
        for c in range(lines):
            found = done[0]
            if lines == 3:
                wanted = [3 * x + c for x in range(16)]
                found = builder.shuffle_vector(done[0], done[1], mask([o if o < 32 else 0 for o in wanted]))
                order = [x if o < 32 else o - 16 for x, o in enumerate(wanted)]
                found = builder.shuffle_vector(found, done[2], mask(order))
            place = builder.add(to, builder.mul(plane, c64(c)))
            builder.store(found, address(builder, mid, place, INTS)).align = 1
        return context.get_dummy_value()

    @intrinsic
    def run(typingctx, src, rows, lanes, at, chunks, precision, mid, to, plane):
        """mid[to + c * plane + 4 * x + row] = the sum of the taps of column x; `lanes` as `crop_dot` writes them."""
        i64 = types.int64
        return types.void(src, types.UniTuple(i64, ROWS), lanes, i64, i64, types.int32, mid, i64, i64), codegen

    return run


def _spread(lines: int, orders: bool) -> Any:
    """Each of 16 values in `lines` lanes of as many vectors; of places of pixels, the orders of four taps' bytes."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        values, lanes = (data_of(context, builder, sig, args, n) for n in (0, 2))
        _, at, _, base, part, distance = args
        given = load(builder, values, at, INTS, 4)
        for j in range(lines):
            numbers = [16 * j + lane for lane in range(16)]
            found = builder.shuffle_vector(given, given, mask([number // lines for number in numbers]))
            place = builder.add(base, builder.mul(distance, c64(j)))
            if orders:
                start = load(builder, lanes, builder.add(place, c64(START)), I32, 4)
                taps = [number % lines * EACH + lines * 0x03020100 for number in numbers]
                found = builder.mul(builder.sub(found, splat(builder, start, 16)), ir.Constant(INTS, [EACH] * 16))
                found = builder.add(found, ir.Constant(INTS, taps))
            to = address(builder, lanes, builder.add(place, part), INTS)
            builder.store(found, to).align = 4
        return context.get_dummy_value()

    @intrinsic
    def run(typingctx, values, at, lanes, base, part, distance):
        """lanes[base + part + j * distance + lane] = values[at + (16 j + lane) / lines]."""
        i64 = types.int64
        return types.void(values, i64, lanes, i64, i64, i64), codegen

    return run


@intrinsic
def halves(typingctx, table, at):
    """The low bytes of table[at : at + 4], int16, in the low half of 64 bits, and their high bytes in the high half."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        pairs = load(builder, data_of(context, builder, sig, args, 0), args[1], ir.VectorType(I8, 8), 2)
        return builder.bitcast(builder.shuffle_vector(pairs, pairs, mask([0, 2, 4, 6, 1, 3, 5, 7])), I64)

    return types.uint64(table, types.int64), codegen


def _down_codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    mid, taps, out = (data_of(context, builder, sig, args, n) for n in (0, 3, 7))
    _, at, step, _, groups, bias, precision, _, to = args
    start = [ir.Constant(INTS, None), splat(builder, bias, 16)]

    def group(k: ir.Value, sums: list[list[ir.Value]]) -> list[list[ir.Value]]:
        pair = builder.mul(k, c64(2))
        high, low = (splat(builder, load(builder, taps, builder.add(pair, c64(p)), I32, 4), 16) for p in range(2))
        here = builder.add(at, builder.mul(step, k))
        levels = [load(builder, mid, builder.add(here, c64(64 * n)), INTS) for n in range(4)]
        return [_accumulate(builder, one, level, high, low) for one, level in zip(sums, levels, strict=True)]

    packed = builder.bitcast(_packed(builder, _loop(builder, groups, [start] * 4, group), precision), INTS)
    order = [4 * q + n for n in range(4) for q in range(4)]
    builder.store(builder.shuffle_vector(packed, packed, mask(order)), address(builder, out, to, INTS)).align = 1
    return context.get_dummy_value()


@intrinsic
def down(typingctx, mid, at, step, taps, groups, bias, precision, out, to):
    """64 columns of one output line, from `groups` groups of ROWS lines of `mid`, `step` bytes from one another.

    taps: High and low bytes of the weights of each group, int32.
    """
    i64, i32 = types.int64, types.int32
    return types.void(mid, i64, i64, taps, i64, i32, i32, out, i64), _down_codegen


across_rgb, across_planar = _across(3), _across(1)
(spread_rgb, spread_planar), (orders_rgb, orders_planar) = ([_spread(n, o) for n in (3, 1)] for o in (False, True))
