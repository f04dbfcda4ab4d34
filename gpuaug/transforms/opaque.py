"""Opaque steps: Kornia and torchvision objects that stand in the list and run as they are."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug import checks
from gpuaug.transform import Canvas, Params, Transform

__all__ = ["Opaque", "is_foreign"]

Array = NDArray[Any]

GLOBAL_RNG = threading.Lock()  # foreign modules draw from torch's global generator


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


class Opaque(Transform, registered=False):
    """Run a foreign module on the whole canvas, at its place in the list.

    Kornia draws for each sample, on floats in [0, 1]; torchvision draws once for the whole batch, on uint8. Both use
    torch's global generator, which is seeded here from (seed, epoch, first index of the batch, place in the list) and
    put back afterwards; so unlike our own ops these draws depend on how the batch was formed.

    Args:
        module: a `kornia.augmentation` module, or a torchvision v2 transform that returns uint8; both keep the shape.
    """

    kind = "opaque"
    draws = 2

    def __init__(self, module: Any) -> None:
        remedies = {
            "Normalize": "gpuaug.Normalize",
            "ToDtype": "gpuaug.ToDtype",
            "MixUp": "gpuaug.MixUp",
            "CutMix": "gpuaug.CutMix",
        }
        remedy = next((ours for name, ours in remedies.items() if name.lower() in type(module).__name__.lower()), None)
        if remedy is not None:
            name = f"{_library(module)}'s {type(module).__name__}"
            raise checks.bad("Augment", "transforms", "uint8 to uint8 and without labels", name, f"Use {remedy}.")
        self.module = module
        self.library = _library(module)

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        high, low = np.floor(uniforms * 2**24).astype(np.int64).T
        return {"seed": (high << 24) | low}

    def run(self, canvas: Tensor, params: Params) -> Tensor:
        """(B, C, H, W) uint8 -> the same shape and type, on the same device.

        What follows was drawn for that shape, so a step that changes it is an error.
        """
        devices = [canvas.device] if canvas.device.type == "cuda" else []
        with GLOBAL_RNG, torch.random.fork_rng(devices=devices):
            # not torch.manual_seed, which seeds the generators of all devices, and only this one's is put back
            torch.default_generator.manual_seed(int(params["seed"][0]))
            if devices:
                with torch.cuda.device(canvas.device):
                    torch.cuda.manual_seed(int(params["seed"][0]))
            if self.library == "kornia":
                result = self.module(canvas.to(torch.float32).div_(255))
                levels = isinstance(result, Tensor) and result.is_floating_point()
                result = (result * 255).round_().clamp_(0, 255).to(torch.uint8) if levels else result
            else:
                result = self.module(canvas.clone())  # it may work in place, and the canvas may be the user's batch
        if not isinstance(result, Tensor) or result.dtype != torch.uint8 or result.shape != canvas.shape:
            got = f"{checks.describe(result)} from {type(self.module).__name__}"
            remedy = "For another size or number of channels use gpuaug's Resize, Pad, Grayscale or crops."
            raise checks.bad("Augment", "transforms", f"a step that returns {checks.describe(canvas)}", got, remedy)
        return result

    def __repr__(self) -> str:
        return f"{'v2' if self.library == 'torchvision' else 'kornia.augmentation'}.{self.module!r}"
