"""A pack is read without copies, by any process, and no damage to it goes unseen."""

from __future__ import annotations

import os
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import gpuaug as ga
from gpuaug.data import ImageError, Packed
from gpuaug.data.packs.format import INDEX, Index, open_shard
from gpuaug.data.packs.read import verify
from gpuaug.data.transport.encoded import Encoded
from tests.support.errors import FORM
from tests.support.packs import contents, entries, expected, flip, make, packed

pa = pytest.importorskip("pyarrow")


# ---- what is in it ---------------------------------------------------------------------------------------------------


def test_jpeg_files_for_the_device(jpeg: Path) -> None:
    dataset = Packed(jpeg, decode="device")
    batch = ga.ragged_collate([dataset[number] for number in range(3)])
    assert isinstance(batch.images, Encoded)
    assert batch.images.names[0] == "class0/000.jpg"
    images, _ = batch.images.decode("cpu")
    assert torch.equal(images[2], Packed(jpeg)[2][0])


def test_other_libraries_read_it(raw: Path, source: Path) -> None:
    with pa.memory_map(str(raw / "shard-00001.arrow")) as file:
        reader = pa.ipc.open_file(file)
        table = reader.read_all()
        table.validate(full=True)
        assert reader.schema.metadata == {b"gpuaug.version": b"1", b"gpuaug.encoding": b"raw"}
        row = table.slice(1, 1).to_pylist()[0]
    assert row["path"] == "class1/001.jpg"
    assert row["label"] == 1
    pixels = np.frombuffer(row["image"], np.uint8).reshape(row["height"], row["width"], 3)
    assert np.array_equal(pixels, expected(source / row["path"]).permute(1, 2, 0).numpy())


# ---- without copies --------------------------------------------------------------------------------------------------


def maps(path: Path) -> list[tuple[int, int, int]]:
    """Where a file is mapped in this process: first byte, end, and private bytes."""
    found = []
    for block in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text()):
        if str(path) in block.split("\n")[0]:
            begin, end = (int(part, 16) for part in block.split(" ")[0].split("-"))
            found.append((begin, end, 1024 * int(re.search(r"Anonymous: +(\d+) kB", block)[1])))  # type: ignore[index]
    return found


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux")
def test_an_image_is_a_view_of_the_file(copy: Path) -> None:
    dataset, path = Packed(copy), copy / "shard-00000.arrow"
    images = [dataset[number][0] for number in range(3)]
    assert all(int(image.sum()) > 0 for image in images)
    [(begin, end, private)] = maps(path)
    assert all(begin <= image.data_ptr() and image.data_ptr() + image.numel() <= end for image in images)
    assert private == 0
    assert images[0].untyped_storage().nbytes() == images[0].numel()  # pickling it does not take the shard along
    images[0].zero_()
    assert maps(path)[0][2] > 0  # the test sees a copy where there is one
    del dataset, images
    assert maps(path) == []


def test_shards_hold_no_file_descriptors(raw: Path) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs Linux")
    before = len(os.listdir("/proc/self/fd"))
    dataset = Packed(raw)
    assert len(dataset.targets) == 7  # all shards are open now; ImageNet has more than most processes may open files
    assert len(os.listdir("/proc/self/fd")) == before


def test_who_writes_to_an_image_changes_only_his_own(copy: Path) -> None:
    before, dataset = contents(copy), Packed(copy)
    right = dataset[1][0].clone()
    dataset[1][0].add_(1)
    assert contents(copy) == before
    assert torch.equal(dataset[1][0], right)  # the checksum noticed, and the file is whole
    assert torch.equal(Packed(copy)[1][0], right)


# ---- processes -------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_batches_of_workers(raw: Path, method: str, one_thread: None) -> None:
    dataset = Packed(raw)
    right = [image.clone() for image, *_ in dataset]  # the parent has all shards open
    loader = DataLoader(
        dataset,
        2,
        num_workers=1 if method == "spawn" else 2,
        collate_fn=ga.ragged_collate,
        multiprocessing_context=method,
        persistent_workers=True,
    )
    for _ in range(2):
        batches = [(images, labels.tolist(), index.tolist()) for images, labels, index in loader]
        assert [number for *_, index in batches for number in index] == list(range(7))
        assert [label for _, labels, _ in batches for label in labels] == dataset.targets
        assert all(torch.equal(a, b) for a, b in zip((i for images, *_ in batches for i in images), right, strict=True))


def test_pickles_are_small_and_without_pixels(raw: Path) -> None:
    dataset = Packed(raw, on_error="skip", verify=False)
    assert dataset[6][0].numel()
    again = pickle.loads(pickle.dumps(dataset.__getstate__() | {"_skips": None}))
    assert again["_open"] == {}
    plain = Packed(raw)
    assert len(plain.targets) == 7
    plain._skips = plain._skips[:1].clone()
    assert len(pickle.dumps(plain)) < 5000
    assert torch.equal(pickle.loads(pickle.dumps(plain))[6][0], dataset[6][0])


# ---- damage ----------------------------------------------------------------------------------------------------------


def position(folder: Path, what: str) -> int:
    """A byte of shard 1: in its second image, or in the buffer of a column."""
    [_, entry, _] = entries(folder)
    shard = open_shard(folder, entry)
    if what == "image":
        return int(shard.table["start"][1]) + 100
    with pa.memory_map(str(folder / entry.file)) as file:
        whole = file.read_buffer()
        column = pa.ipc.open_file(whole).get_batch(0).column(what.removesuffix(" offsets"))
        buffer = column.buffers()[1 if what.endswith("offsets") or what != "path" else 2]
        return int(buffer.address - whole.address) + (8 if what.endswith("offsets") else 4)


COLUMNS = ["image offsets", "height", "label", "path", "path offsets", "crc32"]


@pytest.mark.parametrize("what", COLUMNS)
def test_a_flipped_bit_in_a_table_is_seen(copy: Path, what: str) -> None:
    path = copy / "shard-00001.arrow"
    flip(path, position(copy, what))
    dataset = Packed(copy, verify=False)
    assert dataset[0][1] == 0  # the other shards are whole
    with pytest.raises(ImageError, match=rf"{path} is damaged: its table does not match its checksum") as error:
        dataset[4]
    assert FORM.match(str(error.value))
    assert "Delete that shard and run gpuaug pack again" in str(error.value)
    assert verify(copy) == {"shard-00001.arrow": f"{path} is damaged: its table does not match its checksum"}


def test_a_flipped_bit_in_an_image_is_seen(copy: Path, raw: Path) -> None:
    path = copy / "shard-00001.arrow"
    flip(path, position(copy, "image"))
    dataset = Packed(copy)
    assert torch.equal(dataset[3][0], Packed(raw)[3][0])
    with pytest.raises(ImageError, match=rf"got class1/001.jpg \({path} is damaged: its image 1 does not match"):
        dataset[4]
    assert not torch.equal(Packed(copy, verify=False)[4][0], Packed(raw)[4][0])
    assert verify(copy) == {
        "shard-00001.arrow": f"{path} is damaged: its image 1 (class1/001.jpg) does not match its checksum"
    }


def test_a_flipped_bit_anywhere_is_seen(tmp_path: Path) -> None:
    folder = packed(make(tmp_path / "source", files=2, classes=1), tmp_path / "pack", short_side=8)
    path = folder / "shard-00000.arrow"
    whole = path.read_bytes()
    chosen = np.random.default_rng(2).permutation(len(whole))[:400]
    missed = []
    for number in chosen:
        flip(path, int(number), int(number) % 8)
        if not verify(folder):
            missed.append(number)
        path.write_bytes(whole)
    assert missed == []
    assert verify(folder) == {}


@pytest.mark.parametrize("length", [0, 100, -1, 1])
def test_a_shard_of_another_length_is_seen(copy: Path, source: Path, length: int) -> None:
    path = copy / "shard-00001.arrow"
    dataset = Packed(copy)
    whole = path.read_bytes()
    path.write_bytes(whole + b"x" if length == 1 else whole[:length])
    with pytest.raises(
        ImageError, match=rf"`path` must be a pack whose {path} has [\d,]+ bytes, got [\d,]+ bytes\. Del"
    ):
        Packed(copy)
    with pytest.raises(
        ImageError, match=rf"image 0 of shard-00001.arrow \({path} is damaged: it has [\d,]+ bytes, not"
    ):
        dataset[3]
    assert list(verify(copy)) == ["shard-00001.arrow"]
    packed(source, copy)  # makes that shard anew
    assert path.read_bytes() == whole


def test_a_missing_shard_is_named_and_made_again(copy: Path, raw: Path, source: Path) -> None:
    path = copy / "shard-00002.arrow"
    dataset = Packed(copy)
    path.unlink()
    with pytest.raises(ImageError, match=rf"{path} has [\d,]+ bytes, got none"):
        Packed(copy)
    with pytest.raises(ImageError, match=rf"{path} is missing"):
        dataset[6]
    assert verify(copy) == {path.name: f"{path} is missing"}
    packed(source, copy)
    assert contents(copy) == contents(raw)


def test_damaged_images_are_skipped(copy: Path, raw: Path) -> None:
    flip(copy / "shard-00001.arrow", position(copy, "image"))
    dataset = Packed(copy, on_error="skip")
    with pytest.warns(
        UserWarning, match=r"Packed: skipped class1/001.jpg \(.*shard-00001.arrow is damaged.*\); class1/003"
    ):
        image, label, index = dataset[4]
    assert (label, index) == (1, 4)
    assert torch.equal(image, Packed(raw)[5][0])
    assert dataset.skipped == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b'"short_side": 48', b'"short_side": 49'),
        lambda text: text.replace(b'"class1"', b'"class3"'),
        lambda text: text.replace(b'"version": 1', b'"version": 3'),
        lambda text: text.replace(b'"crc32"', b'"crc33"', 1),
        lambda text: text.replace(b'"bytes"', b'"byteq"', 1),
        lambda text: text[: len(text) // 2],
        lambda text: b"",
        lambda text: b"\xff" + text,
        lambda text: b"[]",
    ],
)
def test_a_damaged_index_is_seen(copy: Path, source: Path, change: Callable[[bytes], bytes]) -> None:
    (copy / INDEX).write_bytes(change((copy / INDEX).read_bytes()))
    for call in (lambda: Packed(copy), lambda: verify(copy), lambda: packed(source, copy)):
        with pytest.raises(
            ValueError, match=rf"a pack with a whole index.json, got a damaged {copy / INDEX}\. Put a copy"
        ):
            call()


# ---- no pack ---------------------------------------------------------------------------------------------------------


def test_an_index_of_a_later_version(copy: Path) -> None:
    index = Index.read("test", copy)
    index.version = 2
    index.write(copy)
    with pytest.raises(ValueError, match=r"a pack of version 1, got version 2 in \S+\. Install a later gpuaug\."):
        Packed(copy)


def test_no_pack(tmp_path: Path, raw: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"Packed: `path` must be a folder that .*, got {tmp_path}, without index.json\."
    ):
        Packed(tmp_path)
    with pytest.raises(ValueError, match=r"must be 'worker' for a raw pack, got 'device' for"):
        Packed(raw, decode="device")


def test_without_pyarrow(raw: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for call in (lambda: Packed(raw), lambda: packed(source, tmp_path / "pack")):
        with pytest.raises(ModuleNotFoundError, match=r'packs need pyarrow. Run pip install "gpuaug\[pack\]"'):
            call()
