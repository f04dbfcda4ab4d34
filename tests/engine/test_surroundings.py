"""What surrounds a program: torch's default device, and the folder in which Numba keeps what it compiled."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import gpuaug as ga
from tests.support.files import folder
from tests.support.helpers import BACKENDS, CLASSES, labels, noise, pipeline


@contextmanager
def elsewhere() -> Iterator[None]:
    """New tensors are made on a device without memory, unless told."""
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@pytest.mark.parametrize("op", ga.OPS, ids=lambda op: op.__name__)
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_op_under_another_default_device(backend: str, op: Any) -> None:
    images, given, index = noise(4, 3, 24, 24), labels(4), torch.arange(4)
    expected = ga.Augment(pipeline(op), seed=1, backend=backend)(images, given, index=index)
    with elsewhere():
        result = ga.Augment(pipeline(op), seed=1, backend=backend)(images, given, index=index)
    assert all(torch.equal(one, other) for one, other in zip(result, expected, strict=True))


def test_conversion_and_export_under_another_default_device() -> None:
    from torchvision import transforms as v1

    theirs = [v1.ToTensor(), v1.RandomCrop(16, padding=2), v1.Normalize(0.5, 0.5)]
    expected = ga.from_torchvision(theirs)
    plain = ga.Augment(expected).eval_module(20)(noise(2, 3, 20, 20))
    with elsewhere():
        assert ga.from_torchvision(theirs) == expected
        module = ga.Augment(expected).eval_module(20)
    assert torch.equal(module(noise(2, 3, 20, 20)), plain)


@pytest.mark.parametrize("where", ["worker", "device"])
def test_data_under_another_default_device(where: str, tmp_path: Path) -> None:
    """Without torch's DataLoader, which needs memory on the default device."""
    root = folder(tmp_path)
    train = [ga.RandomResizedCrop(16), ga.ToDtype(torch.float32), ga.MixUp(num_classes=CLASSES)]

    def shown() -> list[Any]:
        dataset = ga.data.ImageFolder(root, decode=where, on_error="skip")
        samples = [dataset[number] for number in ga.data.RepeatedAugmentationSampler(dataset, 2)]
        batches = [ga.ragged_collate(samples[start : start + 5]) for start in (0, 5)]
        return list(ga.DeviceLoader(batches, "cpu", ga.Augment(train, seed=1)))

    expected = shown()
    with elsewhere():
        result = shown()
    assert len(result) == len(expected) == 2
    for one, other in zip(result, expected, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


# ---- Numba -----------------------------------------------------------------------------------------------------------

CALL = """
import warnings, sys, torch
warnings.simplefilter("always")
{before}
import gpuaug as ga
images = torch.arange(2 * 3 * 9 * 9).reshape(2, 3, 9, 9).to(torch.uint8)
result = ga.Augment([ga.RandomInvert(p=1.0)], seed=1)(images)
assert torch.equal(result, 255 - images)
print("right")
"""


def run(before: str = "", **environment: str) -> str:
    """What a call in a process of its own warns of."""
    given = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    code = [sys.executable, "-c", CALL.format(before=before)]
    done = subprocess.run(code, capture_output=True, text=True, timeout=300, env=given, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "right" in done.stdout
    return done.stderr


def test_numba_that_does_not_compile() -> None:
    pytest.importorskip("numba")
    warned = run(NUMBA_DISABLE_JIT="1")
    assert "gpuaug: Numba is installed but does not work (NUMBA_DISABLE_JIT is set); the slower torch backend" in warned


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Compiles a small kernel, kept in the folder that is given."""
    numba = pytest.importorskip("numba")
    from gpuaug.kernels.numba.runtime import jit

    file = tmp_path / "small.py"
    file.write_text("def double(number):\n    return 2 * number\n")
    spec = importlib.util.spec_from_file_location("small", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "small", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(jit, "_warned", set())

    def compile(cache: str) -> Any:
        monkeypatch.setattr(numba.config, "CACHE_DIR", cache)
        return jit.kernel(module.double)

    return compile


def test_a_cache_folder_that_cannot_be_made(tmp_path: Path, compiled: Callable[[str], Any]) -> None:
    (tmp_path / "file").write_text("no folder")
    assert compiled(str(tmp_path / "file" / "cache"))(21) == 42


def test_a_cache_folder_that_is_full(
    tmp_path: Path, compiled: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from numba.core import caching

    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    double = compiled(str(tmp_path / "cache"))
    monkeypatch.setattr(caching.IndexDataCacheFile, "_open_for_write", full)
    with pytest.warns(UserWarning, match=r"gpuaug: compiled kernels are not kept in .*No space left.* NUMBA_CACHE_DIR"):
        assert double(21) == 42
    assert double(1.5) == 3.0  # said once


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("length", [0, 9, 40])
def test_a_cache_whose_files_are_cut_short(
    tmp_path: Path, compiled: Callable[[str], Any], length: int, ending: str
) -> None:
    """By an end of the machine while they were written."""
    cache = str(tmp_path / "cache")
    assert compiled(cache)(21) == 42
    kept = compiled(cache)
    assert kept(21) == 42
    assert sum(kept.stats.cache_hits.values()) == 1, "nothing was kept: this test sees nothing"
    (file,) = (tmp_path / "cache").rglob(f"*.{ending}")
    file.write_bytes(file.read_bytes()[:length])
    with pytest.warns(UserWarning, match="gpuaug: compiled kernels are not kept in"):
        assert compiled(cache)(21) == 42
