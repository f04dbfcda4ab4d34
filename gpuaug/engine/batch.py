"""A batch as it comes in: whether it can be augmented, and its sizes and channels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gpuaug import checks
from gpuaug.ragged import Ragged
from gpuaug.transforms.base import Canvas, repeated

__all__ = ["Images", "canvas_of", "check_images", "frames_of"]

Images = Tensor | Ragged

FORMS = "uint8 (B, C, H, W), clips (B, T, C, H, W) or Ragged"


def canvas_of(images: Images) -> Canvas:
    """Sizes and channels of a batch."""
    if isinstance(images, Ragged):
        return Canvas(images.whole.astype(np.int64), images.channels)
    shape = images.shape
    return Canvas(repeated(shape[0], shape[-2], shape[-1]), shape[-3])


def frames_of(images: Images) -> int:
    """Number of frames of each clip; 0 for images."""
    if isinstance(images, Ragged):
        return images.frames
    return images.shape[1] if images.ndim == 5 else 0


def check_images(owner: object, images: object) -> None:
    """Raise an error if images cannot be augmented; reads metadata only."""
    remedy = "Pass the raw bytes, or (images * 255).round().to(torch.uint8)."
    if isinstance(images, Tensor):
        if images.dtype != torch.uint8 or images.ndim not in (4, 5):
            if images.dtype == torch.uint8:
                remedy = "Stack images (C, H, W) to one tensor (B, C, H, W)."
                if images.ndim == 3:
                    remedy = "Add a batch dimension with images[None]."
                elif images.ndim > 5:
                    remedy = "Fold views into the batch with images.flatten(0, -5), and labels too."
            elif images.dtype in (torch.uint16, torch.int16, torch.int32, torch.int64):
                remedy = "Bring levels to [0, 255]: (images.int() // 256).to(torch.uint8) for levels of 16 bits."
            raise checks.argument_error(owner, "images", FORMS, checks.describe(images), remedy)
        if type(images) is not Tensor and images.ndim == 4 and type(images).__name__ == "Video":
            expected, remedy = "a Video (B, T, C, H, W)", "Add a batch dimension with images[None]."
            raise checks.argument_error(owner, "images", expected, checks.describe(images), remedy)
        if images.layout != torch.strided:
            raise checks.argument_error(
                owner, "images", "a dense tensor", str(images.layout), "Call images.to_dense()."
            )
        if 0 in images.shape:
            raise checks.argument_error(
                owner, "images", "at least one image of at least one pixel", checks.describe(images)
            )
    elif not isinstance(images, Ragged):
        remedy = "Stack the images, or pack different sizes with Ragged.from_images(list)."
        raise checks.argument_error(owner, "images", FORMS, checks.describe(images), remedy)
    elif len(images) == 0:
        raise checks.argument_error(owner, "images", "at least one image", "an empty Ragged")
