"""What the instructions of PTX compute: registers as numbers, numbers as registers, and a function for each opcode.

Of a pair such as f32x2 the last axis has both numbers, low half first. Half precision is only converted and compared;
its numbers are float64.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import partial, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Function = Callable[..., Array]
Formula = tuple[Function, str, list[str]]  # what to compute, the kind of the result, the kinds of the sources

UINT: dict[int, Any] = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
DTYPE: dict[str, Any] = {f"{letter}{8 * size}": np.dtype(f"u{size}").type for letter in "bu" for size in (1, 2, 4, 8)}
DTYPE |= {f"s{8 * size}": np.dtype(f"i{size}").type for size in (1, 2, 4, 8)}
DTYPE |= {"pred": np.bool_, "f32": np.float32, "f64": np.float64}
KINDS = {*DTYPE, "f16", "bf16", "f16x2", "bf16x2", "f32x2", "s16x2", "u16x2"}
NAN = {"f16": 0x7FFF, "bf16": 0x7FFF, "f32": 0x7FFFFFFF}  # the one NaN that arithmetic gives


def width_of(kind: str) -> int:
    """Bits of a value of this kind."""
    return 1 if kind == "pred" else int(kind.lstrip("usbf").removesuffix("x2")) * (2 if kind.endswith("x2") else 1)


def raw(kind: str) -> str:
    """The kind of the same width without a meaning, for moving bits."""
    return kind if kind == "pred" else f"b{width_of(kind)}"


def is_float(kind: str) -> bool:
    return kind[0] == "f" or kind[:2] == "bf"


def number(held: Array, kind: str) -> Array:
    """What the bits of a register mean."""
    if kind.endswith("x2"):
        return number(np.asarray(held)[..., None].view(UINT[width_of(kind) // 2]), kind[:-2])
    if kind == "bf16":
        return (held.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return held.view(np.float16).astype(np.float64) if kind == "f16" else held.view(DTYPE[kind])


def bits(value: Array, kind: str) -> Array:
    """The register that holds `value`; a float is rounded to the nearest, ties to even."""
    if kind.endswith("x2"):
        return np.ascontiguousarray(bits(value, kind[:-2])).view(UINT[width_of(kind)])[..., 0]
    if not is_float(kind):
        return value if kind == "pred" else value.view(UINT[width_of(kind)])
    if kind == "bf16":  # through float32, rounded to odd: rounding that to the nearest rounds once
        near = np.asarray(value.astype(np.float32))
        near = odd(near, value.astype(np.float64) - near).view(np.uint32)
        held = ((near + 0x7FFF + (near >> 16 & 1)) >> 16).astype(np.uint16)
    else:
        held = value.astype(f"f{width_of(kind) // 8}").view(UINT[width_of(kind)])
    return np.where(np.isnan(value), held.dtype.type(NAN[kind]), held) if kind in NAN else held


def odd(near: Array, error: Array) -> Array:
    """A rounded value, moved towards what was lost if something was and the last bit is zero."""
    even = (error != 0) & np.isfinite(near) & (near.view(UINT[near.itemsize * 8]) & 1 == 0)
    return np.where(even, np.nextafter(near, np.where(error > 0, np.inf, -np.inf).astype(near.dtype)), near)


def fma(a: Array, b: Array, c: Array) -> Array:
    """a * b + c for one rounding to come; of float64, through fractions and rounded."""
    if a.dtype == np.float32:  # the product is exact in float64; the sum's error is Knuth's two-sum
        exact, c = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
        total = np.asarray(exact + c)
        part = total - exact
        return odd(total, (exact - (total - part)) + (c - part))
    a, b, c = np.atleast_1d(*np.broadcast_arrays(a, b, c))
    finite = np.isfinite(a) & np.isfinite(b)
    result = np.where(finite & np.isinf(c), c, a * b + c)
    for i in np.flatnonzero(finite & np.isfinite(c) & (a != 0) & (b != 0)):
        fraction = Fraction(float(a[i])) * Fraction(float(b[i])) + Fraction(float(c[i]))
        try:
            result[i] = float(fraction)
        except OverflowError:
            result[i] = np.inf if fraction > 0 else -np.inf
    return result


def flush(value: Array) -> Array:
    """Subnormal float32 become zeros of their sign."""
    return np.where(np.abs(value) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), value), value)


def extreme(pick: Function, nan: bool, a: Array, b: Array, *more: Array) -> Array:
    """Least or greatest; -0 is below +0, and a NaN is passed over unless `nan`."""
    zero = np.where(np.signbit(a) == (pick is np.fmin), a, b)
    best = np.where((a == 0) & (b == 0), zero, pick(a, b))
    best = np.where(np.isnan(a) | np.isnan(b), best.dtype.type(np.nan), best) if nan else best
    return extreme(pick, nan, best, *more) if more else best


def shift_left(a: Array, count: Array) -> Array:
    width = a.dtype.itemsize * 8
    return np.where(count < width, a << np.minimum(count, width - 1).astype(a.dtype), 0).astype(a.dtype)


def shift_right(a: Array, count: Array) -> Array:
    """A count beyond the width leaves zeros, or signs."""
    width = a.dtype.itemsize * 8
    kept = a >> np.minimum(count, width - 1).astype(a.dtype)
    return kept if a.dtype.kind == "i" else np.where(count < width, kept, 0).astype(a.dtype)


def quotient(a: Array, b: Array) -> Array:
    """Towards zero. PTX leaves open what division by zero gives; all ones here."""
    return np.where(b == 0, ~np.zeros_like(b), (a - np.fmod(a, b)) // b)


def product(mods: set[str], a: Array, b: Array, c: Any = 0) -> Array:
    """mul and mad: .lo, .hi or .wide; 64 bits times 64 through Python's integers."""
    if "lo" in mods:
        return a * b + c
    wide = "O" if a.itemsize == 8 else f"{a.dtype.kind}{a.itemsize * 2}"
    whole = a.astype(wide) * b.astype(wide)
    return (whole if "wide" in mods else (whole >> a.itemsize * 8).astype(a.dtype)) + c


def product24(mods: set[str], a: Array, b: Array, c: Any = 0) -> Array:
    """mul24 and mad24: the low or the high 32 of the 48 bits."""
    whole = (a << 8 >> 8).astype(np.int64) * (b << 8 >> 8).astype(np.int64)
    return (whole >> (0 if "lo" in mods else 16)).astype(a.dtype) + c


def lookup(a: Array, b: Array, c: Array, table: Array) -> Array:
    """lop3: the table's bit of each three bits."""
    rows = [i for i in range(8) if int(table) >> i & 1]
    terms = [(a if i & 4 else ~a) & (b if i & 2 else ~b) & (c if i & 1 else ~c) for i in rows]
    return reduce(np.bitwise_or, terms, np.zeros_like(a))


def permute(a: Array, b: Array, control: Array) -> Array:
    """prmt: four of eight bytes, or their signs."""
    both, result = b.astype(np.uint64) << 32 | a, np.uint32(0)
    for i in range(4):
        choice = control >> 4 * i & 15
        byte = (both >> (choice & 7) * 8 & 255).astype(np.uint32)
        result = result | np.where(choice & 8, (byte >> 7) * 255, byte).astype(np.uint32) << 8 * i
    return result


def extract(a: Array, start: Array, count: Array) -> Array:
    """bfe; above the top come zeros, or signs."""
    left = a.itemsize * 8 - np.minimum(count & 255, a.itemsize * 8)
    return shift_right(shift_left(shift_right(a, start & 255), left), left)


def insert(a: Array, b: Array, start: Array, count: Array) -> Array:
    """bfi: the low bits of a into b."""
    mask = shift_left(extract(~np.zeros_like(a), np.uint32(0), count), start & 255)
    return (b & ~mask) | (shift_left(a, start & 255) & mask)


def funnel(mods: set[str], low: Array, high: Array, count: Array) -> Array:
    """shf: the high word of both, shifted to the left, or the low word, to the right."""
    both, count = high.astype(np.uint64) << 32 | low, count & 31 if "wrap" in mods else np.minimum(count, 32)
    return (both << count >> 32 if "l" in mods else both >> count).astype(np.uint32)


def by_lane(function: Callable[[int, int], int]) -> Function:
    """A rare one on Python's integers: of the width and the value."""
    return lambda a: np.array([function(a.itemsize * 8, x) for x in np.atleast_1d(a).tolist()], a.dtype)


# fmt: off
FLOAT: dict[str, tuple[Function, str]] = {  # with the modifiers that an exact one may have
    "add": (np.add, "rn ftz sat"), "sub": (np.subtract, "rn ftz sat"), "mul": (np.multiply, "rn ftz sat"),
    "fma": (fma, "rn ftz sat"), "div": (np.divide, "rn ftz"), "sqrt": (np.sqrt, "rn ftz"),
    "rcp": (lambda a: 1 / a, "rn ftz"), "abs": (np.abs, "ftz"), "neg": (np.negative, "ftz"),
    "min": (partial(extreme, np.fmin), "ftz NaN"), "max": (partial(extreme, np.fmax), "ftz NaN"),
}
ROUGH: dict[str, Function] = {
    "ex2": np.exp2, "lg2": np.log2, "sin": np.sin, "cos": np.cos, "tanh": np.tanh, "div": np.divide, "sqrt": np.sqrt,
    "rcp": lambda a: 1 / a, "rsqrt": lambda a: 1 / np.sqrt(a),
}
INTEGER: dict[str, Function] = {
    "add": np.add, "sub": np.subtract, "min": np.minimum, "max": np.maximum, "abs": np.abs, "neg": np.negative,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert, "lop3": lookup,
    "shl": shift_left, "shr": shift_right, "div": quotient, "rem": lambda a, b: a - quotient(a, b) * b, "prmt": permute,
    "bfe": extract, "bfi": insert, "brev": by_lane(lambda width, x: int(f"{x:0{width}b}"[::-1], 2)),
    "popc": by_lane(lambda width, x: x.bit_count()), "clz": by_lane(lambda width, x: width - x.bit_length()),
}
COMPARE: dict[str, Function] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
}
# fmt: on


def float_formula(op: str, mods: set[str], kind: str, approximate: bool) -> Formula:
    single = kind.removesuffix("x2")
    if single not in ("f32", "f64"):
        raise KeyError(kind)
    if mods & {"approx", "full"} and approximate:
        function, exact = ROUGH[op], np.float64
    else:
        (function, known), exact = FLOAT[op], DTYPE[single]
        if mods - set(known.split()) or (op in ("div", "sqrt", "rcp", "fma") and "rn" not in mods):
            raise KeyError(op)
    function = partial(function, "NaN" in mods) if op in ("min", "max") else function
    before = flush if "ftz" in mods and single == "f32" else np.asarray

    def rounded(*values: Array) -> Array:
        result = function(*(before(value).astype(exact) for value in values)).astype(DTYPE[single])
        return np.fmin(np.fmax(before(result), 0), 1) if "sat" in mods else before(result)

    return rounded, kind, [kind] * 3


def integer_formula(op: str, mods: set[str], kind: str) -> Formula:
    if kind.endswith("x2") and op not in ("add", "min", "max"):  # of pairs, sm_90 has no more
        raise KeyError(op)
    if mods == {"relu"} and op in ("min", "max") and kind in ("s32", "s16x2"):  # what is below zero becomes zero
        return lambda a, b: np.maximum(INTEGER[op](a, b), 0), kind, [kind, kind]
    known = {"mul": "lo hi wide", "mad": "lo hi wide", "mul24": "lo hi", "mad24": "lo hi", "shf": "l r wrap clamp"}
    if mods - set(known.get(op, "").split()):
        raise KeyError(op)
    if op in known:
        result = f"{kind[0]}{2 * width_of(kind)}" if "wide" in mods else kind
        compute = funnel if op == "shf" else product24 if op.endswith("24") else product
        return partial(compute, mods), result, [kind, kind, result]
    if op in ("popc", "clz"):
        return lambda a: INTEGER[op](a).astype(np.uint32), "u32", [kind]
    own = {"shl": 1, "shr": 1, "bfe": 1, "bfi": 2}.get(op, 4)  # the other sources are counts
    return INTEGER[op], kind, [kind] * own + ["u32"] * 2


def compare(test: str, kind: str) -> Function:
    """setp: an unordered test such as equ holds for NaN, an ordered one does not."""
    if not is_float(kind):
        return COMPARE[test]
    if test in ("num", "nan"):
        return lambda a, b: (np.isnan(a) | np.isnan(b)) == (test == "nan")
    return lambda a, b: np.where(np.isnan(a) | np.isnan(b), test.endswith("u"), COMPARE[test[:2]](a, b))


def to_integer(value: Array, kind: str, source: str) -> Array:
    """Clamped. NaN is 0, but from f64 or to 64 bits it is the top bit, as the ISA says of cvt."""
    info, value = np.iinfo(DTYPE[kind]), value.astype(np.float64)
    low, high = (np.asarray(end, DTYPE[kind]) for end in (info.min, info.max))
    below, above = value <= float(info.min), value >= float(info.max)
    inside = np.where(below | above | np.isnan(value), 0, value).astype(DTYPE[kind])
    top = UINT[info.bits]((source == "f64" or info.bits == 64) << info.bits - 1).view(DTYPE[kind])
    return np.where(np.isnan(value), top, np.where(below, low, np.where(above, high, inside)))


def convert(mods: set[str], kind: str, source: str) -> Formula:
    """cvt in all directions between integers and floats, to nearest, towards zero, or to whole numbers."""
    whole = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
    how = [function for name, function in whole.items() if name in mods]
    if mods - {*whole, "rn", "rz", "ftz", "sat"} or (is_float(source) and not is_float(kind) and not how):
        raise KeyError(kind)
    if "rz" in mods and source in ("s64", "u64"):
        raise KeyError(source)

    def function(*values: Array) -> Array:
        a = values[0] if len(values) == 1 else np.stack(np.broadcast_arrays(*values[::-1]), -1)
        a = flush(a) if "ftz" in mods and source == "f32" else a
        a = how[0](a) if how else a
        if not is_float(kind) and is_float(source):
            return to_integer(a, kind, source)
        if not is_float(kind):
            to, own = np.iinfo(DTYPE[kind]), np.iinfo(a.dtype)
            return (np.clip(a, max(to.min, own.min), min(to.max, own.max)) if "sat" in mods else a).astype(DTYPE[kind])
        a = np.fmin(np.fmax(a, 0), 1) if "sat" in mods else a
        if "rz" in mods:  # what rounding to the nearest made larger goes back by one step
            one, held = kind.removesuffix("x2"), bits(a, kind.removesuffix("x2"))
            larger = np.abs(number(held, one).astype(np.float64)) > np.abs(a.astype(np.float64))
            a = number(held - larger.astype(held.dtype), one)
        a = a.astype(DTYPE.get(kind, np.float64))
        return flush(a) if "ftz" in mods and kind == "f32" else a

    return function, kind, [source, source]  # the first of two operands is the high half


def formula(op: str, mods: set[str], kinds: list[str], approximate: bool) -> Formula:
    """What an instruction computes from its sources alone. A KeyError says that it is not known."""
    kind = kinds[-1]
    if op == "cvt":
        return convert(mods, *kinds)
    if op == "selp":
        return lambda a, b, p: np.where(p, a, b), raw(kind), [raw(kind), raw(kind), "pred"]
    if op == "slct":
        return lambda a, b, c: np.where(c >= 0, a, b), raw(kinds[0]), [raw(kinds[0]), raw(kinds[0]), kind]
    return float_formula(op, mods, kind, approximate) if is_float(kind) else integer_formula(op, mods, kind)
