"""Pictures of what a list does: a figure for notebooks, a contact sheet, a page with a slider. See docs/preview.md."""

from __future__ import annotations

from gpuaug.sheet.figure import show

__all__ = ["show"]


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
