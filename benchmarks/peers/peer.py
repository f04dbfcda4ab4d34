"""What a contestant must be able to do."""

from __future__ import annotations

import abc
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

__all__ = ["Batches", "Peer", "PeerError", "check_fixed", "exhaust", "levels", "words"]


class PeerError(Exception):
    """A contestant cannot take part, or has no such op; the text says why."""


class Peer(abc.ABC):
    """A library in the contest, with `threads` threads on `device`.

    Attributes:
        alone: takes one image at a time, as a loader's worker does. Such a contestant is given processes, one for each
            thread, and how they pass on what they made is not timed.
        uniform: takes images of one size only. The resize to 256 x 256 that it needs first is not timed.
        work: what differs in the work, for people.
        less: does less than the others, so that its time is not comparable.
    """

    alone = False
    uniform = False
    work = ""
    less = False

    def __init__(self, name: str, threads: int, device: str) -> None:
        self.name, self.threads, self.device = name, threads, device

    def differs(self, case: str) -> tuple[str, bool]:
        """`work` and `less` for one case."""
        return self.work, self.less

    @abc.abstractmethod
    def prepare(self, images: list[Tensor], batch: int) -> Any:
        """The images as this library takes them; not timed."""

    @abc.abstractmethod
    def op(self, case: str, fixed: bool) -> Any:
        """An op of cases.OPS as a callable, with random parameters or with the fixed ones of the parity check.

        Raises:
            PeerError: if there is none, or `fixed` is asked for and it cannot be fixed.
        """

    @abc.abstractmethod
    def recipe(self, case: str) -> Any:
        """A recipe of cases.RECIPES, or cases.PARITY, as a callable; raises PeerError."""

    @abc.abstractmethod
    def run(self, transform: Any, prepared: Any) -> Iterator[Any]:
        """What is timed: a result for each image or batch, which the caller lets go before it takes the next one."""

    @abc.abstractmethod
    def tensors(self, results: Iterable[Any]) -> list[Tensor]:
        """What `run` gave, as (C, H, W) for each image: uint8, or floats as they are."""


class Batches(Peer):
    """A library that takes batches of one size as tensors on the device."""

    uniform = True

    def prepare(self, images: list[Tensor], batch: int) -> Any:
        parts = [images[start : start + batch] for start in range(0, len(images), batch)]
        return [torch.stack(part).to(self.device) for part in parts]

    def run(self, transform: Any, prepared: Any) -> Iterator[Any]:
        return (transform(batch) for batch in prepared)

    def tensors(self, results: Iterable[Any]) -> list[Tensor]:
        return [image.cpu() for batch in results for image in batch]


def words(error: Exception) -> str:
    """Why somebody is missing, in one line: a PeerError says it by itself."""
    text = " ".join(str(error).split())
    return text if isinstance(error, PeerError) else f"{type(error).__name__}: {text}"


def check_fixed(case: str, fixed: bool, table: Any) -> None:
    """Raise if fixed parameters are asked for and `table` has none."""
    if fixed and case not in table:
        raise PeerError(f"the parameters of {case} cannot be fixed")


def levels(image: Tensor) -> Tensor:
    """Of an op's result: floats between 0 and 1 become levels between 0 and 255."""
    return image.float() if image.dtype == torch.uint8 else image.float() * 255


def exhaust(results: Iterator[Any], batch: int = 1) -> None:
    """Take every result, and let it go when the next one is there, as a training loop does.

    Of single images so many are kept as are in a batch: a batch needs all of its images at the same time.
    """
    kept: deque[Any] = deque(itertools.islice(results, 1))
    single = any(isinstance(one, Image) or getattr(one, "ndim", 0) == 3 for one in kept)
    kept = deque(kept, maxlen=batch if single else 1)
    kept.extend(results)
