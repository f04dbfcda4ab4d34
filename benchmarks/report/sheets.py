"""Draw each recipe on real photographs, as docs/recipes.md shows it: `python -m benchmarks.report.sheets [FOLDER]`."""

from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2 import functional

import gpuaug as ga
from gpuaug.demo.photographs import photographs
from gpuaug.demo.preview import fit, levels

__all__ = ["draw", "draw_all"]

FOLDER = Path(__file__).parents[2] / "docs" / "recipes"
TILE, GAP, HEADER = 150, 6, 22  # pixels
MOST = 150_000  # bytes of a picture
VIEWS = ["view 1", "view 2"] * 2
WORDS = {"simclr": VIEWS, "byol": VIEWS, "dino": ["global", "global", "local", "local"]}
SMALL = {"cifar": 32, "digits": 28}  # sides of images that are small already, enlarged in the picture


def draw(name: str, path: Path) -> None:
    """A row for each of three photographs: the original, evaluation, and four draws, or views, of the recipe."""
    images = photographs()[:3]
    side = SMALL.get(name, TILE)
    if name in SMALL:
        images = [functional.resize(functional.center_crop(image, [300, 300]), [side, side]) for image in images]
    found: Any = ga.recipes.NAMES[name](side, **({"local_size": side // 2} if name == "dino" else {}))
    lists = found if isinstance(found[0], list) else [found]
    chosen = [0, 1, 2, 3] if name == "dino" else [n % len(lists) for n in range(4)]
    batch = torch.stack(images) if name in SMALL else ga.Ragged.from_images(images)
    first = ga.Augment(lists[0], seed=0)
    columns = [images, list(levels(first.eval_pipeline, first.eval()(batch)))]
    for number, place in enumerate(chosen):
        augment = ga.Augment(lists[place], seed=number + 1)
        columns.append(list(levels(augment.train_pipeline, augment(batch))))
    heads = ["photograph", "evaluation", *WORDS.get(name, [f"draw {number}" for number in (1, 2, 3, 4)])]
    _write(columns, heads, path)


def _write(columns: list[list[Tensor]], heads: list[str], path: Path) -> None:
    height, width = HEADER + len(columns[0]) * (TILE + GAP), len(columns) * (TILE + GAP) - GAP
    sheet = Image.new("RGB", (width, height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, (column, head) in enumerate(zip(columns, heads, strict=True)):
        left = number * (TILE + GAP)
        pen.text((left, 2), head, fill="#59636e", font=font)
        for row, image in enumerate(column):
            tile = functional.to_pil_image(fit(image, TILE, TILE))
            sheet.paste(tile, (left, HEADER + row * (TILE + GAP)))
    for quality in (80, 70, 60):
        drawn = BytesIO()
        sheet.save(drawn, "jpeg", quality=quality, optimize=True)
        if drawn.tell() <= MOST:
            break
    path.write_bytes(drawn.getvalue())


def draw_all(folder: Path = FOLDER) -> list[Path]:
    """A picture of each recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.jpg" for name in ga.recipes.NAMES]
    for path in paths:
        draw(path.stem, path)
    return paths


if __name__ == "__main__":
    for written in draw_all(*map(Path, sys.argv[1:2])):
        print(f"{written.stat().st_size:7d} bytes  {written}")
