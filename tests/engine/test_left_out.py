"""What a default would lose in silence: a size in evaluation, and masks, boxes and key points beside moving steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.engine.evaluation import evaluation
from gpuaug.transforms.base import Canvas
from tests.support.helpers import CLASSES, build, labels, noise, used

K = pytest.importorskip("kornia.augmentation", reason="Kornia is not installed")
X = noise(4)
MIX = ga.MixUp(num_classes=CLASSES)

# ---- the evaluation list ---------------------------------------------------------------------------------------------

CHOICE = ga.RandomChoice([ga.RandomResizedCrop(16), ga.RandomCrop(16)])
LOSES: dict[str, list[Any]] = {
    "a choice of crops": [CHOICE],
    "an opaque resize": [ga.Opaque(v2.Resize((16, 16)))],
    "an opaque crop, then a crop": [K.RandomCrop((18, 18)), ga.CenterCrop(16)],
    "an opaque step that makes grey": [ga.RandomCrop(16), ga.Opaque(v2.Grayscale(1))],
    "an opaque step that cannot run here": [ga.Opaque(v2.RandomCrop(64))],
}


@pytest.mark.parametrize("name", LOSES)
def test_a_size_that_evaluation_would_lose(name: str) -> None:
    augment = ga.Augment(LOSES[name], backend="torch", seed=0).eval()
    for call in (lambda: augment(X), lambda: augment.sample(X), lambda: augment.eval_module(tuple(X.shape[2:]))):
        with pytest.raises(
            ValueError, match=r"^Augment: `eval` must be given, since .+ got None\. Pass eval=\[\.\.\.\]"
        ):
            call()
    with pytest.raises(ValueError, match="`eval` must be given"):
        next(iter(ga.DeviceLoader([(X,)], "cpu", augment, train=False)))
    assert ga.Augment(LOSES[name], eval=[ga.CenterCrop(16)]).eval()(X).shape == (4, 3, 16, 16)


def test_training_needs_no_evaluation_list() -> None:
    augment = ga.Augment([CHOICE], backend="torch", seed=0)
    assert augment(X).shape == (4, 3, 16, 16)


@pytest.mark.parametrize("step", [K.RandomRotation(10.0), ga.Opaque(v2.RandomInvert()), K.ColorJiggle(0.1)], ids=repr)
def test_opaque_steps_that_keep_the_shape_are_left_out(step: Any) -> None:
    augment = ga.Augment([ga.RandomCrop(16), step], backend="torch").eval()
    assert torch.equal(augment(X), ga.Augment([], eval=[ga.CenterCrop(16)]).eval()(X))


def test_a_choice_of_crops_that_agree() -> None:
    crops = [ga.RandomCrop(16, padding=2), ga.RandomCrop(16)]
    assert evaluation([ga.RandomChoice(crops)]) == [ga.CenterCrop(16)]
    assert evaluation([ga.RandomChoice([ga.RandomInvert(), ga.RandomSolarize(3)])]) == []


@pytest.mark.parametrize("op", ga.OPS, ids=lambda op: op.__name__)
def test_every_op_says_what_stays(op: Any) -> None:
    """What it says has the shapes that it has itself, and draws nothing."""
    step = build(op)
    canvas = Canvas(np.array([[24, 21]]), 3)
    counterpart = step.for_evaluation()
    assert counterpart is not None
    result = canvas
    for other in counterpart:
        assert other.draws == 0
        result = other.after(result)
    after = step.after(canvas)
    assert (result.sizes == after.sizes).all()
    assert result.channels == after.channels


# ---- labels beside steps that move pixels ----------------------------------------------------------------------------

MOVING: dict[str, Any] = {
    "flip": ga.RandomHorizontalFlip(),
    "crop": ga.RandomCrop(16),
    "resize": ga.Resize((16, 16)),
    "pad": ga.Pad(1),
    "warp": ga.RandomAffine(10),
    "perspective": ga.RandomPerspective(),
    "policy": ga.RandAugment(),
    "AugMix": ga.AugMix(),
    "container": ga.RandomApply([ga.RandomInvert(), ga.RandomChoice([ga.RandomInvert(), ga.RandomRotation(5)])]),
    "choice of crops": CHOICE,
    "opaque": K.RandomHorizontalFlip(),
    "opaque, of torchvision": ga.Opaque(v2.RandomRotation(10)),
    "opaque, unknown": ga.Opaque(v2.Lambda(lambda images: images)),
}
STILL: dict[str, Any] = {
    "colour": ga.ColorJitter(0.4),
    "noise": ga.GaussianNoise(),
    "blur": ga.GaussianBlur(3),
    "erasing": ga.RandomErasing(),
    "container": ga.RandomOrder([ga.RandomInvert(), ga.RandomEqualize()]),
    "opaque colour": K.ColorJiggle(0.1),
    "opaque colour, of torchvision": ga.Opaque(v2.RandomInvert()),
    "opaque, as it says": ga.Opaque(v2.Lambda(lambda images: images), moves=False),
}
TARGETS: dict[str, Any] = {
    "masks": torch.zeros(4, 24, 21, dtype=torch.uint8),
    "masks of floats": torch.zeros(4, 1, 24, 21),
    "boxes": torch.zeros(4, 2, 4),
    "a box each": torch.tensor([[0, 0, 9, 9]] * 4),
    "a box each, in int32": torch.tensor([[0, 0, 9, 9]] * 4, dtype=torch.int32),
    "key points of an array": np.zeros((4, 5, 2)),
    "of another length": torch.zeros(3),
    "a number": torch.tensor(1),
    "a list of boxes": [torch.zeros(n, 4) for n in range(4)],
}
LABELS: dict[str, Any] = {
    "class numbers": labels(4),
    "targets of a regression": torch.rand(4),
    "soft": torch.rand(4, CLASSES),
    "multi-hot": torch.rand(4, CLASSES) > 0.5,
    "floats that may be boxes": torch.rand(4, 4),
    "an array": np.arange(4),
    "names": ["cat", "dog", "cat", "owl"],
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", MOVING)
def test_targets_beside_a_moving_step(name: str, target: str) -> None:
    augment = ga.Augment([ga.RandomInvert(), MOVING[name]], eval=[MOVING[name]], backend="torch", seed=0)
    for module in (augment, augment.eval()):
        with pytest.raises(ValueError, match=r"^Augment: `labels` must be \(4,\).* with \w+, which moves pixels, got"):
            module(X, TARGETS[target])
    assert used(augment)["counter"] == 0


@pytest.mark.parametrize("name", MOVING)
def test_labels_beside_a_moving_step(name: str) -> None:
    augment = ga.Augment([MOVING[name]], backend="torch", seed=0)
    for given in LABELS.values():
        assert augment(X, given)[1] is given


@pytest.mark.parametrize("name", STILL)
def test_targets_beside_still_steps(name: str) -> None:
    augment = ga.Augment([STILL[name]], backend="torch", seed=0)
    for given in (TARGETS | LABELS).values():
        assert augment(X, given)[1] is given


def test_targets_beside_a_mix() -> None:
    augment = ga.Augment([ga.RandomHorizontalFlip(), ga.ToDtype(torch.float32), ga.MixUp()], backend="torch", seed=0)
    hot = nn.functional.one_hot(labels(4), CLASSES)
    for good in (hot, hot.float(), hot.bool(), torch.rand(4)):
        assert augment(X, good)[1].shape == good.shape
    with pytest.raises(
        ValueError, match=r"with RandomHorizontalFlip, which moves pixels, got int64 \(4, 4\)\. Pass masks, boxes and"
    ):
        augment(X, TARGETS["a box each"])


def test_targets_through_a_device_loader() -> None:
    data = [(X[n], torch.zeros(24, 21)) for n in range(4)]
    loader = ga.DeviceLoader(DataLoader(data, 4), "cpu", ga.Augment([ga.RandomHorizontalFlip()], backend="torch"))
    with pytest.raises(ValueError, match="which moves pixels"):
        next(iter(loader))


def test_what_an_opaque_step_says_is_shown() -> None:
    colour, unknown = v2.RandomInvert(), v2.Lambda(len)
    assert repr(ga.Opaque(colour)) == f"Opaque(v2.{colour!r})"
    assert repr(ga.Opaque(colour, moves=True)) == f"Opaque(v2.{colour!r}, moves=True)"
    assert repr(ga.Opaque(unknown, moves=False)) == f"Opaque(v2.{unknown!r}, moves=False)"
    assert ga.Opaque(unknown).replace(moves=False).moves is False
