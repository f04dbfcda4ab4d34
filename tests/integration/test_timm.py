"""timm: create_loader, ModelEma, CheckpointSaver, a model of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

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

timm = framework("timm")
from timm import data, models, utils  # noqa: E402

pytestmark = QUIET
NAMES = documented("timm")
KEPT = COUNT // BATCH * BATCH  # timm drops the last batch of training


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("timm")
    for number, (image, label) in enumerate(Photos()[n] for n in range(COUNT)):
        (root / str(label)).mkdir(exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(root / str(label) / f"{number}.png")
    return root


class Model(nn.Module):
    """A backbone of timm's behind a network that notes pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Net()
        self.backbone = models.create_model("test_vit", num_classes=4, img_size=16, patch_size=8)

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images) + self.backbone(images)


def passes(loader: Any, model: Any, optimizer: Any, epochs: Iterator[int] | range, ema: Any = None) -> None:
    for epoch in epochs:
        loader.set_epoch(epoch)
        model.train()
        for images, targets in loader:
            loss = nn.functional.cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if ema is not None:
                ema.update(model)


@pytest.mark.parametrize("workers", [0, 2])
def test_create_loader(folder: Path, workers: int) -> None:
    torch.manual_seed(0)
    dataset = data.create_dataset("folder", str(folder))
    augment, model = module(), Model()
    train = NAMES["batches"](dataset, augment, True, BATCH, workers)
    val = NAMES["batches"](data.create_dataset("folder", str(folder)), augment, False, BATCH)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for epoch in range(2):
        passes(train, model, optimizer, range(epoch, epoch + 1))
        model.eval()
        with torch.inference_mode():
            for images, labels in val:
                model(images)
                assert labels.dtype == torch.int64
    check_training(model.network, count=KEPT)
    assert flat(model.network.pictures(training=False)) == 2 * evaluated(val.dataset)


@pytest.mark.parametrize("version", ["ModelEma", "ModelEmaV2", "ModelEmaV3"])
@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
def test_averages_beside_a_module_in_the_model(folder: Path, version: str, told: bool, tmp_path: Path) -> None:
    """The average is validated in the middle, saved with the model, and both go on."""
    dataset = ga.data.Indexed(data.create_dataset("folder", str(folder)))
    options = {"batch_size": BATCH, "is_training": True, "use_prefetcher": False, "collate_fn": ga.ragged_collate}

    def run(averaged: bool, epochs: range = range(2), resumed: str | None = None) -> Any:
        torch.manual_seed(0)
        model = nn.ModuleDict({"augment": module(), "network": Net()})
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        if resumed is not None:
            models.resume_checkpoint(model, resumed, optimizer, log_info=False)
        ema = getattr(utils, version)(model, decay=0.5) if averaged else None
        if resumed is not None and averaged:
            models.load_checkpoint(ema.ema if version == "ModelEma" else ema.module, resumed, use_ema=True)
        for epoch in epochs:
            torch.manual_seed(epoch)  # of the shuffle
            if told:
                model["augment"].set_epoch(epoch)
            for raw, labels, index in data.create_loader(dataset, input_size=16, **options):
                images, targets = model["augment"](raw, labels, index=index)
                nn.functional.cross_entropy(model["network"](images), targets).backward()
                optimizer.step()
                optimizer.zero_grad()
                if ema is not None:
                    ema.update(model)
            if ema is not None:
                inner = (ema.ema if version == "ModelEma" else ema.module).eval()
                assert digests(inner["augment"](raw)) == evaluated([(image,) for image in raw])
                if len(epochs) == 2 and epoch == 0:
                    saver = utils.CheckpointSaver(model, optimizer, model_ema=ema, checkpoint_dir=str(tmp_path))
                    saver.save_checkpoint(epoch)
        return model, ema

    plain, _ = run(False)
    whole, ema = run(True)
    check_training(whole["network"], count=KEPT)
    assert whole["network"].pictures() == plain["network"].pictures()
    assert equal(weights(whole), weights(plain))
    again, average = run(True, range(1, 2), str(tmp_path / "checkpoint-0.pth.tar"))
    assert again["network"].pictures() == whole["network"].pictures()[KEPT // BATCH :]
    assert equal(weights(again), weights(whole))
    parts = [one.ema if version == "ModelEma" else one.module for one in (ema, average)]
    assert equal(weights(parts[0]), weights(parts[1]))


def test_batches_of_timms_own_collate() -> None:
    """Stacked uint8 images without an index: the counter numbers them."""
    from timm.data.loader import fast_collate

    stacked = [(image[:, :20, :20].numpy(), label) for image, label in map(Photos().__getitem__, range(COUNT))]
    augment = module()
    options = {"batch_size": BATCH, "is_training": True, "use_prefetcher": False, "collate_fn": fast_collate}
    loader = ga.DeviceLoader(data.create_loader(Listed(stacked), input_size=16, **options), "cpu", augment)
    seen = [picture for _ in range(2) for images, _ in loader for picture in digests(images)]
    assert len(set(seen)) == len(seen) == 2 * KEPT


class Listed(list[Any]):
    """A list that takes the transform that timm sets."""

    transform: Any = None
