"""Forms, types and meaning of targets: what goes in comes out, boxes hold what is in them, mixes and drops agree."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

import gpuaug as ga
from tests.support.images import batch, ragged
from tests.support.target_fuzz import disagreements
from tests.support.targets import CLOSE, COUNT, SIZE, SIZES, boxes_of, masks_of, points_of

pytestmark = pytest.mark.usefixtures("one_thread")

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


def test_random_lists_move_random_targets_alike_on_every_backend() -> None:
    """The first of the lists that `python -m tests.support.target_fuzz 10000` tries."""
    found = disagreements(range(40))
    assert found[""] > 30
    assert not found.keys() - {"", "refused"}, found


@pytest.mark.parametrize("several", [False, True])
def test_invert_puts_targets_back_onto_their_images(several: bool) -> None:
    sizes = SIZES if several else [SIZE] * COUNT
    images: Any = ragged("photo", 3, sizes) if several else batch("photo", COUNT, 3, SIZE)
    steps = [ga.RandomHorizontalFlip(), ga.Resize((60, 70)), ga.RandomAffine(15), ga.RandomPerspective(0.2)]
    augment = module(*steps, flip_pairs=[(0, 1)], mask_fill=200)
    draw = augment.sample(images)
    masks, points = masks_of(sizes), points_of(sizes)
    rows = [
        {"boxes": boxes, "keypoints": point, "masks": mask}
        for boxes, point, mask in zip(boxes_of(sizes), points, masks, strict=True)
    ]
    _, there = augment.render(images, draw, rows)
    back = ga.invert(draw, there, mask_fill=201, flip_pairs=[(0, 1)])
    close = seen = 0
    for row, given, size in zip(back, rows, sizes, strict=True):
        assert row["boxes"].canvas_size == row["keypoints"].canvas_size == size
        torch.testing.assert_close(
            row["keypoints"].as_subclass(Tensor), given["keypoints"].as_subclass(Tensor), **CLOSE
        )
        visible = row["masks"] < 200
        assert row["masks"].shape == given["masks"].shape
        close += int((row["masks"][visible] == given["masks"][visible]).sum())
        seen += int(visible.sum())
    assert close > 0.7 * seen > 0  # areas of 3 x 3 pixels, looked up twice
    whole = torch.stack([torch.tensor([0.0, 0.0, 70.0, 60.0])] * len(sizes))[:, None]
    flat = ga.Augment([ga.Resize((60, 70)), ga.RandomHorizontalFlip()], seed=0)
    drawn_ = flat.sample(images)
    boxes = ga.invert(drawn_, {"boxes": whole})["boxes"]
    torch.testing.assert_close(boxes[:, 0, [3, 2]], torch.tensor(sizes).float())


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize("soft", [False, True])
def test_mixed_masks(mode: str, soft: bool) -> None:
    """CutMix pastes in the box of the images; MixUp gives both masks and the weight, or weights of classes."""
    count, classes = 5, 7
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 3, *SIZE).contiguous() * 20
    masks = torch.arange(count)[:, None, None].expand(count, *SIZE).contiguous()
    number = classes if soft else None
    mixes = [ga.MixUp(num_classes=number, mode=mode), ga.CutMix(num_classes=number, mode=mode)]
    for mix in (*mixes, ga.RandomChoice(mixes)):
        augment = module(ga.ToDtype(torch.float32), mix)
        draw = augment.sample(images)
        result, targets = augment.render(images, draw, {"masks": masks})
        shown = result[:, 0] / 20  # a mixture of the numbers of the images
        if soft and mix is not mixes[1]:
            assert set(targets) == {"masks"}
            assert targets["masks"].shape == (count, classes, *SIZE)
            torch.testing.assert_close(targets["masks"].sum(1), torch.ones(count, *SIZE))
            values = (targets["masks"] * torch.arange(classes).float()[:, None, None]).sum(1)
        elif mix is mixes[1]:
            assert set(targets) == {"masks"}
            values = targets["masks"].float()
        else:
            assert set(targets) == {"masks", "masks_partner", "masks_weight"}
            weight = targets["masks_weight"][:, None, None]
            values = targets["masks"] * weight + targets["masks_partner"] * (1 - weight)
        torch.testing.assert_close(values, shown, atol=1e-4, rtol=0)


def test_an_ignore_index_has_no_weight_in_soft_masks() -> None:
    images = batch("photo", 4, 3, SIZE)
    masks = torch.full((4, *SIZE), 255)
    augment = module(ga.MixUp(num_classes=3))
    _, targets = augment(images, {"masks": masks, "labels": torch.tensor([0, 1, 2, 0])})
    assert not targets["masks"].any()
    assert targets["labels"].shape == (4, 3)


def test_erased_masks() -> None:
    images = batch("photo", COUNT, 3, SIZE)
    masks = torch.ones(COUNT, *SIZE, dtype=torch.int32)
    for steps in ([ga.RandomErasing(1.0, value=9)], [ga.ToDtype(torch.float32), ga.RandomErasing(1.0, value=-7)]):
        augment = module(*steps, erase_masks=True, mask_fill=-1)
        draw = augment.sample(images)
        _, erased = augment.render(images, draw, {"masks": masks})
        _, kept = module(*steps).render(images, draw, {"masks": masks})
        assert kept["masks"].all()
        expected = masks.clone()
        for mask, (top, left, height, width) in zip(expected, draw.params[-1]["box"].tolist(), strict=True):
            mask[top : top + height, left : left + width] = -1
        assert torch.equal(erased["masks"], expected)


def test_evaluation_moves_targets_too() -> None:
    images = batch("photo", COUNT, 3, SIZE)
    augment = module(ga.RandomResizedCrop(20), ga.SanitizeBoundingBoxes()).eval()
    boxes = [b.as_subclass(Tensor) for b in boxes_of([SIZE] * COUNT)]
    result, targets = augment(images, [{"boxes": box} for box in boxes])
    assert "SanitizeBoundingBoxes" in repr(augment.eval_pipeline.steps)
    scale, start = torch.tensor([27 / 45, 23 / 37] * 2), torch.tensor([4.0, 2.0] * 2)  # Resize(23), CenterCrop(20)
    expected = (boxes[0] * scale - start).clamp(0, 20)
    kept = ((expected[:, 2:] - expected[:, :2]) >= 1).all(1)
    assert len(targets[0]["boxes"]) == int(kept.sum())
    torch.testing.assert_close(targets[0]["boxes"], expected[kept], **CLOSE)
    assert result.shape[-2:] == (20, 20)


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


def test_targets_move_as_the_module_that_renders_moves_images() -> None:
    """Not as the one that drew: neighbouring warps are composed by one, and not by the other."""
    images, masks = batch("photo", COUNT, 3, SIZE), torch.stack(masks_of([SIZE] * COUNT))
    steps = [ga.RandomRotation((30, 60)), ga.RandomRotation((30, 60))]
    loose, exact = module(*steps), module(*steps, exact=True)
    draw = loose.sample(images)
    expected = exact.render(images, exact.example_draw(images), {"masks": masks})[1]["masks"]
    assert torch.equal(exact.render(images, draw, {"masks": masks})[1]["masks"], expected)
    assert not torch.equal(loose.render(images, draw, {"masks": masks})[1]["masks"], expected)


def test_a_function_that_moves_nothing_may_stand_beside_targets() -> None:
    images, masks = batch("photo", COUNT, 3, SIZE), torch.stack(masks_of([SIZE] * COUNT))
    for moves in (True, False):
        twice = ga.Lambda(lambda levels: 2 * levels - 1, moves=moves)
        augment = module(ga.RandomCrop(20), ga.ToDtype(torch.float32, scale=True), twice)
        if moves:
            with pytest.raises(ValueError, match="may move pixels"):
                augment(images, {"masks": masks})
        else:
            assert augment(images, {"masks": masks})[1]["masks"].shape == (COUNT, 20, 20)
