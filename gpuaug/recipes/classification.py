"""Recipes for photographs with a class."""

from __future__ import annotations

import math

from gpuaug import checks
from gpuaug.recipes.common import IMAGENET_MEAN, IMAGENET_STD, Size, Values, finished, mixing
from gpuaug.transforms.base import Transform
from gpuaug.transforms.blur import GaussianBlur
from gpuaug.transforms.color import ColorJitter, RandomGrayscale, RandomSolarize
from gpuaug.transforms.container import RandomChoice
from gpuaug.transforms.crop import RandomCrop, RandomResizedCrop
from gpuaug.transforms.erase import RandomErasing
from gpuaug.transforms.geometric import RandomAffine, RandomHorizontalFlip
from gpuaug.transforms.mix import CutMix, MixUp
from gpuaug.transforms.policy import AugMix, AutoAugment, RandAugment, TrivialAugmentWide

__all__ = ["cifar", "deit3", "large_scale", "small_data", "standard", "torchvision_reference"]

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of the training images of CIFAR-10
POLICIES = {"ra": RandAugment, "ta_wide": TrivialAugmentWide, "augmix": AugMix}


def small_data(
    size: Size,
    *,
    num_classes: int | None = None,
    strength: float = 1.0,
    mean: Values = IMAGENET_MEAN,
    std: Values = IMAGENET_STD,
) -> list[Transform]:
    """Strong geometry and colour for a few images a class, such as fine-tuning on up to about 100 of each.

    With little data a network sees each image often, so views have to differ much. TrivialAugmentWide (Müller and
    Hutter, arXiv:2103.10158) needs no tuning, which a small validation set would not allow. MixUp (Zhang et al.,
    arXiv:1710.09412) with alpha 0.2 is used for half of the batches; CutMix (Yun et al., arXiv:1905.04899) for a tenth,
    since it can cut away the only object. The crop keeps at least 0.35 of the area for the same reason; the other
    numbers are gpuaug's own choice.

    Args:
        size: Size of the result in pixels, an int or (height, width).
        num_classes: Number of classes. None: no mixing.
        strength: In [0, 1]: scales magnitudes, chances and mixing; 0 is the evaluation list (docs/recipes.md).
        mean, std: Mean and standard deviation of each channel, of values in [0, 1].
    """
    steps = [
        RandomResizedCrop(size, scale=(0.35, 1.0)),
        RandomHorizontalFlip(),
        RandomAffine(15, translate=(0.1, 0.1), scale=(0.9, 1.1), shear=5, interpolation="bilinear"),
        ColorJitter(0.3, 0.3, 0.3, 0.05),
        TrivialAugmentWide(interpolation="bilinear"),
    ]
    after, mixes = [RandomErasing(0.25, scale=(0.02, 0.2))], mixing(num_classes, p=(0.5, 0.1))
    return finished(steps, mean, std, strength, after, mixes)


def standard(
    size: Size,
    *,
    num_classes: int | None = None,
    strength: float = 1.0,
    num_ops: int = 2,
    magnitude: int = 9,
    mean: Values = IMAGENET_MEAN,
    std: Values = IMAGENET_STD,
) -> list[Transform]:
    """The list to begin with: hundreds to thousands of images a class, trained for tens to hundreds of epochs.

    RandAugment with 2 operations of magnitude 9 (Cubuk et al., arXiv:1909.13719; torchvision's defaults); larger
    networks and longer runs take 3 operations and magnitudes up to 12. MixUp with alpha 0.2 and CutMix with alpha 1 for
    40 % of the batches each, so that a fifth stays clean; alphas are those of torchvision's reference training.

    Args:
        size: Size of the result in pixels, an int or (height, width).
        num_classes: Number of classes. None: no mixing.
        strength: In [0, 1]: scales magnitudes, chances and mixing; 0 is the evaluation list (docs/recipes.md).
        num_ops: RandAugment's number of operations for each image.
        magnitude: RandAugment's magnitude, in [0, 30].
        mean, std: Mean and standard deviation of each channel, of values in [0, 1].
    """
    policy = RandAugment(num_ops, magnitude, interpolation="bilinear")
    steps = [RandomResizedCrop(size), RandomHorizontalFlip(), policy]
    return finished(steps, mean, std, strength, mixes=mixing(num_classes, p=(0.4, 0.4)))


def large_scale(
    size: Size,
    *,
    num_classes: int | None = None,
    strength: float = 1.0,
    mean: Values = IMAGENET_MEAN,
    std: Values = IMAGENET_STD,
) -> list[Transform]:
    """A million images or more: AutoAugment's policy that was searched on ImageNet, CutMix, some MixUp.

    AutoAugment (Cubuk et al., arXiv:1805.09501). CutMix with alpha 1 and MixUp with alpha 0.2, as in torchvision's
    reference training, for 30 % of the batches each: with much data, clean images are worth more than a stronger
    regularisation, so fewer are mixed than in `standard`; these chances are gpuaug's own choice.

    Args:
        size: Size of the result in pixels, an int or (height, width).
        num_classes: Number of classes. None: no mixing.
        strength: In [0, 1]: scales magnitudes, chances and mixing; 0 is the evaluation list (docs/recipes.md).
        mean, std: Mean and standard deviation of each channel, of values in [0, 1].
    """
    steps = [RandomResizedCrop(size), RandomHorizontalFlip(), AutoAugment("imagenet", interpolation="bilinear")]
    return finished(steps, mean, std, strength, mixes=mixing(num_classes, p=(0.3, 0.3)))


def cifar(
    size: Size = 32,
    *,
    num_classes: int | None = None,
    strength: float = 1.0,
    mean: Values = CIFAR_MEAN,
    std: Values = CIFAR_STD,
) -> list[Transform]:
    """CIFAR-10 and CIFAR-100, and other images that are small already: nothing is resized.

    Crops with 4 pixels of padding and flips (He et al., arXiv:1512.03385), AutoAugment's CIFAR-10 policy (Cubuk et al.,
    arXiv:1805.09501), and with it a Cutout of a quarter of the area, half as often as there. CutMix with alpha 1 for
    half of the batches, as in its paper for CIFAR (Yun et al., arXiv:1905.04899).

    Args:
        size: Size of the images and of the result in pixels, an int or (height, width).
        num_classes: Number of classes. None: no mixing.
        strength: In [0, 1]: scales magnitudes, chances and mixing; 0 is the evaluation list (docs/recipes.md).
        mean, std: Mean and standard deviation of each channel, of values in [0, 1]; by default CIFAR-10's.
    """
    steps = [RandomCrop(size, padding=4), RandomHorizontalFlip(), AutoAugment("cifar10")]
    after = [RandomErasing(0.5, scale=(0.25, 0.25), ratio=(1, 1))]
    mixes = [] if num_classes is None else [RandomChoice([CutMix(alpha=1.0, num_classes=num_classes)], p=[0.5])]
    return finished(steps, mean, std, strength, after, mixes)


def deit3(
    size: Size,
    *,
    num_classes: int | None = None,
    strength: float = 1.0,
    mean: Values = IMAGENET_MEAN,
    std: Values = IMAGENET_STD,
) -> list[Transform]:
    """3-Augment of DeiT III, for vision transformers that train for hundreds of epochs.

    One of grey, solarize and blur for each image, then colour (Touvron et al., arXiv:2204.07118; `augment.py` of the
    DeiT repository, and the policy "3a" of timm). MixUp with alpha 0.8 or CutMix with alpha 1 for every batch, as
    there: no batch stays clean. Differs in the blur: Pillow's is an approximation by boxes.

    Args:
        size: Size of the result in pixels, an int or (height, width).
        num_classes: Number of classes. None: no mixing.
        strength: In [0, 1]: scales magnitudes, chances and mixing; 0 is the evaluation list (docs/recipes.md).
        mean, std: Mean and standard deviation of each channel, of values in [0, 1].
    """
    blur = GaussianBlur(13, sigma=(0.1, 2.0))  # three sigmas to each side
    steps = [
        RandomResizedCrop(size, interpolation="bicubic"),
        RandomHorizontalFlip(),
        RandomChoice([RandomGrayscale(1.0), RandomSolarize(128, 1.0), blur]),
        ColorJitter(0.3, 0.3, 0.3),
    ]
    return finished(steps, mean, std, strength, mixes=mixing(num_classes, mixup=0.8))


def torchvision_reference(
    size: Size,
    *,
    num_classes: int | None = None,
    strength: float = 1.0,
    mean: Values = IMAGENET_MEAN,
    std: Values = IMAGENET_STD,
    interpolation: str = "bilinear",
    hflip_prob: float = 0.5,
    auto_augment_policy: str | None = None,
    ra_magnitude: int = 9,
    augmix_severity: int = 3,
    random_erase_prob: float = 0.0,
    mixup_alpha: float = 0.0,
    cutmix_alpha: float = 0.0,
) -> list[Transform]:
    """torchvision's reference training (`references/classification/presets.py`), to reproduce its weights.

    Arguments and defaults are those of its `ClassificationPresetTrain` and, for the two alphas, of its `train.py`. Its
    second set of weights (IMAGENET1K_V2) took auto_augment_policy="ta_wide", random_erase_prob=0.1, mixup_alpha=0.2,
    cutmix_alpha=1.0 and size=176. Differs in the evaluation list: Resize(round(1.14 * size)) instead of its `val`
    sizes; pass `eval` for those.

    Args:
        size: Size of the result in pixels, its `crop_size`.
        num_classes: Number of classes. None: no mixing.
        strength: In [0, 1]: scales magnitudes, chances and mixing; 0 is the evaluation list (docs/recipes.md).
        mean, std: Mean and standard deviation of each channel, of values in [0, 1].
        interpolation: Interpolation of the crop and of the policy.
        hflip_prob: Chance of a mirror.
        auto_augment_policy: None, "ra", "ta_wide", "augmix", "imagenet", "cifar10" or "svhn".
        ra_magnitude: Magnitude of "ra".
        augmix_severity: Severity of "augmix".
        random_erase_prob: Chance of RandomErasing.
        mixup_alpha, cutmix_alpha: 0 leaves the mix out; both are equally likely if both are given.
    """
    for name, chance in (("hflip_prob", hflip_prob), ("random_erase_prob", random_erase_prob)):
        checks.number("recipes", name, chance, 0, 1, "a probability")
    for name, alpha in (("mixup_alpha", mixup_alpha), ("cutmix_alpha", cutmix_alpha)):
        checks.number("recipes", name, alpha, 0, math.inf)
    words = [*POLICIES, "imagenet", "cifar10", "svhn"]
    steps: list[Transform] = [RandomResizedCrop(size, interpolation=interpolation)]
    if hflip_prob > 0:
        steps.append(RandomHorizontalFlip(hflip_prob))
    if auto_augment_policy is not None:
        word = checks.one_of("recipes", "auto_augment_policy", auto_augment_policy, words)
        extra = {"ra": {"magnitude": ra_magnitude}, "augmix": {"severity": augmix_severity}}.get(word, {})
        policy = POLICIES[word](**extra, interpolation=interpolation) if word in POLICIES else None
        steps.append(policy or AutoAugment(word, interpolation=interpolation))
    after = [RandomErasing(random_erase_prob)] if random_erase_prob > 0 else []
    alphas = ((MixUp, mixup_alpha), (CutMix, cutmix_alpha)) if num_classes is not None else ()
    mixes = [kind(alpha=alpha, num_classes=num_classes) for kind, alpha in alphas if alpha > 0]
    return finished(steps, mean, std, strength, after, [RandomChoice(mixes)] if mixes else [])
