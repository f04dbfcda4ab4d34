"""Steps that are functions of their own: the one that does nothing."""

from __future__ import annotations

from gpuaug.program import Instruction
from gpuaug.transforms.base import Canvas, Params, Pixel

__all__ = ["Identity"]


class Identity(Pixel):
    """Leave the images as they are, at any place in the list: for one side of a choice, say.

    The same as torchvision's Identity.
    """

    def check_order(self, argument: str, floats: bool) -> None:
        """It may stand on levels and on floats."""

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        return []
