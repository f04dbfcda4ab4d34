"""A pack holds the decoded bits, and resumes after an interruption (long: every way to be interrupted)."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

import gpuaug as ga
from gpuaug.data import ImageError, Packed, pack
from gpuaug.data.decode import decode, read
from gpuaug.data.packs import resume, writer
from gpuaug.data.packs.format import INDEX, PARTIAL, Index
from gpuaug.data.packs.read import verify
from gpuaug.data.packs.write import ENCODE_JPEG
from gpuaug.demo import photographs
from tests.support.errors import FORM
from tests.support.packs import SHORT, contents, entries, expected, make, packed

pytest.importorskip("pyarrow")


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


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux only")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"source") / os.fsdecode(b"class\xff")
    folder.mkdir(parents=True)
    shutil.copyfile(photographs.paths()[0], folder / os.fsdecode(b"\xfe.jpg"))
    dataset = Packed(packed(tmp_path / "source", tmp_path / "pack"))
    assert dataset.classes == [os.fsdecode(b"class\xff")]
    assert dataset._name(0) == r"class\udcff/\udcfe.jpg"
    assert torch.equal(dataset[0][0], expected(photographs.paths()[0]))


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


# ---- processes -------------------------------------------------------------------------------------------------------


def test_workers_pack_the_same(source: Path, raw: Path, tmp_path: Path) -> None:
    assert contents(packed(source, tmp_path / "pack", workers=1)) == contents(raw)


def test_workers_end_although_a_traceback_holds_their_loader(source: Path, tmp_path: Path) -> None:
    def report(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        packed(source, tmp_path / "pack", workers=1, report=report)
    assert stopped.tb is not None
    assert not multiprocessing.active_children()
    assert not [thread for thread in threading.enumerate() if thread.name == "QueueFeederThread"]


UNGUARDED = "import gpuaug as ga; ga.data.pack({!r}, {!r}, workers=1)"


@pytest.mark.parametrize("given", ["as a file", "as input"])
def test_a_script_that_its_workers_cannot_import(source: Path, tmp_path: Path, given: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED.format(str(source), str(tmp_path / "pack")))
    with open(script) as file:
        command = [sys.executable, script if given == "as a file" else "-"]
        done = subprocess.run(command, stdin=file, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    says = "RuntimeError: pack: worker processes ended. Each imports the calling script. Call it under `if "
    assert done.stderr.splitlines()[-1].startswith(says), done.stderr
    assert contents(tmp_path / "pack").keys() == {INDEX}  # which the next call goes on with


def test_one_process_at_a_time(source: Path, raw: Path) -> None:
    pytest.importorskip("fcntl")
    with resume.locked(raw), pytest.raises(ValueError, match=r"which another process writes into\. Wait for it"):
        packed(source, raw)
    packed(source, raw)


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


def test_ctrl_c_at_any_line_of_the_writer_leaves_finished_shards_alone(tmp_path: Path) -> None:
    source = make(tmp_path / "source", files=3)
    whole, folder = contents(packed(source, tmp_path / "whole", shard_images=2)), tmp_path / "pack"
    stopped = 0
    while interrupted(stopped, lambda: packed(source, folder, shard_images=2)):
        assert contents(folder).keys() <= whole.keys()
        packed(source, folder, shard_images=2)
        assert contents(folder) == whole
        shutil.rmtree(folder)
        stopped += 1
    assert stopped > 50
    assert contents(folder) == whole


def interrupted(after: int, do: Callable[[], object]) -> bool:
    """Whether that many lines of the writer had run before it was through: then Ctrl+C comes."""
    lines = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        if frame.f_code.co_filename != writer.__file__:
            return None
        if event == "line":
            lines += 1
            if lines == after + 1:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        do()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


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


# ---- files that cannot be read ---------------------------------------------------------------------------------------


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
    with pytest.raises(FileNotFoundError, match=r"^pack: `source` must be .* with none in class9\."):
        packed(tmp_path / "source", tmp_path / "pack")
    assert not (tmp_path / "pack").exists()


# ---- arguments -------------------------------------------------------------------------------------------------------


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
