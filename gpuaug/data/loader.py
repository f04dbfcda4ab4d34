"""Turns raw batches of a DataLoader into augmented ones on the device, and prepares the next one in the meantime."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch

from gpuaug import checks
from gpuaug.augment import Augment
from gpuaug.data import wrapped
from gpuaug.data.ahead import FetchThread
from gpuaug.data.batches import AugmentedBatch, Batch, DeviceBatch
from gpuaug.data.fields import checked_fields
from gpuaug.data.regions import followed
from gpuaug.data.sampler import NumberingSampler
from gpuaug.data.transport import pictures
from gpuaug.data.transport import targets as travel
from gpuaug.data.transport.encoded import Encoded
from gpuaug.data.transport.shared import MappedSegments
from gpuaug.engine.distributed import world
from gpuaug.engine.multi import MultiView
from gpuaug.engine.numbering import Mode

__all__ = ["DeviceLoader"]

WAIT = ("mps",)  # devices whose asynchronous copies may read a batch's memory after the next batch has overwritten it

# Attributes of the wrapped loader that DeviceLoader has too.
FORWARDED = (
    "dataset", "batch_size", "sampler", "batch_sampler", "num_workers", "drop_last", "collate_fn", "pin_memory",
)  # fmt: skip

# Lightning, Fabric, Accelerate and torch.distributed.checkpoint look for these methods and call them if they exist, so
# a DeviceLoader may have them only if its loader has them.
STATE = ("state_dict", "load_state_dict")
Module = Augment | MultiView

# For each module that trains, the loaders that were iterated with it and whose `train` is None.
_training: weakref.WeakKeyDictionary[Module, weakref.WeakSet[DeviceLoader]] = weakref.WeakKeyDictionary()


class DeviceLoader:
    """Iterate over augmented batches on a device.

    On CUDA each batch is copied on a side stream while the device works on the one before, and augmented on the
    current stream. Elsewhere a background thread fetches and augments the next batch during the consumer's step; with
    opaque steps, which use torch's global generator, it only fetches. If the iteration ends early, it waits only
    briefly for the batch that is being fetched, so a source that hangs does not keep the process alive. Around a loader
    of Accelerate, which is asked whether its batch is the last one, it does not work ahead.

    Args:
        loader: DataLoader, or another iterable, of batches (images, labels, index), (images, labels) or images. Images
            are uint8 (B, C, H, W), clips, Ragged or Encoded, as `ragged_collate` makes them, or a mapping of pictures;
            without an index the module's counter numbers the samples. Labels may be targets (docs/targets.md): a
            mapping, or one for each image, of which every tensor is moved to the device. For CUDA, the loader should
            have pin_memory=True.
        device: Device on which batches are augmented.
        augment: Augment or MultiView. Its mode (train or eval) and epoch at the first batch are used for every batch. A
            pass in training is an epoch: the one set by `set_epoch`, or else the next one. Further passes in an epoch
            set by `set_epoch` have different draws.
        train: True for the training list, False for the evaluation list, in any mode of the module. None: by the mode
            of the module, which model.eval() does not change if it is not a submodule of the model.
        fields: For batches that are mappings, the names of their fields, such as {"image": "pixel_values", "label":
            "labels", "index": "index"}, of which only "image" is needed. None: batches are tuples.

    The attributes dataset, batch_size, sampler, batch_sampler, num_workers, drop_last, collate_fn and pin_memory are
    those of the loader. It has state_dict and load_state_dict if the loader has them (see `ResumableLoader`).

    Yields:
        (images, targets), as `augment` returns them; only images if the loader yields no labels. With `fields`, dicts
        with the same names: images and targets, and the other fields on the device, without the index.

    Raises:
        ValueError: If an argument or a batch has another form.
    """

    def __new__(cls, loader: Any = None, *arguments: Any, **options: Any) -> DeviceLoader:
        keeps = cls is DeviceLoader and all(hasattr(loader, name) for name in STATE)
        return super().__new__(ResumableLoader if keeps else cls)

    def __init__(
        self, loader: Iterable[object], device: torch.device | str, augment: Module, *, train: bool | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        if not isinstance(augment, (Augment, MultiView)):
            given = checks.describe(augment)
            raise checks.argument_error("DeviceLoader", "augment", "a gpuaug.Augment or MultiView", given)
        if not hasattr(loader, "__iter__"):
            raise checks.argument_error("DeviceLoader", "loader", "a DataLoader", checks.describe(loader))
        if train not in (None, True, False):
            raise checks.argument_error("DeviceLoader", "train", "None, True or False", checks.describe(train))
        self.loader: Any = loader
        self.augment, self.train, self.fields = augment, train, checked_fields("DeviceLoader", fields)
        self.device = wrapped.checked_device(device)
        self._place: Any = None  # state of the wrapped loader after the batch that was last handed out
        self._replaced = 0  # number of images that could not be decoded here
        self._thread: FetchThread | None = None  # thread of the last iteration
        self._stateful, self._warned = True, False  # stateful until the loader turns out to keep no state

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_thread": None}

    def __getattr__(self, name: str) -> Any:
        if name in FORWARDED and "loader" in self.__dict__:  # there is none yet while it is unpickled
            return getattr(self.loader, name)
        if name in STATE and "loader" in self.__dict__:
            raise AttributeError(str(wrapped.stateless(name, f"a {type(self.loader).__name__}")))
        raise AttributeError(f"'DeviceLoader' object has no attribute {name!r}")

    def __len__(self) -> int:
        return len(self.loader)

    def __repr__(self) -> str:
        train = "" if self.train is None else f", train={self.train}"
        train += "" if self.fields is None else f", fields={self.fields.given()}"
        module, given = repr(self.augment).replace("\n", "\n    "), wrapped.described(self.loader)
        return f"DeviceLoader(\n    {given},\n    {str(self.device)!r},\n    {module}{train},\n)"

    @property
    def skipped(self) -> int:
        """How many samples were replaced so far because their file could not be read (`on_error="skip"`)."""
        datasets = {id(dataset): dataset for dataset in wrapped.counting(self.loader)}
        return self._replaced + sum(dataset.skipped for dataset in datasets.values())

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the module, the loader, its samplers and its data sets. Call it before the epoch."""
        self.augment.set_epoch(epoch)
        for part in wrapped.parts_of(self.loader):
            if callable(getattr(part, "set_epoch", None)):
                part.set_epoch(epoch)

    def _begun(self) -> Mode:
        """The mode of a pass that begins now, at its first batch: frameworks make iterators that they never use."""
        if not self._trains():
            return self.augment.begin_pass(train=False)
        self._warn_of_ranks()
        self._warn_of_evaluation()
        return self.augment.begin_pass(train=True, shared=wrapped.shared_draws(self.loader))

    def _batches(self, mode: Mode) -> Iterator[Any]:
        """An iterator over the wrapped loader's batches."""
        for part in wrapped.parts_of(self.loader) if mode.training else ():
            if isinstance(part, NumberingSampler):
                part._follow(mode.epoch + mode.again)
        return iter(self.loader)

    def _ended(self, mode: Mode) -> None:
        self.augment.end_pass(mode)
        self._place = None

    def __iter__(self) -> Iterator[Batch]:
        mode, run = self._begun(), self._streamed if self.device.type == "cuda" else self._threaded
        with followed(wrapped.parts_of(self.loader), mode, self.augment.pass_key(mode), self.augment):
            yield from run(mode)

    def _trains(self) -> bool:
        return self.augment.training if self.train is None else self.train

    def _warn_of_ranks(self) -> None:
        """Warn once if every rank of a distributed group shows all images of an epoch."""
        ranks, _ = world()
        if ranks > 1 and not self._warned and wrapped.shows_all(self.loader):
            self._warned = True
            warnings.warn(wrapped.UNSHARDED.format(owner="DeviceLoader", ranks=ranks), stacklevel=4)

    def _warn_of_evaluation(self) -> None:
        """Warn once if one module trains on two loaders, and `train` of both is None."""
        if self.train is not None:
            return
        others = _training.setdefault(self.augment, weakref.WeakSet())
        known = any(other is self or other.loader is self.loader for other in others)
        if others and not known:
            warnings.warn(wrapped.TWO_LOADERS, stacklevel=4)
        others.add(self)

    # ---- CPU, and devices without streams: a thread works ahead ------------------------------------------------------

    def _threaded(self, mode: Mode) -> Iterator[Batch]:
        if self._thread is not None:
            self._thread.join()  # two iterations would read from one source
        batches, mapped = self._batches(mode), MappedSegments()  # here, not in the thread: it may fork
        thread, consumer, ahead = (
            FetchThread("gpuaug-loader"),
            threading.get_ident(),
            wrapped.may_run_ahead(self.loader),
        )
        self._thread = thread
        work = partial(self._next, batches, mode, mapped, thread.fetch)
        coming = thread.submit(work)
        try:
            while (ready := coming.result()) is not None:
                coming = thread.submit(work if ahead else lambda: None)
                box = [self._handed_out(self._augmented(ready, mode) if isinstance(ready, DeviceBatch) else ready)]
                del ready
                yield box.pop()  # only the consumer refers to it, so that its memory can be recycled
                coming = coming if ahead else thread.submit(work)
        finally:
            coming.add_done_callback(self._taken_back)
            del batches, work
            # The garbage collector may end an iteration in any thread, and others may wait for work of that thread.
            thread.close(wait=threading.get_ident() == consumer)
        self._ended(mode)

    def _next(
        self, batches: Iterator[Any], mode: Mode, mapped: MappedSegments, fetch: Callable[[Iterator[Any], object], Any]
    ) -> DeviceBatch | AugmentedBatch | None:
        """The next batch, fetched, moved and augmented.

        Not augmented with an opaque step: it uses torch's global generator, which the consumer may use meanwhile.
        """
        moved = self._moved(batches, mapped, fetch=fetch)
        late = moved is None or self.augment.draws_globally(mode.training)
        return moved if moved is None or late else self._augmented(moved, mode)

    def _taken_back(self, coming: Future[DeviceBatch | AugmentedBatch | None]) -> None:
        """Give back the draws of the batch that was prepared ahead, when the iteration has ended early."""
        ready = None if coming.cancelled() or coming.exception() is not None else coming.result()
        if isinstance(ready, AugmentedBatch):
            ready.reservation.release()

    # ---- CUDA: a stream copies ahead ---------------------------------------------------------------------------------

    def _streamed(self, mode: Mode) -> Iterator[Batch]:
        stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        batches, mapped, ahead = self._batches(mode), MappedSegments(), wrapped.may_run_ahead(self.loader)
        moved = self._moved(batches, mapped, stream)
        while moved is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_stream(stream)
            travel.keep_for(pictures.buffers(moved.images), [moved.labels, moved.rest], current)
            ready, late = self._augmented(moved, mode), None
            try:  # its copy runs while the current batch is augmented
                moved = self._moved(batches, mapped, stream) if ahead else None
            except Exception as error:
                late = error  # raised after the current batch, as on a CPU
            except BaseException:
                ready.reservation.release()
                raise
            box = [self._handed_out(ready)]
            del ready
            yield box.pop()
            if late is not None:
                raise late
            moved = moved if ahead else self._moved(batches, mapped, stream)
        self._ended(mode)

    # ---- one batch ---------------------------------------------------------------------------------------------------

    def _moved(
        self,
        batches: Iterator[Any],
        mapped: MappedSegments,
        stream: Any = None,
        fetch: Callable[[Iterator[Any], object], Any] = next,
    ) -> DeviceBatch | None:
        """The next batch on the device; None at the end."""
        end = object()
        try:
            batch = fetch(batches, end)
        except RuntimeError as error:
            if "to be equal size" not in str(error):
                raise
            raise wrapped.unequal() from error
        if batch is end:
            return None
        place = self._place_of_source()
        images, labels, index, rest = wrapped.split_batch(batch, self.fields)
        for data in pictures.buffers(images):
            mapped.keep(data)
        with nullcontext() if stream is None else torch.cuda.stream(stream):
            if isinstance(images, Encoded):
                images, shown = images.decode(self.device)
                self._replaced += int((shown != torch.arange(len(shown), device="cpu")).sum())
                labels, rest = travel.shown(labels, shown), travel.shown(rest, shown)
            ahead = self.device.type not in WAIT
            images = pictures.moved(images, self.device, ahead)
            labels, rest = (travel.moved(part, self.device, ahead) for part in (labels, rest))
        return DeviceBatch(images, labels, index, place, rest)

    def _place_of_source(self) -> Any:
        """The wrapped loader's state; None if it keeps none."""
        if self._stateful:
            try:
                return self.loader.state_dict()
            except (AttributeError, NotImplementedError):  # `state_dict` raises an error when it is called
                self._stateful = False
        return None

    def _augmented(self, moved: DeviceBatch, mode: Mode) -> AugmentedBatch:
        images, labels, index, place, rest = moved
        call = self.augment.prepare(images, labels, index=index, mode=mode)
        try:
            result: Any = call.run() if self.fields is None else self.fields.join(call.run(), rest)
            return AugmentedBatch(result, call.reservation, place)
        except BaseException:
            call.release()
            raise

    def _handed_out(self, ready: AugmentedBatch) -> Batch:
        ready.reservation.commit()
        self._place = ready.place
        return ready.result


class ResumableLoader(DeviceLoader):
    """A DeviceLoader whose loader keeps its state. DeviceLoader(...) makes it; users do not construct it."""

    def state_dict(self) -> Any:
        """The wrapped loader's state after the batch that was last handed out, not counting batches fetched ahead.

        The module's own state is in `augment.state_dict()`, which counts in the same way.

        Raises:
            ValueError: If the loader keeps no state.
        """
        return self._state("state_dict") if self._place is None else self._place

    def load_state_dict(self, state: Any) -> None:
        """Continue after that batch in the next iteration."""
        self._state("load_state_dict", state)
        self._place = None

    def _state(self, name: str, *arguments: Any) -> Any:
        """Call a method of the wrapped loader; it may exist and still not work (Accelerate's loaders)."""
        try:
            return getattr(self.loader, name)(*arguments)
        except (AttributeError, NotImplementedError) as error:
            raise wrapped.stateless(name, f"a {type(self.loader).__name__}, whose {name}() fails ({error})") from error
