"""The crop of SSD, which is chosen by how much of the boxes it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpuaug import checks
from gpuaug.transforms.base import Canvas, Draws, Params, Placement, Transform, whole_boxes
from gpuaug.transforms.canvas import Seen
from gpuaug.transforms.sizes import DrawnSize

__all__ = ["RandomIoUCrop"]

Array = NDArray[Any]

OPTIONS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
AT_FIRST = 6  # crops that are tried before the others, as one of them will often do
ROUNDS = 200  # torchvision tries for ever; with the default options one image in 10**13 is still searched then


class RandomIoUCrop(DrawnSize, registered=False):
    """Crop so that some box has a drawn least IoU with the crop. Liu et al., SSD, arXiv:1512.02325.

    The same as torchvision's RandomIoUCrop: a box whose centre is cut off becomes empty, and SanitizeBoundingBoxes,
    which should follow, drops it. A resize or crop to one size has to follow, too. Its draw depends on the boxes, so
    the call needs them, and so does `sample(images, targets)`. The host reads them: keep boxes on the CPU, where that
    costs nothing; reading them on a device waits for it, and a warning says so.

    Args:
        min_scale: Least factor of both sides, greater than 0.
        max_scale: Largest factor of both sides, at most 1.
        min_aspect_ratio: Least width / height of the crop.
        max_aspect_ratio: Largest width / height of the crop.
        sampler_options: Least IoUs to choose from; 1 or more leaves the image as it is. None: 0, 0.1, 0.3, 0.5, 0.7,
            0.9 and 1.
        trials: Number of crops that are tried for a least IoU before another one is chosen. An image without boxes
            stays as it is, and so does one for which 200 choices have found no crop.

    Raises:
        ValueError: If an argument is out of range.
    """

    sees_boxes = True

    def __init__(
        self,
        min_scale: float = 0.3,
        max_scale: float = 1.0,
        min_aspect_ratio: float = 0.5,
        max_aspect_ratio: float = 2.0,
        sampler_options: Sequence[float] | None = None,
        trials: int = 40,
    ) -> None:
        self.min_scale = checks.number(self, "min_scale", min_scale, 1e-6, 1, "a fraction")
        self.max_scale = checks.number(self, "max_scale", max_scale, self.min_scale, 1, "a fraction")
        self.min_aspect_ratio = checks.number(self, "min_aspect_ratio", min_aspect_ratio, 1e-6, 1e6)
        self.max_aspect_ratio = checks.number(self, "max_aspect_ratio", max_aspect_ratio, self.min_aspect_ratio, 1e6)
        options = OPTIONS if sampler_options is None else sampler_options
        if not isinstance(options, Sequence) or isinstance(options, str) or not options:
            raise checks.argument_error(self, "sampler_options", "None or a list of numbers", repr(sampler_options))
        self._options = tuple(checks.number(self, "sampler_options", each, 0, 1e6, "an IoU") for each in options)
        self.sampler_options = sampler_options
        self.trials = checks.integer(self, "trials", trials, 1, 1000)

    def for_evaluation(self) -> Sequence[Transform]:
        return ()

    def sample(self, draws: Draws, canvas: Canvas) -> Params:
        """`box` (B, 4), top, left, height and width of the crop; `applied`, which images are cropped.

        Raises:
            ValueError: If the call has no boxes.
        """
        op, _ = next(draws)
        seen, sizes = canvas.seen, canvas.sizes
        if seen is None:
            expected = "with boxes, as RandomIoUCrop chooses its crop by them"
            raise checks.argument_error(
                "Augment", "labels", expected, "none", 'Pass [{"boxes": ...}, ...], or sample(images, targets).'
            )
        box, applied, waiting = np.array(whole_boxes(sizes)), np.zeros(len(canvas), bool), np.unique(seen.owners)
        blocks = 1 + self.trials  # one for the choice, and one for each crop
        for number in range(ROUNDS):
            if not len(waiting):
                break
            uniforms = seen.draw(waiting, 1 + number * blocks, blocks)
            least = np.array(self._options)[np.floor(uniforms[:, 0] * len(self._options)).astype(np.int64)]
            waiting, uniforms, least = (part[least < 1] for part in (waiting, uniforms, least))
            tried, fits = self._crops(sizes[waiting], uniforms[:, 4:])
            taken = search(seen, waiting, tried, fits, least)
            good = taken >= 0
            box[waiting[good]] = tried[good, taken[good]]
            applied[waiting[good]] = True
            waiting = waiting[~good]
        return {"box": box, "size": box[:, 2:].copy(), "applied": applied, "op": op}

    def _crops(self, sizes: Array, uniforms: Array) -> tuple[Array, Array]:
        """The crops (n, trials, 4) that are tried for images of `sizes` (n, 2), and which of them are of good shape.

        uniforms: (n, 4 * trials): width, height, left and top of each crop.
        """
        numbers = uniforms.reshape(len(sizes), self.trials, 4)
        lengths = np.floor(sizes[:, None] * (self.min_scale + (self.max_scale - self.min_scale) * numbers[..., 1::-1]))
        start = np.floor((sizes[:, None] - lengths) * numbers[..., 3:1:-1])
        height, width = lengths[..., 0], lengths[..., 1]
        ratio = width / np.maximum(height, 1)
        fits = (height > 0) & (width > 0) & (ratio >= self.min_aspect_ratio) & (ratio <= self.max_aspect_ratio)
        return np.concatenate([start, lengths], axis=2).astype(np.int64), fits

    def placement(self, params: Params, canvas: Canvas) -> Placement:
        placed = Placement.cut(canvas.sizes, params["box"][:, :2], params["size"], may_pad=False)
        return replace(placed, centred=params["applied"])

    def describe(self, params: Params, sample: int) -> str:
        return "crop ({}, {})".format(*params["size"][sample])


def search(seen: Seen, samples: Array, crops: Array, fits: Array, least: Array) -> Array:
    """The number of the first crop of each sample that may be taken, (n,); -1: none.

    Args:
        seen: Boxes of all samples.
        samples: Numbers of the samples, (n,), ascending; each has boxes.
        crops: Crops that are tried, (n, trials, 4).
        fits: Which of them are of good shape, (n, trials).
        least: Least IoU, (n,).
    """
    taken = np.full(len(samples), -1)
    first = np.searchsorted(seen.owners, samples)
    counts = np.searchsorted(seen.owners, samples, side="right") - first
    if not len(samples):
        return taken
    areas = (seen.boxes[:, 2] - seen.boxes[:, 0]) * (seen.boxes[:, 3] - seen.boxes[:, 1])
    largest = np.maximum.reduceat(np.append(areas, 0.0), np.stack([first, first + counts], 1).reshape(-1))[::2]
    # an IoU is at most the area of the box divided by that of the crop
    fits = fits & (crops[..., 2] * crops[..., 3] * least[:, None] <= 1.0001 * largest[:, None])
    for start, stop in ((0, AT_FIRST), (AT_FIRST, fits.shape[1])):
        row, trial = np.nonzero(fits[:, start:stop] & (taken < 0)[:, None])
        if not len(row):
            continue
        trial, number = trial + start, counts[row]
        begin = np.cumsum(number) - number
        boxes = np.arange(number.sum()) + np.repeat(first[row] - begin, number)
        tried = np.repeat(crops[row, trial].astype(np.float64), number, axis=0)
        best = np.maximum.reduceat(overlaps(seen.boxes[boxes], tried), begin)
        good = (best >= 0) & (best >= least[row])
        row, trial = row[good][::-1], trial[good][::-1]
        taken[row] = trial  # the last one that is written is the first trial
    return taken


def overlaps(boxes: Array, crops: Array) -> Array:
    """(m,) IoU of each box (m, 4), x1, y1, x2, y2, with its crop (m, 4); -1 where its centre is outside."""
    x1, y1, x2, y2 = np.ascontiguousarray(boxes.T)
    top, left, height, width = np.ascontiguousarray(crops.T)
    bottom, right = top + height, left + width
    across = np.minimum(x2, right) - np.maximum(x1, left)
    down = np.minimum(y2, bottom) - np.maximum(y1, top)
    shared = np.maximum(across, 0) * np.maximum(down, 0)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    inside = (left < x) & (x < right) & (top < y) & (y < bottom)
    whole = (x2 - x1) * (y2 - y1) + height * width - shared
    found: Array = np.where(inside, shared / np.maximum(whole, 1e-12), -1.0)
    return found
