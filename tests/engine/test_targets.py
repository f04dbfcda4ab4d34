"""Masks, boxes and key points move as torchvision moves them, sample by sample, and the comparison can fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

import gpuaug as ga
from gpuaug import checks
from tests.support.images import batch, ragged
from tests.support.oracle import on_ties
from tests.support.targets import boxes_of, masks_of, moving_lists, points_of, replayed

pytestmark = pytest.mark.usefixtures("one_thread")

COUNT, SIZE = 6, (37, 45)
SIZES = [(33, 47), (48, 36), (36, 36), (64, 90), (37, 40), (50, 53)]
CLOSE = {"atol": 1e-3, "rtol": 0}
# torchvision resizes masks by nearest-exact in Resize and by nearest in RandomResizedCrop; ours follow the pixels
MOVING = [case for case in moving_lists() if "Crop(size=(24, 31), interpolation='nearest-exact'" not in case.id]
PLAIN = [case for case in MOVING if getattr(case.values[0][-1], "padding_mode", "constant") == "constant"]


def larger(op: Any) -> bool:
    """Whether it is a CenterCrop that pads: torchvision pads masks with 0, and boxes by one pixel less than images."""
    return isinstance(op, ga.CenterCrop) and any(a > b for a, b in zip(checks.size("", op.size), SIZE, strict=True))


def drawn(steps: list[Any], backend: str = "torch", **arguments: Any) -> tuple[ga.Augment, Tensor, ga.Draw]:
    """An Augment with one draw for each image, taken step by step as torchvision does."""
    images = batch("photo", COUNT, 3, SIZE)
    augment = ga.Augment(steps, backend=backend, exact=True, seed=0, **arguments)
    return augment, images, augment.sample(images, index=torch.arange(COUNT))


def same_mask(got: Tensor, theirs: Tensor, nearby: list[Tensor]) -> bool:
    """Equal, or on a tie between pixels equal to one of the neighbours."""
    fine = got == theirs
    for other in nearby:
        fine |= got == other
    return bool(fine.all())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64], ids=str)
@pytest.mark.parametrize("steps", MOVING)
def test_masks_equal_torchvisions(steps: list[Any], dtype: torch.dtype, backend: str) -> None:
    fill = 0 if larger(steps[-1]) else 77
    augment, images, draw = drawn(steps, backend, mask_fill=fill)
    masks = masks_of([SIZE] * COUNT, dtype)
    _, targets = augment.render(images, draw, {"masks": torch.stack(masks)})
    given = [tv_tensors.Mask(mask[None]) for mask in masks]

    def theirs() -> list[Tensor]:
        return [mask[0].as_subclass(Tensor) for mask in replayed(augment, draw, given, fill)]

    exact, near = theirs(), on_ties(theirs)
    assert targets["masks"].dtype == dtype
    for number, mask in enumerate(targets["masks"]):
        assert same_mask(mask, exact[number], [answers[number] for answers in near]), number


@pytest.mark.parametrize("format_", ["XYXY", "XYWH", "CXCYWH"])
@pytest.mark.parametrize("steps", [case for case in PLAIN if not larger(case.values[0][-1])])
def test_boxes_equal_torchvisions(steps: list[Any], format_: str) -> None:
    augment, images, draw = drawn(steps)
    boxes = boxes_of([SIZE] * COUNT, format_=format_)
    result, targets = augment.render(images, draw, [{"boxes": each} for each in boxes])
    for got, expected in zip(targets, replayed(augment, draw, boxes), strict=True):
        assert type(got["boxes"]) is tv_tensors.BoundingBoxes
        assert got["boxes"].format == expected.format
        assert got["boxes"].canvas_size == expected.canvas_size == tuple(result.shape[-2:])
        torch.testing.assert_close(got["boxes"].as_subclass(Tensor), expected.as_subclass(Tensor), **CLOSE)


@pytest.mark.parametrize("steps", [case for case in PLAIN if not larger(case.values[0][-1])])
def test_key_points_equal_torchvisions(steps: list[Any]) -> None:
    augment, images, draw = drawn(steps)
    points = points_of([SIZE] * COUNT)
    _, targets = augment.render(images, draw, [{"keypoints": each} for each in points])
    for got, expected in zip(targets, replayed(augment, draw, points), strict=True):
        assert type(got["keypoints"]) is tv_tensors.KeyPoints
        torch.testing.assert_close(got["keypoints"].as_subclass(Tensor), expected.as_subclass(Tensor), **CLOSE)


@pytest.mark.parametrize(
    "steps", [case for case in PLAIN if case.values[0][-1].kind == "crop" and not larger(case.values[0][-1])]
)
def test_ragged_masks_and_boxes_equal_torchvisions(steps: list[Any], backend: str) -> None:
    steps = [*steps, ga.Resize((30, 31))]
    images = ragged("photo", 3, SIZES)
    augment = ga.Augment(steps, backend=backend, exact=True, seed=0)
    draw = augment.sample(images, index=torch.arange(len(SIZES)))
    masks, boxes = masks_of(SIZES, torch.int32), boxes_of(SIZES)
    _, targets = augment.render(images, draw, [{"masks": m, "boxes": b} for m, b in zip(masks, boxes, strict=True)])
    expected = replayed(augment, draw, [tv_tensors.Mask(mask[None]) for mask in masks])
    corners = replayed(augment, draw, boxes)
    for got, mask, box in zip(targets, expected, corners, strict=True):
        assert torch.equal(got["masks"], mask[0].as_subclass(Tensor))
        torch.testing.assert_close(got["boxes"].as_subclass(Tensor), box.as_subclass(Tensor), **CLOSE)


FOLLOWED = [ga.RandomResizedCrop(24), ga.RandomHorizontalFlip(), ga.RandomAffine(30, (0.1, 0.1)), ga.ColorJitter(0.4)]


def module(*steps: Any, **arguments: Any) -> ga.Augment:
    return ga.Augment([*(steps or FOLLOWED)], seed=0, **arguments)


def test_what_goes_in_comes_out_in_the_same_form() -> None:
    images, count = batch("photo", COUNT, 3, SIZE), 5
    boxes, points = boxes_of([SIZE] * COUNT), points_of([SIZE] * COUNT)
    masks = torch.stack(masks_of([SIZE] * COUNT))
    rows = [
        {"boxes": b, "labels": torch.arange(count), "keypoints": p, "masks": m.expand(2, *SIZE), "id": n, "name": "x"}
        for n, (b, p, m) in enumerate(zip(boxes, points, masks, strict=True))
    ]
    augment, index = module(), torch.arange(COUNT)
    result, listed = augment(images, rows, index=index)
    assert torch.equal(result, augment.render(images, augment.example_draw(images)))
    assert [list(row) for row in listed] == [list(row) for row in rows]
    assert [row["id"] for row in listed] == list(range(COUNT))
    assert listed is not rows
    assert rows[0]["boxes"].canvas_size == SIZE
    draw = augment.example_draw(images)
    together = {
        "boxes": torch.stack([b.as_subclass(Tensor) for b in boxes]),
        "keypoints": [p.as_subclass(Tensor) for p in points],
        "masks": masks,
        "labels": index,
        "path": ["a"] * COUNT,
    }
    _, mapped = augment.render(images, draw, together)
    assert list(mapped) == list(together)
    assert mapped["boxes"].shape == (COUNT, count, 4)
    assert type(mapped["keypoints"]) is list
    assert mapped["labels"] is index
    assert mapped["path"] is together["path"]
    for number, row in enumerate(listed):
        assert torch.equal(row["boxes"].as_subclass(Tensor), mapped["boxes"][number])
        assert torch.equal(row["keypoints"].as_subclass(Tensor), mapped["keypoints"][number])
        assert torch.equal(row["masks"][1], mapped["masks"][number])
    _, single = augment.render(images, draw, tv_tensors.Mask(masks))
    assert type(single) is tv_tensors.Mask
    assert torch.equal(single.as_subclass(Tensor), mapped["masks"])


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.int8, torch.int16, torch.int32, torch.int64, torch.float32], ids=str
)
@pytest.mark.parametrize("planes", [0, 3])
def test_masks_of_every_type_move_as_bytes_do(dtype: torch.dtype, planes: int, backend: str) -> None:
    """The same areas, whatever type names them."""
    images = batch("photo", COUNT, 3, SIZE)
    augment = module(backend=backend)
    draw = augment.example_draw(images)
    names = torch.stack(masks_of([SIZE] * COUNT)) % 2 + 1 if dtype is not torch.bool else torch.ones(COUNT, *SIZE)
    names = names.to(torch.uint8)
    plain = augment.render(images, draw, {"masks": names})[1]["masks"]
    given = names.to(dtype) if not planes else torch.stack([names.to(dtype)] * planes, dim=1)
    moved = augment.render(images, draw, {"masks": given})[1]["masks"]
    assert moved.dtype == dtype
    for plane in [moved] if not planes else moved.unbind(1):
        assert torch.equal(plane.to(torch.uint8), plain)


def test_a_box_holds_what_is_painted_in_it(backend: str) -> None:
    """The mask of a box and the moved box agree within a pixel; without a warp, exactly but for the rounding."""
    generator = torch.Generator().manual_seed(3)
    size, count = (64, 80), 40
    images = torch.zeros(count, 3, *size, dtype=torch.uint8)
    top = torch.randint(0, 40, (count, 2), generator=generator)
    end = top + torch.randint(8, 24, (count, 2), generator=generator)
    boxes = torch.cat([top.flip(1), end.flip(1)], dim=1).float()[:, None]
    masks = torch.zeros(count, *size, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes[:, 0].int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = 1
    for steps in (
        [ga.RandomResizedCrop(56, (0.5, 1)), ga.RandomHorizontalFlip()],
        [ga.RandomAffine(0, (0.1, 0.1), (0.8, 1.2))],
    ):
        augment = ga.Augment(steps, seed=1, backend=backend)
        _, moved = augment(images, {"masks": masks, "boxes": boxes})
        seen = 0
        for mask, box in zip(moved["masks"], moved["boxes"][:, 0], strict=True):
            rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
            if len(rows):
                painted = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()
                assert float((painted - box).abs().max()) <= 1.0
                seen += 1
            else:
                assert float((box[2] - box[0]) * (box[3] - box[1])) < 2
        assert seen > count / 2


def test_matrices_map_pixels_of_the_input_to_those_of_the_output() -> None:
    images = batch("photo", COUNT, 3, SIZE)
    for steps in (FOLLOWED, [ga.Pad(3), ga.RandomPerspective(p=1), ga.RandomCrop(30)]):
        augment = module(*steps)
        draw = augment.sample(images)
        assert draw.matrices.shape == (COUNT, 3, 3)
        points = torch.rand(COUNT, 7, 2) * 30
        _, moved = augment.render(images, draw, {"keypoints": points})
        ones = torch.cat([points, torch.ones(COUNT, 7, 1)], dim=2).double()
        mapped = ones @ torch.from_numpy(draw.matrices).transpose(1, 2)
        expected = mapped[..., :2] / mapped[..., 2:]
        flipped = torch.from_numpy(draw.matrices[:, 0, 0] < 0) if steps is FOLLOWED else torch.zeros(COUNT, dtype=bool)
        keep = ~flipped  # the flips of key points are those of pixels' numbers, as in torchvision
        torch.testing.assert_close(moved["keypoints"][keep].double(), expected[keep], **CLOSE)


def test_warps_of_neighbours_are_composed_for_targets_as_for_pixels() -> None:
    """With exact=False two rotations resample once, so nothing between them is cut off."""
    images = batch("photo", COUNT, 3, SIZE)
    steps = [ga.RandomRotation((90, 90)), ga.RandomRotation((-90, -90))]
    whole = torch.tensor([0.0, 0.0, SIZE[1], SIZE[0]]).expand(COUNT, 1, 4)
    masks = torch.ones(COUNT, *SIZE, dtype=torch.uint8)
    _, once = module(*steps)(images, {"masks": masks, "boxes": whole})
    assert once["masks"].all()
    torch.testing.assert_close(once["boxes"], whole.contiguous())
    _, twice = module(*steps, exact=True)(images, {"masks": masks, "boxes": whole})
    assert not twice["masks"].all()
    assert float(twice["boxes"][0, 0, 2] - twice["boxes"][0, 0, 0]) < SIZE[1] - 4


def test_flip_pairs_exchange_left_and_right_where_an_image_is_mirrored() -> None:
    images = batch("photo", COUNT, 3, SIZE)
    points = torch.rand(COUNT, 2, 5, 3) * 30
    points[..., 2] = 2
    steps = [ga.RandomHorizontalFlip(), ga.RandomVerticalFlip()]
    augment, plain = module(*steps, flip_pairs=[(0, 1), (3, 4)]), module(*steps)
    draw = augment.example_draw(images)
    _, paired = augment.render(images, draw, {"keypoints": points})
    _, single = plain.render(images, draw, {"keypoints": points})
    flips = draw.params[0]["applied"] ^ draw.params[1]["applied"]  # turned by both, left and right stay
    assert 0 < flips.sum() < COUNT
    order = torch.tensor([1, 0, 2, 4, 3])
    for number, mirrored in enumerate(flips):
        expected = single["keypoints"][number][:, order] if mirrored else single["keypoints"][number]
        assert torch.equal(paired["keypoints"][number], expected)


def test_key_points_outside_keep_their_place_and_become_invisible() -> None:
    images = batch("photo", COUNT, 3, SIZE)
    points = torch.tensor([[5.0, 6.0, 2.0], [44.0, 36.0, 1.0], [22.0, 18.0, 0.0]]).expand(COUNT, 1, 3, 3)
    _, moved = module(ga.CenterCrop(11))(images, {"keypoints": points})
    assert moved["keypoints"][0, 0].tolist() == [[-12.0, -7.0, 0.0], [27.0, 23.0, 0.0], [5.0, 5.0, 0.0]]


@pytest.mark.parametrize("several", [False, True])
def test_dropped_boxes_drop_what_belongs_to_them(several: bool) -> None:
    images: Any = ragged("photo", 3, SIZES) if several else batch("photo", COUNT, 3, SIZE)
    sizes = SIZES if several else [SIZE] * COUNT
    random = torch.Generator().manual_seed(1)
    rows = []
    for number, (boxes, size) in enumerate(zip(boxes_of(sizes, 6), sizes, strict=True)):
        count = 0 if number == 2 else 6
        rows.append({
            "boxes": boxes[:count].as_subclass(Tensor), "labels": torch.arange(6)[:count],
            "masks": torch.randint(0, 2, (6, *size), generator=random).bool()[:count],
            "keypoints": torch.arange(6.0)[:count, None, None].expand(count, 4, 2), "iscrowd": torch.arange(6)[:count],
            "area": torch.arange(6)[:count],
        })  # fmt: skip
    step = ga.SanitizeBoundingBoxes(min_size=4, min_area=30, min_visibility=0.5, follow=["iscrowd"])
    steps = [ga.RandomResizedCrop(24), ga.RandomHorizontalFlip()]
    augment = module(*steps, step, ga.ToDtype(torch.float32, scale=True))
    draw = augment.example_draw(images)
    _, kept = augment.render(images, draw, rows)
    _, all_ = module(*steps).render(images, module(*steps).example_draw(images), rows)
    dropped = 0
    for row, whole, given, matrix in zip(kept, all_, rows, draw.matrices, strict=True):
        boxes, scale = whole["boxes"], abs(matrix[0, 0] * matrix[1, 1])
        size = boxes[:, 2:] - boxes[:, :2]
        full = given["boxes"][:, 2:] - given["boxes"][:, :2]
        keep = (size >= 4).all(1) & (size.prod(1) >= 30) & (size.prod(1) >= 0.5 * full.prod(1) * scale)
        assert torch.equal(row["boxes"], boxes[keep])
        assert row["labels"].tolist() == keep.nonzero().flatten().tolist()
        for key in ("masks", "keypoints"):
            assert torch.equal(row[key], whole[key][keep])
        assert torch.equal(row["iscrowd"], given["iscrowd"][keep])
        assert torch.equal(row["area"], given["area"])  # not named
        dropped += int((~keep).sum())
    assert 0 < dropped < 5 * 6


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("numbers", [(0, 200), (-100, 150), (-1, 300), (1000, 1100)], ids=str)
def test_masks_move_alike_whether_their_numbers_fit_into_a_byte_or_not(
    dtype: torch.dtype, several: bool, numbers: tuple[int, int], backend: str
) -> None:
    """With an ignore index below all of them, a negative number late in the batch, and a range too wide for a byte."""
    images: Any = ragged("photo", 3, SIZES) if several else batch("photo", COUNT, 3, SIZE)
    augment = module(backend=backend, mask_fill=-7)
    draw = augment.sample(images)
    given = masks_of(SIZES if several else [SIZE] * COUNT, torch.uint8)
    low, high = numbers
    wide = [(mask.to(dtype) * (high - low) // 119 + low) for mask in given]
    wide[0].clamp_(min=0)  # so the first look finds no negative number
    _, moved = augment.render(images, draw, [{"masks": mask} for mask in wide])
    _, floats = augment.render(images, draw, [{"masks": mask.float()} for mask in wide])
    for row, other in zip(moved, floats, strict=True):
        assert row["masks"].dtype == dtype
        assert torch.equal(row["masks"].float(), other["masks"])
