"""Python in a process of its own: one that may believe in a GPU, or must not have imported anything yet."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

__all__ = ["ENVIRONMENT", "pretending", "python"]

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def python(*arguments: str, **variables: str) -> str:
    """What `python *arguments` prints, in the root of the repository; it must end with 0."""
    command, environment = [sys.executable, *arguments], {**ENVIRONMENT, **variables}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def pretending(*arguments: str) -> str:
    """What `python *arguments` prints, a script that stands in for a GPU and runs kernels in Triton's interpreter."""
    if torch.cuda.is_available():
        pytest.skip("it stands in for a GPU that is missing")
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    return python(*arguments, TRITON_INTERPRET="1")
