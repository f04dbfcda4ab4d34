"""Loaders whose worker processes begin inside `torch.inference_mode()`, as those of Lightning's validation do."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import gpuaug as ga
from gpuaug.data.transport import shared
from tests.support.helpers import noise

COUNT = 6


class Photos:
    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, number: int) -> Any:
        return noise(1, 3, 8 + number, 9, seed=number)[0], number, number


def loader(**options: Any) -> DataLoader[Any]:
    return DataLoader(Photos(), 2, num_workers=1, collate_fn=ga.ragged_collate, timeout=120, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("named", [False, True])
def test_a_loader_in_inference_mode(named: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The feeding thread of a worker is outside of it, and writes to the memory of the batch."""
    if named:
        monkeypatch.setattr(shared, "_has_proc", lambda process: False)
    with torch.inference_mode():
        labels = torch.cat([labels for _, labels, _ in loader()])
        batches = list(ga.DeviceLoader(loader(), "cpu", ga.Augment([ga.Resize((8, 8))], backend="torch"), train=False))
    assert labels.tolist() == list(range(COUNT))
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(COUNT))


def test_memory_is_given_back_outside_of_it() -> None:
    """The memory of a batch that came inside is released outside, where a tensor made inside could not be written."""
    with torch.inference_mode():
        held = [batch.images for batch in loader(persistent_workers=True)]
    images = held[0][0].clone()
    held.clear()
    gc.collect()
    assert torch.equal(images, Photos()[0][0])
    assert not any(segment.is_inference() for segment in shared._opened.values())
