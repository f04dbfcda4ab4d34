"""The example for Ray Data: what its actors augment are the pixels of a DeviceLoader."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gpuaug.demo import photographs

if importlib.util.find_spec("ray") is None:  # not imported here: it warns
    pytest.skip('needs Ray: pip install "gpuaug[ray]"', allow_module_level=True)

EXAMPLES = Path(__file__).parents[2] / "examples"

RECORDS = """
import sys
import ray, ray_data, torch
import gpuaug as ga
from torch.utils.data import DataLoader

args = ray_data.parser.parse_args(sys.argv[2:])
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100 * 2**20, _temp_dir=sys.argv[1])
epochs, augmented = [], ray_data.augmented


def recorded(*arguments):
    epochs.append({})
    for batch in augmented(*arguments):
        epochs[-1] |= dict(zip(batch["index"].tolist(), zip(batch["image"], batch["label"].tolist())))
        yield batch


ray_data.augmented = recorded
ray_data.main(args)
ray.shutdown()

folder = ga.data.ImageFolder(args.data)
augment = ga.Augment(ray_data.steps(args.size), seed=args.seed)
loader = ga.DeviceLoader(DataLoader(folder, 4, collate_fn=ga.ragged_collate), "cpu", augment)
plain = []
for epoch in range(args.epochs):
    loader.set_epoch(epoch)
    pairs = [pair for images, labels in loader for pair in zip(images, labels.tolist())]
    plain.append(dict(enumerate(pairs)))
torch.save((epochs, plain), "pixels.pt")
"""


@pytest.fixture
def ray_folder() -> Iterator[str]:
    """For sockets and logs; short, because a socket's path may have 107 bytes."""
    folder = tempfile.mkdtemp(prefix="ray-")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def run(cwd: Path, *command: object) -> str:
    """What it prints; warnings are errors, but for those of Ray about itself."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")]),
        "RAY_USAGE_STATS_ENABLED": "0",  # it would report to its makers
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    }
    filters = ["-W", "error", "-W", "ignore::DeprecationWarning:ray.data.context"]
    done = subprocess.run(
        [sys.executable, *filters, *map(str, command)],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ray_data(tmp_path: Path, ray_folder: str) -> None:
    for number, path in enumerate(photographs.paths()[:4]):  # of different sizes
        folder = tmp_path / "data" / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        for copy in range(2):
            shutil.copyfile(path, folder / f"{number}-{copy}.jpg")
    (tmp_path / "records.py").write_text(RECORDS)
    settings = ["--epochs", 2, "--batch", 3, "--size", 48, "--model", "shufflenet_v2_x0_5", "--seed", 7, "--actors", 2]
    printed = run(tmp_path, "records.py", ray_folder, "--data", "data", *settings)
    assert re.findall(r"^ +(\d) +8 +\d\.\d{3}$", printed, re.M) == ["1", "2"], printed

    by_ray, plain = torch.load(tmp_path / "pixels.pt", weights_only=True)
    assert len(by_ray) == len(plain) == 2
    for epoch in range(2):
        assert sorted(by_ray[epoch]) == list(range(8))
        assert all(equal(by_ray[epoch][number], plain[epoch][number]) for number in range(8))
        assert not any(equal(by_ray[epoch][number], plain[1 - epoch][number]) for number in range(8)), "another draw"


def equal(first: tuple[torch.Tensor, Any], second: tuple[torch.Tensor, Any]) -> bool:
    """Pixels and label."""
    return torch.equal(first[0], second[0]) and first[1] == second[1]
