"""The faults of Triton's interpreter are found where they are, and mended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton is not installed")
if os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("Triton's interpreter is not at hand", allow_module_level=True)

import triton.language as tl  # noqa: E402

from benchmarks.evidence import interpreter_faults as faults  # noqa: E402

ROOT = Path(__file__).parents[2]

UNMENDED = """
import json
from benchmarks.evidence import interpreter_faults as faults
found = [fault.probe() for fault in faults.FAULTS]
seen = [fault.seen(faults.version()) for fault in faults.FAULTS]
mended = [faults.mend(), faults.mend()]
print(json.dumps([found, seen, mended, [fault.probe() for fault in faults.FAULTS]]))
"""


def test_every_fault_is_where_it_was_seen_and_is_mended_once() -> None:
    """A version that brings a fault, or loses one, is noticed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", UNMENDED], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found, seen, (first, again), left = json.loads(done.stdout)
    assert found == seen
    assert first == [fault.what for fault, there in zip(faults.FAULTS, found, strict=True) if there]
    assert again == []
    assert left == [False] * len(faults.FAULTS)


def test_what_cannot_be_mended_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    stubborn = faults.Fault("it stays", lambda v: True, lambda: True, lambda: None)
    monkeypatch.setattr(faults, "FAULTS", (stubborn,))
    with pytest.raises(RuntimeError, match=r"interpreter: Triton .* still has what was mended: it stays"):
        faults.mend()


@triton.jit
def kernel(values, counts, out):
    total = 0.0
    for _ in range(tl.load(counts)):
        total += 2.0
    tl.store(out, total)
    pair = tl.load(values + tl.arange(0, 2))
    tl.store(out + 1 + tl.arange(0, 2), tl.maximum(pair, 1.0))
    tl.store(out + 3 + tl.arange(0, 2), tl.minimum(pair, 1.0))


def test_a_kernel_loops_and_passes_over_nan() -> None:
    out = torch.zeros(5)
    kernel[(1,)](torch.tensor([float("nan"), 3.0]), torch.tensor([4]), out)
    np.testing.assert_array_equal(out.numpy(), [8, 1, 3, 1, 1])
