"""Test-time augmentation: views, merges, what is put back onto the image, and what the model is left with."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn
from torchvision.ops import batched_nms
from torchvision.transforms import v2

import gpuaug as ga
from tests.support.errors import assert_form
from tests.support.helpers import noise

pytestmark = pytest.mark.usefixtures("one_thread")

B, SIZE, CLASSES = 5, (44, 60), 7
FLOATS = [ga.ToDtype(torch.float32, scale=True)]
CROPS = {"five crops": 32, "ten crops": (20, 32), "resized crops": 32}


def images() -> Tensor:
    return noise(B, 3, *SIZE)


class Classes(nn.Module):
    """A small network whose batch norm and dropout depend on the mode."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        parts = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
        self.net, self.seen = nn.Sequential(*parts, nn.Linear(32, CLASSES)), list[tuple[int, ...]]()

    def forward(self, batch: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        assert not self.training
        self.seen.append(tuple(batch.shape))
        return self.net(batch) * 20


def mirrored() -> list[Tensor]:
    floats = images().float() / 255
    return [floats, floats.flip(-1)]


def by_hand(model: Classes, batches: list[Tensor]) -> Tensor:
    """(views, B, classes)."""
    with torch.no_grad():
        return torch.stack([model.eval()(batch) for batch in batches])


@pytest.mark.parametrize(
    ("merge", "expected"),
    [
        ("mean probabilities", lambda stacked: stacked.softmax(2).mean(0)),
        ("mean logits", lambda stacked: stacked.mean(0)),
        ("max", lambda stacked: stacked.softmax(2).amax(0)),
        (lambda stacked: stacked.std(0), lambda stacked: stacked.std(0)),
    ],
)
def test_merges(merge: Any, expected: Any) -> None:
    model = Classes()
    got = ga.TTA(model, "flips", merge=merge, after=FLOATS)(images())
    torch.testing.assert_close(got, expected(by_hand(model, mirrored())), atol=1e-5, rtol=1e-5)


def test_merges_differ() -> None:
    merges = ("mean probabilities", "mean logits", "max")
    found = [ga.TTA(Classes(), merge=merge, after=FLOATS).predict(images()) for merge in merges]
    assert all(not torch.allclose(one, other) for one, other in itertools.pairwise(found))  # type: ignore[arg-type]


@pytest.mark.parametrize("vertical", [False, True])
@pytest.mark.parametrize("size", [20, (17, 33), SIZE, (43, 59)])
def test_five_and_ten_crops_are_those_of_torchvision(size: Any, vertical: bool, backend: str) -> None:
    """Bit for bit, sample by sample, also of images that differ in size."""
    batch = [noise(1, 3, *SIZE)[0], noise(1, 3, 50, 77, seed=1)[0], noise(1, 3, 45, 61, seed=2)[0]]
    for ours, theirs in (
        (ga.FiveCrop(size), v2.FiveCrop(size)), (ga.TenCrop(size, vertical), v2.TenCrop(size, vertical)),
    ):  # fmt: skip
        views = ga.MultiView(ours, backend=backend)(ga.Ragged.from_images(batch))
        assert len(views) == len(ours)
        for number, image in enumerate(batch):
            expected = theirs(image)
            assert all(torch.equal(view[number], crop) for view, crop in zip(views, expected, strict=True))
        assert size == SIZE or not torch.equal(views[0], views[1])
    dense = ga.MultiView(ga.TenCrop(size, vertical), backend=backend)(images())
    assert all(map(torch.equal, dense, v2.TenCrop(size, vertical)(images())))


def test_crops_can_be_put_into_lists_and_nowhere_else() -> None:
    crops = ga.FiveCrop(20)
    assert repr(crops) == "FiveCrop(size=20)"
    assert repr(ga.TenCrop((3, 4), True)) == "TenCrop(size=(3, 4), vertical_flip=True)"
    assert len(crops) == 5
    assert crops[4] == [ga.CornerCrop(20, "center")]
    crops[0].append(3)  # a copy
    views = ga.MultiView([[*crop, *FLOATS] for crop in crops])(images())
    assert {view.dtype for view in views} == {torch.float32}
    with pytest.raises(ValueError, match=re.escape("Use MultiView(FiveCrop(size=20)).".replace("U", "u"))) as caught:
        ga.Augment([crops])  # type: ignore[list-item]
    assert_form(caught, "Augment", "train")
    for bad in (0, (1, 2, 3), "a"):
        with pytest.raises(ValueError, match="CornerCrop: `size` must be"):
            ga.FiveCrop(bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`corner` must be one of 'top left'"):
        ga.CornerCrop(3, "top")
    with pytest.raises(ValueError, match=r"`images` must be at least \(45, 45\), got \(44, 60\) for image 0"):
        ga.Augment([ga.CornerCrop(45, "top left")])(images())
    with pytest.raises(ValueError, match=r"gpuaug\.TenCrop makes the lists of a MultiView or TTA"):
        ga.from_torchvision(v2.TenCrop(3))
    with pytest.raises(ValueError, match=r"gpuaug\.FiveCrop makes the lists"):
        ga.Augment([v2.FiveCrop(3)])


@pytest.mark.parametrize("name", CROPS)
def test_named_crops(name: str) -> None:
    model, size = Classes(), CROPS[name]
    got = ga.TTA(model, name, size=size, after=FLOATS, merge="mean logits").predict(images())
    if name == "resized crops":
        views = [v2.CenterCrop(32)(v2.Resize(edge)(images())) for edge in (32, 37, 42)]
    else:
        views = list((v2.FiveCrop if name == "five crops" else v2.TenCrop)(size)(images()))
    expected = by_hand(model, [view.float() / 255 for view in views]).mean(0)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_forward_passes_are_as_many_as_max_images_allows() -> None:
    model = Classes()
    whole = ga.TTA(model, "ten crops", size=20, after=FLOATS).predict(images())
    assert model.seen == [(50, 3, 20, 20)]
    for most, counts in ((50, [50]), (49, [45, 5]), (12, [10] * 5), (5, [5] * 10), (3, [3, 2] * 10)):
        model.seen.clear()
        got = ga.TTA(model, "ten crops", size=20, after=FLOATS, max_images=most).predict(images())
        assert [shape[0] for shape in model.seen] == counts
        torch.testing.assert_close(got, whole)
    model.seen.clear()
    views = [[ga.CenterCrop(20)], [ga.CenterCrop(24)], [ga.CornerCrop(24, "top left")]]
    ga.TTA(model, views, after=FLOATS)(images())
    assert model.seen == [(5, 3, 20, 20), (10, 3, 24, 24)]


def test_the_model_keeps_its_modes_also_after_an_error() -> None:
    model = Classes().train()
    model.net[1].eval()  # a frozen batch norm
    before = [module.training for module in model.modules()]
    ga.TTA(model, after=FLOATS).predict(images())
    assert [module.training for module in model.modules()] == before
    with pytest.raises(RuntimeError):
        ga.TTA(model).predict(images())  # uint8
    assert [module.training for module in model.modules()] == before
    assert torch.is_grad_enabled()


def test_random_views_are_the_same_in_every_call() -> None:
    tta = ga.TTA(Classes(), [[ga.RandomCrop(20)], [ga.RandomCrop(20), ga.ColorJitter(0.5)]], after=FLOATS)
    assert torch.equal(tta.predict(images()), tta.predict(images()))  # type: ignore[arg-type]


# ---- class maps ------------------------------------------------------------------------------------------------------


def pixels(batch: Tensor) -> Tensor:
    """Class maps that know what they show: three classes, the channels."""
    return batch * 9


@pytest.mark.parametrize("form", [lambda maps: maps, lambda maps: {"out": maps}], ids=["tensor", "out"])
@pytest.mark.parametrize("name", ["flips", "five crops", "ten crops"])
def test_class_maps_are_put_back_before_they_are_merged(name: str, form: Any) -> None:
    size = None if name == "flips" else 36
    tta = ga.TTA(lambda batch: form(pixels(batch)), name, size=size, after=FLOATS, merge="mean logits")
    got, expected = tta.predict(images()), images().float() / 255 * 9
    torch.testing.assert_close(got, expected)  # every pixel of the image is in a crop
    probabilities = ga.TTA(pixels, name, size=size, after=FLOATS).predict(images())
    torch.testing.assert_close(probabilities, expected.softmax(1))
    highest = ga.TTA(pixels, name, size=size, after=FLOATS, merge="max").predict(images())
    torch.testing.assert_close(highest, expected.softmax(1))


def test_pixels_that_no_view_shows_are_zero_and_nan_for_a_function() -> None:
    views = [[ga.CenterCrop(20)], [ga.CenterCrop((20, 30)), ga.RandomHorizontalFlip(1.0)]]
    got = ga.TTA(pixels, views, after=FLOATS, merge="mean logits").predict(images())
    assert isinstance(got, Tensor)
    shown = torch.zeros(SIZE, dtype=torch.bool)
    shown[12:32, 15:45] = True
    assert (got[..., ~shown] == 0).all()
    torch.testing.assert_close(got[..., shown], (images().float() / 255 * 9)[..., shown])
    stacked = ga.TTA(pixels, views, after=FLOATS, merge=lambda views: views).predict(images())
    assert isinstance(stacked, Tensor)
    assert stacked.shape == (2, B, 3, *SIZE)
    assert stacked[1].isnan().all(1)[0].eq(~shown).all()
    assert int((~stacked[0, 0, 0].isnan()).sum()) == 400


def test_class_maps_of_images_that_differ_in_size() -> None:
    batch = [noise(1, 3, 30, 40)[0], noise(1, 3, 50, 44, seed=1)[0]]
    tta = ga.TTA(pixels, "flips", before=[ga.Resize((100, 100), "nearest-exact")], after=FLOATS, merge="mean logits")
    got = tta.predict(ga.Ragged.from_images(batch))
    assert [tuple(maps.shape) for maps in got] == [(3, 30, 40), (3, 50, 44)]
    for maps, image in zip(got, batch, strict=True):
        torch.testing.assert_close(maps, image.float() / 255 * 9)


def test_what_is_no_number_is_not_hidden() -> None:
    """The NaN of a model that has diverged, beside pixels that no view shows."""
    nan = float("nan")
    for merge in ("mean probabilities", "mean logits", "max"):
        classes = ga.TTA(lambda batch: batch[:, :, 0, 0] * nan, after=FLOATS, merge=merge).predict(images())
        maps = ga.TTA(lambda batch: batch * nan, [[ga.CenterCrop(20)]], after=FLOATS, merge=merge).predict(images())
        assert classes.isnan().all()
        assert int(maps[0, 0].isnan().sum()) == 400


# ---- boxes -----------------------------------------------------------------------------------------------------------


def finder(batch: Tensor) -> list[dict[str, Any]]:
    """The box around the bright pixels of each image, and half of it; masks as Mask R-CNN returns them."""
    found = []
    for image in batch:
        ys, xs = (image[0] > 0.9).nonzero(as_tuple=True)
        box = torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).float()
        boxes = torch.stack([box, torch.cat([box[:2], (box[:2] + box[2:]) / 2])])
        masks = (image[:1] > 0.9).float().expand(2, 1, -1, -1)
        points = torch.cat([box.view(2, 2) - torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.ones(2, 1)], 1)
        more = {"scores": torch.tensor([0.9, 0.4]), "labels": torch.tensor([1, 2]), "name": "a"}
        found.append({"boxes": boxes, "masks": masks, "keypoints": points.expand(2, 2, 3), **more})
    return found


def bright() -> tuple[Tensor, Tensor]:
    batch, boxes = torch.zeros(2, 3, *SIZE, dtype=torch.uint8), torch.tensor([[4, 6, 30, 20], [10, 3, 15, 41]])
    for image, (x1, y1, x2, y2) in zip(batch, boxes.tolist(), strict=True):
        image[:, y1:y2, x1:x2] = 255
    return batch, boxes.float()


def test_boxes_masks_and_points_are_put_back_and_joined() -> None:
    batch, boxes = bright()
    views = [[], [ga.RandomHorizontalFlip(1.0)], [ga.Resize((88, 120), "nearest-exact")], [ga.Pad(5)]]
    got = ga.TTA(finder, views, after=FLOATS, merge="join", flip_pairs=[(0, 1)]).predict(batch)
    assert len(got) == 2
    for image, box, found in zip(batch, boxes, got, strict=True):
        assert isinstance(found, dict)
        assert set(found) == {"boxes", "masks", "keypoints", "scores", "labels", "views"}  # a name is not a row
        assert found["views"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
        torch.testing.assert_close(found["boxes"][::2], box.expand(4, 4), atol=1e-4, rtol=0)
        assert found["labels"].tolist() == [1, 2] * 4
        assert found["masks"].shape == (8, 1, *SIZE)
        assert torch.equal(found["masks"][:, 0], (image[0] > 200).float().expand(8, *SIZE))
        corners = torch.stack([box[:2], box[2:] - 1])  # of the box, first and second point
        torch.testing.assert_close(found["keypoints"][0, :, :2], corners)
        lower_left = torch.tensor([[box[0], box[3] - 1], [box[2] - 1, box[1]]])  # mirrored, and the pair exchanged
        torch.testing.assert_close(found["keypoints"][2, :, :2], lower_left)
        keep = batched_nms(found["boxes"], found["scores"], found["labels"], 0.5)
        assert found["labels"][keep].tolist().count(1) == 1
    counted = ga.TTA(finder, views, after=FLOATS, merge=lambda joined: [len(each["boxes"]) for each in joined])
    assert counted.predict(batch) == [8, 8]


def test_a_detector_of_torchvision() -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"num_classes": 3, "box_score_thresh": 0.0, "box_detections_per_img": 6}
    model = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, **options).train()
    got = ga.TTA(model, "flips", after=FLOATS, merge="join", max_images=2).predict(noise(3, 3, 64, 80))
    assert model.training
    for found in got:
        assert isinstance(found, dict)
        assert len(found["boxes"]) == len(found["scores"]) == len(found["views"])
        assert set(found["views"].tolist()) <= {0, 1}


# ---- errors ----------------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "model": ((3,), {}, "TTA: `model` must be a module or a function, got 3"),
    "name": ((pixels, "flip"), {}, "`views` must be one of 'flips', 'five crops'"),
    "empty": ((pixels, []), {}, "`views` must be a name, FiveCrop, TenCrop, or a list .* got an empty list"),
    "number": ((pixels, 3), {}, "`views` must be a name, .* got 3"),
    "flat": ((pixels, [ga.CenterCrop(3)]), {}, r"TTA: `views\[0\]` must be a list of transforms or a Compose"),
    "no transform": ((pixels, [[3]]), {}, r"TTA: `views\[0\]` must be a list of transforms, got 3"),
    "mix": ((pixels, [[], [*FLOATS, ga.MixUp(num_classes=3)]]), {}, r"TTA: `views\[1\]` must be without a mix"),
    "no size": (
        (pixels, "five crops"),
        {},
        "`size` must be the side of the crops for 'five crops', in pixels, got None",
    ),
    "size": ((pixels, "flips"), {"size": 3}, "`size` must be None for 'flips', got 3"),
    "size of lists": ((pixels, [[]]), {"size": 3}, "`size` must be None, as `views` are lists, got 3"),
    "zero": ((pixels, "resized crops"), {"size": 0}, "`size` must be an integer in \\[1, 25205\\], got 0"),
    "pair": ((pixels, "resized crops"), {"size": (3, 4)}, "`size` must be an integer"),
    "merge": ((pixels,), {"merge": "mean"}, "`merge` must be one of 'mean probabilities'"),
    "max_images": ((pixels,), {"max_images": 0}, "`max_images` must be an integer of at least 1, got 0"),
    "before": ((pixels,), {"before": 3}, "TTA: `before` must be a list of transforms or a Compose, got 3"),
    "after": ((pixels,), {"after": [3]}, "TTA: `after` must be a list of transforms, got 3"),
    "backend": ((pixels,), {"backend": "cuda"}, "TTA: `backend` must be one of"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments(name: str) -> None:
    arguments, options, said = WRONG[name]
    with pytest.raises(ValueError, match=said) as caught:
        ga.TTA(*arguments, **options)
    assert str(caught.value).startswith("TTA: `")


OUTPUTS: dict[str, tuple[Any, str]] = {
    "a number": (lambda batch: batch.sum(), r"`model` must be a model that returns .*, B = 10, got float32 \(\)"),
    "fewer": (lambda batch: batch[1:].mean((2, 3)), r"got float32 \(9, 3\)"),
    "smaller maps": (lambda batch: batch[..., ::2], r"class maps have the size of its images, \(44, 60\), got"),
    "three axes": (lambda batch: batch[:, 0], r"got float32 \(10, 44, 60\)"),
    "nothing": (lambda batch: None, "got NoneType"),
    "a list of numbers": (lambda batch: [1] * len(batch), "got list"),
    "no boxes": (lambda batch: [{}] * len(batch), "got list"),
    "one output": (lambda batch: batch[:, :1, 0, 0], "`merge` must be for one output, got 'mean probabilities'"),
    "boxes": (lambda batch: [{"boxes": torch.zeros(0, 4)}] * len(batch), '`merge` must be "join" or a function'),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_wrong_outputs_of_the_model(name: str) -> None:
    model, said = OUTPUTS[name]
    with pytest.raises(ValueError, match=said) as caught:
        ga.TTA(model, after=FLOATS).predict(images())
    assert_form(caught, "TTA")


def test_classes_cannot_be_joined_and_must_be_as_many_for_each_view() -> None:
    with pytest.raises(ValueError, match="`merge` must be for classes, got 'join', which is for boxes"):
        ga.TTA(Classes(), merge="join", after=FLOATS).predict(images())
    with pytest.raises(ValueError, match="`model` must be a model with as many classes for each view, got uint8"):
        ga.TTA(lambda batch: batch[:, 0, 0], [[ga.CenterCrop(3)], [ga.CenterCrop(4)]]).predict(images())
    with pytest.raises(ValueError, match=r"CornerCrop: .* This is about view 0\."):
        ga.TTA(pixels, "five crops", size=50).predict(images())
    with pytest.raises(ValueError, match="`images` must be uint8"):
        ga.TTA(pixels).predict(images().float())


def test_repr() -> None:
    assert repr(ga.TTA(Classes(), max_images=3)).startswith("TTA(\n    Classes,\n    MultiView(\n        views=[")
