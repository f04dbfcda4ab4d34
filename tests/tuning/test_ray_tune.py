"""The example for Ray Tune: every setting is trained with every seed, and ranked."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.images import small_cifar

if importlib.util.find_spec("ray") is None:  # not imported here: it warns
    pytest.skip('needs Ray: pip install "gpuaug[ray]"', allow_module_level=True)

EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = """
import sys
import ray
folder, *sys.argv[1:] = sys.argv[1:]
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, _temp_dir=folder)
import tune_ray
tune_ray.SETTINGS = {"num_ops": [1], "magnitude": [5], "mix_p": [0.0, 0.4]}
tune_ray.main()
"""


def test_the_example(tmp_path: Path) -> None:
    folder = tempfile.mkdtemp(prefix="ray-")  # short, because a socket's path may have 107 bytes
    settings = ["--data", small_cifar(tmp_path / "data"), "--per-class", 2, "--validation", 2, "--epochs", 2]
    command = [sys.executable, "-c", SCRIPT, folder, *settings, "--batch", 3, "--seeds", 1, "--out", tmp_path / "runs"]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")]),
        "RAY_USAGE_STATS_ENABLED": "0",  # it would report to its makers
    }
    try:
        done = subprocess.run(
            [*map(str, command)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"^ *(?:1 +)?(?:5 +)?(0\.[04]) +(\d\.\d+) +NaN +1$", done.stdout, re.M)
    assert {share for share, _ in found} == {"0.0", "0.4"}, done.stdout
