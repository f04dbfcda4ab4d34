"""Training steps with a sleep in one of their phases."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor, nn

import gpuaug as ga
from gpuaug.profiler.model.trace import BACKWARD, FORWARD, OPTIMIZER, REST
from gpuaug.profiler.report import Report
from tests.support import profiler_cases as cases

SLOW = 0.012  # seconds of what is slow on purpose


class Slow(torch.autograd.Function):
    """A sleep forwards and another one backwards."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, there: float, back: float) -> Tensor:
        ctx.back = back
        time.sleep(there)
        return values.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        time.sleep(ctx.back)
        return grad, None, None


class Lazy(torch.optim.SGD):
    """An optimizer that sleeps."""

    seconds = 0.0

    def step(self, closure: Any = None) -> Any:
        found = super().step(closure)
        time.sleep(self.seconds)
        return found


class Job:
    """A small training step with a sleep in one of its phases."""

    def __init__(self, slow: str = "", closure: bool = False) -> None:
        self.seconds = {name: SLOW if name == slow else 0.0 for name in (FORWARD, BACKWARD, OPTIMIZER, REST)}
        self.network = nn.Linear(2, 1)
        self.optimizer = Lazy(self.network.parameters(), 0.1)
        self.optimizer.seconds = self.seconds[OPTIMIZER]
        self.closure = closure

    def loss(self, values: Tensor) -> Tensor:
        values = Slow.apply(values.float().requires_grad_(), self.seconds[FORWARD], self.seconds[BACKWARD])
        return self.network(values).square().mean()

    def __call__(self, batch: Any) -> None:
        def closure() -> Tensor:
            self.optimizer.zero_grad()
            loss = self.loss(batch[0])
            loss.backward()
            return loss

        if self.closure:
            self.optimizer.step(closure)
        else:
            closure()
            self.optimizer.step()
        time.sleep(self.seconds[REST])


def slow_report() -> Report:
    """Of a job whose backward pass is slow."""
    job = Job(BACKWARD)
    with ga.profile(cases.make("numbers")) as profile:
        for batch in profile.loader:
            job(batch)
    return profile.report
