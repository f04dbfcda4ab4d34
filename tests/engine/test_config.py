"""Configurations: every op goes through JSON and YAML and comes back equal, and a mistake is named with its place."""

from __future__ import annotations

import builtins
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.recipes import NAMES
from gpuaug.recipes.config import OWN_ERROR
from gpuaug.transforms.base import Transform
from tests.support.bad_configs import BAD
from tests.support.helpers import noise
from tests.support.ops import ROWS

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

FLOATS = [ga.ToDtype(torch.float32, scale=True), ga.Normalize((0.45,), (0.225,))]
LISTS = [
    (kind, number, list(listed) if isinstance(listed, list) else [*row.before, listed])
    for kind, row in ROWS.items()
    for number, listed in enumerate([row.example, *row.ops])
]


def forms(augment: ga.Augment) -> list[dict[str, Any]]:
    """What `to_dict` says, through JSON and through YAML."""
    plain = augment.to_dict()
    return [json.loads(json.dumps(plain)), yaml.safe_load(yaml.safe_dump(plain))]


def equal(augment: ga.Augment, other: ga.Augment) -> bool:
    names = ("backend", "memory_format", "exact", "mask_fill", "erase_masks", "flip_pairs", "same")
    return (
        augment.train_pipeline.steps == other.train_pipeline.steps
        and augment.train_pipeline.numbers == other.train_pipeline.numbers
        and augment.eval_pipeline.steps == other.eval_pipeline.steps
        and all(getattr(augment, name) == getattr(other, name) for name in names)
        and repr(augment) == repr(other)
    )


# ---- round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "number", "steps"), LISTS, ids=lambda part: getattr(part, "__name__", None))
def test_every_op_comes_back_equal(kind: type, number: int, steps: list[Transform]) -> None:
    augment = ga.Augment(steps, eval=[], seed=3)
    assert kind in map(type, [*augment.train_pipeline.steps, *steps])
    for form in forms(augment):
        assert equal(ga.from_dict(form), augment)


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_comes_back_equal(name: str) -> None:
    found = NAMES[name](64)
    for steps in found if isinstance(found[0], list) else [found]:
        augment = ga.Augment(steps)
        assert all(equal(ga.from_dict(form), augment) for form in forms(augment))


def test_every_argument_of_the_module_comes_back() -> None:
    augment = ga.Augment(
        [ga.RandomHorizontalFlip(), *FLOATS], eval=[ga.Resize((8, 9)), *FLOATS], seed=2**63, backend="torch",
        memory_format=torch.channels_last, exact=True, mask_fill=255, erase_masks=True, flip_pairs=[(1, 2), (3, 4)],
        same=[["front", "depth"], ["left", "right"]],
    )  # fmt: skip
    for form in forms(augment):
        other = ga.from_dict(form)
        assert equal(other, augment)
        assert torch.equal(other(noise()), ga.Augment([ga.RandomHorizontalFlip(), *FLOATS], seed=2**63)(noise()))
    assert ga.from_dict({"train": []}).to_dict() == {"_target_": "gpuaug.Augment", "train": []}


def test_none_comes_back_where_it_is_a_value() -> None:
    augment = ga.Augment([ga.RandomResizedCrop(9, antialias=None)], eval=[ga.Resize((8, 9), antialias=None)], seed=1)
    for form in forms(augment):
        assert equal(ga.from_dict(form), augment)
    with pytest.raises(ValueError, match="`exact` must be true or false, got None"):
        ga.from_dict({"train": [], "exact": None})


def test_replaced_lists_come_back_with_their_draws() -> None:
    augment = ga.Augment([ga.RandomRotation(20), ga.RandomInvert()], seed=1, backend="torch")
    augment.replace(train=[ga.RandomInvert(), ga.RandomSolarize(9)], eval=[ga.Resize(5)])
    for form in forms(augment):
        other = ga.from_dict(form)
        assert equal(other, augment)
        assert torch.equal(other(noise(), index=torch.arange(4)), augment(noise(), index=torch.arange(4)))
        augment.set_epoch(0)


def test_a_drawn_seed_is_not_written() -> None:
    assert "seed" not in ga.Augment([]).to_dict()


# ---- what is accepted ------------------------------------------------------------------------------------------------

CROP: dict[str, Any] = {"size": 24, "scale": [0.2, 1.0], "interpolation": "bicubic"}


@pytest.mark.parametrize(
    "step",
    [
        {"RandomResizedCrop": CROP},
        {"_target_": "gpuaug.RandomResizedCrop", **CROP},
        {"_target_": "gpuaug.transforms.crop.RandomResizedCrop", **CROP},
        MappingProxyType({"RandomResizedCrop": MappingProxyType(CROP)}),
    ],
)
def test_forms_of_a_step(step: Any) -> None:
    steps = ga.from_dict({"train": [step, "RandomHorizontalFlip", {"RandAugment": None}]}).train_pipeline.steps
    expected = (
        ga.RandomResizedCrop(24, (0.2, 1.0), interpolation="bicubic"),
        ga.RandomHorizontalFlip(),
        ga.RandAugment(),
    )
    assert steps == expected


@pytest.mark.parametrize("dtype", ["float32", "torch.float32", torch.float32])
def test_dtypes_and_memory_formats_are_strings(dtype: Any) -> None:
    config = {"train": [{"ToDtype": {"dtype": dtype}}], "memory_format": "torch.channels_last"}
    augment = ga.from_dict(config)
    assert augment.train_pipeline.steps == (ga.ToDtype(torch.float32),)
    assert augment.memory_format == torch.channels_last
    assert ga.from_dict({"train": [{"ToDtype": {"dtype": "auto"}}]}).train_pipeline.steps == (ga.ToDtype("auto"),)


def test_recipes_by_name() -> None:
    recipe = {"size": 24, "num_classes": 10, "strength": 0.5}
    expected = tuple(ga.recipes.standard(24, num_classes=10, strength=0.5))
    for train in ({"recipe": "standard", **recipe}, {"_target_": "gpuaug.recipes.standard", **recipe}):
        assert ga.from_dict({"train": train}).train_pipeline.steps == expected
        mixed = ga.from_dict({"train": ["RandomInvert", train], "eval": {"recipe": "cifar"}})
        assert mixed.train_pipeline.steps == (ga.RandomInvert(), *expected)
        assert mixed.eval_pipeline.steps == tuple(ga.recipes.cifar())
    view = ga.from_dict({"train": {"recipe": "dino", "view": 2, "local_size": 16}})
    assert view.train_pipeline.steps == tuple(ga.recipes.dino(local_size=16)[2])


def test_omegaconf_and_hydra() -> None:
    """Hydra's own instantiation makes the same steps."""
    omegaconf = pytest.importorskip("omegaconf", reason="OmegaConf is not installed")
    text = yaml.safe_dump(ga.Augment(ga.recipes.small_data(24, num_classes=3)).to_dict())
    config = omegaconf.OmegaConf.create(text)
    steps = ga.recipes.small_data(24, num_classes=3)
    assert ga.from_dict(config).train_pipeline.steps == tuple(steps)
    instantiate = pytest.importorskip("hydra.utils", reason="Hydra is not installed").instantiate
    for written, step in zip(config.train, steps, strict=True):
        if "dtype" not in written:
            assert instantiate(written, _convert_="all") == step


@pytest.mark.parametrize("ending", ["json", "yaml", "yml", "YAML"])
def test_files(ending: str, tmp_path: Path) -> None:
    path, augment = tmp_path / f"list.{ending}", ga.Augment(ga.recipes.standard(24), seed=1)
    dump = json.dumps if ending == "json" else yaml.safe_dump
    path.write_text(dump(augment.to_dict()), encoding="utf-8")
    assert equal(ga.from_file(path), augment)
    assert equal(ga.from_file(str(path)), augment)


# ---- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_named_with_its_place(name: str) -> None:
    config, text = BAD[name]
    with pytest.raises(ValueError) as caught:
        ga.from_dict(config)
    assert str(caught.value).startswith(f"from_dict: {text}"), caught.value


@pytest.mark.parametrize("kind", ROWS, ids=lambda kind: kind.__name__)
def test_wrong_values_of_every_op_name_their_place(kind: type) -> None:
    row, checked = ROWS[kind], 0
    for argument, values in row.bad_numbers.items():
        for value in values:
            if not isinstance(value, (int, float, str, tuple, list, type(None))):
                continue
            written = ga.Augment([row.example], eval=[]).to_dict() if not row.before else None
            step = (written or {"train": [ga.Augment([*row.before, row.example], eval=[]).to_dict()["train"][-1]]})[
                "train"
            ]  # type: ignore[index]
            changed = {**step[-1], **row.given.get(argument, {}), argument: value}  # type: ignore[dict-item]
            with pytest.raises(ValueError) as caught:
                ga.from_dict({"train": ["Identity", changed]})
            assert str(caught.value).startswith("from_dict: `train[1]"), caught.value
            checked += 1
    assert checked or not row.bad_numbers


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = {
        "a.txt": "",
        "b.json": "{",
        "c.yaml": "train: [",
        "d.yaml": "- 3",
        "e.json": '{"train": ["RandomInvert"], "seed": 1, "train": []}',
        "f.yaml": "train:\n- RandomInvert: {p: 0.1, p: 0.9}\n",
        "g.json": '{"train": ' + "[" * 100_000 + "]" * 100_000 + "}",
    }
    for name, text in bad.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    said = {
        "a.txt": "from_file: `path` must be a .json, .yaml or .yml file, got",
        "b.json": "from_file: `path` must be a file of JSON, got",
        "c.yaml": "from_file: `path` must be a file of YAML, got",
        "d.yaml": "from_dict: `config` must be a mapping with names as keys, got [3]",
        "e.json": "where the key 'train' stands twice.",
        "f.yaml": "where the key 'p' stands twice, in line 2.",
        "g.json": "which is too deep.",
    }
    for name, text in said.items():
        with pytest.raises(ValueError, match=re.escape(text)):
            ga.from_file(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"from_file: `path` must be a file that can be read, got .*none.json"):
        ga.from_file(tmp_path / "none.json")
    (tmp_path / "h.yaml").write_bytes(b"train: [] # \xff")
    with pytest.raises(ValueError, match=r"must be a file of UTF-8, got .*h.yaml, whose byte 12 is 0xff. Save it as"):
        ga.from_file(tmp_path / "h.yaml")
    (tmp_path / "i.json").write_text('{"train": []}', encoding="utf-8-sig")  # as editors on Windows write it
    assert not ga.from_file(tmp_path / "i.json").train_pipeline.steps
    imported = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name == "yaml":
            raise ImportError(name)
        return imported(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"from_file: YAML needs PyYAML. Run pip install pyyaml, or use JSON."):
        ga.from_file(tmp_path / "d.yaml")


class Mine(ga.RandomInvert, registered=False):
    """A user's transform."""


def test_what_cannot_be_written_is_named_all_at_once() -> None:
    steps = [ga.Opaque(v2.RandomRotation(3)), ga.RandomApply([Mine(), ga.RandomInvert()]), ga.Lambda(abs)]
    augment = ga.Augment(steps, eval=[])
    with pytest.raises(ValueError) as caught:
        augment.to_dict()
    text = str(caught.value)
    assert text.startswith(
        "Augment.to_dict: `train` must be of steps that can be written as text, got train[0].module is"
    )
    assert (
        "; train[1].transforms[0] is a Mine, which is not gpuaug's; train[2].lambd is <built-in function abs>" in text
    )
    assert text.endswith("put them in by `replace` where it is read.")
    matrix = ga.Augment([*FLOATS, ga.LinearTransformation(torch.eye(12), torch.zeros(12))])
    with pytest.raises(ValueError, match=r"train\[2\]\.transformation_matrix is float32 \(12, 12\)"):
        matrix.to_dict()


def test_a_schedule_cannot_be_written() -> None:
    augment = ga.Augment([ga.RandomInvert()])
    schedule = ga.Schedule(augment, lambda epoch: [ga.RandomInvert(0.1)])
    with pytest.raises(ValueError, match=r"Augment\.to_dict: `schedule` must be none, since it is a function, got one"):
        augment.to_dict()
    schedule.remove()
    assert augment.to_dict()["replace"] == {"train": [{"_target_": "gpuaug.RandomInvert", "p": 0.1}]}


def test_the_texts_of_the_library_have_places() -> None:
    """Errors of transforms have the form from which the argument is read."""
    with pytest.raises(ValueError) as caught:
        ga.RandomRotation((3, 1))
    assert OWN_ERROR.match(str(caught.value))
    assert isinstance({}, Mapping)
    assert isinstance([], Sequence)
