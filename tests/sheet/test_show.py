"""`ga.show`: how many pictures there are, that they are the pixels of the draw, what is written and drawn on them."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

import gpuaug as ga
from gpuaug.demo import photographs
from gpuaug.sheet.marks import picture
from gpuaug.sheet.tiles import tiles
from tests.support.helpers import noise, used

pytest.importorskip("matplotlib")
agg = pytest.importorskip("matplotlib.backends.backend_agg")

FLOATS = [ga.ToDtype(torch.float32, scale=True), ga.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
FLIP = ga.RandomHorizontalFlip()


def pixels(place: Any) -> torch.Tensor:
    """The picture on axes, (3, H, W)."""
    return torch.from_numpy(place.images[0].get_array().copy()).permute(2, 0, 1)


def said(figure: Any) -> list[str]:
    return [place.get_xlabel().replace("\n", " · ") for place in figure.axes]


def test_one_image_is_shown_rows_times_columns_times() -> None:
    image = noise(1, height=40, width=60)[0]
    augment = ga.Augment([ga.RandomResizedCrop(32), FLIP, *FLOATS], seed=5, backend="torch").eval()
    before = used(augment)
    figure = ga.show(augment, image, rows=2, columns=3, epoch=4)
    assert len(figure.axes) == 6
    assert not augment.training
    assert used(augment) == before
    batch = image.expand(6, -1, -1, -1)
    draw = augment.example_draw(batch, epoch=4)
    shown = torch.stack([pixels(place) for place in figure.axes])
    plain = ga.Augment([ga.RandomResizedCrop(32), FLIP], seed=5, backend="torch")
    assert torch.equal(shown, plain.render(batch, plain.example_draw(batch, epoch=4)))
    assert not torch.equal(shown[0], shown[1])
    for caption, flipped in zip(said(figure), draw.params[1]["applied"], strict=True):
        assert caption.startswith("crop ")
        assert caption.endswith("flip") == flipped


@pytest.mark.parametrize("columns", [1, 3])
def test_a_crop_that_is_chosen_by_the_boxes_is_shown(columns: int) -> None:
    images, boxes = noise(2, height=40, width=60), torch.tensor([[5.0, 5, 40, 30]]).repeat(2, 1, 1)
    augment = ga.Augment([ga.RandomIoUCrop(sampler_options=[0.3]), ga.Resize((32, 32))], seed=5, backend="torch")
    figure = ga.show(augment, images, columns=columns, targets={"boxes": boxes})
    shown = torch.stack([pixels(place) for place in figure.axes])
    draw = augment.example_draw(images, {"boxes": boxes})
    assert torch.equal(shown[::columns], augment.render(images, draw))
    assert (draw.params[0]["size"] < 60).any()
    assert len({place.numpy().tobytes() for place in shown}) == 2 * columns


@pytest.mark.parametrize("form", ["batch", "list", "ragged", "pillow", "paths"])
def test_several_images_have_a_row_each(form: str) -> None:
    files = photographs.paths()[:2]
    given: Any = list(noise(2, height=50, width=70))
    if form == "batch":
        given = torch.stack(given)
    elif form == "ragged":
        given = ga.Ragged.from_images(photographs.photographs()[:2])
    elif form == "pillow":
        with Image.open(files[0]) as first, Image.open(files[1]) as second:
            given = [first.copy(), second.copy()]
    elif form == "paths":
        given = [str(files[0]), files[1]]
    figure = ga.show([ga.RandomResizedCrop(24), FLIP], given, columns=5)
    assert len(figure.axes) == 10
    rows = [[pixels(place) for place in figure.axes[first : first + 5]] for first in (0, 5)]
    assert all(image.shape == (3, 24, 24) for row in rows for image in row)
    same = ga.show([ga.RandomResizedCrop(24), FLIP], files if form in ("pillow", "paths", "ragged") else given, 9, 5)
    near = 12 if form == "pillow" else 0  # Pillow's decoder and torchvision's differ where colour is sampled
    for place, other in zip(figure.axes, same.axes, strict=True):
        assert (pixels(place).int() - pixels(other).int()).abs().float().mean() <= near


def test_a_grey_image_and_one_of_many_bands() -> None:
    for channels in (1, 2, 5):
        image = noise(1, height=20, width=20, channels=channels)[0]
        (place,) = ga.show([ga.RandomHorizontalFlip(p=0)], image, 1, 1).axes
        expected = image[:3] if channels == 5 else image[:1].expand(3, -1, -1)
        assert torch.equal(pixels(place), expected)
        assert place.get_xlabel() == "unchanged"


def test_mixes_have_a_bar_and_take_the_other_image() -> None:
    images = torch.stack([torch.full((3, 16, 16), 20 * n, dtype=torch.uint8) for n in (1, 6)])
    mix = ga.MixUp(num_classes=2)
    figure = ga.show([*FLOATS, mix], images, columns=3)
    weights = []
    for number, place in enumerate(figure.axes):
        own, other = place.patches
        weight = own.get_width()
        weights.append(weight)
        assert other.get_width() == pytest.approx(1 - weight)
        assert place.get_xlabel() == f"MixUp {weight:.2f}"
        levels = (20, 120) if number < 3 else (120, 20)
        expected = weight * levels[0] + (1 - weight) * levels[1]
        assert pixels(place).float().mean() == pytest.approx(expected, abs=1.5)
    assert len(set(weights)) == 3  # a column is a batch
    single = ga.show([ga.RandomResizedCrop(16), ga.CutMix(num_classes=2)], photographs.photographs()[0], 1, 3)
    assert any(place.patches for place in single.axes)
    plain = ga.show([FLIP], images)
    assert not any(place.patches for place in plain.axes)


def test_targets_are_drawn_where_the_draw_moves_them() -> None:
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    mask = torch.zeros(40, 60, dtype=torch.uint8)
    mask[5:15, 10:30] = 2
    image[:, 5:15, 10:30] = 255
    targets = {
        "masks": mask,
        "boxes": torch.tensor([[10.0, 5, 30, 15]]),
        "keypoints": torch.tensor([[10.0, 5, 2], [0, 0, 0]]),  # the second cannot be seen
    }
    figure = ga.show([ga.RandomHorizontalFlip(p=0.5)], image, 2, 4, targets=targets)
    places = set()
    for place in figure.axes:
        rows, columns = pixels(place)[0].nonzero().unbind(1)
        box = place.patches[-1]
        found = [box.get_x(), box.get_y(), box.get_x() + box.get_width(), box.get_y() + box.get_height()]
        assert found == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        layer = place.images[1].get_array()
        assert np.array_equal(layer[..., 3] > 0, pixels(place)[0].numpy() > 0)
        ((x, y),) = place.collections[0].get_offsets()
        assert (x, y) == ((10, 5) if columns.min() == 10 else (49, 5))
        places.add(int(columns.min()))
    assert places == {10, 30}


def test_targets_of_a_batch_of_lists_and_of_types() -> None:
    images = noise(2, height=30, width=40)
    boxes = [torch.tensor([[1.0, 2, 11, 12]]), torch.zeros(0, 4)]
    rows = [{"boxes": own, "labels": torch.zeros(len(own), dtype=torch.int64)} for own in boxes]
    steps = [ga.RandomHorizontalFlip(p=0)]
    figure = ga.show(steps, images, columns=2, targets=rows)
    assert [len(place.patches) for place in figure.axes] == [2, 2, 0, 0]  # a dark line behind each
    typed = tv_tensors.BoundingBoxes([[1, 2, 10, 10]], format="XYWH", canvas_size=(30, 40))
    figure = ga.show(steps, images, columns=2, targets=[{"boxes": typed}, {"boxes": typed}])
    assert figure.axes[3].patches[-1].get_bbox().bounds == (1, 2, 10, 10)
    single = ga.show(steps, images[0], 1, 1, targets=[{"boxes": typed}])
    assert single.axes[0].patches[-1].get_bbox().bounds == (1, 2, 10, 10)
    masks = torch.zeros(2, 30, 40, dtype=torch.uint8)
    masks[1, :10] = 1
    for given in ({"masks": masks}, tv_tensors.Mask(masks)):
        figure = ga.show(steps, images, columns=2, targets=given)
        shares = [float((place.images[1].get_array()[..., 3] > 0).mean()) for place in figure.axes]
        assert shares == pytest.approx([0, 0, 1 / 3, 1 / 3])


def test_a_crop_chosen_by_the_boxes_gets_them() -> None:
    augment = ga.Augment([ga.RandomIoUCrop(), ga.Resize((24, 24))], seed=3, backend="torch")
    images, boxes = noise(2), {"boxes": torch.tensor([[[4.0, 4, 20, 20]], [[2.0, 6, 12, 18]]])}
    figure = ga.show(augment, images, columns=2, targets=boxes)
    batch = torch.stack(list(images))
    for first, column in ((0, 0), (2, 1)):
        draw = augment.example_draw(batch, boxes, first=first)
        shown = torch.stack([pixels(place) for place in figure.axes[column::2]])
        assert torch.equal(shown, augment.render(batch, draw, boxes)[0])
    with pytest.raises(ValueError, match="with boxes, as RandomIoUCrop"):
        ga.show(augment, images)


def test_rotated_boxes_are_drawn_by_their_corners() -> None:
    box = tv_tensors.BoundingBoxes([[20.0, 10, 16, 8, 90]], format="CXCYWHR", canvas_size=(32, 40))
    image = torch.zeros(3, 32, 40, dtype=torch.uint8)
    figure = ga.show([ga.RandomHorizontalFlip(1.0)], image, 1, 1, targets={"boxes": box})
    (place,) = figure.axes
    corners = {tuple(np.round(corner).astype(int).tolist()) for corner in place.patches[0].get_xy()}
    assert corners == {(16, 2), (24, 2), (24, 18), (16, 18)}
    (row,) = tiles("show", ga.Augment([ga.RandomHorizontalFlip(1.0)]), [image], 1, targets=[{"boxes": box}])
    drawn = np.asarray(picture(row[1].image, row[1].marks, 32, 40))
    assert drawn[10, 16].max() > 0 == drawn[10, 20].max()  # its side, and its middle


def test_masks_of_a_mix_are_both_drawn() -> None:
    masks = torch.zeros(2, 8, 8, dtype=torch.int64)
    masks[0, :4], masks[1, 4:] = 1, 2
    (left, *_) = ga.show([ga.MixUp()], noise(2, height=8, width=8), columns=1, targets={"masks": masks}).axes
    own, other = (layer.get_array()[..., 3].astype(float) for layer in left.images[1:])
    weight = left.patches[0].get_width()
    assert own[:4].min() == own.max() == pytest.approx(weight * 140, abs=1)
    assert other[4:].min() == other.max() == pytest.approx((1 - weight) * 140, abs=1)
    soft = ga.show([ga.CutMix(num_classes=3)], noise(2, height=8, width=8), columns=1, targets={"masks": masks})
    assert all(len(place.images) == 2 for place in soft.axes)


def test_a_notebook_displays_it_and_pyplot_is_not_used() -> None:
    figure = ga.show([FLIP], noise(1)[0], 1, 2)
    with Image.open(io.BytesIO(figure._repr_png_())) as picture:
        assert picture.format == "PNG"
        assert picture.width > picture.height
    copy = pickle.loads(pickle.dumps(figure))
    assert copy._repr_png_()[:4] == b"\x89PNG"
    code = (
        "import sys, torch, gpuaug as ga\n"
        "ga.show([ga.RandomHorizontalFlip()], torch.zeros(3, 8, 8, dtype=torch.uint8))._repr_png_()\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_captions_fit_under_their_picture() -> None:
    steps = [ga.RandomResizedCrop(24), FLIP, ga.RandAugment(4), ga.ColorJitter(0.4, 0.4, 0.4, 0.1), ga.JPEG((20, 90))]
    figure = ga.show(steps, photographs.photographs()[:2])
    agg.FigureCanvasAgg(figure).draw()
    boxes = [place.xaxis.label.get_window_extent() for place in figure.axes]
    for number, box in enumerate(boxes):
        assert box.x1 <= figure.bbox.x1 + 2
        assert box.y0 >= 0
        assert not any(box.overlaps(other) for other in boxes[number + 1 :])
    assert not any(said(ga.show(steps, photographs.photographs()[:2], captions=False)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": torch.zeros(3, 8, 8)}, r"`images` must be uint8 .* got float32 \(3, 8, 8\) for image 0\. Pass"),
        ({"images": []}, "`images` must be at least one image, got none"),
        ({"images": 3}, "`images` must be images or paths of images, got 3"),
        (
            {"images": ga.Ragged.from_clips([torch.zeros(2, 3, 8, 8, dtype=torch.uint8)])},
            "`images` must be images, got",
        ),
        ({"rows": 0}, r"`rows` must be an integer in \[1, 64\], got 0"),
        ({"columns": 65}, r"`columns` must be an integer in \[1, 64\], got 65"),
        ({"augment": 3}, "`augment` must be an Augment or a list of transforms, got 3"),
        ({"augment": ga.MultiView([[ga.RandomInvert()]])}, r"got a MultiView\. Pass the list of one view"),
        ({"augment": ga.recipes.simclr(8)}, r"show: `augment` must be .*, got 2 lists\. Pass the list of one view"),
        ({"targets": [{"boxes": torch.zeros(1, 3)}]}, r"show: `labels\[0\]\[\"boxes\"\]` must be"),
        ({"epoch": -1}, "`epoch` must be an integer"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"augment": [FLIP], "images": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)} | arguments
    with pytest.raises(ValueError, match=message):
        ga.show(**given)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"a\.jpg cannot be read as an image"):
        ga.show([FLIP], tmp_path / "a.jpg")
