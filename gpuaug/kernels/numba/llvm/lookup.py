"""Look-ups in tables of 256 entries: 64 bytes at once with AVX-512 VBMI, otherwise one by one."""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir
from numba import config, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from gpuaug.kernels.numba.llvm.vectors import LINE, past_caches
from gpuaug.kernels.numba.runtime.jit import inner

__all__ = ["VBMI", "look_up"]

Array = NDArray[Any]
Scalar = Any  # typed by Numba

_settings = vars(config)  # from environment variables
_as_found = _settings["CPU_NAME"] is None and _settings["CPU_FEATURES"] is None and _settings["ENABLE_AVX"]
VBMI = bool(_as_found and binding.get_host_cpu_features().get("avx512vbmi", False))
BYTES = ir.VectorType(ir.IntType(8), 64)


def _permuted(builder: Any, table: Any, levels: Any) -> Any:
    """table[levels] for 64 levels: the low bits index both halves of the table, the highest bit selects the half."""
    kind = ir.FunctionType(BYTES, [BYTES] * 3)
    permute = builder.module.globals.get("llvm.x86.avx512.vpermi2var.qi.512") or ir.Function(
        builder.module, kind, "llvm.x86.avx512.vpermi2var.qi.512"
    )
    quarters = []
    for start in range(0, 256, 64):
        place = builder.gep(table, [ir.IntType(64)(start)])
        quarters.append(builder.load(builder.bitcast(place, BYTES.as_pointer()), align=1))
    low = builder.call(permute, [quarters[0], levels, quarters[1]])
    high = builder.call(permute, [quarters[2], levels, quarters[3]])
    return builder.select(builder.icmp_signed("<", levels, ir.Constant(BYTES, None)), high, low)


def _woven(builder: Any, first: Any, second: Any) -> Any:
    """first[0], second[0], first[1], ..."""
    count = first.type.count
    order = [half * count + k for k in range(count) for half in (0, 1)]
    return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(ir.IntType(32), 2 * count), order))


@intrinsic
def _look_up_64(typing_context: Any, plane: Any, at: Any, table: Any, out: Any, streams: Any) -> Any:
    """out[at : at + 64] = table[plane[at : at + 64]]; `table`: all first bytes of its entries, then all second ones."""
    width = out.dtype.bitwidth // 8

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = [context.make_array(signature.args[k])(context, builder, arguments[k]).data for k in (0, 2, 3)]
        source, tables, target = (builder.bitcast(pointer, ir.IntType(8).as_pointer()) for pointer in data)
        place = arguments[1]
        levels = builder.load(builder.bitcast(builder.gep(source, [place]), BYTES.as_pointer()), align=1)
        parts = [_permuted(builder, builder.gep(tables, [ir.IntType(64)(256 * k)]), levels) for k in range(width)]
        while len(parts) > 1:
            pairs = [_woven(builder, parts[k], parts[k + 1]) for k in range(0, len(parts), 2)]
            wider = ir.VectorType(ir.IntType(pairs[0].type.element.width * 2), pairs[0].type.count // 2)
            parts = [builder.bitcast(pair, wider) for pair in pairs]
        target = builder.gep(target, [builder.mul(place, place.type(width))])
        target = builder.bitcast(target, parts[0].type.as_pointer())
        with builder.if_else(arguments[4]) as (yes, no):
            with yes:
                past_caches(builder, builder.store(parts[0], target, align=LINE))
            with no:
                builder.store(parts[0], target, align=1)
        return context.get_dummy_value()

    return types.void(plane, types.intp, table, out, types.boolean), codegen


@intrinsic
def _move_byte(typing_context: Any, source: Any, byte: Any, target: Any, to: Any) -> Any:
    """Byte `to` of the memory of an array = byte `byte` of another's; views as bytes compile several times as long."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = [context.make_array(signature.args[k])(context, builder, arguments[k]).data for k in (0, 2)]
        read, write = (builder.bitcast(pointer, ir.IntType(8).as_pointer()) for pointer in data)
        value = builder.load(builder.gep(read, [arguments[1]]), align=1)
        builder.store(value, builder.gep(write, [arguments[3]]), align=1)
        return context.get_dummy_value()

    return types.void(source, types.intp, target, types.intp), codegen


look_up_64: Any = _look_up_64
move_byte: Any = _move_byte


@inner
def _one_by_one(plane: Array, start: Scalar, table: Array, out: Array) -> None:
    for i in range(start, plane.size):
        out[i] = table[plane[i]]


if VBMI:

    @inner
    def look_up(plane: Array, table: Array, apart: Array, out: Array, streams: bool = False) -> None:
        """out[i] = table[plane[i]]. `apart` (256,) of out's type is scratch; out may be plane.

        streams: Whether to write past the caches; the memory of `out` must then begin at a multiple of LINE.
        """
        count = out.itemsize
        for k in range(count):
            for v in range(256):
                move_byte(table, v * count + k, apart, k * 256 + v)
        whole = plane.size // 64 * 64
        for i in range(0, whole, 64):
            look_up_64(plane, i, apart, out, streams)
        _one_by_one(plane, whole, table, out)

else:

    @inner
    def look_up(plane: Array, table: Array, apart: Array, out: Array, streams: bool = False) -> None:
        """out[i] = table[plane[i]]; out may be plane. `apart` and `streams` are not used."""
        _one_by_one(plane, 0, table, out)
