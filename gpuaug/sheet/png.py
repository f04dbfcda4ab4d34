"""The contact sheet as a picture 1200 pixels wide."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from gpuaug.sheet.marks import picture
from gpuaug.sheet.tiles import Tile
from gpuaug.sheet.words import FAINT, INK, OTHER, OWN, wrapped

__all__ = ["write"]

WIDTH, MARGIN, GAP, CAPTION, HEADER = 1200, 16, 10, 46, 46  # pixels
ORIGINAL = 1.5  # width of the first column, in tiles: a 3:2 photograph has the height of a tile
DPI = 100
LINES, LINE_HEIGHT = 3, 15  # lines for which CAPTION has room, and pixels of a further one
BAR = 5  # height of a mix's bar, in pixels
CHARACTER = 6.6  # width of a character of the title, in pixels
COLUMNS = 4  # for which a line of LINE characters fits under a tile
LINE = 34


def write(rows: Sequence[Sequence[Tile]], title: str, path: Path) -> Path:
    """Draw rows of tiles, of which the first is wider, at whole pixels, and save the picture."""
    from matplotlib.figure import Figure

    columns = len(rows[0]) - 1
    tile = int((WIDTH - 2 * MARGIN - GAP * columns) / (columns + ORIGINAL))
    wide = WIDTH - 2 * MARGIN - columns * (tile + GAP)
    line = LINE if columns <= COLUMNS else max(8, LINE * COLUMNS // columns)
    tops, height = _heights(rows, tile, line)
    figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, facecolor="white")

    def text(x: float, y: float, text: str, **style: Any) -> None:
        figure.text(x / WIDTH, 1 - y / height, text, va="top", **style)

    text(MARGIN, 16, "original", fontsize=9.5, color=FAINT)
    room = int((WIDTH - 2 * MARGIN - wide - GAP) / CHARACTER)
    short = title if len(title) <= room else title[: room - 1] + "…"
    text(MARGIN + wide + GAP, 16, short, fontsize=9.5, color=FAINT)
    sheet: list[tuple[int, int, Tile, Image.Image]] = []
    for row, top in zip(rows, tops, strict=True):
        for column, shown in enumerate(row):
            left = MARGIN if column == 0 else MARGIN + wide + GAP + (column - 1) * (tile + GAP)
            fitted = picture(shown.image, shown.marks, tile, wide if column == 0 else tile)
            sheet.append((left, top, shown, fitted))
            below = top + tile + 6 + (BAR + 3 if shown.share else 0)
            said, colour = wrapped(shown.words, line), INK if column else FAINT
            text(left, below, said, fontsize=7.8, color=colour, linespacing=1.35)
    drawn = BytesIO()
    figure.savefig(drawn, format="png")
    canvas = Image.open(drawn).convert("RGB")
    pen = ImageDraw.Draw(canvas)
    for left, top, shown, fitted in sheet:
        canvas.paste(fitted, (left, top))
        if shown.share:
            split, y = left + round(tile * shown.share.own), top + tile + 4
            pen.rectangle((left, y, left + tile - 1, y + BAR - 1), fill=OTHER)
            if split > left:
                pen.rectangle((left, y, split - 1, y + BAR - 1), fill=OWN)
    canvas.save(path, optimize=True, quality=90)
    return path


def _heights(rows: Sequence[Sequence[Tile]], tile: int, line: int) -> tuple[list[int], int]:
    """The top of each row, and the height of the picture."""
    tops, top = [], HEADER
    for row in rows:
        tops.append(top)
        lines = max(wrapped(shown.words, line).count("\n") + 1 for shown in row)
        more = max(0, lines - LINES) * LINE_HEIGHT + (BAR + 3 if any(shown.share for shown in row) else 0)
        top += tile + CAPTION + more
    return tops, top + MARGIN // 2
