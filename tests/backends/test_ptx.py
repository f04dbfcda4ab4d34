"""Compiled kernels in the PTX emulator, against NumPy and torch (long: a kernel for each feature)."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

triton = pytest.importorskip("triton")

import triton.language as tl  # noqa: E402
from triton.runtime.interpreter import InterpretedFunction  # noqa: E402
from triton.runtime.jit import JITFunction  # noqa: E402

from benchmarks.evidence.ptx import Emulator, compile_ptx, load_compiled  # noqa: E402
from benchmarks.evidence.ptx_code import Counts, Traffic  # noqa: E402

Array = NDArray[Any]

RANDOM = np.random.default_rng(7)
LOW = 0xFFFFFFFF

# ---- Kernels, for the compiler even where TRITON_INTERPRET is set


@JITFunction
def invert(source, target, count, block: tl.constexpr):
    i = tl.program_id(0) * block + tl.arange(0, block)
    tl.store(target + i, 255 - tl.load(source + i, mask=i < count, other=0), mask=i < count)


@JITFunction
def switch(source, ops, target, count, block: tl.constexpr):
    sample = tl.program_id(1).to(tl.int64)
    i = tl.program_id(0) * block + tl.arange(0, block)
    op = tl.load(ops + sample)
    v = tl.load(source + sample * count + i, mask=i < count, other=0).to(tl.int32)
    if op == 0:
        v = 255 - v
    elif op == 1:
        v = v & 0xF0
    elif op == 2:
        v = tl.where(v >= 128, 255 - v, v)
    elif op == 3:  # multiply and shift: to the nearest
        v = (v * 19595 + 32768) >> 16
    elif op == 4:
        v = v // 3
    elif op == 5:
        v = v % 7 - 3
    tl.store(target + sample * count + i, v.to(tl.uint8), mask=i < count)


@JITFunction
def constants_by_op(ops, target, block: tl.constexpr):
    op = tl.load(ops + tl.program_id(0))
    value = 0
    if op == 0:
        value = 17
    elif op == 1:
        value = -5
    elif op == 2:
        value = 1234567
    elif op == 3:
        value = 99
    elif op == 4:
        value = 3
    tl.store(target + tl.program_id(0) * block + tl.arange(0, block), tl.arange(0, block) + value)


@JITFunction
def floats(x, y, z, target, count, factor, block: tl.constexpr):
    i = tl.program_id(0) * block + tl.arange(0, block)
    a, b, c = tl.load(x + i), tl.load(y + i), tl.load(z + i)
    tl.store(target + i, tl.fma(a, b, c))
    tl.store(target + count + i, tl.div_rn(a, b))
    tl.store(target + 2 * count + i, tl.floor(a) - tl.ceil(b))
    tl.store(target + 3 * count + i, tl.sqrt_rn(tl.abs(a)) + a * b)
    tl.store(target + 4 * count + i, tl.where(a < b, tl.maximum(a, c), tl.minimum(b, c)) * factor)


@JITFunction
def casts(source, half, brain, byte, whole, back, count, block: tl.constexpr):
    i = tl.program_id(0) * block + tl.arange(0, block)
    inside = i < count
    v = tl.load(source + i, mask=inside, other=0.0)
    tl.store(half + i, v.to(tl.float16), mask=inside)
    tl.store(brain + i, v.to(tl.bfloat16), mask=inside)
    tl.store(byte + i, v.to(tl.uint8), mask=inside)
    tl.store(whole + i, v.to(tl.int32), mask=inside)
    tl.store(back + i, v.to(tl.float16).to(tl.float32) + v.to(tl.uint8).to(tl.float32), mask=inside)


@JITFunction
def doubles(x, y, target, single, count, block: tl.constexpr):
    i = tl.program_id(0) * block + tl.arange(0, block)
    inside = i < count
    a, b = tl.load(x + i, mask=inside, other=1.0), tl.load(y + i, mask=inside, other=1.0)
    v = a / b + tl.sqrt(tl.abs(a)) * b - tl.floor(b)
    tl.store(target + i, v, mask=inside)
    tl.store(single + i, v.to(tl.float32), mask=inside)


@JITFunction
def loops(starts, target, count, block: tl.constexpr):
    row = tl.program_id(0)
    value = tl.load(starts + row)
    steps = 0
    while value > 1:
        value = tl.where(value % 2 == 0, value // 2, 3 * value + 1)
        steps += 1
    total = tl.zeros([block], tl.int32)
    for j in range(row, count):
        total += tl.arange(0, block) * j + steps
    tl.store(target + row * block + tl.arange(0, block), total)


@JITFunction
def draws(target, seed, block: tl.constexpr):
    i = tl.arange(0, block)
    a, b, c, d = tl.philox(seed, i, i + 1, i * 0, i * 0 + 7)
    tl.store(target + i, a)
    tl.store(target + block + i, b)
    tl.store(target + 2 * block + i, c)
    tl.store(target + 3 * block + i, d)


@JITFunction
def reductions(source, columns, rows, height: tl.constexpr, width: tl.constexpr):
    y, x = tl.arange(0, height), tl.arange(0, width)
    v = tl.load(source + y[:, None] * width + x[None, :])
    tl.store(columns + x, tl.sum(v, 0))
    tl.store(columns + width + x, tl.min(v, 0))
    tl.store(columns + 2 * width + x, v.max(0))
    tl.store(rows + y, tl.sum(v, 1))
    tl.store(rows + height, tl.sum(v))
    tl.store(rows + height + 1, tl.min(v))
    tl.store(rows + height + 2, tl.max(v))


@JITFunction
def running(source, target, block: tl.constexpr):
    i = tl.arange(0, block)
    tl.store(target + i, tl.cumsum(tl.load(source + i), 0))


@JITFunction
def histogram(source, target, block: tl.constexpr):
    counts = tl.histogram(tl.load(source + tl.arange(0, block)).to(tl.int32), 256)
    tl.store(target + tl.program_id(0) * 256 + tl.arange(0, 256), counts)


@JITFunction
def atomics(source, target, block: tl.constexpr):
    v = tl.load(source + tl.program_id(0) * block + tl.arange(0, block))
    tl.atomic_add(target + v % 8, 1)
    tl.atomic_max(target + 8, tl.max(v))


@JITFunction
def bytes_of(source, target, row, base, count, block: tl.constexpr):
    """Other element types, an offset beyond 32 bits less another, and a stride of three."""
    i = tl.program_id(0) * block + tl.arange(0, block)
    data = source.to(tl.pointer_type(tl.uint8)) + (row.to(tl.int64) * 5 - base)
    v = tl.load(data + i.to(tl.int64) * 2, mask=i < count, other=0)
    tl.store(target.to(tl.pointer_type(tl.float32)) + i * 3, v.to(tl.float32) * 0.5, mask=i < count)


@JITFunction
def sorting(source, target, block: tl.constexpr):
    i = tl.arange(0, block)
    v = tl.load(source + i)
    tl.store(target + i, tl.sort(v))
    tl.store(target + block + i, tl.gather(v, (i * 5) % block, 0))
    tl.store(target + 2 * block + i, tl.trans(tl.reshape(v, [block // 16, 16])).reshape([block]))


@JITFunction
def copy(source, target, block: tl.constexpr):
    i = tl.program_id(0) * block + tl.arange(0, block)
    tl.store(target + i, tl.load(source + i))


@JITFunction
def exponential(source, target, block: tl.constexpr):
    i = tl.arange(0, block)
    tl.store(target + i, tl.math.exp2(tl.load(source + i)) / 3.0)


def words(array: Any) -> Array:
    """The bits of an array or tensor."""
    array = array.view(torch.int16).numpy() if isinstance(array, torch.Tensor) else array
    return array.view(f"u{array.itemsize}")


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    args: tuple[Any, ...],
    constants: dict[str, int],
    third: bool = False,
    **options: Any,
) -> Counts:
    """Emulate on `args`, in place; with `third` the interpreter must make the same of copies."""
    copies = [torch.from_numpy(arg.copy()) if isinstance(arg, np.ndarray) else arg for arg in args]
    counts = Emulator(compile_ptx(kernel, args, constants, **options)).run(grid, *args)
    if third:
        InterpretedFunction(kernel.fn)[grid](*copies, **constants)
        for arg, interpreted in zip(args, copies, strict=True):
            if isinstance(arg, np.ndarray):
                np.testing.assert_array_equal(words(arg), words(interpreted.numpy()))
    return counts


# ---- Compiled kernels


STANDARD = isinstance(tl.sum, InterpretedFunction)  # only then can the interpreter run Triton's own library


@pytest.mark.parametrize(("count", "skip"), [(1024, 0), (1000, 0), (999, 1), (1, 3)])
def test_bytes_with_tails_and_offsets(count: int, skip: int) -> None:
    source, target = RANDOM.integers(0, 256, 1100, dtype="u1"), np.full(1100, 77, "u1")
    launch(invert, (3,), (source[skip:], target[skip:], count), {"block": 512}, third=True)
    np.testing.assert_array_equal(target[skip : skip + count], 255 - source[skip : skip + count])
    assert (np.delete(target, np.arange(skip, skip + count)) == 77).all()


def test_switch_for_each_sample() -> None:
    source = RANDOM.integers(0, 256, (7, 1000), dtype="u1")
    target, ops = np.zeros_like(source), np.array([6, 3, 0, 2, 5, 1, 4], "i4")
    counts = launch(switch, (2, 7), (source, ops, target, 1000), {"block": 512}, third=True)
    v = source.astype("i4")
    answers = [255 - v, v & 0xF0, np.where(v >= 128, 255 - v, v), (v * 19595 + 32768) >> 16, v // 3, v % 7 - 3, v]
    np.testing.assert_array_equal(target, np.stack([answers[op][i] for i, op in enumerate(ops)]).astype("u1"))
    assert counts.instructions["brx.idx"] == 6 * 2 * 4, "a jump table, which the default passes by"


def test_switch_of_constants() -> None:
    """A table in global memory of its own."""
    ops, target = np.array([4, 0, 9, 2, -1, 1, 3], "i4"), np.zeros((7, 128), "i4")
    counts = launch(constants_by_op, (7,), (ops, target), {"block": 128}, third=True)
    expected = np.array([3, 17, 0, 1234567, 0, -5, 99])[:, None] + np.arange(128)
    np.testing.assert_array_equal(target, expected)
    assert any(name not in ("ops", "target") for _, name in counts.traffic)


def test_floats_of_a_kernel() -> None:
    n = 1024
    x, y = (RANDOM.standard_normal((2, n)) * 2.0 ** RANDOM.integers(-9, 9, (2, n))).astype("f4")
    z = -(x * y)  # leaves what rounding the product would lose
    target = np.zeros((5, n), "f4")
    launch(floats, (2,), (x, y, z, target, n, 0.3), {"block": 512})
    best = np.where(x < y, np.maximum(x, z), np.minimum(y, z)) * np.float32(0.3)
    fused = x.astype("f8") * y + z
    expected = np.stack([fused, x / y, np.floor(x) - np.ceil(y), np.sqrt(np.abs(x)) + x * y, best])
    np.testing.assert_array_equal(target, expected.astype("f4"))
    assert target[0].any()


def test_contraction_is_off_unless_asked_for() -> None:
    args = (*(np.ones(512, "f4") for _ in range(3)), np.ones(2560, "f4"), 512, 0.3)
    plain, fused = (compile_ptx(floats, args, {"block": 512}, enable_fp_fusion=on).ptx for on in (False, True))
    assert plain.count("fma.rn") == 4
    assert fused.count("fma.rn") == 8


def test_casts() -> None:
    source = np.concatenate(
        [RANDOM.integers(0, 1 << 32, 500, "u4").view("f4"), RANDOM.uniform(-10, 300, 500).astype("f4")]
    )
    source = source[np.isfinite(source)]
    n = source.size
    half, byte, whole, back = (np.zeros(n, kind) for kind in ("f2", "u1", "i4", "f4"))
    brain = torch.zeros(n, dtype=torch.bfloat16)
    launch(casts, (4,), (source, half, brain, byte, whole, back, n), {"block": 512})
    tensor = torch.from_numpy(source)
    np.testing.assert_array_equal(words(half), words(tensor.half().numpy()))
    np.testing.assert_array_equal(words(brain), words(tensor.bfloat16()))
    np.testing.assert_array_equal(whole, np.clip(np.trunc(source.astype("f8")), -(2.0**31), 2.0**31 - 1).astype("i4"))
    inside = (source > -1) & (source < 256)
    np.testing.assert_array_equal(byte[inside], source[inside].astype("u1"))
    np.testing.assert_array_equal(back[inside], half[inside].astype("f4") + byte[inside])


def test_doubles() -> None:
    x, y = RANDOM.standard_normal((2, 500)) * 1e3
    target, single = np.zeros(500), np.zeros(500, "f4")
    launch(doubles, (2,), (x, y, target, single, 500), {"block": 256})
    expected = x / y + np.sqrt(np.abs(x)) * y - np.floor(y)
    np.testing.assert_array_equal(target, expected)
    np.testing.assert_array_equal(single, expected.astype("f4"))


def test_loops_with_bounds_at_run_time() -> None:
    starts, target = np.array([27, 1, 6, 97], "i4"), np.zeros((4, 128), "i4")
    launch(loops, (4,), (starts, target, 9), {"block": 128}, third=STANDARD)
    steps = np.array([111, 0, 8, 118])
    expected = [sum(np.arange(128) * j + steps[row] for j in range(row, 9)) for row in range(4)]
    np.testing.assert_array_equal(target, expected)


def test_philox() -> None:
    """The compiler's 32-bit words, with the high halves of its products, against Python's integers."""
    target, seed = np.zeros((4, 128), "u4"), 0x9E3779B97F4A7C15 >> 1
    launch(draws, (1,), (target, seed), {"block": 128}, third=STANDARD)
    for i in (0, 1, 127):
        c, key = [i, i + 1, 0, 7], [seed & LOW, seed >> 32]
        for _ in range(10):
            even, odd = c[0] * 0xD2511F53, c[2] * 0xCD9E8D57
            c = [(odd >> 32) ^ c[1] ^ key[0], odd & LOW, (even >> 32) ^ c[3] ^ key[1], even & LOW]
            key = [(key[0] + 0x9E3779B9) & LOW, (key[1] + 0xBB67AE85) & LOW]
        assert target[:, i].tolist() == c


@pytest.mark.parametrize("arch", [75, 80, 90])
@pytest.mark.parametrize("warps", [4, 16])
@pytest.mark.parametrize("kind", ["i4", "f4", "u1"])
def test_reductions(kind: str, warps: int, arch: int) -> None:
    """Of small whole numbers, so that the order of a sum of floats is free."""
    source = RANDOM.integers(0, 100, (32, 64)).astype(kind)
    total = "u4" if kind == "u1" else kind
    columns, rows = np.zeros((3, 64), total), np.zeros(35, total)
    third = STANDARD and warps == 4 and arch == 80
    counts = launch(
        reductions, (1,), (source, columns, rows), {"height": 32, "width": 64}, third, num_warps=warps, arch=arch
    )
    sums = np.uint32 if kind == "u1" else source.dtype
    expected = [source.sum(0, dtype=sums), source.min(0), source.max(0)]
    np.testing.assert_array_equal(columns, expected)
    np.testing.assert_array_equal(
        rows, [*source.sum(1, dtype=sums), source.sum(dtype=sums), source.min(), source.max()]
    )
    assert counts.instructions["bar.sync"] > 0


def test_running_sums() -> None:
    source, target = RANDOM.integers(-1000, 1000, 1024).astype("i4"), np.zeros(1024, "i4")
    launch(running, (1,), (source, target), {"block": 1024}, third=STANDARD)
    np.testing.assert_array_equal(target, np.cumsum(source))


def test_histograms() -> None:
    source, target = RANDOM.integers(0, 256, 4096, dtype="u1"), np.zeros((2, 256), "i4")
    launch(histogram, (2,), (source, target), {"block": 4096}, third=STANDARD)
    np.testing.assert_array_equal(target, [np.bincount(source, minlength=256)] * 2)


def test_atomics() -> None:
    source, target = RANDOM.integers(0, 1000, 512).astype("i4"), np.zeros(9, "i4")
    counts = launch(atomics, (2,), (source, target), {"block": 256}, third=STANDARD)
    np.testing.assert_array_equal(target, [*np.bincount(source % 8, minlength=8), source.max()])
    assert counts.traffic["atom", "target"].bytes == 4 * (512 + 2)


def test_pointers_of_another_type_and_far_offsets() -> None:
    source, target = RANDOM.integers(0, 1 << 32, 128, dtype="u4"), np.zeros(3 * 256, "f4")
    row = 1 << 30
    counts = launch(bytes_of, (2,), (source, target, row, row * 5, 200), {"block": 128})
    expected = np.zeros((256, 3), "f4")
    expected[:200, 0] = source.view("u1")[:400:2] * 0.5
    np.testing.assert_array_equal(target.reshape(256, 3), expected)
    assert counts.traffic["st", "target"].sectors == -(-200 * 12 // 32), "a stride of three touches every sector"


def test_sort_gather_transpose() -> None:
    source, target = RANDOM.integers(-500, 500, 256).astype("i4"), np.zeros((3, 256), "i4")
    launch(sorting, (1,), (source, target), {"block": 256})
    moved = source.reshape(16, 16).T.ravel()
    np.testing.assert_array_equal(target, [np.sort(source), source[np.arange(256) * 5 % 256], moved])


def test_approximations_of_a_kernel() -> None:
    source, target = np.array([3.0] * 128, "f4"), np.zeros(128, "f4")
    compiled = compile_ptx(exponential, (source, target), {"block": 128})
    with pytest.raises(NotImplementedError, match=r"approx|full"):
        Emulator(compiled)
    Emulator(compiled, allow_approximate=True).run((1,), source, target)
    assert target[0] == np.float32(8 / 3)


# ---- Counts, faults and compilation


def test_every_instruction_of_a_straight_line_is_counted_once_for_each_warp() -> None:
    source, target = RANDOM.integers(-9, 9, 2048).astype("i4"), np.zeros(2048, "i4")
    compiled = compile_ptx(copy, (source, target), {"block": 1024})
    counts = Emulator(compiled).run((2,), source, target)
    written = re.findall(r"^\s+(?:@%p\d+ )?([a-z][\w.]*)[ \t;]", compiled.ptx.split(".section")[0], re.M)
    assert counts.instructions == {op: 2 * 4 * written.count(op) for op in written}
    assert counts.traffic == {
        ("ld", "source"): Traffic(requests=16, sectors=256, bytes=8192),
        ("st", "target"): Traffic(requests=16, sectors=256, bytes=8192),
    }


def test_an_access_outside_a_buffer_is_named() -> None:
    source, target = np.zeros(1020, "i4"), np.zeros(1024, "i4")
    compiled = compile_ptx(copy, (source, target), {"block": 1024})
    with pytest.raises(IndexError, match=r"ld\.global\.v4\.b32.*at byte 0x1000 of source, which has 4080"):
        Emulator(compiled).run((2,), source, target)
    with pytest.raises(IndexError, match=r"st\.global.*of target.*in thread 0 of block \[1 0 0\]"):
        Emulator(compiled).run((2,), np.zeros(2048, "i4"), target)
    masked = compile_ptx(invert, (source.view("u1"), target.view("u1"), 4081), {"block": 1024})
    with pytest.raises(IndexError, match="of source, which has 4080"):
        Emulator(masked).run((4,), source.view("u1"), target.view("u1"), 4081)


def test_a_misaligned_access_is_named() -> None:
    source, target = np.zeros(1028, "i4"), np.zeros(1024, "i4")
    compiled = compile_ptx(copy, (source, target), {"block": 1024})
    with pytest.raises(ValueError, match="`source` is not what the kernel was compiled for"):
        Emulator(compiled).run((1,), source[1:], target)
    with pytest.raises(IndexError, match="misaligned"):
        Emulator(compiled.ptx).run((1,), source[1:], target)
    launch(copy, (1,), (source[1:], target), {"block": 1024})


def test_arguments_that_became_constants() -> None:
    args = (np.zeros(64, "u1"), np.zeros(64, "u1"), 1)
    compiled = compile_ptx(invert, args, {"block": 64})
    assert compiled.fixed == {"count": 1}
    Emulator(compiled).run((1,), *args)
    with pytest.raises(ValueError, match="`count`"):
        Emulator(compiled).run((1,), *args[:2], 2)


def test_strided_tensors_are_buffers_too() -> None:
    images = torch.randint(0, 255, (2, 3, 8, 8), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    target = torch.zeros_like(images)
    launch(copy, (3,), (images, target), {"block": 128})
    assert torch.equal(images, target)


def test_nothing_of_the_compilation_stays() -> None:
    driver, before = triton.runtime.driver._active, dict(vars(tl.core))
    knob = triton.knobs.runtime.interpret
    launch(copy, (1,), (np.zeros(128, "i4"), np.zeros(128, "i4")), {"block": 128})
    assert triton.runtime.driver._active is driver
    assert triton.knobs.runtime.interpret is knob
    assert dict(vars(tl.core)) == before


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two files of kernels that call each other, in a package within a package."""
    inner = tmp_path / "ptx_outer" / "inner"
    inner.mkdir(parents=True)
    head = "import triton\nimport triton.language as tl\n"
    (inner.parent / "__init__.py").write_text("from . import inner\n")
    (inner / "__init__.py").write_text("from .main import double\n")
    (inner / "helper.py").write_text(f"{head}@triton.jit\ndef twice(v):\n    return v * 2\n")
    (inner / "main.py").write_text(
        f"{head}from .helper import twice\n@triton.jit\ndef double(source, target, block: tl.constexpr):\n"
        "    i = tl.arange(0, block)\n    tl.store(target + i, twice(tl.load(source + i)))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "ptx_outer.inner"


def test_a_package_for_the_compiler_beside_the_one_for_the_interpreter(package: str) -> None:
    with triton.knobs.runtime.scope():
        triton.knobs.runtime.interpret = True
        interpreted = importlib.import_module(package)
    modules = {name: module for name, module in sys.modules.items() if name.startswith("ptx_outer")}
    compiled = load_compiled(package)
    assert compiled is load_compiled(package)
    assert {name: module for name, module in sys.modules.items() if name.startswith("ptx_outer")} == modules
    assert sys.modules["ptx_outer"].inner is interpreted
    assert isinstance(interpreted.double, InterpretedFunction)
    source, target, third = np.arange(128, dtype="i4"), np.zeros(128, "i4"), torch.zeros(128, dtype=torch.int32)
    launch(compiled.double, (1,), (source, target), {"block": 128})
    interpreted.double[(1,)](torch.from_numpy(source), third, block=128)
    np.testing.assert_array_equal(target, 2 * source)
    np.testing.assert_array_equal(third.numpy(), 2 * source)


@pytest.mark.skipif(STANDARD, reason="the interpreter is on already")
def test_all_this_beside_the_interpreter(tmp_path: Path) -> None:
    """With TRITON_INTERPRET set tl.sum is interpreted, and the interpreter leaves triton.language changed behind it."""
    chosen = "reductions and 80 or running or histograms or atomics or philox or package or stays"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__, "-k", chosen]
    settings = {"TRITON_INTERPRET": "1", "TRITON_CACHE_DIR": str(tmp_path)}  # what lies in the cache is not compiled
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
