"""The Triton kernels touch what they may, write what they must, and do not depend on how they are tiled.

In the interpreter, with every load and store watched (`interpreter.Watch`): shipped tiles, images with ragged edges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch
from conftest import INTERPRETED
from images import batch
from test_backends import RESIZES, difference
from torch import Tensor

import gpuaug as ga
from gpuaug.render import render

if not INTERPRETED:
    pytest.skip("Triton's interpreter is not at hand", allow_module_level=True)

from interpreter import SHIPPED, Watch

from gpuaug.kernels.triton import launch

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = (18, 35)  # two tiles high or three, and two wide, the last ones cut off
WIDE = (18, 70)  # more than one tile of `tone`, too
Items = list[Any]


def lowered(
    steps: list[Any], images: Any, change: Callable[[Any], Any], finish: bool, **options: Any
) -> tuple[Items, int | None]:
    """The items of a draw, and the number of classes; without `finish` the result is the last canvas."""
    augment = ga.Augment(steps, backend="torch", **options)
    draw = augment.sample(images, index=torch.arange(3, 3 + len(images)))
    arguments = change(draw.params), draw.keys, draw.canvas, augment.exact, augment.memory_format
    items = augment._pipeline(True).lower(*arguments)
    return items if finish else [*items[:-1], replace(items[-1], finish=None)], augment._num_classes(True)


def raw(values: Tensor) -> Tensor:
    return values.contiguous().view(torch.uint8)


def check(
    steps: list[Any],
    images: Any,
    change: Callable[[Any], Any] = lambda params: params,
    labels: Tensor | None = None,
    finish: bool = False,
    edit: Callable[[Items], None] = lambda items: None,
    **options: Any,
) -> list[str]:
    """Render with shipped tiles and with whole images, watched, on memory full of two bytes; the twin is what to equal.

    Returns:
        The kernels that ran.
    """
    items, num_classes = lowered(steps, images, change, finish, **options)
    edit(items)
    expected, expected_labels = render(items, images, "torch", labels, num_classes)
    before = images.data.clone()
    for poison, tiles in ((0xA5, SHIPPED), (0x3C, dict(launch.TILES))):
        source = images if isinstance(images, ga.Ragged) else None
        with mock.patch.dict(launch.TILES, tiles), Watch(poison, source) as watch:
            got, got_labels = render(items, images, "triton", labels, num_classes)
        assert difference(got, expected) == "", f"tiles {tiles}"
        if labels is not None:
            assert got_labels is not None
            assert expected_labels is not None
            assert got_labels.dtype == expected_labels.dtype
            assert torch.equal(raw(got_labels), raw(expected_labels)), f"tiles {tiles}"
    assert torch.equal(images.data, before)
    return watch.kernels


# --- crop -------------------------------------------------------------------------------------------------------

RESAMPLES = [(name, antialias) for name in RESIZES for antialias in (True, False) if antialias or "nearest" not in name]
PADDINGS = ("constant", "edge", "reflect", "symmetric")


@pytest.mark.parametrize(("name", "antialias"), RESAMPLES)
def test_resampling(name: str, antialias: bool) -> None:
    step = ga.RandomResizedCrop(SMALL, interpolation=name, antialias=antialias)
    check([step, ga.RandomHorizontalFlip()], batch("photo", 3, 3, (47, 61)))
    check([ga.Resize((9, 35), name, antialias=antialias)], batch("noise", 1, 1, (11, 70)))
