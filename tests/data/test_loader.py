"""DeviceLoader: its batches, how far it works ahead, its end (long: all kinds of loaders it wraps)."""

from __future__ import annotations

import copy
import gc
import inspect
import itertools
import os
import pickle
import re
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, runtime_checkable

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.data.parts import is_installed
from tests.support import regions as region_files
from tests.support.helpers import until, used

FLOATS = ga.ToDtype(torch.float32, scale=True)
COUNT, SIDE = 10, 24
PATIENCE = 60  # seconds until a wait is taken for a hang


class Photos(torch.utils.data.Dataset[Any]):
    """Images of different sizes, their labels, and their numbers."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, number: int) -> tuple[Tensor, int, int]:
        generator = torch.Generator().manual_seed(number)
        return torch.randint(256, (3, 30 + number, 40), generator=generator, dtype=torch.uint8), number % 3, number


def augment(**options: Any) -> ga.Augment:
    return ga.Augment([ga.RandomResizedCrop(SIDE), ga.RandAugment(), FLOATS], seed=5, **options)


def batches(workers: int = 0, **options: Any) -> DataLoader[Any]:
    return DataLoader(Photos(), 4, num_workers=workers, collate_fn=ga.ragged_collate, **options)


def plain() -> DataLoader[Any]:
    """Without an index: the module's counter numbers the samples."""
    images = torch.randint(256, (COUNT, 3, 30, 30), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return DataLoader(TensorDataset(images, torch.arange(COUNT)), 4)


def spied(look: Any) -> ga.Augment:
    """A module that shows each batch it is given."""
    module = augment()
    original = module.prepare

    def prepare(images: Any, *rest: Any, **options: Any) -> Any:
        call = original(images, *rest, **options)

        def run() -> Any:
            look(images)
            return call.run()

        return SimpleNamespace(run=run, release=call.release, reservation=call.reservation)

    module.prepare = prepare  # type: ignore[method-assign]
    return module


def same(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) for pair in zip(one, other, strict=True) for a, b in zip(*pair, strict=True)
    )


# ---- what it yields --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_what_the_module_makes_of_them(workers: int) -> None:
    module = augment()
    expected = [module(images, labels, index=index) for images, labels, index in batches()]
    assert same(list(ga.DeviceLoader(batches(workers), "cpu", augment())), expected)
    assert [len(targets) for _, targets in expected] == [4, 4, 2]
    module.set_epoch(1)
    other = [module(images, labels, index=index) for images, labels, index in batches()]
    assert not same(other, expected)


def test_the_counter_numbers_samples_without_an_index() -> None:
    module, expected = augment(), augment()
    loader = ga.DeviceLoader(plain(), "cpu", module)
    for epoch in range(2):  # the counter goes on in the second epoch
        expected.set_epoch(epoch)
        assert same(list(loader), [expected(images, labels) for images, labels in plain()])
    assert (used(module)["counter"], used(expected)["counter"]) == (2 * COUNT, 2 * COUNT)


def test_images_alone() -> None:
    alone = DataLoader(torch.zeros(6, 3, 30, 30, dtype=torch.uint8), 3)
    results = list(ga.DeviceLoader(alone, "cpu", augment()))
    assert [result.shape for result in results] == [(3, 3, SIDE, SIDE)] * 2


def test_mixed_targets() -> None:
    module = ga.Augment([ga.Resize((SIDE, SIDE)), FLOATS, ga.MixUp(alpha=1.0, num_classes=3)])
    for _, targets in ga.DeviceLoader(batches(), "cpu", module):
        assert targets.shape[1] == 3
        torch.testing.assert_close(targets.sum(1), torch.ones(len(targets)))


def test_evaluation_draws_nothing() -> None:
    module = augment().eval()
    loader = ga.DeviceLoader(plain(), "cpu", module)
    first = list(loader)
    assert same(list(loader), first)
    assert used(module)["counter"] == 0
    assert torch.equal(torch.cat([targets for _, targets in first]), torch.arange(COUNT))


def test_length_and_epochs() -> None:
    sampler: Any = DistributedSampler(Photos(), num_replicas=2, rank=0, shuffle=True)
    loader = ga.DeviceLoader(batches(sampler=sampler), "cpu", augment())
    assert len(loader) == 2
    loader.set_epoch(7)
    assert sampler.epoch == loader.augment.epoch == 7


def test_set_epoch_reaches_the_sampler_of_a_batch_sampler() -> None:
    sampler: Any = DistributedSampler(Photos(), num_replicas=2, rank=0)
    chunks = torch.utils.data.BatchSampler(sampler, 2, drop_last=False)
    inner = DataLoader(Photos(), batch_sampler=chunks, collate_fn=ga.ragged_collate)
    ga.DeviceLoader(inner, "cpu", augment()).set_epoch(3)
    assert sampler.epoch == 3


class Told:
    """Something that is told the epoch, and holds others."""

    def __init__(self, **inside: Any) -> None:
        vars(self).update(inside)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        return iter([])

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, number: int) -> Any:
        return Photos()[number]


def test_set_epoch_reaches_data_sets_and_samplers_of_others() -> None:
    """A streaming data set, a batch sampler without `sampler`, one around another, a loader around a loader."""
    dataset, shard, within = Told(), Told(), Told()
    loader = DataLoader(torch.utils.data.ConcatDataset([dataset, torch.utils.data.Subset(within, [0])]))  # type: ignore[arg-type,list-item]
    around = Told(base_dataloader=loader, batch_sampler=Told(batch_sampler=shard))
    ga.DeviceLoader(around, "cpu", augment()).set_epoch(5)
    assert [part.epoch for part in (dataset, within, shard, around, around.batch_sampler)] == [5] * 5  # type: ignore[attr-defined]

    class Stream(torch.utils.data.IterableDataset[Any]):
        epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __iter__(self) -> Iterator[Any]:
            yield Photos()[self.epoch]

    stream = ga.DeviceLoader(DataLoader(Stream(), 1, collate_fn=ga.ragged_collate), "cpu", augment())
    stream.set_epoch(4)
    ((_, targets),) = list(stream)
    assert targets.tolist() == [4 % 3]


def test_it_shows_what_the_wrapped_loader_has() -> None:
    inner = batches(shuffle=True)
    loader = ga.DeviceLoader(inner, "cpu", augment())
    for name in ("dataset", "batch_size", "sampler", "batch_sampler", "num_workers", "drop_last", "collate_fn"):
        assert getattr(loader, name) is getattr(inner, name)
    bare = ga.DeviceLoader([], "cpu", augment())
    assert not hasattr(bare, "dataset")
    with pytest.raises(AttributeError, match="'DeviceLoader' object has no attribute 'nothing'"):
        loader.nothing  # noqa: B018
    images = TensorDataset(torch.zeros(6, 3, 9, 9, dtype=torch.uint8), torch.zeros(6))
    copied = pickle.loads(pickle.dumps(ga.DeviceLoader(DataLoader(images, 2), "cpu", augment())))
    assert copied.batch_size == 2
    folder = ga.data.Indexed(Photos())
    shown = repr(ga.DeviceLoader(DataLoader(folder, 4, num_workers=2), "cpu", augment(), train=False))
    assert re.match(
        r"DeviceLoader\(\n    DataLoader\(Indexed\(.*\), batch_size=4, num_workers=2\),\n    'cpu',\n", shown
    )
    assert "        RandomResizedCrop(" in shown
    assert shown.endswith("train=False,\n)")


class Adapter:
    """A loader that has the methods of a stateful one, which fail, as one that Accelerate prepared."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __iter__(self) -> Iterator[Any]:
        return iter(self.inner)

    def state_dict(self) -> Any:
        return self.dl_state_dict  # type: ignore[attr-defined]

    def load_state_dict(self, state: Any) -> None:
        raise NotImplementedError("not here")


def test_a_loader_whose_state_does_not_work() -> None:
    loader = ga.DeviceLoader(Adapter(batches()), "cpu", augment())
    assert same(list(loader), list(ga.DeviceLoader(batches(), "cpu", augment())))
    with pytest.raises(
        ValueError, match=r"got a Adapter, whose state_dict\(\) fails \(.*dl_state_dict.*\)\. Use torchd"
    ):
        loader.state_dict()
    with pytest.raises(
        ValueError, match=r"got a Adapter, whose load_state_dict\(\) fails \(not here\)\. Use torchdata"
    ):
        loader.load_state_dict({})


@runtime_checkable
class Stateful(Protocol):
    """As Lightning, Fabric and torch.distributed.checkpoint ask; from Python 3.12 on it sees no __getattr__."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any) -> None: ...


def test_whoever_looks_for_a_state_finds_one_where_there_is_one() -> None:
    without = ga.DeviceLoader(plain(), "cpu", augment())
    assert not isinstance(without, Stateful)
    assert not hasattr(without, "state_dict")
    assert not hasattr(without, "load_state_dict")
    kept = ga.DeviceLoader(Adapter(plain()), "cpu", augment())
    for one in (kept, pickle.loads(pickle.dumps(kept))):
        assert isinstance(one, Stateful)
        assert callable(inspect.getattr_static(one, "state_dict"))
    with pytest.raises(ValueError, match=r"^DeviceLoader: `device` must be"):
        ga.DeviceLoader(Adapter(plain()), "nowhere", augment())


def test_a_loader_that_accelerate_prepared() -> None:
    accelerate = pytest.importorskip("accelerate")
    prepared = accelerate.Accelerator(cpu=True).prepare(plain())
    loader = ga.DeviceLoader(prepared, "cpu", augment())
    assert same(list(loader), list(ga.DeviceLoader(plain(), "cpu", augment())))
    with pytest.raises(ValueError, match=r"DeviceLoader.state_dict: `loader` must be a loader with state_dict"):
        loader.state_dict()


def test_the_loader_may_say_the_mode() -> None:
    """The module stands in no model, so that nobody calls eval() on it."""
    module = augment()
    expected = list(ga.DeviceLoader(plain(), "cpu", augment().eval()))
    assert module.training
    assert same(list(ga.DeviceLoader(plain(), "cpu", module, train=False)), expected)
    assert module.training
    module.eval()
    trained = list(ga.DeviceLoader(plain(), "cpu", module, train=True))
    assert same(trained, list(ga.DeviceLoader(plain(), "cpu", augment())))
    with pytest.raises(ValueError, match=r"DeviceLoader: `train` must be None, True or False, got 'yes'"):
        ga.DeviceLoader(plain(), "cpu", module, train="yes")  # type: ignore[arg-type]


def test_one_module_that_trains_on_two_loaders_is_said() -> None:
    module = augment()
    training, validation = (ga.DeviceLoader(plain(), "cpu", module) for _ in range(2))
    for _ in range(2):
        list(training)
    with pytest.warns(UserWarning, match="training list for two loaders.*pass train=False") as caught:
        list(validation)
    assert caught[0].filename == __file__
    list(validation)
    list(ga.DeviceLoader(training.loader, "cpu", module))  # the same loader wrapped anew
    for train in (True, False):
        list(ga.DeviceLoader(plain(), "cpu", module, train=train))
    module.eval()
    list(ga.DeviceLoader(plain(), "cpu", module))


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
def test_a_loader_that_is_not_shared_out_among_ranks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuaug.data.loader.world", lambda: (2, 0))
    loaders = [batches(), batches(shuffle=True)]
    if find_spec("torchdata") is not None:  # it makes samplers of its own
        from torchdata.stateful_dataloader import StatefulDataLoader

        loaders += [
            StatefulDataLoader(Photos(), shuffle=shuffle, collate_fn=ga.ragged_collate) for shuffle in (False, True)
        ]
    for each in loaders:
        loader = ga.DeviceLoader(each, "cpu", augment())
        with pytest.warns(
            UserWarning, match=r"no distributed sampler, so each of the 2 ranks .*DistributedSampler"
        ) as caught:
            list(loader)
        assert caught[0].filename == __file__
        list(loader)  # said once
    sampler: Any = DistributedSampler(Photos(), num_replicas=2, rank=0)
    weighted = torch.utils.data.WeightedRandomSampler([1.0] * COUNT, COUNT)
    replaced = torch.utils.data.RandomSampler(Photos(), replacement=True)
    for choice in (sampler, weighted, replaced):
        list(ga.DeviceLoader(batches(sampler=choice), "cpu", augment()))
    list(ga.DeviceLoader(batches(), "cpu", augment().eval()))
    monkeypatch.setattr("gpuaug.data.loader.world", lambda: (1, 0))
    list(ga.DeviceLoader(batches(), "cpu", augment()))


def test_progress_bars_know_the_length() -> None:
    rich_progress = pytest.importorskip("rich.progress")
    from rich.console import Console

    loader = ga.DeviceLoader(batches(), "cpu", augment())
    assert len(list(rich_progress.track(loader, console=Console(quiet=True)))) == 3
    tqdm = pytest.importorskip("tqdm")
    bar = tqdm.tqdm(loader, disable=True)
    assert bar.total == 3 or len(bar) == 3
    assert len(list(bar)) == 3


# ---- ahead, but no further -------------------------------------------------------------------------------------------


class Watched:
    """A loader that says how many batches were fetched."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.fetched = inner, 0

    def __len__(self) -> int:
        return len(self.inner)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.inner:
            self.fetched += 1
            yield batch


def test_one_batch_is_made_during_the_consumers_step() -> None:
    watched = Watched(batches())
    threads = set()
    module = spied(lambda _: threads.add(threading.current_thread()))
    for number, _ in enumerate(ga.DeviceLoader(watched, "cpu", module)):
        ahead = min(number + 2, 3)
        assert until(lambda ahead=ahead: watched.fetched >= ahead)
        time.sleep(0.05)
        assert watched.fetched == ahead
    assert len(threads) == 1
    assert threading.main_thread() not in threads


def test_state_is_that_of_the_batch_in_hand() -> None:
    """The batch made ahead does not count, for the module nor for the loader."""
    module = augment()
    watched = Watched(plain())
    for number, _ in enumerate(ga.DeviceLoader(watched, "cpu", module)):
        assert until(lambda number=number: watched.fetched >= min(number + 2, 3))
        time.sleep(0.05)
        assert used(module)["counter"] == min(4 * (number + 1), COUNT)
        assert module._counter.next > 4 * (number + 1) or number == 2, "nothing was made ahead: this test saw nothing"


@pytest.mark.parametrize("seen", [1, 2])
def test_leaving_early_uses_up_the_draws_that_were_seen(seen: int) -> None:
    module, expected = augment(), augment()
    for number, _ in enumerate(ga.DeviceLoader(plain(), "cpu", module), 1):
        if number == seen:
            break
    assert module._counter.next == used(module)["counter"] == 4 * seen
    for (images, _), _ in zip(plain(), range(seen), strict=False):
        expected(images)
    images = next(iter(plain()))[0]
    assert torch.equal(module(images), expected(images))


def test_a_call_in_between_never_shares_draws() -> None:
    module = augment()
    seen = []
    original = module.train_pipeline.sample

    def sample(keys: Any, *more: Any) -> Any:
        seen.extend(keys.index.tolist())
        return original(keys, *more)

    module.train_pipeline.sample = sample  # type: ignore[method-assign]
    for number, _ in enumerate(ga.DeviceLoader(plain(), "cpu", module)):
        time.sleep(0.05)
        module(torch.zeros(2, 3, 30, 30, dtype=torch.uint8))
        if number == 1:
            break
    module(torch.zeros(5, 3, 30, 30, dtype=torch.uint8))
    assert len(seen) == len(set(seen))


def test_mode_and_epoch_are_those_of_the_beginning() -> None:
    """A validation in the middle of an epoch does not reach the batch that is being made ahead."""
    expected, module = list(ga.DeviceLoader(plain(), "cpu", augment())), augment()
    results = []
    for batch in ga.DeviceLoader(plain(), "cpu", module):
        module.eval().set_epoch(9)
        time.sleep(0.02)
        module.train()
        results.append(batch)
    assert same(results, expected)


def test_a_module_that_stands_beside_ahead_batches() -> None:
    """A call in between, a copy and a loaded state, while a batch is made ahead."""
    module, watched = augment(), Watched(plain())
    iterator = iter(ga.DeviceLoader(watched, "cpu", module))
    next(iterator)
    assert until(lambda: len(module._counter.taken.items()) == 1)
    module(torch.zeros(2, 3, 30, 30, dtype=torch.uint8))
    assert used(module)["counter"] == 4, "the batch ahead is the first that is not seen"
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert (other._counter.next, other._counter.taken.items()) == (4, [])
    module.load_state_dict(module.state_dict() | {"_extra_state": {"epoch": 0, "counter": 100}})
    next(iterator)
    assert until(lambda: module._counter.next == 102)
    assert used(module)["counter"] == 100, "the batch that was made before took none of the new numbers"
    del iterator
    assert used(module)["counter"] == module._counter.next == 100


def test_foreign_steps_leave_the_consumers_draws_alone() -> None:
    """They use torch's global generator, so they run in the consumer's thread, while the next batch is fetched."""
    threads = set()

    class Slow(v2.ColorJitter):
        def forward(self, *inputs: Any) -> Any:
            threads.add(threading.current_thread())
            time.sleep(0.02)
            return super().forward(*inputs)

    module = ga.Augment([ga.RandomResizedCrop(SIDE), ga.Opaque(Slow(0.5, 0.5))], seed=5)
    expected = [(module(images, index=index), labels) for images, labels, index in batches()]
    drawn, results = [], []
    module.set_epoch(0)
    state = torch.get_rng_state()
    for batch in ga.DeviceLoader(batches(), "cpu", module):
        results.append(batch)
        for _ in range(20):
            drawn.append(torch.rand(()).item())
            time.sleep(0.002)
    assert same(results, expected)
    assert threads == {threading.main_thread()}
    torch.set_rng_state(state)
    torch.empty((), dtype=torch.int64).random_()  # what a DataLoader takes
    assert drawn == [torch.rand(()).item() for _ in drawn]


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_errors_of_the_loader_and_of_the_module_reach_the_consumer() -> None:
    class Broken(Photos):
        def __getitem__(self, number: int) -> Any:
            if number == 5:
                raise OSError("disk on fire")
            return super().__getitem__(number)

    loader = ga.DeviceLoader(DataLoader(Broken(), 2, collate_fn=ga.ragged_collate), "cpu", augment())
    iterator = iter(loader)
    assert len([next(iterator), next(iterator)]) == 2, "batches before the broken one are handed out"
    with pytest.raises(OSError, match="disk on fire"):
        next(iterator)

    module = augment()
    floats = DataLoader(TensorDataset(torch.rand(4, 3, 8, 8), torch.arange(4)), 2)
    with pytest.raises(ValueError, match=r"Augment: `images` must be uint8"):
        next(iter(ga.DeviceLoader(floats, "cpu", module)))
    assert used(module)["counter"] == 0
    assert not module._counter.taken.items()
    with pytest.raises(ValueError, match=r"Augment: `images` must be uint8 .*, got uint8 \(\)"):
        next(iter(ga.DeviceLoader([torch.tensor(3, dtype=torch.uint8)], "cpu", augment())))


def test_arguments() -> None:
    with pytest.raises(ValueError, match=r"DeviceLoader: `augment` must be a gpuaug.Augment"):
        ga.DeviceLoader(plain(), "cpu", torch.nn.Identity())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"DeviceLoader: `loader` must be a DataLoader, got 3"):
        ga.DeviceLoader(3, "cpu", augment())
    for device in (None, "cup", "meta", [], *(() if torch.cuda.is_available() else ("cuda", "cuda:1", 5))):
        with pytest.raises(ValueError, match="DeviceLoader: `device` must be one that this machine has, got"):
            ga.DeviceLoader(plain(), device, augment())  # type: ignore[arg-type]
    for workers in (0, 1):
        unpacked = DataLoader(Photos(), 2, num_workers=workers)
        with pytest.raises(ValueError, match=r"DeviceLoader: `loader` must be one that packs .*ragged_collate to the"):
            next(iter(ga.DeviceLoader(unpacked, "cpu", augment())))
    for strange in ((1, 2), (torch.zeros(1),) * 4, "text", ()):
        with pytest.raises(
            ValueError, match=r"DeviceLoader: `loader` must be one that yields \(images, .*ragged_collate does"
        ):
            next(iter(ga.DeviceLoader([strange], "cpu", augment())))
    stateless = ga.DeviceLoader(plain(), "cpu", augment())
    with pytest.raises(
        AttributeError, match=r"DeviceLoader.state_dict: `loader` must be a loader with state_dict\(\) and load_"
    ):
        stateless.state_dict()
    with pytest.raises(AttributeError, match=r"DeviceLoader.load_state_dict: .*StatefulDataLoader"):
        stateless.load_state_dict({})


# ---- nothing is left behind ------------------------------------------------------------------------------------------


def loader_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("gpuaug-loader")]


@pytest.mark.parametrize("how", ["end", "break", "raise", "close"])
def test_threads_workers_and_batches_are_gone(how: str) -> None:
    import multiprocessing

    assert not loader_threads()
    loader = ga.DeviceLoader(batches(workers=2), "cpu", augment())
    kept: list[weakref.ref[Any]] = []

    def consume() -> None:
        iterator = iter(loader)
        for number, (images, _) in enumerate(iterator):
            kept.append(weakref.ref(images))
            assert loader_threads()
            assert multiprocessing.active_children()
            if number == 1 and how == "break":
                return
            if number == 1 and how == "raise":
                raise KeyError
            if number == 1 and how == "close":
                iterator.close()  # type: ignore[attr-defined]

    if how == "raise":
        with pytest.raises(KeyError):
            consume()
    else:
        consume()
    gc.collect()
    assert until(lambda: not loader_threads())
    assert until(lambda: not multiprocessing.active_children())
    assert all(reference() is None for reference in kept)
    assert len(list(loader)) == 3, "it can be used again"


@pytest.mark.parametrize("collector", ["the loader's thread", "another"])
def test_the_garbage_collector_may_end_an_iteration_in_any_thread(collector: str) -> None:
    """Where a thread would wait for what itself, or a thread it waits for, has to do."""
    reached, lost, collected = threading.Event(), threading.Event(), threading.Event()

    def collect() -> None:
        lost.wait()
        gc.collect()
        collected.set()

    class Collecting:
        def __iter__(self) -> Iterator[Any]:
            for number, batch in enumerate(plain()):
                if number == 1:
                    reached.set()
                    if collector == "another":
                        threading.Thread(target=collect).start()
                        collected.wait(PATIENCE)
                    else:
                        collect()
                yield batch

    class Trainer:
        def __init__(self, module: ga.Augment) -> None:
            self.cycle, self.iterator = self, iter(ga.DeviceLoader(Collecting(), "cpu", module))

    module = augment()
    gc.disable()
    try:
        trainer = Trainer(module)
        next(trainer.iterator)
        assert reached.wait(PATIENCE)
        del trainer
        lost.set()
        assert collected.wait(PATIENCE)
    finally:
        gc.enable()
    assert until(lambda: not loader_threads())
    assert used(module)["counter"] == module._counter.next == 4


def test_the_consumer_alone_holds_a_batch() -> None:
    iterator = iter(ga.DeviceLoader(batches(), "cpu", augment()))
    images, targets = next(iterator)
    reference = weakref.ref(images)
    del images, targets
    gc.collect()
    assert reference() is None
    del iterator


@pytest.mark.parametrize("way", ["close", "raise", "interrupt", "exit"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_source_that_is_stuck_keeps_no_process_alive(workers: int, way: str) -> None:
    """A plain loader would never be asked for the batch that does not come."""
    file = str(Path(__file__).parents[1] / "support" / "data_cases.py")
    given = [sys.executable, file, "stuck", str(workers), way]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(given, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.stdout.splitlines()[:1] == ['"stuck"'], done.stderr[-2000:]
    expected = {"close": "", "raise": "RuntimeError: on purpose", "interrupt": "KeyboardInterrupt", "exit": ""}[way]
    assert expected in done.stderr
    if way in ("close", "exit"):
        assert done.returncode == 0, done.stderr[-2000:]
        assert "Traceback" not in done.stderr
    if way == "close":
        assert "went on" in done.stdout
    assert "terminate called" not in done.stderr


@pytest.mark.parametrize("workers", [0, 1])
def test_an_iteration_waits_for_the_one_that_was_left(workers: int) -> None:
    """Both read from one source; workers that stay would give the first one what the second one asked for."""

    class Slow(Photos):
        def __getitem__(self, number: int) -> Any:
            if number == 9:
                time.sleep(0.5)
            return super().__getitem__(number)

    source = DataLoader(
        Slow(),
        2,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=ga.ragged_collate,
        prefetch_factor=2 if workers else None,
    )
    loader = ga.DeviceLoader(source, "cpu", augment())
    loader.set_epoch(0)
    expected = list(loader)
    for _ in range(3):
        for number, _ in enumerate(loader):
            if number == 3:
                break
        loader.set_epoch(0)
        assert same(list(loader), expected)


def test_two_iterations_at_once() -> None:
    """Two passes are two epochs, whatever their batches take turns with."""
    loader = ga.DeviceLoader(batches(), "cpu", augment())
    pairs = list(zip(loader, loader, strict=True))
    assert len(pairs) == 3
    for number, results in enumerate(zip(*pairs, strict=True)):
        loader.set_epoch(number)
        assert same(list(results), list(loader))


# ---- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="pins for real")
@pytest.mark.parametrize(("workers", "prefetch"), [(1, 2), (2, 2), (2, 4)])
def test_pinned_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, workers: int, prefetch: int) -> None:
    """torch's pinning thread, with memory that only claims to be pinned: at most (prefetched + 2) image buffers."""
    alive, most, pinned = [0], [0], []

    def pin(tensor: Tensor) -> Tensor:
        copy = tensor.clone()
        if copy.dtype == torch.uint8:  # not labels and numbers
            pinned.append(len(copy))
            alive[0] += 1
            most.append(alive[0])
            weakref.finalize(copy, lambda: alive.__setitem__(0, alive[0] - 1))
        return copy

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda *_: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    monkeypatch.setattr(torch.accelerator, "set_device_index", lambda _: None)
    monkeypatch.setattr(Tensor, "pin_memory", pin)
    many = torch.utils.data.ConcatDataset([Photos() for _ in range(8)])
    inner = DataLoader(
        many, 2, num_workers=workers, prefetch_factor=prefetch, collate_fn=ga.ragged_collate, pin_memory=True
    )
    for number, _ in enumerate(ga.DeviceLoader(inner, "cpu", augment())):
        if number % 10 == 0:
            time.sleep(0.2)  # whatever may be fetched ahead is fetched
    assert len(pinned) == len(inner) == 40
    assert sum(pinned) == sum(map(len, (Photos()[n % COUNT][0].flatten() for n in range(8 * COUNT))))
    bound = workers * prefetch + 2
    assert max(most) <= bound
    assert max(most) >= workers * prefetch - 1, "too little was fetched ahead: this test saw nothing"


# ---- CUDA, as far as it can be followed without one ------------------------------------------------------------------


class Stream:
    """A stream that only notes."""

    def __init__(self, log: list[Any], name: str) -> None:
        self.log, self.name = log, name

    def wait_stream(self, other: Stream) -> None:
        self.log.append((f"{self.name} waits for {other.name}",))


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What happens in order, with a device that only notes where each copy goes."""
    events: list[Any] = []
    current = [Stream(events, "current")]

    @contextmanager
    def use(stream: Stream) -> Iterator[None]:
        current.append(stream)
        yield
        current.pop()

    genuine = Tensor.to

    def to(tensor: Tensor, *args: Any, **options: Any) -> Tensor:
        if args and str(args[0]) == "cuda:0":
            events.append(("copy", current[-1].name, len(tensor), options))
            return tensor.clone()
        return genuine(tensor, *args, **options)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream(events, "side"))
    monkeypatch.setattr(torch.cuda, "stream", use)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current[-1])
    monkeypatch.setattr(Tensor, "to", to)
    monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: events.append(("kept for", stream.name)))
    return events


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device: tests/backends/test_gpu.py")
def test_on_cuda_a_side_stream_copies_one_batch_ahead(log: list[Any]) -> None:
    module = spied(lambda images: log.append(("augment", len(images))))
    for images, _ in ga.DeviceLoader(batches(), "cuda", module):
        log.append(("step", len(images)))
    stays = {"non_blocking": True}

    def copied(size: int) -> list[Any]:
        images = sum((30 + number) * 40 * 3 for number in range({4: 0, 2: 8}[size], {4: 4, 2: 10}[size]))
        return [("copy", "side", images, stays), ("copy", "side", size, stays)]

    second = sum((30 + number) * 40 * 3 for number in range(4, 8))
    augmented = [("current waits for side",), ("kept for", "current"), ("kept for", "current")]
    assert log == [
        *copied(4),
        *augmented,
        ("augment", 4),
        ("copy", "side", second, stays),  # while the device works on the batch before
        ("copy", "side", 4, stays),
        ("step", 4),
        *augmented,
        ("augment", 4),
        *copied(2),
        ("step", 4),
        *augmented,
        ("augment", 2),
        ("step", 2),
    ]
    assert not loader_threads()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device: tests/backends/test_gpu.py")
@pytest.mark.skipif(not is_installed(), reason="nvImageCodec, which decodes parts, is not installed")
def test_on_cuda_only_the_parts_that_are_read_are_copied(log: list[Any], tmp_path: Path) -> None:
    """Counted in the copies themselves; the pixels are the same."""
    sent, shown = [], []
    for regions in (False, True):
        module = region_files.module()
        dataset = ga.data.ImageFolder(
            region_files.write_files(tmp_path / f"{regions}"), regions=module if regions else None
        )
        counting = region_files.Counting(DataLoader(dataset, 6, collate_fn=ga.ragged_collate))
        log.clear()
        shown.append([images.clone() for _ in range(3) for images, _ in ga.DeviceLoader(counting, "cuda", module)])
        copies = [event[2] for event in log if event[0] == "copy"]
        labels = 3 * len(dataset)
        assert sum(copies) - labels == counting.bytes, "nothing but images and labels is copied"
        assert (counting.parts > 0) == regions
        sent.append(counting.bytes)
    assert region_files.same(*shown)
    assert sent[1] < 0.62 * sent[0], "43 % of the pixels, and all of the few files that are decoded whole"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device: tests/backends/test_gpu.py")
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_on_cuda_an_error_comes_after_the_batch_at_hand(log: list[Any], error: type[BaseException]) -> None:
    def broken() -> Iterator[Any]:
        yield from itertools.islice(plain(), 2)
        raise error

    class Broken:
        def __iter__(self) -> Iterator[Any]:
            return broken()

    module, seen = augment(), []
    with pytest.raises(error):
        seen.extend(ga.DeviceLoader(Broken(), "cuda", module))
    assert len(seen) == (2 if error is OSError else 1)
    assert used(module)["counter"] == module._counter.next == 4 * len(seen)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device: tests/backends/test_gpu.py")
def test_on_cuda_the_pixels_and_the_state_are_the_same(log: list[Any]) -> None:
    module = augment()
    expected = list(ga.DeviceLoader(plain(), "cpu", augment()))
    results = []
    for number, batch in enumerate(ga.DeviceLoader(plain(), "cuda", module)):
        results.append(batch)
        assert used(module)["counter"] == min(4 * (number + 1), COUNT)
    assert same(results, expected)
    assert ("copy", "side", 4, {"non_blocking": True}) in log
