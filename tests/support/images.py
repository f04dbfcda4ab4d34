"""Images to test on: photographs, noise, flat areas; any size and number of channels."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

import gpuaug
from gpuaug.demo import photographs

__all__ = ["KINDS", "LAYOUTS", "batch", "ragged"]

KINDS = ("photo", "noise")

Size = tuple[int, int]


@lru_cache(maxsize=1)
def originals() -> list[Tensor]:
    """The photographs that come with the package, or a drawing where there are none: uint8 (3, H, W)."""
    paths = sorted((Path(gpuaug.__file__).parent / "demo" / "assets").glob("*.jpg"))
    return [functional.pil_to_tensor(Image.open(path).convert("RGB")) for path in paths] or [drawing()]


def drawing() -> Tensor:
    """Slopes, edges, a flat area and saturated colours: uint8 (3, 200, 300)."""
    y, x = torch.meshgrid(torch.arange(200), torch.arange(300), indexing="ij")
    image = torch.stack([x % 256, (x + y) % 256, (y * 255) // 199])
    disc = (x - 90) ** 2 + (y - 80) ** 2 < 60**2
    image = torch.where(disc, torch.tensor([250, 20, 40])[:, None, None], image)
    image[:, 120:180, 200:280] = torch.tensor([0, 128, 255])[:, None, None]
    return image.to(torch.uint8)


@lru_cache(maxsize=256)
def photograph(number: int, channels: int, size: Size) -> Tensor:
    """Photograph `number`, squeezed into `size`; more than three channels repeat it turned by half a circle."""
    photos = originals()
    photo = functional.resize(photos[number % len(photos)], list(size), antialias=True)
    if channels == 1:
        return functional.rgb_to_grayscale(photo)
    return torch.cat([photo, photo.flip(1, 2), photo.flip(2)])[:channels]


def noise(number: int, channels: int, size: Size) -> Tensor:
    """Uniform levels; every third image has few levels, every fifth is flat."""
    generator = torch.Generator().manual_seed(1000 * number + 10 * channels + size[0])
    image = torch.randint(256, (channels, *size), generator=generator)
    if number % 5 == 4:
        image = image[:, :1, :1].expand(channels, *size)
    elif number % 3 == 2:
        image = image // 64 * 23 + 90
    return image.to(torch.uint8).contiguous()


def image(kind: str, number: int, channels: int, size: Size) -> Tensor:
    return photograph(number, channels, size) if kind == "photo" else noise(number, channels, size)


def batch(kind: str, count: int, channels: int, size: Size) -> Tensor:
    """uint8 (count, channels, *size)."""
    return torch.stack([image(kind, number, channels, size) for number in range(count)])


def ragged(kind: str, channels: int, sizes: list[Size]) -> gpuaug.Ragged:
    """One image of each size."""
    return gpuaug.Ragged.from_images([image(kind, number, channels, size) for number, size in enumerate(sizes)])


# the same images, lying differently in memory; "expanded" repeats the first
LAYOUTS = {
    "channels_last": lambda images: images.contiguous(memory_format=torch.channels_last),
    "slice": lambda images: torch.nn.functional.pad(images, (3, 2, 1, 4))[:, :, 1:-4, 3:-2],
    "every other row": lambda images: images.repeat_interleave(2, 2)[:, :, ::2],
    "transposed": lambda images: images.transpose(2, 3).contiguous().transpose(2, 3),
    "expanded": lambda images: images[:1].expand(len(images), -1, -1, -1),
}


def small_cifar(root: Path) -> Path:
    """Photographs cut to 32x32, in CIFAR-10's layout."""
    for split in ("train", "test"):
        for number, path in enumerate(photographs.paths()[:3]):
            folder = root / split / f"class{number}"
            folder.mkdir(parents=True)
            with Image.open(path) as photo:
                for part in range(4):
                    photo.crop((60 * part, 80, 60 * part + 160, 240)).resize((32, 32)).save(folder / f"{part}.png")
    return root
