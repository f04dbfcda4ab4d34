"""Runs pytest as if some packages were not installed:

python tests/support/without.py kornia,ray -m gpu --collect-only
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any

import pytest


class Without:
    """A finder of modules that does not find some packages; they are then as if they were not installed."""

    def __init__(self, finder: Any, packages: Collection[str]) -> None:
        self.finder, self.packages = finder, packages

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return None if name.partition(".")[0] in self.packages else self.finder.find_spec(name, path, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.finder, name)


if __name__ == "__main__":
    hidden = sys.argv[1].split(",")
    sys.meta_path[:] = [Without(finder, hidden) for finder in sys.meta_path]
    sys.exit(pytest.main(sys.argv[2:]))
