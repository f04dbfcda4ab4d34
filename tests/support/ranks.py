"""What the processes of test_distributed.py run, and how they are started."""

from __future__ import annotations

import hashlib
import multiprocessing
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

import gpuaug as ga
from tests.support.helpers import used

LONGEST = 90  # seconds that a launch may take
IMAGES, BATCH, EPOCH, CLASSES = 22, 4, 3, 5


def launch(work: Callable[..., Any], world: int, folder: Path, *arguments: Any) -> list[Any]:
    """What `work(rank, *arguments)` returns on each of `world` processes that are joined by gloo."""
    multiprocessing.set_forkserver_preload(["gpuaug", "kornia.augmentation"])  # torch is imported once
    started = (work, world, folder, *arguments)
    processes = torch.multiprocessing.start_processes(_rank, started, world, join=False, start_method="forkserver")
    deadline = time.monotonic() + LONGEST
    while not processes.join(timeout=5):
        if time.monotonic() > deadline:
            for process in processes.processes:
                process.kill()
            raise TimeoutError(f"{world} processes ran for more than {LONGEST} seconds")
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world)]


def _rank(rank: int, work: Callable[..., Any], world: int, folder: Path, *arguments: Any) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder / 'meeting'}"
    dist.init_process_group("gloo", meeting, timedelta(seconds=LONGEST), world_size=world, rank=rank)
    torch.save(work(rank, *arguments), folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


# ---- the data set, the list ------------------------------------------------------------------------------------------


def images() -> list[Tensor]:
    """Different images of different sizes."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(20 + 3 * n % 11, 24 + 5 * n % 13) for n in range(IMAGES)]
    return [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in sizes]


def dataset() -> ga.data.Indexed:
    """An image's label is its number."""
    return ga.data.Indexed([(image, number) for number, image in enumerate(images())])


def steps() -> list[Any]:
    return [ga.RandomResizedCrop(16), ga.RandomRotation(20.0), ga.ColorJitter(0.4), ga.GaussianNoise()]


def digest(image: Tensor) -> str:
    return hashlib.sha256(image.numpy().tobytes()).hexdigest()


# ---- what a rank does ------------------------------------------------------------------------------------------------


def shares(seed: int = 0, num_replicas: int | None = None, rank: int | None = None) -> dict[int, str]:
    """The pixels of each image that a rank shows in an epoch, by number."""
    sampler = DistributedSampler(dataset(), num_replicas, rank, seed=5)
    batches = DataLoader(dataset(), BATCH, sampler=sampler, collate_fn=ga.ragged_collate)
    loader = ga.DeviceLoader(batches, "cpu", ga.Augment(steps(), seed=seed, backend="torch"))
    loader.set_epoch(EPOCH)
    return {int(n): digest(image) for shown, labels in loader for n, image in zip(labels, shown, strict=True)}


def counted(rank: int) -> tuple[list[int], list[str]]:
    """Without an index, equal images through a loader and by calls: all keys, and the pixels."""
    same = images()[0].expand(BATCH, -1, -1, -1)
    augment = ga.Augment(steps(), seed=0, backend="torch")
    loader = ga.DeviceLoader(
        [(same[: 2 + rank % 2], torch.arange(2 + rank % 2)), (same, torch.arange(4))], "cpu", augment
    )
    shown = [image for batch, _ in loader for image in batch]
    before = used(augment)["counter"]
    keys = augment.sample(same).keys.index.tolist()
    shown += list(augment(same)) + [image for batch, _ in loader for image in batch]
    assert (before, used(augment)["counter"]) == (6 + rank % 2, 20 + 2 * (rank % 2))
    return keys, [digest(image) for image in shown]


def indexed_alike(rank: int) -> list[str]:
    """What `counted` would find if ranks did repeat one another."""
    augment = ga.Augment(steps(), seed=0, backend="torch")
    augment.set_epoch(0)
    return [digest(image) for image in augment(images()[0].expand(BATCH, -1, -1, -1), index=torch.arange(BATCH))]


def mixed(rank: int) -> Tensor:
    """The targets of an epoch with MixUp."""
    pairs = [(image, number % CLASSES) for number, image in enumerate(images())]
    data = ga.data.Indexed(pairs)
    batches = DataLoader(data, BATCH, sampler=DistributedSampler(data), collate_fn=ga.ragged_collate)
    augment = ga.Augment([*steps(), ga.ToDtype(torch.float32), ga.MixUp(num_classes=CLASSES)], backend="torch")
    return torch.cat([targets for _, targets in ga.DeviceLoader(batches, "cpu", augment)])


def repeated(rank: int) -> list[tuple[int, int]]:
    sampler = ga.data.RepeatedAugmentationSampler(dataset(), 3, seed=5)
    sampler.set_epoch(EPOCH)
    return list(sampler)


def wrapped(rank: int) -> dict[str, Any]:
    """Steps of DistributedDataParallel around the module and a network, from a counter of each rank's own."""
    import kornia.augmentation as K

    torch.manual_seed(rank)
    foreign = K.RandomRotation(20.0 + rank, p=1.0)  # it holds its degrees in a buffer
    augment = ga.Augment([foreign, *steps(), ga.ToDtype(torch.float32, scale=True)], seed=0, backend="torch")
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(CLASSES))
    batch = images()[0].expand(BATCH, -1, -1, -1)
    with torch.no_grad():
        network(torch.zeros(2, 3, 16, 16))
    for _ in range(rank):
        augment(batch)
    augment.set_epoch(rank)
    parallel = DistributedDataParallel(nn.Sequential(augment, network), broadcast_buffers=True)
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.01)
    shown = []
    hook = augment.register_forward_hook(lambda module, arguments, result: shown.extend(map(digest, result)))
    for _ in range(3):
        optimizer.zero_grad()
        parallel(batch).square().mean().backward()
        optimizer.step()
    hook.remove()
    state = parallel.module.state_dict()
    fresh = ga.Augment(
        [K.RandomRotation(20.0, p=1.0), *steps(), ga.ToDtype(torch.float32, scale=True)], backend="torch", seed=0
    )
    fresh.load_state_dict(augment.state_dict())
    plain = DistributedDataParallel(
        nn.Sequential(ga.Augment([*steps(), ga.ToDtype(torch.float32)], seed=0), nn.Linear(2, 2))
    )
    return {
        "state": used(augment),
        "loaded": used(fresh),
        "wrapped keys": sorted(parallel.state_dict()),
        "keys": sorted(f"module.{name}" for name in state),
        "shown": shown,
        "weights": [p.detach() for p in network.parameters()],
        "running mean": network[1].running_mean,
        "degrees": [buffer.tolist() for buffer in augment.buffers()],
        "broadcast": len(parallel.modules_buffers),
        "of the network": len(list(network.buffers())),
        "of a module of our own": len(plain.modules_buffers),
    }


def trained(rank: int, root: Path, regions: bool, ranks: int | None = None) -> dict[str, Any]:
    """Two epochs of a small network on a folder: the pixels by (epoch, number), images that came in parts, weights.

    Args:
        ranks: Number of ranks to share the images with; None: those of the group, and the network is shared, too.
    """
    from tests.support.regions import Counting, module

    augment = module()
    data = ga.data.ImageFolder(root, regions=augment if regions else None)
    sampler = DistributedSampler(data, ranks, None if ranks is None else rank, seed=5)
    counting = Counting(DataLoader(_Numbered(data), BATCH, sampler=sampler, collate_fn=ga.ragged_collate))
    loader = ga.DeviceLoader(counting, "cpu", augment, train=True)
    torch.manual_seed(0)
    network: nn.Module = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(3 * 6 * 6, CLASSES))
    if ranks is None:
        network = DistributedDataParallel(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    shown = {}
    for epoch in range(2):
        loader.set_epoch(epoch)
        for pixels, numbers in loader:
            shown |= {(epoch, int(n)): digest(image) for n, image in zip(numbers, pixels, strict=True)}
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(pixels), numbers % CLASSES).backward()
            optimizer.step()
    return {"shown": shown, "parts": counting.parts, "weights": [p.detach().clone() for p in network.parameters()]}


class _Numbered(torch.utils.data.Dataset[Any]):
    """An image's label is its number."""

    def __init__(self, dataset: ga.data.ImageFolder) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitems__(self, numbers: list[int]) -> list[Any]:
        return [(image, index, index) for image, _, index in self.dataset.__getitems__(numbers)]


def both(rank: int, root: Path) -> list[dict[str, Any]]:
    """Whole images, then parts, in one start of the processes."""
    return [trained(rank, root, regions) for regions in (False, True)]


def everything(rank: int) -> dict[str, Any]:
    """All of it in one start of the processes."""
    return {
        "shares": shares(),
        "another seed": shares(seed=1),
        "counted": counted(rank),
        "indexed alike": indexed_alike(rank),
        "mixed": mixed(rank),
        "repeated": repeated(rank),
        "wrapped": wrapped(rank),
    }
