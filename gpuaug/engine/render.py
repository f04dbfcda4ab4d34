"""Runs programs: the one place that knows the backends. Nothing here is random."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gpuaug.program import BySize, Program
from gpuaug.ragged import Ragged

__all__ = ["BACKENDS", "choose", "render", "run"]

# each module has render(program, source), or a Job like the one below, and may have an `each` like `_in_turn`
BACKENDS = {
    "triton": "gpuaug.kernels.triton",
    "numba": "gpuaug.kernels.numba",
    "torch": "gpuaug.kernels.torch",
}
NAMES = ("auto", *BACKENDS)


def choose(backend: str, device: torch.device) -> str:
    """The backend for `device`; "auto" is the fastest that can run there, a named one that cannot run raises."""
    numba = device.type == "cpu" and installed("numba")
    if backend == "auto":
        if device.type == "cuda":  # CUDA, and ROCm, which torch calls so too
            return _with_compiled_draws("triton") if _works("triton") else "torch"
        return "numba" if numba and _works("numba") else "torch"
    if backend == "numba" and not numba:
        if device.type != "cpu":
            raise RuntimeError(
                f'Augment: `backend` "numba" runs on the CPU, got images on {device}. Use backend="auto".'
            )
        raise RuntimeError(
            'Augment: `backend` "numba" needs Numba, which is not installed. Run pip install "gpuaug[cpu]".'
        )
    if backend == "triton" and not installed("triton"):
        raise RuntimeError(
            'Augment: `backend` "triton" needs Triton, which is not installed. Run pip install triton, or use '
            'backend="auto".'
        )
    if backend == "triton" and device.type != "cuda" and not interpreted():
        remedy = 'Move them with images.to("cuda"), or use backend="auto".'
        raise RuntimeError(
            f'Augment: `backend` "triton" runs on a CUDA or ROCm device, got images on {device}. {remedy}'
        )
    return _with_compiled_draws(backend) if backend == "triton" else backend


@lru_cache(maxsize=len(BACKENDS))
def _with_compiled_draws(backend: str) -> str:
    """`backend`; what it leaves to the host, the draws, is compiled too where Numba is installed. Same bits."""
    if installed("numba"):
        try:
            importlib.import_module("gpuaug.kernels.numba.philox")
        except ImportError as error:
            warnings.warn(f"gpuaug: Numba is installed but does not work ({error}); drawing is slower.", stacklevel=2)
    return backend


@lru_cache(maxsize=len(BACKENDS))
def installed(name: str) -> bool:
    """Whether a package can be found; asked once."""
    return importlib.util.find_spec(name) is not None


def interpreted() -> bool:
    """True if TRITON_INTERPRET=1 was set before Triton's kernels were imported: then they run on the CPU, slowly."""
    if not installed("triton"):
        return False
    launch = importlib.import_module("gpuaug.kernels.triton.runtime.launch")
    return bool(launch.interpreted())


@lru_cache(maxsize=len(BACKENDS))
def _works(name: str) -> bool:
    """False, with a warning, if the backend's compiler is installed but does not import."""
    if not installed(name):
        return False
    try:
        importlib.import_module(BACKENDS[name])
    except ImportError as error:
        warnings.warn(
            f"gpuaug: {name.title()} is installed but does not work ({error}); the slower torch backend runs.",
            stacklevel=2,
        )
        return False
    return True


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
        images (B, C, H, W) in the asked dtype and layout, and the labels, mixed if the last item mixes.
    """
    device = source.device
    module = _module(choose(backend, device))
    if torch.is_autocast_enabled(device.type):
        with torch.autocast(device.type, enabled=False):
            return _render(items, module, source, labels, num_classes)
    return _render(items, module, source, labels, num_classes)


@cache
def _module(backend: str) -> Any:
    return importlib.import_module(BACKENDS[backend])


def drawn(
    alike: Any, keys: Any, source: Tensor | Ragged, backend: str, labels: Tensor | None, mix: Any
) -> tuple[Tensor, Tensor | None] | None:
    """As `render`, where the backend draws by itself what such a list needs; None where it does not.

    Args:
        alike: the list and the shape of its batch, `program.Alike`.
        mix: the step of the list that mixes, if there is one.
    """
    module = _module(choose(backend, source.device))
    mixed = labels if mix is not None else None
    if not hasattr(module, "Job") or (mixed is not None and (mixed.device != source.device or _targets(mixed))):
        return None
    job = module.Job.drawn(alike, keys, source)
    if job is None:
        return None
    return job.run(0, source), labels if mixed is None else job.labels(mixed, mix.num_classes)


def _targets(labels: Tensor) -> bool:
    """True for those of a regression: a column of weights."""
    return labels.ndim == 1 and labels.is_floating_point()


def _render(
    items: Sequence[Any], module: Any, source: Tensor | Ragged, labels: Tensor | None, num_classes: int | None
) -> tuple[Tensor, Tensor | None]:
    if isinstance(items[0], BySize):
        source, items = _by_size(items[0], module, source), items[1:]
    return run(items, _job(items, module, source), source, labels, num_classes)


def _job(items: Sequence[Any], module: Any, source: Tensor | Ragged) -> Any:
    programs = [item for item in items if isinstance(item, Program)]
    return module.Job(programs, source) if hasattr(module, "Job") else Job(programs, module)


def _by_size(first: BySize, module: Any, source: Any) -> Ragged:
    """Run the images of each size by themselves, and pack what comes out, one size after another."""
    lengths = first.sizes.astype(np.int64).prod(axis=1) * first.channels
    order = np.concatenate([rows for rows, _ in first.parts])
    offsets = np.empty_like(lengths)
    offsets[order] = np.cumsum(lengths[order]) - lengths[order]
    data = torch.empty(int(lengths.sum()), dtype=torch.uint8, device=source.device)

    def work(number: int) -> None:
        rows, items = first.parts[number]
        images = source.take(rows)
        canvas = _through(items, _job(items, module, images), images)
        interleaved, start = canvas.permute(0, 2, 3, 1), int(offsets[rows[0]])
        data[start : start + canvas.numel()].view(interleaved.shape).copy_(interleaved)

    each = getattr(module, "each", _in_turn)
    each(work, [len(rows) for rows, _ in first.parts])
    return Ragged.placed(data, first.sizes, first.channels, offsets)


def _in_turn(work: Callable[[int], None], counts: Sequence[int]) -> None:
    """Call `work` with the number of each part; `counts` says how many images each has."""
    for number in range(len(counts)):
        work(number)


class Job:
    """The programs of one call, for a backend that prepares nothing."""

    def __init__(self, programs: list[Program], module: Any) -> None:
        self.programs, self.module = programs, module

    def run(self, number: int, source: Tensor | Ragged) -> Tensor:
        """Program `number`, on the canvas of what ran before it."""
        result: Tensor = self.module.render(self.programs[number], source)
        return result


def run(
    items: Sequence[Any], job: Any, source: Any, labels: Tensor | None, num_classes: int | None
) -> tuple[Tensor, Tensor | None]:
    """All items, then the labels."""
    source = _through(items, job, source)
    mix = None if items[-1].finish is None else items[-1].finish.mix  # the last item always is a program
    if labels is None or mix is None:
        return source, labels
    if _targets(labels):
        return source, _mixed(job, labels[:, None], None, mix, source.device)[:, 0]
    return source, _mixed(job, labels, num_classes, mix, source.device)


def _through(items: Sequence[Any], job: Any, source: Any) -> Any:
    """The items' programs, as `job` has them, and what stands between."""
    number = 0
    for item in items:
        if isinstance(item, Program):
            source = job.run(number, source)
            number += 1
        else:
            source = item(source)
    return source


def _mixed(job: Any, labels: Tensor, num_classes: int | None, mix: Any, device: torch.device) -> Tensor:
    if hasattr(job, "labels") and labels.device == device:  # where the parameters are
        on_device: Tensor = job.labels(labels, num_classes)
        return on_device
    twin = _module("torch")
    mixed: Tensor = twin.labels(labels, num_classes, mix)
    return mixed
