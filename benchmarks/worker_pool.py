"""Worker processes for libraries that take one image at a time: each gets a part of the images, as a loader's workers.

The results stay in the workers, so sending them costs nothing here. The regime `loaders` measures that too.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from gpuaug.data.workers import prepare

from .measure import Run
from .peers import PeerError, enter
from .peers.peer import exhaust, words

__all__ = ["WorkerPool"]

TIMEOUT = 120  # seconds for one turn of a process


class WorkerPool:
    """`count` processes that run a library on their parts of `images`; a context manager."""

    def __init__(self, count: int, images: Sequence[Tensor], batch: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._ends: list[Connection] = []
        self._processes: list[Any] = []
        for number in range(count):
            here, there = context.Pipe()
            part = [image.permute(1, 2, 0).numpy() for image in images[number::count]]  # in the layout of decoders
            process = context.Process(target=_serve, args=(there, part, batch), daemon=True)
            process.start()
            there.close()
            self._ends.append(here)
            self._processes.append(process)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *error: object) -> None:
        for end in self._ends:
            end.close()
        for process in self._processes:
            process.join(10)

    def run(self, name: str, kind: str, case: str) -> Run:
        """A function that makes all processes run a library once, and waits for the last.

        Raises:
            PeerError: If a process cannot.
        """

        def once() -> None:
            for end in self._ends:
                end.send((name, kind, case))
            failures = [_answer(end) for end in self._ends]
            if any(failures):
                raise PeerError(next(filter(None, failures)))

        once()
        return once


def _answer(end: Connection) -> str:
    """The answer of a process: empty, or what went wrong."""
    if not end.poll(TIMEOUT):
        return f"no answer for {TIMEOUT} s"
    try:
        return str(end.recv())
    except EOFError:
        return "its process ended"


def _serve(end: Connection, part: list[Any], batch: int) -> None:
    prepare(0)
    torch.set_num_threads(1)
    images = [torch.from_numpy(array).permute(2, 0, 1) for array in part]
    ready: dict[Any, Any] = {}
    while True:
        try:
            key = name, kind, case = end.recv()
        except EOFError:  # the parent has closed the pipe, or has ended
            return
        try:
            if name not in ready:
                peer = enter(name, 1)
                ready[name] = peer, peer.prepare(images, batch)
            peer, prepared = ready[name]
            if key not in ready:
                ready[key] = peer.recipe(case) if kind == "recipes" else peer.op(case, False)
            exhaust(peer.run(ready[key], prepared), batch)
            end.send("")
        except Exception as error:
            end.send(words(error))
