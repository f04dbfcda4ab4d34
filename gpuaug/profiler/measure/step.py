"""The phases of a training step: forward, backward, optimizer, and waiting for the device.

While a profile is open, `torch.autograd.backward`, which every backward pass calls, is wrapped, and so are the calls
that wait for a CUDA device, such as `Tensor.item`. `Optimizer.step` has torch's own hooks. They read clocks in steps
for which the recorder looks at all clocks, and nothing waits for a device because of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from gpuaug.profiler.measure.clock import Clocks, Notes, clocks, mine, stage
from gpuaug.profiler.model.trace import BACKWARD, DEVICE, FORWARD, OPTIMIZER, REST, Interval

__all__ = ["StepHooks", "StepNotes", "elapsed", "events", "together"]

UNKNOWN = ""  # phase of a part of the step, until it is known what follows
SECOND = 1e-9  # seconds of a nanosecond
TRIES = 3  # readings of the clocks, at most
TENSOR_WAITS = ("item", "tolist", "cpu", "__bool__", "__float__", "__int__")  # methods that wait for the tensor's value


class StepNotes(Notes):
    """The times of one step, with its phases.

    A step is cut where a backward pass begins and ends, and where an optimizer begins and ends. What comes before a
    backward pass is `forward`: copying to the device, the network and the loss. An optimizer may call the two itself,
    as in Lightning. A part that is none of these, such as logging, belongs to no phase. Stages that the user marked
    keep their time: it belongs to no phase.

    Attributes:
        phases: {name: [wall, cpu, queue]} in ns; complete only if there was a backward pass.
        cuts: (phase, CUDA event at its end) of each part; empty without a device.
        device: Whether to record CUDA events.
        since: Clocks at the last cut.
    """

    __slots__ = ("backward", "cuts", "depth", "device", "marked", "optimizers", "phases", "since", "spare")

    def __init__(self) -> None:
        super().__init__(True)
        self.phases: dict[str, list[int]] = {}
        self.cuts: list[tuple[str, Any]] = []
        self.device = False
        self.since: Clocks = (0, 0, 0)
        self.marked = (0, 0, 0)  # time in stages that the user marked, until the last cut
        self.spare = [0, 0, 0]  # time whose phase is not known yet
        self.depth = 0  # backward passes inside of one another, as checkpointing has them
        self.backward = False  # whether one ran since the last step of an optimizer
        self.optimizers = 0  # steps of optimizers inside of one another, as a subclass or a wrapper has them

    def begin_backward(self) -> None:
        self.depth += 1
        if self.depth == 1:
            self._cut(UNKNOWN)
            self._name_spare(FORWARD)

    def end_backward(self) -> None:
        self.depth -= 1
        if self.depth == 0:
            self._cut(BACKWARD)
            self.backward = True

    def begin_optimizer(self) -> None:
        self.optimizers += 1
        if self.optimizers > 1:
            return
        self._cut(BACKWARD if self.depth else UNKNOWN)  # an optimizer may step inside a backward pass
        if self.backward:
            self._name_spare(REST)

    def end_optimizer(self) -> None:
        self.optimizers -= 1
        if self.optimizers > 0:
            return
        self._cut(OPTIMIZER)
        self.backward = False

    def _cut(self, phase: str) -> None:
        """End the part of the step since the last cut."""
        now, marked = together(), self._marked()
        if self.inner is None:  # else the part ends inside a stage of the user
            total = self.spare if phase == UNKNOWN else self.phases.setdefault(phase, [0, 0, 0])
            for k in range(3):
                total[k] += max(0, now[k] - self.since[k] - (marked[k] - self.marked[k]))
        self.since, self.marked = now, marked
        if self.device:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self.cuts.append((phase, event))

    def _marked(self) -> Clocks:
        wall = cpu = queue = 0
        for total in (self.stages or {}).values():
            wall, cpu, queue = wall + total[0], cpu + total[1], queue + total[2]
        return wall, cpu, queue

    def _name_spare(self, phase: str) -> None:
        """Give the parts whose phase was unknown to a phase."""
        total = self.phases.setdefault(phase, [0, 0, 0])
        for k in range(3):
            total[k] += self.spare[k]
        self.spare = [0, 0, 0]
        self.cuts = [(phase if name == UNKNOWN else name, event) for name, event in self.cuts]

    def marks(self) -> dict[str, tuple[float, float, float]]:
        """{name: (wall, cpu, queue) in seconds} of the phases, if there was a backward pass, and of marked stages."""
        found = {name: [0, 0, 0] for name in (FORWARD, BACKWARD, OPTIMIZER)} if BACKWARD in self.phases else {}
        parts = [(name, total) for name, total in self.phases.items() if name in found]
        for name, total in [*parts, *(self.stages or {}).items()]:
            sums = found.setdefault(name, [0, 0, 0])
            for k in range(3):
                sums[k] += total[k]
        return {name: (w * SECOND, c * SECOND, q * SECOND) for name, (w, c, q) in found.items()}

    def device_phases(self, first: Any, last: Any) -> dict[str, float]:
        """{phase: seconds on the device}, between the events at the begin and the end of the step. Waits for them."""
        found: dict[str, float] = {}
        if BACKWARD not in self.phases:
            return found
        for phase, event in [*self.cuts, (REST, last)]:
            event.synchronize()
            name = REST if phase == UNKNOWN else phase
            found[name] = found.get(name, 0.0) + first.elapsed_time(event) / 1e3
            first = event
        return found


def together() -> Clocks:
    """The three clocks, read without a wait for a core in between, which would count in two phases."""
    found = clocks()
    for _ in range(TRIES):
        again = clocks()
        if again[2] == found[2]:
            return again
        found = again
    return found


class StepHooks:
    """Install what cuts steps into phases, once for all profiles that are open, and remove it with the last one."""

    _open = 0
    _undo: list[Callable[[], None]]

    @classmethod
    def install(cls) -> None:
        cls._open += 1
        if cls._open > 1:
            return
        cls._undo = [
            register_optimizer_step_pre_hook(_optimizer_begins).remove,
            register_optimizer_step_post_hook(_optimizer_ends).remove,
        ]
        cls._put(torch.autograd, "backward", _timed_backward(torch.autograd.backward))
        if not torch.cuda.is_available():
            return
        for name in TENSOR_WAITS:
            cls._put(torch.Tensor, name, _timed_wait(getattr(torch.Tensor, name), of_tensor=True))
        for owner in (torch.cuda, torch.cuda.Event, torch.cuda.Stream):
            cls._put(owner, "synchronize", _timed_wait(owner.synchronize, of_tensor=False))

    @classmethod
    def remove(cls) -> None:
        cls._open -= 1
        while not cls._open and cls._undo:
            cls._undo.pop()()

    @classmethod
    def _put(cls, owner: Any, name: str, value: Any) -> None:
        own = name in vars(owner)
        before = getattr(owner, name)
        setattr(owner, name, value)
        cls._undo.append(lambda: setattr(owner, name, before) if own else delattr(owner, name))


def _optimizer_begins(optimizer: Any, args: Any, kwargs: Any) -> None:
    notes = mine.notes
    if isinstance(notes, StepNotes):
        notes.begin_optimizer()


def _optimizer_ends(optimizer: Any, args: Any, kwargs: Any) -> None:
    notes = mine.notes
    if isinstance(notes, StepNotes):
        notes.end_optimizer()


def _timed_backward(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def backward(*args: Any, **kwargs: Any) -> Any:
        notes = mine.notes
        if not isinstance(notes, StepNotes):
            return function(*args, **kwargs)
        notes.begin_backward()
        try:
            return function(*args, **kwargs)
        finally:
            notes.end_backward()

    return backward


def _timed_wait(function: Callable[..., Any], of_tensor: bool) -> Callable[..., Any]:
    """A function that waits for a device. One of a tensor does so only if the tensor is on it."""

    @wraps(function)
    def wait(*args: Any, **kwargs: Any) -> Any:
        notes = mine.notes
        if not isinstance(notes, StepNotes) or (of_tensor and not args[0].is_cuda):
            return function(*args, **kwargs)
        with stage(DEVICE):
            return function(*args, **kwargs)

    return wait


def events() -> tuple[Any, Any] | None:
    """Two CUDA events, the first one recorded; they are synchronized only for the report."""
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):  # type: ignore[no-untyped-call]
        return None
    pair: Any = tuple(torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    pair[0].record()
    return pair


def elapsed(pair: tuple[Any, Any], before: tuple[Any, Any] | None) -> Interval:
    """(seconds of the step on the device, seconds that the device was idle before it)."""
    pair[1].synchronize()
    idle = before[1].elapsed_time(pair[0]) / 1e3 if before is not None else 0.0
    return pair[0].elapsed_time(pair[1]) / 1e3, max(0.0, idle)
