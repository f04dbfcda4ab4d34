"""A training loop that test_resume.py kills: python resumed.py KIND CHECKPOINT, prints a digest of each batch."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import TensorDataset

import gpuaug as ga
from gpuaug.demo import photographs

EPOCHS, BATCH, IMAGES = 2, 4, 26
PAUSE = 0.05  # seconds a step takes, so that the loader is ahead when the process dies


class Repeated(torch.utils.data.Dataset[Any]):
    """Cuts of the photographs, of different sizes."""

    def __init__(self) -> None:
        self.photographs = photographs.photographs()

    def __len__(self) -> int:
        return IMAGES

    def __getitem__(self, number: int) -> Any:
        return self.photographs[number % 6][:, 3 * number :, number:], number % 5, number


class OwnLoader:
    """The least that knows its place: it counts batches and skips them without reading."""

    def __init__(self) -> None:
        self.dataset, self.done = Repeated(), 0

    def __iter__(self) -> Iterator[Any]:
        order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(3)).split(BATCH)
        for chosen in order[self.done :]:
            self.done += 1
            yield ga.ragged_collate([self.dataset[number] for number in chosen.tolist()])
        self.done = 0

    def state_dict(self) -> dict[str, int]:
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.done = state["done"]


def loader_of(kind: str) -> Any:
    if kind == "own":
        return OwnLoader()
    from torchdata.stateful_dataloader import StatefulDataLoader

    shuffled: dict[str, Any] = {"batch_size": BATCH, "shuffle": True, "generator": torch.Generator().manual_seed(3)}
    if kind == "indexed":
        return StatefulDataLoader(Repeated(), collate_fn=ga.ragged_collate, num_workers=2, **shuffled)
    images = torch.randint(256, (IMAGES, 3, 40, 40), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    # "counted": without an index. One worker: torchdata 0.11 without workers forgets how the next epoch is shuffled.
    return StatefulDataLoader(TensorDataset(images, torch.arange(IMAGES)), num_workers=1, **shuffled)


def main(kind: str, checkpoint: Path) -> None:
    mixes = [ga.MixUp(num_classes=IMAGES), ga.CutMix(num_classes=IMAGES)]
    steps = [ga.RandomResizedCrop(32), ga.RandAugment(), ga.ToDtype(torch.float32, scale=True), ga.RandomChoice(mixes)]
    augment = ga.Augment(steps, seed=11)
    loader = ga.DeviceLoader(loader_of(kind), "cpu", augment)
    epoch, step = 0, 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        epoch, step = state["epoch"], state["step"]
        loader.set_epoch(epoch)
        augment.load_state_dict(state["augment"])
        loader.load_state_dict(state["loader"])
    while epoch < EPOCHS:
        loader.set_epoch(epoch)
        for images, targets in loader:
            digest = hashlib.sha256(images.numpy().tobytes() + targets.numpy().tobytes()).hexdigest()
            time.sleep(PAUSE)
            step += 1
            places = {"augment": augment.state_dict(), "loader": loader.state_dict()}
            torch.save({"epoch": epoch, "step": step, **places}, checkpoint.with_suffix(".new"))
            os.replace(checkpoint.with_suffix(".new"), checkpoint)
            print(step, digest, flush=True)
        epoch += 1


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], Path(sys.argv[2]))
