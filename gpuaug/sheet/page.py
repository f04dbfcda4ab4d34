"""The contact sheet as one HTML page: images inside it, a slider over strength, no network, light and dark."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

from gpuaug.sheet.marks import picture
from gpuaug.sheet.tiles import Tile
from gpuaug.sheet.words import OTHER, OWN

__all__ = ["Version", "to_html"]

SIDE, WIDE = 256, 384  # largest height and width of a picture, in pixels
ACROSS = 6  # most tiles beside one another
QUALITY = 85  # of the JPEGs


@dataclass(frozen=True)
class Version:
    """What is shown at one strength: its label, the list as code, and rows of tiles as `tiles` returns them."""

    label: str
    code: str
    rows: Sequence[Sequence[Tile]]


def to_html(title: str, draws: str, versions: Sequence[Version], at: int, names: Sequence[str]) -> str:
    """The HTML text of the page.

    Args:
        title: Heading of the page.
        draws: Which draws are shown, in words.
        versions: One, or one for each place of the slider, with the same images.
        at: Number of the version that is shown first.
        names: Name of each image.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("gpuaug.sheet", ""),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rows = []
    for number, name in enumerate(names):
        own = [version.rows[number] for version in versions]
        columns = range(1, len(own[0]))
        tiles = [[_shown(row[column], f"{name}, version {column}", names) for row in own] for column in columns]
        original = replace(own[0][0], words=own[0][0].words[-1:])  # its name is the heading
        rows.append({"name": name, "original": _shown(original, f"{name} as it is", names), "tiles": tiles})
    return environment.get_template("page.html.j2").render(
        title=title,
        draws=draws,
        versions=versions,
        at=at,
        rows=rows,
        across=min(ACROSS, len(versions[0].rows[0])),
        own=OWN,
        other=OTHER,
        marked=any(tile.share for version in versions for row in version.rows for tile in row),
    )


def _shown(tile: Tile, alt: str, names: Sequence[str]) -> dict[str, Any]:
    """What the template writes of a tile."""
    shown = picture(tile.image, tile.marks, SIDE, WIDE)
    data = BytesIO()
    shown.save(data, "JPEG", quality=QUALITY)
    share = None
    if tile.share is not None:
        words = f"{tile.share.own:.2f} of it, {1 - tile.share.own:.2f} of {names[tile.share.other]}"
        share = {"percent": f"{100 * tile.share.own:.1f}", "words": words}
    source = "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
    size = {"width": shown.width, "height": shown.height}
    return {"source": source, "alt": alt, "words": tile.words, "share": share, **size}
