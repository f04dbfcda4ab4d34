"""Recipes of self-supervised learning: a list for each view of an image."""

from __future__ import annotations

from gpuaug import checks
from gpuaug.recipes.common import IMAGENET_MEAN, IMAGENET_STD, Size, Values, blur_kernel, finished
from gpuaug.transforms.base import Transform
from gpuaug.transforms.blur import GaussianBlur
from gpuaug.transforms.color import ColorJitter, RandomGrayscale, RandomSolarize
from gpuaug.transforms.container import RandomApply
from gpuaug.transforms.crop import RandomResizedCrop
from gpuaug.transforms.geometric import RandomHorizontalFlip

__all__ = ["byol", "dino", "simclr"]


def _view(crop: Transform, jitter: Transform, blur: float, solarize: float, kernel: int = 23) -> list[Transform]:
    """A view: crop, mirror, colour for 80 %, grey for 20 %, blur and solarize with their chances."""
    steps: list[Transform] = [crop, RandomHorizontalFlip(), RandomApply([jitter], 0.8), RandomGrayscale(0.2)]
    if blur > 0:
        steps.append(RandomApply([GaussianBlur(kernel, sigma=(0.1, 2.0))], blur))
    if solarize > 0:
        steps.append(RandomSolarize(128, solarize))
    return steps


def simclr(
    size: Size, *, strength: float = 1.0, jitter: float = 1.0, mean: Values = IMAGENET_MEAN, std: Values = IMAGENET_STD
) -> list[list[Transform]]:
    """Two views for contrastive learning without labels: SimCLR.

    Chen et al., arXiv:2002.05709, appendix A: crops of 8 to 100 % of the area, colour of strength `jitter`, grey, and
    for half of the views a blur whose kernel is a tenth of the image. The paper does not normalise; for that, pass
    mean=(0, 0, 0), std=(1, 1, 1).

    Args:
        size: Size of the result in pixels, an int or (height, width).
        strength: In [0, 1]: scales magnitudes and chances; 0 is the evaluation list (docs/recipes.md).
        jitter: The paper's strength of colour; 1 for ImageNet, 0.5 for CIFAR-10.
        mean, std: Mean and standard deviation of each channel, of values in [0, 1].

    Returns:
        Two lists, one for each view, alike.
    """
    wide, turn = 0.8 * jitter, 0.2 * jitter
    view = _view(RandomResizedCrop(size), ColorJitter(wide, wide, wide, turn), 0.5, 0.0, blur_kernel(size))
    return [finished(view, mean, std, strength) for _ in range(2)]


def byol(
    size: Size, *, strength: float = 1.0, mean: Values = IMAGENET_MEAN, std: Values = IMAGENET_STD
) -> list[list[Transform]]:
    """Two views that differ, for learning without labels and without negatives: BYOL, also Barlow Twins.

    Grill et al., arXiv:2006.07733, table 6: the first view is always blurred, the second for 10 %, and solarized for
    20 %.

    Args:
        size: Size of the result in pixels, an int or (height, width).
        strength: In [0, 1]: scales magnitudes and chances; 0 is the evaluation list (docs/recipes.md).
        mean, std: Mean and standard deviation of each channel, of values in [0, 1].

    Returns:
        Two lists, one for each view.
    """
    crop, jitter = RandomResizedCrop(size, interpolation="bicubic"), ColorJitter(0.4, 0.4, 0.2, 0.1)
    views = [_view(crop, jitter, 1.0, 0.0), _view(crop, jitter, 0.1, 0.2)]
    return [finished(view, mean, std, strength) for view in views]


def dino(
    size: Size = 224,
    *,
    strength: float = 1.0,
    local_size: Size = 96,
    local_views: int = 8,
    global_scale: tuple[float, float] = (0.4, 1.0),
    local_scale: tuple[float, float] = (0.05, 0.4),
    mean: Values = IMAGENET_MEAN,
    std: Values = IMAGENET_STD,
) -> list[list[Transform]]:
    """Two large and several small views for self-distillation of vision transformers: DINO.

    Caron et al., arXiv:2104.14294, and `main_dino.py` of its repository, whose defaults these are. Differs in the blur:
    Pillow's is an approximation by boxes.

    Args:
        size: Size of the two large views in pixels, an int or (height, width).
        strength: In [0, 1]: scales magnitudes and chances; 0 is the evaluation list (docs/recipes.md).
        local_size: Size of the small views in pixels.
        local_views: Number of small views, at least 0.
        global_scale, local_scale: Area of the crops, as a fraction of the image's.
        mean, std: Mean and standard deviation of each channel, of values in [0, 1].

    Returns:
        Two lists for the large views, then one for each small view.
    """
    count, jitter = checks.integer("recipes", "local_views", local_views, 0), ColorJitter(0.4, 0.4, 0.2, 0.1)
    large = RandomResizedCrop(size, scale=global_scale, interpolation="bicubic")
    small = RandomResizedCrop(local_size, scale=local_scale, interpolation="bicubic")
    kernel = 13  # three sigmas to each side
    views = [_view(large, jitter, 1.0, 0.0, kernel), _view(large, jitter, 0.1, 0.2, kernel)]
    views += [_view(small, jitter, 0.5, 0.0, kernel)] * count
    return [finished(view, mean, std, strength) for view in views]
