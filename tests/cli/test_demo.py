"""The command line, its three parts, and the picture."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import gpuaug as ga
from gpuaug.cli import main as cli
from gpuaug.demo import learning, photographs, speed
from gpuaug.demo.preview import captions, levels, preview
from tests.support.helpers import used

typer_testing = pytest.importorskip("typer.testing")
pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

FLOATS = [ga.ToDtype(torch.float32, scale=True), ga.Normalize(speed.MEAN, speed.STD)]


def invoke(*arguments: object) -> Any:
    return typer_testing.CliRunner().invoke(cli.app(), list(map(str, arguments)))


def image_folder(root: Path, classes: int, copies: int) -> Path:
    for number in range(classes):
        (root / f"class{number}").mkdir(parents=True)
        for copy in range(copies):
            shutil.copyfile(photographs.paths()[number], root / f"class{number}" / f"{copy}.jpg")
    return root


def test_demo(tmp_path: Path) -> None:
    result = invoke("demo", "--quick", "--out", tmp_path / "shown.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "shown.png").stat().st_size > 100_000
    for name in (speed.TORCHVISION, speed.GPUAUG, speed.DECODE):
        assert re.search(rf"{name} +\d+ +\d+ +\d+", result.output), result.output
    assert re.search(r"not augmented +\d+\.\d% ", result.output)
    assert re.search(r"It (helps|does not help)", result.output)
    assert max(map(len, result.output.splitlines())) <= 80


def test_demo_of_a_folder(tmp_path: Path) -> None:
    data = image_folder(tmp_path / "data", classes=2, copies=4)
    result = invoke("demo", "--quick", "--data", data, "--out", tmp_path / "shown.png", "--backend", "torch")
    assert result.exit_code == 0, result.output
    assert "Backend torch" in result.output
    assert "2 classes of data, 4 labels" in result.output


def test_a_folder_without_images(tmp_path: Path) -> None:
    result = invoke("demo", "--data", tmp_path)
    assert result.exit_code == 1
    assert "demo: `data` must be a folder that contains images" in result.output


def test_a_folder_with_too_few_images_to_learn(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two classes of at least 4 images"):
        learning.folder(image_folder(tmp_path, classes=3, copies=1))


def test_version_and_help() -> None:
    assert invoke("--version").output == f"gpuaug {ga.__version__}\n"
    assert "demo" in invoke("--help").output


def test_missing_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sklearn" else find(name))
    assert 'needs scikit-learn. Run pip install "gpuaug[demo]"' in invoke("demo").output


@pytest.mark.parametrize(
    ("none", "augmented", "says"),
    [
        (
            [90.0, 91.0, 92.0],
            [94.0, 95.0, 96.0],
            "It helps: +4.0 points on average, better with each of 3 seeds.",
        ),
        (
            [90.0, 91.0, 92.0],
            [94.0, 90.0, 96.0],
            "It helps on average (+2.3 points), but only with 2 of 3 seeds.",
        ),
        (
            [90.0, 91.0, 92.0],
            [90.0, 90.0, 93.0],
            "It does not help: +0.0 points on average, better with 1 of 3 seeds.",
        ),
        (
            [90.0, 91.0, 92.0],
            [80.0, 81.0, 93.0],
            "It does not help: -6.3 points on average, better with 1 of 3 seeds.",
        ),
    ],
)
def test_the_verdict_follows_from_the_numbers(none: list[float], augmented: list[float], says: str) -> None:
    from gpuaug.demo.run import verdict

    assert verdict(none, augmented) == says


def test_a_task_splits_each_class() -> None:
    task = learning.digits(per_class=7)
    train, test = task.split(seed=1)
    assert torch.equal(task.labels[train].bincount(), torch.full((10,), 7))
    assert len(train) + len(test) == len(task.labels) == 1797
    assert not set(train.tolist()) & set(test.tolist())
    assert not torch.equal(train, task.split(seed=2)[0])


# ---- preview ---------------------------------------------------------------------------------------------------------


def test_captions_say_what_was_drawn() -> None:
    augment = ga.Augment(
        train=[ga.RandomCrop(32), ga.RandomHorizontalFlip(), ga.RandAugment(), ga.JPEG((20, 90)), *FLOATS]
    )
    images = torch.zeros(64, 3, 40, 40, dtype=torch.uint8)
    draw = augment.sample(images)
    found = captions(augment.train_pipeline.steps, draw.params, 64)
    _, flip, policy, jpeg, *_ = draw.params
    for sample, caption in enumerate(found):
        assert ("flip" in caption.split(" · ")) == flip["applied"][sample]
        assert f"JPEG quality {jpeg['quality'][sample]}" in caption
        assert ("Rotate" in caption) == (5 in policy["ops"][sample])
    assert any("Rotate −9°" in caption for caption in found)
    assert any("Color ×1.27" in caption for caption in found)


def test_captions_know_every_transform() -> None:
    steps = [
        ga.RandomResizedCrop(32), ga.RandomApply([ga.RandomInvert(p=1)], p=1), ga.RandomOrder([ga.GaussianNoise()]),
        ga.RandomChoice([ga.GaussianBlur(3), ga.RandomEqualize(p=1)]), ga.ColorJitter(0.4, 0.4, 0.4, 0.1), ga.AugMix(),
        ga.RandomPerspective(p=1), ga.RandomAffine(10), ga.MotionBlur(5, 30, 0.5, p=1), ga.RandomChannelPermutation(),
        *FLOATS, ga.RandomErasing(p=1), ga.MixUp(num_classes=3),
    ]  # fmt: skip
    augment = ga.Augment(train=steps)
    draw = augment.sample(torch.zeros(8, 3, 40, 40, dtype=torch.uint8))
    for caption in captions(augment.train_pipeline.steps, draw.params, 8):
        words = ("crop", "Invert", "noise", "hue", "AugMix", "Perspective", "affine", "motion blur", "erase", "MixUp")
        assert all(word in caption for word in words), caption
        assert ("blur " in caption.replace("motion blur", "")) != ("Equalize" in caption)


def test_levels_undo_the_floats() -> None:
    images = torch.arange(256, dtype=torch.uint8).expand(2, 3, 8, 256).contiguous()
    augment = ga.Augment(train=FLOATS)
    assert torch.equal(levels(augment.train_pipeline, augment(images)), images)


@pytest.mark.parametrize("name", ["picture.png", "picture.jpg"])
def test_preview_leaves_the_module_as_it_was(tmp_path: Path, name: str) -> None:
    from PIL import Image

    mix = ga.CutMix(num_classes=4)
    augment = ga.Augment(train=[ga.RandomResizedCrop(64), *FLOATS, mix]).eval()
    before = used(augment)
    path = preview(augment, photographs.photographs()[:2], tmp_path / name, columns=2, epoch=3)
    assert not augment.training
    assert used(augment) == before
    with Image.open(path) as picture:
        assert picture.width == 1200


def test_preview_of_equal_sizes_needs_no_crop(tmp_path: Path) -> None:
    assert preview(
        ga.Augment(train=[ga.RandomHorizontalFlip()]), photographs.photographs()[:1], tmp_path / "p.png"
    ).exists()


def test_preview_of_nothing() -> None:
    with pytest.raises(ValueError, match="preview: `images` must be at least one image, got none"):
        preview(ga.Augment(train=[ga.RandomHorizontalFlip()]), [], "p.png")
