"""The adapter for Hugging Face's Trainer. It is documented at `ga.adapters.attach_to_trainer`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import IterableDataset

from gpuaug import checks
from gpuaug.augment import Augment
from gpuaug.data.dataset import Indexed
from gpuaug.data.fields import Fields
from gpuaug.interop.adapters.batches import Collate, augmented, checked_augment, named_collate, warn_of_ranks

try:
    import transformers
except ModuleNotFoundError as missing:
    if missing.name != "transformers":
        raise
    raise ImportError("attach_to_trainer: transformers must be installed. pip install transformers.") from None

__all__ = ["attach"]

OWNER = "attach_to_trainer"
KEY = "gpuaug"  # in the Trainer's state
NO_STATE = (
    f"{OWNER}: the checkpoint has no state of the module, so the resumed run may show draws again. Attach the module "
    "before the run that saves, and add callbacks that decide about saving before it."
)


def attach(trainer: Any, augment: Augment, fields: tuple[str, str, str | None], names: tuple[str, str]) -> Any:
    """See `ga.adapters.attach_to_trainer`."""
    checked_augment(OWNER, augment)
    if not isinstance(trainer, transformers.Trainer):
        raise checks.argument_error(OWNER, "trainer", "a transformers.Trainer", checks.describe(trainer))
    if any(isinstance(callback, AugmentCallback) for callback in trainer.callback_handler.callbacks):
        raise checks.argument_error(OWNER, "trainer", "one without a module", "one with a module")
    mixes = bool(augment.train_pipeline.mixes)
    if mixes and trainer.label_smoother is not None:
        got = f"label_smoothing_factor={trainer.args.label_smoothing_factor}"
        remedy = "Leave it out, and pass Trainer(compute_loss_func=...) with the smoothing in it."
        raise checks.argument_error(OWNER, "trainer", "one without label smoothing, as the list mixes", got, remedy)
    if isinstance(trainer.data_collator, transformers.DataCollatorWithPadding) or (
        trainer.data_collator is transformers.default_data_collator
    ):
        _collate(trainer, *fields, *names)
    trainer.args.remove_unused_columns = False
    if mixes and trainer.compute_loss_func is None and getattr(_config(trainer), "problem_type", "own") is None:
        trainer.compute_loss_func = cross_entropy
    read, steps = Fields(*names, "index"), (trainer.training_step, trainer.prediction_step)

    def step(training: bool, model: Any, inputs: Any, *others: Any, **named: Any) -> Any:
        # in place: the Trainer reads the sizes of its inputs after the step
        result = augmented(OWNER, augment, inputs, training, read, trainer.args.device)
        inputs.clear()
        inputs.update(result)
        return steps[not training](model, inputs, *others, **named)

    trainer.training_step = lambda *given, **named: step(True, *given, **named)
    trainer.prediction_step = lambda *given, **named: step(False, *given, **named)
    trainer.add_callback(AugmentCallback(augment))
    return trainer


def _collate(trainer: Any, image: str, label: str, index: str | None, pixels: str, targets: str) -> None:
    """Let the Trainer collate raw images, with numbers for those of training."""
    data, evaluation = trainer.train_dataset, named_collate((image, label, index), (pixels, targets))
    trainer.data_collator = evaluation
    stream = isinstance(data, IterableDataset) or not hasattr(data, "__getitem__") or not hasattr(data, "__len__")
    # else the main process reads a stream for all, and cuts its batches, which it can do with tensors only
    trainer.accelerator.dataloader_config.dispatch_batches = False
    if index is None and not stream:
        trainer.train_dataset = Indexed(data)
        indexed = named_collate((image, label, "index"), (pixels, targets))
        trainer.data_collator = _Collate(indexed, evaluation)


def _config(trainer: Any) -> Any:
    return getattr(trainer.accelerator.unwrap_model(trainer.model), "config", None)


@dataclass(frozen=True)
class _Collate:
    """The collate function of training and evaluation: only samples of training have an index."""

    indexed: Collate
    plain: Collate

    def __call__(self, samples: Sequence[object]) -> dict[str, object]:
        with_index = isinstance(samples[0], Mapping) and "index" in samples[0]
        return (self.indexed if with_index else self.plain)(samples)


def cross_entropy(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """The cross entropy of class numbers (B,) or weights (B, classes), as a Trainer's `compute_loss_func`."""
    logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
    if num_items_in_batch is None:
        return F.cross_entropy(logits, labels)
    return F.cross_entropy(logits, labels, reduction="sum") / num_items_in_batch


class AugmentCallback(transformers.TrainerCallback):  # type: ignore[misc]
    """Sets the epoch, and keeps the module's state in the Trainer's."""

    def __init__(self, augment: Augment) -> None:
        self.augment = augment
        self._epoch: int | None = None  # that runs, or the one to continue
        self._begun = False  # whether it runs

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Continue from a checkpoint's state; warn of a loader that every rank reads from begin to end."""
        self._epoch, self._begun = None, False
        saved = state.stateful_callbacks.get(KEY)
        if saved is not None:
            self.augment.load_state_dict({"_extra_state": torch.tensor(saved, dtype=torch.int64)})
            self._epoch = self.augment.epoch
        elif state.global_step:
            warnings.warn(NO_STATE, stacklevel=2)
        warn_of_ranks(OWNER, others.get("train_dataloader"))
        dtype = getattr(others.get("model"), "dtype", None)
        if isinstance(dtype, torch.dtype):
            self.augment.to(dtype)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Set the epoch. A stream may begin several passes in an epoch as the Trainer counts them."""
        least = 0 if self._epoch is None else self._epoch + self._begun
        self._epoch, self._begun = max(int(state.epoch or 0), least), True
        self.augment.set_epoch(self._epoch)

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Keep the state where the Trainer saves it."""
        if control.should_save:
            state.stateful_callbacks[KEY] = self.augment.state_dict()["_extra_state"].tolist()

    on_epoch_end = on_step_end
