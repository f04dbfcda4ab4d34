"""`gpuaug warmup`."""

# no `from __future__ import annotations`: typer reads the annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpuaug.cli.errors import one_line_errors, require

if TYPE_CHECKING:
    from gpuaug import Augment, MultiView

__all__ = ["NEEDED", "command"]

NEEDED = {"numba": "numba"}  # module: package
SIZE = (560, 520)  # of the images that the lists run on: a RandomCrop must fit


def command(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE.py:NAME|FILE.yaml",
            help="An Augment, MultiView, list of transforms, or configuration; default: all kernels.",
        ),
    ] = None,
) -> None:
    """Compile the kernels for the CPU now and keep them on disk, for example in a container image or on a cluster."""
    require("cpu", NEEDED)
    with one_line_errors():
        from gpuaug.kernels.numba.runtime.jit import kept

        modules = everything() if target is None else [_module(target)]
        begin, before = time.perf_counter(), kept()
        for module in modules:
            warm(module)
        seconds, after = time.perf_counter() - begin, kept()
        if not after.folders:
            remedy = "Set NUMBA_CACHE_DIR to one that can."
            raise ValueError(f"warmup: kernels must be kept in a folder, and none can be written. {remedy}")
        new = after.compiled - before.compiled
        typer.echo(f"{new} kernels compiled and {after.loaded - before.loaded} loaded in {seconds:.0f} s.")
        typer.echo("Kept in " + ", ".join(sorted(after.folders)))


def _module(target: str) -> "Augment | MultiView":
    """The module that FILE.py:NAME names, or that of a configuration."""
    from gpuaug import Augment, MultiView
    from gpuaug.cli.target import listed

    found = listed(target, "target", "warmup")
    return found if isinstance(found, (Augment, MultiView)) else Augment(found, seed=0)


def warm(augment: "Augment | MultiView") -> None:
    """Run both lists of a module once, on a few images of noise; the module's state stays as it was.

    A module whose lists hold opaque steps or crops of several sizes runs as it does in training.
    """
    import copy

    import torch

    twin = copy.deepcopy(augment)
    twin.backend = "numba"
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, *SIZE), dtype=torch.uint8, generator=generator)
    for training in (True, False):
        views: Any = getattr(twin, "views", [twin])  # of a MultiView
        lists = [view.train_pipeline if training else view.eval_pipeline for view in views]
        mix = next((one.mix for one in lists if one.mix is not None), None)
        labels: Any = None if mix is None else torch.arange(4) % (mix.num_classes or 4)
        if any(step.sees_boxes for one in lists for step in one.steps):  # which draw by the boxes
            labels = [{"boxes": torch.tensor([[100.0, 90, 400, 300]]), "labels": torch.zeros(1)} for _ in range(4)]
        twin.train(training)
        twin(images) if labels is None else twin(images, labels)


def everything() -> "list[Augment]":
    """Modules that need every kernel between them, but for what draws on the host of a GPU: that is compiled there."""
    import torch

    import gpuaug as ga

    normalize = ga.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    pixels: list[Any] = [
        ga.RandAugment(), ga.AugMix(), ga.ColorJitter(0.4, 0.4, 0.4, 0.1), ga.RandomGrayscale(), ga.GaussianBlur(5),
        ga.RandomPerspective(p=1.0), ga.RandomAffine(10, interpolation="bilinear"),
        ga.RandomRotation(9, interpolation="bicubic"), ga.RandomAffine(9),
        ga.MotionBlur(5, 9.0, (-1.0, 1.0)), ga.RandomEqualize(), ga.RandomAutocontrast(),
        ga.GaussianNoise(), ga.JPEG(50),
        *(ga.ElasticTransform(9, 1, name) for name in ("nearest", "bilinear", "bicubic")),
    ]  # fmt: skip
    crop = ga.RandomResizedCrop(32)
    lists: list[list[Any]] = [[ga.RandomHorizontalFlip(), ga.RandomInvert()], [crop, *pixels]]
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        floats = [ga.ToDtype(dtype, scale=True), normalize]
        mixes = [ga.MixUp(num_classes=4), ga.CutMix(num_classes=4)]
        lists += [[crop, *floats], [crop, *floats, ga.RandomErasing(1.0, value="random"), ga.RandomChoice(mixes)]]
    return [ga.Augment(steps, seed=0) for steps in lists]
