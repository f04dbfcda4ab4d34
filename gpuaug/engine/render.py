"""Runs the items of a batch, one after another, on the backend that was chosen. Nothing here is random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gpuaug.engine.backends import BACKENDS, NAMES, Backend, Job, choose, load
from gpuaug.engine.reads import check_inside
from gpuaug.engine.targets import Following
from gpuaug.program import Alike, BySize, Keys, Mix, Program
from gpuaug.ragged import Ragged

__all__ = ["BACKENDS", "NAMES", "Output", "choose", "drawn", "render", "run"]


class Output(NamedTuple):
    """How a module renders. dtype: the dtype of ToDtype("auto"). following: How targets follow."""

    exact: bool
    memory_format: torch.memory_format
    dtype: torch.dtype
    backend: str
    following: Following = Following()


@torch.no_grad()
def render(
    items: Sequence[Any],
    source: Tensor | Ragged,
    backend: str,
    labels: Tensor | None = None,
    num_classes: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Run a batch's items, one after another.

    Returns:
        images (B, C, H, W) in the requested dtype and layout, and the labels, mixed if the last item mixes.
    """
    device = source.device
    backend_ = load(choose(backend, device))
    if torch.is_autocast_enabled(device.type):
        with torch.autocast(device.type, enabled=False):
            return _render(items, backend_, source, labels, num_classes)
    return _render(items, backend_, source, labels, num_classes)


def drawn(
    alike: Alike, keys: Keys, source: Tensor | Ragged, backend: str, labels: Tensor | None, mix: Any
) -> tuple[Tensor, Tensor | None] | None:
    """As `render`, if the backend can make the draws of this list itself; otherwise None.

    Args:
        alike: List of steps and shape of the batch, `program.Alike`.
        keys: Keys of the draws.
        source: Images of the batch.
        backend: Name of the backend.
        labels: Labels of the batch, or None.
        mix: Step of the list that mixes, or None.
    """
    mixed = labels if mix is not None else None
    if mixed is not None and (mixed.device != source.device or _targets(mixed)):
        return None
    job = load(choose(backend, source.device)).drawn(alike, keys, source)
    if job is None:
        return None
    return job.run(0, source), labels if mixed is None else job.labels(mixed, mix.num_classes)


def _targets(labels: Tensor) -> bool:
    """True for the targets of a regression, which are mixed as a column of weights."""
    return labels.ndim == 1 and labels.is_floating_point()


def _render(
    items: Sequence[Any], backend: Backend, source: Tensor | Ragged, labels: Tensor | None, num_classes: int | None
) -> tuple[Tensor, Tensor | None]:
    if isinstance(source, Ragged):
        check_inside(items[0], source)
    if isinstance(items[0], BySize):
        source, items = _by_size(items[0], backend, source), items[1:]
    return run(items, _job(items, backend, source), source, labels, num_classes)


def _job(items: Sequence[Any], backend: Backend, source: Tensor | Ragged) -> Job:
    return backend.prepare([item for item in items if isinstance(item, Program)], source)


def _by_size(first: BySize, backend: Backend, source: Any) -> Ragged:
    """Run the images of each size separately, and pack the results, one size after another."""
    lengths = first.sizes.astype(np.int64).prod(axis=1) * first.channels
    order = np.concatenate([rows for rows, _ in first.parts])
    offsets = np.empty_like(lengths)
    offsets[order] = np.cumsum(lengths[order]) - lengths[order]
    data = torch.empty(int(lengths.sum()), dtype=torch.uint8, device=source.device)

    def work(number: int) -> None:
        rows, items = first.parts[number]
        images = source.take(rows)
        canvas = _through(items, _job(items, backend, images), images)
        interleaved, start = canvas.permute(0, 2, 3, 1), int(offsets[rows[0]])
        data[start : start + canvas.numel()].view(interleaved.shape).copy_(interleaved)

    backend.each(work, [len(rows) for rows, _ in first.parts])
    return Ragged.placed(data, first.sizes, first.channels, offsets)


def run(
    items: Sequence[Any], job: Job, source: Any, labels: Tensor | None, num_classes: int | None
) -> tuple[Tensor, Tensor | None]:
    """All items, then the labels."""
    source = _through(items, job, source)
    mix = None if items[-1].finish is None else items[-1].finish.mix  # the last item always is a program
    if labels is None or mix is None:
        return source, labels
    if _targets(labels):
        return source, _mixed(job, labels[:, None], None, mix, source.device)[:, 0]
    return source, _mixed(job, labels, num_classes, mix, source.device)


def _through(items: Sequence[Any], job: Job, source: Any) -> Any:
    """Run the programs of the items, which `job` holds, and the items between them."""
    number = 0
    for item in items:
        if isinstance(item, Program):
            source = job.run(number, source)
            number += 1
        else:
            source = item(source)
    return source


def _mixed(job: Job, labels: Tensor, num_classes: int | None, mix: Mix, device: torch.device) -> Tensor:
    mixed = job.labels(labels, num_classes) if labels.device == device else None  # where the parameters are
    if mixed is not None:
        return mixed
    from gpuaug.kernels.torch.labels import labels as by_twin

    return by_twin(labels, num_classes, mix)
