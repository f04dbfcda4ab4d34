"""The callback for Lightning. It is documented at `ga.adapters.lightning_callback`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch.utils import _pytree

from gpuaug.augment import Augment
from gpuaug.data.fields import checked_fields
from gpuaug.data.loader import DeviceLoader
from gpuaug.interop.adapters.batches import augmented, checked_augment, warn_of_ranks

__all__ = ["AugmentCallback"]

OWNER, HOOK = "lightning_callback", "on_after_batch_transfer"


def _framework() -> Any:
    """Lightning, by the name under which it was imported: `lightning.pytorch`, or else `pytorch_lightning`."""
    names = ("lightning.pytorch", "pytorch_lightning")
    for name in sorted(names, key=lambda name: name not in sys.modules):  # sorted() keeps the order of the others
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if error.name not in (name, name.partition(".")[0]):
                raise
    raise ImportError(f"{OWNER}: Lightning must be installed. pip install lightning.")


L = _framework()


class AugmentCallback(L.Callback):  # type: ignore[misc, name-defined]
    """Augments batches after their transfer. `ga.adapters.lightning_callback` makes it."""

    def __init__(self, augment: Augment, fields: Mapping[str, str] | None = None) -> None:
        self.augment, self.fields = checked_augment(OWNER, augment), checked_fields(OWNER, fields)
        self._hooked: tuple[Any, Any] | None = None  # the object whose hook was replaced, and its own attribute

    # ---- the hook ----------------------------------------------------------------------------------------------------

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Put the module into the hook that Lightning calls after a batch's transfer."""
        self._unhook()
        data = trainer.datamodule
        target = data if data is not None and (_has_own(data) or not _has_own(pl_module)) else pl_module
        before = getattr(target, HOOK)

        def hook(batch: Any, dataloader_idx: int) -> Any:
            return before(self._augmented(trainer, pl_module, batch, dataloader_idx), dataloader_idx)

        self._hooked = target, vars(target).get(HOOK)
        setattr(target, HOOK, hook)
        self.augment.train(stage == "fit")

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Take the module out of the hook."""
        self._unhook()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """As `teardown`, which Lightning does not call then."""
        self._unhook()

    def _unhook(self) -> None:
        if self._hooked is not None:
            target, own = self._hooked
            if own is None:
                vars(target).pop(HOOK, None)
            else:
                setattr(target, HOOK, own)
        self._hooked = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_hooked": None}  # a spawned process calls setup

    def _augmented(self, trainer: Any, pl_module: Any, batch: Any, number: int) -> Any:
        loaders = _loaders(trainer)
        loader = loaders[number] if number < len(loaders) else None
        if isinstance(loader, DeviceLoader):
            return batch
        return augmented(OWNER, self.augment, batch, bool(trainer.training), self.fields, pl_module.device)

    # ---- epoch, mode and dtype ---------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Warn of a loader that every rank reads from begin to end."""
        for loader in _loaders(trainer):
            if not isinstance(loader, DeviceLoader):  # which warns itself
                warn_of_ranks(OWNER, loader)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Set the epoch; a DeviceLoader counts its passes itself."""
        self._begin(pl_module, training=True)
        if not any(isinstance(loader, DeviceLoader) for loader in _loaders(trainer)):
            self.augment.set_epoch(trainer.current_epoch)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Set the mode that a DeviceLoader reads."""
        self._begin(pl_module, training=False)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Set the mode of training again, if validation was a part of it."""
        self.augment.train(trainer.state.fn == "fit")

    on_test_start = on_predict_start = on_validation_start

    def _begin(self, pl_module: Any, training: bool) -> None:
        self.augment.train(training)
        self.augment.to(pl_module.dtype)

    # ---- checkpoints -------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The state of the module."""
        return dict(self.augment.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state."""
        self.augment.load_state_dict(state_dict)


def _has_own(part: Any) -> bool:
    """Whether a LightningModule or LightningDataModule has a hook of its own: Lightning asks only one of them."""
    base = import_module(f"{L.__name__}.core.hooks").DataHooks
    return HOOK in vars(part) or getattr(type(part), HOOK) is not getattr(base, HOOK)


def _loaders(trainer: Any) -> list[Any]:
    """The loaders of the stage that runs."""
    if trainer.training:
        loaders = trainer.train_dataloader
    elif trainer.testing:
        loaders = trainer.test_dataloaders
    elif trainer.predicting:
        loaders = trainer.predict_dataloaders
    else:
        loaders = trainer.val_dataloaders
    return [] if loaders is None else _pytree.tree_leaves(loaders)
