"""The checks of `test_gpu.py` on a CUDA device, or rehearsed without one (long: all checks in one process).

    python tests/support/gpu_checks.py

That finds slips in the checks and nothing about a GPU: streams do not overlap there, threads take turns, and nothing is
compiled.
"""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils._pytree import tree_map
from torch.utils.data import DataLoader, Dataset

import gpuaug as ga
from gpuaug.data import Encoded, ImageError
from gpuaug.data.decode import decode, read
from gpuaug.data.transport import encoded
from gpuaug.data.transport.encoded import EncodedImage
from gpuaug.data.transport.shared import MappedSegments
from gpuaug.demo import photographs
from tests.support.device_lists import BATCHES, CASES, Case, place, same, tail
from tests.support.helpers import noise, used
from tests.support.targets import close, target_cases

DEVICE = "cuda"
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.uint8)
FORMATS = (torch.contiguous_format, torch.channels_last)
SHAPES = ((1, 1, 1), (1, 7, 5), (3, 33, 47), (3, 64, 64), (5, 31, 29), (3, 256, 200))  # channels, height, width
BUSY = 20_000_000  # clock cycles for a stream to be busy, while the host goes on


def there(batch: list[Any]) -> list[Any]:
    return place(batch, lambda tensor: tensor.to(DEVICE))


def here(result: Any) -> Any:
    """A copy on the CPU, which the next call does not write to."""
    return tree_map(lambda tensor: tensor.cpu(), result)


def index(start: int, count: int = 4) -> Tensor:
    """Numbers of images, none of which two calls share: another look at an image would be another draw."""
    return torch.arange(count) * 100_003 + start


def equals_the_twin(case: Case, backend: str = "auto") -> None:
    """Other batches and draws; the first call sends constants."""
    augment, twin = case.augment(backend), case.augment("torch")
    for number in range(BATCHES):
        batch = case.batch(seed=number)
        result = augment(*there(batch), index=index(100 * number))
        assert result_device(result) == DEVICE
        assert same(here(result), twin(*batch, index=index(100 * number))), f"batch {number}"


def result_device(result: Any) -> str:
    return (result if isinstance(result, Tensor) else result[0]).device.type


def a_draw_equals_the_twins(steps: list[Any], images: Any, **options: Any) -> None:
    """For lists whose images are given."""
    twin = ga.Augment(steps, backend="torch", **options)
    draw = twin.sample(images, index=index(3, len(images)))
    result = ga.Augment(steps, backend="triton", **options).render(*there([images]), draw)
    assert same(here(result), twin.render(images, draw))


def every_dtype_layout_and_shape(dtype: torch.dtype, memory_format: torch.memory_format, shape: Any) -> None:
    floats = dtype.is_floating_point
    steps = [ga.RandomHorizontalFlip(), ga.GaussianNoise(), ga.ToDtype(dtype, scale=floats)]
    steps += [ga.RandomErasing(0.7, value="random")] if floats else []
    a_draw_equals_the_twins(steps, noise(4, *shape), memory_format=memory_format)


def other_strides() -> None:
    """Images that are channels_last, a slice, or the same for the whole batch."""
    case, images = CASES["RandAugment"], noise(8, 3, 48, 45)
    ways: list[Callable[[Tensor], Tensor]] = [
        lambda batch: batch.contiguous(memory_format=torch.channels_last),
        lambda batch: batch[::2, :, 3:44, 5:],
        lambda batch: batch[:1].expand(4, -1, -1, -1),
    ]
    for way in ways:
        batch, device = way(images), way(images.to(DEVICE))
        keys = index(0, len(batch))
        assert same(here(case.augment("triton")(device, index=keys)), case.augment("torch")(batch, index=keys))


@contextmanager
def no_sync() -> Any:
    """Inside, torch raises where the host would wait."""
    torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it does not notice everything
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def does_not_wait(case: Case) -> None:
    """After the first call."""
    augment, batch = case.augment("triton"), there(case.batch())
    augment(*batch, index=index(0))
    with no_sync():
        for number in range(1, 4):
            result = augment(*batch, index=index(number))
    assert same(here(result), case.augment("torch")(*case.batch(), index=index(3)))


def targets_follow(name: str) -> None:
    """Masks, boxes and key points, without a wait after the first call."""
    images = noise(4, 3, 40, 36)
    steps = [ga.RandomResizedCrop(24), ga.RandomHorizontalFlip(), ga.RandomAffine(20), ga.ColorJitter(0.4), *tail()]
    options: Any = {"seed": 3, "flip_pairs": [(0, 1)], "mask_fill": 255}
    augment, twin = (ga.Augment(steps, backend=backend, **options) for backend in ("triton", "torch"))
    given = target_cases(images)[name]
    batch = images.to(DEVICE), tree_map(lambda leaf: leaf.to(DEVICE) if isinstance(leaf, Tensor) else leaf, given)
    augment(*batch, index=index(0))
    with no_sync():
        result = augment(*batch, index=index(5))
    back = tree_map(lambda leaf: leaf.cpu() if isinstance(leaf, Tensor) else leaf, result)
    assert close(back, twin(images, given, index=index(5)))


def replays_are_forward(case: Case) -> None:
    """A real graph, and that its calls do not wait."""
    augment, twin = case.augment("triton"), case.augment("torch")
    graph = augment.capture(*there(case.batch()))
    assert used(augment) == used(twin)
    for number in range(BATCHES):
        batch = case.batch(seed=number)
        moved = there(batch)
        with no_sync():
            result = graph(*moved)
        assert same(here(result), twin(*batch)), f"batch {number}"
    assert used(augment) == used(twin)


def replays_behind_a_busy_device(case: Case, rounds: int = 8) -> None:
    """The host goes on while replays wait: each finds the parameters and the pixels of its own call."""
    augment, twin = case.augment("triton"), case.augment("torch")
    graph = augment.capture(*there(case.batch()))
    batches = [case.batch(seed=number) for number in range(rounds)]
    moved = [there(batch) for batch in batches]
    torch.cuda._sleep(BUSY)
    results = [tree_map(lambda tensor: tensor.clone(), graph(*batch)) for batch in moved]
    for number, (result, batch) in enumerate(zip(results, batches, strict=True)):
        assert same(here(result), twin(*batch)), f"batch {number}"


def a_capture_on_the_users_stream(case: Case) -> None:
    """Captured and called on a stream of the user's, which is busy; then called on the default stream."""
    augment, twin = case.augment("triton"), case.augment("torch")
    moved, stream = [there(case.batch(seed=number)) for number in range(3)], torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(BUSY)
        graph = augment.capture(*moved[0])
        results = [tree_map(lambda tensor: tensor.clone(), graph(*batch)) for batch in moved[:2]]
    torch.cuda.current_stream().wait_stream(stream)
    results.append(graph(*moved[2]))
    for number, result in enumerate(results):
        assert same(here(result), twin(*case.batch(seed=number))), f"batch {number}"


def captures_in_inference_mode(case: Case) -> None:
    """Captured inside and called outside, and the other way round."""
    for inside in (True, False):
        augment, twin = case.augment("triton"), case.augment("torch")
        with torch.inference_mode(inside):
            graph = augment.capture(*there(case.batch()))
        for number in range(2):
            batch = case.batch(seed=number)
            with torch.inference_mode(not inside):
                result = graph(*there(batch))
            assert same(here(result), twin(*batch))


def beyond_32_bits(ragged: bool, count: int = 15_000, side: int = 256) -> None:
    """More than 2**31 bytes of images, and as many elements of results: the last samples are those of a small batch."""
    steps = [ga.RandomResizedCrop(side * 7 // 8), ga.RandAugment(), *tail(), ga.RandomErasing(0.5, value="random")]
    keys = index(0, count)

    def augment(batch: Any, keys: Tensor) -> Any:
        return ga.Augment(steps, backend="triton", seed=0)(batch, index=keys)

    images = torch.empty(count, 3, side, side, dtype=torch.uint8, device=DEVICE).random_(0, 256)
    batch: Any = ga.Ragged(images.flatten(), np.full((count, 2), side), 3) if ragged else images
    result = augment(batch, keys)
    for first in (0, count // 2, count - 2):
        part = slice(first, first + 2)
        few: Any = images[part].clone()
        few = ga.Ragged(few.flatten(), np.full((2, 2), side), 3) if ragged else few
        assert same(here(result[part]), here(augment(few, keys[part]))), f"samples from {first} on"


def streams_do_not_disturb_one_another(case: Case, rounds: int = 20) -> None:
    """Two streams, both busy while the host goes on: blocks of parameters and constants must be each one's own."""
    batches = [case.batch(seed=number) for number in (0, 1)]
    twins = [
        [case.augment("torch")(*batch, index=index(1000 * number + n)) for n in range(rounds)]
        for number, batch in enumerate(batches)
    ]
    moved, augment = [there(batch) for batch in batches], case.augment("triton")
    streams = [torch.cuda.Stream() for _ in batches]
    torch.cuda.synchronize()
    results: list[list[Any]] = [[], []]
    for n in range(rounds):
        for number, (stream, batch, own) in enumerate(zip(streams, moved, results, strict=True)):
            with torch.cuda.stream(stream):
                if n % 5 == 0:
                    torch.cuda._sleep(BUSY)
                own.append(augment(*batch, index=index(1000 * number + n)))
    torch.cuda.synchronize()
    for own, expected in zip(results, twins, strict=True):
        assert all(same(here(a), b) for a, b in zip(own, expected, strict=True))


def threads_do_not_disturb_one_another(
    case: Case, rounds: int = 20, executor: Callable[[int], Executor] = ThreadPoolExecutor
) -> None:
    """Two threads with one module, each on a stream of its own."""
    batches = [case.batch(seed=number) for number in (0, 1)]
    moved, augment, twin = [there(batch) for batch in batches], case.augment("triton"), case.augment("torch")
    augment(*moved[0], index=index(9000))  # compiles
    torch.cuda.synchronize()

    def run(batch: list[Any], start: int) -> list[Any]:
        with torch.cuda.stream(torch.cuda.Stream()):
            results = [augment(*batch, index=index(start + number)) for number in range(rounds)]
            torch.cuda.current_stream().synchronize()
        return results

    with executor(2) as pool:
        running = [pool.submit(run, batch, 1000 * number) for number, batch in enumerate(moved)]
        done = [future.result() for future in running]
    for number, (results, batch) in enumerate(zip(done, batches, strict=True)):
        for n, result in enumerate(results):
            assert same(here(result), twin(*batch, index=index(1000 * number + n))), f"thread {number}, round {n}"


class Photos(Dataset[Any]):
    """Cuts of the photographs, of different sizes."""

    def __init__(self) -> None:
        self.photographs = photographs.photographs()

    def __len__(self) -> int:
        return 30

    def __getitem__(self, number: int) -> tuple[Tensor, int, int]:
        return self.photographs[number % 6][:, 4 * number :, number:], number % 7, number


def the_loader_gives_the_twins_pixels(workers: int, busy: int = BUSY) -> None:
    """Pinned batches copied on a side stream, while the device is busy with the consumer's steps."""
    options: dict[str, Any] = {"collate_fn": ga.ragged_collate, "num_workers": workers}
    if workers:
        options |= {"multiprocessing_context": "spawn", "persistent_workers": True, "pin_memory": True}
    inner = DataLoader(Photos(), 4, **options)
    case = CASES["ragged"]
    loader = ga.DeviceLoader(inner, DEVICE, case.augment("triton"))
    twin = case.augment("torch")
    for epoch in range(3):
        loader.set_epoch(epoch)
        twin.set_epoch(epoch)
        results = []
        for batch in loader:
            torch.cuda._sleep(busy)
            results.append(batch)
        expected = [twin(images, labels, index=index) for images, labels, index in inner]
        assert len(results) == len(expected)
        assert all(same(here(result), answer) for result, answer in zip(results, expected, strict=True))


def pinned_batches(case: Case, rounds: int = 4) -> None:
    """Copied while the device is busy; the pinned memory is given back before the copy has happened."""
    augment, twin = case.augment("triton"), case.augment("torch")
    batches, results = [case.batch(seed=number) for number in range(rounds)], []
    for number, batch in enumerate(batches):
        torch.cuda._sleep(BUSY)
        pinned = [part.pin_memory() for part in batch]
        moved = [part.to(DEVICE, non_blocking=True) for part in pinned]
        del pinned
        results.append(augment(*moved, index=index(number)))
    for number, (batch, result) in enumerate(zip(batches, results, strict=True)):
        assert same(here(result), twin(*batch, index=index(number))), f"batch {number}"


def pinned_batches_keep_their_segments() -> None:
    """Through workers and a pinning thread: the pinned copy knows the shared segment its batch came in."""
    options: dict[str, Any] = {"num_workers": 1, "multiprocessing_context": "spawn", "pin_memory": True}
    kept = MappedSegments()
    for batch in DataLoader(Photos(), 4, collate_fn=ga.ragged_collate, **options):
        assert batch.images.data.is_pinned()
        kept.keep(batch.images.data)
        assert len(kept) > 0


class Files(Dataset[Any]):
    """The photographs' files, as `ImageFolder(decode="device")` gives them."""

    def __init__(self, count: int = 12) -> None:
        self.count, self.files = count, [EncodedImage(read(path), path.name) for path in photographs.paths()]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[EncodedImage, int, int]:
        return self.files[number * 5 % len(self.files)], number % 7, number


def a_loader_decodes_on_the_device(workers: int, busy: int = BUSY) -> None:
    """Files in, decoded on the loader's side stream while the device is busy, and augmented: no batch is disturbed."""
    options: dict[str, Any] = {"collate_fn": ga.ragged_collate, "num_workers": workers}
    if workers:
        options |= {"multiprocessing_context": "spawn", "pin_memory": True}
    inner, case = DataLoader(Files(), 4, **options), CASES["ragged"]
    twin = case.augment("torch")
    expected = []
    for images, _, numbers in inner:
        decoded, _ = images.decode(DEVICE)
        torch.cuda.synchronize()
        expected.append(twin(ga.Ragged(decoded.data.cpu(), decoded.sizes, 3), index=numbers))
    results = []
    for images, labels in ga.DeviceLoader(inner, DEVICE, case.augment("triton")):
        torch.cuda._sleep(busy)
        assert labels.device.type == DEVICE
        results.append(images)
    assert len(results) == len(expected) == 3
    assert all(same(here(result), answer) for result, answer in zip(results, expected, strict=True))


def jpegs_are_decoded_on_the_device() -> None:
    """nvJPEG's pixels are near those of the CPU; what it does not take comes from the CPU as it is."""
    files = [EncodedImage(read(path), path.name) for path in photographs.paths()]
    png = io.BytesIO()
    Image.fromarray(noise(1, 3, 40, 30)[0].permute(1, 2, 0).numpy()).save(png, "PNG")
    files.append(EncodedImage(torch.frombuffer(bytearray(png.getvalue()), dtype=torch.uint8), "noise.png"))
    batch = Encoded.from_images(files)
    decoded, shown = batch.decode(DEVICE)
    answer, _ = batch.decode("cpu")
    assert shown.tolist() == list(range(len(files)))
    assert decoded.device.type == "cuda"
    for image, expected in zip(decoded, answer, strict=True):
        assert image.shape == expected.shape
        assert (image.cpu().int() - expected.int()).abs().float().mean() < 2
    assert torch.equal(decoded[len(files) - 1].cpu(), answer[len(files) - 1])
    broken = Encoded.from_images([*files, EncodedImage(files[0].data[:2000], "broken.jpg", "skip")])
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        broken.decode(DEVICE)
    broken.on_error = "skip"
    with pytest.warns(UserWarning, match=r"skipped broken\.jpg"):
        decoded, shown = broken.decode(DEVICE)
    assert shown.tolist() == [*range(len(files)), 0]


class Turns(Executor):
    """Runs what it is given at once, for the rehearsal."""

    def __init__(self, workers: int) -> None:
        pass

    def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Future[Any]:  # type: ignore[override]
        future: Future[Any] = Future()
        future.set_result(function(*arguments, **named))
        return future


def decode_there(files: Sequence[Tensor], device: torch.device) -> list[Tensor | None]:
    """In place of nvJPEG, for the rehearsal."""
    return [decode(file).to(device) for file in files]


def rehearse() -> None:
    """Every check once, on tensors that claim to be on a device, with Triton's interpreter."""
    from benchmarks.evidence.launches import intercept
    from benchmarks.evidence.pseudocuda import PseudoCuda, install

    install()
    torch.set_num_threads(1)
    torch.cuda._sleep = torch.cuda.set_sync_debug_mode = lambda *_: None
    policy, mix = CASES["RandAugment"], CASES["CutMix"]
    with PseudoCuda():
        intercept()
        equals_the_twin(mix)
        equals_the_twin(CASES["ragged"], "triton")
        a_draw_equals_the_twins([ga.RandomInvert()], noise())
        every_dtype_layout_and_shape(torch.float16, torch.channels_last, (3, 33, 47))
        every_dtype_layout_and_shape(torch.uint8, torch.contiguous_format, (1, 7, 5))
        other_strides()
        does_not_wait(policy)
        targets_follow("objects")
        replays_are_forward(mix)
        replays_behind_a_busy_device(mix, 3)
        a_capture_on_the_users_stream(policy)
        captures_in_inference_mode(mix)
        beyond_32_bits(False, 5, 24)
        beyond_32_bits(True, 5, 24)
        streams_do_not_disturb_one_another(policy, 2)
        threads_do_not_disturb_one_another(policy, 2, Turns)
        the_loader_gives_the_twins_pixels(0)
        pinned_batches(mix, 2)
        with mock.patch.object(encoded, "device_jpegs", decode_there):
            a_loader_decodes_on_the_device(0)
    print("rehearsed")


if __name__ == "__main__":
    sys.exit(rehearse())
