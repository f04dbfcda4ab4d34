"""LLVM instructions that Numba does not offer. All of them vectorise."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["fence", "floor", "fma", "rint"]

FLOAT = ir.FloatType()


def _emit(name: str, arity: int) -> tuple[Any, Any]:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.call(builder.module.declare_intrinsic(name, [FLOAT]), arguments)

    return types.float32(*[types.float32] * arity), codegen


@intrinsic
def _floor(typing_context: Any, x: Any) -> Any:
    return _emit("llvm.floor", 1)


@intrinsic
def _rint(typing_context: Any, x: Any) -> Any:
    return _emit("llvm.rint", 1)


@intrinsic
def _fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return types.float32(types.float32, types.float32, types.float32), codegen


@intrinsic
def _fence(typing_context: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


fence: Any = _fence  # what was written past the caches is seen by all threads from here on
floor: Any = _floor  # float32 -> float32
rint: Any = _rint  # float32 -> float32, half to even
fma: Any = _fma  # a * b + c, rounded once
