"""The regimes `ops` and `recipes`: everybody does the same work on the same decoded images, in turn."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from gpuaug.transforms.base import Crop

from ..cases import BATCH, PARITY, SIZE, SOURCE, STD, square, timed
from ..measure import Run, take_turns
from ..peers import Peer, PeerError, enter
from ..peers.peer import exhaust, levels, words
from ..worker_pool import WorkerPool

__all__ = ["Row", "as_peer_error", "contest", "missing"]

REFERENCE = "torchvision v2, tensors"  # whose pixels the others' are compared with
CHECKED = 8  # images of the parity check
Report = Callable[[str], None]
Row = dict[str, Any]


def contest(
    kind: str,
    images: list[Tensor],
    names: Sequence[str],
    cases: Sequence[str],
    *,
    threads: int = 1,
    batch: int = BATCH,
    rounds: int = 9,
    seconds: float = float("inf"),
    device: str = "cpu",
    report: Report = lambda text: None,
) -> dict[str, list[Row]]:
    """Time the contestants `names` on `cases`.

    Args:
        kind: "ops" (a batch of one size, one op) or "recipes" (images of their own sizes to normalised floats).
        images: uint8 (3, H, W) each.
        threads: of those that take batches; the others get so many processes.
        batch: images in a batch of those that take batches.
        rounds: turns of each case.
        seconds: after that long a case gets no more turns (at least three).

    Returns:
        "rows", one for each contestant and case, with the seconds of every turn for all images, and "absent": who could
        not take part in what, and why.
    """
    if kind == "ops":
        images = square(images)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with contextlib.ExitStack() as stack:
            field = _Field(kind, images, threads, batch, device, stack)
            for name in names:
                report(name)
                field.add(name)
            for case in cases:
                report(case)
                field.measure(case, rounds, seconds)
            return {"rows": field.rows, "absent": field.absent}
    finally:
        torch.set_num_threads(before)


class _Field:
    """Those who take part, with what they were given, and what came of it."""

    def __init__(
        self, kind: str, images: list[Tensor], threads: int, batch: int, device: str, stack: contextlib.ExitStack
    ) -> None:
        self.kind, self.images, self.threads, self.batch, self.device = kind, images, threads, batch, device
        self.square = square(images) if kind == "recipes" else images
        self.rows: list[Row] = []
        self.absent: list[Row] = []
        self._peers: dict[str, tuple[Peer, Any]] = {}
        self._stack = stack
        self._pool: WorkerPool | None = None
        self._reference = enter(REFERENCE, 1)

    def add(self, name: str) -> None:
        try:
            peer = enter(name, self.threads, self.device)
            self._parity(peer)
        except PeerError as error:
            self._miss(name, None, error)
            return
        if peer.alone and self.threads > 1:
            if self._pool is None:
                self._pool = self._stack.enter_context(WorkerPool(self.threads, self.images, self.batch))
            self._peers[name] = peer, None
        else:
            self._peers[name] = peer, peer.prepare(self._given(peer), self.batch)

    def measure(self, case: str, rounds: int, seconds: float) -> None:
        """Check the work of everybody who has this case, then time them."""
        runs: dict[str, Run] = {}
        differences: dict[str, float | None] = {}
        for name, (peer, prepared) in self._peers.items():
            try:
                differences[name] = self._check(peer, case)
                runs[name] = self._run(name, peer, prepared, case)
            except PeerError as error:
                self._miss(name, case, error)
        lost: dict[str, Exception] = {}
        for name, seconds_taken in take_turns(runs, rounds, seconds, self.device, lost=lost).items():
            peer = self._peers[name][0]
            work, less = peer.differs(case)
            self.rows.append(
                {
                    "case": case,
                    "who": name,
                    "threads": self.threads,
                    "images": len(self.images),
                    "seconds": seconds_taken,
                    "difference": differences[name],
                    "work": work + ("; resized to 256 x 256 before" if self._resized(peer) else ""),
                    "less": less,
                }
            )
        for name, error in lost.items():
            self._miss(name, case, error)

    def _run(self, name: str, peer: Peer, prepared: Any, case: str) -> Run:
        if prepared is None:
            assert self._pool is not None
            return self._pool.run(name, self.kind, case)
        with as_peer_error():
            transform = peer.recipe(case) if self.kind == "recipes" else peer.op(case, False)
            exhaust(peer.run(transform, prepared), self.batch)
        return lambda: exhaust(peer.run(transform, prepared), self.batch)

    def _given(self, peer: Peer) -> list[Tensor]:
        return self.square if peer.uniform else self.images

    def _resized(self, peer: Peer) -> bool:
        return self.kind == "recipes" and peer.uniform

    def _check(self, peer: Peer, case: str) -> float | None:
        """Shapes and dtypes of a random run; of ops the distance of the fixed one to torchvision's."""
        images = [image.clone() for image in self._given(peer)[:CHECKED]]  # some work in place
        with as_peer_error():
            transform = peer.recipe(case) if self.kind == "recipes" else peer.op(case, False)
            results = peer.tensors(peer.run(transform, peer.prepare(images, self.batch)))
        side = SIZE if self.kind == "recipes" or issubclass(timed()[case][0], Crop) else SOURCE
        shapes = {tuple(image.shape) for image in results}
        if len(results) != len(images) or shapes != {(3, side, side)}:
            raise PeerError(f"made {len(results)} images of {shapes}, not {len(images)} of (3, {side}, {side})")
        if self.kind == "recipes":
            _check_normalized(results)
            return None
        try:
            peer.op(case, True)
        except PeerError:  # its parameters cannot be fixed
            return None
        with as_peer_error():
            return self._difference(peer, lambda one: one.op(case, True), self.images[:CHECKED])

    def _parity(self, peer: Peer) -> None:
        """Of recipes: the deterministic one, as a row without times."""
        if self.kind != "recipes":
            return
        with as_peer_error():
            difference = self._difference(peer, lambda one: one.recipe(PARITY), self._given(peer)[:CHECKED])
        self.rows.append({"case": PARITY, "who": peer.name, "threads": self.threads, "difference": difference})

    def _difference(self, peer: Peer, build: Callable[[Peer], Any], images: list[Tensor]) -> float:
        """Mean absolute difference to torchvision's pixels, in levels of 255."""

        def made(one: Peer) -> list[Tensor]:
            prepared = one.prepare([image.clone() for image in images], self.batch)
            return one.tensors(one.run(build(one), prepared))

        scale = 255 * sum(STD) / 3 if self.kind == "recipes" else 1.0
        pairs = zip(made(peer), made(self._reference), strict=True)
        if self.kind == "recipes":
            return scale * float(torch.stack([(mine - its).abs().mean() for mine, its in pairs]).mean())
        return float(torch.stack([(levels(mine) - levels(its)).abs().mean() for mine, its in pairs]).mean())

    def _miss(self, name: str, case: str | None, error: Exception) -> None:
        self.absent.append(missing(name, case, self.threads, error))


def missing(who: str, case: str | None, threads: int, error: Exception) -> Row:
    """Who could not take part in what (None: in anything), and why."""
    return {"who": who, "case": case, "threads": threads, "error": words(error)}


@contextlib.contextmanager
def as_peer_error() -> Iterator[None]:
    """Whatever a contestant raises is its own words for why it cannot take part."""
    try:
        yield
    except PeerError:
        raise
    except Exception as error:
        raise PeerError(words(error)) from error


def _check_normalized(images: list[Tensor]) -> None:
    batch = torch.stack(images)
    low, high = (float(value) for value in batch.aminmax())
    if batch.dtype != torch.float32 or low < -2.3 or high > 2.8:
        raise PeerError(f"made {batch.dtype} from {low:.2f} to {high:.2f}, not normalised float32")
