"""The parts of an Augment that are not about pixels: seed, epoch, state and copies, and the dtype that it follows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gpuaug import checks
from gpuaug.engine.counter import SampleNumbers
from gpuaug.engine.numbering import Mode, Numbering
from gpuaug.engine.pipeline import Pipeline
from gpuaug.engine.state import MISSING
from gpuaug.transforms.convert import followed, kept

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["NumberedModule"]

HIGHEST_SEED = 2**64 - 1


class NumberedModule(nn.Module):
    """The part of `Augment` that records which draws are used up (see docs/draws.md), and follows casts."""

    memory_format: torch.memory_format
    train_pipeline: Pipeline
    eval_pipeline: Pipeline

    def __init__(self, seed: int | None) -> None:
        super().__init__()
        self._numbering = Numbering(None if seed is None else checks.integer(self, "seed", seed, 0, HIGHEST_SEED))

    def begin_pass(self, train: bool, shared: bool | None = None) -> Mode:
        """Begin a pass over a data set, as DeviceLoader does; `prepare` takes what it returns as `mode`.

        In training a pass is an epoch: the one set by `set_epoch`, or else the next one.

        Args:
            train: True for the training list, False for the evaluation list.
            shared: Whether an image's draw is the same on every rank and in every worker process. None: true if
                `set_epoch` was called.
        """
        return self._numbering.begin(shared) if train else self._numbering.mode(training=False)

    def pass_key(self, mode: Mode) -> int:
        """The key, 64 bits, of all draws of a pass whose batches have an index: what `PartFinder.follow` takes."""
        return self._numbering.pass_key(mode)

    def end_pass(self, mode: Mode) -> None:
        """End the pass that `begin_pass` began."""
        if mode.training:
            self._numbering.epochs.end(mode.version)

    @property
    def seed(self) -> int:
        """Seed of all draws; if none was given, the one that was drawn."""
        return self._numbering.seed

    @seed.setter
    def seed(self, seed: int) -> None:
        self._numbering.seed, self._numbering.given = checks.integer(self, "seed", seed, 0, HIGHEST_SEED), True

    @property
    def _counter(self) -> SampleNumbers:
        return self._numbering.counter

    @property
    def epoch(self) -> int:
        """The epoch that was set by `set_epoch`, or counted by DeviceLoader."""
        return self._numbering.epochs.number

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self.set_epoch(epoch)

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch: the looks at each image are counted from the start, so the same epoch has the same draws.

        Worker processes that hold a copy of this module use the new epoch too. After `load_state_dict`, a call with the
        saved epoch continues it where it was.
        """
        self._numbering.epochs.tell(checks.integer(self, "epoch", epoch, 0, 2**32 - 1))

    def get_extra_state(self) -> Tensor:
        """Seed, view, epoch and counter as int64 on the CPU; see `gpuaug.engine.state`."""
        return self._numbering.save()

    def set_extra_state(self, state: Any) -> None:
        """Continue from a state, also from one of version 0.1. A damaged state is ignored with a warning."""
        self._numbering.load(state)

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, missing_keys: Any, *others: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, *others)
        name = prefix + "_extra_state"
        if name in missing_keys:
            missing_keys.remove(name)
            warnings.warn(MISSING, stacklevel=2)

    def _pipeline(self, training: bool) -> Pipeline:
        return self.train_pipeline if training else self.eval_pipeline

    # ---- dtype -------------------------------------------------------------------------------------------------------

    def _follow_casts(self) -> None:
        """Begin with torch's default dtype. Called when the lists are known."""
        self._dtype = followed(self, torch.get_default_dtype(), lambda weight: weight, self._dtypes)
        self._cast = False  # whether it was cast to another dtype since it last ran

    @property
    def _dtypes(self) -> list[torch.dtype | str]:
        return [self.train_pipeline.dtype, self.eval_pipeline.dtype]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Called by nn.Module's `.half()`, `.to(...)` and similar methods: the dtype of ToDtype("auto") follows.

        The dtype is not stored in a buffer: code that lists or sends buffers would see it, such as DDP in each step.
        """
        dtype = followed(self, self._dtype, fn, self._dtypes)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._dtype, self._cast = dtype, self._cast or dtype != self._dtype
        return self

    def _tell_of_a_cast(self, pipeline: Pipeline) -> None:
        """Warn, once after a cast, if the list returns another dtype than the module was cast to."""
        self._cast, dtype = False, pipeline.dtype
        if isinstance(dtype, torch.dtype) and dtype not in (torch.uint8, self._dtype):
            warnings.warn(kept(self, dtype, self._dtype), stacklevel=2)

    # ---- copies ------------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"memory_format": str(self.memory_format)}  # protocols below 4 cannot pickle it

    def __setstate__(self, state: dict[str, Any]) -> None:
        memory_format = getattr(torch, str(state["memory_format"]).removeprefix("torch."))
        super().__setstate__(state | {"memory_format": memory_format})  # type: ignore[no-untyped-call]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy with its own view, so that the two have different draws."""
        return self._copied(lambda value: deepcopy(value, memo), memo)

    def __copy__(self) -> Self:
        return self._copied(lambda value: value.copy() if isinstance(value, dict) else value, {})

    def _copied(self, copied: Callable[[Any], Any], memo: dict[int, Any]) -> Self:
        clone = type(self).__new__(type(self))
        memo[id(self)] = clone
        for name, value in vars(self).items():
            vars(clone)[name] = self._numbering.copy() if value is self._numbering else copied(value)
        return clone
