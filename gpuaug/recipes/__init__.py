"""Lists of transforms to begin with, by data size, method and domain; each says when, why and from where.

A recipe is a function `recipe(size, *, num_classes=None, strength=1.0, ...)` that returns a list: print it, change it,
put more into it. `simclr`, `byol` and `dino` return a list for each view. See docs/recipes.md.
"""

from __future__ import annotations

from gpuaug.recipes.classification import cifar, deit3, large_scale, small_data, standard, torchvision_reference
from gpuaug.recipes.config import NAMES
from gpuaug.recipes.domains import digits, documents, medical, products, satellite
from gpuaug.recipes.schedule import Ramp
from gpuaug.recipes.strength import at_strength
from gpuaug.recipes.views import byol, dino, simclr

__all__ = [
    "NAMES",
    "Ramp",
    "at_strength",
    "byol",
    "cifar",
    "deit3",
    "digits",
    "dino",
    "documents",
    "large_scale",
    "medical",
    "products",
    "satellite",
    "simclr",
    "small_data",
    "standard",
    "torchvision_reference",
]


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
