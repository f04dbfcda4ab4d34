"""Callbacks that profile the training of Lightning and of Hugging Face's Trainer, without a change to the script."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

from gpuaug.profiler.session import Profile

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback
    from transformers import TrainerCallback

__all__ = ["lightning_callback", "trainer_callback"]


def lightning_callback(save: str | Path | None = None) -> Callback:
    """Make a callback that profiles the training of a Lightning Trainer: `Trainer(callbacks=[lightning_callback()])`.

    It profiles the first training loader from its first batch on, and prints the report when training ends. With
    several ranks all of them measure, and rank 0 prints. Validation between the batches counts as a part of the step
    after which it runs, except at the end of an epoch.

    Args:
        save: JSON file for the report, for `gpuaug report`, `whatif` and `compare`. None: it is only printed.

    Raises:
        ImportError: If Lightning is not installed.
    """
    names = ("lightning.pytorch", "pytorch_lightning")
    for name in sorted(names, key=lambda name: name not in sys.modules):  # the one that the script uses
        try:
            base = import_module(name).Callback
        except ModuleNotFoundError as error:
            if error.name not in (name, name.partition(".")[0]):
                raise
        else:
            return type("ProfileCallback", (_LightningProfile, base), {})(save)
    raise ImportError("lightning_callback: Lightning must be installed. pip install lightning.")


def trainer_callback(save: str | Path | None = None) -> TrainerCallback:
    """Make a callback that profiles the training of a Hugging Face Trainer: `Trainer(callbacks=[trainer_callback()])`.

    It prints the report when training ends. With several ranks all of them measure, and rank 0 prints. Accelerate moves
    the next batch to the device before the Trainer asks for it, so that time is a part of waiting for data.

    Args:
        save: JSON file for the report, for `gpuaug report`, `whatif` and `compare`. None: it is only printed.

    Raises:
        ImportError: If transformers is not installed.
    """
    try:
        base = import_module("transformers").TrainerCallback
    except ModuleNotFoundError as error:
        if error.name != "transformers":
            raise
        raise ImportError("trainer_callback: transformers must be installed. pip install transformers.") from None
    return type("ProfileCallback", (_TrainerProfile, base), {})(save)


class _Open:
    """A profile that opens before the first batch and ends with training."""

    def __init__(self, save: str | Path | None) -> None:
        if find_spec("rich") is None:  # better now than after the training
            raise ModuleNotFoundError('profile: a report as text needs rich. Run pip install "gpuaug[profile]".')
        self.save = save
        self.profile: Profile | None = None  # of the last training
        self._runs = False

    def _begin(self, loader: Any) -> None:
        self._abort(RuntimeError("training began again"))  # Trainer has no event for one that ended with an error
        ranks = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        self.profile = Profile(loader, ranks=ranks)
        self.profile.__enter__()
        self._runs = True

    def _end_step(self) -> None:
        if self.profile is not None and self._runs:
            self.profile.end_step()

    def _end(self, first: bool) -> None:
        """End the profile; the first rank prints and saves. A profile without a report does not stop the job."""
        if self.profile is None or not self._runs:
            return
        self._runs = False
        try:
            self.profile.__exit__(None, None, None)
            if first:
                print(self.profile)
                if self.save is not None:
                    self.profile.save(self.save)
        except ValueError as error:
            warnings.warn(str(error), stacklevel=2)
        except OSError as error:
            warnings.warn(f"profile: {self.save} cannot be written: {error.strerror}.", stacklevel=2)

    def _abort(self, error: BaseException) -> None:
        """End the profile without a report."""
        if self.profile is not None and self._runs:
            self._runs = False
            self.profile.__exit__(type(error), error, error.__traceback__)


class _LightningProfile(_Open):
    """The callback for Lightning; `lightning_callback` adds Lightning's base class."""

    _undo: Any = None  # restores the strategy

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Wait for the loader that Lightning gets ready for training: its first iterator starts right after that."""
        if stage != "fit":
            return
        strategy = trainer.strategy
        plain = strategy.process_dataloader

        def process(loader: Any) -> Any:
            found = plain(loader)
            if trainer.training and self._undo is not None:
                self._undo()
                self._begin(found)
            return found

        def undo() -> None:
            del strategy.process_dataloader
            self._undo = None

        self.profile, self._undo = None, undo
        strategy.process_dataloader = process

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Validation is no part of the last step of an epoch."""
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if last and trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._end_step()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """What runs between epochs is no part of a step."""
        self._end_step()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Print the report."""
        self._end(trainer.is_global_zero)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Restore the loader; the exception goes on."""
        if self._undo is not None:
            self._undo()
        self._abort(exception)

    def __reduce__(self) -> Any:
        return lightning_callback, (self.save,)  # a spawned process calls setup


class _TrainerProfile(_Open):
    """The callback for the Trainer; `trainer_callback` adds its base class."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Profile the DataLoader inside Accelerate's."""
        loader = others["train_dataloader"]
        self._begin(getattr(loader, "base_dataloader", loader))

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Evaluation and checkpoints are no part of a step."""
        if control.should_evaluate or control.should_save:
            self._end_step()

    on_epoch_end = on_step_end

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Print the report."""
        self._end(state.is_world_process_zero)
