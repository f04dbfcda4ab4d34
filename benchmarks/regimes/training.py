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

from ..cases import SIZE
from ..peers import OURS, PeerError
from .loaders import PRELOAD, REST, WAYS, Files, copies, open_way
from .op_regimes import Row, as_peer_error, missing

__all__ = ["CACHED", "CASE", "WAYS_HERE", "training"]

CASE = "RandAugment"
WARM = 6  # steps before the clock starts: loaders start, and fill what they hold ahead
AHEAD = 8  # batches that are there beyond the last timed step, so that nobody comes to an end before it
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
CPU, GPU = ("MobileNetV3-Small",), ("ResNet-18", "ResNet-50")


class Trainer:
    """Takes steps and counts the time in which it waits for a batch."""

    def __init__(self, name: str, device: str) -> None:
        torch.manual_seed(0)
        self.device = device
        self.model = MODELS[name]().to(device).train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)

    def run(self, loader: Iterable[Any], steps: int) -> tuple[float, float]:
        """Seconds of `steps` steps in the midst of an epoch, and those waited in them.

        Queues are as full at the end as at the beginning, if the loader keeps pace: what is used in the window is made
        in it. The rest of the epoch follows untimed, so that the next run finds every loader at its beginning.
        """
        wait = torch.cuda.synchronize if self.device == "cuda" else lambda: None
        begin = end = waited = 0.0
        batches = iter(loader)
        for number in itertools.count():
            if number in (WARM, WARM + steps):
                wait()
                begin, end = end, time.perf_counter()
            start = time.perf_counter()
            try:
                images, labels = next(batches)[:2]
            except StopIteration:
                break
            if WARM <= number < WARM + steps:
                waited += time.perf_counter() - start
            if number < WARM + steps:
                self.step(images, labels)
        return end - begin, waited

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
    steps: int = 20,
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
    files = Files(copies(data, temporary / "files", (WARM + steps + AHEAD) * batch), temporary, workers, batch)
    opened: dict[str, Any] = {}
    absent: list[Row] = []
    for way in (way for way in WAYS if way in ways):
        report(way)
        try:
            opened[way] = open_way(files, way, CASE)
        except PeerError as error:
            absent.append(missing(way, CASE, workers, error))
    images = torch.rand(batch, 3, SIZE, SIZE)
    opened[CACHED] = [(images, torch.arange(batch))] * (WARM + steps + AHEAD)
    rows = []
    for name in names:
        report(name)
        trainer = Trainer(name, device)
        turns: dict[str, list[tuple[float, float]]] = {way: [] for way in opened}
        for number in range(rounds + 1):
            for way in list(turns) if number % 2 else list(reversed(turns)):
                report(f"{name}: {way}")
                time.sleep(REST)
                try:
                    with as_peer_error():
                        found = trainer.run(opened[way], steps)
                except PeerError as error:
                    absent.append(missing(way, name, workers, error))
                    del turns[way]
                    continue
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
