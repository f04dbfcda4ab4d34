"""`ga.adapters.attach_to_trainer`: models of transformers as they are, with the Trainer's own loop and checkpoints."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

import gpuaug as ga
from tests.integration.frameworks import (
    BATCH,
    CLASSES,
    COUNT,
    QUIET,
    STEPS,
    Net,
    check_training,
    digests,
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


@pytest.fixture(scope="module")
def data() -> Any:
    images = [Image.fromarray(noise(1, 3, 20 + n % 5, 24, seed=n)[0].permute(1, 2, 0).numpy()) for n in range(COUNT)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(CLASSES)})
    return datasets.Dataset.from_dict({"image": images, "label": [n % 4 for n in range(COUNT)]}, features=features)


class Config(transformers.PretrainedConfig):  # type: ignore[misc]
    model_type = "small"


class Model(transformers.PreTrainedModel):  # type: ignore[misc]
    """As the image classifiers of transformers are called, with their loss."""

    config_class = Config
    main_input_name = "pixel_values"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.network = Net()
        self.post_init()

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> Any:
        logits = self.network(pixel_values)
        loss = None
        if labels is not None:
            from transformers.loss.loss_utils import ForSequenceClassificationLoss

            loss = ForSequenceClassificationLoss(labels, logits, self.config)
        return transformers.modeling_outputs.ImageClassifierOutput(loss=loss, logits=logits)


def options(folder: Path, **others: Any) -> Any:
    return transformers.TrainingArguments(
        str(folder), per_device_train_batch_size=BATCH, per_device_eval_batch_size=BATCH, save_strategy="steps",
        save_steps=1, report_to=[], use_cpu=True, disable_tqdm=True, learning_rate=0.1,
        seed=5, dataloader_pin_memory=False, **{"num_train_epochs": 2, "eval_strategy": "epoch", **others},
    )  # fmt: skip


def trainer_of(data: Any, folder: Path, augment: ga.Augment, more: Any = None, **others: Any) -> Any:
    torch.manual_seed(0)
    model = Model(Config(num_labels=CLASSES))
    trainer = transformers.Trainer(
        model, options(folder, **others), train_dataset=data, eval_dataset=data, **(more or {})
    )
    return ga.adapters.attach_to_trainer(trainer, augment)


def run(data: Any, folder: Path, resumed: str | None = None, **others: Any) -> Any:
    trainer = trainer_of(data, folder, module(seed=7), **others)
    trainer.train(resume_from_checkpoint=resumed)
    return trainer


def pixels_of(data: Any) -> list[Any]:
    return [(functional.pil_to_tensor(row["image"]),) for row in data]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_after_any_step(data: Any, tmp_path: Path, workers: int) -> None:
    whole = run(data, tmp_path / "whole", dataloader_num_workers=workers)
    net = whole.model.network
    check_training(net)
    assert flat(net.pictures(training=False)) == 2 * evaluated(pixels_of(data))
    state = json.loads((tmp_path / "whole" / "checkpoint-2" / "trainer_state.json").read_text())
    assert len(state["stateful_callbacks"]["gpuaug"]) < 20, "integers"
    for step in (2, STEPS, STEPS + 3) if workers == 0 else ():
        again = run(data, tmp_path / f"again{step}", str(tmp_path / "whole" / f"checkpoint-{step}"))
        assert again.model.network.pictures() == net.pictures()[step:]
        assert equal(weights(again.model), weights(whole.model))


def test_a_seed_that_was_drawn_is_in_the_checkpoint(data: Any, tmp_path: Path) -> None:
    augment = module()
    trainer_of(data, tmp_path, augment).train()
    again = module()
    trainer = trainer_of(data, tmp_path, again)
    assert again.seed != augment.seed
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert again.seed == augment.seed


def test_draws_are_those_of_the_images_and_epochs(data: Any, tmp_path: Path) -> None:
    """With any order: each image has the draw of its number."""
    augment = module(mix=False, seed=3)
    trainer = trainer_of(data, tmp_path, augment)
    trainer.train()
    alone, expected = module(mix=False, seed=3), []
    for epoch in range(2):
        alone.set_epoch(epoch)
        for number, (image,) in enumerate(pixels_of(data)):
            expected += digests(alone(image[None], index=torch.tensor([number])))
    assert sorted(flat(trainer.model.network.pictures())) == sorted(expected)


def test_the_loss_of_a_mix_is_the_cross_entropy(data: Any, tmp_path: Path) -> None:
    """Without the adapter a model of transformers takes another, for all of the run."""
    trainer = run(data, tmp_path)
    assert trainer.model.config.problem_type is None
    logged = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    net = trainer.model.network
    batch = torch.cat([module().eval()(image[None]) for (image,) in pixels_of(data)])
    expected = nn.functional.cross_entropy(net(batch), torch.arange(COUNT) % 4)
    torch.testing.assert_close(torch.tensor(logged[-1]), expected.detach(), rtol=1e-4, atol=1e-4)
    model = Model(Config(num_labels=CLASSES))
    soft = torch.full((COUNT, CLASSES), 0.25)
    loss = model(batch, soft).loss
    assert model.config.problem_type == "multi_label_classification"
    assert not torch.allclose(loss, nn.functional.cross_entropy(model(batch).logits, soft))


def test_steps_that_are_accumulated_weigh_images_alike(data: Any, tmp_path: Path) -> None:
    """Two half batches give the gradient of the whole one."""
    few = data.select(range(8))
    found = []
    for size, steps in ((4, 1), (2, 2)):
        trainer = trainer_of(
            few, tmp_path / str(size), module(mix=False, seed=3), {"compute_loss_func": loss_func()},
            num_train_epochs=1, gradient_accumulation_steps=steps,
        )  # fmt: skip
        trainer.args.per_device_train_batch_size = trainer._train_batch_size = size
        trainer.train()
        found.append(weights(trainer.model))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-4, atol=1e-5)


def loss_func() -> Any:
    from gpuaug.interop.adapters.trainer import cross_entropy

    return cross_entropy


def test_a_collate_function_of_the_user_stays(data: Any, tmp_path: Path) -> None:
    called = list[int]()
    pack = ga.adapters.trainer_collate()

    def mine(samples: Any) -> Any:
        called.append(len(samples))
        return pack(samples)

    trainer = trainer_of(data, tmp_path, module(), {"data_collator": mine})
    assert trainer.train_dataset is data
    trainer.train()
    assert sum(called) == 4 * COUNT
    check_training(trainer.model.network)


def test_a_stream_draws_anew_in_each_pass(data: Any, tmp_path: Path) -> None:
    """The Trainer does not know the length of an epoch, so `state.epoch` stays below 1."""
    stream = data.add_column("index", list(range(COUNT))).to_iterable_dataset()
    torch.manual_seed(0)
    model = Model(Config(num_labels=CLASSES))
    arguments = options(tmp_path, max_steps=2 * STEPS, eval_strategy="no")
    trainer = transformers.Trainer(model, arguments, train_dataset=stream)
    ga.adapters.attach_to_trainer(trainer, module(mix=False, seed=3), index="index")
    trainer.train()
    check_training(model.network)


def test_predictions_need_no_labels(data: Any, tmp_path: Path) -> None:
    trainer = trainer_of(data, tmp_path, module())
    result = trainer.predict(data)
    assert result.predictions.shape == (COUNT, CLASSES)
    assert result.label_ids.tolist() == [n % 4 for n in range(COUNT)]
    assert flat(trainer.model.network.pictures(training=False)) == evaluated(pixels_of(data))


def test_arguments(data: Any, tmp_path: Path) -> None:
    trainer = trainer_of(data, tmp_path, module())
    with pytest.raises(ValueError, match="`trainer` must be one without a module"):
        ga.adapters.attach_to_trainer(trainer, module())
    with pytest.raises(ValueError, match=r"`trainer` must be a transformers\.Trainer, got 3"):
        ga.adapters.attach_to_trainer(3, module())  # type: ignore[type-var]
    with pytest.raises(ValueError, match="one without label smoothing, as the list mixes"):
        trainer_of(data, tmp_path, module(), label_smoothing_factor=0.1)
    trainer_of(data, tmp_path, module(mix=False), label_smoothing_factor=0.1)
    with pytest.raises(ValueError, match="`label` must be the name of a field"):
        ga.adapters.trainer_collate(label=3)  # type: ignore[arg-type]


def test_the_collate_function_can_be_pickled() -> None:
    pack = pickle.loads(pickle.dumps(ga.adapters.trainer_collate("picture", pixels="pixels")))
    batch = pack([{"picture": noise(1, 3, 8, 9)[0], "label": 2}])
    assert set(batch) == {"pixels", "labels"}
    assert batch["labels"].tolist() == [2]
