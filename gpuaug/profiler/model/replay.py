"""torch's own queue rules, replayed on measured times: what a loader would give with other settings or other costs.

A DataLoader asks each worker in turn for batches, `prefetch_factor` ahead, gives them out in order, and asks for one
more when it has taken one. So one slow batch blocks the line behind it, and a mean says too much. What runs at one
moment shares the cores evenly, so that a stage costs more time while others compute, and less once they are gone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Load", "Outcome", "Setting", "replay"]

CHUNKS = 4  # a fetch alternates between computing and waiting this often
TINY = 1e-12


@dataclass(frozen=True)
class Load:
    """What one batch costs, in seconds that a core or a wait takes when nothing else runs.

    Attributes:
        fetch: (computing, waiting) in the worker: samples and collating.
        send: (computing, waiting) of pickling, in the worker's feeder thread, beside the fetch of the next batch.
        receive: of reading and unpickling, where the batch arrives: in the main thread, or in the pinning one.
        pin: copying into pinned memory, in the pinning thread.
        ahead: computing in a thread of the main process that works ahead of the consumer, as gpuaug's DeviceLoader.
        step: (computing, waiting) of the consumer, from having a batch to asking for the next one.
    """

    fetch: tuple[float, float]
    send: tuple[float, float] = (0.0, 0.0)
    receive: tuple[float, float] = (0.0, 0.0)
    pin: float = 0.0
    ahead: float = 0.0
    step: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Setting:
    """How a loader is set up, and on what.

    Attributes:
        workers: processes; 0 fetches in the main process.
        prefetch: batches asked for ahead of each worker.
        pinning: batches pass through a thread of the main process, which pins them or works ahead.
        in_order: batches come in the order they were asked for.
        cores: that may be used at once.
        threads: of the consumer's step while it computes. ahead_threads: of what works ahead. worker_threads: of each
            worker's fetch.
    """

    workers: int
    prefetch: int = 2
    pinning: bool = False
    in_order: bool = True
    cores: float = 1e9
    threads: float = 1.0
    ahead_threads: float = 1.0
    worker_threads: float = 1.0


@dataclass
class Outcome:
    """What came of a replay, in seconds: `ends` of the steps since the start, and each batch's `waits` before them."""

    ends: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)


Phase = tuple[float, float]  # threads that compute, 0 where it waits; and seconds


class _Task:
    """Something that is under way: phases, one after the other."""

    __slots__ = ("left", "phases", "then")

    def __init__(self, phases: list[Phase], then: tuple[str, int]) -> None:
        self.phases, self.then = phases, then
        self.left = phases[0][1]


class _Replay:
    """The state of one replay: who does what, and what waits where."""

    def __init__(self, loads: Sequence[Load], setting: Setting) -> None:
        self.loads, self.setting = loads, setting
        self.clock = 0.0
        self.tasks: list[_Task] = []
        self.over: deque[tuple[str, int]] = deque()  # what has ended at this moment
        workers = range(setting.workers)
        self.asked: list[deque[int]] = [deque() for _ in workers]  # batches each worker was asked for
        self.fetching = [False for _ in workers]
        self.made: list[deque[int]] = [deque() for _ in workers]  # for each worker's feeder thread
        self.sending = [False for _ in workers]
        self.owner: dict[int, int] = {}
        self.held = [0 for _ in workers]  # batches asked for and not yet taken
        self.arrived: deque[int] = deque()
        self.pinning = False
        self.pinned: deque[int] = deque()
        self.stash: set[int] = set()
        self.next, self.turn = 0, 0  # the next batch to ask for, and whose turn it is
        self.given = 0  # batches that have been handed out
        self.since: float | None = None  # when the consumer began to wait
        self.receiving = False
        self.outcome = Outcome()

    def start(self, phases: list[Phase], then: tuple[str, int]) -> None:
        left = [phase for phase in phases if phase[1] > TINY]
        if left:
            self.tasks.append(_Task(left, then))
        else:
            self.over.append(then)

    def ask(self) -> None:
        """One more batch, from the worker whose turn it is; out of order, from the next one that has room."""
        if self.next == len(self.loads):
            return
        workers = self.setting.workers
        worker = self.turn % workers
        if not self.setting.in_order:
            worker = next(
                (self.turn + k) % workers
                for k in range(workers)
                if self.held[(self.turn + k) % workers] < self.setting.prefetch
            )
        self.turn = worker + 1
        self.owner[self.next] = worker
        self.held[worker] += 1
        self.asked[worker].append(self.next)
        self.next += 1
        self.fetch(worker)

    def fetching_of(self, number: int) -> list[Phase]:
        """Of a batch's samples: waiting and computing in turns."""
        computing, waiting = self.loads[number].fetch
        return [(0.0, waiting / CHUNKS), (self.setting.worker_threads, computing / CHUNKS)] * CHUNKS

    def fetch(self, worker: int) -> None:
        if self.fetching[worker] or not self.asked[worker]:
            return
        number = self.asked[worker].popleft()
        self.fetching[worker] = True
        self.start(self.fetching_of(number), ("fetched", number))

    def send(self, worker: int) -> None:
        if self.sending[worker] or not self.made[worker]:
            return
        number = self.made[worker].popleft()
        self.sending[worker] = True
        self.start(once(self.loads[number].send), ("sent", number))

    def pin(self) -> None:
        if self.pinning or not self.arrived:
            return
        number = self.arrived.popleft()
        self.pinning = True
        load = self.loads[number]
        phases = [*once(load.receive), (1.0, load.pin), (self.setting.ahead_threads, load.ahead)]
        self.start(phases, ("pinned", number))

    def want(self) -> None:
        """The consumer asks for a batch."""
        if self.given == len(self.loads):
            return
        if self.since is None:
            self.since = self.clock
        if self.receiving:
            return
        if self.setting.in_order and self.given in self.stash:
            self.stash.remove(self.given)
            self.take(self.given)
        elif self.setting.pinning:
            if self.pinned:
                self.sort(self.pinned.popleft())
        elif self.arrived:
            number = self.arrived.popleft()
            self.receiving = True
            self.start(once(self.loads[number].receive), ("received", number))

    def sort(self, number: int) -> None:
        """A batch is here: is it the one that was wanted?"""
        if self.setting.in_order and number != self.given:
            self.stash.add(number)
            self.want()
        else:
            self.take(number)

    def take(self, number: int) -> None:
        self.held[self.owner[number]] -= 1
        self.ask()
        self.step(number)

    def step(self, number: int) -> None:
        assert self.since is not None
        self.outcome.waits.append(self.clock - self.since)
        self.since = None
        computing, waiting = self.loads[number].step
        self.given += 1
        self.start([(self.setting.threads, computing), (0.0, waiting)], ("stepped", number))

    def finish(self, then: tuple[str, int]) -> None:
        what, number = then
        if what == "stepped":
            self.outcome.ends.append(self.clock)
            self.turn_to_main()
        elif what == "made":
            self.step(number)
        elif what == "received":
            self.receiving = False
            self.sort(number)
        elif what == "fetched":
            worker = self.owner[number]
            self.fetching[worker] = False
            self.made[worker].append(number)
            self.send(worker)
            self.fetch(worker)
        elif what == "sent":
            worker = self.owner[number]
            self.sending[worker] = False
            self.arrived.append(number)
            self.send(worker)
            if self.setting.pinning:
                self.pin()
            elif self.since is not None:
                self.want()
        elif what == "pinned":
            self.pinning = False
            self.pinned.append(number)
            self.pin()
            if self.since is not None:
                self.want()

    def turn_to_main(self) -> None:
        if self.setting.workers:
            self.want()
        elif self.given < len(self.loads):
            load = self.loads[self.given]
            self.since = self.clock
            self.start([*self.fetching_of(self.given), (1.0, load.pin)], ("made", self.given))

    def advance(self) -> None:
        """To the next moment at which something ends."""
        demand = sum(task.phases[0][0] for task in self.tasks)
        rate = min(1.0, self.setting.cores / demand) if demand else 1.0
        ahead = min(task.left / rate if task.phases[0][0] else task.left for task in self.tasks)
        self.clock += ahead
        ended = []
        for task in self.tasks:
            task.left -= ahead * rate if task.phases[0][0] else ahead
            if task.left <= TINY:
                ended.append(task)
        for task in ended:
            task.phases = task.phases[1:]
            if task.phases:
                task.left = task.phases[0][1]
        self.over.extend(task.then for task in ended if not task.phases)
        self.tasks = [task for task in self.tasks if task.phases]

    def run(self) -> Outcome:
        for _ in range(self.setting.workers * self.setting.prefetch):
            self.ask()
        self.turn_to_main()
        while len(self.outcome.ends) < len(self.loads):
            while self.over:
                self.finish(self.over.popleft())
            if self.tasks:
                self.advance()
        return self.outcome


def once(part: tuple[float, float]) -> list[Phase]:
    """Computing, then waiting."""
    return [(1.0, part[0]), (0.0, part[1])]


def replay(loads: Sequence[Load], setting: Setting) -> Outcome:
    """Run an epoch of batches under a setting.

    Args:
        loads: what each batch costs, in the order the sampler gives them.
        setting: of the loader and the machine.

    Raises:
        ValueError: if a setting or a cost is out of range.
    """
    positive = min(setting.cores, setting.threads, setting.ahead_threads, setting.worker_threads) > 0
    if setting.workers < 0 or setting.prefetch < 1 or not positive:
        raise ValueError(
            f"replay: `setting` must have workers >= 0, prefetch >= 1, cores and threads > 0, got {setting}."
        )
    if any(min(*load.fetch, *load.send, *load.receive, load.pin, load.ahead, *load.step) < 0 for load in loads):
        raise ValueError("replay: `loads` must be of at least 0 seconds. Check the trace's clocks.")
    return _Replay(loads, setting).run()
