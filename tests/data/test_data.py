"""Data sets that decode: files, pixels, errors, skips (long: all over one generated folder)."""

from __future__ import annotations

import gc
import io
import os
import pickle
import pickletools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image, features
from torch.utils.data import DataLoader, Subset, TensorDataset

import gpuaug as ga
from gpuaug.data.dataset import TRIES, IndexedDataset
from gpuaug.data.decode import FORMATS
from gpuaug.data.discover import EXTENSIONS, Strings
from gpuaug.demo.photographs import paths
from tests.support.data_cases import run_case
from tests.support.files import by_pillow, folder, kinds, picture

ImageError, ImageFolder, Indexed = ga.data.ImageError, ga.data.ImageFolder, ga.data.Indexed

pytestmark = pytest.mark.filterwarnings("ignore:This process")  # Python 3.12 and later, of fork beside threads


@pytest.fixture(scope="module", autouse=True)
def short_waits() -> Iterator[None]:
    """PyTorch waits this long for each worker after an error, 5 seconds if it is let to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.3)
        yield
        gc.collect()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return folder(tmp_path / "images")


def spoil(root: Path, *numbers: int) -> list[str]:
    """Cut files short; their paths."""
    files = [ImageFolder(root).samples[number][0] for number in numbers]
    for file in files:
        Path(file).write_bytes(Path(file).read_bytes()[:100])
    return files


# ---- ImageFolder -----------------------------------------------------------------------------------------------------


def assert_as_torchvision(root: Path) -> None:
    ours, theirs = ImageFolder(root), torchvision.datasets.ImageFolder(root)
    assert ours.classes == theirs.classes
    assert ours.class_to_idx == theirs.class_to_idx
    assert ours.samples == theirs.samples
    assert ours.targets == theirs.targets
    assert len(ours) == len(theirs) > 0


def test_the_same_files_as_torchvision(root: Path) -> None:
    assert_as_torchvision(root)
    assert_as_torchvision(Path(os.path.relpath(root)))


def test_nested_folders_links_and_other_files(root: Path, tmp_path: Path) -> None:
    (root / "class 1" / "deep" / "er").mkdir(parents=True)
    shutil.copy(paths()[0], root / "class 1" / "deep" / "er" / "UPPER.JPEG")
    (root / "class 1" / "notes.txt").write_text("no image")
    (root / "stray.jpg").write_bytes(kinds()["jpeg"])
    (root / "class 0" / "link.jpg").symlink_to(paths()[1])
    shutil.copytree(root / "class 0", tmp_path / "elsewhere")
    (root / "linked class").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.warns(UserWarning, match=r"ImageFolder: 1 file is left out: 1 \.txt of "):
        assert_as_torchvision(root)
    with pytest.warns(UserWarning, match="left out"):
        assert len(ImageFolder(root)) == 12 + 1 + 1 + 5


def test_every_format_that_is_decoded_is_found(tmp_path: Path) -> None:
    """Under each ending that Pillow knows for it, in upper case too."""
    Image.init()
    endings = {end for end, kind in Image.registered_extensions().items() if kind in ("JPEG", "MPO", *FORMATS)}
    endings -= {".pfm"}  # of floats, which are refused
    assert endings == set(EXTENSIONS) - (set() if features.check("avif") else {".avif", ".avifs"})
    files = {name.split()[0]: data for name, data in kinds().items() if " " not in name}
    (tmp_path / "class").mkdir()
    names = {"jpeg": ("a.jfif", "b.JPE"), "gif": ("c.gif",), "avif": ("d.avif",), "pbm": ("e.pbm",), "mpo": ("f.mpo",)}
    for kind, given in names.items():
        for path in given if kind in files else ():
            (tmp_path / "class" / path).write_bytes(files[kind])
    dataset = ImageFolder(tmp_path)
    assert [Path(path).name for path, _ in dataset.samples] == [
        *["a.jfif", "b.JPE", "c.gif"],
        *(["d.avif"] if "avif" in files else []),
        *["e.pbm", "f.mpo"],
    ]
    assert {tuple(image.shape) for image, _, _ in dataset} == {(3, 37, 53)}
    assert dataset.ignored == {}


def test_a_folder_that_cannot_be_read_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, scandir = folder(tmp_path), os.scandir
    locked = next(path for path in sorted(root.iterdir()) if path.is_dir()) / "locked"
    locked.mkdir()

    def denied(path: Any = ".") -> Any:
        if os.path.basename(path) == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(PermissionError, match="locked"):
        ImageFolder(root)


def test_what_is_left_out_is_counted_and_said_once(root: Path) -> None:
    for name in ("a.txt", "b.TXT", "c.svg", "no ending", ".hidden.jpg", ".DS_Store"):
        (root / "class 1" / name).write_bytes(b"")
    shutil.copytree(root / "class 0", root / ".ipynb_checkpoints")
    shutil.copytree(root / "class 0", root / "class 2" / ".ipynb_checkpoints")
    with pytest.warns(UserWarning, match="left out") as caught:
        dataset = ImageFolder(root)
    assert len(caught) == 1
    assert str(caught[0].message) == (
        f"ImageFolder: 8 files are left out: 4 hidden, 2 .txt, 1 .svg, 1 no ending of {root}. Pass extensions=... or "
        "is_valid_file=... to choose the files."
    )
    assert caught[0].filename == __file__
    assert dataset.ignored == {"hidden": 4, ".txt": 2, ".svg": 1, "no ending": 1}
    assert dataset.classes == ["class 0", "class 1", "class 2"]
    assert len(dataset) == 12


def test_the_files_to_take_may_be_chosen(root: Path) -> None:
    (root / "class 1" / "a.txt").write_bytes(b"")
    theirs = torchvision.datasets.DatasetFolder(str(root), loader=str, extensions=(".png", ".webp"))
    for extensions in ((".png", ".webp"), [".PNG", ".Webp"]):
        ours = ImageFolder(root, extensions=extensions)
        assert ours.samples == theirs.samples
        assert len(ours) + sum(ours.ignored.values()) == 13
    png = ImageFolder(root, extensions=".png")
    chosen = ImageFolder(root, is_valid_file=lambda path: path.endswith(".png"))
    assert png.samples == chosen.samples != []
    assert pickle.loads(pickle.dumps(chosen)).samples == png.samples
    assert eval(repr(png), {"ImageFolder": ImageFolder}).samples == png.samples
    for wrong in ("png", [], [1], 3, ["jpg"]):
        with pytest.raises(ValueError, match=r"ImageFolder: `extensions` must be None, or file endings with their dot"):
            ImageFolder(root, extensions=wrong)  # type: ignore[arg-type]
    for options in ({"is_valid_file": 3}, {"is_valid_file": bool, "extensions": ".png"}):
        with pytest.raises(ValueError, match=r"ImageFolder: `is_valid_file` must be None, or a function of a path"):
            ImageFolder(root, **options)  # type: ignore[arg-type]


def test_a_class_may_be_empty(root: Path) -> None:
    (root / "class 1b").mkdir()
    dataset = ImageFolder(root, allow_empty=True)
    theirs = torchvision.datasets.ImageFolder(str(root), allow_empty=True)
    assert (dataset.classes, dataset.samples) == (theirs.classes, theirs.samples)
    with pytest.raises(FileNotFoundError, match=r"with none in class 1b\. Remove these folders, or pass allow_empty"):
        ImageFolder(root)


def test_odd_file_names(root: Path) -> None:
    names = ["two\nlines.jpg", "spaces and ünïcode 漢字 🐈.jpg", "'quotes\".jpg", "-dash.jpg", "a.b.jpg", "%s{}.jpg"]
    for name in names:
        (root / "class 0" / name).write_bytes(kinds()["jpeg"])
    (root / "class 2" / os.fsdecode(b"\xff\xfe.jpg")).write_bytes(kinds()["jpeg"])
    assert_as_torchvision(root)
    dataset = ImageFolder(root)
    assert sum(tuple(image.shape) == (3, 37, 53) for image, _, _ in dataset) == len(names) + 1


def test_an_odd_file_name_in_an_error(root: Path) -> None:
    for name in ("two\nlines.jpg", os.fsdecode(b"\xff\xfe.jpg")):
        bad = root / "class 0" / name
        bad.write_bytes(b"junk")
        dataset = ImageFolder(root)
        number = [path for path, _ in dataset.samples].index(str(bad))
        with pytest.raises(ImageError) as caught:
            dataset[number]
        text = str(caught.value)
        assert text.isprintable()
        assert repr(str(bad)) in text
        bad.unlink()


def test_no_classes_and_an_empty_class(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError):
        ImageFolder(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"^ImageFolder: `root` must be a folder, got \S+, which does not"):
        ImageFolder(tmp_path / "missing")
    with pytest.raises(NotADirectoryError, match=r"ImageFolder: `root` must be a folder, got \S+, a file\."):
        ImageFolder(__file__)
    with pytest.raises(ValueError, match=r"ImageFolder: `root` must be a path, str or pathlib\.Path, got None\."):
        ImageFolder(None)  # type: ignore[arg-type]
    (root / "class 9").mkdir()
    with pytest.raises(FileNotFoundError, match="class 9"):
        ImageFolder(root)


def test_the_pixels_of_every_file(root: Path) -> None:
    dataset = ImageFolder(root)
    seen = []
    for number, (image, label, index) in enumerate(dataset):
        path, target = dataset.samples[number]
        expected = by_pillow(Path(path).read_bytes()).astype(int)
        assert np.abs(image.permute(1, 2, 0).numpy() - expected).max() <= (3 if path.endswith(".jpg") else 0)
        assert (label, index) == (target, number)
        seen.append(tuple(image.shape))
    assert len(set(seen)) == len(dataset) == 12


def test_a_number_from_the_end_a_numpy_number_a_copy(root: Path) -> None:
    dataset = ImageFolder(root)
    for number in (-1, np.int64(11), torch.tensor(11), (11, 0), (-1, 0)):
        image, label, index = dataset[number]
        assert (label, index) == (2, 11)
        assert torch.equal(image, dataset[11][0])
        assert type(index) is int
    image, label, index = dataset[np.int32(5), np.int64(3)]
    assert (label, index) == (1, 5 | 3 << 48)
    assert torch.equal(image, dataset[5][0])


@pytest.mark.parametrize("number", [12, -13, 10**20, (12, 0)])
def test_a_number_out_of_range(root: Path, number: Any) -> None:
    with pytest.raises(IndexError, match="of 12"):
        ImageFolder(root)[number]


@pytest.mark.parametrize("number", [1.5, "1", None, slice(2), (1, 0.5)])
def test_what_is_no_number(root: Path, number: Any) -> None:
    with pytest.raises(TypeError):
        ImageFolder(root)[number]


@pytest.mark.parametrize("argument", ["decode", "on_error"])
def test_a_bad_argument(root: Path, argument: str) -> None:
    with pytest.raises(ValueError, match=rf"ImageFolder: `{argument}` must be one of .*, got 'gpu'\."):
        ImageFolder(root, **{argument: "gpu"})


def test_repr_rebuilds_it(root: Path) -> None:
    dataset = ImageFolder(root, on_error="skip")
    assert repr(eval(repr(dataset), {"ImageFolder": ImageFolder})) == repr(dataset)


def test_what_travels_to_a_worker_is_small() -> None:
    """No Python object for each image: its reference count would be written, and its page copied, in each worker."""

    def size(count: int) -> tuple[int, int]:
        dataset = ImageFolder.__new__(ImageFolder)
        IndexedDataset.__init__(dataset)
        names = [f"/data/train/n01440764/n01440764_{number:05}.JPEG" for number in range(count)]
        dataset.decode, dataset._paths, dataset._labels = "worker", Strings(names), np.zeros(count, np.int64)
        data = pickle.dumps(dataset)
        return len(data), sum(1 for _ in pickletools.genops(data))

    (small, few), (large, many) = size(100), size(10_100)
    assert abs(many - few) < 10
    assert (large - small) / 10_000 < 44 + 8 + 8 + 1  # the name, its end, the label


def test_strings() -> None:
    words = ["", "a", "ü\n", os.fsdecode(b"\xff"), ""]
    strings = Strings(words)
    assert list(strings) == words
    assert [strings[number - 5] for number in range(5)] == words
    assert list(Strings([])) == []
    with pytest.raises(IndexError):
        strings[5]


def test_all_files_of_a_batch_are_asked_for_before_one_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be opened is left to `read`, which says why."""
    from gpuaug.data import dataset as module
    from gpuaug.data.decode import read_ahead

    dataset = ImageFolder(root)
    seen: list[Any] = []
    read = module.read
    monkeypatch.setattr(module, "read", lambda path: seen.append(path) or read(path))
    monkeypatch.setattr(os, "posix_fadvise", lambda *rest: seen.append(rest[1:]), raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_WILLNEED", 3, raising=False)
    dataset.__getitems__([0, 2, -1])
    paths = [path for path, _ in dataset.samples]
    assert seen == [(0, 0, 3)] * 3 + [paths[0], paths[2], paths[-1]]
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else None
    read_ahead([root / "missing", root])
    assert before is None or len(os.listdir("/proc/self/fd")) == before
    monkeypatch.delattr(os, "posix_fadvise")
    read_ahead(paths)


# ---- Indexed ---------------------------------------------------------------------------------------------------------

IMAGE = np.asarray(picture(9, 14))
CHW = torch.from_numpy(IMAGE.copy()).permute(2, 0, 1)


class Items(list):  # type: ignore[type-arg]
    """A map-style data set."""


def frozen() -> np.ndarray[Any, Any]:
    array = IMAGE.copy()
    array.setflags(write=False)
    return array


IMAGES: dict[str, Any] = {
    "pillow": picture(9, 14),
    "tensor": CHW.contiguous(),
    "tensor, channels last": CHW,
    "array": IMAGE.copy(),
    "array, read-only": frozen(),
    "array, flipped twice": IMAGE[::-1].copy()[::-1],
    "array, in Fortran's order": np.asfortranarray(IMAGE),
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_item_of_each_kind(name: str) -> None:
    image, label, index = Indexed(Items([(IMAGES[name], "cat")]))[0]
    assert torch.equal(image, CHW)
    assert (label, index) == ("cat", 0)


@pytest.mark.parametrize("grey", [IMAGE[..., 0], IMAGE[..., :1], np.ascontiguousarray(IMAGE[..., 0])])
def test_a_grey_array_has_one_channel(grey: np.ndarray[Any, Any]) -> None:
    assert torch.equal(Indexed(Items([(grey, 0)]))[0][0], CHW[:1])


def test_a_grey_pillow_image_has_three() -> None:
    image = Indexed(Items([(picture().convert("L"), 0)]))[0][0]
    assert image.shape == (3, 37, 53)
    assert torch.equal(image[0], image[2])


def test_a_subset_and_a_tensor_dataset() -> None:
    tensors = torch.randint(256, (6, 3, 5, 4), dtype=torch.uint8)
    whole = TensorDataset(tensors, torch.arange(6) * 10)
    inside, outside = Indexed(Subset(whole, [4, 2, 5])), Subset(Indexed(whole), [4, 2, 5])
    for number, original in enumerate([4, 2, 5]):
        for dataset, index in ((inside, number), (outside, original)):
            image, label, found = dataset[number]
            assert torch.equal(image, tensors[original])
            assert (int(label), found) == (original * 10, index)


@pytest.mark.parametrize("decode", ["worker", "device"])
def test_data_sets_in_a_row_are_numbered_anew(root: Path, decode: str) -> None:
    folder = ImageFolder(root, decode=decode)
    row = Indexed(torch.utils.data.ConcatDataset([folder, folder]))
    indices = [index for _, _, index in row]
    assert indices == list(range(2 * len(folder)))
    image, label, _ = row[len(folder) + 1]
    assert label == folder[1][1]
    assert type(image) is type(folder[1][0])


def test_a_torchvision_data_set(root: Path) -> None:
    ours, theirs = ImageFolder(root), Indexed(torchvision.datasets.ImageFolder(root))
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine[0].int() - other[0].int()).abs().max() <= 3
        assert mine[1:] == other[1:]


BAD_ITEMS: dict[str, tuple[Any, str]] = {
    "floats": ((CHW.float(), 0), r"got float32 \(3, 9, 14\)\. Remove its float conversion"),
    "float array": ((IMAGE.astype(np.float64), 0), r"got float64 \(9, 14, 3\)\. Remove its float"),
    "a batch": ((CHW[None], 0), r"got uint8 \(1, 3, 9, 14\)"),
    "a flat array": ((IMAGE.reshape(-1), 0), r"got uint8 \(378,\)"),
    "no image": (("cat.jpg", 0), "got 'cat.jpg'"),
    "nothing": ((None, 0), "got None"),
    "image alone": (CHW, r"\(image, label\) samples, got uint8 \(3, 9, 14\)"),
    "three": ((CHW, 0, "cat.jpg"), r"\(image, label\)"),
}


@pytest.mark.parametrize("name", BAD_ITEMS)
def test_a_bad_item(name: str) -> None:
    item, message = BAD_ITEMS[name]
    with pytest.raises(ValueError, match=r"Indexed: `dataset` must be a data set.*" + message) as caught:
        Indexed(Items([item]), on_error="skip")[0]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dataset", [iter([1]), None, 3])
def test_what_is_no_map_style_data_set(dataset: Any) -> None:
    with pytest.raises(ValueError, match="Indexed: `dataset` must be a map-style data set"):
        Indexed(dataset)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff", "gif", "bmp"])
def test_a_damaged_file_behind_indexed(kind: str) -> None:
    """Pillow reads the pixels late, in Indexed."""
    data = kinds()[kind]

    class Lazy(Items):
        def __getitem__(self, number: Any) -> Any:
            return Image.open(io.BytesIO(data[: len(data) // 2])), 0

    with pytest.raises(ImageError, match=r"Indexed: `file` must be .* item 0 \("):
        Indexed(Lazy([0]))[0]


# ---- errors and skips ------------------------------------------------------------------------------------------------


def test_an_error_names_the_file(root: Path) -> None:
    (bad,) = spoil(root, 5)
    with pytest.raises(ImageError) as caught:
        ImageFolder(root)[5]
    text = str(caught.value)
    assert text.startswith(f"ImageFolder: `file` must be an image that can be read, got {bad} (")
    assert 'pass on_error="skip"' in text
    assert "\n" not in text
    os.remove(bad)


def test_a_file_that_is_gone_or_may_not_be_read(root: Path) -> None:
    dataset = ImageFolder(root)
    path = Path(dataset.samples[3][0])
    path.unlink()
    with pytest.raises(ImageError, match=r"No such file"):
        dataset[3]
    path.mkdir()
    with pytest.raises(ImageError, match=r"directory"):
        dataset[3]


def test_a_skip_takes_the_next_that_can_be_read(root: Path) -> None:
    bad = spoil(root, 3, 4, 11)
    dataset = ImageFolder(root, on_error="skip")
    good = ImageFolder(root)
    for number, stand_in in ((3, 5), (4, 5), (11, 0)):
        with pytest.warns(UserWarning, match="ImageFolder: skipped") as caught:
            image, label, index = dataset[number]
        assert torch.equal(image, good[stand_in][0])
        assert (label, index) == (good[stand_in][1], number)
        text = str(caught[0].message)
        assert good.samples[stand_in][0] in text
        assert any(path in text for path in bad)
        assert caught[0].filename == __file__
    assert dataset.skipped == 3
    assert good.skipped == 0


def test_all_files_are_bad(root: Path) -> None:
    spoil(root, *range(12))
    with pytest.raises(ImageError, match=r"and the 11 after it"):
        ImageFolder(root, on_error="skip")[4]
    batches = DataLoader(ImageFolder(root, on_error="skip"), 4, num_workers=1, collate_fn=ga.ragged_collate)
    with pytest.raises(ImageError, match=r"00\.jpg and the 11 after it"):
        list(batches)


def test_the_only_file_is_bad() -> None:
    class One(IndexedDataset):
        loads = 0

        def __init__(self, count: int) -> None:
            super().__init__("skip")
            self.count = count

        def __len__(self) -> int:
            return self.count

        def _load(self, number: int) -> Any:
            self.loads += 1
            raise ImageError("damaged")

    for count, tries in ((1, 1), (2, 2), (10**6, TRIES)):
        dataset = One(count)
        with pytest.raises(ImageError, match=rf"item 0 and the {tries - 1} after it \(damaged\)"):
            dataset[0]
        assert dataset.loads == tries


def test_the_error_of_a_worker_names_the_file(root: Path) -> None:
    (bad,) = spoil(root, 6)
    batches = DataLoader(ImageFolder(root), 4, num_workers=2, collate_fn=ga.ragged_collate)
    with pytest.raises(ImageError, match="DataLoader worker process") as caught:
        list(batches)
    assert bad in str(caught.value)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_skips_in_workers_are_counted_and_reported(context: str, root: Path) -> None:
    bad = spoil(root, 3, 10)
    result, errors = run_case("skipping", context, str(root))
    assert result["counts"] == [2, 4]
    labels = ImageFolder(root).targets
    expected = [[labels[{3: 4, 10: 11}.get(number, number)], number] for number in range(12)]
    assert result["shown"] == expected
    for path in bad:
        assert f"ImageFolder: skipped {path} (" in errors


def test_skips_of_indexed_are_counted(root: Path) -> None:
    spoil(root, 1)
    dataset = Indexed(torchvision.datasets.ImageFolder(root), on_error="skip")
    with pytest.warns(UserWarning, match=r"Indexed: skipped item 1 \(.*\); item 2 replaces it"):
        assert dataset[1][1:] == (0, 1)
    assert dataset.skipped == 1


@pytest.mark.parametrize("make", [ImageFolder, lambda root: Indexed(torchvision.datasets.ImageFolder(root))])
def test_batches_of_workers_equal_batches_of_this_process(root: Path, make: Callable[[Path], Any]) -> None:
    def batches(workers: int) -> list[ga.data.Batch]:
        return list(DataLoader(make(root), 5, num_workers=workers, collate_fn=ga.ragged_collate))

    for mine, theirs in zip(batches(0), batches(2), strict=True):
        assert torch.equal(mine.images.data, theirs.images.data)
        assert np.array_equal(mine.images.sizes, theirs.images.sizes)
        assert torch.equal(mine.labels, theirs.labels)
        assert torch.equal(mine.index, theirs.index)


def test_skips_are_counted_through_parts_of_a_data_set(tmp_path: Path) -> None:
    dataset = ga.data.ImageFolder(folder(tmp_path), on_error="skip")
    Path(dataset.samples[1][0]).write_bytes(b"")
    halves = Subset(dataset, range(6)), Subset(dataset, range(6, 12))
    augment = ga.Augment([ga.Resize((8, 8))])
    for number, parts in enumerate((dataset, halves[0], torch.utils.data.ConcatDataset(halves)), 1):
        batches = ga.DeviceLoader(DataLoader(parts, 3, collate_fn=ga.ragged_collate), "cpu", augment)
        with pytest.warns(UserWarning, match="ImageFolder: skipped"):
            list(batches)
        assert batches.skipped == dataset.skipped == number
