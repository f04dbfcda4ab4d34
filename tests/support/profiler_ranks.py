"""What the ranks of test_profiler_step.py run."""

from __future__ import annotations

import time

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

import gpuaug as ga
from gpuaug.profiler.ranks import Rank
from tests.support import profiler_cases as cases

SLOW = 0.03  # seconds that the second rank needs more


def profiled(rank: int) -> list[Rank]:
    """The times of all ranks, as this one knows them: the second one is slow before its backward pass."""
    network = DistributedDataParallel(nn.Linear(2, 1))
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    loader = DataLoader(cases.Numbers(), cases.BATCH)
    with ga.profile(loader, ranks=True) as profile:
        for values, _ in loader:
            optimizer.zero_grad()
            loss = network(values.float()).square().mean()
            time.sleep(SLOW * rank)
            loss.backward()
            optimizer.step()
    return profile.report.ranks
