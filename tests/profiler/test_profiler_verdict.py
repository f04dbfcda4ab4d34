"""From traces of known costs to verdicts and recommendations (long: a trace for each verdict)."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
    WeightedRandomSampler,
)
from torch.utils.data._utils.collate import default_collate
from torch.utils.data.distributed import DistributedSampler
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.profiler.conclude import epoch_start
from gpuaug.profiler.judge.advice import IDS, Advice, check_ids
from gpuaug.profiler.judge.apply import Probe, with_settings
from gpuaug.profiler.judge.code_checks import code_checks
from gpuaug.profiler.judge.recommend import best_workers, moved_change, recommend
from gpuaug.profiler.judge.verdict import free, groups, judge, slow_worker, stages
from gpuaug.profiler.model.costs import Change, Costs
from gpuaug.profiler.model.trace import Trace
from tests.support import profiler_cases as cases
from tests.support.profiler_traces import MS, PLAIN, Stages, made


def verdict_of(trace: Trace, cores: float = 100.0) -> Any:
    costs = Costs(trace, cores)
    return judge(costs, groups(costs))


def slow(name: str, cost: tuple[float, float]) -> Stages:
    return {**PLAIN, name: cost}


# ---- costs -----------------------------------------------------------------------------------------------------------


def test_the_replay_of_a_trace_is_the_trace() -> None:
    for workers in (1, 2, 4):
        costs = Costs(made(PLAIN, workers=workers), 100.0)
        assert costs.residual == pytest.approx(0.0, abs=0.03)


def test_rows_are_what_was_spent() -> None:
    costs = Costs(made(PLAIN), 100.0)
    spent = {row.name: (float(row.computing.mean()) / MS, float(row.waiting.mean()) / MS) for row in costs.rows}
    assert spent["storage"] == pytest.approx((0.1, 1.0))
    assert spent["decode"] == pytest.approx((2.0, 0.0))
    assert spent["Flip"] == pytest.approx((1.0, 0.0))
    assert spent["getitem"] == pytest.approx((0.2, 0.0), abs=1e-6)
    assert spent["collate"] == pytest.approx((0.5, 0.0))
    assert spent["send"] == pytest.approx((0.2, 0.0))
    assert spent["receive"] == pytest.approx((0.3, 0.0), abs=1e-6)
    assert spent["model"] == pytest.approx((0.0, 5.0))


def test_batches_without_detail_are_split_as_the_others() -> None:
    costs = Costs(made(PLAIN, detailed=lambda number: number < 3), 100.0)
    assert costs.row("decode").seconds == pytest.approx(2.0 * MS, rel=0.01)
    assert costs.row("storage").seconds == pytest.approx(1.1 * MS, rel=0.01)


def test_waiting_in_decoders_is_storage() -> None:
    costs = Costs(made(slow("decode", (2.0, 9.0))), 100.0)
    assert costs.row("storage").seconds == pytest.approx(10.1 * MS)
    assert costs.row("decode").seconds == pytest.approx(2.0 * MS)


def test_marks_of_the_step_are_rows() -> None:
    costs = Costs(made(PLAIN, step=(0.0, 5.0), marks={"sync": (0.0, 3.0)}), 100.0)
    assert costs.row("sync").seconds == pytest.approx(3.0 * MS)
    assert costs.row("model").seconds == pytest.approx(5.0 * MS)


def test_a_device_that_is_slower_than_the_host_is_the_step() -> None:
    trace = made(PLAIN, step=(1.0, 0.0), device=(0.02, 0.0))
    assert Costs(trace, 100.0).row("model").seconds == pytest.approx(0.02)
    assert Costs(made(PLAIN, step=(1.0, 0.0)), 100.0, alone=0.03).row("model").seconds == pytest.approx(0.03)


def test_stages_add_up_to_the_step() -> None:
    costs = Costs(made(slow("Flip", (20.0, 0.0))), 100.0)
    found = stages(costs)
    assert sum(stage.exposed for stage in found) == pytest.approx(costs.pace)
    assert sum(stage.share for stage in found) == pytest.approx(1.0)
    assert all(stage.exposed >= 0 for stage in found)


def test_a_gain_is_what_the_cured_trace_has() -> None:
    before = Costs(made(slow("Flip", (20.0, 0.0))), 100.0)
    after = Costs(made(slow("Flip", (0.0, 0.0))), 100.0)
    expected, low, high = before.gain(Change(factors={"Flip": 0.0}))
    assert expected == pytest.approx(before.pace / after.pace, rel=0.03)
    assert low <= expected <= high


def test_an_interval_is_as_wide_as_the_batches_differ() -> None:
    rng = np.random.default_rng(0)
    even = Costs(made(slow("Flip", (20.0, 0.0))), 100.0).gain(Change(factors={"Flip": 0.0}))
    uneven = [slow("Flip", (float(cost), 0.0)) for cost in rng.exponential(20.0, 60)]
    wide = Costs(made(uneven), 100.0).gain(Change(factors={"Flip": 0.0}))
    assert wide[2] - wide[1] > 5 * (even[2] - even[1])


def test_too_few_batches() -> None:
    with pytest.raises(ValueError, match="at least 6 batches"):
        Costs(made(PLAIN, count=6), 2.0)


def test_the_step_is_the_least() -> None:
    """Nothing that a loader does makes a step shorter, and an interval stays one."""
    costs = Costs(made(slow("Flip", (9.0, 0.0)), step=(0.0, 2.0)), 100.0)
    times, low, high = costs.gain(free([row.name for row in costs.rows if row.place != "step"]))
    assert low <= times <= high <= costs.pace / 0.002 * 1.001
    with pytest.raises(ValueError, match="nothing that takes time would be left"):
        costs.gain(free([row.name for row in costs.rows]))


def test_a_mark_may_be_called_as_a_stage() -> None:
    costs = Costs(made({**PLAIN, "decode": (30.0, 0.0)}, marks={"decode": (0.0, 1.0)}), 100.0)
    assert [row.name for row in costs.rows if "decode" in row.name] == ["decode", "decode (step)"]
    assert verdict_of(costs.trace).place == "decode"


def test_the_step_alone_tells_what_computes() -> None:
    """Of 6 ms alone its thread computes 3 and waits for another thread, all threads compute 8: two threads for 4 ms."""
    costs = Costs(made(PLAIN, step=(1.0, 9.0), cores=2.0), 2.0, alone=0.006, busy=(0.003, 0.008, 0.0))
    model = costs.row("model")
    assert (model.computing.mean(), model.waiting.mean()) == pytest.approx((0.004, 0.002))
    assert costs.setting.threads == pytest.approx(2.0)
    other = Costs(made(PLAIN, step=(1.0, 9.0), cores=2.0), 2.0, alone=0.016, busy=(0.003, 0.008, 0.010))
    assert other.row("model").seconds == pytest.approx(0.006), "10 ms of it waited for a core"
    waits = Costs(made(PLAIN, step=(1.0, 9.0), cores=2.0), 2.0, alone=0.006, busy=(0.0, 0.0, 0.0))
    assert (waits.row("model").computing.mean(), waits.setting.threads) == (0.0, 1.0)


def test_marks_shrink_with_the_step_alone() -> None:
    trace = made(PLAIN, step=(0.0, 10.0), marks={"sync": (0.0, 10.0)})
    assert Costs(trace, 100.0).row("sync").seconds == pytest.approx(0.010, rel=0.02)
    assert Costs(trace, 100.0, alone=0.010).row("sync").seconds == pytest.approx(0.005, rel=0.02)


def test_a_thread_ahead_fetches_beside_the_step() -> None:
    costs = Costs(made({"getitem": (10.0, 0.0)}, workers=0, step=(0.0, 20.0)), 100.0)
    assert costs.pace == pytest.approx(0.030, rel=0.02)
    assert costs.expected(Change(ahead=(0.005, 1.0))) == pytest.approx(0.020, rel=0.03)


def test_cores_limit_what_a_stage_can_give() -> None:
    trace = made(slow("Flip", (20.0, 0.0)), workers=8, cores=2.0)
    found = {stage.name: stage for stage in stages(Costs(trace, 2.0))}["Flip"]
    assert found.capacity == pytest.approx(8 / (0.020 / 2), rel=0.02)


def test_a_stage_too_short_to_be_measured_has_no_limit() -> None:
    """Instead of 94,949,519 samples/s."""
    trace = made({**slow("Flip", (20.0, 0.0)), "read": (0.0, 0.001), "decode": (1.0, 0.0)})
    found = {stage.name: stage.capacity for stage in stages(Costs(trace, 2.0))}
    assert found["storage"] is None
    assert found["decode"] is not None


def test_batches_that_come_together_count_together() -> None:
    """Two workers that begin at once: of nine gaps every second one is long."""
    trace = made(PLAIN, count=10, workers=2)
    for number, batch in enumerate(trace.batches):
        batch.done = batch.given = (number // 2 + 1) * 1.0 + number * 1e-6
    assert Costs(trace, 2.0).pace == pytest.approx(0.5, rel=0.3)


def test_unknown_rows() -> None:
    costs = Costs(made(PLAIN), 2.0)
    with pytest.raises(ValueError, match="must name one of storage, decode, Flip"):
        costs.simulate(Change(factors={"nothing": 0.0}))


# ---- verdicts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("read", "storage"),
        ("decode", "decode"),
        ("Flip", "augmentation"),
        ("getitem", "dataset"),
        ("collate", "collate"),
    ],
)
def test_the_slow_place_is_named(name: str, place: str) -> None:
    found = verdict_of(made(slow(name, (0.0, 30.0) if name == "read" else (30.0, 0.0))))
    assert (found.kind, found.place, found.cause) == ("data", place, None)
    assert found.exposed > 0.5


def test_transport_is_named() -> None:
    assert verdict_of(made(PLAIN, send=40.0)).place == "transport"
    assert verdict_of(made(PLAIN, receive=20.0)).place == "transport"


def test_the_model_is_named() -> None:
    found = verdict_of(made(PLAIN, step=(0.0, 30.0)))
    assert (found.kind, found.place) == ("model", "model")
    assert "nothing in the data path is worth changing" in found.text
    found = verdict_of(made(PLAIN, step=(0.0, 1.0), marks={"sync": (0.0, 30.0)}))
    assert (found.kind, found.place) == ("model", "sync")


def test_ties_are_called_ties() -> None:
    even = {**PLAIN, "read": (0.0, 16.0), "decode": (0.0, 0.0), "Flip": (0.0, 0.0)}  # 8.35 ms a batch from two workers
    assert verdict_of(made(even, step=(0.0, 8.1))).kind == "tie"
    assert verdict_of(made(even, step=(0.0, 5.0))).kind == "data"
    assert verdict_of(made(even, step=(0.0, 12.0))).kind == "model"
    both = {**PLAIN, "decode": (15.0, 0.0), "Flip": (15.0, 0.0)}
    found = verdict_of(made(both))
    assert found.kind == "tie"
    assert {found.place, found.second} == {"decode", "augmentation"}


def test_a_heavy_tail_is_the_cause() -> None:
    rng = random.Random(1)
    tail = [slow("read", (0.1, 150.0 if rng.random() < 0.08 else 3.0)) for _ in range(120)]
    found = verdict_of(made(tail))
    assert (found.place, found.cause) == ("storage", "tail")
    assert verdict_of(made(slow("read", (0.1, 15.0)))).cause is None


def test_a_slow_worker_is_the_cause() -> None:
    uneven = [slow("read", (0.1, 40.0 if number % 2 else 10.0)) for number in range(60)]
    trace = made(uneven)
    assert slow_worker(trace) == 1
    assert verdict_of(trace).cause == "worker"
    assert slow_worker(made(PLAIN)) is None


def test_waiting_for_cores_is_the_cause() -> None:
    trace = made(slow("Flip", (20.0, 0.0)), cores=1.0)
    for batch in trace.batches:
        batch.queue = batch.fetch[1] - batch.fetch[0]
        batch.fetch = (batch.fetch[0], batch.fetch[1] + batch.queue)
    found = verdict_of(trace, cores=1.0)
    assert (found.place, found.cause) == ("augmentation", "cores")


def test_epochs_that_start_slowly() -> None:
    trace = made(PLAIN, count=20)
    trace.starts = [(0.0, 0.1, 0.5), (1.0, 1.1, 1.5), (2.0, 2.1, 2.5)]
    costs = Costs(trace, 100.0)
    seconds, gained = epoch_start(costs)
    assert seconds == pytest.approx(0.5, abs=0.02)
    assert gained is not None
    assert gained.times > 3
    assert judge(costs, groups(costs), gained).kind == "epoch"
    stays = replace(trace.loader, persistent=True)
    assert epoch_start(Costs(Trace(stays, trace.batches, trace.starts), 100.0))[1] is None


# ---- advice ----------------------------------------------------------------------------------------------------------


def advice_of(trace: Trace, cores: float = 8.0, **more: Any) -> dict[str, Advice]:
    costs = Costs(trace, cores)
    return {one.id: one for one in recommend(costs, judge(costs, groups(costs)), **more)}


def test_more_workers_where_they_help() -> None:
    trace = made(slow("Flip", (30.0, 0.0)), cores=8.0)
    found = advice_of(trace)["num-workers"]
    assert found.settings is not None
    assert found.settings["num_workers"] >= 6
    assert found.gain is not None
    assert found.gain.times > 2
    assert "num-workers" not in advice_of(made(PLAIN, step=(0.0, 30.0)))
    assert "num-workers" not in advice_of(
        made(slow("Flip", (30.0, 0.0)), cores=2.0), cores=2.0
    )  # there are no more cores


def test_fewer_workers_are_enough() -> None:
    costs = Costs(made(PLAIN, workers=4, step=(0.0, 30.0)), 8.0)
    assert best_workers(costs)[0] == 4  # as good as any: no change is advised


def test_moving_has_a_sign() -> None:
    """Where the device takes longer than the workers, it is not advised."""
    trace = made({**PLAIN, "Flip": (30.0, 0.0)}, step=(0.0, 5.0))
    costs = Costs(trace, 100.0)
    cheap, dear = (Probe(1.0, 1.0, 0.0, seconds, 1.0, "cuda") for seconds in (0.001, 0.05))
    assert costs.gain(moved_change(costs, cheap))[0] > 2
    assert costs.gain(moved_change(costs, dear))[0] < 0.5
    beside = Probe(1.0, 1.0, 0.0, 0.004, 2.0, "cpu")
    assert costs.gain(moved_change(costs, beside))[0] > 2


def test_what_travels() -> None:
    assert "many-tensors" in advice_of(made(PLAIN, send=5.0, receive=10.0, tensors=200))
    assert "arrays-to-tensors" in advice_of(made(PLAIN, send=5.0, receive=10.0, other_bytes=1 << 24))
    floats = made(PLAIN, send=5.0, receive=10.0, tensor_bytes=1 << 24, float_bytes=1 << 24)
    steps = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    assert "uint8-on-bus" in advice_of(floats, loader=DataLoader(cases.Images(v2.Compose(steps)), 4))
    assert "uint8-on-bus" not in advice_of(floats, loader=DataLoader(cases.Images(), 4)), "who makes them is not known"
    assert not {"many-tensors", "arrays-to-tensors", "uint8-on-bus"} & set(
        advice_of(made(PLAIN, send=5.0, receive=10.0))
    )


def test_a_collate_that_only_stacks_is_not_blamed() -> None:
    costly = made(slow("collate", (20.0, 0.0)))
    like = DataLoader(cases.Numbers(8), 4, collate_fn=lambda samples: default_collate(samples))
    assert "25% of the time of mine" in advice_of(costly, loader=like)["collate"].title
    assert "collate" not in advice_of(costly, loader=DataLoader(cases.Numbers(8), 4))
    assert "collate" not in advice_of(costly, loader=DataLoader(cases.Numbers(8), 4, collate_fn=list))


def test_threads_of_workers() -> None:
    many = made(slow("Flip", (20.0, 0.0)), cores=2.0)
    for batch in many.batches:
        batch.threads *= 4
    assert Costs(many, 2.0).setting.worker_threads == pytest.approx(4, rel=0.05)
    assert "worker-threads" in advice_of(many, cores=2.0)
    assert verdict_of(many, cores=2.0).cause == "threads"
    assert "worker-threads" not in advice_of(many, cores=16.0)
    assert "worker-threads" not in advice_of(made(PLAIN, cores=2.0), cores=2.0)


def test_nothing_to_advise() -> None:
    assert advice_of(made(PLAIN, step=(0.0, 40.0))) == {}


class FakeFolder(ga.data.ImageFolder):
    """A folder whose files are not looked for."""

    def __init__(self, root: str) -> None:
        self.root = Path(root)

    def __len__(self) -> int:
        return 8


FakeFolder.__name__, FakeFolder.__module__ = ga.data.ImageFolder.__name__, ga.data.ImageFolder.__module__


def test_the_largest_gain_comes_first_and_ids_are_known() -> None:
    trace = made({**PLAIN, "read": (0.1, 20.0), "decode": (20.0, 0.0), "collate": (8.0, 0.0)}, cores=8.0)
    costs = Costs(trace, 8.0)
    folder = DataLoader(FakeFolder("/photos"), 4, collate_fn=ga.ragged_collate)
    found = recommend(costs, judge(costs, groups(costs)), loader=folder)
    gains = [one.gain.times for one in found if one.gain]
    assert gains == sorted(gains, reverse=True)
    assert {one.id for one in found} <= set(IDS)
    assert {"faster-storage", "pack-data", "num-workers"} <= {one.id for one in found}
    muted = recommend(costs, judge(costs, groups(costs)), ignore=["num-workers"])
    assert "num-workers" not in {one.id for one in muted}
    with pytest.raises(ValueError, match="must name one of augment-on-device"):
        check_ids(["everything"])


# ---- checks of the code ----------------------------------------------------------------------------------------------


class Seeded(Dataset[Any]):
    def __init__(self, transform: Any = None) -> None:
        self.rng, self.transform = np.random.default_rng(0), transform

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        return self.rng.random()


def ids(loader: DataLoader[Any]) -> set[str]:
    return {one.id for one in code_checks(loader)}


def test_a_generator_that_every_worker_repeats() -> None:
    """As it is: two workers of one data set draw the same numbers."""
    loader = DataLoader(Seeded(), 1, num_workers=2)
    drawn = [float(batch) for batch in loader]
    assert drawn[0] == drawn[1]
    assert "worker-seeding" in ids(loader)
    assert "worker-seeding" not in ids(DataLoader(Seeded(), 1, num_workers=1))
    assert "worker-seeding" not in ids(DataLoader(Seeded(), 1, num_workers=2, worker_init_fn=cases.shard))
    assert "worker-seeding" not in ids(DataLoader(cases.Images(), 1, num_workers=2))


def test_random_transforms_in_validation() -> None:
    flip, still = v2.Compose([v2.RandomHorizontalFlip()]), v2.Compose([v2.CenterCrop(4)])
    assert "augmented-validation" in ids(DataLoader(cases.Images(flip), 4))
    assert "augmented-validation" not in ids(DataLoader(cases.Images(flip), 4, shuffle=True))
    assert "augmented-validation" not in ids(DataLoader(cases.Images(still), 4))


class Backwards(BatchSampler):
    """Batches of a class that this profiler does not know."""


@pytest.mark.parametrize("kind", ["random", "weighted", "own", "distributed", "numbers", "iterable"])
def test_a_loader_that_shuffles_in_any_way_is_not_taken_for_validation(kind: str) -> None:
    data = cases.Images(v2.Compose([v2.RandomHorizontalFlip()]))
    random = RandomSampler(data)
    loaders: dict[str, Callable[[], DataLoader[Any]]] = {
        "random": lambda: DataLoader(data, batch_sampler=BatchSampler(random, 8, True)),
        "weighted": lambda: DataLoader(data, 8, sampler=WeightedRandomSampler([1.0] * len(data), 16)),
        "own": lambda: DataLoader(data, batch_sampler=Backwards(SequentialSampler(data), 8, True)),
        "distributed": lambda: DataLoader(data, 8, sampler=DistributedSampler(data, 2, 0)),
        "numbers": lambda: DataLoader(data, 8, sampler=[3, 1, 2]),
        "iterable": lambda: DataLoader(cases.Stream(), 8),
    }
    assert "augmented-validation" not in ids(loaders[kind]())


@pytest.mark.parametrize("kind", ["own", "distributed"])
def test_a_loader_that_certainly_reads_in_order_is(kind: str) -> None:
    data = cases.Images(v2.Compose([v2.RandomHorizontalFlip()]))
    batches = BatchSampler(SequentialSampler(data), 8, True)
    sampler: DistributedSampler[Any] = DistributedSampler(data, 2, 0, shuffle=False)
    loader = DataLoader(data, batch_sampler=batches) if kind == "own" else DataLoader(data, 8, sampler=sampler)
    assert "augmented-validation" in ids(loader)


def test_normalize_comes_last() -> None:
    normalize = v2.Normalize((0.5,), (0.5,))
    wrong = v2.Compose([v2.ToDtype(torch.float32, scale=True), normalize, v2.ColorJitter(0.3)])
    right = v2.Compose([v2.ColorJitter(0.3), v2.ToDtype(torch.float32, scale=True), normalize, v2.RandomErasing()])
    assert "normalize-not-last" in ids(DataLoader(cases.Images(wrong), 4, shuffle=True))
    assert "normalize-not-last" not in ids(DataLoader(cases.Images(right), 4, shuffle=True))


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_a_reloaded_loader_gives_the_same_batches(workers: int) -> None:
    loader = DataLoader(cases.Images(), 4, shuffle=True, generator=torch.Generator().manual_seed(1), num_workers=1)
    other = with_settings(loader, num_workers=workers)
    assert other.num_workers == workers
    state = loader.generator.get_state()
    plain = [batch[4].tolist() for batch in loader]
    loader.generator.set_state(state)
    assert [batch[4].tolist() for batch in other] == plain
    assert loader.num_workers == 1
