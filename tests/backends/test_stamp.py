"""Machine code that is kept on disk is of the values that stand in the files now."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import gpuaug as ga

pytest.importorskip("numba", reason="Numba is not installed")

PACKAGE = Path(ga.__file__).parent
CODE = """
import numpy as np
from gpuaug.kernels.numba.jpeg import jpeg, scratch_size
canvas = (np.arange(64, dtype=np.uint8).reshape(1, 8, 8) * 37) % 251
out = np.empty_like(canvas)
jpeg(canvas, 50, out, np.empty(scratch_size(1, 8, 8), np.int16))
print(out.ravel().tolist(), jpeg.stats.cache_hits[jpeg.signatures[0]])
"""


def run(folder: Path) -> tuple[str, bool]:
    """The pixels, and whether the machine code was found on disk."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(folder / "kept")}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    pixels, _, hits = done.stdout.strip().rpartition(" ")
    return pixels, hits == "1"


def test_a_changed_table_is_seen(tmp_path: Path) -> None:
    """The tables of JPEG stand in kernels/jpeg.py, and machine code holds them."""
    shutil.copytree(PACKAGE, tmp_path / "gpuaug", ignore=shutil.ignore_patterns("__pycache__"))
    before, found = run(tmp_path)
    assert not found
    assert run(tmp_path) == (before, True), "machine code is kept"
    file = tmp_path / "gpuaug" / "kernels" / "jpeg.py"
    text = file.read_text()
    assert text.count("*(16, 11, 10, 16, 24, 40, 51, 61)") == 1
    file.write_text(text.replace("*(16, 11, 10, 16, 24, 40, 51, 61)", "*(96, 91, 90, 96, 94, 90, 91, 91)"))
    after, found = run(tmp_path)
    assert not found
    assert after != before


def test_the_stamp_is_of_all_that_the_kernels_import() -> None:
    from gpuaug.kernels.numba.runtime.jit import baked

    found = {file.relative_to(PACKAGE).as_posix() for file in baked()}
    assert {"instructions.py", "philox.py", "kernels/jpeg.py"} <= found
    assert {file.relative_to(PACKAGE).as_posix() for file in (PACKAGE / "kernels" / "numba").rglob("*.py")} <= found
    assert "augment.py" not in found
    assert not any(file.startswith(("kernels/torch/", "kernels/triton/")) for file in found)


def test_imports_are_found_however_they_are_written(tmp_path: Path) -> None:
    from gpuaug.kernels.numba.runtime.jit import baked

    kernels = tmp_path / "kernels" / "numba"
    kernels.mkdir(parents=True)
    texts = {
        "kernels/numba/a.py": "import gpuaug.one\nfrom gpuaug import two\nfrom gpuaug.three import (\n    X,\n)\n",
        "one.py": "def f():\n    from gpuaug.four import five\n",
        "four/__init__.py": "", "four/five.py": "", "four/six.py": "",
        "two.py": "", "three.py": "", "seven.py": "", "__init__.py": "",
    }  # fmt: skip
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    found = {file.relative_to(tmp_path).as_posix() for file in baked(tmp_path)}
    assert found == {"kernels/numba/a.py", "one.py", "two.py", "three.py", "four/__init__.py", "four/five.py"}
