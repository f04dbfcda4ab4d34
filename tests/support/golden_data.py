"""What golden.py hashes of packs, samplers and loaders, and of what version 0.1 wrote."""

from __future__ import annotations

import copy
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, WeightedRandomSampler
from torch.utils.data.distributed import DistributedSampler

import gpuaug as ga
from tests.support.golden_lists import CLASSES, image, images
from tests.support.golden_state import INDEX, made, steps

__all__ = ["DATA", "LOADED", "keep"]

KEPT = Path(__file__).with_name("golden")  # what version 0.1 wrote
PACK, CHECKPOINT = KEPT / "pack-0.1", KEPT / "checkpoint-0.1.pt"

# ---- folders, packs and collated batches -----------------------------------------------------------------------------


def folder(root: Path, count: int = 9) -> Path:
    """Images of different sizes in three classes, as JPEG and PNG."""
    for number in range(count):
        place = root / f"class{number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        levels = image(number, 3, 16 + 3 * number, 18 + 5 * (number % 4))
        picture = Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())
        if number == 4:
            picture = picture.convert("L")
        picture.save(place / (f"{number:02}.jpg" if number % 2 else f"{number:02}.png"), quality=90)
    return root


def in_a_folder(function: Callable[[Path], Any]) -> Callable[[], Any]:
    def run() -> Any:
        with tempfile.TemporaryDirectory() as name:
            return function(folder(Path(name) / "source"))

    run.__name__ = function.__name__
    return run


def items(dataset: Any) -> list[Any]:
    return [dataset[number] for number in range(len(dataset))]


@in_a_folder
def image_folder(root: Path) -> Any:
    dataset = ga.data.ImageFolder(root)
    paths = [[path[len(str(root)) :], label] for path, label in dataset.samples]
    told = [dataset.classes, dataset.class_to_idx, dataset.targets, paths, len(dataset), dataset.ignored]
    return [items(dataset), dataset[4, 2], dataset[-1], told]


@in_a_folder
def image_folder_with_damage(root: Path) -> Any:
    damaged = root / "class1" / "01.jpg"
    damaged.write_bytes(damaged.read_bytes()[:60])
    (root / "class1" / "notes.txt").write_text("no image")
    dataset = ga.data.ImageFolder(root, on_error="skip")
    batch = ga.ragged_collate(items(dataset))
    loader = DataLoader(ga.data.ImageFolder(root, "device", "skip"), 5, collate_fn=ga.ragged_collate)
    batches = ga.DeviceLoader(loader, "cpu", made())
    return [list(batch), dataset.skipped, dataset.ignored, list(batches), batches.skipped]


def packed(root: Path, **settings: Any) -> Any:
    """The files of a pack, what it holds, and a batch of it."""
    place = root.parent / "pack"
    made_of = ga.data.pack(root, place, workers=0, **settings)
    files = {path.name: path.read_bytes() for path in sorted(place.iterdir())}
    dataset = ga.data.Packed(place)
    told = [made_of.images, made_of.bytes, made_of.skipped, made_of.written, made_of.ignored]
    batch = list(ga.ragged_collate(items(dataset)))
    return [files, told, items(dataset), dataset[2, 1], batch, dataset.classes, dataset.class_to_idx, dataset.targets]


@in_a_folder
def pack_raw(root: Path) -> Any:
    return packed(root, short_side=20, shard_images=4)


@in_a_folder
def pack_whole(root: Path) -> Any:
    return packed(root, short_side=None)


@in_a_folder
def pack_jpeg(root: Path) -> Any:
    return packed(root, short_side=24, encoding="jpeg", quality=80, shard_images=2)


@in_a_folder
def collated(root: Path) -> Any:
    """Tensors, Pillow images and arrays; with an index and without; fields of dicts; and torch's own collate."""
    samples = items(ga.data.ImageFolder(root))
    pillow = [(Image.fromarray(one.permute(1, 2, 0).contiguous().numpy()), label) for one, label, _ in samples]
    arrays = [(one.permute(1, 2, 0).numpy(), torch.tensor([label, 0.5]), number) for one, label, number in samples]
    fields = [{"image": one, "label": label, "number": number, "more": 3} for one, label, number in samples]
    batches = [ga.ragged_collate(given) for given in (samples, pillow, arrays)]
    batches += [ga.collate()(fields), ga.collate("image", "label", "number")(fields)]
    plain = DataLoader(ga.data.Indexed([(images("rgb")[number], number) for number in range(5)]), 2)
    return [*map(list, batches), list(plain), list(batches[0].images), batches[0].index.tolist()]


# ---- samplers and loaders --------------------------------------------------------------------------------------------


def passes(sampler: Any, count: int = 30) -> Any:
    """Three passes, one that is left early, and one of an epoch that is told."""

    def one() -> list[Any]:
        return [
            [int(n) for n in number] if isinstance(number, tuple) else [int(number), number.look]
            for number in itertools.islice(sampler, count)
        ]

    found: list[Any] = [one(), one(), len(sampler)]
    next(iter(sampler))
    found.append(one())
    for epoch in (1, 7, 1):
        sampler.set_epoch(epoch)
        found.append(one())
    return [*found, sampler.epoch]


def numbered() -> Any:
    """NumberedSampler around torch's samplers, for each rank of three and for one alone."""
    numbers, weights = range(11), [1.0 + number % 3 for number in range(11)]
    found = []
    for ranks, rank in ((1, 0), (3, 0), (3, 1), (3, 2)):
        samplers = [
            *(SequentialSampler(numbers), RandomSampler(numbers), WeightedRandomSampler(weights, 16)),
            *(RandomSampler(numbers, True, 20), RandomSampler(numbers, generator=torch.Generator().manual_seed(4))),
            [3, 3, 3, 1, 1, 5000, 2**40],
        ]
        for inner in samplers:
            for drop_last in (False, True):
                found.append(passes(ga.data.NumberedSampler(inner, ranks, rank, seed=5, drop_last=drop_last)))
        dealt = DistributedSampler(numbers, ranks, rank, shuffle=True, seed=2)
        found.append(passes(ga.data.NumberedSampler(dealt)))
    return found


def repeated() -> Any:
    dataset = ga.data.Indexed([(torch.zeros(3, 2, 2, dtype=torch.uint8), number) for number in range(23)])
    settings: list[dict[str, Any]] = [{}, {"num_repeats": 1.5}, {"shuffle": False}, {"selected_round": 8, "seed": 4}]
    settings += [{"num_repeats": 2, "selected_ratio": 2, "selected_round": 0}]
    sampler = ga.data.RepeatedAugmentationSampler
    return [
        passes(sampler(dataset, num_replicas=ranks, rank=rank, **options))
        for options in settings
        for ranks, rank in ((1, 0), (3, 0), (3, 1), (3, 2))
    ]


def loaded(loader: Any, augment: ga.Augment, **options: Any) -> Any:
    """Two epochs, one that is told twice, and one that is left early before another."""
    batches = ga.DeviceLoader(loader, "cpu", augment, **options)
    found = [list(batches), list(batches), augment.epoch]
    batches.set_epoch(5)
    found += [list(batches), list(batches), augment.epoch]
    next(iter(batches))
    return [*found, len(batches), list(batches), augment.epoch, augment.state_dict()]


@in_a_folder
def device_loader(root: Path) -> Any:
    dataset = ga.data.ImageFolder(root)
    ga.data.pack(root, root.parent / "pack", workers=0, short_side=20)
    shuffled = {"generator": torch.Generator().manual_seed(4), "shuffle": True}
    loader = DataLoader(dataset, 4, collate_fn=ga.ragged_collate, **shuffled)
    workers = DataLoader(dataset, 4, collate_fn=ga.ragged_collate, num_workers=2)
    pack = DataLoader(ga.data.Packed(root.parent / "pack"), 4, collate_fn=ga.ragged_collate, drop_last=True)
    encoded = DataLoader(ga.data.ImageFolder(root, "device"), 4, collate_fn=ga.ragged_collate)
    mixed = ga.Augment(steps(mix=True), seed=7, memory_format=torch.channels_last)
    return [
        *(loaded(one, made()) for one in (loader, workers, pack, encoded)),
        *(loaded(loader, made(), train=train) for train in (True, False)),
        loaded(loader, made().eval(), train=True),
        loaded(loader, mixed),
    ]


@in_a_folder
def device_loader_with_samplers(root: Path) -> Any:
    dataset = ga.data.ImageFolder(root)
    weighted = WeightedRandomSampler([1.0 + number % 3 for number in range(9)], 12)
    samplers = [
        *(ga.data.NumberedSampler(weighted, 2, rank, seed=3) for rank in range(2)),
        *(ga.data.RepeatedAugmentationSampler(dataset, num_replicas=2, rank=rank) for rank in range(2)),
        DistributedSampler(dataset, 2, 1),
    ]
    return [loaded(DataLoader(dataset, 4, sampler=one, collate_fn=ga.ragged_collate), made()) for one in samplers]


def device_loader_of_other_batches() -> Any:
    """Images alone, tensors of one size without an index, and batches that are in a list."""
    rgb, labels = images("rgb"), torch.arange(5) % CLASSES
    given = [[rgb, rgb.flip(0)], [(rgb, labels)] * 2, [(images("ragged"), labels, INDEX)] * 2, [[rgb, labels, INDEX]]]
    return [loaded(one, made()) for one in given]


class Resumable:
    """The least that resumes: it counts its batches, and skips them."""

    def __init__(self) -> None:
        self.done = 0

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[Any]:
        for number in range(self.done, 4):
            self.done += 1
            yield images("rgb"), torch.arange(5) % CLASSES, torch.arange(5) + 5 * number
        self.done = 0

    def state_dict(self) -> dict[str, int]:
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.done = state["done"]


def resumed_loader() -> Any:
    """What a run still gives after two batches, and what a new one gives that loads its states."""
    augment = made()
    batches = ga.DeviceLoader(Resumable(), "cpu", augment)
    iterator = iter(batches)
    first = [next(iterator), next(iterator)]
    states = copy.deepcopy((augment.state_dict(), batches.state_dict()))
    rest, following = list(iterator), list(batches)
    again = made(1)
    other = ga.DeviceLoader(Resumable(), "cpu", again)
    again.load_state_dict(states[0])
    other.load_state_dict(states[1])
    return [first, states, rest, following, list(other), list(other), again.epoch]


# ---- what version 0.1 wrote ------------------------------------------------------------------------------------------


def keep() -> None:
    """Write a small pack and a checkpoint, where there are none yet."""
    if not PACK.exists():
        with tempfile.TemporaryDirectory() as name:
            ga.data.pack(folder(Path(name), 6), PACK, workers=0, short_side=20, shard_images=4)
    if not CHECKPOINT.exists():
        augment = made()
        augment.set_epoch(2)
        for index in (INDEX, INDEX % 977, INDEX % 977):
            augment(images("rgb"), index=index)
        augment(images("rgb"))
        torch.save(nn.Sequential(augment).state_dict(), CHECKPOINT)


def kept_pack() -> Any:
    dataset = ga.data.Packed(PACK)
    loader = DataLoader(dataset, 4, collate_fn=ga.ragged_collate)
    told = [dataset.classes, dataset.class_to_idx, dataset.targets, len(dataset)]
    return [items(dataset), told, loaded(loader, made())]


def kept_checkpoint() -> Any:
    augment, found = made(1), []
    state = torch.load(CHECKPOINT, weights_only=True)
    nn.Sequential(augment).load_state_dict(state)
    found = [state, augment.seed, augment.epoch, augment.state_dict()]
    calls = [augment(images("rgb")), augment(images("rgb"), index=INDEX), augment(images("rgb"), index=INDEX % 977)]
    return [found, calls, augment.state_dict()]


DATA = [
    *(image_folder, image_folder_with_damage, pack_raw, pack_whole, pack_jpeg, collated, numbered, repeated),
    *(device_loader, device_loader_with_samplers, device_loader_of_other_batches, resumed_loader),
]
LOADED = [kept_pack, kept_checkpoint]
