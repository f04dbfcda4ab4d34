"""Ray Train: two workers that fail and are restored from a checkpoint. Ray Data is in tests/data/test_ray.py."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import gpuaug as ga
from tests.integration.frameworks import COUNT, NEEDED, QUIET, Net, Photos, digests, documented, framework, module

if "ray" not in NEEDED:
    pytest.skip("Ray Train takes a minute; .ci/integration runs this", allow_module_level=True)
framework("ray")
ray_torch = framework("ray.train.torch")
import ray  # noqa: E402
import ray.train  # noqa: E402

pytestmark = QUIET
ROOT = str(Path(__file__).parents[2])


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    folder = tempfile.mkdtemp(prefix="ray-")  # short, because a socket's path may have 107 bytes
    environment = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    paths = {"PYTHONPATH": ROOT}
    ray.init(
        num_cpus=3, include_dashboard=False, object_store_memory=100 * 2**20, _temp_dir=folder, log_to_driver=False,
        runtime_env={"env_vars": environment | paths},
    )  # fmt: skip
    yield
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


class FailedError(Exception):
    """What a worker raises after two epochs, to be started again from the checkpoint of the first."""


def loop(config: dict[str, Any]) -> None:
    """On each worker."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.augment, self.network = module(mix=False, seed=3), Net()

        def forward(self, images: Any, index: Any) -> Any:
            return self.network(self.augment(images, index=index))

    names = documented("Ray Train")
    rank = ray.train.get_context().get_world_rank()
    torch.manual_seed(rank)
    parallel = ray_torch.prepare_model(Model())
    model = parallel.module
    data = ga.data.Indexed(Photos())
    loader = ray_torch.prepare_data_loader(DataLoader(data, 4, shuffle=True, collate_fn=ga.ragged_collate))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    state, begin = names["load"](), 0
    if state is not None:
        begin = state["epoch"] + 1
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    attempt = "whole" if state is None else "again"
    for epoch in range(begin, 2):
        loader.sampler.set_epoch(epoch)
        model.augment.set_epoch(epoch)
        for images, labels, index in loader:
            nn.functional.cross_entropy(parallel(images, index), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
        shown = [picture for batch in model.network.pictures()[-len(loader) :] for picture in batch]
        values = [float(value.detach().double().sum()) for value in model.parameters()]
        Path(config["out"], f"{attempt}-{epoch}-{rank}").write_text(" ".join(shown) + "\n" + repr(values))
        if (epoch, attempt) == (1, "whole"):
            torch.distributed.barrier()  # both have noted theirs
            raise FailedError
        names["save"]({"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()})


def noted(out: Path, attempt: str, epoch: int) -> tuple[list[str], list[str]]:
    """The pictures of both ranks, and what their weights came to."""
    texts = [(out / f"{attempt}-{epoch}-{rank}").read_text().split("\n") for rank in range(2)]
    return [picture for text in texts for picture in text[0].split()], [text[1] for text in texts]


def test_workers_that_failed_go_on(cluster: None, tmp_path: Path) -> None:
    failures = ray.train.FailureConfig(max_failures=1)
    trainer = ray_torch.TorchTrainer(
        loop,
        train_loop_config={"out": str(tmp_path)},
        scaling_config=ray.train.ScalingConfig(num_workers=2, use_gpu=False),
        run_config=ray.train.RunConfig(name="run", storage_path=str(tmp_path), failure_config=failures),
    )
    assert trainer.fit().error is None
    assert not list(tmp_path.glob("again-0-*"))
    assert noted(tmp_path, "again", 1) == noted(tmp_path, "whole", 1)
    alone, data = module(mix=False, seed=3), ga.data.Indexed(Photos())
    for epoch in range(2):
        pictures, sums = noted(tmp_path, "whole", epoch)
        assert sums[0] == sums[1], "one model on both"
        alone.set_epoch(epoch)
        expected = [d for n in range(COUNT) for d in digests(alone(data[n][0][None], index=torch.tensor([n])))]
        assert sorted(pictures) == sorted(expected)
