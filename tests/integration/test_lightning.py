"""Lightning: fit, validate, checkpoints, a resume in the middle of an epoch, averages, several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
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
    documented,
    equal,
    evaluated,
    flat,
    framework,
    module,
    weights,
)

lightning = framework("lightning")
framework("torchdata")
from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging  # noqa: E402
from torchdata.stateful_dataloader import StatefulDataLoader  # noqa: E402

pytestmark = QUIET
NAMES = documented("Lightning")
DATA = ga.data.Indexed(Photos())
QUICK: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "max_epochs": 2}
SHOWN = 8  # images of validation that Lightning looks at before training


class Told(NAMES["Classifier"]):  # type: ignore[misc]
    """Of this module, so that it travels to processes."""


class Untold(NAMES["Classifier"]):  # type: ignore[misc]
    """Nobody tells the module the epoch: it counts the looks."""

    def on_train_epoch_start(self) -> None:
        pass


class Bare(lightning.LightningModule):  # type: ignore[misc]
    """It gets augmented batches."""

    def __init__(self, network: Net) -> None:
        super().__init__()
        self.network, self.targets = network, list[Tensor]()

    def training_step(self, batch: Any, number: int) -> Tensor:
        images, targets = batch
        self.targets.append(targets)
        return torch.nn.functional.cross_entropy(self.network(images), targets)

    def validation_step(self, batch: Any, number: int) -> None:
        self.network(batch[0])

    configure_optimizers = NAMES["Classifier"].configure_optimizers


def train_loader(kind: type = StatefulDataLoader) -> Any:
    options = {"num_workers": 1} if kind is StatefulDataLoader else {}
    generator = torch.Generator().manual_seed(3)
    return kind(DATA, BATCH, shuffle=True, collate_fn=ga.ragged_collate, generator=generator, **options)


def val_loader() -> DataLoader[Any]:
    return DataLoader(DATA, BATCH, collate_fn=ga.ragged_collate)


def fit(kind: str, folder: Path | None = None, resumed: Path | None = None, **options: Any) -> Any:
    """The LightningModule after two epochs; `folder` gets a checkpoint after each step."""
    torch.manual_seed(0)
    augment, callbacks = module(), list(options.pop("callbacks", []))
    train, val = train_loader(options.pop("loader", StatefulDataLoader)), val_loader()
    model: Any
    if kind == "loader in the model":  # Lightning sets the mode, and saves the module
        model = Bare(Net())
        model.augment = augment
        train, val = ga.DeviceLoader(train, "cpu", augment), ga.DeviceLoader(val, "cpu", augment)
    elif kind == "loader":
        model = Bare(Net())
        callbacks.append(NAMES["Saved"](augment))
        train, val = (
            ga.DeviceLoader(train, "cpu", augment, train=True),
            ga.DeviceLoader(val, "cpu", augment, train=False),
        )
    else:
        model = (Untold if kind == "untold" else NAMES["Classifier"])(augment, Net())
    if folder is not None:
        callbacks.append(ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1))
    trainer = lightning.Trainer(
        callbacks=callbacks, enable_checkpointing=folder is not None, enable_model_summary=False, **QUICK, **options
    )
    trainer.fit(model, train, val, ckpt_path=None if resumed is None else str(resumed))
    return model


@pytest.mark.parametrize("kind", ["submodule", "untold", "loader", "loader in the model"])
def test_a_run_goes_on_after_any_step(kind: str, tmp_path: Path) -> None:
    whole = fit(kind, tmp_path)
    net = whole.network
    check_training(net)
    assert whole.training
    expected = evaluated(DATA)
    assert flat(net.pictures(training=False)) == expected[:SHOWN] + 2 * expected
    for step in (1, 4, STEPS + 2):
        again = fit(kind, resumed=tmp_path / f"step={step}.ckpt")
        assert again.network.pictures() == net.pictures()[step:]
        assert flat(again.network.pictures(training=False))[-COUNT:] == expected
        assert equal(weights(again), weights(whole))


def test_mixed_labels_reach_the_loss() -> None:
    targets = torch.cat(fit("loader").targets)
    assert targets.shape[1] == 4
    assert torch.allclose(targets.sum(1), torch.ones(len(targets)))
    assert ((targets > 0).sum(1) > 1).any()


def test_the_seed_is_in_the_checkpoint(tmp_path: Path) -> None:
    model = fit("submodule", tmp_path)
    torch.manual_seed(99)
    path = str(tmp_path / "step=9.ckpt")
    again = NAMES["Classifier"].load_from_checkpoint(path, augment=module(), network=Net())
    assert (again.augment.seed, again.augment.epoch) == (model.augment.seed, 1)


@pytest.mark.parametrize("kind", ["untold", "loader"])
def test_validation_in_the_middle_of_an_epoch(kind: str) -> None:
    """It comes while a DeviceLoader has made a batch ahead, and changes no draw."""
    plain, often = fit(kind), fit(kind, val_check_interval=2)
    assert often.network.pictures() == plain.network.pictures()
    assert flat(often.network.pictures(training=False))[SHOWN:] == STEPS * evaluated(DATA)


@pytest.mark.parametrize("kind", ["untold", "loader"])
def test_epochs_that_are_left_early(kind: str) -> None:
    model = fit(kind, limit_train_batches=3)
    check_training(model.network, count=3 * BATCH)


class Kept(Told):
    """It saves its arguments."""

    def __init__(self, augment: ga.Augment, network: Net) -> None:
        super().__init__(augment, network)
        self.save_hyperparameters()


def test_a_module_among_the_hyperparameters(tmp_path: Path) -> None:
    trainer = lightning.Trainer(default_root_dir=tmp_path, **QUICK)
    model = Kept(module(), Net())
    trainer.fit(model, train_loader())
    trainer.save_checkpoint(tmp_path / "kept.ckpt")
    again = Kept.load_from_checkpoint(tmp_path / "kept.ckpt", weights_only=False)
    batch = next(iter(val_loader()))
    for one in (again, model):
        one.augment.set_epoch(5)
    assert torch.equal(again.training_step(batch, 0), model.training_step(batch, 0))
    assert again.network.pictures()[-1] == model.network.pictures()[-1]


def test_a_loader_that_keeps_no_place_can_be_saved_beside(tmp_path: Path) -> None:
    """Lightning saves the state of whatever has one, and warns of a loader without at the resume."""
    fit("loader", tmp_path, loader=DataLoader)
    with pytest.warns(UserWarning, match="your dataloader is not resumable"):
        fit("loader", resumed=tmp_path / "step=2.ckpt", loader=DataLoader)


def test_a_validation_loader_that_says_nothing_is_warned_of() -> None:
    torch.manual_seed(0)
    augment = module()
    trainer = lightning.Trainer(enable_checkpointing=False, enable_model_summary=False, **QUICK)
    loaders = [ga.DeviceLoader(loader, "cpu", augment) for loader in (train_loader(), val_loader())]
    with pytest.raises(UserWarning, match="one module runs its training list for two loaders"):
        trainer.fit(Bare(Net()), *loaders)


@pytest.mark.parametrize("average", ["swa", "ema"])
def test_averages_of_weights_leave_the_draws_alone(average: str, tmp_path: Path) -> None:
    plain = fit("untold")
    if average == "swa":
        callback = StochasticWeightAveraging(0.1, swa_epoch_start=1)
    else:
        callback = framework("lightning.pytorch.callbacks.weight_averaging").EMAWeightAveraging(decay=0.5)
    averaged = fit("untold", tmp_path, callbacks=[callback])
    assert averaged.network.pictures() == plain.network.pictures()
    assert not equal(weights(averaged), weights(plain)), "the average took the weights' place"
    assert averaged.augment.seed == plain.augment.seed


def test_two_processes_draw_as_one(tmp_path: Path) -> None:
    """Lightning deals the images; no draw depends on it where the epoch is told."""
    torch.manual_seed(0)
    model = Told(module(mix=False, seed=3), Noting(str(tmp_path)))
    trainer = lightning.Trainer(
        devices=2, strategy="ddp_spawn", enable_checkpointing=False, enable_model_summary=False, **QUICK
    )
    trainer.fit(model, DataLoader(DATA, BATCH, shuffle=True, collate_fn=ga.ragged_collate))
    ranks = [(tmp_path / f"{rank}").read_text().split() for rank in range(2)]
    alone = module(mix=False, seed=3)
    expected = []
    for epoch in range(2):
        alone.set_epoch(epoch)
        expected += [picture for n in range(COUNT) for picture in drawn(alone, n)]
    assert len(ranks[0]) == len(ranks[1]) == COUNT
    assert sorted(ranks[0] + ranks[1]) == sorted(expected)


class Noting(Net):
    """It notes the pictures in a file of its rank."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder

    def forward(self, images: Tensor) -> Tensor:
        result = super().forward(images)
        with open(Path(self.folder) / str(torch.distributed.get_rank()), "a") as file:
            print(*self.seen[-1][1], file=file)
        return result


def drawn(augment: ga.Augment, number: int) -> list[str]:
    return digests(augment(DATA[number][0][None], index=torch.tensor([number])))
