"""`gpuaug preview`."""

# no `from __future__ import annotations`: typer reads the annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpuaug.cli.errors import one_line_errors, require

if TYPE_CHECKING:
    from torch import Tensor

    from gpuaug.augment import Augment
    from gpuaug.sheet.lists import Lists
    from gpuaug.sheet.tiles import Tile

__all__ = ["command"]

NEEDED = {"matplotlib": "matplotlib", "jinja2": "jinja2"}  # module: package
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)  # places of the page's slider, with that of --strength
SHOWN = 6  # images


def command(
    images: Annotated[list[Path], typer.Argument(metavar="FILES|FOLDER...", help="Images, or folders of images.")],
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME", help="Recipe of gpuaug.recipes; standard if there is no --list.")
    ] = None,
    list_: Annotated[
        str | None,
        typer.Option(
            "--list",
            metavar="FILE",
            help="FILE.py:NAME, an Augment, a list, or a function of strength and size; or a configuration, FILE.yaml.",
        ),
    ] = None,
    strength: Annotated[float, typer.Option(help="Strength of the recipe or function.")] = 1.0,
    size: Annotated[
        int, typer.Option(min=1, max=4096, metavar="N", help="Size of the images for the model, in pixels.")
    ] = 224,
    out: Annotated[Path, typer.Option(help="File of the picture, .png or .jpg.")] = Path("preview.png"),
    html: Annotated[Path | None, typer.Option(help="File of a page, with a slider if the list has a strength.")] = None,
    columns: Annotated[int, typer.Option(min=1, max=8, metavar="N", help="Versions of each image.")] = 4,
    count: Annotated[
        int, typer.Option("--images", min=1, max=64, metavar="N", help="Most images to show, evenly chosen.")
    ] = SHOWN,
    mix: Annotated[bool, typer.Option("--mix/--no-mix", help="Whether a recipe mixes, as with class labels.")] = True,
    view: Annotated[int | None, typer.Option(help="Which view to show, if there are several; from 1.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the draws; 0, or the one of the Augment.")] = None,
    epoch: Annotated[int, typer.Option(help="Epoch of the draws.")] = 0,
    masks: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Folder with a PNG of classes for each image.")
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="JSON: file name to a list of x1, y1, x2, y2 in pixels."),
    ] = None,
) -> None:
    """Show what a list does to your images: a picture, and a page with a slider over its strength."""
    require("demo", NEEDED)
    with one_line_errors():
        from gpuaug import checks
        from gpuaug.sheet.inputs import as_images
        from gpuaug.sheet.png import write

        for option, path in (("--out", out), ("--html", html)):
            if path is not None and (path.is_dir() or not path.resolve().parent.is_dir()):
                raise checks.argument_error("preview", option, "a file in a folder that exists", path)
        if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
            raise checks.argument_error("preview", "--out", "a file ending in .png or .jpg", out)
        lists = _lists(recipe, list_, size, mix and masks is None and boxes is None, view)
        if list_ is not None and not mix:
            remedy = "Leave the mix out of the list."
            raise checks.argument_error("preview", "--no-mix", "left out with --list", "it", remedy)
        if strength != 1 and not lists.has_strength:
            expected = f"left out, as {lists.name} has no argument `strength`"
            raise checks.argument_error("preview", "--strength", expected, f"{strength:g}")
        files = _files(images, count)
        pixels = as_images("preview", list(map(str, files)))
        targets = _targets(masks, boxes, files, pixels)
        places = sorted({*STRENGTHS, strength}) if html is not None and lists.has_strength else [strength]
        made = [lists.at(place, seed) for place in places]
        names = [file.name for file in files]
        rows = [_tiles(augment, pixels, columns, targets, epoch, names) for augment in made]
        at = places.index(strength)
        title = f"{lists.name}, strength {strength:g}" if lists.has_strength else lists.name
        write(rows[at], title, out)
        typer.echo(f"Wrote {out}: {title}, {_count(columns, 'version')} of {_count(len(files), 'image')}.")
        if html is not None:
            _page(html, lists, places, made, rows, at, names)


def _lists(recipe: str | None, target: str | None, size: int, mixes: bool, view: int | None) -> "Lists":
    from gpuaug import checks
    from gpuaug.cli.target import LIST, configured, is_configuration, named
    from gpuaug.sheet.lists import of_object, of_recipe

    if target is None:
        return of_recipe(recipe or "standard", size, mixes, view)
    if recipe is not None:
        raise checks.argument_error("preview", "--recipe", "left out with --list", repr(recipe))
    if is_configuration(target):
        return of_object(Path(target).name, configured(target, "--list", "preview"), size, view)
    found = named(target, "--list", "preview", LIST)
    return of_object(f"{Path(target.rpartition(':')[0]).name}:{target.rpartition(':')[2]}", found, size, view)


def _files(given: Sequence[Path], most: int) -> list[Path]:
    """The files, and those in folders; of more than `most` as many, at even distances."""
    from gpuaug import checks
    from gpuaug.sheet.inputs import images_in

    files: list[Path] = []
    for path in given:
        if not path.exists():
            raise checks.argument_error("preview", "FILES", "images or folders that exist", path)
        files += images_in("preview", "FOLDER", path) if path.is_dir() else [path]
    if len(files) <= most:
        return files
    return [files[number * len(files) // most] for number in range(most)]


def _targets(masks: Path | None, boxes: Path | None, files: list[Path], images: "list[Tensor]") -> Any:
    from gpuaug import checks
    from gpuaug.sheet.inputs import boxes_of, masks_of

    names = [file.stem if masks is not None else file.name for file in files]
    alike = sorted({name for name in names if names.count(name) > 1})
    if alike and (masks is not None or boxes is not None):  # which mask is whose, nobody could say
        argument = "--masks" if masks is not None else "--boxes"
        remedy = "Give the files of one folder."
        expected, got = "for images of different names", f"several of {alike[0]}"
        raise checks.argument_error("preview", argument, expected, got, remedy)
    found: list[dict[str, Any]] = [{} for _ in files]
    if masks is not None:
        found = [own | more for own, more in zip(found, masks_of("preview", masks, files, images), strict=True)]
    if boxes is not None:
        found = [own | more for own, more in zip(found, boxes_of("preview", boxes, files), strict=True)]
    return found if masks is not None or boxes is not None else None


def _tiles(
    augment: "Augment", images: "list[Tensor]", columns: int, targets: Any, epoch: int, names: list[str]
) -> "list[list[Tile]]":
    from gpuaug.sheet.tiles import tiles

    return tiles("preview", augment, images, columns, targets=targets, epoch=epoch, names=names)


def _page(
    path: Path,
    lists: "Lists",
    places: list[float],
    made: "list[Augment]",
    rows: "list[list[list[Tile]]]",
    at: int,
    names: list[str],
) -> None:
    from gpuaug.sheet.page import Version, to_html
    from gpuaug.sheet.words import code_of

    versions = [
        Version(f"{place:g}", code_of(augment.train_pipeline), own)
        for place, augment, own in zip(places, made, rows, strict=True)
    ]
    columns = len(rows[0][0]) - 1
    samples = f"the first {columns * len(names)} samples of seed {made[0].seed}"
    draws = f"{_count(columns, 'version')} of each image, with the draws of {samples}."
    path.write_text(to_html(lists.name, draws, versions, at, names), encoding="utf-8")
    slider = f", with a slider over {len(places)} strengths" if len(places) > 1 else ""
    typer.echo(f"Wrote {path}{slider}.")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
