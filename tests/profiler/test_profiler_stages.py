"""Named stages: their clocks, and how steps of transforms become stages and are put back."""

from __future__ import annotations

import pickle
import sqlite3
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from numpy import load as load_by_name
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.profiler import stage
from gpuaug.profiler.measure import clock, instrument
from tests.support.profiler_rows import rows


def test_inner_stages_are_not_counted_twice() -> None:
    notes = clock.mine.notes = clock.Notes(True)
    begin = time.perf_counter_ns()
    try:
        with stage("outer"):
            time.sleep(0.01)
            with stage("inner"):
                time.sleep(0.03)
            with stage("inner"):
                pass
    finally:
        clock.mine.notes = None
    took = time.perf_counter_ns() - begin
    assert notes.stages is not None
    wall, cpu, _, calls = notes.stages["inner"]
    assert wall > 0.029e9
    assert cpu < 0.02e9
    assert calls == 2
    assert notes.stages["outer"][0] > 0.009e9
    assert notes.stages["outer"][0] + wall <= took


def test_a_stage_notes_nothing_where_nobody_listens() -> None:
    assert clock.mine.notes is None
    used = stage("quiet")
    with used:
        assert used.notes is None


def test_threads_have_clocks_of_their_own() -> None:
    """A stage in another thread than the sample's is not noted, and does no harm."""

    notes = clock.mine.notes = clock.Notes(True)
    try:
        thread = threading.Thread(target=lambda: stage("other").__enter__())
        thread.start()
        thread.join()
    finally:
        clock.mine.notes = None
    assert notes.stages == {}


def test_a_timed_step_is_the_step() -> None:
    step = v2.RandomHorizontalFlip(0.25)
    timed = clock.Timed(step, "flip")
    assert isinstance(timed, v2.RandomHorizontalFlip)
    assert timed.p == 0.25
    assert repr(timed) == repr(step)
    timed.p = 0.5
    assert step.p == 0.5
    again = pickle.loads(pickle.dumps(timed))
    assert again.p == 0.5
    assert type(again) is clock.Timed


def test_compositions_are_taken_apart() -> None:
    names: list[str] = []
    chain = v2.Compose([v2.RandomApply([v2.ColorJitter(0.1), v2.GaussianBlur(3)]), v2.RandomChoice([v2.RandomCrop(2)])])
    patches = instrument.Patches()
    timed = instrument.steps(chain, names, patches)
    assert names == ["ColorJitter", "GaussianBlur", "RandomCrop"]
    assert timed is chain
    assert type(chain.transforms[0].transforms[0]) is clock.Timed
    assert chain.transforms[0].transforms[0].__class__ is v2.ColorJitter
    chain.transforms[0].p = 0.9  # what the user changes meanwhile stays
    chain.transforms.append(v2.Identity())
    patches.restore()
    assert [type(step) for step in chain.transforms] == [v2.RandomApply, v2.RandomChoice, v2.Identity]
    assert type(chain.transforms[0].transforms[0]) is v2.ColorJitter
    assert chain.transforms[0].p == 0.9


def test_albumentations() -> None:
    a = pytest.importorskip("albumentations")
    chain = a.Compose([a.HorizontalFlip(p=0.5), a.OneOf([a.Blur(p=1), a.RandomBrightnessContrast(p=1)], p=1)], seed=3)
    same = a.Compose([a.HorizontalFlip(p=0.5), a.OneOf([a.Blur(p=1), a.RandomBrightnessContrast(p=1)], p=1)], seed=3)
    names: list[str] = []
    patches = instrument.Patches()
    timed = instrument.steps(chain, names, patches)
    assert {"HorizontalFlip", "Blur", "RandomBrightnessContrast"} <= set(names)
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    for _ in range(8):
        assert np.array_equal(timed(image=image)["image"], same(image=image)["image"])
    clock.mine.notes = notes = clock.Notes(True)
    for _ in range(8):
        assert np.array_equal(timed(image=image)["image"], same(image=image)["image"])
    clock.mine.notes = None
    assert {"HorizontalFlip", "Blur", "RandomBrightnessContrast"} <= set(notes.stages or ())
    patches.restore()
    assert "apply_in_invocation" not in vars(chain.transforms[0])
    assert np.array_equal(chain(image=image)["image"], same(image=image)["image"])


# ---- stages that others name or hide ---------------------------------------------------------------------------------


@pytest.fixture
def jpegs(tmp_path: Path) -> Path:
    for number in range(24):
        path = tmp_path / "images" / str(number % 2) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (96, 96, 3), np.uint8)
        PIL.Image.fromarray(noise).save(path)
    return tmp_path / "images"


@pytest.mark.parametrize("workers", [0, 1])
def test_gpuaugs_own_folder_has_a_row_for_decoding(jpegs: Path, workers: int) -> None:
    """Its function is imported by name, before it is timed."""
    loader = DataLoader(ga.data.ImageFolder(jpegs), 4, num_workers=workers, collate_fn=ga.ragged_collate)
    found = rows(loader)
    assert found["decode"] > found["getitem"]


def test_functions_imported_by_name_are_timed_and_put_back(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(100_000))
    before = load_by_name
    found = rows(DataLoader(Reader(lambda index: load_by_name(tmp_path / "x.npy")), 4))
    assert found["storage"] > found["getitem"]
    assert load_by_name is before


class Inner:
    """A data set of no library: not torch's class."""

    def __init__(self, transform: Any) -> None:
        self.preprocess = transform

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> Any:
        return self.preprocess(torch.full((3, 8, 8), index))


class Outer(Dataset[Any]):
    def __init__(self, inner: Any) -> None:
        self.d = inner

    def __len__(self) -> int:
        return len(self.d)

    def __getitem__(self, index: int) -> Any:
        return self.d[index]


def slowly(image: torch.Tensor) -> torch.Tensor:
    time.sleep(0.002)
    return image + 1


def test_plain_functions_in_wrapped_data_sets_are_stages() -> None:
    inner = Inner(slowly)
    found = rows(DataLoader(Outer(inner), 4))
    assert found["slowly"] > 0.006
    assert inner.preprocess is slowly
    named = rows(DataLoader(Outer(Inner(lambda image: slowly(image))), 4))
    assert any(name.startswith("lambda of line ") for name in named)


class Formatted(Inner):
    """As Hugging Face's data sets keep what `with_transform` got."""

    def __init__(self, transform: Any) -> None:
        self._format_kwargs = {"transform": transform, "columns": None}

    def __getitem__(self, index: int) -> Any:
        return self._format_kwargs["transform"](torch.full((3, 8, 8), index))


def test_transforms_of_hugging_face_are_stages() -> None:
    data: Any = Formatted(slowly)
    assert rows(DataLoader(data, 4))["slowly"] > 0.006
    assert data._format_kwargs == {"transform": slowly, "columns": None}


WEBDATASET = """
import sys
import numpy as np, torch, webdataset
from torch.utils.data import DataLoader
from tests.support.profiler_rows import rows
path = sys.argv[1] + "/shard.tar"
with webdataset.TarWriter(path) as sink:
    for number in range(24):
        image = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
        sink.write({"__key__": f"{number:03}", "jpg": image, "cls": number % 2})
data = webdataset.WebDataset(path, shardshuffle=False, empty_check=False).decode("rgb8").to_tuple("jpg", "cls")
data = data.map_tuple(torch.from_numpy, int).map(lambda pair: (2 * pair[0], pair[1]))
print(*rows(DataLoader(data, 4)), sep="\\n")
"""


def test_maps_of_webdataset_are_stages(tmp_path: Path) -> None:
    """In a process of its own, since WebDataset leaves its files open."""
    pytest.importorskip("webdataset")
    done = subprocess.run([sys.executable, "-c", WEBDATASET, str(tmp_path)], capture_output=True, text=True, check=True)
    assert {"decode", "from_numpy", "int", "lambda of line 12"} <= set(done.stdout.splitlines())


def test_h5py_and_zip_files_are_storage(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["x"] = np.zeros((24, 64, 64, 3), np.uint8)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for number in range(24):
            archive.writestr(str(number), bytes(10_000))
    with h5py.File(tmp_path / "x.h5") as opened, zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert rows(DataLoader(Reader(lambda index: opened["x"][index]), 4))["storage"] > 0
        read = Reader(lambda index: torch.frombuffer(bytearray(archive.read(str(index))), dtype=torch.uint8))
        assert rows(DataLoader(read, 4))["storage"] > 0
    assert not hasattr(zipfile.ZipFile.read, instrument.MARK)


def test_sqlite_is_storage(tmp_path: Path) -> None:
    """With a connection for each process, as its documentation asks for."""
    with sqlite3.connect(tmp_path / "x.db") as made:
        made.execute("create table images (number integer primary key, content blob)")
        made.executemany("insert into images values (?, ?)", ((number, bytes(3_000_000)) for number in range(24)))
    made.close()
    opened: list[Any] = []

    def read(index: int) -> Any:
        if not opened:
            opened.append(sqlite3.connect(tmp_path / "x.db"))
        (content,) = opened[0].execute("select content from images where number = ?", (index,)).fetchone()
        return torch.tensor(content[0])

    found = rows(DataLoader(Reader(read), 4))
    opened[0].close()
    assert found["storage"] > found["getitem"]
    assert not hasattr(sqlite3.connect, instrument.MARK)


class Reader(Dataset[Any]):
    def __init__(self, function: Any) -> None:
        self.function = function

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> Any:
        return self.function(index)
