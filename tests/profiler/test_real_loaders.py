"""The harness of the real loaders: a stage that is taken out takes no time, and everything is put back."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.evidence.real_cases import CASES
from benchmarks.evidence.real_loaders import Result, limit, summary
from benchmarks.evidence.real_photos import photographs
from benchmarks.evidence.real_removal import Step, taken_out
from gpuaug.demo.photographs import paths
from gpuaug.profiler.session import measure

SLOW = 0.004  # seconds of a sample


class Slow:
    """A transform, or a collate function, that takes a while."""

    def __call__(self, image: Any) -> Any:
        time.sleep(SLOW)
        return torch.stack(image) if isinstance(image, list) else image


class Images(Dataset[Any]):
    def __init__(self, slow: str) -> None:
        self.slow = slow
        self.transform = Slow() if slow == "augmentation" else None

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> Any:
        if self.slow == "dataset":
            time.sleep(SLOW)
        image = torch.zeros(3, 32, 32)
        return image if self.transform is None else self.transform(image)


def seconds(loader: Any) -> float:
    start = time.perf_counter()
    assert [batch.shape for batch in loader] == [(4, 3, 32, 32)] * 16
    return time.perf_counter() - start


@pytest.mark.parametrize(
    ("group", "whole"), [("augmentation", 64 * SLOW), ("dataset", 64 * SLOW), ("collate", 16 * SLOW)]
)
def test_what_is_taken_out_takes_no_time(group: str, whole: float) -> None:
    dataset = Images(group)
    loader = DataLoader(dataset, 4, collate_fn=Slow() if group == "collate" else None)
    transform, collate = dataset.transform, loader.collate_fn
    assert seconds(loader) >= whole
    with taken_out(loader, group, ["Slow"]):
        assert min(seconds(loader) for _ in range(3)) < 0.6 * whole  # a machine may be busy
    assert (dataset.transform, loader.collate_fn, loader.dataset) == (transform, collate, dataset)
    assert seconds(loader) >= whole


def test_the_group_that_limits_is_found() -> None:
    report = measure(DataLoader(Images("augmentation"), 4), lambda batch: None, budget=1.0, proof=False)
    assert limit(report) == ("augmentation", ["Slow"])
    report = measure(DataLoader(Images(""), 4), lambda batch: time.sleep(0.01), budget=1.0, proof=False)
    assert limit(report) == ("model", ["model"])


def test_a_real_loader_trains(tmp_path: Path) -> None:
    """Decoding is taken out of a folder of JPEGs, also where the name was imported before."""
    photographs(tmp_path, paths())
    loader = CASES[0].make(tmp_path)
    opened = __import__("PIL.Image").Image.open
    with taken_out(loader, "decode", ["decode", "storage"]):
        step = Step(0.0)
        for _, batch in zip(range(2), loader, strict=False):
            step(batch)
    assert __import__("PIL.Image").Image.open is opened
    assert len({case.name for case in CASES}) == len(CASES) >= 20


def test_the_summary_counts() -> None:
    good = Result("a", "", "decode", ["decode"], 1.5, 1.4, 1.6, 1.6, -0.0625, False, "", 0.0, 0.0, [], [])
    doubted = replace(good, doubt="busy")
    wrong = replace(good, error=0.5, wrong_sign=True)
    found = summary([good, doubted, wrong, replace(wrong, doubt="busy")])
    assert (found["large"], found["large_not_announced"], found["wrong_signs"]) == (2, 1, 2)
    assert found["announced_in_vain"] == 0.5
