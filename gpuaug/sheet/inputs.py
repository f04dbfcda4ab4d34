"""Images in the forms that users have, as uint8 (C, H, W) tensors, and masks and boxes that lie beside files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gpuaug import checks
from gpuaug.data.decode import decode_file
from gpuaug.ragged import Ragged

__all__ = ["Pictures", "as_images", "boxes_of", "images_in", "masks_of", "visible"]

Picture = Tensor | Image.Image | str | os.PathLike[str]
Pictures = Picture | Ragged | Sequence[Picture]

ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm"}
WHOLE = ("1", "L", "P", "I", "I;16")  # Pillow's modes whose pixels are numbers of classes


def as_images(owner: str, images: Pictures) -> list[Tensor]:
    """The images, each uint8 (C, H, W).

    Args:
        owner: Name that errors begin with.
        images: uint8 (C, H, W) or (B, C, H, W), Ragged, a Pillow image or a path, or several of these in a sequence.

    Raises:
        ValueError: If there is none, or one has another form, or its file cannot be decoded.
    """
    if isinstance(images, Tensor) and images.ndim == 4:
        images = list(images)
    if isinstance(images, (Tensor, Image.Image, str, os.PathLike)):
        images = [images]
    if isinstance(images, Ragged) and images.frames:
        raise checks.argument_error(owner, "images", "images", "clips", "Pass some of their frames.")
    if not isinstance(images, (Ragged, Sequence)):
        raise checks.argument_error(owner, "images", "images or paths of images", checks.describe(images))
    if len(images) == 0:
        raise checks.argument_error(owner, "images", "at least one image", "none")
    return [_image(owner, number, image) for number, image in enumerate(images)]


def _image(owner: str, number: int, image: Any) -> Tensor:
    if isinstance(image, (str, os.PathLike)):
        return decode_file(image)
    if isinstance(image, Image.Image):
        values = np.array(image if image.mode == "L" else image.convert("RGB"))
        tensor = torch.from_numpy(values)
        return tensor[None] if tensor.ndim == 2 else tensor.permute(2, 0, 1)
    if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.ndim != 3 or image.numel() == 0:
        expected = "uint8 (C, H, W) or (B, C, H, W) tensors, Pillow images or paths"
        got, remedy = checks.describe(image), ""
        if isinstance(image, Tensor) and image.is_floating_point():
            remedy = "Pass the images as they are before the list: bytes, or (image * 255).round().to(torch.uint8)."
        raise checks.argument_error(owner, "images", expected, f"{got} for image {number}", remedy)
    return image.as_subclass(Tensor)


def visible(image: Tensor) -> Tensor:
    """An image of any number of channels as (3, H, W), on the CPU: grey, or its first three channels."""
    channels = image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)
    return channels.detach().cpu()


# ---- files -----------------------------------------------------------------------------------------------------------


def images_in(owner: str, argument: str, folder: Path) -> list[Path]:
    """Every image file below a folder.

    Raises:
        ValueError: If there is none.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and not path.is_dir())
    if not files:
        raise checks.argument_error(owner, argument, "a folder that contains images", str(folder))
    return files


def masks_of(owner: str, folder: Path, files: Sequence[Path], images: Sequence[Tensor]) -> list[dict[str, Any]]:
    """The mask of each file, whose name is that of the file with the ending .png.

    Raises:
        ValueError: If one is missing, has colours, or has another size than its image.
    """
    found = []
    for file, image in zip(files, images, strict=True):
        path = folder / f"{file.stem}.png"
        if not path.is_file():
            expected = "a folder with a PNG of the same name for each image"
            raise checks.argument_error(owner, "--masks", expected, f"no {path} for {file.name}")
        try:
            with Image.open(path) as picture:
                mode, values = picture.mode, np.array(picture)
        except OSError as error:
            raise checks.argument_error(owner, "--masks", "a folder with PNG files", f"{path} ({error})") from None
        if mode not in WHOLE or values.shape != image.shape[1:]:
            height, width = image.shape[1:]
            expected = f"class numbers of {height} × {width} pixels, as {file.name} has"
            got = f"{path} of mode {mode} and {values.shape[0]} × {values.shape[1]} pixels"
            raise checks.argument_error(owner, "--masks", expected, got)
        found.append({"masks": torch.from_numpy(values.astype(np.int32))})
    return found


def boxes_of(owner: str, path: Path, files: Iterable[Path]) -> list[dict[str, Any]]:
    """The boxes of each file, from JSON {"photo.jpg": [[x1, y1, x2, y2], ...]}; a file without an entry has none.

    Raises:
        ValueError: If the file is no such JSON.
    """
    expected = 'JSON such as {"photo.jpg": [[x1, y1, x2, y2]]}, in pixels'
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise checks.argument_error(owner, "--boxes", expected, f"{path} ({error})") from None
    if not isinstance(given, Mapping):
        raise checks.argument_error(owner, "--boxes", expected, f"a {type(given).__name__} in {path}")
    names = [file.name for file in files]
    unknown = sorted(set(given) - set(names))
    if unknown and not set(given) & set(names):
        raise checks.argument_error(owner, "--boxes", "boxes by the names of the images", ", ".join(unknown[:3]))
    found = []
    for name in names:
        rows = given.get(name, [])
        good = isinstance(rows, list) and all(isinstance(row, list) and len(row) == 4 for row in rows)
        if not good or not all(checks.is_number(value) for row in rows for value in row):
            raise checks.argument_error(owner, "--boxes", expected, f"{checks.describe(rows)} for {name}")
        found.append({"boxes": torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)})
    return found
