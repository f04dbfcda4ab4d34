"""Recipes for images whose domain forbids some of the usual transforms."""

from __future__ import annotations

from gpuaug import checks
from gpuaug.recipes.common import IMAGENET_MEAN, IMAGENET_STD, Size, Values, finished, mixing
from gpuaug.transforms.base import Transform
from gpuaug.transforms.blur import GaussianBlur
from gpuaug.transforms.color import ColorJitter, RandomGrayscale
from gpuaug.transforms.container import RandomApply, RandomChoice
from gpuaug.transforms.crop import RandomResizedCrop, Resize
from gpuaug.transforms.degrade import JPEG, GaussianNoise
from gpuaug.transforms.erase import RandomErasing
from gpuaug.transforms.geometric import (
    RandomAffine,
    RandomHorizontalFlip,
    RandomPerspective,
    RandomRotation,
    RandomVerticalFlip,
)

__all__ = ["digits", "documents", "medical", "products", "satellite"]

MNIST_MEAN, MNIST_STD = (0.1307,), (0.3081,)
PAPER = 255  # level outside of a page or of a product's photograph


def documents(
    size: Size,
    *,
    num_classes: int | None = None,
    strength: float = 1.0,
    mean: Values = IMAGENET_MEAN,
    std: Values = IMAGENET_STD,
) -> list[Transform]:
    """Scans and photographs of pages: what scanners, phones and copies do, and nothing that changes the text.

    No flips, since mirrored text is no text; small turns, since pages lie nearly straight; white outside of the page;
    grey copies, blur, noise and JPEG of Kornia's and torchvision's kind (the degradations of Augraphy,
    arXiv:2208.14558, that gpuaug has). MixUp is rare, since a mixture of two layouts is neither; no CutMix, no erasing:
    the title may be the class. The numbers are gpuaug's own choice.

    Args:
        size: Size of the result in pixels, an int or (height, width).
        num_classes: Number of classes. None: no mixing.
        strength: In [0, 1]: scales magnitudes, chances and mixing; 0 is the evaluation list (docs/recipes.md).
        mean, std: Mean and standard deviation of each channel, of values in [0, 1].
    """
    steps = [
        RandomResizedCrop(size, scale=(0.7, 1.0), ratio=(0.8, 1.25)),
        ColorJitter(0.3, 0.3, 0.2),  # before what fills with white, so that white stays white
        RandomRotation(3, interpolation="bilinear", fill=PAPER),
        RandomPerspective(0.1, p=0.5, fill=PAPER),
        RandomGrayscale(0.2),
        RandomApply([GaussianBlur(5, sigma=(0.1, 1.0))], 0.2),
        RandomApply([GaussianNoise(sigma=0.03)], 0.2),
        RandomApply([JPEG((40, 95))], 0.3),
    ]
    return finished(steps, mean, std, strength, mixes=mixing(num_classes, p=(0.1, 0.0)))


def medical(
    size: Size,
    *,
    num_classes: int | None = None,
    strength: float = 1.0,
    flips: bool = False,
    mean: Values = IMAGENET_MEAN,
    std: Values = IMAGENET_STD,
) -> list[Transform]:
    """Radiographs, slices and other medical images: little geometry, brightness and contrast, noise and blur.

    Follows the kinds of nnU-Net's augmentation (Isensee et al., arXiv:1904.08128): small turns and scales, noise, blur,
    brightness, contrast. No hue or saturation, since colour is a stain or a measurement; no erasing and no CutMix,
    since a finding may be small. Flips only if `flips`: in a chest radiograph the side is an anatomical fact, in a
    histology slide it is not. The numbers are milder than nnU-Net's, and gpuaug's own choice; have an expert look at
    the preview.

    Args:
        size: Size of the result in pixels, an int or (height, width).
        num_classes: Number of classes. None: no mixing.
        strength: In [0, 1]: scales magnitudes, chances and mixing; 0 is the evaluation list (docs/recipes.md).
        flips: Whether left and right, top and bottom mean the same.
        mean, std: Mean and standard deviation of each channel, of values in [0, 1]; one number each for grey images.
    """
    steps: list[Transform] = [RandomResizedCrop(size, scale=(0.8, 1.0), ratio=(0.9, 1.1))]
    if flips:
        steps += [RandomHorizontalFlip(), RandomVerticalFlip()]
    steps += [
        RandomAffine(10, translate=(0.05, 0.05), scale=(0.9, 1.1), interpolation="bilinear"),
        ColorJitter(0.2, 0.2),
        RandomApply([GaussianBlur(5, sigma=(0.5, 1.0))], 0.2),
        RandomApply([GaussianNoise(sigma=0.02)], 0.2),
    ]
    return finished(steps, mean, std, strength, mixes=mixing(num_classes, p=(0.25, 0.0)))


def satellite(
    size: Size,
    bands: int = 3,
    *,
    num_classes: int | None = None,
    strength: float = 1.0,
    mean: Values | None = None,
    std: Values | None = None,
) -> list[Transform]:
    """Images from above, with 3 or any other number of bands: all eight orientations are equally likely.

    Seen from above there is no up: flips and quarter turns (the symmetries that Cohen and Welling use,
    arXiv:1602.07576). The scale is a property of the sensor, so crops keep at least half of the area. With 3 bands a
    little brightness and contrast, no hue: it tells crops from water. With other numbers of bands noise instead, since
    torchvision's colour transforms are for grey and RGB. The numbers are gpuaug's own choice.

    Args:
        size: Size of the result in pixels, an int or (height, width).
        bands: Number of channels of the images, 8 bits each.
        num_classes: Number of classes. None: no mixing.
        strength: In [0, 1]: scales magnitudes, chances and mixing; 0 is the evaluation list (docs/recipes.md).
        mean, std: Mean and standard deviation of each band, of values in [0, 1]. None: ImageNet's for 3 bands; for
            other numbers 0.5 and 0.25 for each band, in place of which those of the training images are better.
    """
    count = checks.integer("recipes", "bands", bands, 1)
    known = count == 3
    mean = mean if mean is not None else IMAGENET_MEAN if known else (0.5,) * count
    std = std if std is not None else IMAGENET_STD if known else (0.25,) * count
    turns = RandomChoice([RandomRotation((angle, angle)) for angle in (90, 180, 270)], p=[0.25, 0.25, 0.25])
    sensor = ColorJitter(0.2, 0.2) if count in (1, 3) else RandomApply([GaussianNoise(sigma=0.02)], 0.5)
    crop = RandomResizedCrop(size, scale=(0.5, 1.0), ratio=(0.9, 1.1))
    steps = [crop, RandomHorizontalFlip(), RandomVerticalFlip(), turns, sensor]
    return finished(steps, mean, std, strength, mixes=mixing(num_classes, p=(0.2, 0.2)))


def products(
    size: Size,
    *,
    num_classes: int | None = None,
    strength: float = 1.0,
    mean: Values = IMAGENET_MEAN,
    std: Values = IMAGENET_STD,
) -> list[Transform]:
    """Photographs of products, where the colour is often the class and the background is often white.

    Viewpoint, light and compression change from shop to shop and phone to phone; the colour of a shirt does not, so hue
    stays and saturation changes little. White outside of the image. Crops keep at least half of the area, and erasing
    (Zhong et al., arXiv:1708.04896) at most a tenth, so that the product stays visible; MixUp and CutMix seldom. The
    numbers are gpuaug's own choice.

    Args:
        size: Size of the result in pixels, an int or (height, width).
        num_classes: Number of classes. None: no mixing.
        strength: In [0, 1]: scales magnitudes, chances and mixing; 0 is the evaluation list (docs/recipes.md).
        mean, std: Mean and standard deviation of each channel, of values in [0, 1].
    """
    steps = [
        RandomResizedCrop(size, scale=(0.5, 1.0)),
        RandomHorizontalFlip(),
        ColorJitter(0.3, 0.3, 0.1),  # before what fills with white, so that white stays white
        RandomAffine(10, translate=(0.05, 0.05), scale=(0.9, 1.1), interpolation="bilinear", fill=PAPER),
        RandomPerspective(0.2, p=0.3, fill=PAPER),
        RandomApply([JPEG((50, 95))], 0.3),
    ]
    after = [RandomErasing(0.2, scale=(0.02, 0.1))]
    return finished(steps, mean, std, strength, after, mixing(num_classes, p=(0.2, 0.2)))


def digits(
    size: Size = 28,
    *,
    num_classes: int | None = None,
    strength: float = 1.0,
    mean: Values = MNIST_MEAN,
    std: Values = MNIST_STD,
) -> list[Transform]:
    """Handwritten digits, letters and signs: small affine changes only.

    Affine distortions as in Simard et al. (ICDAR 2003), without the elastic ones. No flips and no large turns: 6 and 9,
    b and d, left and right are different classes. No crop, which could cut off a stroke. Black outside of the image, as
    in MNIST. No mixing of digits by CutMix: half a 9 is a 1.

    Args:
        size: Size of the result in pixels, an int or (height, width); images of other sizes are resized to it.
        num_classes: Number of classes. None: no mixing.
        strength: In [0, 1]: scales magnitudes, chances and mixing; 0 is the evaluation list (docs/recipes.md).
        mean, std: Mean and standard deviation of each channel, of values in [0, 1]; by default MNIST's.
    """
    affine = RandomAffine(10, translate=(0.1, 0.1), scale=(0.9, 1.1), shear=5, interpolation="bilinear")
    steps = [Resize(checks.size("recipes", size)), affine, ColorJitter(0.2, 0.2)]
    return finished(steps, mean, std, strength, mixes=mixing(num_classes, p=(0.2, 0.0)))
