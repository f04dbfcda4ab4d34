"""Compile the kernels of the device tests without launching them, a share in each process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .launches import replaced
from .results import short

__all__ = ["jobs", "warm"]


def warm(number: int, count: int, most: int | None = None) -> tuple[int, list[str]]:
    """Compile for every `count`-th list of the tests from `number` on; the kernels, and what could not be done.

    Must run where tests/ can be imported from, as in pytest. Kernels land in Triton's cache on disk; a kernel that two
    lists need is compiled by both at worst.
    """
    seen: list[Any] = []
    said: list[str] = []

    def compile_only(kernel: Any, grid: Any, *arguments: Any, num_warps: int = 4, **constants: Any) -> None:
        seen.append(kernel)
        grid = (*grid, 1, 1)[:3]
        kernel.warmup(*arguments, grid=grid, num_warps=num_warps, enable_fp_fusion=False, **constants)

    try:
        with replaced(lambda launch: compile_only):
            for job in jobs()[number::count][:most]:
                try:
                    job()
                except Exception as error:  # the test itself will say so
                    said.append(short(error))
    except Exception as error:  # the tests' lists are other ones now
        said.append(short(error))
    return len(seen), said


def jobs() -> list[Callable[[], object]]:
    """A call for each list of the tests, as the tests make it; what it returns are pixels that nobody wrote."""
    from tests.support import gpu_checks
    from tests.support.device_lists import CASES
    from tests.support.helpers import noise
    from tests.support.lists import LISTS, cases, channel_counts

    found: list[Callable[[], object]] = []
    for case in CASES.values():
        found.append(
            lambda case=case: case.augment("triton")(*gpu_checks.there(case.batch()), index=gpu_checks.index(0))
        )

    def render(steps: Any, images: Any, **options: Any) -> None:
        import gpuaug as ga

        draw = ga.Augment(steps, backend="torch", **options).sample(images, index=gpu_checks.index(3, len(images)))
        ga.Augment(steps, backend="triton", **options).render(*gpu_checks.there([images]), draw)

    for parameters in cases():
        (steps,) = parameters.values
        for channels in {1, 3, 5} & set(channel_counts(steps)):
            found.append(lambda steps=steps, channels=channels: render(steps, noise(5, channels, 33, 47)))
    for name, steps in LISTS.items():
        if name not in ("mixed", "half"):
            found.append(lambda steps=steps: render(steps, noise(5, 3, 48, 45)))
    return found
