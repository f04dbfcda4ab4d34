"""Names of files of a data set's samples, so that slow ones can be found."""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterable, Sequence
from typing import Any

from torch.utils.data import ConcatDataset, Subset

from gpuaug.profiler.measure.instrument import is_dataset

__all__ = ["file_of", "files_of"]

LISTS = ("samples", "imgs", "images", "paths", "files", "filenames", "image_paths", "img_paths")  # usual names
DEPTH = 4  # nested data sets, at most


def files_of(dataset: Any, indices: Iterable[Any]) -> dict[str, str]:
    """{index as text: path of its file} of the samples whose file a data set lists."""
    found = {str(index): file_of(dataset, index) for index in indices if index is not None}
    return {index: path for index, path in found.items() if path is not None}


def file_of(dataset: Any, index: Any) -> str | None:
    """The path of a sample's file; None if the data set does not list it in a usual way."""
    if isinstance(index, str):
        return None
    for _ in range(DEPTH):
        if isinstance(dataset, Subset):
            dataset, index = dataset.dataset, int(dataset.indices[index])
        elif isinstance(dataset, ConcatDataset):
            part = bisect.bisect_right(dataset.cumulative_sizes, index)
            index -= dataset.cumulative_sizes[part - 1] if part else 0
            dataset = dataset.datasets[part]
        elif (path := _listed(dataset, index)) is not None:
            return path
        elif (inner := _inside(dataset)) is not None:
            dataset = inner
        else:
            return None
    return None


def _inside(dataset: Any) -> Any:
    """The one data set that another holds, in any attribute, if it has as many samples; else None."""
    held = [value for value in getattr(dataset, "__dict__", {}).values() if is_dataset(value)]
    try:
        return held[0] if len(held) == 1 and len(held[0]) == len(dataset) else None
    except TypeError:  # a stream, which has no length
        return None


def _listed(dataset: Any, index: int) -> str | None:
    """The path in one of the usual lists, which has an entry for each sample."""
    for name in LISTS:
        entries = getattr(dataset, "__dict__", {}).get(name)
        if not isinstance(entries, Sequence) or isinstance(entries, (str, bytes)):
            continue
        if len(entries) != len(dataset) or not 0 <= index < len(entries):
            continue
        entry = entries[index]
        entry = entry[0] if isinstance(entry, (list, tuple)) and entry else entry
        if isinstance(entry, (str, os.PathLike)):
            return os.fspath(entry)
    return None
