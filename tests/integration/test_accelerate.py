"""Accelerate: a training loop of its own, save_state and load_state, skipped batches, two processes."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, RandomSampler

import gpuaug as ga
from tests.integration.frameworks import (
    BATCH,
    COUNT,
    QUIET,
    STEPS,
    Net,
    Photos,
    check_training,
    digests,
    documented,
    equal,
    evaluated,
    flat,
    framework,
    module,
    weights,
)

accelerate = framework("accelerate")
pytestmark = QUIET
NAMES = documented("Accelerate")
DATA = ga.data.Indexed(Photos())


def loader_of(order: str) -> DataLoader[Any]:
    if order == "numbered":
        sampler = ga.data.NumberedSampler(RandomSampler(DATA), num_replicas=1, rank=0)
        return DataLoader(DATA, BATCH, sampler=sampler, collate_fn=ga.ragged_collate)
    return DataLoader(DATA, BATCH, shuffle=True, collate_fn=ga.ragged_collate)


def prepared(order: str) -> tuple[Any, ...]:
    torch.manual_seed(0)
    options = accelerate.DataLoaderConfiguration(use_seedable_sampler=order == "seedable", data_seed=5)
    accelerator = accelerate.Accelerator(cpu=True, dataloader_config=options)
    model = NAMES["Model"](module(), Net())
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    return accelerator, *accelerator.prepare(model, optimizer, loader_of(order))


def run(order: str, folder: Path, begin: int = 0, done: int = 0) -> Any:
    accelerator, model, optimizer, loader = prepared(order)
    if begin or done:
        accelerator.load_state(folder / f"{begin}-{done}")

    def saved(epoch: int, done: int) -> None:
        path = folder / f"{epoch}-{done}"
        if not path.exists():
            accelerator.save_state(path)

    NAMES["train"](accelerator, model, optimizer, loader, 2, saved, begin, done)
    return model


@pytest.mark.parametrize("order", ["numbered", "seedable"])
def test_a_run_goes_on_after_any_step(order: str, tmp_path: Path) -> None:
    whole = run(order, tmp_path)
    check_training(whole.network)
    assert (tmp_path / "0-1" / "model.safetensors").exists()
    for epoch, done in ((0, 2), (0, STEPS - 1), (1, 3)):
        again = run(order, tmp_path, epoch, done)
        assert again.augment.seed == whole.augment.seed
        assert again.network.pictures() == whole.network.pictures()[epoch * STEPS + done :]
        assert equal(weights(again), weights(whole))


def test_validation(tmp_path: Path) -> None:
    accelerator, model, optimizer, loader = prepared("numbered")
    val = accelerator.prepare(DataLoader(DATA, BATCH, collate_fn=ga.ragged_collate))
    for _ in range(2):
        NAMES["train"](accelerator, model, optimizer, loader, 1, lambda *place: None)
        model.eval()
        with torch.inference_mode():
            scores = [accelerator.gather_for_metrics(model(images, labels)[1]) for images, labels, _ in val]
        assert sum(map(len, scores)) == COUNT
    assert flat(model.network.pictures(training=False)) == 2 * evaluated(DATA)


@pytest.mark.parametrize("order", ["numbered", "seedable"])
def test_around_a_prepared_loader(order: str, tmp_path: Path) -> None:
    """The module stands in no model: `register_for_checkpointing` saves it, and DeviceLoader counts the epochs."""

    def run(epoch: int, done: int) -> list[list[str]]:
        accelerator, _, _, loader = prepared(order)
        augment, seen = module(), list[list[str]]()
        accelerator.register_for_checkpointing(augment)
        if epoch or done:
            accelerator.load_state(tmp_path / f"{epoch}-{done}")
            loader.set_epoch(epoch)
        for now in range(epoch, 2):
            inner = accelerate.skip_first_batches(loader, done) if done else loader
            for images, targets in ga.DeviceLoader(inner, "cpu", augment, train=True):
                seen.append(digests(images))
                assert targets.shape == (len(images), 4)
                done += 1
                if not (tmp_path / f"{now}-{done}").exists():
                    accelerator.save_state(tmp_path / f"{now}-{done}")
            loader.set_epoch(now + 1)
            done = 0
        return seen

    whole = run(0, 0)
    assert len(set(flat(whole))) == 2 * COUNT
    for epoch, done in ((0, 2), (1, 3)):
        assert run(epoch, done) == whole[epoch * STEPS + done :]


@pytest.mark.parametrize("train", [True, False])
def test_the_last_batch_is_the_last_one(train: bool) -> None:
    """Accelerate asks the loader: a DeviceLoader that works ahead would be at the last batch before its consumer."""
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=4)
    model, inner = accelerator.prepare(torch.nn.Linear(1, 1), DataLoader(DATA, BATCH, collate_fn=ga.ragged_collate))
    sizes, ends, syncs = list[int](), list[bool](), list[bool]()
    for _, labels in ga.DeviceLoader(inner, "cpu", module(mix=False), train=train):
        time.sleep(0.02)  # a thread that works ahead would now be done
        with accelerator.accumulate(model):
            sizes.append(len(accelerator.gather_for_metrics(labels)))
            ends.append(accelerator.gradient_state.end_of_dataloader)
            syncs.append(accelerator.sync_gradients)
    assert sizes == [4, 4, 4, 4, 4, 2]
    assert ends == [False] * 5 + [True]
    assert syncs == [False, False, False, True, False, True]


def test_an_iteration_that_ends_early_uses_up_its_draws_only() -> None:
    """Of a loader that is not read ahead, nothing has to be given back: the counter goes on after two batches."""
    accelerator = accelerate.Accelerator(cpu=True)
    images = [(image[:, :18, :18], label) for image, label, _ in DATA]
    inner = accelerator.prepare(DataLoader(images, BATCH))  # type: ignore[arg-type]
    augment = module(mix=False, seed=3)
    batches = iter(ga.DeviceLoader(inner, "cpu", augment, train=True))
    next(batches)
    next(batches)
    del batches
    gc.collect()
    assert augment._counter.value() == 2 * BATCH


RANKS = """
import torch
from tests.integration.test_accelerate import DATA, NAMES, accelerate, loader_of
from tests.integration.frameworks import Net, module

accelerator = accelerate.Accelerator(cpu=True)
torch.manual_seed(accelerator.process_index)
model = NAMES["Model"](module(mix=False, seed=3), Net())
model.forward_, model.forward = model.forward, lambda i, l, index=None: model.forward_(i, l, index)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
wrapped, optimizer, loader = accelerator.prepare(model, optimizer, loader_of("numbered"))
NAMES["train"](accelerator, wrapped, optimizer, loader, 2, lambda *place: None)
with open(f"{folder}/{{accelerator.process_index}}", "w") as file:
    print(*[picture for batch in model.network.pictures() for picture in batch], file=file)
accelerator.end_training()
"""


def test_two_processes_draw_as_one(tmp_path: Path) -> None:
    """Accelerate deals the batches out, and fills up the last ones with the first images again."""
    root = str(Path(__file__).parents[2])
    script = tmp_path / "ranks.py"
    script.write_text(RANKS.format(folder=str(tmp_path)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=root,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert done.returncode == 0, done.stderr
    ranks = [(tmp_path / str(rank)).read_text().split() for rank in range(2)]
    alone = module(mix=False, seed=3)
    expected = set()
    for epoch in range(2):
        alone.set_epoch(epoch)
        for n in range(COUNT):
            expected |= set(digests(alone(DATA[n][0][None], index=torch.tensor([n]))))
    assert expected <= {*ranks[0], *ranks[1]}
