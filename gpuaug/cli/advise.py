"""`gpuaug advise`."""

# no `from __future__ import annotations`: typer reads the annotations

from pathlib import Path
from typing import Annotated

import typer

from gpuaug.cli.errors import FAILED, one_line_errors

__all__ = ["command"]


def command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="FILE.py:NAME|FILE.yaml",
            help="An Augment or a list of transforms; or a configuration, also .json.",
        ),
    ],
    weights: Annotated[
        str | None, typer.Option(help="Weights of torchvision, such as ResNet50_Weights.DEFAULT.")
    ] = None,
    domain: Annotated[
        str | None, typer.Option(help="natural, documents, medical, satellite, products, digits, letters or signs.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Names of the classes with commas, or a folder with a folder for each.")
    ] = None,
    loader: Annotated[str | None, typer.Option(metavar="FILE.py:NAME", help="The loader that trains.")] = None,
    label_smoothing: Annotated[float, typer.Option(help="Label smoothing of the loss.")] = 0.0,
    strict: Annotated[bool, typer.Option("--strict", help=f"Exit with status {FAILED} if anything is found.")] = False,
) -> None:
    """Say what in a list is likely to cost accuracy or time, a sentence each; nothing is trained."""
    with one_line_errors():
        import gpuaug as ga
        from gpuaug.cli.target import listed, made

        found = ga.advise(
            listed(target, "target", "advise"),
            weights=_weights(weights),
            domain=domain,
            classes=_classes(classes),
            loader=None if loader is None else made(loader, "--loader", "advise"),
            label_smoothing=label_smoothing,
        )
        typer.echo(str(found))
        if strict and found:
            raise typer.Exit(FAILED)


def _weights(name: str | None) -> object:
    """Weights of torchvision by name."""
    from torchvision.models import get_weight

    try:
        return None if name is None else get_weight(name)
    except (ValueError, KeyError, AttributeError):
        expected = "`--weights` must be weights of torchvision, such as ResNet50_Weights.DEFAULT"
        raise ValueError(f"advise: {expected}, got {name!r}.") from None


def _classes(text: str | None) -> list[str] | None:
    """Names with commas between them, or those of the folders in a folder."""
    if text is None:
        return None
    if Path(text).is_dir():
        return sorted(entry.name for entry in Path(text).iterdir() if entry.is_dir())
    return [name.strip() for name in text.split(",") if name.strip()]
