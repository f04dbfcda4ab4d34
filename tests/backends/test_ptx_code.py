"""Single instructions in the PTX emulator, against Python's numbers (long: a test for each instruction)."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("triton")

from benchmarks.evidence.ptx import Emulator
from benchmarks.evidence.ptx_code import Traffic

Array = NDArray[Any]

RANDOM = np.random.default_rng(7)
NAN, INF = float("nan"), float("inf")


def words(array: Any) -> Array:
    """The bits of an array or tensor."""
    array = array.view(torch.int16).numpy() if isinstance(array, torch.Tensor) else array
    return array.view(f"u{array.itemsize}")


def integers(kind: str, count: int = 96) -> Array:
    """The ends of the range, what lies around zero, and random ones."""
    info = np.iinfo(kind)
    ends = [info.min, info.min + 1, info.max - 1, info.max, 0, 1, 2, 31, 32, 33, 63, 64, 65, info.max // 2]
    drawn = RANDOM.integers(info.min, info.max, count - len(ends), dtype=kind, endpoint=True)
    return np.concatenate([np.array(ends, kind), drawn >> RANDOM.integers(0, info.bits, drawn.size).astype(kind)])


def numbers(kind: str, count: int = 416) -> Array:
    """Every exponent, ends of integer ranges, halves, what is special, and random mantissas."""
    single = np.dtype(kind).itemsize == 4
    ends = [
        side * (2.0**power + step)
        for side in (1, -1)
        for power in (7, 8, 15, 16, 31, 32, 63, 64)
        for step in (-1, -0.5, 0, 0.5)
    ]
    special = [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, INF, -INF, NAN, 1e-40, -1e-40, 5e-324, 65504.0, 65520.0, 3.3895e38]
    drawn = RANDOM.integers(0, 1 << (32 if single else 64) - 1, count, dtype="u4" if single else "u8", endpoint=True)
    drawn = np.where(RANDOM.random(count) < 0.5, drawn, drawn & ~np.array((1 << 20) - 1, drawn.dtype))
    near = (RANDOM.standard_normal(count) * 2.0 ** RANDOM.integers(-30, 40, count)).astype(kind)
    return np.concatenate([np.array(ends + special).astype(kind), drawn.view(kind), near, -near])


def execute(code: str, into: str, *sources: Array, **options: Any) -> Array:
    """Run PTX on %a, %b, %c and %i, one element for each thread, and give what it leaves in %d."""
    count, names = sources[0].size, "abc"[: len(sources)]
    arrays = [np.resize(source, -(-count // 32) * 32) for source in sources]
    target = np.zeros(arrays[0].size, into)
    size = {name: array.itemsize for name, array in zip(names + "d", [*arrays, target], strict=True)}
    params = ", ".join(f".param .u64 p{name}" for name in names + "d")
    lines = [f".reg .b{8 * max(size[name], 2)} %{name};" for name in size] + [
        ".reg .b64 %x<4>; .reg .b32 %i; .reg .pred %p<4>;"
    ]
    lines += ["mov.u32 %i, %ctaid.x; mad.lo.u32 %i, %i, 32, %laneid;"]
    for name in size:
        lines += [f"ld.param.b64 %x0, [p{name}]; mad.wide.u32 %x{1 if name == 'd' else 0}, %i, {size[name]}, %x0;"]
        lines += [f"ld.global.b{8 * size[name]} %{name}, [%x0];"] if name != "d" else []
    lines += [code, f"st.global.b{8 * size['d']} [%x1], %d; ret;"]
    text = f".visible .entry k({params}) .reqntid 32 {{ {' '.join(lines)} }}"
    Emulator(text, **options).run((target.size // 32,), *arrays, target)
    return target[:count]


def rounded(value: Fraction, bits: int, least: int, towards_zero: bool = False) -> Fraction:
    """To `bits` of mantissa, at steps of 2**least at the least; ties to even."""
    if value == 0:
        return value
    exponent = abs(value.numerator).bit_length() - value.denominator.bit_length()
    exponent -= abs(value) < Fraction(2) ** exponent
    step = Fraction(2) ** max(exponent - bits + 1, least)
    return (int(value / step) if towards_zero else round(value / step)) * step


def quotient(a: int, b: int) -> int:
    """Towards zero; all ones by zero."""
    return -1 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def permuted(a: int, b: int, control: int) -> int:
    eight = [(b << 32 | a) >> 8 * i & 255 for i in range(8)]
    chosen = [control >> 4 * i & 15 for i in range(4)]
    return sum((eight[n & 7] if n < 8 else 255 * (eight[n & 7] >> 7)) << 8 * i for i, n in enumerate(chosen))


def signed_field(a: int, start: int, count: int) -> int:
    field, count = a >> (start & 255) & (1 << (count & 255)) - 1, count & 255
    return field - (1 << count) if count and field >> count - 1 else field


def inserted(a: int, b: int, start: int, count: int) -> int:
    mask = ((1 << (count & 255)) - 1) << (start & 255)
    return b & ~mask | a << (start & 255) & mask


def low24(a: int, signed: bool) -> int:
    return (a & 0xFFFFFF) - (1 << 24 if signed and a >> 23 & 1 else 0)


def clamped(value: int, kind: str) -> int:
    return min(max(value, np.iinfo(kind).min), np.iinfo(kind).max)


def pairs(a: int, b: int, operation: Callable[[int, int], int], signed: bool) -> int:
    """Of the low and of the high halves of two words."""
    halves = [[(x >> at & 0xFFFF ^ 0x8000) - 0x8000 if signed else x >> at & 0xFFFF for x in (a, b)] for at in (0, 16)]
    low, high = (operation(*half) & 0xFFFF for half in halves)
    return high << 16 | low


U = 0xFFFFFFFF
LONG = "{ .reg .b32 t; cvt.u32.u64 t, %b;"  # the second operand as a count; a scope with a register of its own
INTEGER: dict[str, tuple[str, str, Callable[[int, int, int], int]]] = {  # kinds of sources and result, and the answer
    "add.s32 %d, %a, %b;": ("i4", "i4", lambda a, b, c: a + b),
    "sub.u64 %d, %a, %b;": ("u8", "u8", lambda a, b, c: a - b),
    "add.s16 %d, %a, -7;": ("i2", "i2", lambda a, b, c: a - 7),
    "mul.lo.s32 %d, %a, %b;": ("i4", "i4", lambda a, b, c: a * b),
    "mul.hi.s32 %d, %a, %b;": ("i4", "i4", lambda a, b, c: a * b >> 32),
    "mul.hi.u32 %d, %a, %b;": ("u4", "u4", lambda a, b, c: a * b >> 32),
    "mul.hi.s64 %d, %a, %b;": ("i8", "i8", lambda a, b, c: a * b >> 64),
    "mul.hi.u64 %d, %a, %b;": ("u8", "u8", lambda a, b, c: a * b >> 64),
    "mul.hi.u16 %d, %a, %b;": ("u2", "u2", lambda a, b, c: a * b >> 16),
    "mul.wide.u16 %d, %a, %b;": ("u2", "u4", lambda a, b, c: a * b),
    "mul.wide.s32 %d, %a, %b;": ("i4", "i8", lambda a, b, c: a * b),
    "mad.wide.u32 %d, %a, %b, 0x10000000F;": ("u4", "u8", lambda a, b, c: a * b + 0x10000000F),
    "mad.lo.s32 %d, %a, %b, %c;": ("i4", "i4", lambda a, b, c: a * b + c),
    "mad.hi.u32 %d, %a, %b, %c;": ("u4", "u4", lambda a, b, c: (a * b >> 32) + c),
    "mul24.lo.s32 %d, %a, %b;": ("i4", "i4", lambda a, b, c: low24(a, True) * low24(b, True)),
    "mul24.hi.u32 %d, %a, %b;": ("u4", "u4", lambda a, b, c: low24(a, False) * low24(b, False) >> 16),
    "mad24.lo.u32 %d, %a, %b, %c;": ("u4", "u4", lambda a, b, c: low24(a, False) * low24(b, False) + c),
    "div.s32 %d, %a, %b;": ("i4", "i4", lambda a, b, c: quotient(a, b)),
    "div.u64 %d, %a, %b;": ("u8", "u8", lambda a, b, c: quotient(a, b)),
    "rem.s32 %d, %a, %b;": ("i4", "i4", lambda a, b, c: a - quotient(a, b) * b),
    "rem.u32 %d, %a, %b;": ("u4", "u4", lambda a, b, c: a - quotient(a, b) * b),
    "rem.s64 %d, %a, %b;": ("i8", "i8", lambda a, b, c: a - quotient(a, b) * b),
    "min.s32 %d, %a, %b;": ("i4", "i4", lambda a, b, c: min(a, b)),
    "max.u16 %d, %a, %b;": ("u2", "u2", lambda a, b, c: max(a, b)),
    "min.relu.s32 %d, %a, %b;": ("i4", "i4", lambda a, b, c: max(min(a, b), 0)),
    "max.relu.s32 %d, %a, %b;": ("i4", "i4", lambda a, b, c: max(a, b, 0)),
    "add.s16x2 %d, %a, %b;": ("u4", "u4", lambda a, b, c: pairs(a, b, lambda x, y: x + y, True)),
    "add.u16x2 %d, %a, 0x8000FFFF;": ("u4", "u4", lambda a, b, c: pairs(a, 0x8000FFFF, lambda x, y: x + y, False)),
    "min.s16x2 %d, %a, %b;": ("u4", "u4", lambda a, b, c: pairs(a, b, min, True)),
    "max.u16x2 %d, %a, %b;": ("u4", "u4", lambda a, b, c: pairs(a, b, max, False)),
    "min.relu.s16x2 %d, %a, %b;": ("u4", "u4", lambda a, b, c: pairs(a, b, lambda x, y: max(min(x, y), 0), True)),
    "max.relu.s16x2 %d, %a, %b;": ("u4", "u4", lambda a, b, c: pairs(a, b, lambda x, y: max(x, y, 0), True)),
    "abs.s32 %d, %a;": ("i4", "i4", lambda a, b, c: abs(a)),
    "neg.s64 %d, %a;": ("i8", "i8", lambda a, b, c: -a),
    "and.b32 %d, %a, %b;": ("u4", "u4", lambda a, b, c: a & b),
    "or.b64 %d, %a, %b;": ("u8", "u8", lambda a, b, c: a | b),
    "xor.b16 %d, %a, %b;": ("u2", "u2", lambda a, b, c: a ^ b),
    "not.b32 %d, %a;": ("u4", "u4", lambda a, b, c: ~a),
    "lop3.b32 %d, %a, %b, %c, 0x96;": ("u4", "u4", lambda a, b, c: a ^ b ^ c),
    "lop3.b32 %d, %a, %b, %c, 0xCA;": ("u4", "u4", lambda a, b, c: a & b | ~a & c),
    "shl.b32 %d, %a, %b;": ("u4", "u4", lambda a, b, c: a << b if b < 32 else 0),
    "shr.u32 %d, %a, %b;": ("u4", "u4", lambda a, b, c: a >> b if b < 32 else 0),
    "shr.s32 %d, %a, %b;": ("i4", "i4", lambda a, b, c: a >> min(b & U, 31)),
    LONG + "shl.b64 %d, %a, t; }": ("u8", "u8", lambda a, b, c: a << (b & U) if b & U < 64 else 0),
    LONG + "shr.s64 %d, %a, t; }": ("i8", "i8", lambda a, b, c: a >> min(b & U, 63)),
    "shf.l.wrap.b32 %d, %a, %b, %c;": ("u4", "u4", lambda a, b, c: (b << 32 | a) << (c & 31) >> 32),
    "shf.l.clamp.b32 %d, %a, %b, %c;": ("u4", "u4", lambda a, b, c: (b << 32 | a) << min(c, 32) >> 32),
    "shf.r.wrap.b32 %d, %a, %b, %c;": ("u4", "u4", lambda a, b, c: (b << 32 | a) >> (c & 31)),
    "shf.r.clamp.b32 %d, %a, %b, %c;": ("u4", "u4", lambda a, b, c: (b << 32 | a) >> min(c, 32)),
    "bfe.u32 %d, %a, %b, %c;": ("u4", "u4", lambda a, b, c: a >> (b & 255) & (1 << (c & 255)) - 1),
    "bfe.s32 %d, %a, %b, %c;": ("i4", "i4", signed_field),
    "bfe.u32 %d, %a, 5, 9;": ("u4", "u4", lambda a, b, c: a >> 5 & 511),
    "bfe.s32 %d, %a, 25, 9;": ("i4", "i4", lambda a, b, c: a >> 25),
    "bfi.b32 %d, %a, %b, %c, 7;": ("u4", "u4", lambda a, b, c: inserted(a, b, c, 7)),
    "bfi.b32 %d, %a, %b, 3, %c;": ("u4", "u4", lambda a, b, c: inserted(a, b, 3, c)),
    "prmt.b32 %d, %a, %b, %c;": ("u4", "u4", permuted),
    "prmt.b32 %d, %a, 0, 0xbbb3U;": ("u4", "u4", lambda a, b, c: permuted(a, 0, 0xBBB3)),
    "popc.b32 %d, %a;": ("u4", "u4", lambda a, b, c: a.bit_count()),
    "popc.b64 %d, %a;": ("u8", "u4", lambda a, b, c: a.bit_count()),
    "clz.b32 %d, %a;": ("u4", "u4", lambda a, b, c: 32 - a.bit_length()),
    "clz.b64 %d, %a;": ("u8", "u4", lambda a, b, c: 64 - a.bit_length()),
    "brev.b32 %d, %a;": ("u4", "u4", lambda a, b, c: int(f"{a:032b}"[::-1], 2)),
    "slct.b32.s32 %d, %a, %b, %c;": ("i4", "i4", lambda a, b, c: a if c >= 0 else b),
    "setp.lo.u32 %p0, %a, %b; selp.b32 %d, %a, %b, %p0;": ("u4", "u4", lambda a, b, c: min(a, b)),
    "setp.ge.s16 %p0, %a, %b; @%p0 mov.b16 %d, %a; @!%p0 mov.b16 %d, 3;": (
        "i2",
        "i2",
        lambda a, b, c: a if a >= b else 3,
    ),
    "setp.gt.s32 %p2, %c, 0; setp.lt.and.s32 %p0|%p1, %a, %b, !%p2; selp.b32 %d, 1, 0, %p0; @%p1 add.s32 %d, %d, 2;": (
        *("i4", "i4"),
        lambda a, b, c: (a < b and c <= 0) + 2 * (a >= b and c <= 0),
    ),
    "setp.eq.s32 %p1, %a, %a; setp.ne.xor.s32 %p0, %a, 0, %p1; selp.b32 %d, %a, %b, %p0;": (
        "i4",
        "i4",
        lambda a, b, c: b if a else a,
    ),
    "{ .reg .b16 low, high; mov.b32 {low, high}, %a; mov.b32 %d, {high, low}; }": (
        *("u4", "u4"),
        lambda a, b, c: a >> 16 | a << 16,
    ),
    "{ .reg .b32 high; mov.b64 {_, high}, %a; cvt.s64.s32 %d, high; }": ("i8", "i8", lambda a, b, c: a >> 32),
    "cvt.s64.s32 %d, %a;": ("i4", "i8", lambda a, b, c: a),
    "cvt.u16.u64 %d, %a;": ("u8", "u2", lambda a, b, c: a),
    "cvt.s32.s8 %d, %a;": ("i4", "i4", lambda a, b, c: (a & 255 ^ 128) - 128),
    "cvt.sat.u8.s32 %d, %a;": ("i4", "u2", lambda a, b, c: clamped(a, "u1")),
    "cvt.sat.s16.u32 %d, %a;": ("u4", "i2", lambda a, b, c: clamped(a, "i2")),
}


@pytest.mark.parametrize("code", INTEGER)
def test_integers(code: str) -> None:
    """In whole numbers without end, cut to the width at last."""
    kind, into, answer = INTEGER[code]
    drawn = integers(kind)
    a, b, c = (np.tile(drawn, drawn.size), np.repeat(drawn, drawn.size), RANDOM.permutation(np.tile(drawn, drawn.size)))
    chosen = RANDOM.choice(a.size, 1600, replace=False)
    sources = [array[chosen] for array in (a, b, c)]
    found = execute(code, into, *sources)
    cut = (1 << 8 * found.itemsize) - 1
    expected = [int(answer(*map(int, values))) & cut for values in zip(*sources, strict=True)]
    np.testing.assert_array_equal(words(found), np.array(expected, f"u{found.itemsize}"))


FORMATS = {
    "f16": (11, -24, 65504),
    "bf16": (8, -133, 0xFF << 120),
    "f32": (24, -149, 0xFFFFFF << 104),
    "f64": (53, -1074, (1 << 53) - 1 << 971),
}


def nearest(value: Fraction | float, kind: str, towards_zero: bool = False) -> Fraction | float:
    """The number of that format, from a fraction; infinite and NaN as they are."""
    if not isinstance(value, Fraction):
        return value
    bits, least, greatest = FORMATS[kind]
    found = rounded(value, bits, least, towards_zero)
    return found if abs(found) <= greatest else INF if found > 0 else -INF


def exactly(value: Any) -> Fraction | float:
    return Fraction(float(value)) if np.isfinite(value) else float(value)


def same(found: Array, expected: list[Fraction | float]) -> None:
    """As numbers; the sign of a zero is compared elsewhere."""
    wanted = np.array([float(value) for value in expected])
    np.testing.assert_array_equal(found.astype(np.float64), wanted)


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_fused_multiply_add_rounds_once(kind: str) -> None:
    drawn = numbers(kind, 200)
    a, b = RANDOM.permutation(drawn), RANDOM.permutation(drawn)
    with np.errstate(all="ignore"):
        near = -(a * b)  # cancels, and leaves what rounding the product would lose
    c = np.where(RANDOM.random(a.size) < 0.5, near, drawn)
    name = f"f{8 * int(kind[1])}"
    found = execute(f"fma.rn.{name} %d, %a, %b, %c;", kind, a, b, c)
    finite = np.isfinite(a) & np.isfinite(b) & np.isfinite(c)
    exact = [
        nearest(exactly(x) * exactly(y) + exactly(z), name)
        for x, y, z in zip(a[finite], b[finite], c[finite], strict=True)
    ]
    limit = float(np.finfo(kind).max)
    same(found[finite], [value if abs(value) <= limit else np.copysign(INF, value) for value in exact])
    with np.errstate(all="ignore"):
        loose = np.where(np.isfinite(a) & np.isfinite(b), 0, a * b) + c
        twice = a * b + c
    np.testing.assert_array_equal(found[~finite], loose[~finite])
    assert (found[finite] != twice[finite]).any(), "the comparison sees a second rounding"


@pytest.mark.parametrize("code", ["add.rn", "sub", "mul.rn", "div.rn"])
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_arithmetic_is_rounded_to_the_nearest(kind: str, code: str) -> None:
    drawn = numbers(kind, 150)
    a, b = RANDOM.permutation(drawn), RANDOM.permutation(drawn)
    keep = np.isfinite(a) & np.isfinite(b) & (b != 0)
    name, a, b = f"f{8 * int(kind[1])}", a[keep], b[keep]
    found = execute(f"{code}.{name} %d, %a, %b;", kind, a, b)
    answer = {"add": Fraction.__add__, "sub": Fraction.__sub__, "mul": Fraction.__mul__, "div": Fraction.__truediv__}
    exact = [answer[code[:3]](exactly(x), exactly(y)) for x, y in zip(a, b, strict=True)]
    same(found, [nearest(value, name) for value in exact])


@pytest.mark.parametrize("mode", ["rn", "rz"])
@pytest.mark.parametrize(
    ("source", "into"), [("f32", "f16"), ("f32", "bf16"), ("f64", "f16"), ("f64", "bf16"), ("f64", "f32")]
)
def test_floats_to_narrower_floats(source: str, into: str, mode: str) -> None:
    drawn = numbers(f"f{int(source[1:]) // 8}")
    held = execute(f"cvt.{mode}.{into}.{source} %d, %a;", "u4" if into == "f32" else "u2", drawn)
    found = {"f16": lambda: held.view("f2"), "f32": lambda: held.view("f4")}.get(into, lambda: widened(held))()
    expected = [nearest(exactly(value), into, mode == "rz") for value in drawn]
    if mode == "rz":
        greatest = FORMATS[into][2]
        finite = zip(expected, drawn, strict=True)
        expected = [np.sign(value) * greatest if np.isfinite(v) and abs(value) == INF else value for value, v in finite]
    same(found, expected)


def widened(held: Array) -> Array:
    """bfloat16 as float32."""
    return (held.astype("u4") << 16).view("f4")


def test_pairs_of_halves() -> None:
    """The first operand is the high half. Torch rounds the same way."""
    a, b = numbers("f4"), RANDOM.permutation(numbers("f4"))
    for into, dtype in (("f16x2", torch.float16), ("bf16x2", torch.bfloat16)):
        held = execute(f"cvt.rn.{into}.f32 %d, %a, %b;", "u4", a, b)
        for half, value in ((held >> 16, a), (held & 0xFFFF, b)):
            expected = words(torch.from_numpy(value).to(dtype))
            number = ~np.isnan(value)
            np.testing.assert_array_equal(half[number], expected[number])
            assert (half[~number] == 0x7FFF).all()
    half = RANDOM.integers(0, 1 << 16, 400, dtype="u2")
    np.testing.assert_array_equal(execute("cvt.f32.f16 %d, %a;", "f4", half), half.view("f2").astype("f4"))
    np.testing.assert_array_equal(execute("cvt.f32.bf16 %d, %a;", "f4", half), widened(half))


@pytest.mark.parametrize("source", ["f32", "f64"])
@pytest.mark.parametrize("into", ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"])
def test_floats_to_integers_are_clamped(source: str, into: str) -> None:
    drawn = numbers(f"f{int(source[1:]) // 8}", 150)
    width, signed = int(into[1:]), into[0] == "s"
    low, high = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
    nan = (low or 1 << width - 1) if source == "f64" or width == 64 else 0
    for mode, whole in {
        "rni": round,
        "rzi": int,
        "rmi": lambda x: x.__floor__(),
        "rpi": lambda x: x.__ceil__(),
    }.items():
        found = execute(f"cvt.{mode}.{into}.{source} %d, %a;", f"u{max(width // 8, 2)}", drawn)
        expected = []
        for value in map(exactly, drawn):
            limited = high if value == INF else low if value == -INF else None
            limited = nan if value != value else limited
            expected.append(
                (min(max(whole(value), low), high) if limited is None else limited) & (1 << found.itemsize * 8) - 1
            )
            if width == 8 and not signed:
                expected[-1] &= 255
        np.testing.assert_array_equal(found, np.array(expected, found.dtype))


@pytest.mark.parametrize("into", ["f32", "f64"])
@pytest.mark.parametrize("source", ["u16", "s32", "u32", "s64", "u64"])
def test_integers_to_floats(source: str, into: str) -> None:
    drawn = integers(f"{'i' if source[0] == 's' else 'u'}{int(source[1:]) // 8}", 400)
    for mode in ("rn", "rz") if into == "f32" and source in ("s32", "u32") else ("rn",):
        found = execute(f"cvt.{mode}.{into}.{source} %d, %a;", into[0] + str(int(into[1:]) // 8), drawn)
        same(found, [nearest(Fraction(int(value)), into, mode == "rz") for value in drawn])


SMALL = 2.0**-130  # subnormal in float32
FLOATS: dict[str, tuple[list[float], float]] = {
    "min.f32 %d, %a, %b;": ([-0.0, 0.0], -0.0),
    "max.f32 %d, %a, %b;": ([-0.0, 0.0], 0.0),
    "min.f64 %d, %a, %b;": ([3.0, NAN], 3.0),
    "max.f32 %d, %a, %b; ": ([NAN, -2.0], -2.0),
    "max.NaN.f32 %d, %a, %b;": ([NAN, -2.0], NAN),
    "abs.f32 %d, %a;": ([-1.5], 1.5),
    "neg.f64 %d, %a;": ([0.0], -0.0),
    "add.f32 %d, %a, %b;": ([SMALL, SMALL], 2 * SMALL),
    "add.ftz.f32 %d, %a, %b;": ([SMALL, 1.0], 1.0),
    "mul.rn.ftz.f32 %d, %a, %b;": ([-1e-30, 1e-10], -0.0),
    "fma.rn.ftz.f32 %d, %a, %b, %c;": ([1e-30, 1e-10, -SMALL], 0.0),
    "add.sat.f32 %d, %a, %b;": ([0.75, 0.5], 1.0),
    "mul.sat.f32 %d, %a, %b;": ([NAN, 0.5], 0.0),
    "sqrt.rn.f32 %d, %a;": ([2.0], float(np.sqrt(np.float32(2)))),
    "rcp.rn.f64 %d, %a;": ([3.0], 1 / 3),
    "cvt.rmi.ftz.f32.f32 %d, %a;": ([-SMALL], -0.0),
    "cvt.rmi.f32.f32 %d, %a;": ([-SMALL], -1.0),
    "cvt.rni.f64.f64 %d, %a;": ([2.5], 2.0),
    "cvt.rpi.f32.f32 %d, %a;": ([-0.5], -0.0),
    "cvt.rzi.f64.f64 %d, %a;": ([-2.5], -2.0),
    "cvt.sat.f32.f32 %d, %a;": ([-3.0], 0.0),
    "mov.b32 %d, 0f3FC00000;": ([0.0], 1.5),
    "mov.f64 %d, 0d3FF8000000000000;": ([0.0], 1.5),
    "setp.equ.f32 %p0, %a, 0f00000000; selp.f32 %d, %a, %b, %p0;": ([NAN, 1.0], NAN),
    "setp.eq.f32 %p0, %a, %a; selp.f32 %d, %a, %b, %p0;": ([NAN, 1.0], 1.0),
    "setp.ne.f32 %p0, %a, %a; selp.f32 %d, %a, %b, %p0;": ([NAN, 1.0], 1.0),
    "setp.neu.f32 %p0, %a, %a; selp.f32 %d, 0f40000000, %b, %p0;": ([NAN, 1.0], 2.0),
    "setp.nan.f64 %p0, %a, %b; selp.f64 %d, %a, %b, %p0;": ([2.0, NAN], 2.0),
    "setp.lt.ftz.f32 %p0, %a, %b; selp.f32 %d, %a, %b, %p0;": ([-SMALL, 0.0], 0.0),
    "slct.f32.f32 %d, %a, %b, %c;": ([1.0, 2.0, -0.0], 1.0),
}


@pytest.mark.parametrize("code", FLOATS)
def test_floats(code: str) -> None:
    values, expected = FLOATS[code]
    kind = "f8" if "64" in code else "f4"
    (found,) = execute(code, kind, *(np.array([value], kind) for value in values))
    assert np.isnan(found) if np.isnan(expected) else words(np.array(found)) == words(np.array(expected, kind))
    if kind == "f4" and np.isnan(expected) and "selp" not in code:
        assert words(np.array(found)) == 0x7FFFFFFF


@pytest.mark.parametrize(
    "code",
    ["ex2.approx.f32 %d, %a;", "div.full.f32 %d, %a, %a;", "div.approx.f32 %d, %a, %a;", "rcp.approx.ftz.f32 %d, %a;"],
)
def test_approximations_are_refused_unless_allowed(code: str) -> None:
    with pytest.raises(NotImplementedError, match=re.escape(code.split(";")[0].split()[0])):
        execute(code, "f4", np.ones(1, "f4"))
    assert execute(code, "f4", np.ones(1, "f4"), allow_approximate=True) == (2 if "ex2" in code else 1)


@pytest.mark.parametrize(
    "code",
    [
        "add.cc.u32 %d, %a, %a;",
        "add.rz.f32 %d, %a, %a;",
        "ld.local.b32 %d, [%x0];",
        "mov.b32 %d, nowhere;",
        "frob.b32 %d, %a;",
        "min.relu.u32 %d, %a, %a;",
        "mul.lo.s16x2 %d, %a, %a;",
        "vote.sync.all.b32 %d, %p0, -1;",
    ],
)
def test_what_is_unknown_is_named(code: str) -> None:
    with pytest.raises(NotImplementedError, match=re.escape(code[:-1])):
        execute(code, "f4", np.ones(1, "f4"))


def test_lanes_exchange() -> None:
    a = integers("u4", 64)
    lane = np.arange(64) % 32
    found = execute("shfl.sync.bfly.b32 %d, %a, 5, 31, -1;", "u4", a)
    np.testing.assert_array_equal(found, a[np.arange(64) ^ 5])
    found = execute("shfl.sync.up.b32 %d|%p0, %a, 4, 0, -1; @!%p0 mov.b32 %d, 9;", "u4", a)
    np.testing.assert_array_equal(found, np.where(lane < 4, 9, np.roll(a, 4)))
    found = execute("shfl.sync.down.b32 %d, %a, 3, 0x1807, -1;", "u4", a)  # within segments of 8
    np.testing.assert_array_equal(found, a[np.arange(64) + np.where(lane % 8 < 5, 3, 0)])
    found = execute("shfl.sync.idx.b32 %d, %a, 7, 31, -1;", "u4", a)
    np.testing.assert_array_equal(found, np.repeat(a[7::32], 32))
    found = execute("shfl.sync.idx.b32 %d, %a, 13, 0x181f, -1;", "u4", a)
    np.testing.assert_array_equal(found, np.repeat(a[5::8], 8))
    found = execute("redux.sync.min.s32 %d, %a, -1;", "i4", a.view("i4"))
    np.testing.assert_array_equal(found, np.repeat(a.view("i4").reshape(2, 32).min(1), 32))
    with pytest.raises(NotImplementedError, match="part of a warp"):
        execute("setp.ne.u32 %p0, %laneid, 3; @%p0 shfl.sync.idx.b32 %d, %a, 7, 31, -1;", "u4", a)


def test_lanes_vote() -> None:
    a = RANDOM.integers(0, 2, 64, dtype="u4")
    ballot = [sum(int(bit) << i for i, bit in enumerate(half)) for half in a.reshape(2, 32)]
    found = execute("setp.ne.u32 %p0, %a, 0; vote.sync.ballot.b32 %d, %p0, -1;", "u4", a)
    np.testing.assert_array_equal(found, np.repeat(np.array(ballot, "u4"), 32))
    found = execute("setp.ne.u32 %p0, %a, 0; vote.sync.ballot.b32 %d, !%p0, 0xffffffff;", "u4", a)
    np.testing.assert_array_equal(found, ~np.repeat(np.array(ballot, "u4"), 32))
    a[:32], a[32:] = 1, 0
    for how, expected in (("all", [1, 0]), ("any", [1, 0]), ("uni", [1, 1])):
        code = f"setp.ne.u32 %p0, %a, 0; vote.sync.{how}.pred %p1, %p0, -1; selp.b32 %d, 1, 0, %p1;"
        np.testing.assert_array_equal(execute(code, "u4", a), np.repeat(expected, 32))
        mixed = np.where(np.arange(64) == 5, 1 - a, a)
        assert execute(code, "u4", mixed)[0] == (how == "any"), how
    with pytest.raises(NotImplementedError, match="part of a warp"):
        execute("setp.ne.u32 %p0, %laneid, 3; @%p0 vote.sync.ballot.b32 %d, %p0, -1;", "u4", a)


# ---- Threads


def entry(code: str, threads: int, shared: int = 0) -> str:
    return (
        f".shared .align 16 .b8 room[{shared}]; .visible .entry k(.param .u64 out) .reqntid {threads} {{"
        ".reg .b32 %r<9>; .reg .b64 %x<3>; .reg .pred %p<9>;"
        "mov.u32 %r0, %tid.x; ld.param.b64 %x0, [out]; mad.wide.u32 %x1, %r0, 4, %x0;"
        f"{code} ret; }}"
    )


def test_divergent_loops_meet_again() -> None:
    """Lane i turns i times: a warp pays for its longest lane, and once for what comes after."""
    code = """
        mov.b32 %r1, 0; mov.b32 %r2, 0; setp.eq.u32 %p0, %r0, 0; @%p0 bra DONE;
        LOOP: add.u32 %r2, %r2, %r0; add.u32 %r1, %r1, 1; setp.lt.u32 %p0, %r1, %r0; @%p0 bra LOOP;
        DONE: st.global.b32 [%x1], %r2;
    """
    out = np.zeros(64, np.uint32)
    counts = Emulator(entry(code, 64)).run((1,), out)
    np.testing.assert_array_equal(out, np.arange(64) ** 2)
    assert counts.instructions["add.u32"] == 2 * (31 + 63)
    assert counts.instructions["st.global.b32"] == 2
    assert counts.traffic["st", "out"] == Traffic(requests=2, sectors=8, bytes=256)


def test_barriers_on_both_sides_of_a_branch() -> None:
    """The halves of a block write and wait in different places, and then read each other."""
    code = """
        mad.lo.u32 %r1, %r0, 4, room; xor.b32 %r3, %r0, 64; mad.lo.u32 %r3, %r3, 4, room;
        setp.lt.u32 %p0, %r0, 64; @%p0 bra LOW;
        mul.lo.u32 %r2, %r0, 3; st.shared.b32 [%r1], %r2; bar.sync 0; ld.shared.b32 %r4, [%r3+0]; bra.uni DONE;
        LOW: mul.lo.u32 %r2, %r0, 5; st.shared.b32 [%r1], %r2; bar.sync 0, 128; ld.shared.b32 %r4, [%r3];
        DONE: st.global.b32 [%x1], %r4;
    """
    out = np.zeros(128, np.uint32)
    counts = Emulator(entry(code, 128, 512)).run((3,), out)
    i = np.arange(128)
    np.testing.assert_array_equal(out, np.where(i < 64, (i + 64) * 3, (i - 64) * 5))
    assert counts.instructions["ld.shared.b32"] == 3 * 4


def test_blocks_along_three_sides() -> None:
    code = """
        mov.u32 %r1, %ctaid.z; mov.u32 %r2, %nctaid.y; mad.lo.u32 %r1, %r1, %r2, %ctaid.y;
        mov.u32 %r2, %nctaid.x; mad.lo.u32 %r1, %r1, %r2, %ctaid.x; mov.u32 %r3, %ntid.x;
        mad.lo.u32 %r4, %r1, %r3, %r0; mad.wide.u32 %x1, %r4, 4, %x0; atom.global.add.u32 %r5, [%x1], %r4;
    """
    out = np.zeros(2 * 4 * 3 * 64, np.uint32)
    Emulator(entry(code, 64)).run((2, 4, 3), out)
    np.testing.assert_array_equal(out, np.arange(out.size))


@pytest.mark.parametrize("turned", ["", ".trans"])
def test_tiles_of_eight_rows(turned: str) -> None:
    """Lanes 0 to 7 name the rows of the first tile, 8 to 15 those of the second."""
    code = f"""
        mad.lo.u32 %r1, %r0, 4, room; mul.lo.u32 %r2, %r0, 0x20002; add.u32 %r2, %r2, 0x10000;
        st.shared.b32 [%r1], %r2; st.shared.b32 [%r1+128], %r2; bar.sync 0;
        and.b32 %r3, %r0, 15; xor.b32 %r3, %r3, 1; mad.lo.u32 %r3, %r3, 16, room;
        ldmatrix.sync.aligned.m8n8.x2{turned}.shared.b16 {{%r4, %r5}}, [%r3];
        shl.b32 %r5, %r5, 8; add.u32 %r4, %r4, %r5; st.global.b32 [%x1], %r4;
    """
    out = np.zeros(32, np.uint32)
    Emulator(entry(code, 32, 256)).run((1,), out)
    tile = np.arange(64, dtype=np.uint16).reshape(8, 8)[np.arange(8) ^ 1]
    tile = np.ascontiguousarray(tile.T if turned else tile)
    np.testing.assert_array_equal(out, tile.view(np.uint32).ravel() * 257)


@pytest.mark.parametrize("turned", ["", ".trans"])
def test_tiles_are_stored_as_they_are_loaded(turned: str) -> None:
    """Lane i gives word i of both tiles, which come to lie in rows of 16 bytes at the addresses of lanes 0 to 15."""
    code = f"""
        mul.lo.u32 %r2, %r0, 0x20002; add.u32 %r2, %r2, 0x10000; add.u32 %r4, %r2, 0x01000100;
        and.b32 %r3, %r0, 15; xor.b32 %r3, %r3, 1; mad.lo.u32 %r3, %r3, 16, room;
        stmatrix.sync.aligned.m8n8.x2{turned}.shared.b16 [%r3], {{%r2, %r4}}; bar.sync 0;
        mad.lo.u32 %r1, %r0, 4, room; ld.shared.b32 %r5, [%r1]; ld.shared.b32 %r6, [%r1+128];
        st.global.b32 [%x1], %r5; st.global.b32 [%x1+128], %r6;
    """
    out = np.zeros(64, np.uint32)
    Emulator(entry(code, 32, 256)).run((1,), out)
    tile = np.arange(64, dtype=np.uint16).reshape(8, 8)
    tile = np.ascontiguousarray((tile.T if turned else tile)[np.arange(8) ^ 1])
    expected = np.concatenate([tile, tile + 256]).view(np.uint32)
    np.testing.assert_array_equal(out, expected.ravel())


def test_jump_tables_and_atomics() -> None:
    code = """
        and.b32 %r1, %r0, 3; brx.idx %r1, WHERE;
        WHERE: .branchtargets A, B, A, C;
        A: add.u32 %r2, %r0, 100; bra.uni DONE;
        B: mov.b32 %r2, 5; bra.uni DONE;
        C: atom.global.gpu.relaxed.add.u32 %r2, [%x0+256], 1;
        DONE: st.global.b32 [%x1], %r2;
    """
    out = np.zeros(65, np.uint32)
    Emulator(entry(code, 64)).run((1,), out)
    i = np.arange(64)
    np.testing.assert_array_equal(out[:64], np.select([i % 2 == 0, i % 4 == 1], [i + 100, 5], i // 4))
    assert out[64] == 16


def test_a_view_keeps_its_alignment_and_its_ends() -> None:
    """Bytes 3 to 23 of a buffer: words lie at 4, 8 and so on."""
    view = np.arange(32, dtype="u1")[3:24]
    for offset, fits in ((1, True), (17, True), (3, False), (-3, False), (18, False), (21, False)):
        code = f"ld.global.b32 %r1, [%x0+{offset}]; st.global.b32 [%x0+1], %r1;"
        copy = np.concatenate([np.zeros(3, "u1"), view])[3:]
        if fits:
            Emulator(entry(code, 32)).run((1,), copy)
            np.testing.assert_array_equal(copy[1:5], view[offset : offset + 4])
        else:
            with pytest.raises(IndexError, match=f"at byte -?{abs(offset):#x} of out, which has 21"):
                Emulator(entry(code, 32)).run((1,), copy)
