"""Samplers that number the looks at an image in an epoch, so that each look gets its own random draws."""

from __future__ import annotations

import copy
import itertools
import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, Sampler
from torch.utils.data.distributed import DistributedSampler

from gpuaug import checks
from gpuaug.data.dataset import IndexedDataset
from gpuaug.data.index import Numbered
from gpuaug.engine.distributed import world
from gpuaug.philox import LOOKS

__all__ = ["NumberedSampler", "NumberingSampler", "RepeatedAugmentationSampler"]

PAGE = 1024  # image numbers whose looks are counted in one array: the numbers in use may be far apart


class NumberingSampler(Sampler[Any]):
    """A sampler that numbers its looks over all ranks. DeviceLoader counts its epochs unless `set_epoch` is called."""

    epoch = 0
    _epoch_was_set = False
    _begun = False  # whether the present epoch has been iterated

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which the order depends on; the same epoch gives the same order again.

        Args:
            epoch: Number of the epoch, in [0, 2**32 - 1].

        Raises:
            ValueError: If `epoch` is out of range.
        """
        self.epoch = checks.integer(self, "epoch", epoch, 0, 2**32 - 1)
        self._epoch_was_set, self._begun = True, False

    def _follow(self, epoch: int) -> None:
        """Take over the epoch that DeviceLoader counts, unless the user has set one."""
        if not self._epoch_was_set:
            self.epoch, self._begun = epoch, False


class NumberedSampler(NumberingSampler):
    """Distribute a sampler's image numbers to the ranks in turn, and number the looks at each image over all ranks.

    A sampler may show an image more than once in an epoch: WeightedRandomSampler, RandomSampler with replacement, an
    infinite sampler. The looks are numbered in the sampler's order, so each look gets its own random draws. These
    are the same for any number of ranks and workers, and after a resume. Pass the NumberedSampler to a DataLoader of
    one of gpuaug's data sets, or of one that returns its index. A Subset or ConcatDataset loses the look: wrap it in
    ga.data.Indexed.

    A torch sampler without a generator gets one, seeded with `seed + epoch`, so that all ranks see the same order.
    Other samplers must produce the same order on all ranks themselves. If the numbers do not divide evenly among the
    ranks, the last ranks get further looks at the first images, or `drop_last` drops the rest. DistributedSampler
    distributes its numbers itself: here only their looks are numbered.

    Args:
        sampler: Sampler of image numbers. For a sampler of batches: BatchSampler(NumberedSampler(sampler), ...).
        num_replicas: Number of ranks. None: that of torch.distributed, or 1 if it is not initialized.
        rank: Number of this rank, in [0, num_replicas - 1]. None: that of torch.distributed, or 0.
        seed: Seed of the generator, in [0, 2**63], the same on all ranks.
        drop_last: Whether to drop the last numbers instead of repeating the first ones.

    Yields:
        Numbered: The number of an image, with `look`.

    Raises:
        ValueError: If an argument has a wrong type or value, or if the sampler yields something other than numbers.
    """

    def __init__(
        self,
        sampler: Iterable[int],
        num_replicas: int | None = None,
        rank: int | None = None,
        *,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        if not hasattr(sampler, "__iter__") or isinstance(sampler, (NumberingSampler, BatchSampler)):
            expected, remedy = "a sampler of plain numbers", "Put BatchSampler around NumberedSampler."
            raise checks.argument_error(self, "sampler", expected, checks.describe(sampler), remedy)
        self.sampler: Any = sampler
        self._is_distributed = isinstance(sampler, DistributedSampler)
        ranks, own = (sampler.num_replicas, sampler.rank) if isinstance(sampler, DistributedSampler) else world()
        if self._is_distributed and (num_replicas, rank) not in ((None, None), (ranks, own)):
            expected = f"{ranks} as the DistributedSampler's, with rank {own}"
            raise checks.argument_error(self, "num_replicas", expected, f"{num_replicas}, with rank {rank}")
        self.num_replicas = checks.integer(self, "num_replicas", ranks if num_replicas is None else num_replicas, 1)
        self.rank = checks.integer(self, "rank", own if rank is None else rank, 0, self.num_replicas - 1)
        self.seed = checks.integer(self, "seed", seed, 0, 2**63)
        self.drop_last = bool(drop_last)

    def __len__(self) -> int:
        count = len(self.sampler)
        if self._is_distributed:
            return count
        return count // self.num_replicas if self.drop_last else -(-count // self.num_replicas)

    def __iter__(self) -> Iterator[Numbered]:
        if self._begun:
            self.epoch += 1
        self._begun = True
        sampler = self.sampler
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(self.epoch)
        if getattr(sampler, "generator", 0) is None:
            sampler = copy.copy(sampler)
            sampler.generator = torch.Generator().manual_seed(self.seed + self.epoch)
        if self._is_distributed:
            count = len(sampler.dataset)
            for at, number in enumerate(sampler):
                yield Numbered(number, (self.rank + at * self.num_replicas) // count)
        else:
            yield from self._distributed(map(self._checked, sampler))

    def _distributed(self, numbers: Iterator[int]) -> Iterator[Numbered]:
        first = list[Numbered]()  # the first round
        pages: defaultdict[int, array[int]] = defaultdict(lambda: array("H", bytes(2 * PAGE)))

        def numbered(number: int) -> Numbered:
            seen, at = pages[number // PAGE], number % PAGE
            look, seen[at] = seen[at], (seen[at] + 1) % LOOKS
            return Numbered(number, look)

        while round_ := [numbered(number) for number in itertools.islice(numbers, self.num_replicas)]:
            first = first or round_
            if len(round_) < self.num_replicas:
                if self.drop_last:
                    return
                missing = self.num_replicas - len(round_)
                round_ += [numbered(number) for number in itertools.islice(itertools.cycle(first), missing)]
            yield round_[self.rank]

    def _checked(self, number: Any) -> int:
        if not checks.is_integer(number) or number < 0:
            expected, remedy = "a sampler of image numbers", "Put BatchSampler around NumberedSampler."
            raise checks.argument_error(self, "sampler", expected, checks.describe(number), remedy)
        return int(number)


class RepeatedAugmentationSampler(NumberingSampler):
    """Distribute `num_repeats` copies of each image to the ranks in turn, as timm's RepeatAugSampler does.

    It yields (number, copy). gpuaug's data sets use the copy as the look of the index, so no two samples of an epoch
    share their random draws, whatever ranks they are on. An epoch is as long as without repeats, about `len(dataset) /
    num_replicas` samples per rank, so it shows one image out of `num_repeats`. With at least `num_repeats` ranks, the
    copies of an image go to different ranks and are in the same step of the optimizer. With fewer ranks, some copies
    are neighbours in a rank's batch.

    The order depends on `seed + epoch`, as DistributedSampler's does; with seed=0 it is timm's. If all copies are used
    and the samples do not divide evenly among the ranks, timm repeats the first samples; this sampler adds further
    copies of the first images.

    Berman et al., MultiGrain, arXiv:1902.05509; Hoffer et al., Augment your batch, arXiv:1901.09335.

    Args:
        dataset: ga.data.ImageFolder, ga.data.Packed, or another data set wrapped in ga.data.Indexed.
        num_repeats: Copies of each image, at least 1. With 1.5, every other image has two copies.
        num_replicas: Number of ranks. None: that of torch.distributed, or 1 if it is not initialized.
        rank: Number of this rank, in [0, num_replicas - 1]. None: that of torch.distributed, or 0.
        shuffle: Whether to shuffle the images in each epoch.
        seed: Seed of the order, in [0, 2**63], the same on all ranks.
        selected_round: Number of images. If the data set has at least that many, the images of an epoch are rounded
            down to a multiple of it. 0: no rounding.
        selected_ratio: Divisor of the number of images that gives the length of a rank's epoch. 0: `num_replicas`.

    Yields:
        tuple[int, int]: (number, copy), for `dataset[number, copy]`.

    Raises:
        ValueError: If an argument has a wrong type or value.
    """

    def __init__(
        self,
        dataset: IndexedDataset[object],
        num_repeats: float = 3,
        *,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        selected_round: int = 256,
        selected_ratio: float = 0,
    ) -> None:
        if not isinstance(dataset, IndexedDataset):
            expected, remedy = "a data set of gpuaug.data", "Wrap it in ga.data.Indexed."
            raise checks.argument_error(self, "dataset", expected, checks.describe(dataset), remedy)
        if len(dataset) == 0:
            raise checks.argument_error(self, "dataset", "at least one image", "none")
        self.dataset = dataset
        self.num_repeats = checks.number(self, "num_repeats", num_repeats, 1, math.inf)
        ranks, own = world()
        self.num_replicas = checks.integer(self, "num_replicas", ranks if num_replicas is None else num_replicas, 1)
        self.rank = checks.integer(self, "rank", own if rank is None else rank, 0, self.num_replicas - 1)
        self.shuffle = bool(shuffle)
        self.seed = checks.integer(self, "seed", seed, 0, 2**63)
        selected_round = checks.integer(self, "selected_round", selected_round, 0)
        ratio = checks.number(self, "selected_ratio", selected_ratio, 0, math.inf) or self.num_replicas
        images, most = len(dataset), math.ceil(len(dataset) * self.num_repeats / self.num_replicas)
        rounded = selected_round > 0 and images >= selected_round
        wanted = math.floor(images // selected_round * selected_round / ratio) if rounded else math.ceil(images / ratio)
        self.num_samples = min(wanted, most)

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[tuple[int, int]]:
        count = len(self.dataset)
        generator = torch.Generator("cpu").manual_seed(self.seed + self.epoch)
        order = torch.randperm(count, generator=generator, device="cpu").numpy() if self.shuffle else np.arange(count)
        # All copies in a row, those of an image side by side. The ranks take them in turn, and start again at the end.
        places = (np.arange(math.ceil(self.num_repeats * count)) // self.num_repeats).astype(np.int64)
        again, at = np.divmod(self.rank + self.num_replicas * np.arange(self.num_samples), len(places))
        copies = at - np.searchsorted(places, places[at]) + again * math.ceil(self.num_repeats)
        return zip(order[places[at]].tolist(), copies.tolist(), strict=True)
