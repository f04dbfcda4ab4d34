"""The vector code of `blur` and `convolve`, as portable LLVM: 32 columns of 2 rows in one call, two taps at once.

No bytes are shuffled. Two neighbouring bytes are a pair of taps of an even column if they start at an even position,
else of an odd column. So a sum is two vectors of 16, one for the even and one for the odd columns, until it is stored.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gpuaug.instructions import FRACTION, LINE_FRACTION
from gpuaug.kernels.numba.llvm.vectors import I8, I16, I32, I64, address, c64, data_of, load, madd, splat

__all__ = ["COLUMNS", "across", "correlate", "down"]

ACROSS, DOWN = FRACTION - LINE_FRACTION, FRACTION + LINE_FRACTION  # bits by which each pass of a blur shifts right

_WORDS, _SUMS = ir.VectorType(I16, 32), ir.VectorType(I32, 16)
COLUMNS = 32  # columns that one call computes, in two rows


def _all(value: int) -> ir.Constant:
    return ir.Constant(_SUMS, [value] * 16)


def _weights(builder: ir.IRBuilder, table: ir.Value, n: ir.Value) -> ir.Value:
    return builder.bitcast(splat(builder, load(builder, table, n, I32, 4), 16), _WORDS)


def _sums(builder: ir.IRBuilder, pairs: ir.Value, start: int, step: Any) -> list[ir.Value]:
    """Four sums that begin at `start`. step(n) lists the pixels and weights of pair n for each."""
    acc = [cgutils.alloca_once_value(builder, _all(start)) for _ in range(4)]
    with cgutils.for_range(builder, pairs, intp=I64) as loop:
        for a, (pixels, weights) in zip(acc, step(loop.index), strict=True):
            builder.store(builder.add(builder.load(a), madd(builder, pixels, weights)), a)
    return [builder.load(a) for a in acc]


def _slide(builder: ir.IRBuilder, args: Any, data: Any, start: int) -> list[ir.Value]:
    """Sums over bytes: even and odd columns of row a, then of row b."""
    padded, offsets, table = data
    bytes32 = ir.VectorType(I8, 32)

    def step(n: ir.Value) -> list[tuple[ir.Value, ir.Value]]:
        offset = builder.sext(load(builder, offsets, n, I32, 4), I64)
        weights = _weights(builder, table, n)
        out = []
        for row in args[1:3]:
            for odd in (0, 1):
                at = builder.add(builder.add(row, offset), c64(odd))
                out.append((builder.zext(load(builder, padded, at, bytes32), _WORDS), weights))
        return out

    return _sums(builder, args[5], start, step)


def _weave(builder: ir.IRBuilder, low: ir.Value, high: ir.Value, bits: int) -> ir.Value:
    """`high`, shifted left by `bits`, combined with the lowest `bits` bits of `low`."""
    return builder.or_(builder.and_(low, _all((1 << bits) - 1)), builder.shl(high, _all(bits)))


def _store_bytes(builder: ir.IRBuilder, out: ir.Value, to: ir.Value, even: ir.Value, odd: ir.Value) -> None:
    v = builder.trunc(_weave(builder, even, odd, 8), ir.VectorType(I16, 16))
    builder.store(v, address(builder, out, to, v.type)).align = 1


def _clamp(builder: ir.IRBuilder, acc: ir.Value, shift: int) -> ir.Value:
    acc = builder.ashr(acc, _all(shift))
    for op, bound in (("<", 0), (">", 255)):
        acc = builder.select(builder.icmp_signed(op, acc, _all(bound)), _all(bound), acc)
    return acc


def _across_codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    padded, offsets, table, lines = (data_of(context, builder, sig, args, n) for n in (0, 3, 4, 6))
    acc = _slide(builder, args, (padded, offsets, table), 1 << (ACROSS - 1))
    a_even, a_odd, b_even, b_odd = (builder.ashr(a, _all(ACROSS)) for a in acc)
    for n, (a, b) in enumerate(((a_even, b_even), (a_odd, b_odd))):
        to = builder.add(args[7], c64(16 * n))
        builder.store(_weave(builder, a, b, 16), address(builder, lines, to, _SUMS)).align = 4
    return context.get_dummy_value()


@intrinsic
def _across(
    typing_context: Any, padded: Any, a: Any, b: Any, offsets: Any, table: Any, pairs: Any, lines: Any, to: Any
) -> Any:
    """lines[to:to + 32] = sums, with 7 fraction bits, of the rows that begin at a and b: 16 even, then 16 odd columns.

    A line is int32, row a in its low half, row b in its high half. offsets, table: int32 for each pair of taps.
    """
    i64 = types.int64
    return types.void(padded, i64, i64, offsets, table, i64, lines, i64), _across_codegen


def _correlate_codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    padded, offsets, table, out = (data_of(context, builder, sig, args, n) for n in (0, 3, 4, 6))
    acc = [_clamp(builder, a, FRACTION) for a in _slide(builder, args, (padded, offsets, table), 1 << (FRACTION - 1))]
    _store_bytes(builder, out, args[8], *acc[2:])
    _store_bytes(builder, out, args[7], *acc[:2])
    return context.get_dummy_value()


@intrinsic
def _correlate(
    typing_context: Any, padded: Any, a: Any, b: Any, offsets: Any, table: Any, pairs: Any, out: Any,
    to_a: Any, to_b: Any,
) -> Any:  # fmt: skip
    """out[to_a:to_a + 32] from the bytes that begin at a, and to_b from b. The other arguments as for `across`."""
    i64 = types.int64
    return types.void(padded, i64, i64, offsets, table, i64, out, i64, i64), _correlate_codegen


def _down_codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
    lines, for_a, for_b, out = (data_of(context, builder, sig, args, n) for n in (0, 3, 4, 6))

    def step(n: ir.Value) -> list[tuple[ir.Value, ir.Value]]:
        at = builder.add(args[1], builder.mul(args[2], n))
        halves = [load(builder, lines, builder.add(at, c64(16 * odd)), _WORDS, 4) for odd in (0, 1)]
        return [(half, _weights(builder, table, n)) for table in (for_a, for_b) for half in halves]

    acc = [_clamp(builder, a, DOWN) for a in _sums(builder, args[5], 1 << (DOWN - 1), step)]
    _store_bytes(builder, out, args[8], *acc[2:])
    _store_bytes(builder, out, args[7], *acc[:2])
    return context.get_dummy_value()


@intrinsic
def _down(
    typing_context: Any, lines: Any, base: Any, step: Any, for_a: Any, for_b: Any, pairs: Any, out: Any,
    to_a: Any, to_b: Any,
) -> Any:  # fmt: skip
    """32 columns of two rows, from `pairs` lines of `across`, `step` apart. Row b is stored first: a may overwrite it.

    for_a, for_b: weights of the two rows of each line. Row b begins one row later, so its first weight is zero.
    """
    i64 = types.int64
    return types.void(lines, i64, i64, for_a, for_b, i64, out, i64, i64), _down_codegen


across: Any = _across
correlate: Any = _correlate
down: Any = _down
