"""A pack holds what was decoded, bit for bit; it goes on after a kill, and no damage to it goes unseen."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_errors import FORM
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional

import gpuaug as ga
from gpuaug import photographs
from gpuaug.data import ImageError, Packed, pack, packing, writer
from gpuaug.data.decode import decode, read
from gpuaug.data.encoded import Encoded
from gpuaug.data.packed import verify
from gpuaug.data.packing import ENCODE_JPEG
from gpuaug.data.shards import INDEX, PARTIAL, Index, open_shard

pa = pytest.importorskip("pyarrow")

SHORT = 48


def make(root: Path, files: int = 7, classes: int = 2) -> Path:
    """Photographs and noise, in classes that take turns."""
    noise = np.random.default_rng(0)
    for number in range(files):
        folder = root / f"class{number % classes}"
        folder.mkdir(parents=True, exist_ok=True)
        if number < 3:
            shutil.copyfile(photographs.paths()[number], folder / f"{number:03d}.jpg")
        else:
            image = noise.integers(0, 256, (20 + 11 * number, 30 + 7 * number, 3), np.uint8)
            Image.fromarray(image).save(folder / f"{number:03d}.png")
    return root


def packed(source: Path, destination: Path, **settings: Any) -> Path:
    pack(source, destination, **{"short_side": SHORT, "workers": 0, "shard_images": 3, **settings})
    return destination


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def raw(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(source, tmp_path_factory.mktemp("packs") / "raw")


@pytest.fixture(scope="module")
def jpeg(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(source, tmp_path_factory.mktemp("packs") / "jpeg", encoding="jpeg", quality=90)


@pytest.fixture
def copy(raw: Path, tmp_path: Path) -> Path:
    """A pack to damage."""
    return shutil.copytree(raw, tmp_path / "copy")


def entries(folder: Path) -> list[Any]:
    return [entry for entry in Index.read("test", folder).shards if entry is not None]


def expected(path: str | Path) -> torch.Tensor:
    """torchvision's resize of the decoded image."""
    image = decode(read(path))
    if min(image.shape[1:]) <= SHORT:
        return image
    return functional.resize(image, [SHORT], antialias=True)


def flip(path: Path, position: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# ---- what is in it ---------------------------------------------------------------------------------------------------


def test_raw_images_are_torchvisions_resize_bit_for_bit(source: Path, raw: Path) -> None:
    files, dataset = ga.data.ImageFolder(source), Packed(raw)
    assert len(dataset) == len(files) == 7
    assert dataset.targets == files.targets
    assert (dataset.classes, dataset.class_to_idx) == (files.classes, files.class_to_idx)
    for number, (path, label) in enumerate(files.samples):
        image, found, index = dataset[number]
        assert torch.equal(image, expected(path))
        assert (found, index) == (label, number)
    assert {min(image.shape[1:]) for image, *_ in dataset} == {SHORT}


def test_the_comparison_can_fail(source: Path, raw: Path) -> None:
    path = ga.data.ImageFolder(source).samples[0][0]
    other = functional.resize(decode(read(path)), [SHORT], antialias=False)
    assert not torch.equal(Packed(raw)[0][0], other)


def test_jpeg_images_are_decoded_encoded_ones(source: Path, jpeg: Path) -> None:
    dataset = Packed(jpeg)
    for number, (path, _) in enumerate(ga.data.ImageFolder(source).samples):
        assert torch.equal(dataset[number][0], decode(ENCODE_JPEG(expected(path).contiguous(), 90)))
        assert not torch.equal(dataset[number][0], expected(path))


def test_jpeg_files_for_the_device(jpeg: Path) -> None:
    dataset = Packed(jpeg, decode="device")
    batch = ga.ragged_collate([dataset[number] for number in range(3)])
    assert isinstance(batch.images, Encoded)
    assert batch.images.names[0] == "class0/000.jpg"
    images, _ = batch.images.decode("cpu")
    assert torch.equal(images[2], Packed(jpeg)[2][0])


def test_sizes_are_kept_and_none_is_enlarged(source: Path, tmp_path: Path) -> None:
    dataset = Packed(packed(source, tmp_path / "whole", short_side=None))
    files = ga.data.ImageFolder(source)
    assert all(torch.equal(dataset[number][0], files[number][0]) for number in range(len(files)))
    dataset = Packed(packed(source, tmp_path / "large", short_side=90))
    sizes = [
        (min(image.shape[1:]), min(whole.shape[1:])) for (image, *_), (whole, *_) in zip(dataset, files, strict=True)
    ]
    assert all(after == min(before, 90) for after, before in sizes)
    assert len({after for after, _ in sizes}) > 2


def test_every_kind_of_source(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (60, 70, 4), np.uint8)
    folder = tmp_path / "source" / "kinds"
    folder.mkdir(parents=True)
    Image.fromarray(noise[..., 0]).save(folder / "a_grey.jpg")
    Image.fromarray(noise[..., :3]).convert("CMYK").save(folder / "b_cmyk.jpg")
    Image.fromarray(noise).save(folder / "c_rgba.png")
    Image.fromarray(noise[..., 0].astype(np.uint16) * 257).save(folder / "d_sixteen.png")
    Image.fromarray(noise[..., :3]).quantize(16).save(folder / "e_palette.png")
    turned = Image.Exif()
    turned[274] = 6
    Image.fromarray(noise[..., :3]).save(folder / "f_turned.jpg", exif=turned)
    for encoding in ("raw", "jpeg"):
        dataset = Packed(packed(tmp_path / "source", tmp_path / encoding, encoding=encoding))
        for number, path in enumerate(sorted(folder.iterdir())):
            image = dataset[number][0]
            assert image.dtype == torch.uint8
            if encoding == "raw":
                assert torch.equal(image, expected(path)), path.name
            else:
                assert image.shape == expected(path).shape
    assert Packed(tmp_path / "jpeg")[5][0].shape == (3, 56, SHORT)


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


def test_workers_pack_the_same(source: Path, raw: Path, tmp_path: Path) -> None:
    assert contents(packed(source, tmp_path / "pack", workers=1)) == contents(raw)


UNGUARDED = "import gpuaug as ga; ga.data.pack({!r}, {!r}, workers=1)"


@pytest.mark.parametrize("given", ["as a file", "as input"])
def test_a_script_that_its_workers_cannot_import(source: Path, tmp_path: Path, given: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED.format(str(source), str(tmp_path / "pack")))
    with open(script) as file:
        command = [sys.executable, script if given == "as a file" else "-"]
        done = subprocess.run(command, stdin=file, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    says = "RuntimeError: pack: worker processes ended; each imports the calling script anew. Call it under `if "
    assert done.stderr.splitlines()[-1].startswith(says), done.stderr
    assert contents(tmp_path / "pack").keys() == {INDEX}  # which the next call goes on with


# ---- going on --------------------------------------------------------------------------------------------------------

KILLED = """
import sys, time
import gpuaug as ga
def report(done, total):
    if done == 8:
        print("eight", flush=True)
        time.sleep(60)
ga.data.pack(sys.argv[1], sys.argv[2], short_side=48, workers=0, shard_images=3, report=report)
"""


def test_goes_on_after_a_kill(tmp_path: Path) -> None:
    source = make(tmp_path / "source", files=10)
    killed, whole = tmp_path / "killed", packed(source, tmp_path / "whole")
    process = subprocess.Popen([sys.executable, "-c", KILLED, source, killed], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "eight\n"  # two shards of three, and two images of the third
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert (killed / "shard-00002.arrow.partial").exists()
    with pytest.raises(
        ValueError, match=r"must be a finished pack, got \S+ with 2 of 4 shards\. Run gpuaug pack again"
    ):
        Packed(killed)
    finished = [killed / f"shard-0000{number}.arrow" for number in (0, 1)]
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in finished]
    calls: list[tuple[int, int]] = []
    result = pack(source, killed, short_side=SHORT, workers=0, shard_images=3, report=lambda *call: calls.append(call))
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in finished] == before
    assert calls == [(done, 10) for done in range(6, 11)]
    assert (result.images, result.written) == (10, 4)
    assert contents(killed) == contents(whole)


def test_what_a_kill_may_leave_is_cleared(source: Path, raw: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    folder.mkdir()
    for name in (INDEX, "shard-00000.arrow"):
        (folder / (name + PARTIAL)).write_bytes(b"half of it")  # before there was an index
    (folder / ".hidden").write_bytes(b"of the system")
    packed(source, folder)
    (folder / (INDEX + PARTIAL)).write_bytes(b"half of it")
    (folder / "shard-00002.arrow").unlink()  # it had its name, and the index not yet
    index = Index.read("test", folder)
    index.shards[2] = None
    index.write(folder)
    packed(source, folder)
    (folder / ".hidden").unlink()
    assert contents(folder) == contents(raw)


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux only")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"source") / os.fsdecode(b"class\xff")
    folder.mkdir(parents=True)
    shutil.copyfile(photographs.paths()[0], folder / os.fsdecode(b"\xfe.jpg"))
    dataset = Packed(packed(tmp_path / "source", tmp_path / "pack"))
    assert dataset.classes == [os.fsdecode(b"class\xff")]
    assert dataset._name(0) == r"class\udcff/\udcfe.jpg"
    assert torch.equal(dataset[0][0], expected(photographs.paths()[0]))


def test_a_damaged_file_stops_the_pack_until_it_is_mended(tmp_path: Path) -> None:
    source = make(tmp_path / "source", files=8)
    bad = source / "class1" / "005.png"
    good = bad.read_bytes()
    bad.write_bytes(good[: len(good) // 2])
    with pytest.raises(ImageError, match=rf"pack: `file` must be .*, got {bad} \(.*\)\. Replace it, or"):
        packed(source, tmp_path / "pack")
    assert [path.name for path in sorted((tmp_path / "pack").iterdir())] == [
        INDEX,
        "shard-00000.arrow",
        "shard-00001.arrow",
    ]
    bad.write_bytes(good)
    assert len(Packed(packed(source, tmp_path / "pack"))) == 8


def test_skipped_files_are_left_out_and_named(tmp_path: Path) -> None:
    source = make(tmp_path / "source", files=8)
    bad = source / "class1" / "005.png"
    bad.write_bytes(b"")
    result = pack(source, tmp_path / "pack", short_side=SHORT, workers=0, shard_images=3, on_error="skip")
    assert result.skipped == {"class1/005.png": "the file is empty"}
    assert result.images == len(Packed(tmp_path / "pack")) == 7
    dataset = Packed(tmp_path / "pack")
    assert dataset.targets == [0, 0, 0, 0, 1, 1, 1]
    assert [dataset._name(number) for number in range(4, 7)] == ["class1/001.jpg", "class1/003.png", "class1/007.png"]
    again = pack(source, tmp_path / "pack", short_side=SHORT, workers=0, shard_images=3, on_error="skip")
    assert (again.skipped, again.written) == (result.skipped, 0)


def test_a_shard_in_which_all_are_skipped(tmp_path: Path) -> None:
    source = make(tmp_path / "source", files=8)
    for path in sorted((source / "class0").iterdir())[:3]:
        path.write_bytes(b"no image")
    dataset = Packed(packed(source, tmp_path / "pack", on_error="skip"))
    assert [entry.images for entry in entries(tmp_path / "pack")] == [0, 3, 2]
    assert dataset[0][1] == 0
    assert len(list(dataset)) == 5
    assert verify(tmp_path / "pack") == {}


def test_nothing_to_read(tmp_path: Path) -> None:
    source = make(tmp_path / "source", files=4)
    for path in source.rglob("*.*"):
        path.write_bytes(b"no image")
    for _ in range(2):
        with pytest.raises(ValueError, match="must be a folder with images that can be read, got") as error:
            packed(source, tmp_path / "pack", on_error="skip")
        assert "Packed" not in str(error.value)
    with pytest.raises(ValueError, match="must be a pack with images, got"):
        Packed(tmp_path / "pack")


def test_an_empty_class(tmp_path: Path) -> None:
    (make(tmp_path / "source") / "class9").mkdir()
    with pytest.raises(FileNotFoundError, match="class9"):
        packed(tmp_path / "source", tmp_path / "pack")
    assert not (tmp_path / "pack").exists()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"short_side": 50}, r"`short_side` must be 48, as in the pack that \S+ holds, got 50\. Pass the same"),
        ({"short_side": None}, r"`short_side` must be 48, as .*, got None"),
        ({"encoding": "jpeg"}, r"`encoding` must be 'raw', as .*, got 'jpeg'"),
        ({"shard_images": 4}, r"`shard_images` must be 3, as .*, got 4"),
    ],
)
def test_other_settings_are_refused(source: Path, copy: Path, settings: dict[str, Any], says: str) -> None:
    before = contents(copy)
    with pytest.raises(ValueError, match=says) as error:
        packed(source, copy, **settings)
    assert re.match(r"^pack: `\w+` must be .+, got .+\. [A-Z].+\.$", str(error.value))
    assert contents(copy) == before


def test_quality_counts_for_jpeg_only(source: Path, copy: Path, jpeg: Path) -> None:
    packed(source, copy, quality=10)
    with pytest.raises(ValueError, match="`quality` must be 90, as in"):
        packed(source, jpeg, encoding="jpeg", quality=10)


def test_another_source_is_refused(tmp_path: Path) -> None:
    source = make(tmp_path / "source")
    folder = packed(source, tmp_path / "pack")
    (source / "class0" / "more.png").write_bytes((source / "class1" / "003.png").read_bytes())
    with pytest.raises(ValueError, match=r"`source` must be 7 files in 2 classes, as in .*, got 8 files in 2 classes"):
        packed(source, folder)
    (source / "class0" / "more.png").unlink()
    (source / "class1" / "003.png").rename(source / "class1" / "0033.png")
    with pytest.raises(ValueError, match="got 7 files in 2 classes, with other names"):
        packed(source, folder)
    (source / "class1" / "0033.png").rename(source / "class1" / "003.png")
    (source / "class1" / "003.png").write_bytes(b"shorter")
    with pytest.raises(ValueError, match=r"files of other lengths between class0/006.png and class1/003.png. Delete.*"):
        packed(source, folder)


def test_a_folder_of_something_else(source: Path, tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"must be a new or empty folder, .*, got \S+ with thesis.txt in it"):
        packed(source, tmp_path / "pack")
    with pytest.raises(ValueError, match="`destination` must be outside of the source"):
        packed(source, source / "pack")
    assert not (source / "pack").exists()


def test_paths_that_are_none(source: Path, raw: Path, tmp_path: Path) -> None:
    file = raw / INDEX
    calls: dict[str, Callable[[Any], Any]] = {
        "Packed: `path`": Packed,
        "verify: `path`": verify,
        "pack: `source`": lambda path: pack(path, tmp_path / "pack"),
        "pack: `destination`": lambda path: pack(source, path),
    }
    for who, call in calls.items():
        for path in (None, 3, b"pack"):
            with pytest.raises(ValueError, match=rf"^{who} must be a path, str or pathlib\.Path, got {path!r}\.$"):
                call(path)
        with pytest.raises((ValueError, NotADirectoryError), match=rf"^{who} must be a folder.*, got {file}"):
            call(file)
    with pytest.raises(FileNotFoundError, match=r"^pack: `source` must be a folder, got \S+, which does not exist\.$"):
        calls["pack: `source`"](tmp_path / "missing")


def test_a_full_disk(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    source, limits = make(tmp_path / "source"), resource.getrlimit(resource.RLIMIT_FSIZE)
    for _ in range(2):
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))  # bytes of a file
        try:
            with pytest.raises(OSError, match=r"`destination` must be a folder to write into, got \S+ \(") as error:
                packed(source, tmp_path / "pack", shard_images=1, short_side=100)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert FORM.match(f"P{str(error.value)[1:]}")
        assert str(error.value).endswith("pack again: finished shards stay.")
        assert contents(tmp_path / "pack").keys() == {INDEX, "shard-00000.arrow"}
    assert len(Packed(packed(source, tmp_path / "pack", shard_images=1, short_side=100))) == 7


def test_one_process_at_a_time(source: Path, raw: Path) -> None:
    pytest.importorskip("fcntl")
    with packing.locked(raw), pytest.raises(ValueError, match=r"which another process writes into\. Wait for it"):
        packed(source, raw)
    packed(source, raw)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"encoding": "png"}, "`encoding` must be one of 'raw', 'jpeg'"),
        ({"on_error": "warn"}, "`on_error` must be one of 'raise', 'skip'"),
        ({"quality": 0}, r"`quality` must be an integer in \[1, 100\]"),
        ({"short_side": 0}, "`short_side` must be an integer of at least 1"),
        ({"shard_images": 0}, "`shard_images` must be"),
        ({"workers": -1}, "`workers` must be"),
    ],
)
def test_bad_arguments(source: Path, tmp_path: Path, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        packed(source, tmp_path / "pack", **settings)
    assert not (tmp_path / "pack").exists()


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_a_record_batch_is_written_when_it_is_full(
    source: Path, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = max(image.numel() for image, *_ in Packed(raw))
    held: list[int] = []
    add = writer.Writer.add

    def watched(self: writer.Writer, *row: Any) -> None:
        add(self, *row)
        held.append(len(self._data))

    monkeypatch.setattr(writer.Writer, "add", watched)
    monkeypatch.setattr(writer, "BATCH_BYTES", 10_000)
    folder = packed(source, tmp_path / "pack", shard_images=100)
    assert max(held) <= max(10_000, largest)
    assert len(entries(folder)) == 1
    assert len(entries(folder)[0].spans) > 3
    assert all(torch.equal(a[0], b[0]) for a, b in zip(Packed(folder), Packed(raw), strict=True))


# ---- damage ----------------------------------------------------------------------------------------------------------


def position(folder: Path, what: str) -> int:
    """A byte of shard 1: in its second image, or in the buffer of a column."""
    [_, entry, _] = entries(folder)
    shard = open_shard(folder, entry)
    if what == "image":
        return int(shard.rows["start"][1]) + 100
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
