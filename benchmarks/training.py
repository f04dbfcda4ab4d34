"""The regime `training`: steps of a real network, and the share of their time in which they wait for data.

The network and the data path share this machine's cores, so the images a second are what counts; the waiting share
says whether a faster data path would help at all. "cached batch" has no data path: nobody can be faster.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models

from benchmarks.cases import SIZE
from benchmarks.contest import Row, missing
from benchmarks.loaders import PRELOAD, REST, WAYS, Files, copies, open_way
from benchmarks.peers import OURS, PeerError

__all__ = ["CACHED", "CASE", "WAYS_HERE", "training"]

CASE = "RandAugment"
WARM = 2  # steps of an epoch before the clock starts
CACHED = "cached batch, the ceiling"
WAYS_HERE = (
    OURS, f"{OURS}, packed raw", "torchvision v2, PIL", "torchvision v2, tensors", "AlbumentationsX",
    "Kornia after the workers", "DALI", "DALI, decodes the crop only",
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

    def epoch(self, loader: Iterable[Any]) -> tuple[float, float]:
        """Seconds of an epoch's steps and those waited in them, without the first WARM steps, where loaders start.

        A loader that was faster than the steps has batches ready by then, as it would have in a long epoch.
        """
        wait = torch.cuda.synchronize if self.device == "cuda" else lambda: None
        begin = waited = 0.0
        batches = iter(loader)
        for number in itertools.count():
            if number == WARM:
                wait()
                begin, waited = time.perf_counter(), 0.0
            start = time.perf_counter()
            try:
                images, labels = next(batches)[:2]
            except StopIteration:
                break
            waited += time.perf_counter() - start
            self.step(images, labels)
        wait()
        return time.perf_counter() - begin, waited

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
    files = Files(copies(data, temporary / "files", (WARM + steps) * batch), temporary, workers, batch)
    opened: dict[str, Any] = {}
    absent: list[Row] = []
    for way in (way for way in WAYS if way in ways):
        report(way)
        try:
            opened[way] = open_way(files, way, CASE)
        except PeerError as error:
            absent.append(missing(way, CASE, workers, error))
    images = torch.rand(batch, 3, SIZE, SIZE)
    opened[CACHED] = [(images, torch.arange(batch))] * (WARM + steps)
    rows = []
    for name in names:
        report(name)
        trainer = Trainer(name, device)
        turns: dict[str, list[tuple[float, float]]] = {way: [] for way in opened}
        for number in range(rounds + 1):
            for way in list(opened) if number % 2 else list(reversed(opened)):
                report(f"{name}: {way}")
                time.sleep(REST)
                found = trainer.epoch(opened[way])
                if number:  # the first turn warms up
                    turns[way].append(found)
        for way, taken in turns.items():
            rows.append(
                {
                    "case": name,
                    "who": way,
                    "threads": workers,
                    "images": steps * batch,
                    "seconds": [seconds for seconds, _ in taken],
                    "waited": [waited for _, waited in taken],
                    "work": "",
                }
            )
    return {"rows": rows, "absent": absent}
