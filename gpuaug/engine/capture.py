"""A CUDA graph of an Augment: the launches of a batch recorded once, and replayed with other pixels and draws.

A draw changes numbers in the parameter block, never what is launched, so replaying is exact. Sampling and lowering stay
on the host; each call sends one block, copies the batch to where the graph reads it, and replays.

The tests replay a fake graph, whose launches run in Triton's interpreter; see docs/gpu.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from gpuaug import checks
from gpuaug.engine.batch import frames_of
from gpuaug.engine.call import Call
from gpuaug.engine.render import choose, run
from gpuaug.program import Program
from gpuaug.ragged import Ragged

__all__ = ["Captured"]

WARM_UPS = 2  # calls before the capture: kernels are compiled and loaded, constants are copied to the device


class Module(Protocol):
    """The parts of `gpuaug.Augment` that a capture needs; it cannot be imported here, since it imports this module."""

    training: bool
    backend: str

    def prepare(self, images: Tensor, labels: Tensor | None = None, *, index: Tensor | None = None) -> Call: ...


class Captured:
    """The result of `Augment.capture`: augment(images, labels, index=...) for batches of one shape, as a graph.

    Its calls share memory, so only one stream and one thread may use it at a time. Capture once for each.

    It returns plain tensors, even if the capture or a call is inside torch.inference_mode().
    """

    def __init__(self, augment: Module, images: Tensor, labels: Tensor | None) -> None:
        call = _checked(augment, images, labels)
        self.augment, self.training = augment, call.training
        items = call.items()
        if not all(isinstance(item, Program) for item in items):
            remedy = "Leave out opaque steps, Grayscale(1) and RGB, which run outside our kernels."
            name = "train" if self.training else "eval"
            raise checks.argument_error(
                augment, name, "of gpuaug's own pixel transforms to capture", "other steps", remedy
            )
        self.num_classes = call.pipeline.num_classes
        # a tensor made in inference mode could not be written to by a call outside it
        with torch.inference_mode(False), torch.no_grad(), torch.cuda.device(images.device):
            self.images = images.clone()  # where the graph reads
            self.given = None if labels is None else labels.clone()
            self._record(items)

    def _record(self, items: list[Any]) -> None:
        """Warm up, then capture, both on a separate stream: constants are sent once for each stream."""
        from gpuaug.kernels.triton import Job

        self.job = Job(items, self.images)
        current, stream = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(current)
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._launch(items)
        current.wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        # work of other threads in the meantime, such as a loader that pins memory, is not an error
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            self.result, self.labels = self._launch(items)

    def _launch(self, items: list[Any]) -> tuple[Tensor, Tensor | None]:
        return run(items, self.job, self.images, self.given, self.num_classes)

    @torch.no_grad()
    def __call__(
        self, images: Tensor, labels: Tensor | None = None, *, index: Tensor | None = None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Augment a batch of the captured shape.

        Args:
            images, labels, index: As for `Augment.forward`, with the shapes, dtypes and device that were captured.

        Returns:
            As `Augment.forward`. The next call overwrites this memory: use the result, or clone it, before that.

        Raises:
            ValueError: If the batch is not like the captured one, or the module changed from train to eval, or its list
                was replaced by one with another number of classes.
            RuntimeError: If its list was replaced by one that launches other kernels.
        """
        augment = self.augment
        if augment.training != self.training:
            was, now = ("train", "eval") if self.training else ("eval", "train")
            raise checks.argument_error(augment, "mode", f"{was}, as captured", now, "Capture each mode by itself.")
        with augment.prepare(images, labels, index=index) as call:
            if call.pipeline.num_classes != self.num_classes:  # all else of another list is in its programs
                remedy, got = "Capture once more.", call.pipeline.num_classes
                raise checks.argument_error(augment, "num_classes", f"{self.num_classes}, as captured", got, remedy)
            self._same("images", images, self.images)
            self._same("labels", labels, self.given)
            self.job.replace(call.items())  # type: ignore[arg-type]  # programs, as in `__init__`
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


def _checked(augment: Module, images: Tensor, labels: Tensor | None) -> Call:
    """A call that uses up no draws; raises an error if such batches cannot be captured. Reads metadata only."""
    if isinstance(images, Ragged):
        remedy = "A graph's sizes are fixed; crop ragged batches without capture."
        raise checks.argument_error(augment, "images", "uint8 (B, C, H, W) to capture", "Ragged", remedy)
    if isinstance(images, Mapping):
        remedy = "Call the module itself; a graph has one source."
        raise checks.argument_error(augment, "images", "uint8 (B, C, H, W) to capture", "a mapping", remedy)
    if frames_of(images):
        remedy = "Pass the frames as a batch of images, or run clips without capture."
        raise checks.argument_error(augment, "images", "uint8 (B, C, H, W) to capture", "clips", remedy)
    call = augment.prepare(images, labels)
    call.release()
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
    return call
