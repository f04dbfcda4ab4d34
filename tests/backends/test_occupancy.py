"""The occupancy calculation gives what NVIDIA publishes, and what its limits leave by hand."""

from __future__ import annotations

import pytest

from benchmarks.evidence.occupancy import MULTIPROCESSORS, occupancy


@pytest.mark.parametrize(
    ("threads", "blocks", "share"),
    [(128, 12, 0.75), (320, 4, 0.625)],
)
def test_published_example(threads: int, blocks: int, share: float) -> None:
    """CUDA C++ Best Practices Guide, "Calculating Occupancy": 37 registers at capability 7.0 give 75 and 63 %."""
    found = occupancy(70, threads, 37, 0)
    assert (found.blocks, found.share, found.limit) == (blocks, share, "registers")


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("threads", "registers", "warps"),
    [
        (128, 32, 64),
        (128, 33, 48),  # 40 registers: 12 warps of 1280 in each of four partitions
        (128, 56, 36),
        (128, 64, 32),
        (128, 65, 28),  # 72: seven warps in each partition
        (128, 113, 16),  # 120: four
        (128, 128, 16),
        (512, 64, 32),
        (512, 65, 16),  # 28 warps have registers, but blocks have 16
        (512, 128, 16),
        (1024, 255, 0),  # does not fit at all
    ],
)
def test_registers(capability: int, threads: int, registers: int, warps: int) -> None:
    assert occupancy(capability, threads, registers, 0).share == warps / 64


@pytest.mark.parametrize(
    ("capability", "threads", "shared", "blocks", "limit"),
    [
        (80, 128, 163 * 1024, 1, "shared memory"),  # the most a block may take: 1 KB is the system's
        (90, 128, 227 * 1024, 1, "shared memory"),
        (90, 128, 227 * 1024 + 1, 0, "shared memory"),
        (80, 128, 31 * 1024, 5, "shared memory"),
        (90, 128, 31 * 1024, 7, "shared memory"),
        (75, 128, 16 * 1024, 4, "shared memory"),  # nothing is reserved
        (90, 32, 0, 32, "blocks"),
        (86, 32, 0, 16, "blocks"),
        (80, 1024, 0, 2, "warps"),
        (86, 1024, 0, 1, "warps"),
    ],
)
def test_other_limits(capability: int, threads: int, shared: int, blocks: int, limit: str) -> None:
    found = occupancy(capability, threads, 16, shared)
    assert (found.blocks, found.limit) == (blocks, limit)


def test_no_more_than_a_multiprocessor_has() -> None:
    for capability, has in MULTIPROCESSORS.items():
        for threads in (32, 96, 128, 512):
            found = occupancy(capability, threads, 16, 1024)
            assert 0 < found.share <= 1
            assert found.blocks <= has.blocks
