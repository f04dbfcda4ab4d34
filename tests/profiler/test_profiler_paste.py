"""Each recommendation's lines are pasted below a user's loader and run: the batches stay the same."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.profiler.judge.advice import IDS, Advice
from gpuaug.profiler.judge.apply import move
from gpuaug.profiler.judge.paste import (
    AS_TENSORS,
    late_floats,
    one_thread,
    packable,
    packed_code,
    rebuilt,
    stacks,
    with_arguments,
)  # fmt: skip
from gpuaug.profiler.session import measure
from tests.support import profiler_cases as cases

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STILL = [v2.Resize((24, 24), antialias=True), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]


def pasted(loader: Any, code: str) -> Any:
    """What `loader` is after the lines."""
    names: dict[str, Any] = {"loader": loader}
    exec(compile(code, "pasted", "exec"), names)
    return names["loader"]


def first(loader: Any) -> Any:
    return next(iter(loader))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the packaged photographs, in two classes."""
    root = tmp_path_factory.mktemp("my photos") / "train"
    for number, path in enumerate(sorted((Path(ga.__file__).parent / "demo" / "assets").glob("*.jpg"))):
        target = root / f"class {number % 2}" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return root


# ---- a loader, written down ----------------------------------------------------------------------------------------


def seed(worker: int) -> None:
    random.seed(worker)


LOADERS: dict[str, Callable[[Any], DataLoader[Any]]] = {
    "in order": lambda data: DataLoader(data, 4),
    "shuffled": lambda data: DataLoader(data, 4, shuffle=True, generator=torch.Generator().manual_seed(3)),
    "last one dropped": lambda data: DataLoader(data, 5, drop_last=True, collate_fn=list, pin_memory_device=""),
    "a sampler": lambda data: DataLoader(data, 4, sampler=[5, 3, 1, 0]),
    "random with replacement": lambda data: DataLoader(data, 4, sampler=RandomSampler(data, True, 9)),
    "sampler of batches": lambda data: DataLoader(data, batch_sampler=BatchSampler(SequentialSampler(data), 3, True)),
    "one by one": lambda data: DataLoader(data, None),
    "workers": lambda data: DataLoader(
        data, 2, num_workers=2, prefetch_factor=3, persistent_workers=True, worker_init_fn=seed, timeout=9,
        multiprocessing_context="fork", in_order=False,
    ),
    "a stream": lambda data: DataLoader(cases.Stream(), 4, drop_last=True),
}  # fmt: skip


def settings(loader: DataLoader[Any]) -> dict[str, Any]:
    names = (
        "batch_size", "num_workers", "collate_fn", "pin_memory", "drop_last", "timeout", "worker_init_fn", "generator",
        "prefetch_factor", "persistent_workers", "pin_memory_device", "in_order", "dataset",
    )  # fmt: skip
    found = {name: getattr(loader, name) for name in names}
    context = loader.multiprocessing_context
    return found | {"sampler": type(loader.sampler), "context": getattr(context, "_name", context)}


@pytest.mark.parametrize("kind", LOADERS)
def test_a_loader_is_made_again_as_it_is(kind: str) -> None:
    loader = LOADERS[kind](cases.Numbers(12))
    again = pasted(loader, rebuilt(loader))
    assert again is not loader
    assert settings(again) == settings(loader)
    if kind not in ("random with replacement", "workers", "a stream"):  # these draw
        states = [getattr(loader.generator, "get_state", lambda: None)()]
        before = [str(batch) for batch in loader]
        if states[0] is not None:
            loader.generator.set_state(states[0])  # type: ignore[union-attr]
        assert [str(batch) for batch in again] == before


@pytest.mark.parametrize("kind", LOADERS)
def test_one_argument_changes_and_the_others_stay(kind: str) -> None:
    loader = LOADERS[kind](cases.Numbers(12))
    again = pasted(loader, rebuilt(loader, num_workers="1"))
    assert again.num_workers == 1
    kept = settings(loader) | {"num_workers": 1}
    if not loader.num_workers:
        kept["prefetch_factor"] = 2
    assert settings(again) == kept
    alone = pasted(loader, rebuilt(loader, num_workers="0"))
    assert alone.num_workers == 0
    assert settings(alone)["sampler"] == settings(loader)["sampler"]


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
def test_stateful_loaders_stay_stateful() -> None:
    module = pytest.importorskip("torchdata.stateful_dataloader")
    loader = module.StatefulDataLoader(cases.Numbers(12), 4, num_workers=1)
    again = pasted(loader, rebuilt(loader, num_workers="2"))
    assert type(again) is module.StatefulDataLoader
    assert again.num_workers == 2


class Own(DataLoader[Any]):
    """A user's subclass, whose constructor is unknown."""


def test_a_class_of_the_users_own_gets_a_comment() -> None:
    code = with_arguments(Own(cases.Numbers(8), 4), num_workers="2")
    assert code == "# where the loader is made: DataLoader(..., num_workers=2)"
    assert not Advice("num-workers", "", None, code).is_code
    assert Advice("num-workers", "", None, rebuilt(DataLoader(cases.Numbers(8), 4))).is_code


# ---- each kind ------------------------------------------------------------------------------------------------------


class Photos(Dataset[Any]):
    """Images of their own sizes, as ImageFolder gives them."""

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        return self.transform(torch.full((3, 30 + index, 40), 10 * index, dtype=torch.uint8)), index


def close(one: Any, other: Any) -> bool:
    """The same labels, and images that differ by a level of 255 at most."""
    return torch.equal(one[1], other[1]) and float((one[0] - other[0]).abs().max()) < 0.02


def transform(*before: Any) -> Any:
    return v2.Compose([*before, *STILL])


class Held(Dataset[Any]):
    """Holds another data set, as a user's own class does; its transform is a property that must not be called."""

    def __init__(self, photos: Any) -> None:
        self.photos = photos
        self.sizes = [1, 2]

    @property
    def transform(self) -> Any:
        raise AssertionError("a property was called")

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Any:
        return self.photos[index]


@pytest.mark.parametrize("kind", ["plain", "subset", "folder", "held"])
def test_augmentation_moves(kind: str, folder: Path) -> None:
    if kind == "folder":
        data: Any = ImageFolder(folder, transform(v2.PILToTensor()))
    else:
        data = Photos(transform())
    data = Held(Subset(data, range(4))) if kind == "held" else Subset(data, range(4)) if kind == "subset" else data
    loader = DataLoader(data, 4)
    before = first(loader)
    code = move(loader, torch.device("cpu")).code
    assert close(first(pasted(loader, code)), before), code
    assert ("loader.dataset.photos.dataset.transform" in code) == (kind == "held")


def test_a_folder_is_packed(folder: Path) -> None:
    """The command that the comment names is run, then the lines."""
    loader = DataLoader(ImageFolder(folder, transform(v2.PILToTensor())), 4, shuffle=False)
    before = first(loader)
    assert packable(loader.dataset) == str(folder)
    code = packed_code(loader, str(folder), move(loader, torch.device("cpu")))
    assert code is not None
    command = next(line for line in code.splitlines() if "in a shell" in line).partition(": gpuaug ")[2]
    done = subprocess.run(
        f"{sys.executable} -m gpuaug {command} --short-side 0", shell=True, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert close(first(pasted(loader, code)), before)


def test_gpuaugs_own_folder_is_packed_too(folder: Path) -> None:
    loader = DataLoader(ga.data.ImageFolder(folder), 2, collate_fn=ga.ragged_collate, shuffle=True)
    code = packed_code(loader, str(folder), None)
    assert code is not None
    assert "Augment" not in code
    assert "shuffle=True" in code
    assert "collate_fn=loader.collate_fn" in code


@pytest.mark.parametrize("data", [Photos(transform()), cases.Numbers(8), Subset(Photos(transform()), [0, 1])])
def test_what_gpuaug_pack_cannot_read_is_not_to_be_packed(data: Any) -> None:
    assert packable(data) is None


def test_floats_are_made_later() -> None:
    data = Photos(v2.Compose([v2.ToImage(), v2.CenterCrop(20), *STILL[1:]]))
    loader = DataLoader(Subset(data, range(8)), 4)
    before = first(loader)
    code = late_floats(loader)
    assert code is not None
    later = pasted(loader, code)
    assert close(first(later), before)
    assert first(loader)[0].dtype == torch.uint8, "what the workers send"


@pytest.mark.parametrize(
    "steps",
    [
        [v2.ToImage(), v2.CenterCrop(20)],
        [v2.CenterCrop(20), *STILL[1:]],  # does the data set give tensors?
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.RandomErasing()],
    ],
)
def test_floats_are_left_where_moving_them_would_change_the_batch(steps: list[Any]) -> None:
    assert late_floats(DataLoader(Photos(v2.Compose(steps)), 4)) is None
    assert late_floats(DataLoader(Photos(v2.Compose([v2.ToImage(), *STILL[1:]])), 4, collate_fn=list)) is None
    assert late_floats(DataLoader(cases.Numbers(8), 4)) is None


class Arrays(cases.Numbers):
    def __getitem__(self, index: Any) -> Any:
        return {"x": np.full(3, index), "name": str(index)}


def as_arrays(samples: list[Any]) -> Any:
    return {"x": np.stack([sample["x"] for sample in samples]), "name": [sample["name"] for sample in samples]}


def test_arrays_become_tensors() -> None:
    loader = DataLoader(Arrays(8), 4, collate_fn=as_arrays)
    later = first(pasted(loader, with_arguments(loader, AS_TENSORS, collate_fn="as_tensors")))
    assert torch.equal(later["x"], torch.from_numpy(first(loader)["x"]))
    assert later["name"] == list("0123")


def slowly(samples: list[Any]) -> Any:
    """As default_collate, in its own way."""
    return [torch.stack([sample[k] if k == 0 else torch.tensor(sample[k]) for sample in samples]) for k in (0, 1)]


def test_a_collate_function_is_replaced_only_by_one_that_gives_the_same() -> None:
    assert stacks(DataLoader(cases.Numbers(8), 4, collate_fn=slowly))
    assert not stacks(DataLoader(cases.Numbers(8), 4, collate_fn=tuple))
    assert not stacks(DataLoader(cases.Numbers(8), 4))
    assert not stacks(DataLoader(cases.Stream(), 4, collate_fn=slowly))
    loader = DataLoader(cases.Numbers(8), 4, collate_fn=slowly)
    code = with_arguments(loader, "from torch.utils.data import default_collate", collate_fn="default_collate")
    assert str(first(pasted(loader, code))) == str(first(loader))


class Threads(cases.Numbers):
    def __getitem__(self, index: Any) -> Any:
        return torch.get_num_threads(), random.random()


def test_workers_get_one_thread_and_keep_their_init_function() -> None:
    loader = DataLoader(Threads(4), 2, num_workers=1, worker_init_fn=seed)
    threads, drawn = first(pasted(loader, with_arguments(loader, one_thread(loader), worker_init_fn="one_thread")))
    random.seed(0)
    assert threads.tolist() == [1, 1]
    assert drawn[0] == pytest.approx(random.random())


# ---- all of them ----------------------------------------------------------------------------------------------------


def test_a_real_profile_recommends_lines_that_run(folder: Path) -> None:
    """What is recommended for torchvision's folder compiles, and changes `loader` where it is code."""
    data = ImageFolder(folder, v2.Compose([v2.PILToTensor(), v2.RandomResizedCrop(64), *STILL[1:]]))
    loader = DataLoader(Subset(data, [0, 1, 2, 3, 4, 5] * 20), 4, shuffle=True)
    report = measure(loader, budget=4.0, proof=False)
    assert {one.id for one in report.advice} <= IDS.keys()
    assert any(one.is_code for one in report.advice)
    for one in report.advice:
        compile(one.how, one.id, "exec")
        if one.is_code and one.id != "pack-data":
            data.transform = v2.Compose([v2.PILToTensor(), v2.RandomResizedCrop(64), *STILL[1:]])
            again = DataLoader(Subset(data, range(6)), 4, shuffle=True)
            changed = pasted(again, one.how)
            assert changed is not again
            assert first(changed)[0].shape == (4, 3, 64, 64), one.id
