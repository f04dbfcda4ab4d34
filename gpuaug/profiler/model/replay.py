"""Replay the queues of torch's DataLoader with measured times, to predict other settings or other costs.

A DataLoader requests batches from its workers in turn, `prefetch_factor` in advance, delivers them in order, and
requests one more for each one delivered. So one slow batch delays all batches behind it, and mean times are too
optimistic. Everything that computes at the same moment shares the cores evenly. What wakes up while all cores are busy
waits for one first, see `Load.late`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Load", "Outcome", "Setting", "replay"]

CHUNKS = 4  # a fetch alternates between computing and waiting this many times
TINY = 1e-12


@dataclass(frozen=True)
class Load:
    """The costs of one batch, in seconds when nothing else runs.

    Attributes:
        fetch: (computing, waiting) in the worker: samples and collating.
        send: (computing, waiting) of pickling in the worker's feeder thread, during the fetch of the next batch.
        receive: (computing, waiting) of reading and unpickling, in the main thread or in the pinning thread.
        pin: Copying into pinned memory, in the pinning thread.
        ahead: Computing in a thread of the main process that works ahead of the consumer, as in gpuaug's DeviceLoader.
        step: (computing, waiting) of the consumer, from receiving a batch to requesting the next one.
        late: Waiting of the consumer for a core when the batch arrives, and after it has waited in the step. It ends at
            once when a core is free.
    """

    fetch: tuple[float, float]
    send: tuple[float, float] = (0.0, 0.0)
    receive: tuple[float, float] = (0.0, 0.0)
    pin: float = 0.0
    ahead: float = 0.0
    step: tuple[float, float] = (0.0, 0.0)
    late: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Setting:
    """The settings of a loader, and its machine.

    Attributes:
        workers: Number of worker processes; with 0 the main process fetches.
        prefetch: Prefetched batches per worker.
        pinning: Whether batches pass through a thread of the main process, which pins them or works ahead.
        in_order: Whether batches come in the order in which they were requested.
        cores: Number of cores that can be used at once.
        threads: Threads of the consumer's step while it computes.
        ahead_threads: Threads of the work ahead of the step.
        worker_threads: Threads of each worker's fetch while it computes.
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
    """The result of a replay, in seconds.

    Attributes:
        ends: End of each step since the start.
        waits: Wait before each step.
        shared: Time that receiving and the steps took longer in all, since they shared the cores.
        late: Time that the consumer waited for a core in all, see `Load.late`.
    """

    ends: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    shared: float = 0.0
    late: float = 0.0


Phase = tuple[float, float]  # (number of threads that compute, 0 while waiting, LATE while waiting for a core; seconds)
LATE = -1.0
CONSUMER = ("received", "stepped")  # ends of tasks of the main thread


class _Task:
    """A task: its phases, one after another, and the event at its end."""

    __slots__ = ("left", "phases", "then")

    def __init__(self, phases: list[Phase], then: tuple[str, int]) -> None:
        self.phases, self.then = phases, then
        self.left = phases[0][1]


class _Replay:
    """The state of one replay: running tasks, queues and their batches."""

    def __init__(self, loads: Sequence[Load], setting: Setting) -> None:
        self.loads, self.setting = loads, setting
        self.clock = 0.0
        self.tasks: list[_Task] = []
        self.over: deque[tuple[str, int]] = deque()  # events at this moment
        workers = range(setting.workers)
        self.asked: list[deque[int]] = [deque() for _ in workers]  # batches requested from each worker
        self.fetching = [False for _ in workers]
        self.made: list[deque[int]] = [deque() for _ in workers]  # for each worker's feeder thread
        self.sending = [False for _ in workers]
        self.owner: dict[int, int] = {}
        self.held = [0 for _ in workers]  # batches requested and not yet delivered
        self.arrived: deque[int] = deque()
        self.pinning = False
        self.pinned: deque[int] = deque()
        self.stash: set[int] = set()
        self.next, self.turn = 0, 0  # the next batch to request, and the next worker
        self.given = 0  # delivered batches
        self.since: float | None = None  # moment at which the consumer began to wait
        self.receiving = False
        self.outcome = Outcome()

    def start(self, phases: list[Phase], then: tuple[str, int]) -> None:
        left = [phase for phase in phases if phase[1] > TINY]
        if left:
            self.tasks.append(_Task(left, then))
        else:
            self.over.append(then)

    def ask(self) -> None:
        """Request a batch from the next worker; without in_order, from the next worker with room in its queue."""
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
        """The phases of a fetch: waiting and computing in turns."""
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
        """The consumer requests a batch."""
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
        """Deliver a batch that arrived, or store it if an earlier one is due first."""
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
        (computing, waiting), (arriving, waking) = self.loads[number].step, self.loads[number].late
        self.given += 1
        phases = [(LATE, arriving), (self.setting.threads, computing), (0.0, waiting), (LATE, waking)]
        self.start(phases, ("stepped", number))

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
        """Advance the clock to the next end of a phase."""
        demand = sum(max(0.0, task.phases[0][0]) for task in self.tasks)
        rate = min(1.0, self.setting.cores / demand) if demand else 1.0
        if demand <= max(0.0, self.setting.cores - 0.5):
            for task in self.tasks:
                task.left = 0.0 if task.phases[0][0] == LATE else task.left
        ahead = min(task.left / rate if task.phases[0][0] > 0 else task.left for task in self.tasks)
        self.clock += ahead
        ended = []
        for task in self.tasks:
            kind = task.phases[0][0]
            computes = kind > 0
            task.left -= ahead * rate if computes else ahead
            if computes and task.then[0] in CONSUMER:
                self.outcome.shared += ahead * (1 - rate)
            elif kind == LATE:
                self.outcome.late += ahead
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
    """The phases of a cost: computing, then waiting."""
    return [(1.0, part[0]), (0.0, part[1])]


def replay(loads: Sequence[Load], setting: Setting) -> Outcome:
    """Replay an epoch.

    Args:
        loads: Costs of each batch, in the sampler's order.
        setting: Settings of the loader and the machine.

    Raises:
        ValueError: If a setting or a cost is out of range.
    """
    positive = min(setting.cores, setting.threads, setting.ahead_threads, setting.worker_threads) > 0
    if setting.workers < 0 or setting.prefetch < 1 or not positive:
        raise ValueError(
            f"replay: `setting` must have workers >= 0, prefetch >= 1, cores and threads > 0, got {setting}."
        )
    times = ((*x.fetch, *x.send, *x.receive, x.pin, x.ahead, *x.step, *x.late) for x in loads)
    if any(min(each) < 0 for each in times):
        raise ValueError("replay: `loads` must be at least 0 seconds each. Check the clocks of the trace.")
    return _Replay(loads, setting).run()
