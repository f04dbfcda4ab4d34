"""The evaluation list as plain torch operations, for torch.export, torch.jit.trace, ONNX and torch.compile."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gpuaug import checks, compat
from gpuaug.engine.builder import Item
from gpuaug.engine.call import Output
from gpuaug.engine.pipeline import Pipeline
from gpuaug.instructions import LUMA
from gpuaug.kernels.resample import positions, taps
from gpuaug.program import Keys, Op, Program, Window
from gpuaug.transforms.base import Canvas, Kind, Transform
from gpuaug.transforms.color import RGB, Grayscale
from gpuaug.transforms.convert import AUTO, Convert, Normalize, ToDtype, followed, kept
from gpuaug.transforms.crop import CenterCrop, Pad, Resize
from gpuaug.transforms.function import Identity

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["EvalModule"]

Array = NDArray[Any]

EXPORTED = (Resize, CenterCrop, Pad, Grayscale, RGB, ToDtype, Normalize, Identity)


class EvalModule(nn.Module):
    """The result of `Augment.eval_module`: the evaluation list for images of one size, in plain torch operations.

    It has no parameters and no state. Tensors that depend on the size are buffers, which move with the module, stay
    float32 when it is cast, and are not part of its state_dict. Resizing multiplies by a matrix of weights in float32,
    so a level may differ by one where the sum is within a ten-thousandth of a rounding edge; everything else has the
    bits of `Augment`.

    Args:
        steps: Steps of the evaluation list: Resize, CenterCrop, Pad, Grayscale, RGB, ToDtype, Normalize, Identity.
        items: The same steps, lowered for one image.
        channels, size: Number of channels and (height, width) in pixels of the images.
        dtype, memory_format: Dtype and memory format of the result.
        follows: Whether the dtype follows casts of the module, as ToDtype("auto") requires.
    """

    @classmethod
    def of(cls, pipeline: Pipeline, keys: Keys, canvas: Canvas, output: Output) -> EvalModule:
        """The module of a list for images like those of `canvas`, of one size."""
        items = pipeline.lower(pipeline.sample(keys, canvas), keys, canvas, output.exact, output.memory_format)
        follows, dtype = (True, output.dtype) if isinstance(pipeline.dtype, str) else (False, pipeline.dtype)
        steps = [step for step in pipeline.steps if step.kind is not Kind.TARGET]
        return cls(steps, items, canvas.channels, canvas.size("Augment"), dtype, output.memory_format, follows)

    def __init__(
        self,
        steps: Sequence[Transform],
        items: Sequence[Item],
        channels: int,
        size: tuple[int, int],
        dtype: torch.dtype,
        memory_format: torch.memory_format,
        follows: bool = False,
    ) -> None:
        super().__init__()
        wrong = next((step for step in steps if not isinstance(step, EXPORTED)), None)
        if wrong is not None:
            expected = "a list of " + ", ".join(kind.__name__ for kind in EXPORTED)
            raise checks.argument_error(
                "Augment.eval_module", "eval", expected, repr(wrong), "Pass such a list to Augment as `eval`."
            )
        self.shape = (channels, *size)
        self.dtype, self.memory_format, self.follows = dtype, memory_format, follows
        self.passes = nn.Sequential()
        for item in items:
            self.passes.extend(_passes(item, channels, size))
            if not isinstance(item, Program):
                channels = _count(item)
            elif item.window is not None:
                size = int(item.window.size[0]), int(item.window.size[1])
        self.converts = nn.Sequential(*(_convert(step, channels) for step in steps if isinstance(step, Convert)))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the buffers; the dtype of the result follows a cast if `follows` is set."""
        after = followed(self, self.dtype, fn, [AUTO] if self.follows else [])
        if self.follows:
            self.dtype = after
        elif after != self.dtype and self.dtype != torch.uint8:
            warnings.warn(kept("Augment.eval_module", self.dtype, after), stacklevel=2)
        super()._apply(lambda tensor: _moved(tensor, fn(tensor)), recurse)  # type: ignore[no-untyped-call]
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Prepare a batch for the model.

        Args:
            images: (B, C, H, W) of the size this module was made for: uint8, or floats that hold levels from 0 to 255.

        Returns:
            (B, C, h, w) as `Augment` returns it in evaluation.
        """
        if not compat.is_tracing() and (images.ndim != 4 or tuple(images.shape[1:]) != self.shape):
            expected = f"(B, {', '.join(map(str, self.shape))}), for which this module was made"
            raise checks.argument_error(
                "Augment.eval_module", "images", expected, checks.describe(images), "Make one for this size."
            )
        values: Tensor = self.converts(self.passes(images.to(torch.float32)))
        return values.to(self.dtype).contiguous(memory_format=self.memory_format)


def _moved(before: Tensor, after: Tensor) -> Tensor:
    """`before` on the device of `after`, in its own dtype."""
    return after if after.dtype == before.dtype else before.to(after.device)


def _passes(item: Item, channels: int, size: tuple[int, int]) -> list[nn.Module]:
    """The passes of one item: its window, then grey."""
    if not isinstance(item, Program):
        return [_Channels(_count(item))]
    found: list[nn.Module] = []
    if item.window is not None and not item.window.shows_all(size):
        found.append(_Read(item.window, channels, size))
    found += [_Grey() for instruction in item.instructions if Op.GRAYSCALE in instruction.possible]
    return found


def _count(item: Any) -> int:
    """How many channels a grey canvas has after an item that the pipeline puts between programs."""
    return int(item.keywords["count"])


class _Channels(nn.Module):
    """A grey canvas with fewer or more channels."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, levels: Tensor) -> Tensor:
        return levels[:, :1].expand(-1, self.count, -1, -1)


class _Grey(nn.Module):
    """(B, 3, H, W) levels to their grey, in every channel."""

    def forward(self, levels: Tensor) -> Tensor:
        red, green, blue = levels[:, 0:1], levels[:, 1:2], levels[:, 2:3]
        grey = torch.add(red * LUMA[0], green, alpha=LUMA[1]).add(blue, alpha=LUMA[2])
        return grey.floor().expand(-1, 3, -1, -1)


class _Read(nn.Module):
    """One read of the source: resample a box, take a window of it, pad. Along x, then along y, as the kernels do."""

    matrix_x: Tensor
    matrix_y: Tensor
    index_x: Tensor
    index_y: Tensor
    inside: Tensor
    fill: Tensor

    def __init__(self, window: Window, channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        small = window.resized.sum(axis=1) <= 128
        inside: list[Array] = []
        for axis, name in ((1, "x"), (0, "y")):
            flip = window.flip[:, 1 - axis]
            resized, box = window.resized[:, axis], window.box[:, 2 + axis].astype(np.int64)
            wanted, visible = positions(window.start[:, axis], window.size[axis], flip, resized, window.padding_mode)
            first, weights, precision = taps(box, resized, wanted, window.interpolation, window.antialias, small)
            source = int(window.box[0, axis]) + np.minimum(first[0, :, None] + np.arange(weights.shape[2]), box - 1)
            inside.append(visible[0])
            if weights.shape[2] == 1:  # picks
                self._keep(f"index_{name}", source[:, 0])
            else:
                matrix = np.zeros((len(source), size[axis]))
                np.add.at(matrix, (np.arange(len(source))[:, None], source), weights[0] / 2.0 ** int(precision[0]))
                self._keep(f"matrix_{name}", matrix.astype(np.float32))
        mask = inside[1][:, None] & inside[0]
        if not mask.all():
            self._keep("inside", mask)
            fill = np.zeros(channels, np.float32) if window.fill is None else window.fill.astype(np.float32)
            self._keep("fill", fill[:, None, None])

    def _keep(self, name: str, values: Array) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)), persistent=False)

    def forward(self, levels: Tensor) -> Tensor:
        if hasattr(self, "matrix_x"):
            levels = _rounded(torch.matmul(levels, self.matrix_x.t()))
        else:
            levels = levels.index_select(3, self.index_x)
        if hasattr(self, "matrix_y"):
            levels = _rounded(torch.matmul(self.matrix_y, levels))
        else:
            levels = levels.index_select(2, self.index_y)
        return torch.where(self.inside, levels, self.fill) if hasattr(self, "inside") else levels


def _rounded(sums: Tensor) -> Tensor:
    """Round to levels, halves up, as the kernels round integers."""
    return (sums + 0.5).floor().clamp(0.0, 255.0)


def _convert(step: Any, channels: int) -> nn.Module:
    return _Normalize(step, channels) if isinstance(step, Normalize) else _Scale(step)


class _Scale(nn.Module):
    """ToDtype: divides by 255 by multiplying, as torchvision does."""

    def __init__(self, step: ToDtype) -> None:
        super().__init__()
        self.factor = 1.0 / 255.0 if step.scale and step.makes_floats else 1.0

    def forward(self, values: Tensor) -> Tensor:
        return values * self.factor


class _Normalize(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, step: Normalize, channels: int) -> None:
        super().__init__()
        for name, values in (("mean", step.mean), ("std", step.std)):
            given = torch.tensor(list(values), dtype=torch.float32, device="cpu").expand(channels)
            self.register_buffer(name, given.reshape(channels, 1, 1).contiguous(), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.std
