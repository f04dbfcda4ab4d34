"""Adapters for frameworks that own the training loop: one line tells them which module augments their batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from gpuaug.augment import Augment
from gpuaug.interop.adapters.batches import named_collate

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback
    from transformers import Trainer

__all__ = ["attach_to_trainer", "lightning_callback", "trainer_collate"]

Kind = TypeVar("Kind", bound="Trainer")


def lightning_callback(augment: Augment, *, fields: Mapping[str, str] | None = None) -> Callback:
    """Make a callback that augments the batches of a Lightning Trainer, on the device, after their transfer.

    `Trainer(callbacks=[ga.adapters.lightning_callback(augment)])`, without `augment` in the LightningModule. Training
    batches go through the training list, those of validation, test and prediction through the evaluation list; each
    epoch has the draws of `trainer.current_epoch`; checkpoints contain the module's state. `training_step` gets
    (images, targets), or the images alone if the loader yields no labels.

    If a stage's loader is a DeviceLoader, its batches are augmented already: the callback then only sets the mode of
    the module, so that the loader of the validation set needs no `train=False`, and saves its state.

    Args:
        augment: Module that augments. Its lists are run on the device of the batch, and ToDtype("auto") gives the dtype
            of the LightningModule.
        fields: For batches that are mappings, the names of their fields, such as {"image": "pixel_values", "label":
            "labels", "index": "index"}. None: batches are (images, labels, index), (images, labels) or images.

    Raises:
        ValueError: If an argument is wrong; in training, if a batch has another form.
        ImportError: If Lightning is not installed.
    """
    from gpuaug.interop.adapters.lightning import AugmentCallback

    return AugmentCallback(augment, fields)


def attach_to_trainer(
    trainer: Kind,
    augment: Augment,
    *,
    image: str = "image",
    label: str = "label",
    index: str | None = None,
    pixels: str = "pixel_values",
    targets: str = "labels",
) -> Kind:
    """Let a Hugging Face Trainer augment its batches on the device. Call it before `train`.

    Training steps run the training list, evaluation and prediction steps the evaluation list. Each epoch has its own
    draws; checkpoints contain the state of the module in `trainer_state.json`, and `resume_from_checkpoint` restores
    it. `remove_unused_columns` is set to False, as the fields of the data set are not arguments of the model.

    If the Trainer was given no `data_collator`, it gets `trainer_collate`; and without `index` a map-style training set
    is wrapped in `ga.data.Indexed`, so that draws depend neither on the order of the images nor on the number of
    processes. A `data_collator` of your own must return such batches.

    If the training list mixes, labels become (B, classes) weights, for which a model of transformers would silently
    choose a binary cross entropy, and then fail in evaluation. So the loss is the cross entropy, unless the Trainer
    has a `compute_loss_func` or the model's configuration a `problem_type`.

    Args:
        trainer: The Trainer, of any subclass.
        augment: Module that augments. It is not part of the model. ToDtype("auto") gives the model's dtype.
        image, label, index: Names of the data set's fields.
        pixels, targets: Names of the model's arguments for images and labels.

    Returns:
        The same Trainer.

    Raises:
        ValueError: If an argument is wrong, the Trainer already has a module, or its label smoothing meets a mix.
        ImportError: If transformers is not installed.
    """
    from gpuaug.interop.adapters.trainer import attach

    return attach(trainer, augment, (image, label, index), (pixels, targets))


def trainer_collate(
    image: str = "image",
    label: str = "label",
    index: str | None = None,
    *,
    pixels: str = "pixel_values",
    targets: str = "labels",
) -> Callable[[Sequence[object]], dict[str, object]]:
    """Make a collate function for raw images of a data set of dicts, whose batches are dicts too.

    Args:
        image, label, index: Names of the data set's fields, as of `ga.collate`.
        pixels, targets: Names of the batch's fields with images and labels. The index is in "index".

    Returns:
        A function of a list of dicts. It can be pickled for workers.
    """
    return named_collate((image, label, index), (pixels, targets))


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
