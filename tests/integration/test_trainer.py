"""Hugging Face's Trainer and datasets: train, evaluate, save as safetensors, resume in the middle of an epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional

import gpuaug as ga
from tests.integration.frameworks import (
    BATCH,
    COUNT,
    QUIET,
    STEPS,
    Net,
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
from tests.support.helpers import noise

transformers = framework("transformers")
datasets = framework("datasets")
framework("accelerate")
pytestmark = QUIET
NAMES = documented("Trainer")


@pytest.fixture(scope="module")
def data() -> Any:
    """A data set of images on disk's format, PNG, in memory."""
    images = [Image.fromarray(noise(1, 3, 20 + n % 5, 24, seed=n)[0].permute(1, 2, 0).numpy()) for n in range(COUNT)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = {"image": images, "label": [n % 4 for n in range(COUNT)]}
    return NAMES["indexed"](datasets.Dataset.from_dict(rows, features=features))


class Noted(NAMES["Model"]):  # type: ignore[misc]
    """It keeps the targets of the loss."""

    def __init__(self, augment: ga.Augment) -> None:
        super().__init__(augment, Net())


def run(data: Any, folder: Path, resumed: str | None = None, told: bool = True) -> Any:
    torch.manual_seed(0)
    model = Noted(module())
    options = transformers.TrainingArguments(
        str(folder), num_train_epochs=2, per_device_train_batch_size=BATCH, per_device_eval_batch_size=BATCH,
        save_strategy="steps", save_steps=1, eval_strategy="epoch", remove_unused_columns=False, report_to=[],
        use_cpu=True, disable_tqdm=True, learning_rate=0.1, seed=5, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = transformers.Trainer(
        model, options, data_collator=NAMES["collate"], train_dataset=data, eval_dataset=data,
        callbacks=[NAMES["Epochs"]()] if told else [],
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resumed)
    return model


@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
def test_a_run_goes_on_after_any_step(data: Any, told: bool, tmp_path: Path) -> None:
    whole = run(data, tmp_path / "whole", told=told)
    check_training(whole.network)
    expected = evaluated([(functional.pil_to_tensor(row["image"]),) for row in data])
    assert flat(whole.network.pictures(training=False)) == 2 * expected
    assert (tmp_path / "whole" / "checkpoint-2" / "model.safetensors").exists()
    for step in (2, STEPS, STEPS + 3):
        again = run(data, tmp_path / f"again{step}", str(tmp_path / "whole" / f"checkpoint-{step}"), told)
        assert again.augment.seed == whole.augment.seed
        assert again.network.pictures() == whole.network.pictures()[step:]
        assert equal(weights(again), weights(whole))


def test_mixed_labels_reach_the_loss(data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = list[Tensor]()
    original = torch.nn.functional.cross_entropy

    def noted(scores: Tensor, target: Tensor) -> Tensor:
        targets.append(target)
        return original(scores, target)

    monkeypatch.setattr(NAMES["F"], "cross_entropy", noted)
    run(data, tmp_path)
    training = [target for target in targets if target.ndim == 2]
    assert len(training) == 2 * STEPS
    assert any(((target > 0).sum(1) > 1).any() for target in training)
    assert len(targets) == 4 * STEPS, "evaluation has plain labels"


def test_a_stream_of_datasets(data: Any) -> None:
    """A DeviceLoader tells the epoch to the data set, which shuffles by it; the look is of the row's number."""
    stream = data.to_iterable_dataset(num_shards=2).shuffle(seed=3, buffer_size=10)
    batches = ga.DeviceLoader(DataLoader(stream, BATCH, collate_fn=NAMES["pack"]), "cpu", module(mix=False, seed=3))

    def shown(epoch: int) -> list[str]:
        batches.set_epoch(epoch)
        return [picture for images, _ in batches for picture in digests(images)]

    first, second = shown(0), shown(1)
    assert len({*first, *second}) == 2 * COUNT
    assert shown(0) == first
    alone = ga.DeviceLoader(DataLoader(data, BATCH, collate_fn=NAMES["pack"]), "cpu", module(mix=False, seed=3))
    in_order = [picture for images, _ in alone for picture in digests(images)]
    assert in_order != first
    assert sorted(in_order) == sorted(first)


class Config(transformers.PretrainedConfig):  # type: ignore[misc]
    model_type = "augmented"


class Pretrained(transformers.PreTrainedModel):  # type: ignore[misc]
    config_class = Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.augment, self.network = module(), Net()
        self.post_init()

    def forward(self, images: Any, index: Tensor | None = None) -> Tensor:
        return self.network(self.augment(images, torch.zeros(len(images), dtype=torch.int64), index=index)[0])


def test_save_pretrained_keeps_the_state(tmp_path: Path) -> None:
    model = Pretrained(Config()).train()
    model.augment.set_epoch(3)
    images, index = noise(4), torch.arange(4)
    model(images, index)
    model.save_pretrained(tmp_path)
    again = Pretrained.from_pretrained(tmp_path).train()
    assert (again.augment.seed, again.augment.epoch) == (model.augment.seed, 3)
    for one in (again, model):
        one.augment.set_epoch(3)
        one(images, index + 9)
    assert again.network.pictures()[-1] == model.network.pictures()[-1]
