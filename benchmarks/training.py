"""The regime `training`: steps of a real network, and the share of their time in which they wait for data.

The network and the data path share this machine's cores, so the images a second are what counts; the waiting share
says whether a faster data path would help at all. "cached batch" has no data path: nobody can be faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models

from benchmarks.cases import SIZE
from benchmarks.contest import Row
from benchmarks.loaders import PRELOAD, WAYS, Files, copies, open_way
from benchmarks.measure import take_turns
from benchmarks.peers import OURS, PeerError

__all__ = ["CACHED", "CASE", "WAYS_HERE", "training"]

CASE = "RandAugment"
CACHED = "cached batch, the ceiling"
WAYS_HERE = (
    OURS, f"{OURS}, packed raw", "torchvision v2, PIL", "torchvision v2, tensors", "Kornia after the workers",
    "DALI", "DALI, decodes the crop only",
)  # fmt: skip
MODELS: dict[str, Callable[[], nn.Module]] = {
    "MobileNetV3-Small": lambda: models.mobilenet_v3_small(num_classes=1000),
    "ResNet-18": lambda: models.resnet18(num_classes=1000),
    "ResNet-50": lambda: models.resnet50(num_classes=1000),
}
CPU, GPU = ("MobileNetV3-Small", "ResNet-18"), ("ResNet-18", "ResNet-50")


class Trainer:
    """Takes steps and counts the time in which it waits for a batch."""

    def __init__(self, name: str, device: str) -> None:
        torch.manual_seed(0)
        self.device = device
        self.model = MODELS[name]().to(device).train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)
        self.waited = 0.0

    def epoch(self, loader: Iterable[Any], steps: int) -> None:
        self.waited = 0.0
        batches = iter(loader)
        for _ in range(steps):
            start = time.perf_counter()
            images, labels = next(batches)[:2]
            self.waited += time.perf_counter() - start
            self.step(images, labels)
        for _ in batches:  # so that loaders that read ahead begin the next epoch afresh
            pass

    def step(self, images: Any, labels: Any) -> None:
        images, labels = images.to(self.device), labels.to(self.device).reshape(-1).long()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            loss = F.cross_entropy(self.model(images), labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def training(
    data: Path,
    temporary: Path,
    *,
    names: Sequence[str] = CPU,
    ways: Sequence[str] = WAYS_HERE,
    steps: int = 8,
    workers: int = 2,
    batch: int = 16,
    rounds: int = 3,
    device: str = "cpu",
    report: Callable[[str], None] = lambda text: None,
) -> dict[str, list[Row]]:
    """Time `steps` steps of each network behind each way of loading.

    Returns:
        "rows" with the seconds of every turn and the seconds waited in it, and "absent".
    """
    torch.multiprocessing.set_forkserver_preload(PRELOAD)
    files = Files(copies(data, temporary / "files", steps * batch), temporary, workers, batch)
    opened: dict[str, Any] = {}
    absent: list[Row] = []
    for way in (way for way in WAYS if way in ways):
        report(way)
        try:
            opened[way] = open_way(files, way, CASE)
        except PeerError as error:
            absent.append({"who": way, "case": CASE, "threads": workers, "error": " ".join(str(error).split())})
    images = torch.rand(batch, 3, SIZE, SIZE)
    opened[CACHED] = [(images, torch.arange(batch))] * steps
    rows = []
    for name in names:
        report(name)
        trainer = Trainer(name, device)
        waited: dict[str, list[float]] = {way: [] for way in opened}

        def turn(way: str, trainer: Trainer = trainer, waited: dict[str, list[float]] = waited) -> None:
            trainer.epoch(opened[way], steps)
            waited[way].append(trainer.waited)

        taken = take_turns({way: lambda way=way, turn=turn: turn(way) for way in opened}, rounds, device=device)
        for way, seconds in taken.items():
            rows.append(
                {
                    "case": name,
                    "who": way,
                    "threads": workers,
                    "images": steps * batch,
                    "seconds": seconds,
                    "waited": waited[way][1:],  # the first turn warms up
                    "work": "",
                }
            )
    return {"rows": rows, "absent": absent}
