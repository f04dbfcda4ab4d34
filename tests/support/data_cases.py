"""Loading in processes of its own, for tests of what fork, spawn and the end of a process do; run by name."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

import gpuaug as ga

BATCH = 4


def segments(process: int | str = "self") -> set[str]:
    """The inodes of the segments of shared memory that a process has mapped."""
    lines = Path(f"/proc/{process}/maps").read_text().splitlines()
    return {line.split()[4] for line in lines if "/torch_" in line or "/memfd:gpuaug" in line}


def image(number: int) -> Tensor:
    """Number `number` of a data set: its size varies, its levels say its number."""
    height, width = 20 + 37 * number % 150, 20 + 53 * number % 170
    return torch.full((3, height, width), number % 251, dtype=torch.uint8)


class Numbers(torch.utils.data.Dataset[Any]):
    def __init__(self, count: int = 48) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[Tensor, int, int]:
        return image(number), number % 7, number


def loader(count: int = 48, workers: int = 2, **options: Any) -> DataLoader[Any]:
    collate = options.pop("collate_fn", ga.ragged_collate)
    # A hang becomes an error.
    return DataLoader(Numbers(count), BATCH, num_workers=workers, collate_fn=collate, timeout=30, **options)


def intact(batch: ga.data.Batch) -> bool:
    """Whether every image is the one its index names."""
    numbers = batch.index.tolist()
    same = all(torch.equal(found, image(number)) for found, number in zip(batch.images, numbers, strict=True))
    return same and batch.labels.tolist() == [number % 7 for number in numbers]


def skipping(context: str, root: str) -> None:
    """How many samples were replaced after each epoch, and what stood in for them."""
    dataset = ga.data.ImageFolder(root, on_error="skip")
    batches = DataLoader(
        dataset,
        3,
        num_workers=2,
        collate_fn=ga.ragged_collate,
        multiprocessing_context=context,
        persistent_workers=True,
    )
    counts, shown = [], []
    for _ in range(2):
        shown = [list(pair) for batch in batches for pair in zip(*map(torch.Tensor.tolist, batch[1:]), strict=True)]
        counts.append(dataset.skipped)
    print(json.dumps({"counts": counts, "shown": shown}))


def holding(context: str, strategy: str, persistent: str) -> None:
    """Batches that are held in many ways through two epochs, while others come and go."""
    torch.multiprocessing.set_sharing_strategy(strategy)
    workers = 2 if context == "fork" else 1  # the others import everything anew
    keep = persistent == "persistent"
    batches = loader(workers=workers, multiprocessing_context=context, persistent_workers=keep)
    views: list[tuple[Any, int]] = []
    whole: list[ga.data.Batch] = []
    for _ in range(2):
        for step, batch in enumerate(batches):
            number = int(batch.index[step % BATCH])
            found = batch.images[step % BATCH]
            kinds = [found, found.numpy(), found[1:, 3:, 5:], [found.detach()], found.permute(1, 2, 0).reshape(-1)]
            views.append((kinds[step % len(kinds)], number))
            if step % 3 == 0:
                whole.append(batch)
    del batch, found, kinds
    for step, batch in enumerate(batches):  # early break
        whole.append(batch)
        if step == 2:
            break
    del batches, batch
    gc.collect()
    for held, number in views:
        levels = torch.as_tensor(held[0] if isinstance(held, list) else held)
        assert (levels == number % 251).all(), number
    assert all(map(intact, whole))
    assert len(views) == 24
    assert len(segments()) == len(views) + 3  # those that are held, and no others
    del views, whole, held, levels
    gc.collect()
    assert not segments()
    print(json.dumps("held"))


def leaving(strategy: str) -> None:
    """Workers end, are left early, raise and are killed: the files in /dev/shm that they made, and what is mapped."""
    torch.multiprocessing.set_sharing_strategy(strategy)
    left = {}

    def files(pids: list[str]) -> int:
        return sum(name.split("_")[1:2] == [pid] for name in os.listdir("/dev/shm") for pid in pids)

    for way in ("end", "end again", "break", "raise", "kill"):
        batches = iter(loader(workers=2, collate_fn=Raising() if way == "raise" else ga.ragged_collate))
        pids = [str(worker.pid) for worker in batches._workers]
        processes = [int(pid) for pid in pids]
        batch = next(batches)
        assert intact(batch)
        if way == "kill":
            for process in processes:
                os.kill(process, signal.SIGKILL)
        try:
            for batch in () if way == "break" else batches:
                assert intact(batch)
        except RuntimeError as error:
            text = str(error)
            killed = ("exited", "killed", "ended before")  # the worker, or what it had sent before
            expected = "on purpose" in text if way == "raise" else any(word in text for word in killed)
            if way not in ("raise", "kill") or not expected:
                raise
        held = batch
        del batch, batches
        gc.collect()
        assert intact(held), "what is held stays, whatever became of its worker"
        del held
        gc.collect()
        wait_for(lambda processes=processes: not any(map(alive, processes)))
        left[way] = [files(pids), len(segments()), sum(map(alive, processes))]
    print(json.dumps(left))


def wait_for(done: Callable[[], bool]) -> None:
    """For half a minute: torch ends an iterator that is garbage of a cycle, as an error makes it, by a signal."""
    end = time.monotonic() + 30
    while not done() and time.monotonic() < end:
        multiprocessing.active_children()  # they are children until somebody asks
        time.sleep(0.02)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


class Raising:
    """A collate_fn that fails at a worker's second batch, while others are on their way."""

    calls = 0

    def __call__(self, samples: Any) -> Any:
        self.calls += 1
        if self.calls > 1:
            raise RuntimeError("on purpose")
        return ga.ragged_collate(samples)


class Stuck(Numbers):
    """From its third batch on, nothing comes."""

    def __getitem__(self, number: int) -> Any:
        if number >= 2 * BATCH:
            threading.Event().wait()
        return super().__getitem__(number)


def stuck(workers: str, way: str) -> None:
    """Leave an iteration whose next batch never comes."""
    augment = ga.Augment([ga.Resize((8, 8))])
    source = DataLoader(Stuck(), BATCH, num_workers=int(workers), collate_fn=ga.ragged_collate)
    loader = ga.DeviceLoader(source, "cpu", augment)
    iterator = iter(loader)
    next(iterator)
    next(iterator)  # the third is on its way
    time.sleep(0.2)
    print(json.dumps("stuck"), flush=True)
    if way == "close":
        del iterator
        gc.collect()
        print(json.dumps("went on"), flush=True)
    elif way == "raise":
        for _ in [iterator]:
            raise RuntimeError("on purpose")
    elif way == "interrupt":
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        next(iterator)
    # "exit": the iterator is still held


def forking() -> None:
    """A forked child of the reader sees its batch unchanged, although its parent lets go of it and goes on."""
    batches = iter(loader(200, workers=1, prefetch_factor=4))
    batch = next(batches)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(read, 1)
        os._exit(0 if intact(batch) else 1)
    del batch
    for batch in batches:
        assert intact(batch)
    os.write(write, b"x")
    assert os.waitpid(child, 0)[1] == 0
    print(json.dumps("forked"))


def freeing_in_a_thread() -> None:
    """Batches are checked and let go of in another thread, some late."""
    held: list[Any] = []
    failures = 0

    def check() -> None:
        nonlocal failures
        while (batch := queue.pop(0) if queue else None) is not False:
            if batch is None:
                time.sleep(0.001)
                continue
            held.append(batch)
            if len(held) > 5:
                failures += not intact(held.pop(0))
        failures += sum(not intact(batch) for batch in held)

    queue: list[Any] = []
    thread = threading.Thread(target=check)
    thread.start()
    for batch in loader(400):
        queue.append(batch)
        del batch
    queue.append(False)
    thread.join()
    assert failures == 0
    print(json.dumps("freed"))


def forking_beside_threads(root: str) -> None:
    """Workers are forked again for a second epoch, after OpenMP and Numba have had threads in the parent."""
    torch.set_num_threads(2)
    augment = ga.Augment([ga.RandomResizedCrop(64), ga.RandomHorizontalFlip()])
    total = 0.0
    for _ in range(3):
        for batch in loader(16):
            total += float(augment(batch.images).sum())
            total += float((torch.rand(400, 400) @ torch.rand(400, 400)).sum())
    assert total > 0
    encoded = DataLoader(
        ga.data.ImageFolder(sys.argv[2], decode="device"), 4, num_workers=2, collate_fn=ga.ragged_collate
    )
    for _ in range(2):
        for batch in encoded:
            batch.images.decode("cpu")
    print(json.dumps("no hang"))


def run_case(*arguments: str, timeout: float = 600) -> tuple[Any, str]:
    """The result of a case of data_cases.py, and what it wrote to stderr."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "This process|This DataLoader")
    case, *arguments = sys.argv[1:]
    globals()[case](*arguments)
