"""The profiler on loaders of other libraries: the same batches as without it, counted and timed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.profiler import measure
from gpuaug.profiler.measure.loaders import data_loader
from gpuaug.profiler.measure.recorder import Recorder
from gpuaug.profiler.measure.wrappers import training_loader
from tests.integration.frameworks import QUIET, Net, framework

pytestmark = QUIET
COUNT, BATCH = 24, 4


class Images(Dataset[Any]):
    def __init__(self, count: int = COUNT) -> None:
        self.count = count
        self.transform = v2.Compose([v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)])

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Any:
        return self.transform(torch.full((3, 8, 8), number, dtype=torch.uint8)), number % 4


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield from ((torch.full((2,), number), number) for number in range(COUNT))


def plain_loader(workers: int = 1) -> DataLoader[Any]:
    return DataLoader(Images(), BATCH, shuffle=True, num_workers=workers)


def numbers(batches: Any) -> list[Any]:
    """The labels of batches, of whatever form."""
    found = []
    for batch in batches:
        while isinstance(batch, tuple) and len(batch) == 3:  # (batch, number, loader) of Lightning
            batch = batch[0]
        found.append(batch["labels"].tolist() if isinstance(batch, dict) else batch[1].tolist())
    return found


def check(loader: Any, rows: set[str], batches: int = COUNT // BATCH) -> None:
    """Two epochs under a profile: all samples, once each, and the rows of the report."""
    assert type(data_loader(loader)).__module__.startswith("torch")
    kind = type(loader)
    with ga.profile(loader) as profile:
        for _ in range(2):
            seen = numbers(loader)
            assert len(seen) == batches
            assert sorted(label for part in seen for label in part) == sorted(n % 4 for n in range(COUNT))
        assert len(list(profile)) == batches
    assert type(loader) is kind
    assert [batch.size for batch in profile.trace.batches] == [BATCH] * 3 * batches
    assert {stage.name for stage in profile.report.stages} >= rows
    assert sorted(label for part in numbers(loader) for label in part) == sorted(n % 4 for n in range(COUNT))


ROWS = {"RandomHorizontalFlip", "ToDtype", "collate", "send", "receive"}


# ---- Accelerate and Trainer ------------------------------------------------------------------------------------------


def test_accelerate() -> None:
    accelerate = framework("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    prepared = accelerator.prepare(plain_loader())
    check(prepared, ROWS)
    with ga.profile(prepared) as profile:
        ends = [accelerator.gradient_state.end_of_dataloader for _ in prepared]
    assert ends == [False] * 5 + [True]  # gradients are accumulated as before
    assert len(profile.trace.batches) == 6
    stream = accelerator.prepare(DataLoader(Stream(), BATCH))
    with Recorder(stream) as recorder:
        assert [label for _, labels in recorder for label in labels.tolist()] == list(range(COUNT))
    assert [batch.size for batch in recorder.trace.batches] == [BATCH] * 6


def test_accelerate_skips_batches() -> None:
    accelerate = framework("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    skipping = accelerator.skip_first_batches(accelerator.prepare(DataLoader(Stream(), BATCH)), 2)
    with pytest.raises(ValueError, match=r"which skips 2. Pass the loader from before skip_first_batches"):
        data_loader(skipping)
    map_style = accelerator.skip_first_batches(accelerator.prepare(plain_loader()), 2)
    with Recorder(map_style) as recorder:
        assert len(list(recorder)) == 4
    assert len(recorder.trace.batches) == 4


def test_a_loader_that_is_prepared_later() -> None:
    accelerate = framework("accelerate")
    loader = plain_loader(0)
    with ga.profile(loader) as profile:
        list(accelerate.Accelerator(cpu=True).prepare(loader))
    with pytest.raises(ValueError, match=r"accelerator\.prepare"):
        _ = profile.report


def test_trainer(tmp_path: Path) -> None:
    transformers = framework("transformers")
    framework("accelerate")

    class Samples(Images):
        def __getitem__(self, number: int) -> Any:
            image, label = super().__getitem__(number)
            return {"pixel_values": image, "labels": label}

    options = transformers.TrainingArguments(
        str(tmp_path), per_device_train_batch_size=BATCH, dataloader_num_workers=1, use_cpu=True, report_to=[],
        remove_unused_columns=False, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = transformers.Trainer(Net(), options, train_dataset=Samples())
    check(trainer.get_train_dataloader(), {"RandomHorizontalFlip", "collate", "send"})
    report = measure(trainer, lambda batch: None, budget=3.0, proof=False)
    assert report.trace.loader.batch_size == BATCH
    assert report.samples == BATCH
    assert "RandomHorizontalFlip" in {stage.name for stage in report.stages}


# ---- Lightning -------------------------------------------------------------------------------------------------------


def test_lightning() -> None:
    lightning = framework("lightning")
    from lightning.pytorch.utilities import CombinedLoader

    check(CombinedLoader(plain_loader(), "max_size_cycle"), ROWS)
    both = CombinedLoader([plain_loader(), plain_loader()], "min_size")
    with pytest.raises(ValueError, match=r"got CombinedLoader with 2. Profile each of them by itself"):
        data_loader(both)

    class Module(lightning.LightningDataModule):
        def setup(self, stage: str) -> None:
            self.data = Images()

        def train_dataloader(self) -> Any:
            return {"train": DataLoader(self.data, BATCH, num_workers=1)}

    found = training_loader(Module())
    assert type(found) is DataLoader
    report = measure(Module(), budget=3.0, proof=False)
    assert report.samples == BATCH


def test_a_fit_that_is_not_changed() -> None:
    """As under GPUAUG_PROFILE: the loops of a Trainer are traced."""
    lightning = framework("lightning")
    from gpuaug.profiler.unchanged import Watch

    class Model(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3 * 64, 4)

        def training_step(self, batch: Any, number: int) -> Any:
            images, labels = batch
            return torch.nn.functional.cross_entropy(self.layer(images.flatten(1)), labels)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.1)

    trainer = lightning.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    plain, watch = DataLoader.__iter__, Watch()
    watch.install()
    try:
        trainer.fit(Model(), plain_loader())
        text = watch.text()
    finally:
        watch.remove()
    assert sum(len(recorder.trace.batches) for recorder in watch.recorders) == 18
    assert "Verdict" in text
    assert "RandomHorizontalFlip" in text
    assert DataLoader.__iter__ is plain


# ---- fastai ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_fastai(workers: int) -> None:
    fastai = framework("fastai.vision.all")

    class Double(fastai.Transform):
        def encodes(self, x: torch.Tensor) -> Any:
            return 2 * x

    data = [(torch.full((3, 8, 8), float(number)), torch.tensor(number)) for number in range(COUNT)]
    loader = fastai.DataLoader(data, bs=BATCH, num_workers=workers)
    plain = numbers(loader)
    with Recorder(loader) as recorder:
        assert numbers(recorder) == plain == [[4 * k + j for j in range(4)] for k in range(6)]
    assert [batch.size for batch in recorder.trace.batches] == [BATCH] * 6
    assert {batch.worker >= 0 for batch in recorder.trace.batches} == {workers > 0}

    train = fastai.TfmdDL(data, bs=BATCH, shuffle=True, num_workers=workers, after_item=[Double()], device="cpu")
    loaders = fastai.DataLoaders(train, train)
    assert training_loader(loaders) is train
    with ga.profile(train) as profile:
        for _ in range(2):
            batches = list(train)
            assert sorted(label for _, labels in batches for label in labels.tolist()) == [2 * n for n in range(COUNT)]
            assert all(torch.equal(images[:, 0, 0, 0], labels.float()) for images, labels in batches)
    assert {stage.name for stage in profile.report.stages} >= {"Double", "collate"}
    assert [type(step).__name__ for step in train.after_item.fs] == ["Double"]
    report = measure(loaders, budget=3.0, proof=False)
    assert report.samples == BATCH
    assert sorted(label for _, labels in train for label in labels.tolist()) == [2 * n for n in range(COUNT)]


# ---- timm and torchdata ----------------------------------------------------------------------------------------------


def test_timm() -> None:
    framework("timm")
    from timm.data.loader import PrefetchLoader

    with Recorder(PrefetchLoader(plain_loader(), device=torch.device("cpu"))) as recorder:
        assert len(list(recorder)) == 6
    assert [batch.size for batch in recorder.trace.batches] == [BATCH] * 6


def test_torchdata() -> None:
    framework("torchdata")
    from torchdata.nodes import IterableWrapper, Loader
    from torchdata.stateful_dataloader import StatefulDataLoader

    check(StatefulDataLoader(Images(), BATCH, num_workers=1), ROWS)
    with pytest.raises(ValueError, match="Put its source into a data set, and pass a DataLoader of that"):
        data_loader(Loader(IterableWrapper(range(4))))
