"""Compressed batches decode as their files do, whoever decodes them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import gpuaug as ga
from gpuaug.data.decode import decode, read
from gpuaug.data.transport import encoded as module
from gpuaug.data.transport.encoded import EncodedImage
from gpuaug.demo.photographs import paths
from tests.support.files import folder, kinds, picture, tensor, turned_jpegs, with_orientation

ImageError = ga.data.ImageError

FILES = {
    "a.jpg": kinds()["jpeg"],
    "b.png": kinds()["png"],
    "turned.jpg": with_orientation("JPEG", 6),
    "upright.jpg": with_orientation("JPEG", 1, picture(30, 20)),
    "c.webp": kinds()["webp"],
    "d.jpg": kinds()["jpeg progressive"],
    "cmyk.jpg": kinds()["jpeg cmyk"],
    "and junk.jpg": kinds()["jpeg and junk"],
}
CUT = kinds()["jpeg"][:500]


def batch(files: dict[str, bytes], on_error: str = "raise") -> ga.data.Encoded:
    return ga.data.Encoded.from_images([EncodedImage(tensor(data), name, on_error) for name, data in files.items()])


def assert_same(images: ga.Ragged, files: Sequence[bytes]) -> None:
    assert len(images) == len(files)
    for image, data in zip(images, files, strict=True):
        assert torch.equal(image, decode(tensor(data)))


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_a_batch_is_its_files() -> None:
    packed = batch(FILES)
    assert len(packed) == 8
    for number, data in enumerate(FILES.values()):
        assert packed[number].numpy().tobytes() == data
        assert torch.equal(packed[number - 8], packed[number])
    for number in (8, -9):
        with pytest.raises(IndexError, match="in a batch of 8"):
            packed[number]
    rebuilt = ga.data.Encoded(packed.data, *packed.describe())
    assert rebuilt.names == tuple(FILES)


def test_decoding_on_the_cpu(threads: int) -> None:
    images, shown = batch(FILES).decode("cpu")
    assert_same(images, list(FILES.values()))
    assert shown.tolist() == list(range(8))
    assert shown.dtype == torch.int64


def test_photographs_through_a_loader(tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    for path in paths():
        shutil.copy(path, tmp_path / "photographs")
    device, worker = (ga.data.ImageFolder(tmp_path, decode=where) for where in ("device", "worker"))
    compressed = next(iter(DataLoader(device, 6, num_workers=1, collate_fn=ga.ragged_collate)))
    decoded = next(iter(DataLoader(worker, 6, collate_fn=ga.ragged_collate)))
    images, _ = compressed.images.decode("cpu")
    assert torch.equal(images.data, decoded.images.data)
    assert len(compressed.images.data) < len(images.data) / 4  # what it is for


def test_an_error_names_the_file(threads: int) -> None:
    with pytest.raises(
        ImageError, match=r"Encoded: `file` must be .*, got cut\.jpg \(.*truncated.*\)\. Replace"
    ) as caught:
        batch({**FILES, "cut.jpg": CUT}).decode("cpu")
    assert "\n" not in str(caught.value)


def test_a_skip_shows_another_image_of_the_batch(threads: int) -> None:
    files = {
        "0.jpg": FILES["a.jpg"],
        "1.jpg": CUT,
        "2.png": kinds()["png"][:99],
        "3.webp": FILES["c.webp"],
        "4.jpg": b"x",
    }
    with pytest.warns(UserWarning, match="Encoded: skipped") as caught:
        images, shown = batch(files, "skip").decode("cpu")
    assert shown.tolist() == [0, 3, 3, 3, 0]
    data = list(files.values())
    assert_same(images, [data[number] for number in shown])
    texts = [str(warning.message) for warning in caught]
    assert len(texts) == 3
    for text, bad, stand_in in zip(texts, ("1.jpg", "2.png", "4.jpg"), ("3.webp", "3.webp", "0.jpg"), strict=True):
        assert f"skipped {bad} (" in text
        assert f"{stand_in} replaces it" in text


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_batch_without_a_good_file(on_error: str) -> None:
    with pytest.raises(ImageError, match=r"got a\.jpg"):
        batch({"a.jpg": CUT, "b.jpg": CUT}, on_error).decode("cpu")


def test_empty_files_do_not_reach_the_batch(tmp_path: Path) -> None:
    root = folder(tmp_path)
    dataset = ga.data.ImageFolder(root, decode="device", on_error="skip")
    Path(dataset.samples[0][0]).write_bytes(b"")
    with pytest.warns(UserWarning, match="the file is empty"):
        image, _, index = dataset[0]
    assert (image.name, index) == (dataset.samples[1][0], 0)
    assert dataset.skipped == 1


# ---- nvJPEG, played --------------------------------------------------------------------------------------------------


class Player:
    """Plays nvJPEG: its images are inverted, so that one sees who decoded."""

    def __init__(self, refuses: Callable[[bytes], bool] = lambda data: False) -> None:
        self.refuses, self.calls = refuses, []

    def __call__(self, files: Sequence[Tensor], device: torch.device) -> list[Tensor]:
        assert device.type == "cuda"
        given = [file.numpy().tobytes() for file in files]
        self.calls.append(given)
        if any(map(self.refuses, given)):
            raise RuntimeError("Error while decoding JPEG images: 5")
        return [255 - decode(file) for file in files]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Player]:
    def start(*arguments: Any) -> Player:
        player = Player(*arguments)
        monkeypatch.setattr(module, "device_jpegs", player)
        monkeypatch.setattr(Tensor, "to", lambda self, *_, **__: self)  # there is no device to go to
        return player

    return start


SUITED = ["a.jpg", "upright.jpg", "d.jpg", "cmyk.jpg"]


def who(images: ga.Ragged, files: dict[str, bytes]) -> list[str]:
    """The files that the device decoded."""
    names = []
    for (name, data), image in zip(files.items(), images, strict=True):
        here = decode(tensor(data))
        on_device = torch.equal(image, 255 - here)
        assert on_device or torch.equal(image, here), name
        names += [name] if on_device else []
    return names


def test_the_device_gets_upright_whole_jpegs(play: Callable[..., Player]) -> None:
    player = play()
    images, shown = batch(FILES).decode("cuda")
    assert player.calls == [[FILES[name] for name in SUITED]]
    assert who(images, FILES) == SUITED
    assert shown.tolist() == list(range(8))


def test_what_the_device_refuses_the_cpu_decodes(play: Callable[..., Player]) -> None:
    refused = FILES["cmyk.jpg"]
    player = play(lambda data: data == refused)
    images, _ = batch(FILES).decode("cuda:1")
    assert who(images, FILES) == ["a.jpg", "upright.jpg", "d.jpg"]
    assert player.calls[0] == [FILES[name] for name in SUITED]


def test_one_bad_file_does_not_send_a_large_batch_one_by_one(play: Callable[..., Player]) -> None:
    player = play(lambda data: data == FILES["cmyk.jpg"])
    files = {f"{number}": FILES["cmyk.jpg" if number == 37 else "a.jpg"] for number in range(64)}
    images, _ = batch(files).decode("cuda")
    assert who(images, files) == [f"{number}" for number in range(64) if number != 37]
    assert len(player.calls) == 1 + 2 * 6


def test_a_device_that_refuses_everything(play: Callable[..., Player]) -> None:
    play(lambda data: True)
    with pytest.warns(UserWarning, match="cuda decodes no JPEG of a batch; the CPU decodes them"):
        images, _ = batch(FILES).decode("cuda")
    assert who(images, FILES) == []


def test_a_device_without_memory_is_no_reason_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(files: Any, device: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(module, "device_jpegs", full)
    with pytest.raises(torch.OutOfMemoryError):
        batch(FILES).decode("cuda")


def test_nothing_for_the_device(play: Callable[..., Player]) -> None:
    player = play()
    files = {name: FILES[name] for name in ("b.png", "c.webp", "turned.jpg")}
    images, _ = batch(files).decode("cuda")
    assert who(images, files) == []
    assert player.calls == []


def test_a_damaged_file_on_the_device(play: Callable[..., Player]) -> None:
    play()
    files = {"a.jpg": FILES["a.jpg"], "cut.jpg": CUT, "d.jpg": FILES["d.jpg"]}
    with pytest.raises(ImageError, match=r"got cut\.jpg \("):
        batch(files).decode("cuda")
    with pytest.warns(UserWarning, match=r"skipped cut\.jpg .*; d\.jpg stands"):
        images, shown = batch(files, "skip").decode("cuda")
    assert shown.tolist() == [0, 2, 2]
    assert torch.equal(images[1], images[2])


@pytest.mark.parametrize("refused", [False, True])
def test_nvjpeg_neither_overtakes_the_stream_nor_outlasts_an_error(
    monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    log: list[str] = []

    class Stream:
        def synchronize(self) -> None:
            log.append("stream")

    def operator(*_: Any) -> list[Tensor]:
        log.append("decode")
        if refused:
            raise RuntimeError("Error while decoding JPEG images: 5")
        return []

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: log.append("device"))
    monkeypatch.setattr(torch.ops.image, "decode_jpegs_cuda", operator, raising=False)
    with pytest.raises(RuntimeError) if refused else nullcontext():
        module.device_jpegs([tensor(FILES["a.jpg"])], torch.device("cuda", 1))
    assert log == ["stream", "decode", *(["device"] if refused else [])]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_nvjpeg() -> None:
    files = {path.name: read(path).numpy().tobytes() for path in paths()} | FILES
    images, shown = batch(files).decode("cuda")
    assert images.device.type == "cuda"
    assert shown.tolist() == list(range(len(files)))
    for image, data in zip(images, files.values(), strict=True):
        here = decode(tensor(data)).int()
        difference = (image.cpu().int() - here).abs().numpy()
        assert np.mean(difference) < 2


def test_what_was_turned_in_a_folder_and_in_a_pack(tmp_path: Path) -> None:
    """EXIF behind XMP, through every way to the pixels."""
    pytest.importorskip("pyarrow")
    data = turned_jpegs()["xmp, then exif 6"]
    (tmp_path / "images" / "cats").mkdir(parents=True)
    (tmp_path / "images" / "cats" / "a.jpg").write_bytes(data)
    upright = decode(tensor(data))
    assert upright.shape == (3, 53, 37)
    device = ga.data.ImageFolder(tmp_path / "images", decode="device")
    ga.data.pack(tmp_path / "images", tmp_path / "pack", workers=0)
    ways = {
        "folder": ga.data.ImageFolder(tmp_path / "images")[0][0],
        "device": ga.ragged_collate([device[0]]).images.decode("cpu")[0][0],
        "pack": ga.data.Packed(tmp_path / "pack")[0][0],
    }
    for way, image in ways.items():
        assert torch.equal(image, upright), way
