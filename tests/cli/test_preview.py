"""`gpuaug preview`: the picture, the page, what is chosen and drawn, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import gpuaug as ga
from gpuaug.cli import main as cli
from gpuaug.demo import photographs
from gpuaug.sheet.inputs import as_images
from gpuaug.sheet.lists import of_object, of_recipe, recipes
from gpuaug.sheet.marks import Marks, picture
from gpuaug.sheet.tiles import tiles

typer_testing = pytest.importorskip("typer.testing")
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

SCRIPT = """
import gpuaug as ga
def make(size, strength):
    return [ga.RandomResizedCrop(size), ga.RandAugment(2, round(10 * strength))]
def fixed():
    return [ga.RandomResizedCrop(40), ga.RandomHorizontalFlip()]
def views(size, strength=1.0):
    return [[ga.Resize((size, size))], [ga.RandomCrop(size), ga.RandomInvert(p=strength)]]
def broken(strength):
    raise RuntimeError("no list today")
LIST = fixed()
MODULE = ga.Augment([ga.RandomResizedCrop(40), ga.RandomHorizontalFlip()], seed=7)
NUMBER = 3
MULTI = ga.MultiView([[ga.RandomResizedCrop(40)], [ga.RandomResizedCrop(40), ga.RandomInvert(p=1.0)]], seed=7)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "images" / "deep").mkdir(parents=True)
    for number, path in enumerate(photographs.paths()):
        shutil.copyfile(path, tmp_path / "images" / ("deep" if number % 2 else "") / path.name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # and the path is as before after the test
    monkeypatch.delitem(sys.modules, "script", raising=False)
    yield tmp_path
    sys.modules.pop("script", None)


def invoke(*arguments: object) -> Any:
    return typer_testing.CliRunner().invoke(cli.app(), ["preview", *map(str, arguments)])


def test_a_picture_and_a_page_of_a_function_of_the_strength(folder: Path) -> None:
    result = invoke("images", "--list", "script.py:make", "--strength", 0.6, "--size", 40, "--columns", 2,
                    "--images", 2, "--html", "page.html", "--out", "sheet.png")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "Wrote sheet.png: script.py:make, strength 0.6, 2 versions of 2 images." in result.output
    assert "Wrote page.html, with a slider over 6 strengths." in result.output
    with Image.open("sheet.png") as sheet:
        assert sheet.width == 1200
    page = Path("page.html").read_text(encoding="utf-8")
    assert 'const labels = ["0", "0.25", "0.5", "0.6", "0.75", "1"];' in page
    assert page.count("<img ") == 2 * (1 + 2 * 6)
    assert "RandAugment(magnitude=6)" in page
    assert "RandAugment(magnitude=10)" in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize("name", ["fixed", "LIST", "MODULE"])
def test_without_a_strength_there_is_one_version(folder: Path, name: str) -> None:
    files = photographs.paths()[:1]
    result = invoke(*files, "--list", f"script.py:{name}", "--columns", 3, "--html", "page.html")
    assert result.exit_code == 0, result.output
    assert "Wrote preview.png: script.py:" in result.output
    assert "slider" not in result.output
    assert Path("page.html").read_text(encoding="utf-8").count("<img ") == 4


def test_a_configuration_is_shown(folder: Path) -> None:
    Path("list.json").write_text('{"train": [{"RandomResizedCrop": {"size": 40}}, "RandomInvert"]}', encoding="utf-8")
    result = invoke("images", "--list", "list.json", "--images", 1, "--seed", 0, "--html", "page.html")
    assert result.exit_code == 0, result.output
    assert "Wrote preview.png: list.json, 4 versions of 1 image." in result.output
    assert "RandomInvert" in Path("page.html").read_text(encoding="utf-8")
    assert "preview: `--list` must name a file, and there is no file" in invoke("images", "--list", "no.yaml").output


def test_the_seed_is_that_of_the_module_unless_one_is_given(folder: Path) -> None:
    module = ga.Augment([ga.RandomHorizontalFlip()], seed=7)
    assert of_object("m", module, 40, None).at(1.0, None).seed == 7
    assert of_object("m", [ga.RandomHorizontalFlip()], 40, None).at(1.0, None).seed == 0
    assert of_object("m", lambda strength: [ga.RandomHorizontalFlip()], 40, None).at(1.0, 5).seed == 5
    first, again, other = (
        invoke("images", "--list", "script.py:LIST", "--images", 1, "--out", f"{seed}{n}.png", "--seed", seed)
        for n, seed in enumerate((3, 3, 4))
    )
    assert first.exit_code == again.exit_code == other.exit_code == 0
    assert Path("30.png").read_bytes() == Path("31.png").read_bytes() != Path("42.png").read_bytes()


def test_a_view_is_chosen(folder: Path) -> None:
    for view, expected in ((None, "Resize"), (2, "RandomInvert")):
        more = [] if view is None else ["--view", view]
        result = invoke("images", "--list", "script.py:views", "--size", 32, "--images", 1, "--html", "p.html", *more)
        assert result.exit_code == 0, result.output
        assert expected in Path("p.html").read_text(encoding="utf-8")
    assert "`--view` must be an integer in [1, 2], got 3" in invoke(
        "images", "--list", "script.py:views", "--view", 3
    ).output  # fmt: skip
    assert "`--view` must be left out for a single list, got 1" in invoke(
        "images", "--list", "script.py:LIST", "--view", 1
    ).output  # fmt: skip


def test_a_function_of_any_kind_gets_strength_and_size(folder: Path) -> None:
    def make(size: int, angle: float, strength: float = 1.0) -> list[Any]:
        return [ga.Resize((size, size)), ga.RandomRotation(angle * strength)]

    class Maker:
        def __call__(self, size: int, strength: float) -> list[Any]:
            return make(size, 40, strength)

    for value in (partial(make, angle=40), Maker()):
        lists = of_object("m", value, 24, None)
        assert lists.has_strength
        assert lists.at(0.5, None).train_pipeline.steps == (ga.Resize((24, 24)), ga.RandomRotation(20.0))


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes of which one can be told from another."""

    def standard(size: int, *, num_classes: int | None = None, strength: float = 1.0) -> list[Any]:
        mixes = [] if num_classes is None else [ga.MixUp(num_classes=num_classes)]
        return [ga.RandomResizedCrop(size), ga.RandAugment(2, round(9 * strength)), *mixes]

    module = ModuleType("gpuaug.recipes")
    vars(module).update(__all__=["NAMES", "at_strength", "standard", "plain"], NAMES={}, standard=standard)
    vars(module).update(plain=lambda size: [ga.Resize((size, size))], at_strength=lambda steps, strength: steps)
    monkeypatch.setitem(sys.modules, "gpuaug.recipes", module)
    monkeypatch.setattr(ga, "recipes", module, raising=False)  # also if another test has imported it


def test_the_views_of_a_multi_view(folder: Path) -> None:
    for number, step in ((1, "RandomResizedCrop"), (2, "RandomInvert")):
        options = ("--list", "script.py:MULTI", "--view", number, "--size", 40, "--columns", 1, "--html", "page.html")
        result = invoke("images", *options)
        assert result.exit_code == 0, result.output
        assert step in Path("page.html").read_text(encoding="utf-8")
    for number in (0, 3):
        result = invoke("images", "--list", "script.py:MULTI", "--view", number, "--size", 40)
        assert result.exit_code == 1
        assert f"preview: `--view` must be an integer in [1, 2], got {number}." in result.output


def test_a_folder_whose_name_ends_like_an_image_is_none(folder: Path) -> None:
    Path("images/thumbnails.jpg").mkdir()
    result = invoke("images", "--list", "script.py:LIST", "--columns", 1, "--images", 64)
    assert result.exit_code == 0, result.output


def test_a_recipe_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    result = invoke("images", "--strength", 0.7, "--size", 32, "--images", 2, "--columns", 1, "--html", "p.html")
    assert result.exit_code == 0, result.output
    assert "Wrote preview.png: standard, strength 0.7, 1 version of 2 images." in result.output
    page = Path("p.html").read_text(encoding="utf-8")
    assert "RandAugment(magnitude=6)" in page
    assert "MixUp(num_classes=1000)" in page
    assert "A bar under an image" in page
    result = invoke("images", "--size", 32, "--images", 2, "--columns", 1, "--html", "p.html", "--no-mix")
    assert result.exit_code == 0, result.output
    assert "MixUp" not in Path("p.html").read_text(encoding="utf-8")
    result = invoke("images", "--recipe", "plain", "--size", 32, "--images", 1, "--html", "p.html")
    assert "Wrote preview.png: plain, 4 versions of 1 image." in result.output
    unknown = invoke("images", "--recipe", "standart")
    assert unknown.exit_code == 1
    assert unknown.output == "preview: `--recipe` must be one of standard, plain, got 'standart'.\n"


def test_every_recipe_has_a_preview() -> None:
    if importlib.util.find_spec("gpuaug.recipes") is None:
        pytest.skip("this version has no recipes")
    images = as_images("preview", photographs.photographs()[:2])
    known = recipes()
    assert "standard" in known
    for name in known:
        for strength in (0.0, 1.0):
            augment = of_recipe(name, 32, True, None).at(strength, 0)
            rows = tiles("preview", augment, images, 1)
            assert [len(row) for row in rows] == [2, 2], name


def test_masks_and_boxes_are_drawn(folder: Path) -> None:
    (folder / "masks").mkdir()
    boxes = {}
    for path in photographs.paths():
        with Image.open(path) as image:
            mask = np.zeros((image.height, image.width), np.uint8)
            mask[:, : image.width // 2] = 1
        Image.fromarray(mask).save(folder / "masks" / f"{path.stem}.png")
        boxes[path.name] = [[10, 20, 200, 250]]
    (folder / "boxes.json").write_text(json.dumps(boxes))
    common = ["images", "--list", "script.py:LIST", "--images", 2, "--columns", 1, "--out"]
    assert invoke(*common, "plain.png").exit_code == 0
    result = invoke(*common, "drawn.png", "--masks", "masks", "--boxes", "boxes.json")
    assert result.exit_code == 0, result.output
    with Image.open("plain.png") as first, Image.open("drawn.png") as second:
        assert first.size == second.size
        changed = (np.array(first) != np.array(second)).any(axis=2)
    assert 0.05 < changed.mean() < 0.9


def test_marks_are_drawn_in_their_colours() -> None:
    image: Tensor = torch.zeros(3, 100, 200, dtype=torch.uint8)
    numbers = np.zeros((100, 200), np.int64)
    numbers[:, 150:] = 1
    marks = Marks(np.array([[10.0, 10, 60, 80]]), np.array([[100.0, 50]]), [(numbers, 1.0)])
    drawn = np.array(picture(image, marks, 100, 200)).astype(int)
    assert drawn[50, 180].tolist() == [132, 125, 36]  # 0.55 of the first colour
    assert drawn[50, 140].tolist() == [0, 0, 0]
    assert drawn[50, 100].tolist() == [240, 228, 66]
    assert drawn[10, 30].tolist() == [31, 35, 40]
    assert drawn[12, 30].tolist() == [240, 228, 66]
    assert drawn[79, 30].tolist() == [31, 35, 40]
    assert drawn[81, 30].tolist() == [0, 0, 0]
    half = np.array(picture(image, marks, 50, 100)).astype(int)
    assert half.shape == (50, 100, 3)
    assert half[6, 15].tolist() == [240, 228, 66]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.jpg"], "preview: `FILES` must be images or folders that exist, got nothing.jpg"),
        (["empty"], "preview: `FOLDER` must be a folder that contains images, got empty"),
        (["images", "--out", "no/such.png"], "preview: `--out` must be a file in a folder that exists"),
        (["images", "--out", "a.txt"], "preview: `--out` must be a file ending in .png or .jpg"),
        (["images", "--html", "empty"], "preview: `--html` must be a file in a folder that exists"),
        (["images", "--recipe", "standard"], "preview: `--recipe` must be left out with --list"),
        (["images", "--epoch", "-1"], "`epoch` must be an integer in"),
        (["images", "--strength", "0.5"], "preview: `--strength` must be left out, as script.py:LIST has no argument"),
        (["images", "--no-mix"], "preview: `--no-mix` must be left out with --list"),
        (["images", "--list", "script.py:other"], "preview: `--list` must be a name in script.py"),
        (["images", "--list", "other.py:make"], "there is no file other.py"),
        (["images", "--list", "script.py:NUMBER"], "preview: `--list` must be an Augment or a list of transforms"),
        (["images", "--list", "script.py:broken"], "preview: script.py:broken raised at strength 1: RuntimeError: no"),
        (["images", "--masks", "empty"], "preview: `--masks` must be a folder with a PNG of the same name"),
        (["images", "--masks", "coloured"], "preview: `--masks` must be class numbers of"),
        (["images", "images", "--masks", "coloured"], "preview: `--masks` must be for images of different names"),
        (["images", "images", "--boxes", "wrong.json"], "preview: `--boxes` must be for images of different names"),
        (["images", "--boxes", "script.py"], "preview: `--boxes` must be JSON such as"),
        (["images", "--boxes", "others.json"], "preview: `--boxes` must be boxes by the names of the images"),
        (["images", "--boxes", "wrong.json"], "preview: `--boxes` must be JSON such as"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(folder: Path, arguments: list[str], message: str) -> None:
    (folder / "empty").mkdir()
    (folder / "coloured").mkdir()
    for path in photographs.paths():
        Image.new("RGB", (8, 8)).save(folder / "coloured" / f"{path.stem}.png")
    (folder / "others.json").write_text('{"other.jpg": [[1, 2, 3, 4]]}')
    (folder / "wrong.json").write_text(json.dumps({path.name: [[1, 2, 3]] for path in photographs.paths()}))
    more = [] if "--list" in arguments else ["--list", "script.py:LIST"]
    before = sorted(folder.rglob("*.png"))
    result = invoke(*arguments, *more)
    assert result.exit_code == 1, result.output
    assert message in result.output
    assert len(result.output.splitlines()) == 1
    assert sorted(folder.rglob("*.png")) == before


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jinja2" else find(name))
    assert 'needs jinja2. Run pip install "gpuaug[demo]"' in invoke("images").output
