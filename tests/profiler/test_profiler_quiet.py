"""Loaders where nothing is wrong: no finding, whatever sampler, batch, data set or setting they have."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    WeightedRandomSampler,
    get_worker_info,
)
from torch.utils.data.distributed import DistributedSampler
from torchvision.transforms import v2

from gpuaug.profiler.conclude import conclude
from gpuaug.profiler.judge.code_checks import code_checks, shards
from gpuaug.profiler.judge.recommend import recommend
from gpuaug.profiler.judge.verdict import groups, judge
from gpuaug.profiler.machine import Drift
from gpuaug.profiler.measure.recorder import Recorder
from gpuaug.profiler.model.costs import Costs
from tests.support import profiler_cases as cases
from tests.support.profiler_traces import Stages, made

COST = st.floats(0.0, 1.0)  # milliseconds of a batch of 8
RANDOM = v2.Compose([v2.RandomHorizontalFlip(), v2.ColorJitter(0.1), v2.ToDtype(torch.float32, scale=True)])
NORMALIZE = v2.Normalize((0.5,) * 3, (0.5,) * 3)


# ---- traces ----------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=8)
@given(
    st.fixed_dictionaries({name: st.tuples(COST, COST) for name in ("read", "decode", "Flip", "getitem", "collate")}),
    st.integers(1, 8),
    st.floats(0.3, 1.0),
    st.floats(0.0, 1.0),
    st.booleans(),
    st.booleans(),
)
def test_a_job_whose_step_takes_the_time_gets_no_advice(
    costs: Stages, workers: int, send: float, computing: float, persistent: bool, in_order: bool
) -> None:
    """At most 14 ms of data work beside a step of 40 ms, on cores enough."""
    step = (40.0 * computing, 40.0 * (1 - computing))
    trace = made(costs, step, workers, 24, 16.0, send, 0.1, persistent=persistent, in_order=in_order)
    found = Costs(trace, 16.0, alone=0.040, busy=(step[0] / 1e3, step[0] / 1e3, 0.0))
    verdict = judge(found, groups(found))
    assert verdict.kind == "model", verdict.text
    assert recommend(found, verdict) == []


def test_what_is_wrong_is_found_in_the_same_way() -> None:
    """The test above can fail."""
    found = Costs(made({"getitem": (90.0, 0.0)}, (0.0, 40.0), 1, 40, 16.0), 16.0, alone=0.040)
    assert [one.id for one in recommend(found, judge(found, groups(found)))] == ["num-workers"]


# ---- code ------------------------------------------------------------------------------------------------------------


class Drawing(cases.Images):
    """Has a generator, and may draw from it."""

    draws = True

    def __init__(self, transform: Any = None) -> None:
        super().__init__(transform)
        self.rng = random.Random(3)
        self.order = np.random.default_rng(0)
        self.order.permutation(4)  # in the constructor only

    def __getitem__(self, index: int) -> Any:
        if self.draws:
            self.rng.random()
        return super().__getitem__(index)


class Still(Drawing):
    draws = False


class Seeding(Drawing):
    """Seeds its generator in each worker."""

    def __getitem__(self, index: int) -> Any:
        info = get_worker_info()
        self.rng.seed(index if info is None else info.seed + index)
        return super().__getitem__(index)


class Epochs(cases.Images):
    """Shuffles by itself."""

    def set_epoch(self, epoch: int) -> None: ...


class Normalize:
    """Divides by 255, whatever it is called."""

    def __call__(self, image: Any) -> Any:
        return image / 255


def seeded(worker: int) -> None: ...


def images(transform: Any = RANDOM) -> cases.Images:
    return cases.Images(transform)


RIGHT: dict[str, Callable[[], DataLoader[Any]]] = {
    "shuffled": lambda: DataLoader(images(), 4, shuffle=True, num_workers=2),
    "random batches": lambda: DataLoader(images(), batch_sampler=BatchSampler(RandomSampler(images()), 4, True)),
    "weighted": lambda: DataLoader(images(), 4, sampler=WeightedRandomSampler([1.0] * 48, 16)),
    "distributed": lambda: DataLoader(images(), 4, sampler=DistributedSampler(images(), 2, 0)),
    "a list as sampler": lambda: DataLoader(images(), 4, sampler=[5, 1, 3, 0, 2, 4]),
    "batches as a list": lambda: DataLoader(images(), batch_sampler=[[3, 1], [2, 0]]),
    "no batches": lambda: DataLoader(images(), None, shuffle=True),
    "no batches, a sampler of batches": lambda: DataLoader(
        cases.Lists(), None, sampler=BatchSampler(SequentialSampler(range(48)), 4, False)
    ),
    "a stream": lambda: DataLoader(cases.Stream(), 4, num_workers=2, worker_init_fn=cases.shard),
    "a shuffled subset": lambda: DataLoader(Subset(images(), torch.randperm(48).tolist()), 4),
    "a shuffled subset of tensors": lambda: DataLoader(Subset(images(), torch.randperm(48)), 4),  # type: ignore[arg-type]
    "one batch": lambda: DataLoader(images(), 48),
    "shuffles by itself": lambda: DataLoader(Epochs(RANDOM), 4),
    "never flips": lambda: DataLoader(images(v2.Compose([v2.RandomHorizontalFlip(0.0)])), 4),
    "validation": lambda: DataLoader(images(v2.Compose([v2.CenterCrop(4), NORMALIZE])), 4),
    "several sets": lambda: DataLoader(ConcatDataset([images(), images()]), 4, shuffle=True),
    "a generator that is not used": lambda: DataLoader(Still(), 4, shuffle=True, num_workers=2),
    "a generator seeded by worker": lambda: DataLoader(Seeding(), 4, shuffle=True, num_workers=2),
    "a generator seeded at the start": lambda: DataLoader(Drawing(), 4, True, num_workers=2, worker_init_fn=seeded),
    "a generator of one worker": lambda: DataLoader(Drawing(), 4, shuffle=True, num_workers=1),
    "geometry after Normalize": lambda: DataLoader(
        images(v2.Compose([v2.ColorJitter(0.1), NORMALIZE, v2.RandomCrop(4), v2.Lambda(abs)])), 4, shuffle=True
    ),
    "another Normalize": lambda: DataLoader(images(v2.Compose([Normalize(), v2.ColorJitter(0.1)])), 4, shuffle=True),
}


@pytest.mark.parametrize("kind", RIGHT)
def test_right_code_has_no_finding(kind: str) -> None:
    assert code_checks(RIGHT[kind]()) == []


def test_a_check_leaves_a_generator_as_it_was() -> None:
    loader = DataLoader(Drawing(), 4, shuffle=True, num_workers=2)
    before = loader.dataset.rng.getstate()  # type: ignore[attr-defined]
    (found,) = code_checks(loader)
    assert (found.id, "Drawing.rng" in found.title) == ("worker-seeding", True)
    assert loader.dataset.rng.getstate() == before  # type: ignore[attr-defined]


class Shared(IterableDataset[Any]):
    def __iter__(self) -> Any:
        info = get_worker_info()
        yield from range(0 if info is None else info.id, 48, 1 if info is None else info.num_workers)


class Around(IterableDataset[Any]):
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __iter__(self) -> Any:
        yield from self.inner


def test_a_stream_that_would_repeat_itself_gets_no_more_workers() -> None:
    """Each worker of a stream without parts gives all samples again."""
    slow = made({"getitem": (90.0, 0.0)}, (0.0, 40.0), 1, 40, 16.0, iterable=True)
    found = Costs(slow, 16.0, alone=0.040)
    for dataset, right in ((cases.Stream(), True), (Shared(), True), (Around(Shared()), True), (Around([]), False)):
        advice = recommend(found, judge(found, groups(found)), loader=DataLoader(dataset, 4, num_workers=1))
        assert ("num-workers" in {one.id for one in advice}) == right == shards(dataset)


# ---- real loaders ----------------------------------------------------------------------------------------------------


class Quick(Dataset[Any]):
    def __len__(self) -> int:
        return 4 * 40

    def __getitem__(self, index: Any) -> Any:
        return torch.full((2,), float(np.sum(index))), 1

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self[index] for index in indices]


class Plain(Quick):
    __getitems__ = None  # type: ignore[assignment]


class Flow(IterableDataset[Any]):
    def __iter__(self) -> Any:
        info = get_worker_info()
        for number in range(0 if info is None else info.id, 160, 1 if info is None else info.num_workers):
            yield torch.tensor(number), 1


REAL: dict[str, Callable[[], DataLoader[Any]]] = {
    "workers": lambda: DataLoader(Plain(), 4, num_workers=2),
    "no workers": lambda: DataLoader(Plain(), 4, shuffle=True),
    "batches at once": lambda: DataLoader(Quick(), 4, num_workers=1, drop_last=True),
    "persistent": lambda: DataLoader(Plain(), 4, num_workers=2, persistent_workers=True, prefetch_factor=4),
    "pinned": lambda: DataLoader(Plain(), 4, num_workers=1, pin_memory=True),
    "a stream": lambda: DataLoader(Flow(), 4, num_workers=2),
    "a stream, no workers": lambda: DataLoader(Flow(), 4),
    "no batches": lambda: DataLoader(Plain(), None, num_workers=1),
    "batches by a sampler": lambda: DataLoader(
        Plain(), None, sampler=BatchSampler(RandomSampler(range(160)), 4, False)
    ),
    "sampler of batches": lambda: DataLoader(Plain(), batch_sampler=BatchSampler(RandomSampler(range(160)), 4, False)),
    "named tuples": lambda: DataLoader(Plain(), 4, num_workers=1, collate_fn=pairs),
    "mappings": lambda: DataLoader(Plain(), 4, num_workers=1, collate_fn=mapped),
    "out of order": lambda: DataLoader(Plain(), 4, num_workers=2, in_order=False),
    "weighted": lambda: DataLoader(Plain(), 4, sampler=WeightedRandomSampler([1.0] * 160, 160), num_workers=1),
    "a subset": lambda: DataLoader(Subset(Plain(), range(120)), 4, num_workers=1),
}


def pairs(samples: list[Any]) -> cases.Pair:
    return cases.Pair(torch.stack([one for one, _ in samples]), [label for _, label in samples])


def mapped(samples: list[Any]) -> dict[str, Any]:
    return {"x": torch.stack([one for one, _ in samples]), "more": {"label": [label for _, label in samples]}}


@pytest.mark.parametrize("kind", REAL)
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set")
def test_a_real_loop_whose_step_takes_the_time_gets_no_advice(kind: str) -> None:
    """A step of 15 ms beside less than 1 ms of data work. Other programs may disturb one try."""
    found: list[str] = []
    for _ in range(3):
        loader = REAL[kind]()
        with Recorder(loader) as recorder:
            for _ in zip(range(36), recorder, strict=False):
                time.sleep(0.015)
        report = conclude(recorder.trace, loader, cores=2.0, drift=Drift())
        found = [one.id for one in report.advice if one.id != "busy-machine"]
        if report.verdict.kind == "model" and not found:
            return
        found.append(report.verdict.text)
    pytest.fail("; ".join(found))
