"""Six freely licensed photographs for the demo, the preview and the tests; see assets/ATTRIBUTION.md."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

__all__ = ["decode", "paths", "photographs"]

ASSETS = Path(__file__).parent / "assets"


def paths() -> list[Path]:
    """The JPEG files, by name."""
    return sorted(ASSETS.glob("*.jpg"))


def decode(path: str | Path) -> Tensor:
    """An image file as uint8 (3, H, W), grey ones too."""
    with Image.open(path) as image:
        decoded: Tensor = functional.pil_to_tensor(image.convert("RGB"))
    return decoded


def photographs() -> list[Tensor]:
    """The photographs, decoded: uint8 (3, H, W) each, of four different sizes between 300 and 576 pixels."""
    return [decode(path) for path in paths()]
