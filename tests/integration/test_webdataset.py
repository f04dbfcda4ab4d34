"""WebDataset: shards of records, read in order or shuffled, by workers; augmented here or there."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

import gpuaug as ga
from tests.integration.frameworks import (
    BATCH,
    COUNT,
    QUIET,
    Net,
    Photos,
    check_training,
    digests,
    documented,
    equal,
    evaluated,
    flat,
    framework,
    module,
    weights,
)

wds = framework("webdataset")
pytestmark = QUIET
NAMES = documented("WebDataset")
DATA = ga.data.Indexed(Photos())


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two, of eleven images each."""
    folder = tmp_path_factory.mktemp("shards")
    paths = [str(folder / f"{shard}.tar") for shard in range(2)]
    for shard, path in enumerate(paths):
        with wds.TarWriter(path) as writer:
            for number in range(shard, COUNT, 2):
                image, label, _ = DATA[number]
                file = io.BytesIO()
                Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "PNG")
                writer.write({"__key__": f"{number:06d}", "png": file.getvalue(), "cls": label})
    return paths


def run(shards: list[str], workers: int, folder: Path, begin: int = 0) -> Net:
    torch.manual_seed(0)
    augment, net = module(), Net()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    val = NAMES["batches"](shards, augment, None, BATCH)
    parts = {"net": net, "augment": augment, "optimizer": optimizer}
    if begin:
        state = torch.load(folder / f"{begin}.pt")
        for name, part in parts.items():
            part.load_state_dict(state[name])
    for epoch in range(begin, 2):
        net.train()
        for images, targets in NAMES["batches"](shards, augment, epoch, BATCH, workers):
            nn.functional.cross_entropy(net(images), targets).backward()
            optimizer.step()
            optimizer.zero_grad()
        net.eval()
        for images, _ in val:
            net(images)
        torch.save({name: part.state_dict() for name, part in parts.items()}, folder / f"{epoch + 1}.pt")
    return net


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_after_an_epoch(shards: list[str], workers: int, tmp_path: Path) -> None:
    whole = run(shards, workers, tmp_path)
    check_training(whole)
    order = [number for shard in range(2) for number in range(shard, COUNT, 2)]
    expected = evaluated(DATA)
    assert flat(whole.pictures(training=False)) == 2 * [expected[number] for number in order]
    again = run(shards, workers, tmp_path, begin=1)
    assert again.pictures() == whole.pictures()[len(whole.pictures()) // 2 :]
    assert equal(weights(again), weights(whole))


def test_workers_and_order_change_no_draw(shards: list[str]) -> None:
    """The numbers in the keys do it."""

    def seen(workers: int) -> list[str]:
        augment, found = module(mix=False, seed=3), list[str]()
        for epoch in range(2):
            loader = NAMES["batches"](shards, augment, epoch, BATCH, workers)
            found += [picture for images, _ in loader for picture in digests(images)]
        return found

    alone, by_two = seen(0), seen(2)
    assert len(set(alone)) == 2 * COUNT
    assert alone != by_two
    assert sorted(alone) == sorted(by_two)


def test_resampled_shards_show_an_image_again_with_another_draw(shards: list[str]) -> None:
    augment = module(mix=False)
    data = wds.WebDataset(shards, resampled=True, shardshuffle=False).decode("pil").map(NAMES["sample"])
    loader = wds.WebLoader(data.batched(BATCH, collation_fn=ga.ragged_collate).with_epoch(20), batch_size=None)
    seen = [
        picture
        for _ in range(2)
        for images, _ in ga.DeviceLoader(loader, "cpu", augment)
        for picture in digests(images)
    ]
    assert len(seen) >= 40 * 2
    assert len(set(seen)) == len(seen)


class Augmented:
    """A step of the pipeline that augments batches where it runs."""

    def __init__(self, augment: ga.Augment, indexed: bool) -> None:
        self.augment, self.indexed = augment, indexed

    def __call__(self, batch: Any) -> Any:
        images, labels, index = batch
        return self.augment(images, labels, index=index if self.indexed else None)


@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("workers", [0, 2])
def test_augmented_in_workers(shards: list[str], workers: int, indexed: bool) -> None:
    torch.manual_seed(0)
    augment = module()
    data = wds.WebDataset(shards, shardshuffle=False).decode("pil").map(NAMES["sample"])
    data = data.batched(BATCH, collation_fn=ga.ragged_collate).map(Augmented(augment, indexed))
    loader = wds.WebLoader(data, batch_size=None, num_workers=workers)
    seen = list[str]()
    for _ in range(3):
        for images, targets in loader:
            assert targets.shape == (len(images), 4)
            seen += digests(images)
    assert len(set(seen)) == len(seen) == 3 * COUNT
