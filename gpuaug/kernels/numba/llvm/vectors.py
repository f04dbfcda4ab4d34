"""Helpers of the vector kernels for LLVM vectors."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

__all__ = [
    "I8", "I16", "I32", "I64", "LINE", "address", "c64", "data_of", "load", "madd", "mask", "past_caches", "splat",
]  # fmt: skip

I8, I16, I32, I64 = (ir.IntType(n) for n in (8, 16, 32, 64))
LINE = 64  # bytes of a line of the caches


def mask(lanes: list[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(I32, len(lanes)), lanes)


def splat(builder: ir.IRBuilder, value: ir.Value, n: int) -> ir.Value:
    vec = ir.VectorType(value.type, n)
    one = builder.insert_element(ir.Constant(vec, ir.Undefined), value, ir.Constant(I32, 0))
    return builder.shuffle_vector(one, ir.Constant(vec, ir.Undefined), mask([0] * n))


def address(builder: ir.IRBuilder, data: ir.Value, offset: ir.Value, vec: ir.Type) -> ir.Value:
    return builder.bitcast(builder.gep(data, [offset]), vec.as_pointer())


def load(builder: ir.IRBuilder, data: ir.Value, offset: ir.Value, vec: ir.Type, align: int = 1) -> ir.Value:
    out = builder.load(address(builder, data, offset, vec))
    out.align = align
    return out


def madd(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    """Sums of two neighbouring int16 products as int32: LLVM compiles this pattern to one vpmaddwd."""
    n = a.type.count
    wide = ir.VectorType(I32, n)
    product = builder.mul(builder.sext(a, wide), builder.sext(b, wide))
    undef = ir.Constant(wide, ir.Undefined)
    even, odd = (builder.shuffle_vector(product, undef, mask(list(range(k, n, 2)))) for k in (0, 1))
    return builder.add(even, odd)


def past_caches(builder: ir.IRBuilder, store: ir.Value) -> None:
    """Have a store, aligned to its whole size or LINE, write to memory without reading the line into the caches first.

    Such stores may be seen late by other threads, until `fence`.
    """
    store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(I32, 1)]))


def c64(n: int) -> ir.Constant:
    return ir.Constant(I64, n)


def data_of(context: Any, builder: ir.IRBuilder, sig: Any, args: Any, n: int) -> ir.Value:
    return context.make_array(sig.args[n])(context, builder, args[n]).data
