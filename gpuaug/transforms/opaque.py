"""Opaque steps: Kornia and torchvision objects in the list, which run unchanged."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gpuaug import checks
from gpuaug.transforms.base import Builder, Canvas, Kind, Params, Transform

__all__ = ["Opaque", "is_foreign", "seed_of", "seeded"]

Array = NDArray[Any]

GLOBAL_RNG = threading.Lock()  # foreign modules draw from torch's global generator


def _renew() -> None:
    """A forked child starts with a free lock; its parent's may have been held."""
    global GLOBAL_RNG
    GLOBAL_RNG = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the global generators of the CPU and of `device`, and restore them."""
    devices = [device] if device.type == "cuda" else []
    with GLOBAL_RNG, torch.random.fork_rng(devices=devices):
        # not torch.manual_seed, which seeds the generators of all devices: only this device's is restored
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def seed_of(uniforms: Array) -> Array:
    """(B,) int64 seeds of two uniforms each, (B, 2)."""
    high, low = np.floor(uniforms * 2**24).astype(np.int64).T
    return np.asarray((high << 24) | low)


def is_foreign(module: object) -> bool:
    """True for a Kornia augmentation or a torchvision v2 transform."""
    return _library(module) is not None


def _library(module: object) -> str | None:
    for cls in type(module).__mro__:
        if cls.__module__.startswith("kornia."):
            return "kornia"
        if cls.__module__.startswith("torchvision.transforms.v2"):
            return "torchvision"
    return None


def _keeps_places(module: object) -> bool:
    """True for a transform that only changes levels, judged by its base class or module."""
    return any(
        cls.__name__ == "IntensityAugmentationBase2D" or cls.__module__ == "torchvision.transforms.v2._color"
        for cls in type(module).__mro__
    )


class Opaque(Transform, registered=False):
    """Run a transform of Kornia or torchvision v2 unchanged on the whole batch, at its place in the list.

    Augment turns Kornia's modules into opaque steps by itself. It replaces torchvision's transforms with gpuaug's where
    there are any; one written as `Opaque(v2.RandomAffine(10))` runs unchanged, with one draw for the batch.

    Kornia draws for each sample, on floats in [0, 1]; torchvision draws once for the whole batch, on uint8. Both use
    torch's global generator, which is seeded here from (seed, epoch, first index of the batch, place in the list) and
    restored afterwards. So these draws depend on how the batch was formed, unlike those of gpuaug's own ops.

    Args:
        module: `kornia.augmentation` module, or a torchvision v2 transform that returns uint8. It may change size and
            channels, if the new ones depend only on the old ones.
        moves: Whether it moves pixels, so that masks, boxes and key points would have to be moved too. None: False for
            Kornia's intensity augmentations and torchvision's colour transforms, True for all others.

    Raises:
        ValueError: If the module makes floats or mixes labels, for which gpuaug has its own transforms.
    """

    kind = Kind.OPAQUE
    draws = 2

    def __init__(self, module: Callable[..., object], moves: bool | None = None) -> None:
        remedies = {
            "Normalize": "gpuaug.Normalize",
            "ToDtype": "gpuaug.ToDtype",
            "MixUp": "gpuaug.MixUp",
            "CutMix": "gpuaug.CutMix",
        }
        remedy = next((ours for name, ours in remedies.items() if name.lower() in type(module).__name__.lower()), None)
        if remedy is not None:
            name = f"{_library(module)}'s {type(module).__name__}"
            raise checks.argument_error(
                "Augment", "transforms", "uint8 to uint8 and without labels", name, f"Use {remedy}."
            )
        self.module: Any = module
        self.library = _library(module)
        self.moves = not _keeps_places(module) if moves is None else bool(moves)
        self._shapes: dict[tuple[int, ...], tuple[int, ...]] = {}  # (C, H, W) before it -> (C, H, W) after it

    def after(self, canvas: Canvas, params: Params | None = None) -> Canvas:
        """The shape after it, found by running the module once on one black image of the shape before it."""
        channels, height, width = self._after((canvas.channels, *canvas.size(self)))
        return Canvas(np.broadcast_to(np.array([height, width]), canvas.sizes.shape), channels)

    def _after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape not in self._shapes:
            tensors = [*self.module.parameters(), *self.module.buffers()] if isinstance(self.module, nn.Module) else []
            device = tensors[0].device if tensors else "cpu"
            probe = self._call(torch.zeros((1, *shape), dtype=torch.uint8, device=device), seed=0)
            if not isinstance(probe, Tensor) or probe.dtype != torch.uint8 or probe.ndim != 4:
                got = f"{checks.describe(probe)} from {type(self.module).__name__}"
                raise checks.argument_error("Augment", "transforms", "a step that returns uint8 (B, C, H, W)", got)
            self._shapes[shape] = tuple(probe.shape[1:])
        return self._shapes[shape]

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        return {"seed": seed_of(uniforms)}

    def lower(self, params: Params, builder: Builder) -> None:
        builder.call(partial(self.run, params=params), self.after(builder.canvas))

    @property
    def title(self) -> str:
        return f"the opaque step {type(self.module).__name__}"

    def describe(self, params: Params, sample: int) -> str:
        return type(self.module).__name__

    def detail(self, params: Params, sample: int) -> str:
        return f"{self.library}'s {type(self.module).__name__}, which draws for the batch"

    def run(self, canvas: Tensor, params: Params) -> Tensor:
        """(B, C, H, W) uint8 -> (B, C', H', W') uint8 of the shape that `after` returns, on the same device.

        Raises:
            ValueError: If the module's result is not uint8 of that shape.
        """
        result = self._call(canvas, int(params["seed"][0]))
        expected = (len(canvas), *self._after(tuple(canvas.shape[1:])))
        if not isinstance(result, Tensor) or result.dtype != torch.uint8 or tuple(result.shape) != expected:
            got = f"{checks.describe(result)} from {type(self.module).__name__}"
            remedy = "The steps after it were drawn for that size: use a step whose output size is fixed."
            raise checks.argument_error(
                "Augment", "transforms", f"a step that returns uint8 {expected} here", got, remedy
            )
        return result

    def _call(self, canvas: Tensor, seed: int) -> Any:
        """Run the module with the global generators seeded, and restore them."""
        with seeded(canvas.device, seed):
            if self.library != "kornia":
                return self.module(canvas.clone())  # it may work in place, and the canvas may be the user's batch
            result = self.module(canvas.to(torch.float32).div_(255))
            levels = isinstance(result, Tensor) and result.is_floating_point()
            return (result * 255).round_().clamp_(0, 255).to(torch.uint8) if levels else result

    def __repr__(self) -> str:
        moves = f", moves={self.moves}" if self.moves == _keeps_places(self.module) else ""
        return f"Opaque({'v2' if self.library == 'torchvision' else 'kornia.augmentation'}.{self.module!r}{moves})"
