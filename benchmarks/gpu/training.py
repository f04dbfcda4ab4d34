"""Training speed on one GPU: python -m benchmarks.gpu.training --out DIR (long: one experiment in order).

A row: network, recipe, source (where its batches come from), images_s, step_ms, spread, and of those that augment in
the step share (device time of augmentation over the step) and share_by_step (how much longer the step is than with
cached batches, in the same round). Of loaders also waited, the share of the time in which the host waits for a batch.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .results import Options, Poisoned, Results, run

__all__ = ["AUGMENT", "CACHED", "GRAPH", "NETWORKS", "SIDE", "Network", "Source", "Training", "measure", "shares"]

CACHED, AUGMENT, GRAPH, SIDE = "cached", "augment", "augment graph", "augment on a side stream"
NETWORKS = ("resnet50", "resnet18")
WORKERS = 12
RESERVE = 4.0  # seconds that are kept for the aims
NEEDED = 10.0  # seconds that a network takes at least, in the step


@dataclass(frozen=True)
class Plan:
    """How much of it."""

    batch: int = 256
    rounds: int = 5
    seconds: float = 0.5  # of a turn
    most: int = 40  # steps of a turn
    cached: int = 3  # batches
    workers: int = WORKERS
    loader_rounds: int = 3
    networks: tuple[str, ...] = NETWORKS
    ways: tuple[str, ...] = (CACHED, AUGMENT, GRAPH, SIDE)


FULL, SHORT = Plan(), Plan(rounds=3, seconds=0.3, loader_rounds=1, ways=(CACHED, AUGMENT))
DRY = Plan(batch=2, rounds=1, seconds=0.0, most=1, cached=2, workers=0, loader_rounds=1, networks=NETWORKS[:1])


class Network:
    """Takes steps: bf16 autocast, channels_last, SGD.

    Args:
        dry: a tiny network on the CPU, since autograd's threads cannot be told of a device that is not there.
    """

    def __init__(self, name: str, classes: int, dry: bool = False) -> None:
        torch.manual_seed(0)
        self.name, self.device = name, "cpu" if dry else "cuda"
        model = _stand_in(classes) if dry else _model(name, classes)
        self.model = model.to(self.device, memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

    def step(self, images: Any, labels: Any) -> None:
        images, labels = images.to(self.device), labels.to(self.device)  # where they are, but for a dry run
        with torch.autocast(self.device, torch.bfloat16):
            loss = F.cross_entropy(self.model(images), labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def _model(name: str, classes: int) -> nn.Module:
    from torchvision import models

    model: nn.Module = getattr(models, name)(num_classes=classes)
    return model


def _stand_in(classes: int) -> nn.Module:
    """For dry runs, instead of a ResNet."""
    head = [nn.Conv2d(3, 4, 3, stride=2, bias=False), nn.BatchNorm2d(4), nn.ReLU()]
    return nn.Sequential(*head, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))


@dataclass
class Source:
    """Batches for steps, and the seconds of a step with them, one of each round."""

    name: str
    recipe: str
    batch: Callable[[int], Any]  # step number n -> (images, labels)
    steps: list[float] = field(default_factory=list)
    device_ms: float | None = None  # of augmentation alone

    @property
    def key(self) -> str:
        return f"{self.name}, {self.recipe}"


def shares(source: Source, cached: Source | None) -> dict[str, float | None]:
    """Of a step: what augmentation takes on the device, and how much longer the step is than with cached batches."""
    found: dict[str, float | None] = {"share": None, "share_by_step": None}
    if source.device_ms is not None and source.steps:
        found["share"] = source.device_ms / 1e3 / statistics.median(source.steps)
    if cached is not None and source is not cached and cached.steps and source.steps:
        ratios = [own / base for own, base in zip(source.steps, cached.steps, strict=False)]
        found["share_by_step"] = statistics.median(ratios) - 1
    return found


class Training:
    """The part."""

    def __init__(self, results: Results, options: Options) -> None:
        from . import recipes

        self.results, self.options, self.dry = results, options, options.dry
        self.scale = recipes.DRY if options.dry else recipes.FULL
        self.plan = DRY if options.dry else FULL if options.full else SHORT
        self.heavy, self.light = f"RandAugment{recipes.MIX}", recipes.PLAIN
        self.rows: list[dict[str, Any]] = []
        self.left_out: list[str] = []
        self.networks: dict[str, Network] = {}
        self.device_ms: dict[str, float | None] = {}  # of augmentation, by recipe and how it runs

    def everything(self) -> None:
        from . import aims, timing

        torch.backends.cudnn.benchmark = True
        try:
            if self.dry:
                self.results.note(
                    "dry: a tiny network on the CPU stands in for the ResNets, and loaders have no workers"
                )
            timing.warm_up(0.0 if self.dry else 0.5)
            data = recipes_batches(self)
            for name in self.plan.networks:
                with self.guarded(name):
                    self.in_the_step(name, data)
            del data
            with self.guarded("loaders"):
                self.loaders()
        finally:
            if self.left_out:
                self.results.note(f"left out, for lack of time: {'; '.join(self.left_out)}")
            found = aims.of_training(self.rows, self.plan.batch)
            self.results.add(found)
            for one in found:
                print(aims.line(one), flush=True)

    @contextmanager
    def guarded(self, what: str) -> Any:
        """What is raised inside is a failure of this one, and the others go on."""
        try:
            yield
        except Poisoned:
            raise
        except Exception as error:
            self.results.fail(what, error)

    def enough(self, seconds: float, what: str) -> bool:
        """Whether there is time for it; if not, it is among those that are named at the end."""
        if self.dry or self.results.left() > RESERVE + seconds:
            return True
        self.left_out.append(what)
        return False

    # ---- in the step -------------------------------------------------------------------------------------------------

    def in_the_step(self, name: str, data: Any) -> None:
        """Cached batches, and augmentation in the step in three ways, in turns."""
        if not self.enough(NEEDED, f"{name}, in the step"):
            return
        network = self.networks[name] = Network(name, self.scale.classes, self.dry)
        sources = []
        for recipe, ways in ((self.heavy, self.plan.ways), (self.light, (CACHED, AUGMENT))):
            for way in ways:
                with self.guarded(f"{name}, {way}, {recipe}"):
                    sources.append(self.source(way, recipe, data))
        self.turns(network, sources)
        cached = {source.recipe: source for source in sources if source.name == CACHED}
        for source in sources:
            if source.steps:
                self.put(network, source, cached.get(source.recipe))

    def source(self, way: str, recipe: str, data: Any) -> Source:
        from . import feeding, recipes

        augment = recipes.augment(recipe, self.scale)
        if way == CACHED:
            kept = [tuple(part.clone() for part in augment(*one)) for one in data[: self.plan.cached]]
            return Source(way, recipe, lambda number: kept[number % len(kept)])
        if way == SIDE:
            return Source(way, recipe, feeding.Ahead(augment, data))
        function: Any = augment.capture(*data[0]) if way == GRAPH else augment
        source = Source(way, recipe, lambda number: function(*data[number % len(data)]))
        source.device_ms = self.device_time(way, recipe, source.batch)
        return source

    def device_time(self, way: str, recipe: str, call: Callable[[int], Any]) -> float | None:
        """Milliseconds of augmentation alone, by events or, if the device began too early, by the profiler."""
        from . import timing

        key = f"{way}, {recipe}"
        if key not in self.device_ms:
            found = timing.measure(call, rounds=self.plan.rounds, seconds=self.scale.seconds).device_ms
            if found is None:
                found = sum(kernel.us for kernel in timing.kernels(call)) / 1e3 or None
                self.results.note(f"{key}: device time is the sum of the kernels, the device had begun too early")
            self.device_ms[key] = found
        return self.device_ms[key]

    def turns(self, network: Network, sources: list[Source]) -> None:
        """Each takes its turn in each round, the order alternating; one that raises is out."""
        steps: dict[str, int] = {}
        start = time.perf_counter()
        for number in range(self.plan.rounds + 1):
            before = time.perf_counter()
            for source in list(sources) if number % 2 else list(reversed(sources)):
                try:
                    taken = _turn(network, source, steps.get(source.key, 2))
                except Poisoned:
                    raise
                except Exception as error:
                    sources.remove(source)
                    self.results.fail(f"{network.name}, {source.key}", error)
                    continue
                steps.setdefault(source.key, max(1, min(self.plan.most, int(self.plan.seconds / taken))))
                if number:  # the first round chooses algorithms, compiles and says how long a step takes
                    source.steps.append(taken)
            others = NEEDED * sum(name not in self.networks for name in self.plan.networks)
            needed = RESERVE + others + 1.5 * (time.perf_counter() - before)
            if 0 < number < self.plan.rounds and self.results.left() < needed and not self.dry:
                self.left_out.append(f"{network.name}, rounds {number + 1} to {self.plan.rounds} in the step")
                break
        print(f"{network.name}: {time.perf_counter() - start:.0f} s", flush=True)

    def put(self, network: Network, source: Source, cached: Source | None, **more: Any) -> None:
        from . import timing

        step = statistics.median(source.steps)
        recipe = "crop + flip" if source.recipe == self.light else "RandAugment + mix"
        row = {
            "network": network.name,
            "batch": self.plan.batch,
            "source": source.name if source.recipe == self.heavy else f"{source.name}, light",
            "way": source.name,
            "recipe": recipe,
            "images_s": self.plan.batch / step,
            "step_ms": step * 1e3,
            "spread": timing.spread(source.steps),
            "rounds": len(source.steps),
            "augment_ms": source.device_ms,
            **shares(source, cached),
            **more,
        }
        self.rows.append(row)
        self.results.add([row])
        said = "".join(
            f"  {text} {row[key]:.2%}"
            for key, text in (("share", "device"), ("share_by_step", "step"), ("waited", "waited"))
            if row.get(key) is not None
        )
        print(
            f"{network.name:<9} {recipe:<18} {source.name:<36} {row['images_s']:>7.0f} images/s {row['step_ms']:>7.2f}"
            f" ms{said}",
            flush=True,
        )

    # ---- loaders -----------------------------------------------------------------------------------------------------

    def loaders(self) -> None:
        """From files to steps, with worker processes, in the middle of an epoch."""
        from . import feeding

        count = max(1, self.plan.workers)  # a batch of each worker warms up, one is timed, one keeps them at work
        with tempfile.TemporaryDirectory() as folder:
            files = feeding.Feeding(
                self.scale,
                Path(folder),
                self.options.jpegs,
                self.plan.batch,
                3 * count,
                self.plan.workers,
                not self.dry,
            )
            self.room(files)
            opened: dict[str, Any] = {}
            taken: dict[tuple[str, str], list[tuple[float, float]]] = {}
            for number in range(self.plan.loader_rounds):
                for network in self.networks.values():
                    for name in feeding.LOADERS:
                        what = f"{network.name}, {name}, round {number + 1}"
                        known = taken.get((network.name, name))
                        needed = 3.3 * count * known[-1][0] if known else 20.0
                        if (name in opened and opened[name] is None) or not self.enough(needed, what):
                            continue
                        try:
                            if name not in opened:
                                opened[name] = None  # unless it can be opened
                                opened[name] = files.open(name, self.heavy)
                            found = _epoch(network, opened[name], count, count)
                        except Poisoned:
                            raise
                        except Exception as error:
                            opened[name] = None
                            self.results.fail(what, error)
                            continue
                        taken.setdefault((network.name, name), []).append(found)
                        said = f"{self.plan.batch / found[0]:.0f} images/s"
                        print(f"{what}: {said}, waited {found[1]:.0%}", flush=True)
            for (name, loader), turns in taken.items():
                source = Source(loader, self.heavy, lambda number: None, [step for step, _ in turns])
                more = {"workers": self.plan.workers, "waited": statistics.median(part for _, part in turns)}
                self.put(self.networks[name], source, None, **more)
            opened.clear()  # workers end before their files do

    def room(self, files: Any) -> None:
        """Say so if workers may find no room for their batches."""
        from . import feeding

        free = feeding.shared_memory()
        each = (
            self.plan.batch * 3 * self.scale.size**2 * 4
        )  # float32 of torchvision; raw images are as large or smaller
        needed = (feeding.PREFETCH + 1) * self.plan.workers * each
        if free is not None and free < needed:
            self.results.note(f"/dev/shm has {free / 1e9:.1f} GB free, three loaders may use {3 * needed / 1e9:.1f} GB")


def recipes_batches(training: Training) -> Any:
    from . import recipes

    return recipes.batches(training.scale, training.plan.batch, training.options.jpegs)


def _turn(network: Network, source: Source, steps: int) -> float:
    """Seconds of a step, the mean of a few in a row, after one that is not timed."""
    from . import timing

    network.step(*source.batch(0))
    timing.synchronize()
    start = time.perf_counter()
    for number in range(1, steps + 1):
        network.step(*source.batch(number))
    timing.synchronize()
    return (time.perf_counter() - start) / steps


def _epoch(network: Network, loader: Iterable[Any], warm: int, steps: int) -> tuple[float, float]:
    """Seconds of a step in the midst of an epoch, and the share of them in which the host waits for a batch.

    The clock starts and ends when a batch has come, `steps` batches apart. The rest follows without steps, so that the
    next epoch finds the workers at its beginning.

    Raises:
        RuntimeError: if the epoch ended too soon.
    """
    from . import timing

    begin = end = waited = 0.0
    batches, number = iter(loader), 0
    while True:
        start = time.perf_counter()
        batch = next(batches, None)
        came = time.perf_counter()
        if batch is None:
            break
        if warm < number <= warm + steps:
            waited += came - start
        if number in (warm, warm + steps):
            timing.synchronize()
            begin, end = end, time.perf_counter()
        if number < warm + steps:
            network.step(*batch[:2])
        del batch
        number += 1
    if number <= warm + steps:
        raise RuntimeError(f"the epoch ended after {number} batches, {warm + steps + 1} are needed")
    return (end - begin) / steps, waited / (end - begin)


def measure(results: Results, options: Options) -> None:
    """See the module."""
    Training(results, options).everything()


if __name__ == "__main__":
    sys.exit(run("training", measure))
