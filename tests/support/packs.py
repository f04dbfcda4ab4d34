"""Packs and the folders they are made from, for tests of writing, of reading and of the commands."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from gpuaug.data import pack
from gpuaug.data.decode import decode, read
from gpuaug.data.packs.format import Index
from gpuaug.demo import photographs

SHORT = 48


def make(root: Path, files: int = 7, classes: int = 2) -> Path:
    """Photographs and noise, in classes that take turns."""
    noise = np.random.default_rng(0)
    for number in range(files):
        folder = root / f"class{number % classes}"
        folder.mkdir(parents=True, exist_ok=True)
        if number < 3:
            shutil.copyfile(photographs.paths()[number], folder / f"{number:03d}.jpg")
        else:
            image = noise.integers(0, 256, (20 + 11 * number, 30 + 7 * number, 3), np.uint8)
            Image.fromarray(image).save(folder / f"{number:03d}.png")
    return root


def packed(source: Path, destination: Path, **settings: Any) -> Path:
    pack(source, destination, **{"short_side": SHORT, "workers": 0, "shard_images": 3, **settings})
    return destination


def entries(folder: Path) -> list[Any]:
    return [entry for entry in Index.read("test", folder).shards if entry is not None]


def expected(path: str | Path) -> torch.Tensor:
    """torchvision's resize of the decoded image."""
    image = decode(read(path))
    if min(image.shape[1:]) <= SHORT:
        return image
    return functional.resize(image, [SHORT], antialias=True)


def flip(path: Path, position: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
