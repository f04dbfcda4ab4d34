"""Test-time augmentation: predictions on several views of each image, merged into one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from gpuaug import checks
from gpuaug.engine.batch import Images
from gpuaug.engine.call import Draw
from gpuaug.engine.invert import invert, maps_back
from gpuaug.engine.listed import Steps
from gpuaug.engine.multi import MultiView
from gpuaug.engine.pipeline import Pipeline
from gpuaug.engine.views import lists_of
from gpuaug.transforms.corners import CropViews, FiveCrop, TenCrop
from gpuaug.transforms.crop import CenterCrop, Resize
from gpuaug.transforms.geometric import RandomHorizontalFlip

__all__ = ["TTA"]

Size = int | Sequence[int]
FLIPS = "flips"
CROPS = ("five crops", "ten crops", "resized crops")
ZOOMS = (1.0, 1.15, 1.3)  # of "resized crops": shorter edge of the resized image as a multiple of the crop's side
MERGES = ("mean probabilities", "mean logits", "max", "join")
RETURNS = "a model that returns (B, classes), (B, classes, h, w) or a list with one mapping for each image"


class TTA:
    """Predict on several views of each image, and merge the predictions: test-time augmentation.

    A model of classes returns (B, classes), or a mapping or object with them as "out" or `logits`. Class maps
    (B, classes, h, w) and detections are put back onto the images by `invert` before they are merged, also through
    crops and resizes: their pixels are those of the images that were given. See docs/views.md.

    Args:
        model: Module or function that maps a batch of images to predictions.
        views: A list of transforms for each view; FiveCrop or TenCrop; or a name. "flips": the image and its mirror
            image. "five crops", "ten crops": FiveCrop and TenCrop. "resized crops": the middle of the image at three
            sizes, its shorter edge 1, 1.15 and 1.3 times `size`. Random transforms draw by the place in the batch, the
            same in every call.
        merge: "mean probabilities": the mean of softmax over the classes. "mean logits": the mean of the outputs.
            "max": for each class the highest probability of any view. "join", for detections: the boxes of all views
            in one mapping for each image, with the number of the view in "views"; remove duplicates by
            torchvision.ops.batched_nms. Or a function of the stacked predictions (views, B, classes) or
            (views, B, classes, H, W), which are NaN where a view does not show the pixel, or of the joined detections.
        size: Side of the crops, pixels, for the names of crops: an int, or (height, width) for five and ten crops.
        before, after: Transforms that begin and end each view's list, such as Resize and ToDtype.
        max_images: The most images in one forward pass. None: all views of one size together, which needs the memory
            of a batch that is as many times as large.
        flip_pairs: As for `Augment`, for key points.
        backend, memory_format: As for `Augment`.

    Raises:
        ValueError: If an argument is out of range, or a list is not one that `Augment` takes.
    """

    def __init__(
        self,
        model: nn.Module | Callable[[Tensor], object],
        views: str | Sequence[Steps] | CropViews = FLIPS,
        *,
        merge: str | Callable[..., object] = MERGES[0],
        size: Size | None = None,
        before: Steps = (),
        after: Steps = (),
        max_images: int | None = None,
        flip_pairs: Sequence[tuple[int, int]] | None = None,
        backend: str = "auto",
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        if not callable(model):
            raise checks.argument_error(self, "model", "a module or a function", checks.describe(model))
        self.model, self.merge = model, merge if callable(merge) else checks.one_of(self, "merge", merge, MERGES)
        if max_images is not None:
            checks.integer(self, "max_images", max_images, 1)
        self.max_images, self.flip_pairs = max_images, flip_pairs
        named = _named(self, views, size)
        try:
            first, last = Pipeline(before, "before").steps, Pipeline(after, "after").steps
            lists = [[first, steps, last] for steps in named]  # nested lists are opened
            multi = MultiView(lists, eval=lists, seed=0, backend=backend, memory_format=memory_format)
        except ValueError as error:
            raise ValueError(re.sub("^(MultiView|Augment): ", "TTA: ", str(error))) from error
        for number, view in enumerate(multi.views):
            if view.mixes(training=False):
                remedy = "Leave MixUp and CutMix out: a mixed image has no prediction of its own."
                raise checks.argument_error(self, f"views[{number}]", "without a mix", "a list with one", remedy)
        self.multi = multi.eval()

    def __call__(self, images: Images) -> Tensor | list[Tensor] | list[dict[str, Tensor]]:
        """As `predict`."""
        return self.predict(images)

    @torch.no_grad()
    def predict(self, images: Images) -> Tensor | list[Tensor] | list[dict[str, Tensor]]:
        """Predict for a batch, in evaluation mode and without gradients; the model's modes are restored.

        Args:
            images: uint8 (B, C, H, W) or Ragged, as for `Augment`.

        Returns:
            Merged predictions: (B, classes); (B, classes, H, W) in the pixels of the images, or a list with
            (classes, H, W) for each if they differ in size, 0 where no view shows a pixel; or a list with one mapping
            for each image, joined. For a function `merge`, what it returns; it is called for each image with B = 1 if
            they differ in size.

        Raises:
            ValueError: If the model returns something else, or predictions that `merge` is not for.
        """
        if isinstance(images, Mapping):
            remedy = "Predict for each picture by itself."
            raise checks.argument_error(self, "images", "a batch of images, or Ragged", "a mapping of several", remedy)
        try:
            draws = cast("list[Draw]", self.multi.sample(images))
        except ValueError as error:
            raise ValueError(re.sub("^(MultiView|Augment): ", "TTA: ", str(error))) from error
        with evaluating(self.model):
            found = list(self._predictions(images, draws))
        if isinstance(found[0], list):
            return cast("list[dict[str, Tensor]]", self._joined(draws, found))
        return cast("Tensor | list[Tensor]", self._merged(draws, cast("list[Tensor]", found)))

    def _predictions(self, images: Images, draws: list[Draw]) -> Iterator[Any]:
        """The predictions of each view, in order; views of one size go through the model together."""
        waiting: list[Tensor] = []
        for view, draw in zip(self.multi.views, draws, strict=True):
            rendered = view.rendered(images, draw, None)
            full = self.max_images is not None and (len(waiting) + 1) * len(rendered) > self.max_images
            if waiting and (full or rendered.shape != waiting[0].shape):
                yield from self._through(waiting)
                waiting = []
            waiting.append(rendered)
        yield from self._through(waiting)

    def _through(self, views: list[Tensor]) -> Iterator[Any]:
        """The predictions of views of one size."""
        batch = views[0] if len(views) == 1 else torch.cat(views)
        pieces = torch.split(batch, self.max_images or len(batch))
        found = [self._checked(self.model(piece), piece) for piece in pieces]
        if isinstance(found[0], Tensor):
            yield from torch.split(torch.cat(found), len(views[0]))
            return
        rows = [row for part in found for row in part]
        yield from (rows[start : start + len(views[0])] for start in range(0, len(rows), len(views[0])))

    def _checked(self, output: Any, images: Tensor) -> Any:
        """The predictions of a forward pass: a tensor, or a list of mappings."""
        if isinstance(output, Mapping):
            for name in ("out", "logits"):  # torchvision's segmentation, transformers
                output = output[name] if isinstance(output, Mapping) and name in output else output
        output = getattr(output, "logits", output)
        if isinstance(output, Tensor) and output.ndim in (2, 4) and len(output) == len(images):
            if output.ndim == 4 and output.shape[2:] != images.shape[2:]:
                expected = f"a model whose class maps have the size of its images, {tuple(images.shape[2:])}"
                remedy = "Resize them in the model with torch.nn.functional.interpolate."
                raise checks.argument_error(self, "model", expected, checks.describe(output), remedy)
            if self.merge == "join":
                remedy = 'Use "mean probabilities", "mean logits" or "max".'
                raise checks.argument_error(self, "merge", "for classes", "'join', which is for boxes", remedy)
            if output.shape[1] == 1 and self.merge in ("mean probabilities", "max"):
                remedy = 'Use merge="mean logits", or a function.'
                got = f"{self.merge!r} with one output, whose softmax is 1"
                raise checks.argument_error(self, "merge", "for one output", got, remedy)
            return output
        rows = isinstance(output, (list, tuple)) and len(output) == len(images)
        if rows and all(isinstance(row, Mapping) and isinstance(row.get("boxes"), Tensor) for row in output):
            if self.merge != "join" and not callable(self.merge):
                remedy = 'Use merge="join", or a function of the joined boxes.'
                got = f"{self.merge!r}, which is for classes"
                raise checks.argument_error(self, "merge", '"join" or a function for a model of boxes', got, remedy)
            return list(output)
        got = checks.describe(output) if isinstance(output, Tensor) else type(output).__name__
        raise checks.argument_error(self, "model", f"{RETURNS}, B = {len(images)}", got)

    def _merged(self, draws: list[Draw], found: list[Tensor]) -> Any:
        """The merged classes of all views."""
        shapes = {value.shape[1] for value in found}
        if len(shapes) > 1 or len({value.ndim for value in found}) > 1:
            got = ", ".join(map(checks.describe, found))
            raise checks.argument_error(self, "model", "a model with as many classes for each view", got)
        maps = [value if value.is_floating_point() else value.float() for value in found]
        if found[0].ndim == 2:
            return merged(self.merge, torch.stack(maps))
        moved = [maps_back(*pair) for pair in zip(draws, maps, strict=True)]
        # a model's own NaN must not look like a pixel that no view shows
        covers = [maps_back(draw, value.new_zeros(value[:, :1].shape)) for draw, value in zip(draws, maps, strict=True)]
        if isinstance(moved[0], Tensor):
            stacked, hidden = (torch.stack(cast("list[Tensor]", each)) for each in (moved, covers))
            return merged(self.merge, stacked, ~hidden.isnan())
        several = zip(zip(*moved, strict=True), zip(*covers, strict=True), strict=True)
        return [
            merged(self.merge, torch.stack(views)[:, None], ~torch.stack(hidden)[:, None].isnan())[0]
            for views, hidden in several
        ]

    def _joined(self, draws: list[Draw], found: list[Any]) -> Any:
        """The detections of all views on each image, put back onto it."""
        moved = [detections(draw, rows, self.flip_pairs) for draw, rows in zip(draws, found, strict=True)]
        joined: list[dict[str, Tensor]] = []
        for rows in zip(*moved, strict=True):
            counts = torch.tensor([len(row["boxes"]) for row in rows], device="cpu")
            keys = [key for key in rows[0] if all(_has_rows(row, key) for row in rows)]
            image = {key: torch.cat([row[key] for row in rows]) for key in keys}
            image["views"] = torch.arange(len(rows), device="cpu").repeat_interleave(counts).to(image["boxes"].device)
            joined.append(image)
        return self.merge(joined) if callable(self.merge) else joined

    def __repr__(self) -> str:
        model = type(self.model).__name__ if isinstance(self.model, nn.Module) else repr(self.model)
        views = repr(self.multi).replace("\n", "\n    ")
        return f"TTA(\n    {model},\n    {views},\n    merge={self.merge!r}, max_images={self.max_images},\n)"


def _named(owner: object, views: Any, size: Any) -> Sequence[Any] | CropViews:
    """The lists of views that may be a name."""
    if not isinstance(views, str):
        if size is not None:
            raise checks.argument_error(owner, "size", "None, as `views` are lists", repr(size))
        if isinstance(views, CropViews) or (isinstance(views, Sequence) and len(views)):
            return lists_of(owner, views)
        expected = "a name, FiveCrop, TenCrop, or a list with a list of transforms for each view"
        raise checks.argument_error(
            owner, "views", expected, "an empty list" if views == [] else checks.describe(views)
        )
    name = checks.one_of(owner, "views", views, (FLIPS, *CROPS))
    if (size is None) == (name in CROPS):
        expected = f"the side of the crops for {name!r}, in pixels" if size is None else f"None for {name!r}"
        raise checks.argument_error(owner, "size", expected, repr(size))
    if name == FLIPS:
        return [[], [RandomHorizontalFlip(p=1.0)]]
    if name == "resized crops":
        side = checks.integer(owner, "size", size, 1, int(32767 / max(ZOOMS)))
        return [[Resize(round(side * zoom)), CenterCrop(side)] for zoom in ZOOMS]
    checks.size(owner, size)
    return FiveCrop(size) if name == "five crops" else TenCrop(size)


@contextmanager
def evaluating(model: object) -> Iterator[None]:
    """Evaluation mode; afterwards each module has the mode that it had."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    try:
        if isinstance(model, nn.Module):
            model.eval()
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def merged(merge: str | Callable[..., Any], stacked: Tensor, shown: Tensor | None = None) -> Any:
    """Predictions (views, B, classes, ...) as one (B, classes, ...).

    shown: (views, B, 1, ...) bool, where a view shows a pixel; None: everywhere.
    """
    if callable(merge):
        return merge(stacked)
    if merge != "mean logits":
        stacked = stacked.softmax(dim=2)
    if shown is None:
        return stacked.amax(dim=0) if merge == "max" else stacked.mean(dim=0)
    stacked = torch.where(shown, stacked, 0)
    return stacked.amax(dim=0) if merge == "max" else stacked.sum(dim=0) / shown.sum(dim=0).clamp_(min=1)


def detections(draw: Draw, rows: Sequence[Mapping[str, Any]], flip_pairs: Any) -> list[dict[str, Any]]:
    """The detections of a view on the images: one mapping for each."""
    flat = [{key: _planes(key, value) for key, value in row.items()} for row in rows]
    moved = invert(draw, flat, flip_pairs=flip_pairs)
    for row, given in zip(moved, rows, strict=True):
        if "masks" in row:
            row["masks"] = row["masks"].reshape(*given["masks"].shape[:-2], *row["masks"].shape[-2:])
    return moved


def _planes(key: str, value: Any) -> Any:
    """Masks (N, 1, h, w), as Mask R-CNN returns them, as (N, h, w)."""
    return value[:, 0] if key == "masks" and value.ndim == 4 else value


def _has_rows(row: Mapping[str, Any], key: str) -> bool:
    """Whether a value has a row for each box."""
    value = row.get(key)
    return isinstance(value, Tensor) and value.ndim > 0 and len(value) == len(row["boxes"])
