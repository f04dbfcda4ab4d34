"""What `test_gpu_speed.py` looks at, found in a process that believes in a GPU; printed as JSON."""

from __future__ import annotations

import dataclasses
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.dry import pretend  # before anything imports Triton
from benchmarks.gpu.results import Options, Results


def results(seconds: float = 1000.0) -> tuple[Results, Options]:
    folder = Path(tempfile.mkdtemp())
    return Results(folder, "speed", seconds, True), Options(folder, seconds, dry=True)


def equal_work(scale: Any) -> dict[str, str]:
    """Every recipe by the torch backend and by others, and two by the kernels and a graph."""
    from benchmarks.gpu import recipes, ways

    data = recipes.batches(scale, 2, None)
    ragged = recipes.ragged_batches(scale, 2, None)
    found = {}
    for recipe in recipes.names():
        few = (ways.OURS, ways.GRAPH, ways.LIMIT) if recipe == f"RandAugment{recipes.MIX}" else ()
        for way in (ways.TORCH, ways.TORCHVISION, *few):
            found[f"{recipe}, {way}"] = ways.WAYS[way].make(ways.Case(recipe, scale, data)).check()
    for way in (ways.OURS, ways.LIMIT, ways.EACH):
        found[f"ragged, {way}"] = ways.WAYS[way].make(ways.Case(recipes.PLAIN, scale, ragged)).check()
    return found


def other_work(scale: Any) -> dict[str, str]:
    """What the checks say of work that is not the same."""
    from benchmarks.gpu import recipes, ways

    case = ways.Case(recipes.PLAIN, scale, recipes.batches(scale, 2, None))
    size = scale.size

    def says(make: Any) -> str:
        return ways.plausible(case, lambda images, labels: ways.finished(make(images.float())))()

    one = recipes.augment(recipes.PLAIN, scale, "torch")
    images, labels = case.data[0]
    index = torch.arange(len(images))
    draws = [one(images, index=index + start) for start in (0, 7)]
    return {
        "size": says(lambda x: x[..., 1:size, :size]),
        "levels": says(lambda x: x[..., :size, :size]),
        "not normalised": says(lambda x: x[..., :size, :size] / 255),
        "not finite": says(lambda x: x[..., :size, :size] / 0),
        "layout": ways.plausible(case, lambda x, y: x[..., :size, :size].to(torch.bfloat16).contiguous())(),
        "same": str(ways.same(draws[0], draws[0].clone(memory_format=torch.preserve_format))),
        "other draw": str(ways.same(*draws)),
        "other labels": str(ways.same((draws[0], labels), (draws[0], labels + 1))),
    }


def one_raises(scale: Any) -> dict[str, Any]:
    """A layer in which one way raises, one does other work, and one is as it should be."""
    from benchmarks.gpu import recipes, speed, ways

    def broken(case: Any) -> Any:
        raise ValueError("cannot be made")

    def raw(case: Any) -> Any:
        size = case.scale.size

        def run(images: Any, labels: Any) -> Any:
            return ways.finished(images[..., :size, :size])

        return ways.Made(run, ways.plausible(case, run))

    kept = dict(ways.WAYS)
    ways.WAYS[ways.OURS] = ways.Way(ways.OURS, broken)
    ways.WAYS[ways.TORCHVISION] = ways.Way(ways.TORCHVISION, raw, "nothing", True)
    out, options = results()
    part = speed.Speed(out, options, scale)
    part.bandwidth = 1e12
    part.layer(speed.Layer(2, (ways.OURS, ways.TORCHVISION, ways.LIMIT), (recipes.PLAIN,)))
    ways.WAYS.update(kept)
    return out.found


def no_time(scale: Any) -> dict[str, Any]:
    """A part that has no seconds left; half a layer in the end."""
    from benchmarks.gpu import speed

    out, options = results(1.0)
    part = speed.Speed(out, dataclasses.replace(options, dry=False), scale)
    part.ceiling = lambda: None  # type: ignore[method-assign]
    part.everything()
    return out.found


def counted() -> dict[str, Any]:
    """The bytes that the kernel at the limit touches, as the audit counts them."""
    from benchmarks.evidence.recording import Audit
    from benchmarks.gpu.limit import ReadWrite

    found = {}
    for name, read in (("less than it writes", 1000), ("more than it writes", 4000)):  # 1,536 values of two bytes
        one = ReadWrite(2, 3, 16, read, block=1024, warps=4)
        images = torch.randint(0, 256, (2, 3, 30, 30), dtype=torch.uint8).to("cuda")
        with Audit(count_bytes=True) as audit:
            result = one(images)
        (launch,) = [launch for launch in audit.launches if launch.grid]
        found[name] = [one.read, one.written, launch.read, launch.written, list(launch.grid or ())]
        values = result.permute(0, 2, 3, 1).reshape(-1)[:1024].sum(dtype=torch.float64)
        found[name].append(float(values) / float(images.reshape(-1)[: one.read_each].sum()))
    return found


def feeding(scale: Any) -> dict[str, Any]:
    """Batches of each loader, and those of the side stream against the same calls in a row."""
    from benchmarks.gpu import feeding, recipes, training, ways

    recipe, found = f"RandAugment{recipes.MIX}", {}
    network = training.Network("tiny", scale.classes, dry=True)
    with tempfile.TemporaryDirectory() as folder:
        files = feeding.Feeding(scale, Path(folder), None, batch=2, batches=3, workers=0, pinned=False)
        for name in feeding.LOADERS[1:]:
            loader = files.open(name, recipe)
            batches = list(loader)
            images, labels = batches[0]
            layout = images.is_contiguous(memory_format=torch.channels_last)
            found[name] = [len(batches), list(images.shape), list(labels.shape), images.device.type, layout]
            step, waited = training._epoch(network, batches, 1, 1)
            found[name] += [step > 0, 0 <= waited <= 1]
    data = recipes.batches(scale, 2, None)
    ahead = feeding.Ahead(recipes.augment(recipe, scale, "torch"), data)
    in_a_row = recipes.augment(recipe, scale, "torch")
    found["ahead"] = [ways.same(ahead(n), in_a_row(*data[n % len(data)])) for n in range(4)]
    return found


def main() -> None:
    with pretend():
        from benchmarks.gpu import moved, recipes

        scale = recipes.DRY
        random.seed(0)  # the draws of others
        torch.manual_seed(0)
        found = {
            "equal": equal_work(scale),
            "other": other_work(scale),
            "raises": one_raises(scale),
            "no time": no_time(scale),
            "counted": counted(),
            "feeding": feeding(scale),
            "moved": moved.count(scale, (recipes.PLAIN,), images=2),
        }
    print("FOUND" + json.dumps(found))


if __name__ == "__main__":
    main()
