"""One recipe by one way in a process that can be given up, as torch.compile may take minutes; started by `speed`."""

from __future__ import annotations

import json
import os
import sys

from .results import Options, Results, run
from .speed import APART, Layer, Speed

__all__ = ["measure"]


def measure(results: Results, options: Options) -> None:
    """What the variable APART says."""
    asked = json.loads(os.environ[APART])
    speed = Speed(results, options)
    speed.ceiling()
    speed.layer(Layer(asked["batch"], (asked["way"],), (asked["recipe"],)))


if __name__ == "__main__":
    sys.exit(run("apart", measure))
