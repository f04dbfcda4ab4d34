"""A batch of parts: decoded as the whole would be, and given to no other draw than its own."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import gpuaug as ga
from gpuaug.data import parts
from gpuaug.data.decode import decode
from gpuaug.data.parts import decode_part, readable, stored_box
from gpuaug.engine.reads import read_by
from gpuaug.program import BICUBIC, BILINEAR, CIRCULAR, CONSTANT, EDGE, NEAREST, REFLECT, SYMMETRIC, Window
from gpuaug.ragged import Parts, Ragged
from tests.support.backends import runnable
from tests.support.files import tensor
from tests.support.helpers import used
from tests.support.regions import LISTS, MARKS, files, module, same, show, write_files

pytestmark = MARKS


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_files(tmp_path_factory.mktemp("regions"))


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


@pytest.mark.parametrize("shared", [True, False])
def test_the_key_of_a_pass_is_that_of_its_calls_on_every_rank(shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a second pass in an epoch that was told, and of a module's copy."""
    images, index, keys = torch.zeros(2, 3, 60, 60, dtype=torch.uint8), torch.arange(2), set()
    for rank in range(2):
        monkeypatch.setattr("gpuaug.engine.numbering.world", lambda rank=rank: (2, rank))
        for augment in (module(), copy.deepcopy(module())):
            augment.set_epoch(3)
            for _ in range(2):
                mode = augment.begin_pass(train=True, shared=shared)
                with augment.prepare(images, index=index, mode=mode) as call:
                    assert call.draw().keys.key == augment.pass_key(mode)
                keys.add(augment.pass_key(mode))
                augment.end_pass(mode)
    assert len(keys) == (4 if shared else 8)


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
        whole = generator.integers(60, 260, (4, 2)).astype(np.int32)
        images = [torch.from_numpy(generator.integers(0, 256, (3, *size), np.uint8)) for size in whole.tolist()]
        resized = np.maximum(whole * generator.choice([0.07, 0.2, 0.5, 1.0, 1.7], (4, 2)), 1).astype(np.int32)
        resized[0] = whole[0]
        size = (4, 5)
        start = generator.integers(-3, np.maximum(resized - 3, 1), (4, 2)).astype(np.int32)
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
