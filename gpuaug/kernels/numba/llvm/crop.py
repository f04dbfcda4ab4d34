"""The vector code of `crop`, as portable LLVM: 16 columns of 4 rows in one call, two taps multiplied at once."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gpuaug.kernels.numba.llvm.vectors import I8, I16, I32, I64, address, c64, data_of, load, madd, mask, splat

__all__ = [
    "PIXELS", "ROWS", "copy_gray", "copy_rgb", "horizontal_four", "horizontal_rgb", "interleave", "mirror_gray",
    "mirror_rgb", "prefetch", "vertical",
]  # fmt: skip

PIXELS = 16  # pixels that one call of a copy takes
ROWS = 4  # rows of one call of the horizontal kernel, which have the same columns and weights


def _concat(builder: ir.IRBuilder, parts: list[ir.Value]) -> ir.Value:
    while len(parts) > 1:
        n = 2 * parts[0].type.count
        parts = [
            builder.shuffle_vector(a, b, mask(list(range(n)))) for a, b in zip(parts[::2], parts[1::2], strict=True)
        ]
    return parts[0]


def _widen(builder: ir.IRBuilder, pixels: ir.Value, lanes: list[int]) -> ir.Value:
    """Pick bytes of `pixels` (64) and zero extend them to int16."""
    zero = ir.Constant(pixels.type, None)
    picked = mask([m for lane in lanes for m in (lane, pixels.type.count)])
    return builder.bitcast(builder.shuffle_vector(pixels, zero, picked), ir.VectorType(I16, len(lanes)))


def _to_byte(builder: ir.IRBuilder, acc: ir.Value, shift: ir.Value) -> ir.Value:
    acc = builder.ashr(acc, shift)
    for op, bound in (("<", 0), (">", 255)):
        limit = ir.Constant(acc.type, [bound] * acc.type.count)
        acc = builder.select(builder.icmp_signed(op, acc, limit), limit, acc)
    return builder.trunc(acc, ir.VectorType(I8, acc.type.count))


def _rounding(builder: ir.IRBuilder, precision: ir.Value) -> tuple[ir.Value, ir.Value]:
    one = ir.Constant(I32, 1)
    return splat(builder, builder.shl(one, builder.sub(precision, one)), 16), splat(builder, precision, 16)


def _horizontal(lines: int) -> Any:
    """16 output columns of ROWS rows: from pixels of `lines` interleaved bytes to `lines` planar lines per row."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        src, index, table, mid = (data_of(context, builder, sig, args, n) for n in (0, 2, 4, 8))
        rows = [builder.extract_value(args[1], r) for r in range(ROWS)]
        columns, block, chunks, precision, to, pitch = args[3], args[5], args[6], args[7], args[9], args[10]
        half, shift = _rounding(builder, precision)
        x = builder.mul(block, c64(16))
        weights = builder.mul(builder.mul(block, chunks), c64(256))
        lane = [
            [16 * i + lines * (2 * p + t) + (c if c < lines else 0) for i in range(4) for c in range(4) for t in (0, 1)]
            for p in (0, 1)
        ]

        def quad(chunk: ir.Value, q: int, acc: list[ir.Value]) -> list[ir.Value]:
            at = builder.add(weights, builder.add(builder.mul(chunk, c64(256)), c64(64 * q)))
            w = [load(builder, table, builder.add(at, c64(32 * p)), ir.VectorType(I16, 32), 2) for p in (0, 1)]
            step = builder.mul(chunk, c64(4 * lines))
            pixels: list[list[ir.Value]] = [[] for _ in rows]
            for i in range(4):
                column = builder.add(columns, builder.add(x, c64(4 * q + i)))
                first = builder.mul(builder.sext(load(builder, index, column, I32, 4), I64), c64(lines))
                for r, base in enumerate(rows):
                    at = builder.add(builder.add(base, step), first)
                    pixels[r].append(load(builder, src, at, ir.VectorType(I8, 16)))
            for r in range(ROWS):
                v = _concat(builder, pixels[r])
                for p in (0, 1):
                    acc[r] = builder.add(acc[r], madd(builder, _widen(builder, v, lane[p]), w[p]))
            return acc

        done: list[list[ir.Value]] = [[] for _ in rows]
        for q in range(4):
            first = quad(c64(0), q, [half] * ROWS)
            acc = [cgutils.alloca_once_value(builder, a) for a in first]
            with cgutils.for_range(builder, builder.sub(chunks, c64(1)), intp=I64) as loop:
                more = quad(builder.add(loop.index, c64(1)), q, [builder.load(a) for a in acc])
                for a, m in zip(acc, more, strict=True):
                    builder.store(m, a)
            for r in range(ROWS):
                done[r].append(_to_byte(builder, builder.load(acc[r]), shift))
        for r in range(ROWS):
            v = _concat(builder, done[r])
            for c in range(lines):
                plane = builder.shuffle_vector(v, v, mask([4 * i + c for i in range(16)]))
                at = builder.add(builder.add(to, builder.mul(pitch, c64(r * lines + c))), x)
                builder.store(plane, address(builder, mid, at, ir.VectorType(I8, 16))).align = 1
        return context.get_dummy_value()

    @intrinsic
    def run(typingctx, src, rows, index, columns, table, block, chunks, precision, mid, to, pitch):
        i64 = types.int64
        row = types.UniTuple(i64, ROWS)
        return types.void(src, row, index, i64, table, i64, i64, types.int32, mid, i64, i64), codegen

    return run


def _vertical_codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    mid, table, out = (data_of(context, builder, sig, args, n) for n in (0, 3, 7))
    _, base, step, _, at, pairs, precision, _, to = args
    half, shift = _rounding(builder, precision)
    bytes32 = ir.VectorType(I8, 32)

    def pair(n: ir.Value, acc: list[ir.Value]) -> list[ir.Value]:
        twice = builder.mul(n, c64(2))
        w = splat(builder, load(builder, table, builder.add(at, twice), I32, 2), 16)
        w = builder.bitcast(w, ir.VectorType(I16, 32))
        row = builder.add(base, builder.mul(step, twice))
        v = _concat(builder, [load(builder, mid, row, bytes32), load(builder, mid, builder.add(row, step), bytes32)])
        lane = [[32 * t + 16 * g + i for i in range(16) for t in (0, 1)] for g in (0, 1)]
        return [builder.add(acc[g], madd(builder, _widen(builder, v, lane[g]), w)) for g in (0, 1)]

    acc = [cgutils.alloca_once_value(builder, a) for a in pair(c64(0), [half, half])]
    with cgutils.for_range(builder, builder.sub(pairs, c64(1)), intp=I64) as loop:
        for a, m in zip(acc, pair(builder.add(loop.index, c64(1)), [builder.load(a) for a in acc]), strict=True):
            builder.store(m, a)
    v = _concat(builder, [_to_byte(builder, builder.load(a), shift) for a in acc])
    builder.store(v, address(builder, out, to, bytes32)).align = 1
    return context.get_dummy_value()


@intrinsic
def vertical(typingctx, mid, base, step, table, at, pairs, precision, out, to):
    """Compute 32 columns of one output line, from `pairs` pairs of lines of `mid`, with distance `step`."""
    i64 = types.int64
    return types.void(mid, i64, i64, table, i64, i64, types.int32, out, i64), _vertical_codegen


def _interleave_codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    src, mid = (data_of(context, builder, sig, args, n) for n in (0, 5))
    v = _concat(builder, [load(builder, src, a, ir.VectorType(I8, 16)) for a in args[1:5]])
    v = builder.shuffle_vector(v, v, mask([16 * c + i for i in range(16) for c in range(4)]))
    builder.store(v, address(builder, mid, args[6], v.type)).align = 1
    return context.get_dummy_value()


@intrinsic
def interleave(typingctx, src, a, b, c, d, mid, to):
    """mid[to:to + 64] = 16 bytes each from a, b, c and d of src, interleaved."""
    i64 = types.int64
    return types.void(src, i64, i64, i64, i64, mid, i64), _interleave_codegen


@intrinsic
def prefetch(typingctx, src, at):
    """Tell the processor that src[at] will be read soon. `at` may be outside src."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        pointer = builder.gep(data_of(context, builder, sig, args, 0), [args[1]])
        i32 = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, i32, i32, i32])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(hint, [pointer, i32(0), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(src, types.int64), codegen


def _copy(channels: int, mirrored: bool) -> Any:
    """A copy of PIXELS pixels of `channels` interleaved bytes to as many planar bytes of each channel, or mirrored."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        src, out = (data_of(context, builder, sig, args, n) for n in (0, 2))
        pixels = load(builder, src, args[1], ir.VectorType(I8, PIXELS * channels))
        order = range(PIXELS - 1, -1, -1) if mirrored else range(PIXELS)
        for c in range(channels):
            plane = builder.shuffle_vector(pixels, pixels, mask([channels * i + c for i in order]))
            to = builder.add(args[3], builder.mul(args[4], c64(c)))
            builder.store(plane, address(builder, out, to, plane.type)).align = 1
        return context.get_dummy_value()

    @intrinsic
    def copy(typingctx, src, at, out, to, plane):
        """out[to + c * plane + x] = src[at + channels * x + c], mirrored or not, for 16 x."""
        return types.void(src, types.int64, out, types.int64, types.int64), codegen

    return copy


horizontal_rgb, horizontal_four = _horizontal(3), _horizontal(4)
copy_gray, copy_rgb, mirror_gray, mirror_rgb = (_copy(c, mirrored) for mirrored in (False, True) for c in (1, 3))
