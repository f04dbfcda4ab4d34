"""`ga.profiler.lightning_callback` and `trainer_callback`: a report of the training that the frameworks run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import gpuaug as ga
from gpuaug.profiler.callbacks import _TrainerProfile
from tests.integration.frameworks import QUIET, equal, framework, weights

pytestmark = QUIET
BATCHES, BATCH = 20, 4
PHASES = {"forward", "backward", "optimizer"}


def data() -> TensorDataset:
    generator = torch.Generator().manual_seed(3)
    values = torch.rand(BATCHES * BATCH, 4, generator=generator)
    return TensorDataset(values, values.sum(1).long() % 3)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def check_report(report: Any, batches: int) -> None:
    assert len(report.trace.batches) == batches
    assert {row.name for row in report.stages if row.place == "step"} >= PHASES
    assert report.memory.main > 0


# ---- Lightning -------------------------------------------------------------------------------------------------------


def lightning_run(callbacks: list[Any], workers: int = 1, fail: bool = False) -> tuple[Any, DataLoader[Any]]:
    lightning = framework("lightning")

    class Plain(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def training_step(self, batch: Any, number: int) -> Tensor:
            if fail and number == 3:
                raise KeyError("three")
            return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

        def validation_step(self, batch: Any, number: int) -> None:
            self.network(batch[0])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    shuffle = {"shuffle": True, "generator": torch.Generator().manual_seed(1)}
    loader = DataLoader(data(), BATCH, num_workers=workers, **shuffle)
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = lightning.Trainer(max_epochs=2, callbacks=callbacks, enable_model_summary=False, **options)
    module = Plain()
    trainer.fit(module, loader, DataLoader(data(), BATCH))
    return module, loader


def test_lightning_is_profiled_from_its_first_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    framework("lightning")
    callback = ga.profiler.lightning_callback(save=tmp_path / "report.json")
    module, loader = lightning_run([callback])
    check_report(callback.profile.report, 2 * BATCHES)
    assert "Verdict" in capsys.readouterr().out
    check_report(ga.profiler.load(tmp_path / "report.json"), 2 * BATCHES)
    assert type(loader) is DataLoader
    plain, _ = lightning_run([])
    assert equal(weights(module), weights(plain))


def test_lightning_that_fails_leaves_the_loader_as_it_was() -> None:
    framework("lightning")
    before = torch.autograd.backward
    callback = ga.profiler.lightning_callback()
    with pytest.raises(KeyError, match="three"):
        lightning_run([callback], fail=True)
    assert torch.autograd.backward is before
    assert type(callback.profile.loader) is DataLoader


# ---- Trainer ---------------------------------------------------------------------------------------------------------


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, values: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        scores = self.network(values)
        return {"logits": scores} if labels is None else {"loss": nn.functional.cross_entropy(scores, labels)}


def collate(samples: list[Any]) -> dict[str, Tensor]:
    return {"values": torch.stack([s[0] for s in samples]), "labels": torch.stack([s[1] for s in samples])}


def trainer_run(callbacks: list[Any], folder: Path) -> nn.Module:
    transformers = framework("transformers")
    framework("accelerate")
    arguments = transformers.TrainingArguments(
        output_dir=str(folder), num_train_epochs=2, per_device_train_batch_size=BATCH, report_to=[], use_cpu=True,
        save_strategy="no", disable_tqdm=True, seed=5, dataloader_num_workers=1, remove_unused_columns=False,
        learning_rate=0.1, label_names=["labels"],
    )  # fmt: skip
    model = Model()
    trainer = transformers.Trainer(model, arguments, train_dataset=data(), data_collator=collate, callbacks=callbacks)
    trainer.train()
    return model


def test_the_trainer_is_profiled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    framework("transformers")
    callback = ga.profiler.trainer_callback(save=tmp_path / "report.json")
    model = trainer_run([callback], tmp_path)
    check_report(callback.profile.report, 2 * BATCHES)
    assert "Verdict" in capsys.readouterr().out
    check_report(ga.profiler.load(tmp_path / "report.json"), 2 * BATCHES)
    plain = trainer_run([], tmp_path)
    assert equal(weights(model), weights(plain))


def test_training_that_failed_before_leaves_nothing() -> None:
    """Trainer has no event for training that ends with an error; the next one begins with the same callback."""
    before, callback = torch.autograd.backward, _TrainerProfile(None)
    loaders = [DataLoader(data(), BATCH) for _ in range(2)]
    for loader in loaders:
        callback.on_train_begin(None, None, None, train_dataloader=loader)
        assert len(list(loader)) == BATCHES
    assert type(loaders[0]) is DataLoader
    callback.on_train_end(None, SimpleNamespace(is_world_process_zero=False), None)
    assert type(loaders[1]) is DataLoader
    assert torch.autograd.backward is before


def test_a_report_that_cannot_be_written_does_not_end_the_job(tmp_path: Path) -> None:
    callback = _TrainerProfile(tmp_path / "no" / "report.json")
    loader = DataLoader(data(), BATCH)
    callback.on_train_begin(None, None, None, train_dataloader=loader)
    assert len(list(loader)) == BATCHES
    with pytest.warns(UserWarning, match="No such file or directory"):
        callback.on_train_end(None, SimpleNamespace(is_world_process_zero=True), None)
