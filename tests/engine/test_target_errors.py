"""What users get wrong with targets: one clear error before anything changes, or the right result."""

from __future__ import annotations

import collections
import types
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

import gpuaug as ga
from tests.support.images import batch, ragged
from tests.support.targets import boxes_of, masks_of, points_of

COUNT, SIZE = 4, (20, 30)
BOXES = torch.tensor([[1.0, 2, 10, 12], [3, 4, 9, 9]])
MASKS = torch.zeros(COUNT, *SIZE, dtype=torch.int64)
DROPS = [ga.RandomCrop(12), ga.SanitizeBoundingBoxes(min_size=8)]


def rows(**more: Any) -> list[dict[str, Any]]:
    return [{"boxes": BOXES, **more} for _ in range(COUNT)]


def each(key: str, value: Any) -> list[dict[str, Any]]:
    return [{key: value} for _ in range(COUNT)]


def typed(format_: str = "XYXY", size: tuple[int, int] = SIZE, boxes: Tensor = BOXES) -> Any:
    return tv_tensors.BoundingBoxes(boxes, format=format_, canvas_size=size)  # type: ignore[call-overload]


NAN = torch.tensor([[float("nan"), 0, 1, 1]])
WRONG: dict[str, tuple[Any, str]] = {
    "masks of another size": ({"masks": MASKS[:, 1:]},
        r'`labels\["masks"\]` must be \(B, 20, 30\) or .*, got int64 \(4, 19, 30\)'),
    "too many masks": ({"masks": torch.zeros(5, *SIZE)},
        r"must be as many as the images, 4, got float32 \(5, 20, 30\)"),
    "one number": ({"masks": torch.tensor(1)}, r"must be as many as the images, 4, got int64 \(\)"),
    "complex masks": ({"masks": MASKS.to(torch.complex64)}, "must be a dense tensor of real numbers, got complex64"),
    "no planes": ({"masks": torch.zeros(COUNT, 0, *SIZE)}, r"must be .*, got float32 \(4, 0, 20, 30\)"),
    "masks without data": ({"masks": MASKS.to("meta")}, "must be a tensor with data, not on meta, got int64"),
    "an array": ({"masks": MASKS.numpy()}, r"got ndarray .*\. Convert it with torch\.as_tensor"),
    "arrays": (each("boxes", np.zeros((2, 4))), r'`labels\[0\]\["boxes"\]` must be a tensor, got array.*as_tensor'),
    "lists": (each("boxes", [[1, 2, 3, 4]]),
        r"must be a tensor, got \[\[1, 2, 3, 4\]\]\. Convert it with torch\.as_tensor"),
    "no list": (each("boxes", []), r"must be a tensor, got \[\]\. Pass a tensor without rows for an image without any"),
    "none": (each("masks", None), r"must be a tensor, got None\. Pass a tensor without rows"),
    "a missing key": ([*rows()[1:], {}],
        r'`labels\[3\]\["boxes"\]` must be a tensor, got nothing\. Pass a tensor without'),
    "too few rows": (rows()[1:], "`labels` must be as many as the images, 4, got a list of 3"),
    "a row that is none": ([*rows()[1:], None],
        r"`labels` must be .*\. Pass masks, boxes and key points with their names"),
    "tensors without a name": ([BOXES] * COUNT, "Pass masks, boxes and key points with their names"),
    "typed without a name": ([typed()] * COUNT, "Pass masks, boxes and key points with their names"),
    "nan": (each("boxes", NAN), r"x1 <= x2 .* got \(nan, 0, 1, 1\) for box 0"),
    "a turned box": (each("boxes", BOXES[:, [2, 1, 0, 3]]), r"x1 <= x2 .* got \(10, 2, 1, 12\) for box 0"),
    "a box outside": (each("boxes", BOXES * 10), "inside its image of height 20 and width 30"),
    "a point at infinity": ({"keypoints": torch.full((COUNT, 3, 2), float("inf"))},
        "must be finite numbers, got nan or inf"),
    "points of five": ({"keypoints": torch.zeros(COUNT, 3, 5)}, r"must be numbers \(B, N, K, 2\), or"),
    "boxes of five": ({"boxes": torch.zeros(COUNT, 2, 5)}, r"must be numbers \(B, N, 4\), got float32 \(4, 2, 5\)"),
    "boxes of bool": ({"boxes": torch.zeros(COUNT, 2, 4).bool()}, "must be a dense tensor of real numbers, got bool"),
    "two dtypes": ([*rows()[1:], {"boxes": BOXES.long()}], "must be of one dtype for all images"),
    "rotated boxes without a format": (each("boxes", torch.zeros(1, 5)), "Pass rotated boxes as torchvision's"),
    "rotated boxes of four": (each("boxes", typed("XYWHR", boxes=torch.zeros(1, 4))), r"must be numbers \(N, 5\)"),
    "two formats, one rotated": ([*each("boxes", typed())[1:], {"boxes": typed("XYWHR", boxes=torch.zeros(1, 5))}],
        r"XYXYXYXY for all images, got XYWHR and XYXY\.$"),
    "two formats": ([*each("boxes", typed())[1:], {"boxes": typed("XYWH")}],
        r"formats .* for all images, got XYWH and XYXY\.$"),
    "another canvas": (each("boxes", typed(size=(5, 5))),
        r"of a canvas_size of \(20, 30\), as its image, got canvas_size \(5, 5\)"),
    "an image": ({"depth": tv_tensors.Image(MASKS[:, None])}, r'must be a mask, boxes .*, got Image\. Pass pictures'),
    "clips in a list": (each("past", tv_tensors.Video(MASKS[:, None])), r"as it would not be moved .*, got Video\."),
    "another name": ({"mask": MASKS}, r'must be under a name that says what it is, .* Rename it to "masks"'),
    "another name, an array": ({"mask": MASKS.numpy()}, 'Rename it to "masks"'),
    "another name, lists": (each("bbox", [[1, 2, 3, 4]]), 'Rename it to "boxes"'),
    "masks of a segmenter": ({"segmentation_mask": MASKS}, 'Rename it to "masks"'),
    "inside": (rows(more={"boxes": BOXES}),
        r'`labels\["more"\]` must be without targets in it, got "boxes" in it\. Put "boxes" beside'),
    "deep inside": ({"a": {"b": {"c": tv_tensors.Mask(MASKS)}}}, 'got "c" in it'),
}  # fmt: skip


def state(augment: ga.Augment) -> dict[str, Any]:
    return {name: value.clone() if isinstance(value, Tensor) else value for name, value in augment.state_dict().items()}


def unchanged(augment: ga.Augment, before: dict[str, Any]) -> bool:
    return all(bool((value == before[name]).all()) for name, value in state(augment).items())


@pytest.mark.parametrize("name", WRONG)
def test_wrong_targets(name: str) -> None:
    given, message = WRONG[name]
    images, augment = batch("photo", COUNT, 3, SIZE), ga.Augment([ga.RandomCrop(12)], seed=0)
    expected = ga.Augment([ga.RandomCrop(12)], seed=0)(images)
    before = state(augment)
    with pytest.raises(ValueError, match=rf"^Augment: .*{message}") as caught:
        augment(images, given)
    assert "\n" not in str(caught.value)
    assert unchanged(augment, before), "nothing is used up"
    assert torch.equal(augment(images), expected)


DROPPED: dict[str, tuple[Any, str]] = {
    "labels in lists": (rows(labels=[1, 2]),
        r"`labels\[0\]\[\"labels\"\]` must be a tensor with SanitizeBoundingBoxes"),
    "labels in arrays": (rows(labels=np.arange(2)), "must be a tensor with SanitizeBoundingBoxes"),
    "names": (rows(labels=["cat", "dog"]), "must be a tensor with SanitizeBoundingBoxes"),
    "lists of names": ({"boxes": [BOXES] * COUNT, "labels": [["a", "b"]] * COUNT}, "must be a tensor with Sanitize"),
    "one label at times": ([*rows(labels=torch.arange(2))[1:], {"boxes": BOXES, "labels": torch.tensor(1)}],
                           r"`labels\[3\]\[\"labels\"\]` must be as many as the boxes, 2, got int64 \(\)"),
    "too many labels": (rows(labels=torch.arange(3)), r"must be as many as the boxes, 2, got int64 \(3,\)"),
    "points of a batch": ({"boxes": [BOXES] * COUNT, "keypoints": torch.zeros(COUNT, 2, 3, 2)},
        "must be a list, as its boxes are"),
    "masks of a batch": ({"boxes": [BOXES] * COUNT, "masks": torch.zeros(COUNT, 2, *SIZE)},
        "must be a list, as its boxes are"),
    "boxes of a batch": ({"boxes": BOXES.expand(COUNT, 2, 4)},
        "must be a list with SanitizeBoundingBoxes, which drops boxes"),
}  # fmt: skip


@pytest.mark.parametrize("name", DROPPED)
def test_what_belongs_to_dropped_boxes_cannot_stay_by_accident(name: str) -> None:
    given, message = DROPPED[name]
    with pytest.raises(ValueError, match=message):
        ga.Augment(DROPS, seed=0)(batch("photo", COUNT, 3, SIZE), given)


def test_labels_of_images_stay_beside_dropped_boxes() -> None:
    images, augment = batch("photo", COUNT, 3, SIZE), ga.Augment(DROPS, seed=0)
    for given in (rows(labels=torch.tensor(3)), rows(labels="cat"), rows(labels=7)):
        _, found = augment(images, given)
        assert [row["labels"] for row in found] == [row["labels"] for row in given]
        assert any(len(row["boxes"]) < 2 for row in found)


@pytest.mark.parametrize(
    ("dtype", "fill"), [(torch.bool, 255), (torch.uint8, -1), (torch.uint8, 0.5), (torch.float16, 1e6)], ids=str
)
def test_a_fill_that_masks_cannot_hold(dtype: torch.dtype, fill: float) -> None:
    with pytest.raises(ValueError, match=r"Augment: `mask_fill` must be a number that masks of .* can hold"):
        ga.Augment([ga.Pad(2)], mask_fill=fill)(batch("photo", COUNT, 3, SIZE), {"masks": MASKS.to(dtype)})


@pytest.mark.parametrize(
    ("dtype", "fill"), [(torch.float32, 0.1), (torch.float16, 0.1), (torch.int64, 2**62), (torch.bool, 1)], ids=str
)
def test_a_fill_that_masks_can_hold(dtype: torch.dtype, fill: float, backend: str) -> None:
    augment = ga.Augment([ga.Pad(2)], mask_fill=fill, backend=backend)
    _, found = augment(batch("photo", COUNT, 3, SIZE), {"masks": MASKS.to(dtype)})
    assert found["masks"][0, 0, 0] == torch.tensor(fill).to(dtype)


def test_mappings_of_other_classes() -> None:
    images, augment = batch("photo", COUNT, 3, SIZE), ga.Augment([ga.RandomCrop(12)], seed=0)
    draw = augment.sample(images)
    _, plain = augment.render(images, draw, each("boxes", BOXES))
    default = collections.defaultdict(int, boxes=BOXES)
    kinds = [collections.OrderedDict(boxes=BOXES), default, collections.UserDict(boxes=BOXES)]
    for row in (*kinds, types.MappingProxyType({"boxes": BOXES})):
        for form in (list, tuple):
            _, found = augment.render(images, draw, form([row] * COUNT))
            assert type(found) is form
            assert all(torch.equal(one["boxes"], other["boxes"]) for one, other in zip(found, plain, strict=True))
            assert type(found[0]) is (type(row) if isinstance(row, (dict, collections.UserDict)) else dict)
            assert torch.equal(row["boxes"], BOXES), "what was passed is not changed"
    assert type(augment.render(images, draw, collections.OrderedDict(masks=MASKS))[1]) is collections.OrderedDict


def test_targets_without_anything_to_move() -> None:
    images, augment = batch("photo", COUNT, 3, SIZE), ga.Augment([ga.RandomCrop(12)], seed=0)
    for given in ({}, {"name": "x"}, [{}] * COUNT, [{"id": n} for n in range(COUNT)]):
        assert augment(images, given)[1] == given


def test_no_rows_in_one_image_or_all(backend: str) -> None:
    images = batch("photo", COUNT, 3, SIZE)
    none = {
        "boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "keypoints": torch.zeros(0, 3, 3),
        "masks": torch.zeros(0, *SIZE, dtype=torch.uint8),
    }  # fmt: skip
    some = {
        "boxes": BOXES, "labels": torch.arange(2), "keypoints": torch.ones(2, 3, 3),
        "masks": torch.ones(2, *SIZE, dtype=torch.uint8),
    }  # fmt: skip
    for given in ([none] * COUNT, [some, none, some, none]):
        for steps in ([ga.RandomCrop(12)], DROPS):
            _, found = ga.Augment(steps, seed=0, backend=backend)(images, given)
            for row, before in zip(found, given, strict=True):
                assert len({len(value) for value in row.values()}) == 1
                assert row["masks"].shape[1:] == (12, 12)
                assert row["keypoints"].shape[1:] == (3, 3)
                assert len(row["boxes"]) <= len(before["boxes"])
    _, found = ga.Augment([ga.RandomCrop(12)])(
        images, {"boxes": torch.zeros(COUNT, 0, 4), "keypoints": torch.zeros(COUNT, 0, 2)}
    )
    assert (found["boxes"].shape, found["keypoints"].shape) == ((COUNT, 0, 4), (COUNT, 0, 2))


def test_graphs_inference_mode_and_autocast_change_nothing() -> None:
    images, augment = batch("photo", COUNT, 3, SIZE), ga.Augment([ga.RandomAffine(30), ga.RandomCrop(12)], seed=0)
    draw = augment.sample(images)
    given = {
        "masks": torch.rand(COUNT, *SIZE),
        "boxes": BOXES.expand(COUNT, 2, 4),
        "keypoints": torch.rand(COUNT, 3, 2),
    }
    _, expected = augment.render(images, draw, given)
    _, found = augment.render(images, draw, {key: value.clone().requires_grad_() for key, value in given.items()})
    with torch.inference_mode():
        inside = augment.render(images, draw, {key: value.clone() for key, value in given.items()})[1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = augment.render(images, draw, given)[1]
    for other in (found, inside, cast):
        for key, value in expected.items():
            assert torch.equal(other[key], value)
            assert not other[key].requires_grad


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64], ids=str)
def test_masks_in_any_memory(dtype: torch.dtype, backend: str) -> None:
    images = batch("photo", COUNT, 3, SIZE)
    augment = ga.Augment([ga.RandomRotation(30), ga.RandomCrop(12)], seed=0, backend=backend)
    draw = augment.sample(images)
    masks = torch.stack(masks_of([SIZE] * COUNT, dtype))
    _, expected = augment.render(images, draw, {"masks": masks})
    wide = torch.zeros(COUNT, SIZE[0] * 2, SIZE[1] * 3, dtype=dtype)
    wide[:, ::2, ::3] = masks
    for other in (wide[:, ::2, ::3], masks.transpose(1, 2).contiguous().transpose(1, 2)):
        assert torch.equal(augment.render(images, draw, {"masks": other})[1]["masks"], expected["masks"])
        _, listed = augment.render(images, draw, [{"masks": mask} for mask in other])
        assert torch.equal(torch.stack([row["masks"] for row in listed]), expected["masks"])
        planes = torch.stack([other, other], dim=3).permute(0, 3, 1, 2)
        _, found = augment.render(images, draw, {"masks": planes})
        assert torch.equal(found["masks"][:, 1], expected["masks"])


CONTAINERS: dict[str, list[Any]] = {
    "choice": [ga.RandomChoice([ga.RandomHorizontalFlip(1), ga.RandomRotation(30), ga.RandomAffine(9)]),
        ga.RandomCrop(16)],
    "choice of crops": [ga.RandomChoice([ga.RandomCrop(16), ga.RandomResizedCrop(16)])],
    "order": [ga.RandomOrder([ga.RandomHorizontalFlip(), ga.RandomRotation(30), ga.ColorJitter(0.3)]),
        ga.CenterCrop(16)],
    "apply": [ga.RandomApply([ga.RandomAffine(20), ga.RandomVerticalFlip()], p=0.5), ga.CenterCrop(16)],
    "colours before": [ga.ColorJitter(0.4), ga.RandomRotation(20), ga.RandomResizedCrop(16)],
    "pads before": [ga.Pad(3), ga.RandomPerspective(p=1), ga.RandomCrop(16), ga.RandomHorizontalFlip()],
    "drops between": [ga.RandomCrop(18), ga.SanitizeBoundingBoxes(4), ga.RandomRotation(30),
        ga.SanitizeBoundingBoxes(4, min_visibility=0.3)],
}  # fmt: skip


@pytest.mark.parametrize("several", [False, True], ids=["one size", "sizes"])
@pytest.mark.parametrize("name", CONTAINERS)
def test_a_sample_has_its_targets_whatever_the_backend_and_the_batch(name: str, several: bool) -> None:
    sizes = [(24, 30), (30, 24), (24, 30), (40, 26)] if several else [(24, 30)] * COUNT
    images: Any = ragged("photo", 3, sizes) if several else batch("photo", COUNT, 3, sizes[0])
    planes, boxes, points = masks_of(sizes, torch.int32), boxes_of(sizes, 3), points_of(sizes, 3)
    given: Any = [
        {"masks": mask.expand(3, *mask.shape), "boxes": box, "keypoints": point, "labels": torch.arange(3)}
        for mask, box, point in zip(planes, boxes, points, strict=True)
    ]
    index = torch.arange(COUNT) + 70
    results = []
    for backend in ("torch", "numba"):
        augment = ga.Augment(CONTAINERS[name], seed=1, backend=backend)
        draw = augment.sample(images, index=index)
        results.append(augment.render(images, draw, given))
        results.append(augment.render(images, draw, given))
        results.append(ga.Augment(CONTAINERS[name], seed=1, backend=backend)(images, given, index=index))
    alone = ga.Augment(CONTAINERS[name], seed=1)
    singles = [
        alone(ga.Ragged.from_images([images[n]]), given[n : n + 1], index=index[n : n + 1])[1][0] for n in range(COUNT)
    ]
    first = results[0][1]
    for _, targets in (*results[1:], (None, singles)):
        for row, expected in zip(targets, first, strict=True):
            assert all(torch.equal(row[key], expected[key]) for key in expected)
    assert torch.equal(results[0][0], results[3][0])


def test_points_of_one_image_need_their_axis() -> None:
    for shape in ((COUNT, 2), (COUNT, 3)):
        with pytest.raises(ValueError, match=r"must be numbers \(B, N, K, 2\), or"):
            ga.Augment([ga.RandomCrop(12)])(batch("photo", COUNT, 3, SIZE), {"keypoints": torch.zeros(shape)})


MIXED: dict[str, tuple[list[Any], Any, str]] = {
    "a list": ([ga.MixUp(num_classes=5)], [{"labels": torch.tensor(1)}] * COUNT,
        "`labels` must be a mapping with MixUp"),
    "a list without labels": ([ga.CutMix(num_classes=5)], [{"id": 1}] * COUNT,
        "`labels` must be a mapping with CutMix"),
    "a mask alone": ([ga.MixUp()], tv_tensors.Mask(MASKS), "`labels` must be a mapping, as MixUp gives two masks"),
    "AugMix": ([ga.AugMix()], {"masks": MASKS},
        r"`labels` must be class labels with AugMix, got \"masks\"\. Leave AugMix out"),
    "timm's AugMix": ([ga.TimmAugMix()], {"masks": MASKS}, "class labels with TimmAugMix.* Leave TimmAugMix out"),
    "AugMix inside": ([ga.RandomApply([ga.AugMix()])], {"masks": MASKS}, "must be class labels with AugMix"),
    "few labels": ([], {"masks": MASKS, "labels": [1, 2]},
        r'`labels\["labels"\]` must be as many as the images, 4, got 2'),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXED)
def test_what_cannot_be_mixed(name: str) -> None:
    steps, given, message = MIXED[name]
    images, augment = batch("photo", COUNT, 3, SIZE), ga.Augment([ga.RandomCrop(12), *steps], seed=0)
    before = state(augment)
    with pytest.raises(ValueError, match=message):
        augment(images, given)
    assert unchanged(augment, before)


def test_class_labels_in_a_mapping_go_with_any_list() -> None:
    images, labels = batch("photo", COUNT, 3, SIZE), torch.arange(COUNT)
    augment = ga.Augment([ga.AugMix(), ga.RandomCrop(12)], seed=0)
    assert augment(images, {"labels": labels})[1]["labels"] is labels
    assert len(augment(images, [{"labels": labels}] * COUNT)[1]) == COUNT


@pytest.mark.parametrize("mix", [ga.CutMix(num_classes=3), ga.MixUp()], ids=lambda mix: type(mix).__name__)
def test_mixed_masks_keep_their_type(mix: Any) -> None:
    images, labels = batch("photo", COUNT, 3, SIZE), torch.rand(COUNT, 3)
    _, found = ga.Augment([ga.RandomCrop(12), mix])(images, {"masks": tv_tensors.Mask(MASKS), "labels": labels})
    assert type(found["masks"]) is tv_tensors.Mask
    assert type(found.get("masks_partner", found["masks"])) is tv_tensors.Mask
    assert type(found.get("masks_weight", labels)) is Tensor


def test_one_plane_of_any_type(backend: str) -> None:
    """(B, 1, H, W), of any stride along its axis."""
    images, augment = batch("photo", COUNT, 3, SIZE), ga.Augment([ga.RandomCrop(12)], seed=0, backend=backend)
    draw = augment.sample(images)
    for dtype in (torch.uint8, torch.int64, torch.bool):
        masks = torch.stack(masks_of([SIZE] * COUNT, dtype))
        expected = augment.render(images, draw, {"masks": masks})[1]["masks"]
        assert torch.equal(augment.render(images, draw, {"masks": masks[:, None]})[1]["masks"][:, 0], expected)


def test_wrong_arguments_of_steps_and_modules() -> None:
    for value in (5, [(0, 0)], "ab", [0, 1]):
        with pytest.raises(ValueError, match="Augment: `flip_pairs` must be None or pairs"):
            ga.Augment([], flip_pairs=value)  # type: ignore[arg-type]
    for value in (5, "area", [1]):
        with pytest.raises(ValueError, match="SanitizeBoundingBoxes: `follow` must be a list of names of keys"):
            ga.SanitizeBoundingBoxes(follow=value)  # type: ignore[arg-type]
