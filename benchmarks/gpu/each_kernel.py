"""Every Triton kernel once or a few times, on tiny images: python -m benchmarks.gpu.each_kernel

What comes from the host is copied, not made on the device, so that hardly a kernel of torch runs beside ours. The
results must be the twin's bits.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from ..locations import PACKAGE
from .results import device

__all__ = ["lists", "main", "run_each"]

COUNT, HEIGHT, WIDTH, SIZE, CLASSES = 3, 30, 26, 20, 4


def lists() -> dict[str, tuple[list[Any], bool, bool]]:
    """Steps, whether labels are mixed, and whether the images have sizes of their own."""
    import gpuaug as ga

    crop = [ga.RandomResizedCrop(SIZE), ga.RandomHorizontalFlip()]
    tail = [ga.ToDtype(torch.bfloat16, scale=True), ga.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    noise = ga.RandomErasing(0.7, value="random")
    filters = [ga.GaussianBlur(5, (0.1, 2.0)), ga.JPEG((20, 90))]
    tones = [ga.RandomEqualize(0.9), ga.RandomAutocontrast(0.9), ga.ColorJitter(0.4, 0.4, 0.4, 0.1)]
    warps = [ga.RandomPerspective(0.4, 0.9), ga.RandomAffine(9, interpolation="bicubic")]
    return {
        "RandAugment, MixUp": ([*crop, ga.RandAugment(2, 9), *tail, ga.MixUp(num_classes=CLASSES)], True, False),
        "tones, erasing, CutMix": ([*tones, *tail, noise, ga.CutMix(num_classes=CLASSES)], True, False),
        "blur, JPEG": ([*filters, *tail], False, False),
        "warps, sharpness, noise": ([*warps, ga.RandomAdjustSharpness(2.0), ga.GaussianNoise(), *tail], False, False),
        "elastic": ([ga.ElasticTransform(9.0, 1.5), *crop, *tail], False, False),
        "AugMix of images of their own sizes": ([*crop, ga.AugMix(), *tail], False, True),
    }


def run_each(where: str = "cuda", only: Sequence[str] = ()) -> list[str]:
    """Run every list once and compare; the names of the lists whose bits are not the twin's."""
    wrong = []
    for name, (steps, labelled, ragged) in lists().items():
        if not only or name in only:
            images, labels = _batch(labelled, ragged)
            one = _call(steps, "triton", _to(images, where), [label.to(where) for label in labels])
            other = _call(steps, "torch", images, labels)
            same = all(a.shape == b.shape and torch.equal(_bits(a), _bits(b)) for a, b in zip(one, other, strict=True))
            wrong += [] if same else [name]
    return wrong


def _call(steps: list[Any], backend: str, images: Any, labels: list[torch.Tensor]) -> list[torch.Tensor]:
    import gpuaug as ga

    augment = ga.Augment(steps, seed=7, backend=backend)
    result = augment(images, *labels, index=torch.arange(len(images)) * 11)
    return [tensor.cpu() for tensor in ([result] if isinstance(result, torch.Tensor) else result)]


def _batch(labelled: bool, ragged: bool) -> tuple[Any, list[torch.Tensor]]:
    import gpuaug as ga

    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (COUNT, 3, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator)
    labels = [torch.arange(COUNT) % CLASSES] if labelled else []
    if not ragged:
        return images, labels
    return ga.Ragged.from_images([image[:, number:, 2 * number :] for number, image in enumerate(images)]), labels


def _to(images: Any, where: str) -> Any:
    import gpuaug as ga

    if isinstance(images, ga.Ragged):
        return ga.Ragged(images.data.to(where), images.sizes, images.channels)
    return images.to(where)


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    kinds = {2: torch.int16, 4: torch.int32}
    return tensor.view(kinds[tensor.element_size()]) if tensor.is_floating_point() else tensor


def main(given: Sequence[str] | None = None) -> int:
    """Say which kernels were launched how often; 1 if one was not, or if bits are wrong."""
    parser = argparse.ArgumentParser(prog=f"python -m {PACKAGE}.gpu.each_kernel")
    parser.add_argument("--dry", action="store_true", help="on pretend CUDA")
    options = parser.parse_args(given)
    from .launches import kernels, listening

    with device(options.dry), listening() as seen:
        wrong = run_each()
        missing = kernels() - set(seen)
    print("launched: " + ", ".join(f"{name} {count}" for name, count in sorted(Counter(seen).items())))
    for name in wrong:
        print(f"other bits than the twin: {name}")
    for name in sorted(missing):
        print(f"never launched: {name}")
    return 1 if wrong or missing else 0


if __name__ == "__main__":
    sys.exit(main())
