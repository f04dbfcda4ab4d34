"""`pytest benchmarks` keeps every run in .benchmarks and compares it with the last one; pytest alone does not."""

from __future__ import annotations

import pytest
import torch


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """As if --benchmark-autosave --benchmark-compare had been given, the latter from the second run on."""
    if not config.option.keyword:  # a part of the suite would hide the rest from the next comparison
        config.option.benchmark_autosave = "run"
    config.option.benchmark_columns = ["median", "iqr", "rounds"]
    config.option.benchmark_group_by = "fullname"  # the figures to compare stand below one another
    if any((config.rootpath / ".benchmarks").rglob("*.json")) and not config.option.benchmark_compare:
        config.option.benchmark_compare = True


@pytest.fixture(autouse=True)
def one_thread() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
