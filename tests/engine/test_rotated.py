"""Rotated boxes move as torchvision's functionals move them, sample by sample, and the comparison can fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional
from torchvision.transforms.v2.functional import _meta

import gpuaug as ga
from gpuaug.engine.pipeline import walk
from tests.support.images import ragged
from tests.support.targets import COUNT, SIZE, SIZES, drawn, plain_lists, replayed, rotated_of, same_boxes

pytestmark = pytest.mark.usefixtures("one_thread")

FORMATS = ("XYWHR", "CXCYWHR", "XYXYXYXY")
LISTS = [  # all but those that are refused
    case for case in plain_lists() if not any(isinstance(op, ga.ElasticTransform) for op in walk(case.values[0]))
]


def leftmost_first(boxes: Tensor, indices: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """torchvision's `_order_bounding_boxes_points` as it says it is: the leftmost corner first, of two the upper one.

    torchvision compares 100 x / x_max + y / y_max, so it takes the upper corner also where the lower one is further
    left by up to half a degree, and then returns boxes without any size.
    """
    if indices is None:
        x, y = boxes.reshape(-1, 4, 2).unbind(-1)
        rows, left = torch.arange(len(x)), x.argmin(1)
        upper, right = (left + 1) % 4, (left + 2) % 4
        level = y[rows, upper].isclose(y[rows, right]) | y[rows, left].isclose(y[rows, left - 1])
        first = torch.where(level, upper, left)
        indices = (first[:, None] * 2 + torch.arange(8)) % 8
    return indices, boxes.gather(1, indices)


@pytest.fixture
def mended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_meta, "_order_bounding_boxes_points", leftmost_first)


@pytest.mark.usefixtures("mended")
@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("mode", ["soft", "hard", None])
@pytest.mark.parametrize("steps", LISTS)
def test_rotated_boxes_equal_torchvisions(steps: list[Any], format_: str, mode: str | None) -> None:
    if mode == "hard" and np.min(getattr(steps[-1], "padding", None) or 0) < 0:
        pytest.skip("torchvision cuts twice, once for the padding, and each time keeps the largest box that fits")
    augment, images, draw = drawn(steps)
    boxes = rotated_of([SIZE] * COUNT, format_, mode)
    result, targets = augment.render(images, draw, [{"boxes": each} for each in boxes])
    for got, expected in zip(targets, replayed(augment, draw, boxes), strict=True):
        assert type(got["boxes"]) is tv_tensors.BoundingBoxes
        assert (got["boxes"].format, got["boxes"].clamping_mode) == (expected.format, mode)
        assert got["boxes"].canvas_size == expected.canvas_size == tuple(result.shape[-2:])
        assert got["boxes"].dtype == torch.float64
        same = same_boxes(got["boxes"], expected)
        assert same.all(), (got["boxes"][~same], expected[~same])


@pytest.mark.parametrize("steps", [[ga.Resize((50, 31))], [ga.RandomResizedCrop(24)], [ga.RandomRotation(10)]], ids=str)
def test_rotated_boxes_far_from_straight_equal_torchvisions_as_it_is(steps: list[Any]) -> None:
    augment, images, draw = drawn(steps)
    boxes = rotated_of([SIZE] * COUNT, "XYXYXYXY")
    for each in boxes:  # 25 to 65 degrees
        numbers = functional.convert_bounding_box_format(each, new_format="CXCYWHR")
        numbers[:, 4] = 45 + numbers[:, 4] % 40 - 20
        each[:] = functional.convert_bounding_box_format(numbers, new_format="XYXYXYXY")
    _, targets = augment.render(images, draw, [{"boxes": each} for each in boxes])
    for got, expected in zip(targets, replayed(augment, draw, boxes), strict=True):
        assert same_boxes(got["boxes"], expected).all()


def test_the_comparison_can_fail() -> None:
    augment, images, draw = drawn([ga.RandomRotation(40)])
    boxes = rotated_of([SIZE] * COUNT, "CXCYWHR")
    _, targets = augment.render(images, draw, [{"boxes": each} for each in boxes])
    draw.params[0]["degrees"] += 0.1
    wrong = zip(targets, replayed(augment, draw, boxes), strict=True)
    assert not all(same_boxes(got["boxes"], expected).all() for got, expected in wrong)


@pytest.mark.usefixtures("mended")
@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_rotated_boxes_of_images_of_different_sizes_equal_torchvisions(mode: str) -> None:
    steps = [ga.RandomResizedCrop((30, 31)), ga.RandomHorizontalFlip(), ga.RandomAffine(30, shear=10)]
    images = ragged("photo", 3, SIZES)
    augment = ga.Augment(steps, backend="torch", exact=True, seed=3)
    draw = augment.sample(images, index=torch.arange(len(SIZES)))
    whole = rotated_of(SIZES, "CXCYWHR", mode)
    boxes = [tv_tensors.wrap(box[:number], like=box) for number, box in enumerate(whole)]  # 0 to 5 boxes
    _, targets = augment.render(images, draw, [{"boxes": each} for each in boxes])
    for number, (got, expected) in enumerate(zip(targets, replayed(augment, draw, boxes), strict=True)):
        assert got["boxes"].shape == (number, 5)
        assert same_boxes(got["boxes"], expected).all()


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_clipping_is_right_where_torchvisions_is_not(mode: str) -> None:
    near = torch.tensor([[30.0, 5.0, 20.0, 30.0, angle] for angle in (-0.4, -0.04, -0.004, 179.9, 0.3)]).double()
    boxes = tv_tensors.BoundingBoxes(near, format="CXCYWHR", canvas_size=SIZE)  # type: ignore[call-overload]
    theirs = functional.clamp_bounding_boxes(boxes, clamping_mode=mode)
    assert (theirs[:, 3] < 1).any()  # torchvision loses boxes; if it no longer does, the docs need a change
    clamp = ga.Augment([ga.ClampBoundingBoxes(mode)])
    _, rows = clamp(torch.zeros(1, 3, *SIZE, dtype=torch.uint8), [{"boxes": boxes}])
    got = rows[0]["boxes"].as_subclass(Tensor)
    torch.testing.assert_close(got[:, 4], near[:, 4], atol=1e-3, rtol=0)
    least = (
        395 if mode == "soft" else 199
    )  # of 400 that the image shows; torchvision's "hard" is not always the largest
    assert (got[:, 2:4].prod(1) > least).all()
    assert (got[:, 2:4].prod(1) <= near[:, 2:4].prod(1)).all()


def test_a_step_that_does_nothing_changes_no_bit() -> None:
    boxes = tv_tensors.BoundingBoxes(  # type: ignore[call-overload]
        torch.tensor([[20.3, 10.1, 9.7, 5.3, 200.0], [30.0, 2.0, 9.0, 8.0, -33.0]]), format="CXCYWHR", canvas_size=SIZE
    )
    images = torch.zeros(8, 3, *SIZE, dtype=torch.uint8)
    augment = ga.Augment([ga.RandomHorizontalFlip(), ga.CenterCrop(SIZE), ga.Resize(SIZE)], seed=0)
    draw = augment.sample(images)
    mirrored = draw.params[0]["applied"]
    _, rows = augment.render(images, draw, [{"boxes": boxes}] * 8)
    assert 0 < mirrored.sum() < 8
    for row, flipped in zip(rows, mirrored, strict=True):
        assert torch.equal(row["boxes"], boxes) != flipped
        assert row["boxes"].dtype == torch.float32


@pytest.mark.parametrize("format_", FORMATS)
def test_inverting_finds_the_boxes_again(format_: str) -> None:
    steps = [ga.RandomHorizontalFlip(), ga.RandomVerticalFlip(), ga.RandomRotation(20), ga.Resize((74, 90))]
    images = torch.zeros(8, 3, *SIZE, dtype=torch.uint8)
    augment = ga.Augment(steps, seed=0)
    draw = augment.sample(images)
    boxes = rotated_of([SIZE] * 8, format_, None)
    _, rows = augment.render(images, draw, [{"boxes": each} for each in boxes])
    for got, given in zip(ga.invert(draw, rows), boxes, strict=True):
        assert got["boxes"].canvas_size == SIZE
        assert same_boxes(got["boxes"], given).all()


def test_neighbouring_warps_are_one_move() -> None:
    images = torch.zeros(4, 3, *SIZE, dtype=torch.uint8)
    boxes = rotated_of([SIZE] * 4, "XYXYXYXY", None)
    augment = ga.Augment([ga.RandomRotation(30), ga.RandomAffine(20)], seed=0)
    draw = augment.sample(images)
    _, rows = augment.render(images, draw, [{"boxes": each} for each in boxes])
    for matrix, row, box in zip(torch.from_numpy(draw.matrices), rows, boxes, strict=True):
        corners = box.as_subclass(Tensor).view(-1, 4, 2) @ matrix[:2, :2].T + matrix[:2, 2]
        torch.testing.assert_close(row["boxes"].as_subclass(Tensor), corners.flatten(1), atol=1e-3, rtol=0)


class TestSteps:
    """SanitizeBoundingBoxes and ClampBoundingBoxes."""

    images = torch.zeros(1, 3, *SIZE, dtype=torch.uint8)

    def boxes(self, *numbers: tuple[float, ...], mode: str | None = "soft") -> Any:
        given = torch.tensor(numbers).double()
        return tv_tensors.BoundingBoxes(given, format="CXCYWHR", canvas_size=SIZE, clamping_mode=mode)  # type: ignore[call-overload]

    def test_small_boxes_and_those_outside_are_dropped(self) -> None:
        boxes = self.boxes((20, 20, 10, 2, 30), (20, 20, 10, 4, 30), (44, 20, 10, 9, 45), (20, 20, 2, 10, 30))
        sanitize = ga.Augment([ga.SanitizeBoundingBoxes(min_size=3)])
        _, rows = sanitize(self.images, [{"boxes": boxes, "labels": torch.arange(4)}])
        assert rows[0]["labels"].tolist() == [1]
        assert torch.equal(rows[0]["boxes"], boxes[1:2])
        assert rows[0]["boxes"].format == tv_tensors.BoundingBoxFormat.CXCYWHR

    def test_the_height_is_the_height_where_torchvision_takes_other_numbers(self) -> None:
        boxes = self.boxes((20, 20, 10, 2, 0), (20, 20, 10, 10, 90))
        _, theirs = functional.sanitize_bounding_boxes(boxes, min_size=5)
        assert theirs.tolist() == [True, False]  # if torchvision mends this, the docs need a change
        sanitize = ga.Augment([ga.SanitizeBoundingBoxes(min_size=5)])
        _, rows = sanitize(self.images, [{"boxes": boxes, "labels": torch.arange(2)}])
        assert rows[0]["labels"].tolist() == [1]

    def test_what_is_left_is_a_share_of_the_moved_box(self) -> None:
        boxes = self.boxes((22, 10, 10, 10, 45), (22, 19, 12, 12, 0), (22, 22, 12, 12, 0))
        for least, kept in ((0.0, [0, 1, 2]), (0.4, [0, 1]), (0.9, [0])):
            steps = [ga.Resize((74, 90)), ga.RandomCrop((38, 90)), ga.SanitizeBoundingBoxes(min_visibility=least)]
            augment = ga.Augment(steps, seed=0)
            draw = augment.sample(self.images)
            draw.params[1]["start"][:] = 0  # the lower half is cut off, at 19 of 37 pixels
            _, rows = augment.render(self.images, draw, [{"boxes": boxes, "labels": torch.arange(3)}])
            assert rows[0]["labels"].tolist() == kept

    @pytest.mark.parametrize(("step", "own", "expected"), [
        ("auto", "soft", "soft"), ("auto", "hard", "hard"), ("auto", None, None), ("hard", "soft", "hard"),
        ("soft", None, "soft"), (None, "hard", None),
    ])  # fmt: skip
    def test_boxes_are_clipped_as_they_or_the_step_say(self, step: Any, own: Any, expected: Any) -> None:
        boxes = self.boxes((2, 4, 20, 10, 30), (40, 30, 20, 20, 70), mode=own)
        _, rows = ga.Augment([ga.ClampBoundingBoxes(step)])(self.images, [{"boxes": boxes}])
        assert rows[0]["boxes"].clamping_mode == own
        assert same_boxes(rows[0]["boxes"], functional.clamp_bounding_boxes(boxes, clamping_mode=expected)).all()
        assert same_boxes(rows[0]["boxes"], boxes).all() == (expected is None)

    def test_an_unknown_mode_raises(self) -> None:
        with pytest.raises(ValueError, match="ClampBoundingBoxes: `clamping_mode` must be"):
            ga.ClampBoundingBoxes("round")


def test_boxes_that_are_not_rotated_are_not_clipped_if_they_say_so() -> None:
    boxes = tv_tensors.BoundingBoxes(  # type: ignore[call-overload]
        torch.tensor([[-30.0, 5, 20, 60]]), format="XYXY", canvas_size=SIZE, clamping_mode=None
    )
    images = torch.zeros(1, 3, *SIZE, dtype=torch.uint8)
    for last, expected in ((None, [-20.0, 5, 30, 60]), ("auto", [-20.0, 5, 30, 60]), ("soft", [0.0, 5, 30, 37])):
        _, rows = ga.Augment([ga.Pad((10, 0, 0, 0)), ga.ClampBoundingBoxes(last)])(images, [{"boxes": boxes}])
        assert rows[0]["boxes"].tolist() == [expected]


@pytest.mark.parametrize(("boxes", "words"), [
    ({"format": "CXCYWHR", "data": [[20.0, 20, -1, 5, 0]]}, "must be boxes with width and height of at least 0"),
    ({"format": "CXCYWHR", "data": [[20.0, 20, 4, 5, float("nan")]]}, "width and height of at least 0"),
    ({"format": "XYWHR", "data": [[60.0, 20, 4, 5, 0]]}, r"inside its image of height 37 and width 45, got \(60,"),
    ({"format": "XYXYXYXY", "data": [[10.0, 20, 20, 20, 20, 10, 10, 10]]}, "corners clockwise on the screen"),
    ({"format": "XYXYXYXY", "data": [[10.0, 20, 20, 20]]}, r"must be numbers \(N, 8\)"),
])  # fmt: skip
def test_wrong_rotated_boxes_raise(boxes: dict[str, Any], words: str) -> None:
    typed = tv_tensors.BoundingBoxes(**boxes, canvas_size=SIZE)
    with pytest.raises(ValueError, match=words):
        ga.Augment([ga.RandomCrop(20)])(torch.zeros(1, 3, *SIZE, dtype=torch.uint8), [{"boxes": typed}])


def test_boxes_without_a_format_and_of_several_modes_raise() -> None:
    augment, images = ga.Augment([ga.RandomCrop(20)]), torch.zeros(2, 3, *SIZE, dtype=torch.uint8)
    for numbers in (5, 8):
        for given in (torch.zeros(2, 1, numbers), [torch.zeros(1, numbers)] * 2):
            with pytest.raises(ValueError, match=r"Pass rotated boxes as torchvision's tv_tensors.BoundingBoxes"):
                augment(images, {"boxes": given})
    rows = [{"boxes": rotated_of([SIZE], "XYWHR", mode)[0]} for mode in ("soft", None)]
    with pytest.raises(ValueError, match="of one clamping_mode for all images, got None and soft"):
        augment(images, rows)


@pytest.mark.parametrize(
    "step", [ga.ElasticTransform(9, 1), ga.RandomApply([ga.ElasticTransform(9, 1)]), ga.RandomIoUCrop()], ids=repr
)
def test_steps_that_cannot_move_them_are_refused(step: Any) -> None:
    augment = ga.Augment([step, ga.Resize((9, 9))], backend="torch")
    rows = [{"boxes": each} for each in rotated_of([SIZE] * 2, "CXCYWHR")]
    with pytest.raises(ValueError, match=f"sides along the axes with {type(step).__name__}, got rotated boxes"):
        augment(torch.zeros(2, 3, *SIZE, dtype=torch.uint8), rows)
