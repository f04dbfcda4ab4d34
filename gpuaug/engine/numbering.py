"""Which draw a sample gets: seed, view, epoch, number and look, and which are used up. See docs/draws.md."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from gpuaug import checks
from gpuaug.engine.batch import Images
from gpuaug.engine.counter import Reservation as ReservedNumbers
from gpuaug.engine.counter import SampleNumbers
from gpuaug.engine.distributed import world
from gpuaug.engine.epochs import Epochs
from gpuaug.engine.looks import Looks
from gpuaug.engine.recompute import Recent, in_backward, token
from gpuaug.engine.state import State, damaged
from gpuaug.philox import NUMBERS
from gpuaug.program import Keys

__all__ = ["NAMED", "Mode", "Numbering", "Reservation"]

Array = NDArray[Any]

COPY = 16  # the bit of a view where the number of the module's copy begins; the bits below number a call's pictures
HIGHEST_VIEW = 2**32 - 1
NO_STREAM: tuple[int, ...] = ()
INDEXED, COUNTED, AGAIN, NAMED = 1, 2, 3, 4  # the low byte of a stream's first word
ANOTHER_SEED = (
    "Augment: the checkpoint was saved with seed {saved}, which replaces seed {own} of this module. Set augment.seed "
    "after loading to get new draws."
)
WAITS = (
    "Augment: `index` is on {device}, and reading it waits for the device. Keep it on the CPU: .to(device) does not "
    "move the index of ga.ragged_collate, nor any tensor made with index.as_subclass(ga.data.Index)."
)


class Mode(NamedTuple):
    """How batches are drawn: with which list, in which epoch, and whether ranks and workers may share draws."""

    training: bool
    epoch: int
    version: int  # version of Epochs: the same epoch may begin again
    shared: bool  # an image's draw is the same on every rank and worker, since no two of them show the same look
    looks: Looks
    again: int = 0  # passes before this one in an epoch of set_epoch


def _nothing() -> None:
    """Commit or release where no draws are used up."""


class Reservation(NamedTuple):
    """The keys of a batch that is not handed out yet. `commit` uses them up, `release` gives them back."""

    keys: Keys
    commit: Callable[[], None] = _nothing
    release: Callable[[], None] = _nothing


class Numbering:
    """A module's seed, view and epoch, and the draws that are used up.

    seed: Number, or None for one from torch's generator; `given` is true if it was a number.
    """

    def __init__(self, seed: int | None) -> None:
        self.given = seed is not None
        self.seed = token() & (2**63 - 1) if seed is None else seed
        self.view, self.copies = 0, _Copies()
        self.epochs, self.counter, self.recent = Epochs(), SampleNumbers(), Recent()
        self._looks, self._version = Looks(), self.epochs.version
        self._origin = (1, 0)  # ranks and rank of the process that a copy came from
        self.copies.members.add(self)

    # ---- epochs ------------------------------------------------------------------------------------------------------

    @property
    def looks(self) -> Looks:
        """The looks of the current epoch, which another process may have begun."""
        if self._version != self.epochs.version:
            self._looks, self._version = Looks(), self.epochs.version
        return self._looks

    def mode(self, training: bool) -> Mode:
        return Mode(training, self.epochs.number, self.epochs.version, self.epochs.told, self.looks, self.epochs.again)

    def begin(self, shared: bool | None) -> Mode:
        """Begin a pass in training. shared: None means true if set_epoch was called."""
        self.epochs.begin()
        mode = self.mode(training=True)
        return mode if shared is None else mode._replace(shared=shared)

    # ---- the keys of a batch -----------------------------------------------------------------------------------------

    def reserve(self, size: int, index: Tensor | None, mode: Mode) -> Reservation:
        """Reserve the next batch's keys; `commit` or `release` must follow. Outside training nothing is used up."""
        if index is not None:
            return self._indexed(check_index(index, size), mode)
        if not mode.training:
            return Reservation(self._keys(mode, ReservedNumbers(0, size).index()))
        counter, worker = self.counter, get_worker_info()
        taken = counter.reserve(size)
        numbers, stream = taken.index(), NO_STREAM
        if worker is not None:
            ranks, rank = self._place()
            stream = (COUNTED | rank << 8 | ranks << 32, worker.seed - worker.id, worker.id | worker.num_workers << 32)
            numbers = np.arange(taken.start, taken.start + size, dtype=np.uint64)
        keys = self._keys(mode, numbers, stream)
        return Reservation(keys, partial(counter.commit, taken), partial(counter.release, taken))

    def _indexed(self, index: Array, mode: Mode) -> Reservation:
        if not mode.training:
            return Reservation(self._keys(mode, index))
        looks = mode.looks
        taken = looks.reserve(index)
        keys = self._keys(mode, index & np.uint64(NUMBERS), self._stream(mode), taken.looks)
        return Reservation(keys, partial(looks.commit, taken), partial(looks.release, taken))

    def _stream(self, mode: Mode) -> tuple[int, ...]:
        """What tells the draws of an index apart in processes that do not share them."""
        (ranks, rank), worker = self._place(), get_worker_info()
        if mode.shared or (ranks == 1 and worker is None):
            return NO_STREAM
        base, number = (0, 0) if worker is None else (worker.seed - worker.id, worker.id + 1)
        return (INDEXED | rank << 8 | number << 32, base)

    def pass_key(self, mode: Mode) -> int:
        """The key of the draws of all batches of a pass that have an index."""
        none = np.empty(0, np.uint64)
        return self._keys(mode, none, self._stream(mode) if mode.training else NO_STREAM).key

    def _keys(self, mode: Mode, index: Array, stream: tuple[int, ...] = NO_STREAM, look: Any = None) -> Keys:
        if mode.training and mode.again:
            stream = (AGAIN | mode.again << 8, *stream)
        return Keys(self.seed, mode.epoch, index, look, self.view, stream)

    def take(self, images: Images, index: Tensor | None, mode: Mode | None, training: bool) -> Reservation:
        """The keys of a batch of a pass, or of a call of the module if there is no pass."""
        if mode is None:
            return self.reserve_call(images, index, self.mode(training))
        return self.reserve(len(images), index, mode)

    def reserve_call(self, images: Images, index: Tensor | None, mode: Mode) -> Reservation:
        """As `reserve`, for a call of the module. A call that checkpointing repeats has the keys of the first one."""
        if not mode.training or get_worker_info() is not None:
            return self.reserve(len(images), index, mode)
        if in_backward():
            return Reservation(self.recent.find(token(), images))
        reserved = self.reserve(len(images), index, mode)

        def commit() -> None:
            reserved.commit()
            # the generator is as it was when the call began, and a call that failed has taken nothing from it
            self.recent.note(token(), images, reserved.keys)

        return Reservation(reserved.keys, commit, reserved.release)

    def _place(self) -> tuple[int, int]:
        """(ranks, rank); a spawned worker knows them from the process that started it."""
        here = world()
        return self._origin if here == (1, 0) and get_worker_info() is not None else here

    # ---- state and copies --------------------------------------------------------------------------------------------

    def save(self) -> Tensor:
        """See `State`. All copies of a module have states of one shape, whichever of them is in use: code that averages
        weights reads the states of two copies and computes with them."""
        epoch, flags = self.epochs.save()
        state = State(self.seed, self.view, epoch, flags, self.counter.value())
        if self._pages():
            state.looks = self.looks.save()
        return state.tensor(room=max(member._pages() for member in list(self.copies.members)))

    def _pages(self) -> int:
        """Largest number of pages in the state; 0 if the sampler numbers looks, so that the shape seldom changes."""
        return self.looks.pages if self.looks.repeated() or not self.epochs.told else 0

    def load(self, value: Any) -> None:
        """Restore what `save` returned. A damaged state warns and changes nothing.

        Raises:
            ValueError: If it holds numbers out of range.
        """
        state = State.read(value)
        if state is None:
            damaged()
            return
        epoch = checks.integer("Augment", "epoch", state.epoch, 0, 2**32 - 1)
        counter = checks.integer("Augment", "counter", state.counter, 0, NUMBERS)
        if state.seed is not None:
            if self.given and state.seed != self.seed:
                warnings.warn(ANOTHER_SEED.format(saved=state.seed, own=self.seed), stacklevel=3)
            self.seed, self.view = state.seed, state.view
            self.copies.made = max(self.copies.made, state.view >> COPY)  # so that the next copy has a different view
        self.epochs.load(epoch, state.flags)
        self.counter = SampleNumbers(counter)
        self._looks, self._version = Looks.load(*state.looks), self.epochs.version

    def copy(self) -> Numbering:
        """The numbering of a module's copy: the same except for the view, so that the two have different draws."""
        twin = Numbering.__new__(Numbering)
        own = {"epochs": deepcopy(self.epochs), "counter": deepcopy(self.counter), "_looks": deepcopy(self.looks)}
        vars(twin).update(vars(self) | own, recent=Recent(), view=self.copies.next() << COPY)
        self.copies.members.add(twin)
        return twin

    def __getstate__(self) -> dict[str, Any]:
        looks = self.looks
        state = vars(self) | {"_origin": world(), "_looks": looks}
        return {name: value for name, value in state.items() if name != "recent"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, recent=Recent())
        self.copies.members.add(self)


class _Copies:
    """A module and its copies, and how many were made."""

    def __init__(self, made: int = 0) -> None:
        self.made, self.members = made, weakref.WeakSet[Numbering]()

    def __reduce__(self) -> Any:
        return _Copies, (self.made,)

    def next(self) -> int:
        self.made = (self.made + 1) & (HIGHEST_VIEW >> COPY)
        return self.made


def check_index(index: object, size: int) -> Array:
    """`index` as (B,) uint64: the number in the data set, and from bit 48 on the sampler's look."""
    good = isinstance(index, Tensor) and index.dtype == torch.int64 and index.shape == (size,)
    if not good:
        expected = f"int64 ({size},), one number for each image"
        holds_numbers = isinstance(index, (list, tuple, np.ndarray))
        if isinstance(index, Tensor):
            holds_numbers = index.shape == (size,) and not index.is_floating_point() and not index.is_complex()
        remedy = "Pass torch.as_tensor(index, dtype=torch.int64)." if holds_numbers else ""
        raise checks.argument_error("Augment", "index", expected, checks.describe(index), remedy)
    assert isinstance(index, Tensor)
    if index.is_meta:
        raise checks.argument_error(
            "Augment", "index", "a tensor that holds numbers", "one on the meta device", "Keep it on the CPU."
        )
    if index.device.type != "cpu":
        warnings.warn(WAITS.format(device=index.device), stacklevel=5)
        index = index.cpu()
    numbers: Array = index.detach().numpy()
    if (numbers < 0).any():
        raise checks.argument_error("Augment", "index", "in [0, 2**63 - 1]", int(numbers[numbers < 0][0]))
    return numbers.astype(np.uint64)
