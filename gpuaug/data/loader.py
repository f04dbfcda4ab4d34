"""From a DataLoader of raw batches to augmented ones on the device, the next one under way while this one is used."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler

from gpuaug import checks
from gpuaug.augment import Augment
from gpuaug.data.ahead import Ahead
from gpuaug.data.sampler import NumberingSampler
from gpuaug.data.transport.encoded import Encoded
from gpuaug.data.transport.shared import Mapped
from gpuaug.engine.distributed import world
from gpuaug.engine.numbering import Mode, Reserved
from gpuaug.ragged import Ragged
from gpuaug.transforms.opaque import Opaque

__all__ = ["DeviceLoader"]


WAIT = ("mps",)  # devices whose copies that do not wait may read a batch's memory when another batch is there already
# Samplers of torch that know nothing of ranks: each rank shows all images, and needs draws of its own.
ALONE = (SequentialSampler, RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


# Attributes of the wrapped loader that this one shows as its own.
FORWARDED = (
    "dataset",
    "batch_size",
    "sampler",
    "batch_sampler",
    "num_workers",
    "drop_last",
    "collate_fn",
    "pin_memory",
)

# What says that an object has a state: Lightning, Fabric, Accelerate and torch.distributed.checkpoint look for these
# names and call what they find, so only a DeviceLoader whose loader has them may have them.
STATE = ("state_dict", "load_state_dict")

# Where a loader, a sampler or a data set keeps others that may want to know the epoch: torch, Accelerate, torchdata.
INSIDE = ("batch_sampler", "sampler", "dataset", "datasets", "base_dataloader", "dataloader")

# Modules that train, and the loaders, without `train`, that were iterated with them.
_training: weakref.WeakKeyDictionary[Augment, weakref.WeakSet[DeviceLoader]] = weakref.WeakKeyDictionary()


class Moved(NamedTuple):
    """A batch on the device."""

    images: Tensor | Ragged
    labels: Tensor | None
    index: Tensor | None  # type: ignore[assignment]  # hides tuple.index
    place: Any  # the wrapped loader's state after it, if it has one


class Ready(NamedTuple):
    """A batch on its way to the user."""

    result: Any  # what the user gets
    taken: Reserved  # the numbers and looks of its samples
    place: Any


class DeviceLoader:
    """Iterate over augmented batches on a device.

    On CUDA each batch is copied on a side stream while the device works on the one before, and augmented on the
    current stream. Elsewhere a background thread fetches and augments the next batch during the consumer's step; with
    opaque steps, which use torch's global generator, it only fetches. When the consumer leaves, by whatever way, the
    batch that is being fetched is waited for only briefly, so a source that is stuck does not keep the process alive.

    Args:
        loader: a DataLoader, or what iterates like one, of batches (images, labels, index), (images, labels) or
            images. Images are uint8 (B, C, H, W), Ragged or Encoded, as `ragged_collate` makes them; without an index
            the module's counter numbers the samples. Give it pin_memory=True for CUDA.
        device: where to augment.
        augment: the module. Its mode (train or eval) and epoch at the first batch are those of every batch. A pass in
            training is an epoch: the one that `set_epoch` told, or else the one after the last. Further passes in an
            epoch that was told have draws of their own.
        train: True runs the training list and False the evaluation list, whatever mode the module is in. None: the
            mode of the module, which nobody sets to eval if it is no submodule of the model.

    The attributes dataset, batch_size, sampler, batch_sampler, num_workers, drop_last, collate_fn and pin_memory are
    those of the loader. It has state_dict and load_state_dict if the loader has them (see `ResumableLoader`).

    Yields:
        (images, targets), as `augment` returns them; images alone where the loader gives no labels.

    Raises:
        ValueError: if an argument is something else, or a batch is.
    """

    def __new__(cls, loader: Any = None, *arguments: Any, **options: Any) -> DeviceLoader:
        keeps = cls is DeviceLoader and all(hasattr(loader, name) for name in STATE)
        return super().__new__(ResumableLoader if keeps else cls)

    def __init__(self, loader: Any, device: torch.device | str, augment: Augment, *, train: bool | None = None) -> None:
        if not isinstance(augment, Augment):
            raise checks.argument_error("DeviceLoader", "augment", "a gpuaug.Augment", checks.describe(augment))
        if not hasattr(loader, "__iter__"):
            raise checks.argument_error("DeviceLoader", "loader", "a DataLoader", checks.describe(loader))
        if train not in (None, True, False):
            raise checks.argument_error("DeviceLoader", "train", "None, True or False", checks.describe(train))
        self.loader, self.augment, self.train = loader, augment, train
        self.device = self._checked(device)
        self._place: Any = None  # of the wrapped loader, after the batch that was last handed out
        self._replaced = 0  # images that could not be decoded here
        self._ahead: Ahead | None = None  # of the last iteration
        self._stateful = True  # as far as is known
        self._warned = False

    def _checked(self, device: Any) -> torch.device:
        try:
            found = torch.device(device)
        except (TypeError, RuntimeError):
            found = torch.device("meta")
        if found.type == "meta" or not present(found):
            remedy = "" if found.type == "meta" else 'Pass "cpu".'
            raise checks.argument_error("DeviceLoader", "device", "one that is here", checks.describe(device), remedy)
        if found.type == "cuda" and found.index is None:
            return torch.device("cuda", torch.cuda.current_device())
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ahead": None}

    def __getattr__(self, name: str) -> Any:
        if name in FORWARDED and "loader" in self.__dict__:  # there is none yet while it is unpickled
            return getattr(self.loader, name)
        if name in STATE and "loader" in self.__dict__:
            raise AttributeError(str(_stateless(name, f"a {type(self.loader).__name__}")))
        raise AttributeError(f"'DeviceLoader' object has no attribute {name!r}")

    def __len__(self) -> int:
        return len(self.loader)

    def __repr__(self) -> str:
        train = "" if self.train is None else f", train={self.train}"
        module = repr(self.augment).replace("\n", "\n    ")
        return f"DeviceLoader(\n    {_described(self.loader)},\n    {str(self.device)!r},\n    {module}{train},\n)"

    @property
    def skipped(self) -> int:
        """How many samples were replaced so far because their file could not be read (`on_error="skip"`)."""
        counting = {id(dataset): dataset for dataset in _counting(self.loader)}
        return self._replaced + sum(dataset.skipped for dataset in counting.values())

    def set_epoch(self, epoch: int) -> None:
        """Tell the module, so that it draws anew, and the loader, its samplers and data sets; before the epoch."""
        self.augment.set_epoch(epoch)
        for part in _inside(self.loader):
            if callable(getattr(part, "set_epoch", None)):
                part.set_epoch(epoch)

    def _begun(self) -> Mode:
        """The mode of a pass that begins now, at its first batch: frameworks make iterators that they never use."""
        numbering = self.augment._numbering
        if not self._trains():
            return numbering.mode(False)
        self._warn_of_ranks()
        self._warn_of_evaluation()
        batches: Any = getattr(self.loader, "batch_sampler", None)
        shared: bool | None = None
        if any(isinstance(part, (NumberingSampler, DistributedSampler)) for part in _inside(self.loader)):
            shared = True
        elif _plain(batches) and _is(batches.sampler, *ALONE):
            shared = False
        return numbering.begin(shared)

    def _batches(self, mode: Mode) -> Iterator[Any]:
        """The wrapped loader's pass."""
        for part in _inside(self.loader) if mode.training else ():
            if isinstance(part, NumberingSampler):
                part._follow(mode.epoch + mode.again)
        return iter(self.loader)

    def _ended(self, mode: Mode) -> None:
        if mode.training:
            self.augment._numbering.epochs.end(mode.version)
        self._place = None

    def __iter__(self) -> Iterator[Any]:
        return self._streamed() if self.device.type == "cuda" else self._threaded()

    def _trains(self) -> bool:
        return self.augment.training if self.train is None else self.train

    def _warn_of_ranks(self) -> None:
        """Once, where every rank of a distributed group shows all images of an epoch."""
        ranks, _ = world()
        batches: Any = getattr(self.loader, "batch_sampler", None)
        sampler = batches.sampler if _plain(batches) else None
        alone = _is(sampler, SequentialSampler, RandomSampler, SubsetRandomSampler)
        if ranks > 1 and alone and not getattr(sampler, "replacement", False) and not self._warned:
            self._warned = True
            warnings.warn(
                f"DeviceLoader: the loader has no distributed sampler, so each of the {ranks} ranks trains on all of "
                "its images. Pass sampler=torch.utils.data.distributed.DistributedSampler(dataset) to the DataLoader, "
                "unless each rank has a data set of its own.",
                stacklevel=4,
            )

    def _warn_of_evaluation(self) -> None:
        """Once, where one module trains on two loaders and neither says that it is for training."""
        if self.train is not None:
            return
        others = _training.setdefault(self.augment, weakref.WeakSet())
        known = any(other is self or other.loader is self.loader for other in others)
        if others and not known:
            warnings.warn(
                "DeviceLoader: one module runs its training list for two loaders. If one is for evaluation, pass "
                "train=False to its DeviceLoader; if both are for training, pass train=True.",
                stacklevel=4,
            )
        others.add(self)

    # ---- CPU, and devices without streams: a thread works ahead ------------------------------------------------------

    def _threaded(self) -> Iterator[Any]:
        mode = self._begun()
        if self._ahead is not None:
            self._ahead.join()  # two iterations would read from one source
        batches, mapped = self._batches(mode), Mapped()  # here, not in the thread: it may fork
        thread, consumer = Ahead("gpuaug-loader"), threading.get_ident()
        self._ahead = thread
        work = partial(self._next, batches, mode, mapped, thread.fetch)
        coming = thread.submit(work)
        try:
            while (ready := coming.result()) is not None:
                coming = thread.submit(work)
                box = [self._handed_out(self._augmented(ready, mode) if isinstance(ready, Moved) else ready)]
                del ready
                yield box.pop()  # the consumer alone holds it, so that its memory can be used again
        finally:
            coming.add_done_callback(self._taken_back)
            del batches, work
            # The garbage collector may end an iteration in any thread, and others may wait for what that one has to do.
            thread.close(wait=threading.get_ident() == consumer)
        self._ended(mode)

    def _next(
        self, batches: Iterator[Any], mode: Mode, mapped: Mapped, fetch: Callable[[Iterator[Any], object], Any]
    ) -> Moved | Ready | None:
        """The next batch, fetched, moved and augmented.

        An opaque step draws from torch's global generator: not beside the consumer's own draws, but between them.
        """
        moved = self._moved(batches, mapped, fetch=fetch)
        opaque = any(isinstance(step, Opaque) for step in self.augment._pipeline(mode.training).steps)
        return moved if moved is None or opaque else self._augmented(moved, mode)

    def _taken_back(self, coming: Future[Moved | Ready | None]) -> None:
        """The consumer left: the batch that was made ahead has used up no draws."""
        if not coming.cancelled() and coming.exception() is None and isinstance(ready := coming.result(), Ready):
            ready.taken.settle(False)

    # ---- CUDA: a stream copies ahead ---------------------------------------------------------------------------------

    def _streamed(self) -> Iterator[Any]:
        mode = self._begun()
        stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        batches, mapped = self._batches(mode), Mapped()
        moved = self._moved(batches, mapped, stream)
        while moved is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_stream(stream)
            for part in moved[:2]:
                data = part.data if isinstance(part, Ragged) else part
                if data is not None:
                    data.record_stream(current)  # allocated on the other stream, which may not have it back before
            ready, late = self._augmented(moved, mode), None
            del part, data
            try:
                moved = self._moved(batches, mapped, stream)  # its copy runs beside the batch at hand
            except Exception as error:
                late = error  # after the batch at hand, as on a CPU
            except BaseException:
                ready.taken.settle(False)
                raise
            box = [self._handed_out(ready)]
            del ready
            yield box.pop()
            if late is not None:
                raise late
        self._ended(mode)

    # ---- one batch ---------------------------------------------------------------------------------------------------

    def _moved(
        self,
        batches: Iterator[Any],
        mapped: Mapped,
        stream: Any = None,
        fetch: Callable[[Iterator[Any], object], Any] = next,
    ) -> Moved | None:
        """The next batch on the device; None at the end."""
        end = object()
        try:
            batch = fetch(batches, end)
        except RuntimeError as error:
            if "to be equal size" not in str(error):
                raise
            got, remedy = "the default collate_fn", "Pass collate_fn=ga.ragged_collate to the DataLoader."
            raise checks.argument_error(
                "DeviceLoader", "loader", "one that packs images of different sizes", got, remedy
            ) from error
        if batch is end:
            return None
        place = self._place_of_source()
        images, labels, index = self._parts(batch)
        mapped.keep(images if isinstance(images, Tensor) else images.data)
        with nullcontext() if stream is None else torch.cuda.stream(stream):
            if isinstance(images, Encoded):
                images, shown = images.decode(self.device)
                self._replaced += int((shown != torch.arange(len(shown), device="cpu")).sum())
                labels = None if labels is None else labels[shown]
            ahead = self.device.type not in WAIT
            images = images.to(self.device, non_blocking=ahead)
            labels = None if labels is None else labels.to(self.device, non_blocking=ahead)
        return Moved(images, labels, index, place)

    def _place_of_source(self) -> Any:
        """The wrapped loader's state, None if it keeps none."""
        if self._stateful:
            try:
                return self.loader.state_dict()
            except (AttributeError, NotImplementedError):  # `state_dict` will say so to whoever asks
                self._stateful = False
        return None

    def _parts(self, batch: Any) -> tuple[Any, Tensor | None, Tensor | None]:
        parts = tuple(batch) if isinstance(batch, (tuple, list)) else (batch,)
        good = 1 <= len(parts) <= 3 and isinstance(parts[0], (Tensor, Ragged, Encoded))
        if not good or not all(part is None or isinstance(part, Tensor) for part in parts[1:]):
            expected = "one that yields (images, labels, index), (images, labels) or images, as tensors or Ragged"
            got = f"({', '.join(type(part).__name__ for part in parts)})"
            remedy = "Make such tuples in the loader's collate_fn; ga.ragged_collate does."
            raise checks.argument_error("DeviceLoader", "loader", expected, got, remedy)
        return (*parts, None, None)[:3]

    def _augmented(self, moved: Moved, mode: Mode) -> Ready:
        images, labels, index, place = moved
        self.augment._check(images, labels, mode.training)  # that they have a length
        taken = self.augment._numbering.reserve(len(images), index, mode)
        try:
            return Ready(self.augment._run(images, labels, taken.keys, mode.training), taken, place)
        except BaseException:
            taken.settle(False)
            raise

    def _handed_out(self, ready: Ready) -> Any:
        ready.taken.settle(True)
        self._place = ready.place
        return ready.result


class ResumableLoader(DeviceLoader):
    """A DeviceLoader whose loader keeps its place. DeviceLoader(...) makes it; it is no class of its own for users."""

    def state_dict(self) -> Any:
        """The wrapped loader's state after the batch that was last handed out, whatever was fetched ahead since.

        The module's own state is in `augment.state_dict()`, which counts in the same way.

        Raises:
            ValueError: if the loader keeps no state.
        """
        return self._state("state_dict") if self._place is None else self._place

    def load_state_dict(self, state: Any) -> None:
        """Go on after that batch when iteration begins next."""
        self._state("load_state_dict", state)
        self._place = None

    def _state(self, name: str, *arguments: Any) -> Any:
        """What a method of the wrapped loader returns; having it is no proof that it works (Accelerate's loaders)."""
        try:
            return getattr(self.loader, name)(*arguments)
        except (AttributeError, NotImplementedError) as error:
            raise _stateless(name, f"a {type(self.loader).__name__}, whose {name}() fails ({error})") from error


def _stateless(name: str, got: str) -> ValueError:
    remedy = "Use torchdata.stateful_dataloader.StatefulDataLoader."
    expected = "a loader with state_dict() and load_state_dict()"
    return checks.argument_error(f"DeviceLoader.{name}", "loader", expected, got, remedy)


def present(device: torch.device) -> bool:
    """Whether this machine has devices of the type, as far as torch can tell without starting one."""
    module: Any = torch.backends.mps if device.type == "mps" else getattr(torch, device.type, None)
    return bool(module.is_available()) if hasattr(module, "is_available") else True


def _inside(part: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """A loader, and what it is made of: samplers, data sets and loaders."""
    seen = set() if seen is None else seen
    if part is None or id(part) in seen:
        return
    seen.add(id(part))
    yield part
    for name in INSIDE:
        inner = getattr(part, name, None)
        for each in inner if isinstance(inner, (list, tuple)) else [inner]:
            yield from _inside(each, seen)


def _is(part: Any, *kinds: type) -> bool:
    """Whether a sampler is one of torch's, or what torchdata's StatefulDataLoader makes in its place."""
    cls = type(part)
    stateful = cls.__module__.startswith("torchdata.") and cls.__name__ in {kind.__name__ for kind in kinds}
    return stateful or isinstance(part, kinds)


def _plain(batches: Any) -> bool:
    """Whether a batch sampler takes numbers as its sampler yields them: torch's own, not a subclass of somebody's."""
    return type(batches) is BatchSampler or (type(batches).__name__ == "BatchSampler" and _is(batches, BatchSampler))


def _described(loader: Any) -> str:
    if not isinstance(loader, DataLoader):
        return repr(loader)
    given = f"batch_size={loader.batch_size}, num_workers={loader.num_workers}"
    return f"{type(loader).__name__}({loader.dataset!r}, {given})"


def _counting(dataset: Any) -> Iterator[Any]:
    """The data sets that count skips: this one, and those that a Subset or a ConcatDataset is of."""
    if hasattr(dataset, "skipped"):
        yield dataset
    for part in (*getattr(dataset, "datasets", ()), getattr(dataset, "dataset", None)):
        if part is not None:
            yield from _counting(part)
