"""Runs in a process of its own and prints what the audit of the Triton backend says, as JSON: it makes torch believe
in a GPU.

    python tests/support/sync_cases.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch

from benchmarks.evidence.pseudocuda import PseudoCuda, install, to_device, to_host  # before anything imports Triton
from benchmarks.evidence.recording import Audit

# isort: split
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader
from torchvision.io import ImageReadMode, decode_image, write_jpeg

import gpuaug as ga
import gpuaug.kernels.triton as backend
from gpuaug.engine.geometry import route
from gpuaug.engine.rotated import follow_rotated
from gpuaug.kernels.triton.runtime import launch
from gpuaug.program import Op
from tests.support.device_lists import CASES, RECIPES, Case, place, same, tail
from tests.support.helpers import noise
from tests.support.targets import close, target_cases

MAIN = ("crop, flip", "RandAugment", "RandAugment, MixUp", "ColorJitter", "CIFAR", "AugMix", "RandomChoice", "warps")
DRAWS, FEWER = 50, 12  # of the main lists, and of the others
SIZES = {"source": 256, "size": 224, "batch": 2, "draws": 4}


def calls(case: Case) -> dict[str, Any]:
    """What a first and a second batch ask for, and whether the results are the twin's on the CPU."""
    batch = case.batch()
    augment, there = case.augment("triton"), place(batch, to_device)
    found: dict[str, Any] = {"same": []}
    for name, start in (("first", 5), ("later", 90)):
        index = torch.arange(start, start + len(batch[0]))
        expected = case.augment("torch")(*batch, index=index)
        with Audit() as audit:
            result = augment(*there, index=index)
        found["same"].append(same(tree_map(to_host, result), expected))
        found[name] = {**audit.report(1), "launched": [one.name for one in audit.launches]}
        found[name]["findings"] = [str(finding) for finding in audit.findings]
    return found


def by_size() -> dict[str, Any]:
    """Pixel steps before the crop of images of several sizes."""
    steps = [ga.RandomHorizontalFlip(), ga.RandAugment(), ga.RandomResizedCrop(24), *tail()]
    case = Case(steps, ragged=True)
    sizes = {tuple(image.shape) for image in case.batch()[0]}
    return {"calls": calls(case), "sequences": sequences(case, FEWER), "sizes": len(sizes)}


def targets() -> dict[str, Any]:
    """What masks, boxes and key points ask for beside their images, on the device."""
    steps = [ga.RandomResizedCrop(24), ga.RandomHorizontalFlip(), ga.RandomAffine(20), ga.ColorJitter(0.4), *tail()]
    case = Case(steps, options={"flip_pairs": [(0, 1)], "mask_fill": 255})
    images = case.batch()[0]
    found: dict[str, Any] = {}
    cases = target_cases(images)
    found["rotated boxes"] = rotated(case, images, cases.pop("rotated boxes"))
    for name, given in cases.items():
        found[name] = {"same": []}
        there = tree_map(lambda leaf: to_device(leaf) if isinstance(leaf, torch.Tensor) else leaf, given)
        for call, start in (("first", 5), ("later", 90)):
            index = torch.arange(start, start + len(images))
            expected = case.augment("torch")(images, given, index=index)
            augment = case.augment("triton")
            with Audit() as audit:
                result = augment(to_device(images), there, index=index)
            back = tree_map(lambda leaf: to_host(leaf) if isinstance(leaf, torch.Tensor) else leaf, result)
            found[name]["same"].append(close(back, expected))
            found[name][call] = {**audit.report(1), "launched": [one.name for one in audit.launches]}
            found[name][call]["findings"] = [str(finding) for finding in audit.findings]
    return found


def rotated(case: Case, images: torch.Tensor, given: list[dict[str, torch.Tensor]]) -> dict[str, Any]:
    """The same of rotated boxes alone, without torchvision's type, which a pretended tensor cannot have."""
    augment = case.augment("torch")
    draw = augment.sample(images, index=torch.arange(len(images)))
    expected = augment.render(images, draw, given)[1]
    way = route(draw.pipeline.steps, draw.params, draw.canvas, draw.exact, apart=True)
    boxes = torch.cat([row["boxes"].as_subclass(torch.Tensor) for row in given])
    with Audit() as audit:
        counts = [len(row["boxes"]) for row in given]
        moved, _ = follow_rotated(way, to_device(boxes), counts, "CXCYWHR", "soft")
    wanted = torch.cat([row["boxes"].as_subclass(torch.Tensor) for row in expected])
    report = {**audit.report(1), "launched": [one.name for one in audit.launches]}
    report["findings"] = [str(finding) for finding in audit.findings]
    return {"same": [close(to_host(moved), wanted)] * 2, "first": report, "later": report}


def sequences(case: Case, draws: int = DRAWS) -> int:
    """How many launch sequences that many draws have. Nothing is run: grids are those of a device."""
    batch = case.batch()
    there, found = place(batch, to_device), set()
    for draw in range(draws):
        count = len(batch[0])
        augment = case.augment("triton", seed=draw % 5)
        with Audit(execute=False) as audit:
            augment(*there, index=torch.randint(0, 2**40, (count,), generator=torch.Generator().manual_seed(draw)))
        found.add(repr(audit.sequence))
    return len(found)


def parts() -> dict[str, int] | None:
    """Bytes of a copy to the device of whole photographs and of the parts that the draw reads; None without decoder."""
    from gpuaug.data.parts import is_installed
    from gpuaug.demo import photographs

    if not is_installed():
        return None
    steps, found = [ga.RandomResizedCrop(64, scale=(0.2, 0.4)), ga.ToDtype(torch.float32, scale=True)], {}
    with TemporaryDirectory() as folder:
        (Path(folder) / "class").mkdir()
        for number, path in enumerate(photographs.paths()):
            write_jpeg(decode_image(str(path), ImageReadMode.RGB), f"{folder}/class/{number}.jpg")
        for name in ("whole", "parts"):
            augment = ga.Augment(steps, seed=1, backend="triton")
            data = ga.data.ImageFolder(folder, regions=augment if name == "parts" else None)
            batches = DataLoader(data, len(data), collate_fn=ga.ragged_collate)
            with Audit() as audit:
                results = [to_host(images) for images, *_ in ga.DeviceLoader(batches, "cuda", augment)]
            found[name] = max(copy.size for copy in audit.uploads)
            found[f"{name}, result"] = int(results[0].view(torch.int32).sum())
    return found


def traffic(case: Case, masked: bool = False) -> dict[str, Any]:
    """Launches and bytes of a recipe, 256 x 256 to 224 x 224, the mean of a few draws."""
    images = to_device(noise(SIZES["batch"], 3, SIZES["source"], SIZES["source"]))
    if masked:
        labels: list[Any] = [{"masks": to_device(noise(SIZES["batch"], 1, SIZES["source"], SIZES["source"])[:, 0])}]
    else:
        labels = [to_device(torch.arange(SIZES["batch"]))] if case.labels else []
    reports = []
    for seed in range(SIZES["draws"]):
        augment = case.augment("triton", seed)
        with Audit(count_bytes=True) as audit:
            augment(images, *labels)
        assert audit.counted
        reports.append({**audit.report(SIZES["batch"]), "launched": [one.name for one in audit.launches]})
    (launched,) = {tuple(report["launched"]) for report in reports}
    moved = sum(report["mb_per_image"] for report in reports) / len(reports)
    return {"launched": launched, "mb_per_image": moved}


@contextmanager
def seeded(where: Any, name: str, change: Callable[[Any], Any]) -> Any:
    """The backend with a fault: `name` of `where` as `change` makes it."""
    with mock.patch.object(where, name, change(getattr(where, name))):
        yield


def asks(statistics: Any) -> Any:
    def asking(canvas: Any, *arguments: Any) -> Any:
        if canvas.sum().item() == 0:  # item
            return canvas
        return statistics(canvas, *arguments)

    return asking


def skips(statistics: Any) -> Any:
    def skipping(canvas: Any, layout: Any, *arguments: Any) -> Any:
        needed = layout.program.uses(Op.CONTRAST, Op.AUTOCONTRAST, Op.EQUALIZE)
        return statistics(canvas, layout, *arguments) if needed else canvas

    return skipping


def faults() -> dict[str, Any]:
    """What is said of a backend that does each thing it must not."""
    case = CASES["RandAugment"]

    def pageable(staging: Any) -> Any:
        return lambda count, device: torch.empty(count, dtype=torch.int32)

    def twice(upload: Any) -> Any:
        return lambda words, device: (upload(words, device), upload(words, device))[0]

    def nudged(run: Any) -> Any:
        return lambda *arguments: run(*arguments) + 1

    found = {}
    with seeded(backend, "statistics", asks):
        found["item"] = calls(case)["later"]["findings"]
    with seeded(launch, "staging", pageable):
        found["pageable"] = calls(case)["later"]["findings"]
    with seeded(backend, "upload", twice):
        found["twice"] = calls(case)["later"]["uploads"]
    with seeded(backend, "_run", nudged):
        found["nudged"] = calls(case)["same"]
    with seeded(backend, "statistics", skips):
        found["skips"] = sequences(case, FEWER)
    return found


def main() -> None:
    install()
    torch.set_num_threads(1)
    with PseudoCuda():
        result = {
            "calls": {name: calls(case) for name, case in CASES.items()},
            "sequences": {name: sequences(case, DRAWS if name in MAIN else FEWER) for name, case in CASES.items()},
            "traffic": {name: traffic(case) for name, case in RECIPES(SIZES["size"]).items()},
            "faults": faults(),
            "masked": traffic(RECIPES(SIZES["size"])["crop, flip"], masked=True),
            "parts": parts(),
            "by size": by_size(),
            "targets": targets(),
        }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
