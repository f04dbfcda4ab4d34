"""Over samplers: each look has its own draw, the same ones for any number of ranks and workers, and after a resume."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

import gpuaug as ga
from tests.support.helpers import noise

COUNT, BATCH, EPOCHS = 24, 3, 2
Look = tuple[int, int, int]  # epoch, number, look


class Images(Dataset[Any]):
    def __init__(self) -> None:
        self.image = noise(1, 3, 9, 9)[0]

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, number: int) -> Any:
        return self.image, int(number)


class Infinite(Sampler[int]):
    """Its first 48 numbers are looked at."""

    def __iter__(self) -> Iterator[int]:
        for epoch in itertools.count():
            yield from torch.randperm(COUNT, generator=torch.Generator().manual_seed(epoch)).tolist()


DATA = ga.data.Indexed(Images())
SAMPLERS: dict[str, Callable[[], Any]] = {
    "sequential": lambda: SequentialSampler(DATA),
    "shuffled": lambda: RandomSampler(DATA),
    "a subset": lambda: SubsetRandomSampler(range(0, COUNT, 2)),
    "with replacement": lambda: RandomSampler(DATA, replacement=True, num_samples=36),
    "weighted": lambda: WeightedRandomSampler([20.0, *[1.0] * (COUNT - 1)], 36),
    "infinite": Infinite,
    "a list": lambda: [0, 1, 1, 2, 5, 5, 5, 9, 1, 7, 5, 3],
}


def loader_of(name: str, world: int, rank: int, batched: bool = False, **options: Any) -> DataLoader[Any]:
    sampler: Any
    if name == "repeated":
        sampler = ga.data.RepeatedAugmentationSampler(DATA, 3, num_replicas=world, rank=rank, selected_ratio=1 / 3)
    elif name == "distributed":
        sampler = ga.data.NumberedSampler(DistributedSampler(DATA, world, rank))  # type: ignore[arg-type]
    else:
        sampler = ga.data.NumberedSampler(SAMPLERS[name](), world, rank)
    options |= {"collate_fn": ga.ragged_collate}
    if batched:
        return DataLoader(DATA, batch_sampler=BatchSampler(sampler, BATCH, False), **options)
    return DataLoader(DATA, BATCH, sampler=sampler, **options)


def module() -> tuple[ga.Augment, list[list[Look]]]:
    """A module, and the keys of each batch that it draws."""
    augment, seen = ga.Augment([ga.Resize((4, 4))], seed=5, backend="torch"), []
    original = augment.train_pipeline.sample

    def sample(keys: Any, *more: Any) -> Any:
        assert keys.stream == ()
        seen.append([(keys.epoch, *pair) for pair in zip(keys.index.tolist(), keys.look.tolist(), strict=True)])
        return original(keys, *more)

    augment.train_pipeline.sample = sample  # type: ignore[method-assign]
    return augment, seen


def walked(loader: Any, world: int = 1, epochs: int = EPOCHS) -> list[list[Look]]:
    """The keys of the batches of some passes, each pass an epoch that nobody tells."""
    augment, seen = module()
    batches = ga.DeviceLoader(loader, "cpu", augment)
    steps = 48 // BATCH // world
    for epoch in range(epochs):
        before = len(seen)
        handed = sum(1 for _ in itertools.islice(batches, steps))
        del seen[before + handed :]  # made ahead
        assert augment.epoch == epoch
    return seen


def multiset(parts: list[list[list[Look]]]) -> Counter[Look]:
    return Counter(look for part in parts for batch in part for look in batch)


@pytest.mark.parametrize("batched", [False, True], ids=["sampler", "batch sampler"])
@pytest.mark.parametrize("name", [*SAMPLERS, "repeated", "distributed"])
def test_ranks_change_no_draw_and_no_look_repeats(name: str, batched: bool) -> None:
    alone = multiset([walked(loader_of(name, 1, 0, batched))])
    assert max(alone.values()) == 1
    for world in (2, 4):
        parts = multiset([walked(loader_of(name, world, rank, batched), world) for rank in range(world)])
        assert parts == alone


@pytest.mark.parametrize("name", ["distributed", "shuffled"])
@pytest.mark.parametrize("world", [5, 7])
def test_what_makes_the_ranks_even_is_a_further_look(name: str, world: int) -> None:
    alone = multiset([walked(loader_of(name, 1, 0), epochs=1)])
    parts = multiset([walked(loader_of(name, world, rank), epochs=1) for rank in range(world)])
    assert max(parts.values()) == 1
    assert not alone - parts
    assert sum((parts - alone).values()) == -(-COUNT // world) * world - COUNT


def test_or_is_dropped() -> None:
    parts = [list(ga.data.NumberedSampler(range(COUNT), 5, rank, drop_last=True)) for rank in range(5)]
    assert (
        [len(part) for part in parts] == [4] * 5 == [len(ga.data.NumberedSampler(range(24), 5, 0, drop_last=True))] * 5
    )
    assert sorted(number for part in parts for number in part) == list(range(20))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")
@pytest.mark.parametrize("name", ["weighted", "repeated"])
@pytest.mark.parametrize(("workers", "method"), [(1, "fork"), (3, "fork"), (3, "spawn")])
def test_workers_change_no_draw(name: str, workers: int, method: str) -> None:
    options: dict[str, Any] = {"num_workers": workers, "multiprocessing_context": method}
    assert walked(loader_of(name, 1, 0, **options)) == walked(loader_of(name, 1, 0))


class Resumable:
    """A loader that goes on after `done` batches."""

    def __init__(self, loader: Any, done: int) -> None:
        self.loader, self.done = loader, done
        self.sampler, self.batch_sampler = loader.sampler, loader.batch_sampler

    def __iter__(self) -> Iterator[Any]:
        yield from itertools.islice(self.loader, self.done, None)
        self.done = 0


@pytest.mark.parametrize("name", [*SAMPLERS, "repeated", "distributed", "unnumbered"])
def test_a_run_goes_on_wherever_it_was_left(name: str) -> None:
    """Module state and the loader's place are enough, in any epoch, and where nobody numbers the looks."""

    def fresh() -> Any:
        if name != "unnumbered":
            return loader_of(name, 1, 0)
        weights = [20.0, *[1.0] * (COUNT - 1)]
        generator = torch.Generator().manual_seed(4)
        sampler = list(WeightedRandomSampler(weights, 36, generator=generator))
        return DataLoader(DATA, BATCH, sampler=sampler, collate_fn=ga.ragged_collate)

    augment, whole = module()
    states, batches = [], ga.DeviceLoader(fresh(), "cpu", augment)
    for epoch in range(EPOCHS):
        before = len(whole)
        for step, _ in enumerate(itertools.islice(batches, 48 // BATCH), 1):
            states.append((epoch, step, before + step, augment.state_dict()))
        del whole[states[-1][2] :]
    assert max(multiset([whole]).values()) == 1
    for _, step, place, state in states[:: 3 if len(states) > 12 else 1]:
        again, seen = module()
        again.load_state_dict(state)
        for _ in itertools.islice(ga.DeviceLoader(Resumable(fresh(), step), "cpu", again), 4):
            pass
        end = next((at for _, last, at, _ in states if at >= place and last == states[-1][1]), place)
        expected = whole[place : min(place + 4, end)]
        assert seen[: len(expected)] == expected


# ---- nobody numbers the looks ----------------------------------------------------------------------------------------


def in_rank(monkeypatch: pytest.MonkeyPatch, world: int, rank: int) -> None:
    for place in ("engine.numbering", "engine.counter", "data.sampler"):
        monkeypatch.setattr(f"gpuaug.{place}.world", lambda: (world, rank))


def streams(loader: Any, told: bool) -> list[tuple[int, ...]]:
    augment = ga.Augment([ga.Resize((4, 4))], seed=5, backend="torch")
    found, original = [], augment.train_pipeline.sample

    def sample(keys: Any, *more: Any) -> Any:
        found.append(keys.stream)
        return original(keys, *more)

    augment.train_pipeline.sample = sample  # type: ignore[method-assign]
    batches = ga.DeviceLoader(loader, "cpu", augment)
    if told:
        batches.set_epoch(1)
    assert list(batches)
    return sorted(set(found))


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
@pytest.mark.parametrize("told", [False, True], ids=["untold", "told"])
@pytest.mark.parametrize("kind", ["plain", "stateful", "distributed", "numbered", "unknown"])
def test_ranks_are_told_apart_where_they_may_show_one_look(
    kind: str, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sampler of torch's own shows each rank all images. Of an unknown one, whoever tells the epoch answers."""
    stateful = pytest.importorskip("torchdata.stateful_dataloader") if kind == "stateful" else None
    found = []
    for rank in range(2):
        in_rank(monkeypatch, 2, rank)
        loader: Any = {
            "plain": lambda: DataLoader(DATA, 8, shuffle=True, collate_fn=ga.ragged_collate),
            "stateful": lambda: stateful.StatefulDataLoader(DATA, 8, shuffle=True, collate_fn=ga.ragged_collate),
            "distributed": lambda rank=rank: DataLoader(
                DATA, 8, sampler=DistributedSampler(DATA, 2, rank), collate_fn=ga.ragged_collate
            ),
            "numbered": lambda: DataLoader(
                DATA, 8, sampler=ga.data.NumberedSampler(RandomSampler(DATA)), collate_fn=ga.ragged_collate
            ),
            "unknown": lambda: [ga.ragged_collate([DATA[n] for n in range(8)])],
        }[kind]()
        found.append(streams(loader, told))
    apart = kind in ("plain", "stateful") or (kind == "unknown" and not told)
    assert (found[0] != found[1]) == apart
    assert ([()] not in found) == apart


def test_calls_without_a_told_epoch_know_their_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = []
    for told in (False, True):
        for rank in range(2):
            in_rank(monkeypatch, 2, rank)
            augment = ga.Augment([ga.ColorJitter(0.4)], seed=5, backend="torch")
            if told:
                augment.set_epoch(0)
            pictures.append(augment(noise(2), index=torch.arange(2)))
    assert not torch.equal(pictures[0], pictures[1])
    assert torch.equal(pictures[2], pictures[3])
