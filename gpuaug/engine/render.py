"""Runs the items of a batch, one after another, on the backend that was chosen. Nothing here is random."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from copy import copy
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gpuaug.engine.backends import BACKENDS, NAMES, Backend, Job, choose, load
from gpuaug.engine.reads import check_inside
from gpuaug.engine.targets import Following
from gpuaug.kernels.torch.common import upload
from gpuaug.program import Alike, BySize, Keys, Mix, Program
from gpuaug.ragged import Ragged

__all__ = ["BACKENDS", "NAMES", "SMALL", "Output", "choose", "drawn", "mix_of", "render", "run"]

SMALL = 8  # images in a batch that need not wait for a compiler


class Output(NamedTuple):
    """How a module renders. dtype: the dtype of ToDtype("auto"). The last three say how targets follow."""

    exact: bool
    memory_format: torch.memory_format
    dtype: torch.dtype
    backend: str
    mask_fill: float = 0
    erase_masks: bool = False
    flip_pairs: tuple[tuple[int, int], ...] = ()

    @property
    def following(self) -> Following:
        """How targets follow."""
        return Following(*self[-3:])


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
    name = choose(backend, device)
    run_items = _at_once if backend == "auto" and name == "numba" and _is_small(items) else _render
    if torch.is_autocast_enabled(device.type):
        with torch.autocast(device.type, enabled=False):
            return run_items(items, name, source, labels, num_classes)
    return run_items(items, name, source, labels, num_classes)


def _is_small(items: Sequence[Any]) -> bool:
    """True for a batch that does not wait for a compiler. A user's function in it must run once only."""
    return all(isinstance(item, Program) and len(item.keys.index) <= SMALL for item in items)


def _at_once(
    items: Sequence[Any], name: str, source: Tensor | Ragged, labels: Tensor | None, num_classes: int | None
) -> tuple[Tensor, Tensor | None]:
    """A batch on the kernels if they are ready; else on the twin, while a thread compiles them."""

    def on(backend: str) -> tuple[Tensor, Tensor | None]:
        return _render(items, backend, source, labels, num_classes)

    def again() -> Callable[[], object]:
        return partial(torch.no_grad()(_render), items, name, _copy(source), None, None)

    return _background(name).render(partial(on, name), partial(on, "torch"), again)


@cache
def _background(name: str) -> Any:
    return importlib.import_module(f"{BACKENDS[name]}.runtime.background")


def _copy(source: Tensor | Ragged) -> Tensor | Ragged:
    """Other memory, which a user cannot change while a thread reads it."""
    if isinstance(source, Tensor):
        return source.clone()
    copied = copy(source)
    copied.data = source.data.clone()
    return copied


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
    if mixed is None:
        return job.run(0, source), labels
    images, soft = job.run(0, source), job.labels(mixed, mix.num_classes)
    return images, smoothed(soft, mix.label_smoothing) if soft is not None and mix.label_smoothing else soft


def _targets(labels: Tensor) -> bool:
    """True for the targets of a regression, which are mixed as a column of weights."""
    return labels.ndim == 1 and labels.is_floating_point()


def _render(
    items: Sequence[Any], name: str, source: Tensor | Ragged, labels: Tensor | None, num_classes: int | None
) -> tuple[Tensor, Tensor | None]:
    backend = load(name)
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
        ragged = isinstance(source, Ragged)
        images = source.take(rows) if ragged else source.index_select(0, upload(rows, source.device))
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
    mix = mix_of(items)
    if labels is None or mix is None:
        return source, labels
    if _targets(labels):
        return source, _mixed(job, labels[:, None], None, mix, source.device)[:, 0]
    mixed = _mixed(job, labels, num_classes, mix, source.device)
    return source, smoothed(mixed, mix.smoothing) if mix.smoothing else mixed


def smoothed(labels: Tensor, smoothing: float) -> Tensor:
    """Mixed labels (B, classes), changed in place: a part `smoothing` of each is spread over all classes."""
    return labels.mul_(1.0 - smoothing).add_(smoothing / labels.shape[1])


def mix_of(items: Sequence[Any]) -> Mix | None:
    """The mix of the last program; functions of floats may follow it."""
    finish = next(item for item in reversed(items) if isinstance(item, Program)).finish
    return None if finish is None else finish.mix


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
