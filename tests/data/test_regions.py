"""Decoding only what a draw reads gives the bits of decoding everything, and no other draw ever gets such a batch."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, RandomSampler, Subset

import gpuaug as ga
from gpuaug.data import parts
from gpuaug.data.decode import decode
from gpuaug.data.parts import Part, decode_part, readable, stored_box
from gpuaug.engine.reads import read_by
from gpuaug.program import BICUBIC, BILINEAR, CIRCULAR, CONSTANT, EDGE, NEAREST, REFLECT, SYMMETRIC, Window
from gpuaug.ragged import Parts, Ragged
from tests.support.backends import runnable
from tests.support.files import encode, tensor, with_orientation
from tests.support.helpers import used

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not parts.is_installed(), reason="nvImageCodec, which decodes parts, is not installed"),
]

FLOATS = [ga.ToDtype(torch.float32, scale=True), ga.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
LISTS: dict[str, list[Any]] = {
    "resized crop": [ga.RandomResizedCrop(48), ga.RandomHorizontalFlip(), *FLOATS],
    "flips before": [ga.RandomHorizontalFlip(), ga.RandomVerticalFlip(), ga.RandomResizedCrop((40, 56)), *FLOATS],
    "bicubic, policy": [ga.RandomResizedCrop(48, interpolation="bicubic"), ga.RandAugment(), *FLOATS],
    "nearest": [ga.RandomResizedCrop(48, interpolation="nearest")],
    "crop, edge": [ga.RandomCrop(90, padding=20, padding_mode="edge", pad_if_needed=True)],
    "crop, fill": [ga.RandomCrop(90, padding=(0, 30), fill=7, pad_if_needed=True), ga.RandomHorizontalFlip()],
    "resize, crop": [ga.Resize(80), ga.RandomCrop(48), ga.RandomHorizontalFlip(), *FLOATS],
    "resize, crop bicubic": [ga.Resize(20, interpolation="bicubic"), ga.CenterCrop(16)],
    "no antialias": [ga.Resize(40, antialias=False), ga.RandomCrop(20)],
    "choice of crops": [ga.RandomChoice([ga.RandomResizedCrop(48), ga.RandomResizedCrop(48, scale=(0.01, 0.02))])],
    "center": [ga.Resize(56), ga.CenterCrop(48), *FLOATS],
    "crop of a crop": [ga.RandomResizedCrop(70), ga.RandomCrop(48), *FLOATS],
    "colours between": [ga.RandomResizedCrop((70, 60)), ga.ColorJitter(0.4, 0.4), ga.RandomCrop(48)],
}


def scene(height: int, width: int, seed: int) -> Image.Image:
    """Smooth and noisy quarters, so that a pixel too few at an edge shows."""
    generator = np.random.default_rng(seed)
    levels = generator.integers(0, 256, (height // 4 + 1, width // 6 + 1, 3), np.uint8)
    return Image.fromarray(levels).resize((width, height), Image.Resampling.BICUBIC)


def files() -> dict[str, bytes]:
    """One of every kind that matters to what a part is."""
    found = {}
    for orientation in range(1, 9):
        for subsampling in (0, 2):
            image = scene(97 + orientation, 131 - 5 * subsampling, orientation)
            found[f"exif {orientation}, {subsampling}"] = with_orientation(
                "JPEG", orientation, image, quality=85, subsampling=subsampling
            )
    image = scene(120, 163, 20)
    found |= {
        "4:2:2": encode(image, "JPEG", subsampling=1),
        "grey": encode(image.convert("L"), "JPEG"),
        "cmyk": encode(image.convert("CMYK"), "JPEG"),
        "progressive": encode(image, "JPEG", progressive=True),
        "restarts": encode(image, "JPEG", restart_marker_blocks=3),
        "trailing": encode(image, "JPEG") + b"junk",
        "png": encode(image, "PNG"),
        "webp": encode(image, "WEBP"),
        "large": encode(scene(400, 300, 21), "JPEG", quality=92),
        "wide": encode(scene(60, 500, 22), "JPEG"),
        "tiny": encode(scene(9, 7, 23), "JPEG"),
        "one pixel": encode(scene(1, 1, 24), "JPEG"),
    }
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("regions")
    for number, (name, data) in enumerate(files().items()):
        place = folder / f"class{number % 3}"
        place.mkdir(exist_ok=True)
        ending = name if name in ("png", "webp") else "jpg"
        (place / f"{number:02} {re.sub('[,:]', '', name)}.{ending}").write_bytes(data)
    return folder


def module(name: str = "resized crop", **options: Any) -> ga.Augment:
    return ga.Augment(LISTS[name], seed=5, **options)


class Counting:
    """A DataLoader that counts the bytes of what it yields, and images of which a part came."""

    def __init__(self, loader: Any) -> None:
        self.loader, self.bytes, self.parts = loader, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            self.bytes += len(batch.images.data)
            if batch.images.parts is not None:
                self.parts += int((batch.images.sizes != batch.images.whole).any(axis=1).sum())
            yield batch


def show(
    augment: ga.Augment, dataset: Any, epochs: int = 2, train: bool = True, **options: Any
) -> tuple[list[Tensor], Counting]:
    """Every batch of the epochs."""
    options = {"batch_size": 6, "collate_fn": ga.ragged_collate} | options
    counting = Counting(DataLoader(dataset, **options))
    loader = ga.DeviceLoader(counting, "cpu", augment, train=train)
    return [images.clone() for _ in range(epochs) for images, _ in loader], counting


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(map(torch.equal, first, second))


# ---- the same bits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", LISTS)
def test_pixels_are_those_of_whole_images(name: str, train: bool, root: Path, backend: str) -> None:
    options = {"eval": LISTS[name]} if name == "choice of crops" else {}
    whole, _ = show(module(name, backend=backend, **options), ga.data.ImageFolder(root), train=train)
    augment = module(name, backend=backend, **options)
    found, counting = show(augment, ga.data.ImageFolder(root, regions=augment), train=train)
    assert same(found, whole)
    assert counting.parts > 3 or not train, "nothing was cut: this test saw nothing"


def test_triton_reads_the_same_bytes(root: Path) -> None:
    runnable("triton")
    for name in ("resized crop", "resize, crop", "crop, fill"):
        whole, _ = show(module(name, backend="triton"), ga.data.ImageFolder(root), epochs=1)
        augment = module(name, backend="triton")
        assert same(show(augment, ga.data.ImageFolder(root, regions=augment), epochs=1)[0], whole)


def test_exact_lists(root: Path) -> None:
    """There a flip before a crop that resizes is a step of its own, which needs the whole image."""
    for name in ("flips before", "resized crop"):
        whole, _ = show(module(name, exact=True), ga.data.ImageFolder(root))
        augment = module(name, exact=True)
        found, counting = show(augment, ga.data.ImageFolder(root, regions=augment))
        assert same(found, whole)
        assert bool(counting.parts) == (name == "resized crop")


def test_what_is_sent_is_less(root: Path) -> None:
    augment = module()
    _, whole = show(module(), ga.data.ImageFolder(root), epochs=4)
    _, found = show(augment, ga.data.ImageFolder(root, regions=augment), epochs=4)
    assert found.bytes < 0.62 * whole.bytes, "43 % of the pixels, and all of the few files that are decoded whole"


@pytest.mark.parametrize("persistent", [True, False])
def test_worker_processes(persistent: bool, root: Path) -> None:
    options: dict[str, Any] = {
        "num_workers": 2, "multiprocessing_context": "spawn", "persistent_workers": persistent, "timeout": 120,
    }  # fmt: skip
    whole, _ = show(module(), ga.data.ImageFolder(root), epochs=3)
    augment = module()
    found, counting = show(augment, ga.data.ImageFolder(root, regions=augment), epochs=3, **options)
    assert same(found, whole)
    assert counting.parts > 40


def test_pinned_and_pickled_batches_keep_their_parts(root: Path) -> None:
    augment = module()
    batches: list[Any] = []

    class Kept(Counting):
        def __iter__(self) -> Iterator[Any]:
            for batch in self.loader:
                batches.append(batch)
                yield batch

    loader = DataLoader(ga.data.ImageFolder(root, regions=augment), 6, collate_fn=ga.ragged_collate)
    results = [images.clone() for images, _ in ga.DeviceLoader(Kept(loader), "cpu", augment)]
    again = module()
    mode = again.begin_pass(True, shared=False)
    for batch, expected in zip(batches, results, strict=True):
        copied = pickle.loads(pickle.dumps(batch))
        moved = ga.data.Batch(copied.images.to("cpu"), copied.labels, copied.index)
        with again.prepare(moved.images, index=moved.index, mode=mode) as call:
            assert torch.equal(call.run(), expected)


@pytest.mark.parametrize("kind", ["packed", "indexed"])
def test_other_data_sets(kind: str, root: Path, tmp_path: Path) -> None:
    if kind == "packed":
        pytest.importorskip("pyarrow")
        ga.data.pack(root, tmp_path / "pack", encoding="jpeg", workers=1)

    def dataset(regions: Any) -> Any:
        if kind == "packed":
            return ga.data.Packed(tmp_path / "pack", regions=regions)
        encoded = ga.data.ImageFolder(root, decode="device")
        joined = ConcatDataset([encoded, encoded])
        if regions is None:
            plain = ga.data.ImageFolder(root)
            return ga.data.Indexed(ConcatDataset([plain, plain]))
        return ga.data.Indexed(joined, regions=regions)

    whole, _ = show(module(), dataset(None))
    augment = module()
    found, counting = show(augment, dataset(augment))
    assert same(found, whole)
    assert counting.parts > 20


def test_samplers_that_number_looks(root: Path) -> None:
    def sampler(dataset: Any) -> Any:
        generator = torch.Generator().manual_seed(2)
        return ga.data.NumberedSampler(RandomSampler(dataset, replacement=True, num_samples=60, generator=generator))

    plain = ga.data.ImageFolder(root)
    whole, _ = show(module(), plain, sampler=sampler(plain))
    augment = module()
    dataset = ga.data.ImageFolder(root, regions=augment)
    found, counting = show(augment, dataset, sampler=sampler(dataset))
    assert same(found, whole)
    assert counting.parts > 40
    repeated = ga.data.RepeatedAugmentationSampler(dataset, selected_round=0)
    plain_repeats = ga.data.RepeatedAugmentationSampler(plain, selected_round=0)
    assert same(show(augment, dataset, sampler=repeated)[0], show(twin_of(augment, 2), plain, sampler=plain_repeats)[0])


def twin_of(augment: ga.Augment, back: int) -> ga.Augment:
    """A module at the epoch where `augment` was `back` epochs ago."""
    other = module()
    for _ in range(augment.epoch - back + 1):
        other.end_pass(other.begin_pass(True))
    return other


def test_a_subset_and_a_pass_of_evaluation_in_between(root: Path) -> None:
    def run(regions: bool) -> list[Tensor]:
        augment = module()
        train = ga.data.ImageFolder(root, regions=augment if regions else None)
        valid = Subset(ga.data.ImageFolder(root, regions=augment if regions else None), range(3, 20))
        loaders = [DataLoader(part, 5, collate_fn=ga.ragged_collate) for part in (train, valid)]
        training = ga.DeviceLoader(loaders[0], "cpu", augment, train=True)
        evaluation = ga.DeviceLoader(loaders[1], "cpu", augment, train=False)
        seen = []
        for _ in range(2):
            for images, _ in training:
                seen.append(images.clone())
                seen += [images.clone() for images, _ in evaluation][:2]
        return seen

    assert same(run(True), run(False))


def test_resumed(root: Path) -> None:
    whole, _ = show(module(), ga.data.ImageFolder(root), epochs=3)
    augment = module()
    first, _ = show(augment, ga.data.ImageFolder(root, regions=augment), epochs=1)
    other = module()
    other.load_state_dict(augment.state_dict())
    rest, _ = show(other, ga.data.ImageFolder(root, regions=other), epochs=2)
    assert same(first + rest, whole)


# ---- nothing else gets such a batch ----------------------------------------------------------------------------------


def batch_of(augment: ga.Augment, root: Path) -> Any:
    """A batch of parts, as a worker sends it."""
    dataset = ga.data.ImageFolder(root, regions=augment)
    dataset.finder.follow(True, augment.pass_key(augment.begin_pass(True, shared=True)))
    batch = ga.ragged_collate(dataset.__getitems__(range(2, 10)))
    assert batch.images.parts is not None
    return batch


def test_another_draw_is_refused_before_anything_changes(root: Path) -> None:
    augment = module()
    batch = batch_of(augment, root)
    changed: dict[str, Any] = {
        "seed": lambda: (ga.Augment(LISTS["resized crop"], seed=9), {"index": batch.index}),
        "epoch": lambda: (_told(module(), 7), {"index": batch.index}),
        "got another list: they are cut for the training list": lambda: (module().eval(), {"index": batch.index}),
        "they are cut for .*RandomResizedCrop": lambda: (module("crop of a crop"), {"index": batch.index}),
        "got another index": lambda: (module(), {}),
        "another index": lambda: (module(), {"index": batch.index + 1}),
    }
    for says, make in changed.items():
        other, arguments = make()
        for call in (other, other.prepare, other.sample):
            if call != other.sample or "index" in arguments:
                with pytest.raises(ValueError, match=says):
                    call(batch.images, **arguments)
            assert used(other)["counter"] == 0
    sizes = batch.images.whole.tolist()
    draw = module().sample(Ragged.from_images([torch.zeros(3, *size, dtype=torch.uint8) for size in sizes]))
    with pytest.raises(ValueError, match=r"got another (index|seed)"):
        module().render(batch.images, draw)


def _told(augment: ga.Augment, epoch: int) -> ga.Augment:
    augment.set_epoch(epoch)
    return augment


def test_a_second_look_that_nobody_numbers_is_refused(root: Path) -> None:
    augment = module()
    dataset = ga.data.ImageFolder(root, regions=augment)
    loader = DataLoader(dataset, 4, collate_fn=ga.ragged_collate, sampler=[1, 2, 3, 4, 5, 2, 6, 7])
    with pytest.raises(ValueError, match=r"another look at image 2: .*NumberedSampler"):
        list(ga.DeviceLoader(loader, "cpu", augment, train=True))


def test_a_window_outside_its_part_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the two walks through the list ever to differ, no other bytes would be read."""
    augment = module()
    batch = batch_of(augment, root)
    steps = augment.train_pipeline.steps[0]
    placement = type(steps).placement

    def wider(self: Any, params: Any, canvas: Any) -> Any:
        found = placement(self, params, canvas)
        found.box[3] = [0, 0, *canvas.sizes[3]]
        return found

    monkeypatch.setattr(type(steps), "placement", wider)
    with pytest.raises(ValueError, match="got a part of image 3 of the batch that does not"):
        augment(batch.images, index=batch.index)


def test_parts_outside_of_an_image_are_refused() -> None:
    one = np.ones(1, np.uint64)
    for origin, whole in (([[0, 1]], [[4, 4]]), ([[-1, 0]], [[4, 4]]), ([[0, 0]], [[3, 4]]), ([[0, 0]] * 2, [[4, 4]])):
        bad = Parts(np.array(origin), np.array(whole), "", True, 0, one, one)
        with pytest.raises(ValueError, match="Ragged: `parts` must be"):
            Ragged(torch.zeros(48, dtype=torch.uint8), np.array([[4, 4]]), 3, bad)


MODES = {"constant": CONSTANT, "edge": EDGE, "reflect": REFLECT, "symmetric": SYMMETRIC, "circular": CIRCULAR}


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("interpolation", [NEAREST, BILINEAR, BICUBIC])
@pytest.mark.parametrize("name", ["torch", "numba", "triton"])
def test_no_backend_needs_a_byte_outside(name: str, interpolation: int, antialias: bool) -> None:
    """Random windows, also far from the origin and with padding, on parts that lie between other bytes."""
    from gpuaug.engine.backends import load
    from gpuaug.program import Finish, Keys, Program

    backend = load(runnable(name))
    generator = np.random.default_rng(interpolation * 2 + antialias)
    for mode in MODES.values() if name != "triton" else (CONSTANT, REFLECT):
        whole = generator.integers(20, 90, (4, 2)).astype(np.int32)
        images = [torch.from_numpy(generator.integers(0, 256, (3, *size), np.uint8)) for size in whole.tolist()]
        resized = np.maximum(whole * generator.choice([0.1, 0.5, 1.0, 1.0, 1.7], (4, 1)), 1).astype(np.int32)
        size = (17, 13)
        start = generator.integers(-6, np.maximum(resized - 6, 1), (4, 2)).astype(np.int32)
        box = np.concatenate([np.zeros_like(whole), whole], axis=1)
        flip = generator.integers(0, 2, (4, 2)).astype(np.int32)
        fill = np.array([1, 2, 3], np.uint8)
        least = tuple(resized.min(0).tolist())
        window = Window(size, box, resized, start, flip, interpolation, antialias, mode, fill, True, least)
        index = np.arange(4, dtype=np.uint64)
        program = Program(Keys(1, 0, index), 3, window, [], Finish())
        expected = load("torch").prepare([program], Ragged.from_images(images)).run(0, Ragged.from_images(images))
        read = read_by(window).astype(np.int32)
        assert (read[:, :2] >= 0).all()
        assert (read[:, :2] + read[:, 2:] <= whole).all()
        ends = (read[:, :2] + read[:, 2:]).tolist()
        places = zip(images, read[:, :2].tolist(), ends, strict=True)
        cuts = [image[:, top:bottom, left:right] for image, (top, left), (bottom, right) in places]
        packed = Ragged.from_images(cuts)
        part = Ragged(packed.data, packed.sizes, 3, Parts(read[:, :2], whole, "", True, 0, index, index))
        found = backend.prepare([program], part).run(0, part)
        assert torch.equal(found, expected), mode


# ---- the decoder -----------------------------------------------------------------------------------------------------


WHOLE = ("png", "webp", "trailing", "tiny", "one pixel")


@pytest.mark.parametrize("name", [name for name in files() if name not in WHOLE])
def test_a_part_is_a_part_of_the_whole(name: str) -> None:
    data = tensor(files()[name])
    image = readable(data)
    assert image is not None
    whole = decode(data)
    assert image.size == tuple(whole.shape[1:])
    generator = np.random.default_rng(3)
    height, width = image.size
    for _ in range(25):
        top, left = int(generator.integers(height)), int(generator.integers(width))
        box = top, left, int(generator.integers(1, height - top + 1)), int(generator.integers(1, width - left + 1))
        found = decode_part(data, image, box)
        assert torch.equal(found, whole[:, top : top + box[2], left : left + box[3]]), box


def test_a_box_that_is_turned() -> None:
    image = parts.Readable((50, 30), (30, 50), 6)  # stored 30 high and 50 wide, a quarter turn clockwise when shown
    assert stored_box((0, 0, 10, 4), image) == (26, 0, 4, 10)


def test_what_is_decoded_whole() -> None:
    for name in ("png", "webp", "trailing"):
        assert readable(tensor(files()[name])) is None
    data = tensor(files()["large"])
    assert readable(data[:-200]) is None, "a file that is cut short raises as before"
    assert readable(tensor(b"\xff\xd8\xff" + b"\xff\xd9" * 4)) is None


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_files_that_cannot_be_read(on_error: str, root: Path, tmp_path: Path) -> None:
    """As without regions: the same error, or the same stand-in and warning."""
    (tmp_path / "a").mkdir()
    good = files()
    for number, name in enumerate(("large", "wide", "grey", "4:2:2", "restarts")):
        (tmp_path / "a" / f"{number}.jpg").write_bytes(good[name])
    (tmp_path / "a" / "1.jpg").write_bytes(good["wide"][:-300])
    (tmp_path / "a" / "3.jpg").write_bytes(b"\xff\xd8\xffno image")
    seen = []
    for regions in (False, True):
        augment = module()
        dataset = ga.data.ImageFolder(tmp_path, on_error=on_error, regions=augment if regions else None)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                seen.append((torch.cat(show(augment, dataset)[0]), dataset.skipped, [str(w.message) for w in caught]))
            except ga.data.ImageError as error:
                seen.append(str(error))
    if on_error == "raise":
        assert seen[0] == seen[1]
        assert "1.jpg" in seen[0]
    else:
        assert torch.equal(seen[0][0], seen[1][0])
        assert seen[0][1:] == seen[1][1:]
        assert seen[0][1] == 4


def test_without_the_decoder_images_are_whole_and_it_is_said_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Any:
        raise ImportError("nvidia.nvimgcodec is not installed")

    parts.decoder.cache_clear()
    monkeypatch.setattr(parts, "_by_nvimgcodec", absent)
    try:
        augment = module()
        dataset = ga.data.ImageFolder(root, regions=augment)
        with pytest.warns(UserWarning, match=r"nvimgcodec is not installed.*pip install") as caught:
            found, counting = show(augment, dataset)
        assert len(caught) == 1
        assert counting.parts == 0
        assert same(found, show(module(), ga.data.ImageFolder(root))[0])
    finally:
        parts.decoder.cache_clear()


def test_a_decoder_of_other_pixels_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    right = parts._by_nvimgcodec()

    def wrong() -> Any:
        def decode(data: Tensor, box: Any) -> Tensor:
            pixels = right(data, box).clone()
            pixels[-1, -1, 0] ^= 1
            return pixels

        return decode

    parts.decoder.cache_clear()
    monkeypatch.setattr(parts, "_by_nvimgcodec", wrong)
    try:
        with pytest.warns(UserWarning, match="decodes other pixels than torchvision"):
            assert parts.decoder() is None
    finally:
        parts.decoder.cache_clear()


# ---- what is said ----------------------------------------------------------------------------------------------------


def test_outside_a_pass_images_are_whole_and_it_is_said_once(root: Path) -> None:
    dataset = ga.data.ImageFolder(root, regions=module())
    loader = DataLoader(dataset, 6, collate_fn=ga.ragged_collate)
    with pytest.warns(UserWarning, match="known in a pass of a DeviceLoader") as caught:
        batches = [*loader, *loader]
    assert len(caught) == 1
    assert all(batch.images.parts is None for batch in batches)
    assert isinstance(dataset[0][0], Tensor)


def test_after_a_pass_images_are_whole(root: Path) -> None:
    augment = module()
    dataset = ga.data.ImageFolder(root, regions=augment)
    loader = DataLoader(dataset, 6, collate_fn=ga.ragged_collate)
    iterator = iter(ga.DeviceLoader(loader, "cpu", augment, train=True))
    next(iterator)
    assert dataset.finder.in_pass
    iterator.close()
    assert not dataset.finder.in_pass


def test_lists_that_read_everything(root: Path) -> None:
    steps, evaluation = [ga.ColorJitter(0.4), ga.RandomResizedCrop(48)], [ga.Grayscale(3), ga.Resize((48, 48))]
    augment = ga.Augment(steps, evaluation, seed=0)
    with pytest.warns(UserWarning, match="`regions` changes nothing, since the module's lists read all"):
        dataset = ga.data.ImageFolder(root, regions=augment)
    found, counting = show(augment, dataset, epochs=1)
    assert counting.parts == 0
    assert len(found) > 0


def test_a_class_with_items_of_its_own(root: Path) -> None:
    class Own(ga.data.ImageFolder):
        def __getitem__(self, number: Any) -> Any:
            image, label, index = super().__getitem__(number)
            return image.flip(2), label, index

    augment = module()
    with pytest.warns(UserWarning, match="since its class has a __getitem__ of its own"):
        dataset = Own(root, regions=augment)
    found, counting = show(augment, dataset)
    assert counting.parts == 0
    assert same(found, show(module(), Own(root))[0])


def test_arguments(root: Path, raw: Path) -> None:
    with pytest.raises(ValueError, match=r"ImageFolder: `regions` must be a gpuaug.Augment, got"):
        ga.data.ImageFolder(root, regions=LISTS["center"])
    with pytest.raises(ValueError, match=r"`decode` must be 'worker' with `regions`, got 'device'"):
        ga.data.ImageFolder(root, decode="device", regions=module())
    with pytest.raises(ValueError, match=r"Packed: `regions` must be None for a raw pack"):
        ga.data.Packed(raw, regions=module())


def test_another_collate_of_parts_is_refused() -> None:
    part = Part(torch.zeros(3, 4, 4, dtype=torch.uint8), (0, 0), (8, 8), ("steps", True, 1))
    other = part._replace(cut=("steps", True, 2))
    for samples in ([(part, 0, 0), (other, 0, 1)], [(part, 0), (part, 0)], [(part, 0, 0), (part.pixels, 0, 1)]):
        with pytest.raises(
            ValueError, match="ragged_collate: `samples` must be samples of one data set with its index"
        ):
            ga.ragged_collate(samples)


def test_the_bytes_of_a_file_are_read_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpuaug.data import dataset as module_of

    count = []
    read = module_of.read
    monkeypatch.setattr(module_of, "read", lambda path: count.append(path) or read(path))
    augment = module()
    dataset = ga.data.ImageFolder(root, regions=augment)
    show(augment, dataset, epochs=1)
    assert len(count) == len(dataset)
