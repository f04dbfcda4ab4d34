"""Results compared bit for bit, and parameters that are put in by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from tests.support.oracle import integer

WARPS = ("nearest", "bilinear", "bicubic")


RESIZES = ("nearest", "nearest-exact", "bilinear", "bicubic")


SINGULAR = [
    np.zeros((4, 2)),
    [[0, 0], [10, 10], [20, 20], [30, 30]],  # on a line
    [[0, 0], [0, 0], [46, 32], [0, 32]],  # two meet
    [[46, 32], [0, 32], [0, 0], [46, 0]],  # upside down
    [[0, 0], [46, 32], [46, 0], [0, 32]],  # crossed
    [[0, 0], [46, 0], [46, 32], [0, 32]],  # identity
    [[1e6, 0], [0, 1e6], [-1e6, 0], [0, -1e6]],
]


def bits(result: Tensor) -> Tensor:
    return result.view(integer(result.dtype)) if result.is_floating_point() else result


def difference(got: Tensor, expected: Tensor) -> str:
    """Empty if both are the same bits in the same layout."""
    if (got.shape, got.dtype, got.stride()) != (expected.shape, expected.dtype, expected.stride()):
        return f"{got.dtype} {got.shape} {got.stride()} is not {expected.dtype} {expected.shape} {expected.stride()}"
    where = (bits(got) != bits(expected)).nonzero()
    if len(where) == 0:
        return ""
    first, samples = tuple(where[0].tolist()), where[:, 0].unique().tolist()
    return f"{len(where)} values of samples {samples}; {first}: {got[first]} is not {expected[first]}"


def injected(**values: Any) -> Callable[[list[Any]], list[Any]]:
    """The draw with parameters of the last step replaced, one value or row for all samples."""

    def change(params: list[Any]) -> list[Any]:
        last = params[-1]
        new = {
            name: np.broadcast_to(np.asarray(value, last[name].dtype), last[name].shape)
            for name, value in values.items()
        }
        return [*params[:-1], last | new]

    return change


BOXES = [(0, 0, 0, 0), (0, 0, 33, 47), (32, 46, 1, 1), (0, 5, 33, 0)]
