"""Data sets that decode of each image what its draw will read: `ImageFolder(root, regions=augment)` and others.

A pass of DeviceLoader tells the data set its key (`followed`); the workers then find the box of each image (`boxes_of`)
and decode it (`part_of`).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor

from gpuaug import checks
from gpuaug.data.decode import decode
from gpuaug.data.parts import Part, Readable, decode_part, readable
from gpuaug.data.tiles import Box
from gpuaug.data.transport.encoded import EncodedImage

if TYPE_CHECKING:
    from gpuaug.augment import Augment
    from gpuaug.engine.multi import MultiView
    from gpuaug.engine.numbering import Mode
    from gpuaug.engine.parts import Cut, PartFinder

__all__ = ["boxes_of", "finder_of", "followed", "part_of", "present_cut", "warn_of_one"]

MOST = 0.8  # of an image: to decode a larger part takes longer than all of it (docs/decisions.md)
NO_PASS = (
    "{name}: regions are known in a pass of a DeviceLoader of that module only, so images are decoded whole. Put one "
    "around the DataLoader, or leave out regions."
)
NO_HELP = (
    "{name}: `regions` changes nothing, since the module's lists read all of each image: images are decoded whole. Put "
    "the crop or resize before steps other than flips, or leave out regions."
)
VIEWS = (
    "DeviceLoader: the data set's `regions` are those of one list, and the lists of a MultiView read other parts, so "
    "images are decoded whole. Leave `regions` out."
)
BEGUN = (
    "DeviceLoader: images of this epoch were shown before it was resumed, and no sampler numbers the looks, so this "
    "pass decodes whole images, without regions. Call set_epoch before the epoch, or resume between epochs."
)
KEPT = (
    "DeviceLoader: the module's list was replaced, and workers that are kept do not learn of it, so images are decoded "
    "whole, without regions. Pass persistent_workers=False to the DataLoader."
)
ALONE = "the only one in a pass over its data set with `regions`"
TWO_PASSES = "a data set that another pass began to use, so its images are decoded for the draws of that pass"
OWN_DATASET = "Give each loader a data set of its own, or finish one pass before the next begins."
ONE_BY_ONE = (
    "{name}: `regions` changes nothing, since images are asked for one at a time, as ConcatDataset does; they are "
    'decoded whole. Give regions to ga.data.Indexed around the ConcatDataset, with decode="device" inside.'
)
OWN_ITEMS = "{name}: `regions` changes nothing, since its class has a __getitem__ of its own; images are decoded whole."


def finder_of(dataset: object, augment: Any, own_items: bool) -> PartFinder | None:
    """What a data set needs of a module to find the parts of images; None, with a warning, where it cannot.

    Args:
        dataset: For messages.
        augment: The argument `regions`; None if there is none.
        own_items: Whether its class replaces `__getitem__`, which parts do not go through.

    Raises:
        ValueError: If `augment` is no gpuaug.Augment.
    """
    if augment is None:
        return None
    from gpuaug.augment import Augment

    if not isinstance(augment, Augment):
        raise checks.argument_error(dataset, "regions", "a gpuaug.Augment", checks.describe(augment))
    finder = augment.part_finder()
    useless = OWN_ITEMS if own_items else NO_HELP if not finder.helps else None
    if useless is None:
        return finder
    warnings.warn(useless.format(name=type(dataset).__name__), stacklevel=4)
    return None


@contextmanager
def followed(parts: Iterable[object], mode: Mode, key: int, augment: Augment | MultiView) -> Iterator[None]:
    """A pass with this mode and key over a loader of these parts: its data sets with `regions` decode for it.

    If the module's list has been replaced, they learn the new one. Workers that are kept from an earlier pass do not;
    then images are decoded whole.

    Raises:
        ValueError: If a batch was cut for another pass over one of these data sets, which began during this one.
    """
    from gpuaug.engine.parts import OtherDrawError, PartFinder  # a data set alone does not load the engine

    listed = list(parts)
    found = (getattr(part, "finder", None) for part in listed)
    finders = [finder for finder in found if isinstance(finder, PartFinder)]
    begun = mode.training and mode.looks.pages > 0  # a second look at an image has a draw that workers do not know
    if begun and finders:
        warnings.warn(BEGUN, stacklevel=5)
    kept = any(getattr(part, "persistent_workers", False) for part in listed)
    passes = [
        finder.follow(mode.training, key, whole=begun or not _knows(finder, mode.training, augment, kept))
        for finder in finders
    ]
    numbered = list(zip(finders, passes, strict=True))
    try:
        yield
    except OtherDrawError:
        if all(finder.is_last(number) for finder, number in numbered):
            raise
        raise checks.argument_error("DeviceLoader", "loader", ALONE, TWO_PASSES, OWN_DATASET) from None
    finally:
        for finder, number in numbered:
            finder.leave(number)


def _knows(finder: PartFinder, training: bool, augment: Augment | MultiView, kept: bool) -> bool:
    """Whether all processes of the pass can find the parts of the module's present list. Warns once if they cannot."""
    from gpuaug.augment import Augment

    if not isinstance(augment, Augment):
        if finder.first_time():
            warnings.warn(VIEWS, stacklevel=7)
        return False
    lists = augment.train_pipeline, augment.eval_pipeline
    if finder.knows(lists[not training], training, augment.exact):
        return True
    if kept:
        if finder.first_time():
            warnings.warn(KEPT, stacklevel=7)
        return False
    finder.renew(*lists, augment.exact)
    return True


def present_cut(dataset: object, finder: PartFinder) -> Cut | None:
    """The draw of the present pass; None if images are to be decoded whole. Warns once outside of a pass."""
    if not finder.in_pass and finder.first_time():
        warnings.warn(NO_PASS.format(name=type(dataset).__name__), stacklevel=3)
    return finder.cut()


def warn_of_one(dataset: object, finder: PartFinder | None) -> None:
    """Warn once if a pass asks for an image by itself, so that it is decoded whole."""
    if finder is not None and finder.cut() is not None and finder.first_time():
        warnings.warn(ONE_BY_ONE.format(name=type(dataset).__name__), stacklevel=3)


def boxes_of(
    finder: PartFinder, cut: Cut, images: Sequence[Tensor | EncodedImage], index: Sequence[int]
) -> list[tuple[Readable, Box] | None]:
    """For each image what of it can be decoded, and the box that its draw reads; None where that is all of it."""
    found: list[tuple[Readable, Box] | None] = [None] * len(images)
    files = [readable(image.data) if isinstance(image, EncodedImage) else None for image in images]
    known = [(row, file) for row, file in enumerate(files) if file is not None]
    if known:
        boxes = finder.find(cut, [index[row] for row, _ in known], [file.size for _, file in known])
        for (row, file), box in zip(known, [] if boxes is None else boxes.tolist(), strict=boxes is not None):
            if box[2] * box[3] < math.prod(file.size):
                found[row] = file, tuple(box)
    return found


def part_of(image: Tensor | EncodedImage, found: tuple[Readable, Box] | None, cut: Cut) -> Part:
    """The part of an image that `boxes_of` found; all of it for None.

    Raises:
        ImageError: If it cannot be decoded.
    """
    if isinstance(image, EncodedImage) and found is not None:
        file, (top, left, height, width) = found
        if height * width < MOST * math.prod(file.size):
            pixels = decode_part(image.data, file, found[1])
        else:
            pixels = decode(image.data)[:, top : top + height, left : left + width]
        return Part(pixels, (top, left), file.size, cut)
    pixels = decode(image.data) if isinstance(image, EncodedImage) else image
    height, width = pixels.shape[1:]
    return Part(pixels, (0, 0), (height, width), cut)
