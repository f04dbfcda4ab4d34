"""RandomIoUCrop: torchvision's own search, fed with the same numbers, takes the same crops; and what follows them."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

import gpuaug as ga
from gpuaug.philox import uniforms
from tests.support.images import batch, ragged
from tests.support.targets import CLOSE, COUNT, SIZE, SIZES, boxes_of, masks_of, points_of

pytestmark = pytest.mark.usefixtures("one_thread")

OPS = [
    ga.RandomIoUCrop(),
    ga.RandomIoUCrop(0.1, 0.6, 0.7, 1.2, [0.0, 0.3, 2.0], trials=7),
    ga.RandomIoUCrop(sampler_options=[0.05, 0.2]),
]
END = ga.Resize((30, 31))


class Numbers:
    """torch.rand and torch.randint of one image, with the numbers that gpuaug draws for it."""

    def __init__(self, op: ga.RandomIoUCrop, place: int, keys: Any, row: int, size: tuple[int, int]) -> None:
        self.op, self.place, self.keys, self.row, self.size = op, place, keys, row, size
        self.round = self.trial = -1
        self.second = False

    def block(self, number: int) -> Any:
        one = self.keys.take(np.array([self.row]))
        return uniforms(one.key, one.index, one.look, np.array([self.place]), np.array([number]))[0]

    def randint(self, low: int, high: int, size: Any) -> Tensor:
        self.round, self.trial, self.second = self.round + 1, -1, False
        return torch.tensor([int(self.block(1 + self.round * (self.op.trials + 1))[0] * high)])

    def rand(self, count: int) -> Tensor:
        self.trial += not self.second
        numbers = self.block(2 + self.round * (self.op.trials + 1) + self.trial)
        if self.second:
            self.second = False
            return torch.from_numpy(numbers[2:])
        scale = self.op.min_scale + (self.op.max_scale - self.op.min_scale) * numbers[:2]
        width, height = int(self.size[1] * scale[0]), int(self.size[0] * scale[1])
        self.second = self.op.min_aspect_ratio <= width / height <= self.op.max_aspect_ratio
        return torch.from_numpy(numbers[:2])


def torchvisions(op: ga.RandomIoUCrop, place: int, draw: ga.Draw, row: int, boxes: Any) -> dict[str, Any]:
    size = tuple(boxes.canvas_size)
    options = None if op.sampler_options is None else list(op.sampler_options)
    limits = op.min_scale, op.max_scale, op.min_aspect_ratio, op.max_aspect_ratio
    theirs = v2.RandomIoUCrop(*limits, options, op.trials)
    numbers = Numbers(op, place, draw.keys, row, size)
    with mock.patch("torch.rand", numbers.rand), mock.patch("torch.randint", numbers.randint):
        return theirs.make_params([tv_tensors.Image(torch.zeros(3, *size)), boxes])


@pytest.mark.parametrize("op", OPS, ids=repr)
@pytest.mark.parametrize("several", [False, True])
def test_torchvisions_search_takes_the_same_crop(op: ga.RandomIoUCrop, several: bool) -> None:
    sizes = SIZES if several else [SIZE] * COUNT
    images: Any = ragged("photo", 3, sizes) if several else batch("photo", COUNT, 3, SIZE)
    augment, cropped = ga.Augment([op, END], seed=5, backend="torch"), 0
    for start in range(0, 10 * COUNT, COUNT):
        boxes = [box.to(torch.float64) for box in boxes_of(sizes)]
        draw = augment.sample(images, [{"boxes": box} for box in boxes], index=torch.arange(start, start + COUNT))
        for row, (box, chosen) in enumerate(zip(boxes, draw.params[0]["box"].tolist(), strict=True)):
            if not len(box):
                assert chosen == [0, 0, *sizes[row]]
                continue
            expected = torchvisions(op, 0, draw, row, box)
            whole = {"top": 0, "left": 0, "height": sizes[row][0], "width": sizes[row][1]}
            assert chosen == [(expected or whole)[name] for name in whole]
            assert bool(draw.params[0]["applied"][row]) == bool(expected)
            cropped += bool(expected)
    assert cropped > 2 * COUNT


@pytest.mark.parametrize("before", [[], [ga.RandomHorizontalFlip(), ga.RandomZoomOut(p=0.7)]], ids=["first", "later"])
@pytest.mark.parametrize("several", [False, True])
def test_images_and_targets_are_cropped_as_torchvision_does(before: list[Any], several: bool, backend: str) -> None:
    """Also behind other steps: the boxes that it sees are those at its place."""
    sizes = SIZES if several else [SIZE] * COUNT
    images: Any = ragged("photo", 3, sizes) if several else batch("photo", COUNT, 3, SIZE)
    boxes, masks, points = boxes_of(sizes), masks_of(sizes), points_of(sizes)
    given = [
        {"boxes": box, "masks": mask, "points": point} for box, mask, point in zip(boxes, masks, points, strict=True)
    ]
    augment = ga.Augment([*before, OPS[0], END], seed=5, backend=backend, exact=True)
    draw = augment.sample(images, given)
    result, targets = augment.render(images, draw, given)
    place, emptied = len(before), 0
    for row, image in enumerate(images):
        values = [image.contiguous(), boxes[row], tv_tensors.Mask(masks[row][None]), points[row]]
        if before:
            if draw.params[0]["applied"][row]:
                values = [F.horizontal_flip(value) for value in values]
            top, left = (-draw.params[1]["start"][row]).tolist()
            height, width = draw.params[1]["size"][row].tolist()
            old = sizes[row]
            values = [F.pad(value, [left, top, width - old[1] - left, height - old[0] - top]) for value in values]
        if len(boxes[row]):
            found = torchvisions(OPS[0], place, draw, row, values[1].to(torch.float64))
            values = [v2.RandomIoUCrop().transform(value, found) for value in values]
        values = [F.resize(value, [30, 31], antialias=True) for value in values]
        assert torch.equal(result[row], values[0])
        expected = {"boxes": values[1], "points": values[3]}
        for name, value in expected.items():
            torch.testing.assert_close(targets[row][name].as_subclass(Tensor), value.as_subclass(Tensor), **CLOSE)
        assert torch.equal(targets[row]["masks"].as_subclass(Tensor), values[2][0].as_subclass(Tensor))
        emptied += int((values[1].as_subclass(Tensor) == 0).all(1).sum())
    assert emptied > 0


def one_box(count: int) -> Any:
    return {"boxes": torch.tensor([[[10.0, 20, 40, 60], [70, 5, 90, 30]]]).repeat(count, 1, 1)}


def test_crops_are_distributed_as_torchvisions() -> None:
    count = 3000
    images = torch.zeros(count, 1, 100, 120, dtype=torch.uint8)
    draw = ga.Augment([ga.RandomIoUCrop(), END], seed=0, backend="torch").sample(images, one_box(count))
    boxes = tv_tensors.BoundingBoxes(one_box(1)["boxes"][0], format="XYXY", canvas_size=(100, 120))
    theirs, image = [], tv_tensors.Image(images[0])
    torch.manual_seed(0)
    for _ in range(count // 3):
        found = v2.RandomIoUCrop().make_params([image, boxes])
        theirs.append([found.get(name, whole) for name, whole in
                       (("top", 0), ("left", 0), ("height", 100), ("width", 120))] + [bool(found)])  # fmt: skip
    own = np.concatenate([draw.params[0]["box"], draw.params[0]["applied"][:, None]], axis=1).astype(np.float64)
    other = np.array(theirs, np.float64)
    scale = other.std(axis=0) * np.sqrt(1 / len(own) + 1 / len(other))
    assert (np.abs(own.mean(axis=0) - other.mean(axis=0)) < 5 * scale).all()
    assert (np.abs(own.mean(axis=0) * 1.25 - other.mean(axis=0)) > 5 * scale).any()


def test_a_draw_depends_on_nothing_but_the_image_its_boxes_and_its_number(backend: str) -> None:
    images, index = batch("photo", COUNT, 3, SIZE), torch.arange(COUNT)
    rows = [{"boxes": box} for box in boxes_of([SIZE] * COUNT)]
    augment = ga.Augment([ga.RandomIoUCrop(), END], seed=3, backend=backend)
    first = augment.sample(images, rows, index=index).params[0]["box"]
    augment.set_epoch(augment.epoch)
    other = augment.sample(images.flip(0), rows[::-1], index=index.flip(0)).params[0]["box"]
    assert (other[::-1] == first).all()
    assert (first != first[0]).any()


def test_sanitize_drops_what_lost_its_centre_and_only_that(backend: str) -> None:
    images, given = torch.zeros(40, 3, 100, 120, dtype=torch.uint8), one_box(40)["boxes"]
    rows = [{"boxes": box, "labels": torch.tensor([0, 1])} for box in given]
    augment = ga.Augment([ga.RandomIoUCrop(), ga.SanitizeBoundingBoxes(), END], seed=0, backend=backend)
    draw = augment.sample(images, rows)
    _, kept = augment.render(images, draw, rows)
    for row, (top, left, height, width), chosen in zip(
        kept, draw.params[0]["box"].tolist(), draw.params[0]["applied"], strict=True
    ):
        centres = [((25, 40), (80, 17.5))[n] for n in range(2)]
        inside = [n for n, (x, y) in enumerate(centres) if left < x < left + width and top < y < top + height]
        assert row["labels"].tolist() == (inside if chosen else [0, 1])
    assert len({len(row["labels"]) for row in kept}) == 2


def test_all_frames_of_a_clip_have_one_crop(backend: str) -> None:
    clips = torch.randint(0, 256, (3, 2, 3, 50, 60), dtype=torch.uint8)
    boxes = torch.tensor([5.0, 6, 30, 40]).repeat(3, 2, 1, 1)
    augment = ga.Augment([ga.RandomIoUCrop(sampler_options=[0.3]), END], seed=1, backend=backend)
    draw = augment.sample(clips, {"boxes": boxes})
    result, _ = augment.render(clips, draw, {"boxes": boxes})
    for clip, frames, box in zip(clips, result, draw.params[0]["box"].tolist(), strict=True):
        assert torch.equal(frames, F.resize(F.crop(clip, *box), [30, 31], antialias=True))
    assert draw.params[0]["applied"].all()


def test_images_without_boxes_and_searches_without_end_stay_whole() -> None:
    images = torch.zeros(2, 3, 40, 50, dtype=torch.uint8)
    rows = [{"boxes": torch.zeros(0, 4)}, {"boxes": torch.tensor([[0.0, 0, 2, 2]])}]
    augment = ga.Augment([ga.RandomIoUCrop(0.9, 1, sampler_options=[0.5], trials=2), END], seed=1, backend="torch")
    assert augment.sample(images, rows).params[0]["box"].tolist() == [[0, 0, 40, 50]] * 2


def test_what_it_needs_is_said() -> None:
    images = torch.zeros(2, 3, 40, 50, dtype=torch.uint8)
    augment = ga.Augment([ga.RandomIoUCrop(), END], backend="torch")
    boxes = torch.tensor([[[0.0, 0, 20, 20]]]).repeat(2, 1, 1)
    masks = {"masks": images[:, 0]}
    for ask in (lambda: augment(images), lambda: augment.sample(images), lambda: augment(images, masks)):
        with pytest.raises(ValueError, match=r"with boxes, as RandomIoUCrop .* Pass \[\{\"boxes\""):
            ask()
    typed = tv_tensors.BoundingBoxes(boxes[:, 0], format="XYXY", canvas_size=(40, 50))
    with pytest.raises(ValueError, match='one key of boxes for RandomIoUCrop, got "boxes", "proposals"'):
        augment(images, {"boxes": boxes, "proposals": typed})
    with pytest.raises(ValueError, match="gives all images one size after RandomIoUCrop"):
        ga.Augment([ga.RandomIoUCrop()])
    with pytest.raises(ValueError, match="crops to one size"):
        ga.RandomChoice([ga.RandomIoUCrop(), ga.CenterCrop(9)])
    state = augment.state_dict()["_extra_state"].clone()
    with pytest.raises(ValueError, match="with boxes"):
        augment(images)
    assert torch.equal(augment.state_dict()["_extra_state"], state)
    assert augment.eval()(images).shape == (2, 3, 30, 31)
    assert not augment.train_pipeline.first_steps  # data sets cannot know what it will read


def test_views_share_the_crop_if_it_is_shared() -> None:
    images, rows = batch("photo", 8, 3, (100, 120)), [{"boxes": box} for box in one_box(8)["boxes"]]
    steps: list[Any] = [ga.RandomHorizontalFlip(), ga.RandomIoUCrop(), END]
    multi = ga.MultiView([[], []], shared=steps, seed=3, backend="torch")
    (first, second), (own, other) = multi(images, rows)
    assert torch.equal(first, second)
    assert all(torch.equal(one["boxes"], two["boxes"]) for one, two in zip(own, other, strict=True))
    assert torch.equal(first, ga.Augment(steps, seed=3, backend="torch")(images, rows)[0])
    apart = ga.MultiView([steps, steps], seed=3, backend="torch")
    (first, second), _ = apart(images, rows)
    assert not torch.equal(first, second)


def test_views_can_be_sampled_with_their_boxes() -> None:
    images, rows = batch("photo", 4, 3, (100, 120)), [{"boxes": box} for box in one_box(4)["boxes"]]
    one, two = (ga.MultiView([[ga.RandomIoUCrop(), END], [END]], seed=3, backend="torch") for _ in range(2))
    result, moved = one.render(images, one.sample(images, rows), rows)
    straight, targets = two(images, rows)
    assert all(map(torch.equal, result, straight))
    assert all(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(moved[0], targets[0], strict=True))


def test_boxes_that_are_not_clipped_are_seen_as_they_are() -> None:
    """torchvision's search sees boxes outside of the image too, if their clamping_mode is None."""
    boxes = tv_tensors.BoundingBoxes([[5.0, 5, 30, 44]], format="XYXY", canvas_size=SIZE, clamping_mode=None)
    augment = ga.Augment([ga.CenterCrop(20), ga.RandomIoUCrop(), END], seed=1, backend="torch")
    seen: list[Any] = []

    def search(found: Any, rows: Any, *_: Any) -> Any:
        seen.append(found.boxes)
        return np.zeros(len(rows), int)

    with mock.patch("gpuaug.transforms.iou.search", search):
        augment.sample(torch.zeros(1, 3, *SIZE, dtype=torch.uint8), [{"boxes": boxes}])
    assert np.allclose(seen[0], F.center_crop(boxes, [20, 20]))
    assert seen[0].max() > 20


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"min_scale": 0}, "min_scale"), ({"max_scale": 0.2}, "max_scale"), ({"max_scale": 1.5}, "max_scale"),
        ({"min_aspect_ratio": -1}, "min_aspect_ratio"), ({"max_aspect_ratio": 0.1}, "max_aspect_ratio"),
        ({"sampler_options": []}, "sampler_options"), ({"sampler_options": [-1]}, "sampler_options"),
        ({"sampler_options": 0.5}, "sampler_options"), ({"trials": 0}, "trials"),
    ],
)  # fmt: skip
def test_bad_arguments(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=f"RandomIoUCrop: `{name}` must be"):
        ga.RandomIoUCrop(**arguments)


def test_torchvisions_becomes_ours() -> None:
    assert ga.from_torchvision(v2.RandomIoUCrop()) == [ga.RandomIoUCrop()]
    theirs = v2.RandomIoUCrop(0.2, 0.9, 0.4, 3.0, [0.1, 1.0], 5)
    assert repr(ga.from_torchvision(theirs)) == repr([ga.RandomIoUCrop(0.2, 0.9, 0.4, 3.0, (0.1, 1.0), 5)])
