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


def test_sizes_in_turn_are_used_again() -> None:
    """Training and evaluation, or large and small crops: none drops the other's storage."""
    addresses: dict[int, set[int]] = {}
    for seed in range(8):
        for size in (2, 4):
            result = AUGMENT(noise(size, seed=seed))
            addresses.setdefault(size, set()).add(result.data_ptr())
            del result
    assert all(len(found) < 8 for found in addresses.values())


def test_few_storages_are_remembered() -> None:
    for size in range(1, 2 * buffers.KEPT + 2):
        AUGMENT(noise(size))
        assert len(buffers._kept) <= buffers.KEPT
    held = [AUGMENT(noise(3)) for _ in range(2 * buffers.KEPT)]
    assert len(buffers._kept) == buffers.KEPT
    del held
