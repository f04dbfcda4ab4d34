"""A result is never written to again while somebody can see it."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import gpuaug as ga
from tests.support.helpers import noise

pytest.importorskip("numba")
buffers: Any = pytest.importorskip("gpuaug.kernels.numba.runtime.buffers")

AUGMENT = ga.Augment([ga.RandomHorizontalFlip(), ga.ToDtype(torch.float32, scale=True)], backend="numba")

HOLDS: dict[str, Callable[[Tensor], Any]] = {
    "result": lambda result: result,
    "view": lambda result: result[1:2, :, 3:],
    "reshaped": lambda result: result.flatten(),
    "detached": lambda result: result.detach(),
    "parameter": lambda result: torch.nn.Parameter(result),
    "graph": lambda result: (torch.ones(1, requires_grad=True) * result).sum().grad_fn,
    "numpy": lambda result: result.numpy()[0],
    "storage": lambda result: result.untyped_storage(),
    "dlpack": lambda result: torch.from_dlpack(result),
    "memoryview": lambda result: memoryview(result.numpy()),
}


@pytest.mark.parametrize("hold", HOLDS.values(), ids=HOLDS)
def test_what_is_held_is_not_used_again(hold: Callable[[Tensor], Any]) -> None:
    result = AUGMENT(noise(4))
    address = result.data_ptr()
    held = hold(result)
    del result
    gc.collect()
    for seed in range(6):
        other = AUGMENT(noise(4, seed=seed + 1))
        assert other.data_ptr() != address
    del held


def test_what_nobody_holds_is_used_again() -> None:
    addresses = set()
    for seed in range(8):
        result = AUGMENT(noise(4, seed=seed))
        addresses.add(result.data_ptr())
        del result
    assert len(addresses) < 8


def test_shared_memory_is_left_alone() -> None:
    """Another process may read it after this one let go."""
    result = AUGMENT(noise(4)).share_memory_()
    address = result.data_ptr()
    del result
    assert all(AUGMENT(noise(4, seed=seed)).data_ptr() != address for seed in range(4))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_renders_too() -> None:
    """The pool's threads and locks stay with the parent."""
    torch.set_num_threads(2)
    try:
        draw = AUGMENT.sample(noise(16))
        expected = AUGMENT.render(noise(16), draw)
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_send, args=(sender, draw))
        child.start()
        assert receiver.poll(60), "the child hangs"
        assert receiver.recv() == expected.double().sum().item()
        child.join()
    finally:
        torch.set_num_threads(1)


def _send(sender: Any, draw: ga.Draw) -> None:
    sender.send(AUGMENT.render(noise(16), draw).double().sum().item())


def addresses_in_turn(sizes: list[int], rounds: int) -> dict[int, set[int]]:
    """Where the results of batches of these sizes lie, one after another, each dropped before the next."""
    found: dict[int, set[int]] = {size: set() for size in sizes}
    for seed in range(rounds):
        for size in sizes:
            result = AUGMENT(noise(size, seed=seed))
            found[size].add(result.data_ptr())
            del result
    return found


@pytest.mark.parametrize("sizes", [[2, 4], [64, 17, 50, 33], [1, 2, 4, 8, 16]], ids=str)
def test_sizes_in_turn_are_used_again(sizes: list[int]) -> None:
    """Training, its last batch, evaluation, another size: none drops another's storage."""
    buffers._kept.clear()
    assert all(len(found) == 1 for found in addresses_in_turn(sizes, 8).values())
    assert len(buffers._kept) == len(sizes)


def test_what_is_remembered_is_at_most_three_times_the_largest() -> None:
    buffers._kept.clear()
    for size in (*range(1, 24), *range(24, 0, -1)):
        AUGMENT(noise(size))
        check_bounds()
    held = [AUGMENT(noise(3)) for _ in range(40)]
    check_bounds()
    del held


def check_bounds() -> None:
    sizes = [storage.nbytes() for storage in buffers._kept]
    assert len(sizes) <= buffers.MOST
    assert sum(sizes) <= buffers.TIMES * max(sizes)


def test_the_free_storage_that_was_used_longest_ago_goes_first() -> None:
    buffers._kept.clear()
    held = AUGMENT(noise(6))  # in use, and older than the others
    for size in (7, 5, 7, 4):
        AUGMENT(noise(size))
    sizes = [storage.nbytes() // noise(1).nbytes // 4 for storage in buffers._kept]
    assert sizes == [6, 7, 4], "5 went, not 6, which is held, nor 7, which was used after it"
    del held
