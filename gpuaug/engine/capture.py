"""A CUDA graph of an Augment: the launches of a batch recorded once, and replayed with other pixels and draws.

A draw changes numbers in the parameter block, never what is launched, so replaying is exact. Sampling and lowering stay
on the host; each call sends one block, copies the batch to where the graph reads it, and replays.

The tests replay a fake graph, whose launches run in Triton's interpreter; see the README, "On a GPU".
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gpuaug import checks
from gpuaug.engine.render import choose, run
from gpuaug.program import Program
from gpuaug.ragged import Ragged

Augment = Any  # gpuaug.Augment, which imports this module

__all__ = ["Captured"]

WARM_UPS = 2  # calls before the capture: kernels compile and load, constants go up


class Captured:
    """What `Augment.capture` returns: augment(images, labels, index=...) for batches of one shape, as a graph.

    Its calls share memory: one stream and one thread at a time. Capture once for each.

    Whether the capture or a call is inside torch.inference_mode() makes no difference: what it gives are plain tensors.
    """

    def __init__(self, augment: Augment, images: Any, labels: Tensor | None) -> None:
        _check(augment, images, labels)
        self.augment, self.training = augment, augment.training
        items = self._items(images, augment._keys(len(images)))
        if not all(isinstance(item, Program) for item in items):
            remedy = "Leave out opaque steps and Grayscale(1), which run outside our kernels."
            name = "train" if self.training else "eval"
            raise checks.argument_error(
                augment, name, "of gpuaug's own pixel transforms to capture", "other steps", remedy
            )
        self.num_classes = augment._num_classes(self.training)
        # a tensor made in inference mode could not be written to by a call outside it
        with torch.inference_mode(False), torch.no_grad(), torch.cuda.device(images.device):
            self.images = images.clone()  # where the graph reads
            self.given = None if labels is None else labels.clone()
            self._record(items)

    def _record(self, items: list[Any]) -> None:
        """Warm up, then capture, both on a stream of our own: constants are sent once for each stream."""
        from gpuaug.kernels.triton import Job

        self.job = Job(items, self.images)
        current, stream = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._launch(items)
        current.wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        # what other threads do meanwhile, as a loader that pins memory, is no error
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            self.result, self.labels = self._launch(items)

    def _items(self, images: Tensor, keys: Any) -> list[Any]:
        augment = self.augment
        draw = augment._draw(images, keys, self.training)
        pipeline = augment._pipeline(self.training)
        if augment._cast:
            augment._tell_of_a_cast(pipeline)
        exact, memory_format = augment.exact, augment.memory_format
        return pipeline.lower(draw.params, draw.keys, draw.canvas, exact, memory_format, augment._dtype)

    def _launch(self, items: list[Any]) -> tuple[Tensor, Tensor | None]:
        return run(items, self.job, self.images, self.given, self.num_classes)

    @torch.no_grad()
    def __call__(self, images: Tensor, labels: Tensor | None = None, *, index: Tensor | None = None) -> Any:
        """Augment a batch of the captured shape.

        Args:
            images, labels, index: as `Augment.forward`, of the shapes, dtypes and device that were captured.

        Returns:
            As `Augment.forward`, in memory that the next call writes again: use it, or clone it, before that.

        Raises:
            ValueError: if the batch is not like the captured one, or the module changed from train to eval.
        """
        augment = self.augment
        mode = augment._mode()
        if mode.training != self.training:
            was, now = ("train", "eval") if self.training else ("eval", "train")
            raise checks.argument_error(augment, "mode", f"{was}, as captured", now, "Capture each mode by itself.")
        augment._check(images, labels, self.training)
        self._same("images", images, self.images)
        self._same("labels", labels, self.given)
        with augment._numbering.calling(images, index, mode) as keys:
            self.job.replace(self._items(images, keys))
            self.images.copy_(images, non_blocking=True)
            if self.given is not None and labels is not None:
                self.given.copy_(labels, non_blocking=True)
            self.graph.replay()
        return self.result if self.labels is None else (self.result, self.labels)

    def _same(self, name: str, got: Any, expected: Tensor | None) -> None:
        def kind(tensor: Any) -> Any:
            return (tensor.shape, tensor.dtype, tensor.device) if isinstance(tensor, Tensor) else type(tensor)

        if kind(got) != kind(expected):
            remedy = "Capture once more for other batches."
            raise checks.argument_error(
                self.augment, name, f"{_describe(expected)}, as captured", _describe(got), remedy
            )


def _describe(value: Any) -> str:
    if value is None:
        return "None"
    return checks.describe(value) + (f" on {value.device}" if isinstance(value, Tensor) else "")


def _check(augment: Augment, images: Any, labels: Any) -> None:
    """Raise if a graph cannot hold batches like this one; by metadata only."""
    if isinstance(images, Ragged):
        remedy = "A graph's sizes are fixed; crop ragged batches without capture."
        raise checks.argument_error(augment, "images", "uint8 (B, C, H, W) to capture", "Ragged", remedy)
    augment._check(images, labels, augment.training)
    if images.device.type != "cuda":
        remedy = 'Move them with images.to("cuda"); a graph is a CUDA graph.'
        raise checks.argument_error(augment, "images", "on a CUDA device to capture", f"on {images.device}", remedy)
    if choose(augment.backend, images.device) != "triton":
        remedy = 'Use backend="auto" or "triton", with Triton installed.'
        raise checks.argument_error(augment, "backend", '"triton" to capture', f"{augment.backend!r}", remedy)
    if labels is not None and (not isinstance(labels, Tensor) or labels.device != images.device):
        remedy = f"Move them with labels.to({str(images.device)!r})."
        expected = f"a Tensor on {images.device}, as the images, to capture"
        raise checks.argument_error(augment, "labels", expected, _describe(labels), remedy)
