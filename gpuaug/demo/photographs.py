"""Six freely licensed photographs for the demo, the preview and the tests; see assets/ATTRIBUTION.md."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from gpuaug.data.decode import decode_file

__all__ = ["paths", "photographs"]

ASSETS = Path(__file__).parent / "assets"


def paths() -> list[Path]:
    """The JPEG files, by name."""
    return sorted(ASSETS.glob("*.jpg"))


def photographs() -> list[Tensor]:
    """The photographs, decoded: uint8 (3, H, W) each, of four different sizes between 300 and 576 pixels."""
    return [decode_file(path) for path in paths()]
