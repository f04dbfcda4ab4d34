"""Other tiles and warps for the kernels of the recipes: which would be faster on this device, with the same bits.

Each launch of a recipe is kept with its arguments, and launched again with other sizes of its tile and other numbers of
warps. The kernel is then alone on the device, and finds part of its input in the L2, as it does after the kernel
before it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .clock import device_ms
from .launches import Launch, name, replaced
from .results import POISON as POISON_TEXT
from .results import Options, Results, run, short

__all__ = ["Kept", "Variant", "main", "variants"]

CROP, MIX = "crop + flip", " + MixUp"
CASES = ("RandAugment" + MIX, CROP, "ColorJitter", "SimCLR", "TrivialAugment")  # in the order of their worth
BATCH, SOURCE, SIZE, CLASSES = 256, 256, 224, 1000
KERNELS = ("crop", "run_fused", "statistics", "finish")
POISON = 0xA5
TILES = ((4, 64), (8, 32), (8, 64), (16, 32), (16, 64), (32, 32), (16, 16), (8, 128))  # (rows, columns)
WARPS = (2, 4, 8, 16)
LEAST, MOST = 1, 16  # pixels of a thread
WORKERS = 8  # threads that compile
WORTH = 1.02  # times as fast as what is set now, to be called better


@dataclass(frozen=True)
class Variant:
    rows: int
    columns: int
    warps: int

    def __str__(self) -> str:
        return f"{self.rows} x {self.columns}, {self.warps} warps"


@dataclass
class Kept:
    """A launch, to be done again."""

    case: str
    kernel: Any
    grid: tuple[int, ...]
    arguments: tuple[Any, ...]
    warps: int
    constants: dict[str, Any]
    outputs: list[Tensor] = field(default_factory=list)

    @property
    def name(self) -> str:
        return name(self.kernel).removesuffix("_kernel")

    @property
    def now(self) -> Variant:
        return Variant(self.constants["BH"], self.constants["BW"], self.warps)

    def number(self, argument: str) -> int:
        """The value of an argument that is no tensor."""
        names = getattr(self.kernel, "arg_names", None) or self.kernel.fn.arg_names
        return int(self.arguments[list(names).index(argument)])

    def sizes(self, variant: Variant) -> tuple[tuple[int, ...], dict[str, Any]]:
        """Grid and constants of a variant: as many programs as it has tiles, where they were that many before."""
        height, width = self.number("height"), self.number("width")

        def tiles(rows: int, columns: int) -> int:
            return -(-height // rows) * -(-width // columns)

        spread = self.grid[0] == tiles(self.constants["BH"], self.constants["BW"])
        first = tiles(variant.rows, variant.columns) if spread else self.grid[0]
        return (first, *self.grid[1:]), {**self.constants, "BH": variant.rows, "BW": variant.columns}

    def call(self, launch: Launch, variant: Variant) -> Callable[[], None]:
        grid, constants = self.sizes(variant)
        return lambda: launch(self.kernel, grid, *self.arguments, num_warps=variant.warps, **constants)

    def compile(self, variant: Variant) -> Any:
        """Without a launch; the interpreter gives nothing."""
        grid, constants = self.sizes(variant)
        grid = (*grid, 1, 1)[:3]
        return self.kernel.warmup(
            *self.arguments, grid=grid, num_warps=variant.warps, enable_fp_fusion=False, **constants
        )

    def bits(self, call: Callable[[], None]) -> list[Tensor]:
        """What a launch writes, over poison, so that what it does not write shows."""
        for output in self.outputs:
            _bytes(output).fill_(POISON)
        call()
        return [_bytes(output).clone() for output in self.outputs]


def _bytes(tensor: Tensor) -> Tensor:
    """All memory of a dense tensor, as bytes."""
    flat = torch.as_strided(tensor, (tensor.numel(),), (1,), tensor.storage_offset())
    return flat.view(torch.uint8)


def measure(results: Results, options: Options) -> None:
    """Keep the launches of the recipes, then sweep over those that are of different kinds."""
    from gpuaug.kernels.triton.runtime.launch import launch

    kept: dict[Any, Kept] = {}
    for case in (CASES[0], CASES[2]) if options.dry else CASES:
        for one in keep(case, *((3, 24, 16) if options.dry else (BATCH, SOURCE, SIZE))):
            constants = () if options.dry else sorted((key, str(value)) for key, value in one.constants.items())
            if one.name in KERNELS and one.outputs:
                kept.setdefault((one.name, *constants), one)
    _sweeps(results, list(kept.values()), launch, options.dry)


def _sweeps(results: Results, kept: list[Kept], launch: Launch, dry: bool) -> None:
    """Each gets a share of the time that is left."""
    missing = [name for name in KERNELS if name not in {one.name for one in kept}]
    if missing:
        results.fail(", ".join(missing), "was not launched by any recipe, or wrote nothing")
    for number, one in enumerate(kept):
        if results.left() < 2.0:
            results.note(f"no time for {', '.join(f'{rest.name} of {rest.case}' for rest in kept[number:])}")
            return
        try:
            sweep(results, one, launch, results.left() / (len(kept) - number), dry)
        except Exception as error:
            results.fail(f"{one.name} of {one.case}", error)


def steps(case: str, size: int) -> list[Any]:
    """The list of a recipe: bfloat16 out."""
    import gpuaug as ga

    middles: dict[str, list[Any]] = {
        CROP: [],
        "RandAugment": [ga.RandAugment(2, 9)],
        "TrivialAugment": [ga.TrivialAugmentWide()],
        "ColorJitter": [ga.ColorJitter(0.4, 0.4, 0.4, 0.1)],
        "SimCLR": [
            ga.RandomApply([ga.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
            ga.RandomGrayscale(0.2),
            ga.RandomApply([ga.GaussianBlur(23, (0.1, 2.0))], 0.5),
        ],
    }
    tail = [ga.ToDtype(torch.bfloat16, scale=True), ga.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    mix = [ga.MixUp(num_classes=CLASSES)] if case.endswith(MIX) else []
    return [ga.RandomResizedCrop(size), ga.RandomHorizontalFlip(), *middles[case.removesuffix(MIX)], *tail, *mix]


def keep(case: str, batch: int, source: int, size: int) -> list[Kept]:
    """The launches of a call, with the arguments that were written to."""
    import gpuaug as ga

    found: list[Kept] = []

    def make(launch: Launch) -> Launch:
        def keeping(kernel: Any, grid: Any, *arguments: Any, num_warps: int = 4, **constants: Any) -> None:
            tensors = _distinct([argument for argument in arguments if isinstance(argument, Tensor)])
            before = [_bytes(tensor).clone() for tensor in tensors]
            launch(kernel, grid, *arguments, num_warps=num_warps, **constants)
            one = Kept(case, kernel, tuple(grid), arguments, num_warps, constants)
            changed = zip(tensors, before, strict=True)
            one.outputs = [tensor for tensor, bits in changed if not torch.equal(_bytes(tensor), bits)]
            if {"BH", "BW"} <= set(constants):
                found.append(one)

        return keeping

    generator = torch.Generator().manual_seed(0)
    base = torch.randint(0, 256, (batch, 3, source // 8, source // 8), dtype=torch.uint8, generator=generator)
    images = base.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3).contiguous().to("cuda")
    labels = torch.zeros(batch, dtype=torch.int64).to("cuda")
    augment = ga.Augment(steps(case, size), seed=1, backend="triton", memory_format=torch.channels_last)
    with replaced(make):
        augment(images, *([labels] if case.endswith(MIX) else []))
    torch.cuda.synchronize()
    return found


def _distinct(tensors: list[Tensor]) -> list[Tensor]:
    """One for each address, dense ones only."""
    dense = {tensor.data_ptr(): tensor for tensor in tensors if _dense(tensor)}
    return list(dense.values())


def _dense(tensor: Tensor) -> bool:
    strides = sorted((stride, size) for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1)
    expected = 1
    for stride, size in strides:
        if stride != expected:
            return False
        expected *= size
    return True


def variants(one: Kept, most: int | None = None) -> Iterator[Variant]:
    """What is set now, then others, those nearest to it first."""
    now = one.now
    every = [Variant(rows, columns, warps) for rows, columns in TILES for warps in WARPS]
    every = [v for v in every if LEAST <= v.rows * v.columns / (32 * v.warps) <= MOST and v != now]

    def distance(v: Variant) -> tuple[int, float]:
        changed = (v.rows != now.rows) + (v.columns != now.columns) + (v.warps != now.warps)
        return changed, abs(v.rows * v.columns / v.warps - now.rows * now.columns / now.warps)

    yield from [now, *sorted(every, key=distance)][:most]


def sweep(results: Results, one: Kept, launch: Launch, seconds: float, dry: bool = False) -> None:
    """Time the variants of one launch, as many as there is time for, and say which is best."""
    end = time.monotonic() + seconds
    timing = {"calls": 1, "rounds": 1} if dry else {"calls": 10, "rounds": 3}
    now = one.call(launch, one.now)
    expected = one.bits(now)
    base = device_ms(now, **timing).median
    results.row(kernel=one.name, recipe=one.case, variant=str(one.now), device_us=base * 1e3, now=True)
    best, gain = one.now, 1.0
    with ThreadPoolExecutor(1 if dry else WORKERS) as pool:
        compiling = {variant: pool.submit(one.compile, variant) for variant in variants(one, 2 if dry else None)}
        for variant, future in compiling.items():
            if variant == one.now or time.monotonic() > end:
                future.cancel()
                continue
            try:
                compiled = future.result(max(end - time.monotonic(), 0.1))
                call = one.call(launch, variant)
                same = all(map(torch.equal, one.bits(call), expected))
                taken = device_ms(call, **timing).median
            except FutureTimeout:
                continue
            except Exception as error:
                if POISON_TEXT.search(str(error)):
                    raise
                results.note(f"{one.name} of {one.case}, {variant}: {short(error)}")  # for instance too much memory
                continue
            figures = {"device_us": taken * 1e3, "same_bits": same, "registers": getattr(compiled, "n_regs", None)}
            results.row(kernel=one.name, recipe=one.case, variant=str(variant), **figures)
            if not same:
                results.fail(f"{one.name} of {one.case}, {variant}", "other bits than as it is set now")
            elif base / taken > max(gain, WORTH):
                best, gain = variant, base / taken
        pool.shutdown(wait=False, cancel_futures=True)
    results.row(kernel=one.name, recipe=one.case, variant=str(best), gain=gain, best=True)


def main() -> int:
    return run("tuning", measure)


if __name__ == "__main__":
    sys.exit(main())
