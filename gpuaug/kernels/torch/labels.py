"""Labels: the sample's label times its share, plus the partner's label times the rest."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gpuaug.kernels.torch.common import upload
from gpuaug.program import Mix

__all__ = ["labels"]


def labels(labels: Tensor, num_classes: int | None, mix: Mix) -> Tensor:
    """Soft labels (B, classes) of mixed samples.

    Args:
        labels: (B,) class numbers, or (B, classes) soft or multi-hot labels, on any device.
        num_classes: Number of classes, if `labels` are class numbers.
    """
    soft = _one_hot(labels, num_classes)
    wide = np.float64 if soft.dtype == torch.float64 else np.float32  # torch multiplies 16-bit floats in float32
    share, rest = (upload(values.astype(wide), soft.device)[:, None] for values in (mix.share, 1.0 - mix.share))
    theirs = (soft.index_select(0, upload(mix.partner, soft.device)) * rest).to(soft.dtype)
    mixed = theirs.add_((soft * share).to(soft.dtype))
    return torch.where(rest == 0, soft, mixed)  # unmixed labels stay, even if the partner's are infinite


def _one_hot(labels: Tensor, num_classes: int | None) -> Tensor:
    """Labels as (B, classes) floats: class numbers (B,) become one-hot, soft and multi-hot stay."""
    if labels.ndim == 1:
        assert num_classes is not None  # checked by `check_labels`
        classes = torch.arange(num_classes, device=labels.device)
        return (labels[:, None] == classes).to(torch.float32)
    return labels if labels.is_floating_point() else labels.to(torch.float32)
