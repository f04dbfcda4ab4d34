"""Steps that are a function of the batch: none, a user's, a matrix."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from gpuaug import checks
from gpuaug.program import Instruction
from gpuaug.transforms.base import Builder, Canvas, Kind, Params, Pixel, Transform
from gpuaug.transforms.opaque import seed_of, seeded

__all__ = ["Identity", "Lambda", "LinearTransformation"]

Array = NDArray[Any]


class Identity(Pixel):
    """Leave the images as they are, at any place in the list: for one side of a choice, say.

    The same as torchvision's Identity.
    """

    def check_order(self, argument: str, floats: bool) -> None:
        """It may stand on levels and on floats."""

    def instructions(self, params: Params, canvas: Canvas) -> list[Instruction]:
        return []


class Lambda(Transform, registered=False):
    """Run a function on the whole batch, at its place in the list.

    Before ToDtype the function gets uint8 (B, C, H, W), after it float32 (B, C, H, W), on the device of the batch; it
    may write to it. It returns a tensor of the same shape, uint8 or floats, which become the dtype of ToDtype.
    torchvision's Lambda gets one image instead, so `from_torchvision` does not convert it.

    What the function draws from torch's global generator is seeded as for `Opaque`. Among the steps on floats it is the
    last: Normalize, RandomErasing and mixes come before it.

    Args:
        lambd: Function of a batch, or an nn.Module, which then is part of `Augment`.
        types: Must be left out; torchvision chooses by it which of several inputs the function gets.
        moves: Whether it moves pixels, so that masks and boxes beside it raise an error.

    Raises:
        ValueError: If `lambd` is not callable, or `types` are given.
    """

    kind = Kind.OPAQUE
    draws = 2
    no_counterpart = "may have to run in evaluation, or may not"

    def __init__(self, lambd: Callable[[Tensor], Tensor], types: tuple[type, ...] = (), *, moves: bool = True) -> None:
        if not callable(lambd):
            raise checks.argument_error(self, "lambd", "a function of a batch", checks.describe(lambd))
        if types != ():
            expected = "left out, since the function gets the batch of images and nothing else"
            raise checks.argument_error(self, "types", expected, checks.describe(types))
        self.lambd, self.types, self.moves = lambd, types, bool(moves)

    @property
    def module(self) -> Callable[[Tensor], Tensor]:
        """The function, under the name that other opaque steps have for it."""
        return self.lambd

    def for_evaluation(self) -> None:
        return None

    def check(self, canvas: Canvas) -> None:
        canvas.size(self)

    def check_order(self, argument: str, floats: bool) -> None:
        """It may stand on levels and on floats."""

    def parameters(self, uniforms: Array, canvas: Canvas) -> Params:
        return {"seed": seed_of(uniforms)}

    def lower(self, params: Params, builder: Builder) -> None:
        seed = int(params["seed"][0])
        builder.call(partial(self.run, seed=seed, floats=builder.floats), builder.canvas)

    def describe(self, params: Params, sample: int) -> str:
        return _name(self.lambd)

    def run(self, canvas: Tensor, seed: int, floats: bool) -> Tensor:
        """The function's result for uint8 or float32 (B, C, H, W), which has that shape.

        Raises:
            ValueError: If its result has another shape, or is not uint8 or not floats.
        """
        with seeded(canvas.device, seed):
            result = self.lambd(canvas.clone())  # it may work in place, and the canvas may be the user's batch
        good = isinstance(result, Tensor) and result.shape == canvas.shape
        if not good or (not result.is_floating_point() if floats else result.dtype != torch.uint8):
            kind = "floats" if floats else "uint8"
            got = f"{checks.describe(result)} from {_name(self.lambd)}"
            remedy = "Put what makes something else behind Augment, as function(augment(images))."
            expected = f"a function that returns {kind} {tuple(canvas.shape)} here"
            raise checks.argument_error(self, "lambd", expected, got, remedy)
        return result

    def __repr__(self) -> str:
        return f"Lambda({_name(self.lambd)}{'' if self.moves else ', moves=False'})"


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


class LinearTransformation(Transform, registered=False):
    """Subtract a vector from each image, flattened, and multiply by a matrix, as whitening does.

    The same as torchvision's LinearTransformation, after ToDtype, in float32; the last bits of a product of matrices
    depend on the size of the batch. Among the steps on floats it is the last: Normalize, RandomErasing and mixes come
    before it.

    Args:
        transformation_matrix: (D, D) of floats, D = C * H * W; images (as rows) are multiplied by it from the right.
        mean_vector: (D,) of floats, on the scale of pixels at that place.

    Raises:
        ValueError: If an argument is not such a tensor.
    """

    kind = Kind.OPAQUE

    def __init__(self, transformation_matrix: Tensor, mean_vector: Tensor) -> None:
        for name, tensor, dims in (
            ("transformation_matrix", transformation_matrix, 2),
            ("mean_vector", mean_vector, 1),
        ):
            if not isinstance(tensor, Tensor) or tensor.ndim != dims or not tensor.is_floating_point():
                expected = "a tensor of floats " + ("(D, D)" if dims == 2 else "(D,)")
                raise checks.argument_error(self, name, expected, checks.describe(tensor))
        if transformation_matrix.shape[0] != transformation_matrix.shape[1]:
            got = checks.describe(transformation_matrix)
            raise checks.argument_error(self, "transformation_matrix", "square, (D, D)", got)
        if len(mean_vector) != len(transformation_matrix):
            expected = f"({len(transformation_matrix)},), as long as a side of the matrix"
            raise checks.argument_error(self, "mean_vector", expected, checks.describe(mean_vector))
        if mean_vector.dtype != transformation_matrix.dtype:
            expected = f"{transformation_matrix.dtype}, as the matrix is"
            raise checks.argument_error(self, "mean_vector", expected, checks.describe(mean_vector))
        self.transformation_matrix, self.mean_vector = transformation_matrix, mean_vector
        self._sent: dict[torch.device, tuple[Tensor, Tensor]] = {}  # float32 copies, by device

    def for_evaluation(self) -> tuple[Transform]:
        return (self,)

    def check(self, canvas: Canvas) -> None:
        """Check the size of the images.

        Raises:
            ValueError: If the images are of several sizes, or of another one than the matrix.
        """
        height, width = canvas.size(self)
        if canvas.channels * height * width != len(self.mean_vector):
            expected = f"as many as its matrix is wide, {len(self.mean_vector)}"
            got = f"{canvas.channels} * {height} * {width}"
            raise checks.argument_error(self, "channels * height * width", expected, got)

    def check_order(self, argument: str, floats: bool) -> None:
        """Check that it stands on floats.

        Raises:
            ValueError: If it stands on levels.
        """
        if not floats:
            remedy = "Put ToDtype(torch.float32) before it."
            expected, got = "with LinearTransformation on floats", "LinearTransformation on uint8"
            raise checks.argument_error("Augment", argument, expected, got, remedy)

    def lower(self, params: Params, builder: Builder) -> None:
        builder.call(self.run, builder.canvas)

    def describe(self, params: Params, sample: int) -> str:
        return ""

    def detail(self, params: Params, sample: int) -> str:
        return "the same for every image"

    def run(self, canvas: Tensor) -> Tensor:
        """float32 (B, C, H, W) -> the same, transformed."""
        device = canvas.device
        if device not in self._sent:
            given = self.transformation_matrix, self.mean_vector
            self._sent[device] = tuple(part.detach().to(device, torch.float32) for part in given)  # type: ignore[assignment]
        matrix, mean = self._sent[device]
        return torch.mm(canvas.flatten(1) - mean, matrix).view(canvas.shape)

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return False
        names = ("transformation_matrix", "mean_vector")
        return all(torch.equal(getattr(self, name), getattr(other, name)) for name in names)

    def __hash__(self) -> int:
        return hash(tuple(self.mean_vector.tolist()))

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_sent": {}}

    def __repr__(self) -> str:
        given = (self.transformation_matrix, self.mean_vector)
        return f"LinearTransformation({', '.join(map(checks.describe, given))})"
