"""`ga.adapters.lightning_callback`: mode, epoch, state and batches without a line in the LightningModule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import gpuaug as ga
from tests.integration.frameworks import (
    BATCH,
    COUNT,
    QUIET,
    STEPS,
    Net,
    Photos,
    check_training,
    digests,
    equal,
    evaluated,
    flat,
    framework,
    module,
    weights,
)

lightning = framework("lightning")
framework("torchdata")
from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402
from torchdata.stateful_dataloader import StatefulDataLoader  # noqa: E402

pytestmark = QUIET
DATA = ga.data.Indexed(Photos())
QUICK: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "max_epochs": 2}
SHOWN = 8  # images of validation that Lightning looks at before training


class Plain(lightning.LightningModule):  # type: ignore[misc]
    """A module that knows nothing of augmentation."""

    def __init__(self, network: nn.Module | None = None) -> None:
        super().__init__()
        self.network = Net() if network is None else network
        self.targets = list[Tensor]()

    def training_step(self, batch: Any, number: int) -> Tensor:
        images, targets = batch
        self.targets.append(targets)
        return nn.functional.cross_entropy(self.network(images), targets)

    def validation_step(self, batch: Any, number: int) -> None:
        self.network(batch[0])

    test_step = predict_step = validation_step

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)


def loaders(kind: str, augment: ga.Augment) -> tuple[Any, Any]:
    options = {"shuffle": True, "generator": torch.Generator().manual_seed(3), "num_workers": 1}
    train = StatefulDataLoader(DATA, BATCH, collate_fn=ga.ragged_collate, **options)
    # Lightning validates in inference_mode, in which the worker then begins
    val = DataLoader(DATA, BATCH, collate_fn=ga.ragged_collate, num_workers=1, timeout=60)
    if kind == "DeviceLoader":
        return ga.DeviceLoader(train, "cpu", augment), ga.DeviceLoader(val, "cpu", augment)
    return train, val


def trainer(augment: ga.Augment, *callbacks: Any, **options: Any) -> Any:
    fields = options.pop("fields", None)
    options = {"enable_checkpointing": bool(callbacks), "enable_model_summary": False, **QUICK, **options}
    return lightning.Trainer(callbacks=[ga.adapters.lightning_callback(augment, fields=fields), *callbacks], **options)


def fit(kind: str = "plain", folder: Path | None = None, resumed: Path | None = None) -> Any:
    torch.manual_seed(0)
    augment, model = module(), Plain()
    saved = [] if folder is None else [ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)]
    train, val = loaders(kind, augment)
    trainer(augment, *saved).fit(model, train, val, ckpt_path=None if resumed is None else str(resumed))
    return model


@pytest.mark.parametrize("kind", ["plain", "DeviceLoader"])
def test_a_run_goes_on_after_any_step(kind: str, tmp_path: Path) -> None:
    whole = fit(kind, tmp_path)
    net = whole.network
    check_training(net)
    expected = evaluated(DATA)
    assert flat(net.pictures(training=False)) == expected[:SHOWN] + 2 * expected
    assert any(((target > 0).sum(1) > 1).any() for target in whole.targets), "mixed labels reach the step"
    for step in (1, STEPS + 2):
        again = fit(kind, resumed=tmp_path / f"step={step}.ckpt")
        assert again.network.pictures() == net.pictures()[step:]
        assert equal(weights(again), weights(whole))


def test_the_draws_are_those_of_the_epoch() -> None:
    augment, model = module(mix=False, seed=3), Plain()
    trainer(augment).fit(model, DataLoader(DATA, BATCH, collate_fn=ga.ragged_collate))
    alone = module(mix=False, seed=3)
    for epoch in range(2):
        alone.set_epoch(epoch)
        expected = [picture for n in range(COUNT) for picture in drawn(alone, n)]
        assert flat(model.network.pictures())[epoch * COUNT :][:COUNT] == expected


def drawn(augment: ga.Augment, number: int) -> list[str]:
    return digests(augment(DATA[number][0][None], index=torch.tensor([number])))


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_other_stages_run_the_evaluation_list(stage: str) -> None:
    model, (_, val) = Plain().train(), loaders("plain", module())
    getattr(trainer(module()), stage)(model, val, **({} if stage == "predict" else {"verbose": False}))
    assert flat(model.network.pictures(training=False)) == evaluated(DATA)
    assert "on_after_batch_transfer" not in vars(model), "the hook is gone"


class Data(lightning.LightningDataModule):  # type: ignore[misc]
    def __init__(self, own: bool) -> None:
        super().__init__()
        self.seen = list[torch.dtype]()
        if own:
            self.on_after_batch_transfer = self.noted

    def noted(self, batch: Any, dataloader_idx: int) -> Any:
        self.seen.append(batch[0].dtype)
        return batch

    def train_dataloader(self) -> Any:
        return DataLoader(DATA, BATCH, collate_fn=ga.ragged_collate)


class Hooked(Plain):
    """It changes batches itself, after they were augmented."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return 0 * batch[0], batch[1]


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("hooked", [True, False])
def test_hooks_of_the_user_come_after(own: bool, hooked: bool) -> None:
    model, data = (Hooked if hooked else Plain)(), Data(own)
    trainer(module()).fit(model, data)
    assert len(model.network.pictures()) == 2 * STEPS
    if own:
        assert data.seen == [torch.float32] * 2 * STEPS
    elif hooked:
        assert len(set(flat(model.network.pictures()))) == 1, "all are black"
    assert "on_after_batch_transfer" not in vars(model)
    assert ("on_after_batch_transfer" in vars(data)) == own


class Named(Plain):
    def training_step(self, batch: Any, number: int) -> Tensor:
        assert set(batch) == {"pixel_values", "labels", "name"}
        return super().training_step((batch["pixel_values"], batch["labels"]), number)


def test_batches_that_are_mappings() -> None:
    rows = [{"image": image, "label": label, "name": str(label)} for image, label, _ in DATA]
    data, pack = ga.data.Indexed(rows), ga.adapters.trainer_collate(index="index")

    def collate(samples: Any) -> Any:
        return pack(samples) | {"name": [sample["name"] for sample in samples]}

    fields = {"image": "pixel_values", "label": "labels", "index": "index"}
    model = Named()
    trainer(module(), fields=fields).fit(model, DataLoader(data, BATCH, collate_fn=collate))
    check_training(model.network)
    with pytest.raises(ValueError, match=r"lightning_callback: .*Name their fields: lightning_callback\("):
        trainer(module()).fit(Named(), DataLoader(data, BATCH, collate_fn=collate))


def test_the_dtype_follows_the_module() -> None:
    augment = ga.Augment([ga.RandomResizedCrop(16), ga.ToDtype("auto", scale=True)], backend="torch")
    model, seen = Plain(), list[torch.dtype]()
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    model.network.seen = Nothing()  # digests do not know bfloat16
    trainer(augment, precision="bf16-true").fit(Cast(model), *loaders("plain", augment))
    assert set(seen) == {torch.bfloat16}


class Nothing(list[Any]):
    def append(self, value: Any) -> None:
        pass


class Cast(Plain):
    def __init__(self, other: Plain) -> None:
        super().__init__(other.network.layers)
        self.network.register_forward_pre_hook(next(iter(other.network._forward_pre_hooks.values())))


def test_an_error_takes_the_hook_away() -> None:
    class Failing(Plain):
        def training_step(self, batch: Any, number: int) -> Tensor:
            raise KeyError("mine")

    model = Failing()
    with pytest.raises(KeyError, match="mine"):
        trainer(module()).fit(model, loaders("plain", module())[0])
    assert "on_after_batch_transfer" not in vars(model)


def test_arguments() -> None:
    with pytest.raises(ValueError, match=r"lightning_callback: `augment` must be a gpuaug\.Augment, got 3"):
        ga.adapters.lightning_callback(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="lightning_callback: `fields` must be"):
        ga.adapters.lightning_callback(module(), fields={"pixel_values": "image"})


class Noting(Net):
    """It notes the pictures in a file of its rank."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder

    def forward(self, images: Tensor) -> Tensor:
        result = super().forward(images)
        with open(Path(self.folder) / f"{torch.distributed.get_rank()}-{self.training}", "a") as file:
            print(*self.seen[-1][1], file=file)
        return result


def test_two_processes_draw_as_one(tmp_path: Path) -> None:
    """Lightning deals the images of both sets; the draws are those of one process."""
    model = Plain(Noting(str(tmp_path)))
    train = DataLoader(DATA, BATCH, shuffle=True, collate_fn=ga.ragged_collate)
    val = DataLoader(DATA, BATCH, collate_fn=ga.ragged_collate)
    trainer(module(mix=False, seed=3), devices=2, strategy="ddp_spawn", num_sanity_val_steps=0).fit(model, train, val)
    ranks = [(tmp_path / f"{rank}-True").read_text().split() for rank in range(2)]
    alone = module(mix=False, seed=3)
    expected = []
    for epoch in range(2):
        alone.set_epoch(epoch)
        expected += [picture for n in range(COUNT) for picture in drawn(alone, n)]
    assert len(ranks[0]) == len(ranks[1]) == COUNT
    assert sorted(ranks[0] + ranks[1]) == sorted(expected)
    shown = [(tmp_path / f"{rank}-False").read_text().split() for rank in range(2)]
    assert sorted(shown[0] + shown[1]) == sorted(2 * evaluated(DATA))


def test_a_loader_that_every_rank_reads_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpuaug.interop.adapters.batches.world", lambda: (2, 0))
    with pytest.raises(UserWarning, match="lightning_callback: the loader has no distributed sampler"):
        trainer(module(), use_distributed_sampler=False).fit(Plain(), loaders("plain", module())[1])
