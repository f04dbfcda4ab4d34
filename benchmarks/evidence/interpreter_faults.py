"""Where Triton's interpreter is not what a GPU does, or fails: each fault with a probe that finds it, and its mending.

A fault is mended where its probe finds it, whatever the version; `seen` only says in which versions it was found, so
that a test notices a version that brings an old fault back.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from triton.runtime import interpreter

__all__ = ["FAULTS", "Fault", "mend", "version"]

Builder = interpreter.InterpreterBuilder


def version() -> tuple[int, int]:
    """Of Triton: (major, minor)."""
    major, minor = triton.__version__.split(".")[:2]
    return int(major), int(minor)


@dataclass(frozen=True)
class Fault:
    """One fault of the interpreter.

    Attributes:
        what: is wrong, in words.
        seen: whether a version of Triton, (major, minor), was found to have it.
        probe: True if the interpreter at hand has it now; False once it is mended.
        mend: changes the interpreter for the rest of the process.
    """

    what: str
    seen: Callable[[tuple[int, int]], bool]
    probe: Callable[[], bool]
    mend: Callable[[], None]


# ---- A scalar as a bound of range()


class _Scalar:
    """Has what `tl.tensor` gives the interpreter: a handle with an array of one element."""

    handle = interpreter.TensorHandle(np.array([3], np.int32), tl.int32)


def _index_fails() -> bool:
    """`int` of an array with one dimension: NumPy 1.25 to 2.3 warn, later ones raise TypeError."""
    scope = getattr(interpreter, "_LangPatchScope", None)
    scope = () if scope is None else (scope(),)
    scalar = type("Scalar", (_Scalar,), {})
    interpreter._patch_lang_tensor(scalar, *scope)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return bool(scalar().__index__() != 3)
        except (TypeError, DeprecationWarning):
            return True


def _mend_index() -> None:
    original = interpreter._patch_lang_tensor

    def patch(tensor: Any, *scope: Any) -> None:  # the scope, where there is one, restores what it found before
        original(tensor, *scope)
        tensor.__index__ = lambda self: int(self.handle.data.item())

    interpreter._patch_lang_tensor = patch


# ---- Minimum and maximum of NaN and a number


def _handle(value: float) -> Any:
    return interpreter.TensorHandle(np.array([value], np.float32), tl.float32)


def _nan_wins() -> bool:
    """`maxnum` and `minnum` give the number, as max.f32 and min.f32 do on a device; np.maximum gives NaN."""
    names = ("create_maxnumf", "create_minnumf")
    results = [getattr(interpreter.interpreter_builder, name)(_handle(float("nan")), _handle(1.0)) for name in names]
    return any(np.isnan(result.data).any() for result in results)


def _mend_nan() -> None:
    Builder.create_maxnumf = lambda self, left, right: self.binary_op(left, right, np.fmax)
    Builder.create_minnumf = lambda self, left, right: self.binary_op(left, right, np.fmin)


# ---- float32 to bfloat16


def _cast_truncates() -> bool:
    """1 + 3/256 lies half-way between two bfloat16 numbers; the even one is the upper, 1 + 4/256."""
    cast = Builder.cast_impl(interpreter.interpreter_builder, _handle(1 + 3 / 256), tl.bfloat16)
    return int(np.asarray(cast.data).view(np.uint16)[0]) != 0x3F82


def _mend_cast() -> None:
    original = Builder.cast_impl

    def cast_impl(self: Any, source: Any, target: Any) -> Any:
        if source.dtype.scalar == tl.float32 and target.scalar == tl.bfloat16:
            values = np.ascontiguousarray(source.data)
            bits = torch.from_numpy(values.copy()).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
            return interpreter.TensorHandle(bits.reshape(values.shape), tl.bfloat16)
        return original(self, source, target)

    Builder.cast_impl = cast_impl


# ---- Multiply-adds


def _fma_rounds_twice() -> bool:
    """(1 + 2**-12)**2 - (1 + 2**-11) is 2**-24, which is lost if the product is rounded to float32 first."""
    x, z = _handle(1 + 2**-12), _handle(-1 - 2**-11)
    return float(Builder.create_fma(interpreter.interpreter_builder, x, x, z).data[0]) != 2**-24


def _mend_fma() -> None:
    def create_fma(self: Any, x: Any, y: Any, z: Any) -> Any:
        if z.data.dtype == np.float32:  # exact in float64 for the values that occur here
            total = (x.data.astype(np.float64) * y.data + z.data).astype(np.float32)
            return interpreter.TensorHandle(total, z.dtype.scalar)
        return interpreter.TensorHandle(x.data * y.data + z.data, z.dtype.scalar)

    Builder.create_fma = create_fma


FAULTS = (
    Fault("a scalar of the device is no bound of range()", lambda v: v < (3, 7), _index_fails, _mend_index),
    Fault("the larger of NaN and a number is NaN", lambda v: v < (3, 7), _nan_wins, _mend_nan),
    Fault("float32 to bfloat16 is not to nearest", lambda v: True, _cast_truncates, _mend_cast),
    Fault("a multiply-add rounds twice", lambda v: True, _fma_rounds_twice, _mend_fma),
)


def mend() -> list[str]:
    """Mend what the probes find; later calls find nothing more. Returns what was mended.

    Two things are set whatever the version: division by zero is infinite without a warning, as on a device, and the
    sums and products in int64 that the interpreter computes to find overflows, a third of its time, are left out.
    """
    interpreter.interpreter_builder.options = interpreter.InterpreterOptions(sanitize_overflow=False)
    if not getattr(Builder.binary_op, "quiet", False):
        Builder.binary_op = _quiet(Builder.binary_op)
    found = [fault for fault in FAULTS if fault.probe()]
    for fault in found:
        fault.mend()
    left = [fault.what for fault in FAULTS if fault.probe()]
    if left:
        raise RuntimeError(f"interpreter: Triton {triton.__version__} still has what was mended: {'; '.join(left)}")
    return [fault.what for fault in found]


def _quiet(binary_op: Callable[..., Any]) -> Callable[..., Any]:
    def quiet(self: Any, left: Any, right: Any, operation: Any) -> Any:
        with np.errstate(all="ignore"):
            return binary_op(self, left, right, operation)

    quiet.quiet = True  # type: ignore[attr-defined]
    return quiet
