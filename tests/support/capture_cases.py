"""Runs in a process of its own and prints what `Augment.capture` does under faked CUDA graphs, as JSON.

python tests/support/capture_cases.py
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.evidence.launches import Listener, intercept, listeners
from benchmarks.evidence.pseudocuda import PseudoCuda, install, to_device, to_host  # before anything imports Triton
from benchmarks.evidence.recording import Audit

# isort: split
from torch import Tensor
from torch.utils._pytree import tree_map
from torchvision.transforms import v2

import gpuaug as ga
from tests.support.device_lists import BATCHES, CAPTURED, CASES, Case, place, same
from tests.support.helpers import noise, photographs, used


def captured(case: Case) -> tuple[ga.Augment, Any]:
    """Without running the warm-ups, which the interpreter does not need."""
    augment, idle = case.augment("triton"), Listener(lambda launch: None, execute=False)
    listeners.append(idle)
    try:
        return augment, augment.capture(*place(case.batch(), to_device))
    finally:
        listeners.remove(idle)


def copied(result: Any) -> Any:
    """On the host, kept from the next call."""
    return tree_map(lambda tensor: to_host(tensor).clone(), result)


def index(start: int) -> Tensor:
    return torch.arange(4) * 7 + start


def replays(case: Case) -> dict[str, Any]:
    """Other batches and draws by the graph, and as the twin has them on the CPU; what a call asks of the device."""
    augment, graph = captured(case)
    twin = case.augment("torch")
    found: dict[str, Any] = {"state": used(augment), "same": [], "asks": []}
    for number in range(BATCHES):
        batch = case.batch(seed=number)
        expected = twin(*batch, index=index(1000 * number))
        with Audit() as audit:
            result = graph(*place(batch, to_device), index=index(1000 * number))
        found["same"].append(same(copied(result), expected))
        found["asks"].append(
            [[str(f) for f in audit.findings], len(audit.uploads), [one.name for one in audit.launches]]
        )
    return found


def counters(case: Case) -> list[Any]:
    """Without an index, and in other epochs: draws and state are those of `forward`."""
    augment, graph = captured(case)
    twin, batch = case.augment("torch"), case.batch()
    found: list[Any] = []
    for epoch in (0, 0, 7):
        augment.set_epoch(epoch)
        twin.set_epoch(epoch)
        alike = same(copied(graph(*place(batch, to_device))), twin(*batch))
        found.append([alike, used(augment) == used(twin)])
    return found


def weaker() -> list[bool]:
    """After `replace` by weaker lists of the same steps: as a module has it that is given the same lists."""
    case, found = CASES["RandAugment, MixUp"], []
    augment, graph = captured(case)
    twin, batch = case.augment("torch"), case.batch()
    steps = list(twin.train_pipeline.steps)
    for number, strength in enumerate((0.5, 0.9, 1.0)):
        for module in (augment, twin):
            module.replace(train=ga.recipes.at_strength(steps, strength))
        expected = twin(*batch, index=index(number))
        found.append(same(copied(graph(*place(batch, to_device), index=index(number))), expected))
    return found


def inference() -> dict[str, Any]:
    """Captured, and called, inside torch.inference_mode() or outside: whether the results are right, and plain."""
    case = CASES["RandAugment, MixUp"]
    found = {}
    for inside in (False, True):
        with torch.inference_mode(inside):
            _, graph = captured(case)
        twin = case.augment("torch")
        for calling in (False, True):
            batches = [(case.batch(seed=n), index(2 * calling + n)) for n in range(2)]
            with torch.inference_mode(calling):
                results = [graph(*place(batch, to_device), index=numbers) for batch, numbers in batches]
            plain = not any(part.is_inference() for part in results[-1])
            batch, numbers = batches[-1]
            right = same(copied(results[-1]), twin(*batch, index=numbers))
            found[f"captured {'inside' if inside else 'outside'}, called {'inside' if calling else 'outside'}"] = [
                right,
                plain,
            ]
    return found


def said(attempt: Callable[[], Any]) -> str:
    try:
        attempt()
    except (ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def refused_captures() -> dict[str, str]:
    images, labels = to_device(noise()), to_device(torch.arange(4))
    plain, mixing = (
        ga.Augment([ga.RandomInvert()], seed=0),
        ga.Augment([ga.ToDtype(torch.float32), ga.MixUp(num_classes=4)], seed=0),
    )
    ragged = ga.Ragged.from_images(photographs(4)).to("cuda")
    attempts: dict[str, Callable[[], Any]] = {
        "ragged": lambda: ga.Augment([ga.Resize((9, 9))], seed=0).capture(ragged),
        "opaque": lambda: ga.Augment([ga.Opaque(v2.RandomInvert())], seed=0).capture(images),
        "one channel": lambda: ga.Augment([], eval=[ga.Grayscale(1)], seed=0).eval().capture(images),
        "images on the CPU": lambda: ga.Augment([ga.RandomInvert()], backend="triton", seed=0).capture(noise()),
        "labels on the CPU": lambda: mixing.capture(images, torch.arange(4)),
        "labels of another kind": lambda: plain.capture(images, [0, 1, 2, 3]),
        "no labels": lambda: mixing.capture(images),
        "floats": lambda: plain.capture(images.float()),
        "another backend": lambda: ga.Augment([ga.RandomInvert()], backend="torch", seed=0).capture(images),
        "nothing wrong": lambda: mixing.capture(images, labels),
    }
    return {name: said(attempt) for name, attempt in attempts.items()}


def refused_calls() -> dict[str, Any]:
    """What is said of each bad call; and whether the state is as before and the next call is right."""
    case = CASES["RandAugment, MixUp"]
    augment, graph = captured(case)
    images, labels = place(case.batch(), to_device)
    expected = case.augment("torch")(*case.batch(), index=index(3))
    found: dict[str, Any] = {}

    def in_eval() -> Any:
        augment.eval()
        try:
            return graph(images, labels)
        finally:
            augment.train()

    def in_another_layout() -> Any:
        augment.memory_format = torch.channels_last
        try:
            return graph(images, labels)
        finally:
            augment.memory_format = torch.contiguous_format

    def with_list(change: Callable[[list[Any]], list[Any]]) -> Any:
        steps = list(augment.train_pipeline.steps)
        augment.replace(train=change(steps))
        try:
            return graph(images, labels)
        finally:
            augment.replace(train=steps)

    def failing() -> Any:
        replay, graph.graph.replay = graph.graph.replay, lambda: [][0]
        try:
            return graph(images, labels)
        except IndexError as error:
            raise RuntimeError("the device failed") from error
        finally:
            graph.graph.replay = replay

    attempts: dict[str, Callable[[], Any]] = {
        "another shape": lambda: graph(images[:, :, 1:], labels),
        "fewer": lambda: graph(images[:2], labels[:2]),
        "floats": lambda: graph(images.float(), labels),
        "images on the CPU": lambda: graph(to_host(images), labels),
        "ragged": lambda: graph(ga.Ragged.from_images(photographs(4)).to("cuda"), labels),
        "no labels": lambda: graph(images),
        "soft labels": lambda: graph(images, torch.ones(4, 7, device="cuda")),
        "labels on the CPU": lambda: graph(images, to_host(labels)),
        "bad index": lambda: graph(images, labels, index=torch.arange(3)),
        "another mode": in_eval,
        "another layout": in_another_layout,
        "another list": lambda: with_list(lambda steps: [ga.RandomInvert(), *steps]),
        "more classes": lambda: with_list(lambda steps: [*steps[:-1], steps[-1].replace(num_classes=11)]),
        "a failure": failing,
    }
    for name, attempt in attempts.items():
        before = used(augment)
        text = said(attempt)
        kept = used(augment) == before
        augment.set_epoch(0)
        right = same(copied(graph(images, labels, index=index(3))), expected)
        found[name] = [text, kept, right]
    plain = ga.Augment([ga.RandomInvert()]).train()
    found["labels that were not captured"] = [said(lambda: plain.capture(images)(images, labels)), True, True]
    return found


def faults() -> dict[str, Any]:
    """What must be noticed of a graph that is not right, and of code that no graph takes."""
    case = CASES["RandAugment"]
    batch = case.batch(seed=1)
    expected = case.augment("torch")(*batch, index=index(0))

    def broken(change: Callable[[Any], Any]) -> bool:
        graph = captured(case)[1]
        change(graph)
        return same(copied(graph(*place(batch, to_device), index=index(0))), expected)

    def forgetful() -> None:
        graph = captured(case)[1]
        replay, graph.job, graph.given = graph.graph.replay, None, None
        gc.collect()
        replay()

    def inside(code: Callable[[Tensor], Any]) -> Callable[[], None]:
        def run() -> None:
            values = to_device(torch.ones(3))
            with torch.cuda.graph(torch.cuda.CUDAGraph()):
                code(values)

        return run

    def twice() -> list[float]:
        """Of work that torch does; what is captured does not run until it is replayed."""
        values, graph = to_device(torch.ones(3)), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            out = values + 1
            out.mul_(2)
        rubbish = float(to_host(out)[0])
        graph.replay()
        first = float(to_host(out)[0])
        values.fill_(4)
        graph.replay()
        return [rubbish, first, float(to_host(out)[0])]

    return {
        "right": broken(lambda graph: None),
        "a launch less": broken(lambda graph: graph.graph.work.pop()),
        "old images": broken(lambda graph: vars(graph).update(kept=graph.images, images=graph.images.clone())),
        "old parameters": broken(lambda graph: setattr(graph.job, "replace", lambda items: None)),
        "memory given back": said(forgetful),
        "item": said(inside(lambda values: values.sum().item())),
        "upload": said(inside(lambda values: torch.ones(3).pin_memory().to("cuda", non_blocking=True))),
        "wait": said(inside(lambda values: torch.cuda.synchronize())),
        "nothing captured": said(torch.cuda.CUDAGraph().replay),
        "twice": twice(),
    }


def main() -> None:
    install()
    torch.set_num_threads(1)
    with PseudoCuda():
        intercept()
        result = {
            "replays": {name: replays(case) for name, case in CASES.items() if name in CAPTURED},
            "counters": {name: counters(CASES[name]) for name in ("RandAugment, MixUp", "evaluation")},
            "inference": inference(),
            "weaker": weaker(),
            "refused captures": refused_captures(),
            "refused calls": refused_calls(),
            "faults": faults(),
        }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
