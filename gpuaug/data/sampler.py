"""Samplers that number the looks at an image in an epoch, so that each has a draw of its own."""

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
from gpuaug.data.dataset import Decoded
from gpuaug.data.index import Numbered
from gpuaug.engine.distributed import world
from gpuaug.philox import LOOKS

__all__ = ["NumberedSampler", "NumberingSampler", "RepeatedAugmentationSampler"]

PAGE = 1024  # numbers whose looks are counted in one array; numbers of a data set may lie far apart


class NumberingSampler(Sampler[Any]):
    """A sampler that numbers its looks over all ranks. `set_epoch` tells the epoch; DeviceLoader counts it if not."""

    epoch = 0
    _told = False
    _begun = False

    def set_epoch(self, epoch: int) -> None:
        """Shuffle differently from now on; the same epoch gives the same order again."""
        self.epoch = checks.integer(self, "epoch", epoch, 0, 2**32 - 1)
        self._told, self._begun = True, False

    def _follow(self, epoch: int) -> None:
        """The epoch that DeviceLoader counts."""
        if not self._told:
            self.epoch, self._begun = epoch, False


class NumberedSampler(NumberingSampler):
    """Deal what a sampler yields to the ranks in turn, and number the looks at each image over all of them.

    Where a sampler shows an image more than once in an epoch (WeightedRandomSampler, RandomSampler with replacement,
    an infinite one), the looks are numbered in its order, so each has a draw of its own, the same for any number of
    ranks and workers, and after a resume. Give it to a DataLoader with one of our data sets, or one that returns its
    index. Inside a Subset or ConcatDataset the number is lost: wrap that in ga.data.Indexed.

    A sampler of torch's that has no generator of its own gets one, seeded by `seed + epoch`, so that all ranks see one
    order; other samplers must see to that. If the ranks do not come out even, they take further looks from the front,
    or `drop_last` drops what is over. DistributedSampler deals by itself: its looks are numbered as they are.

    Args:
        sampler: of numbers, not of batches: BatchSampler(NumberedSampler(sampler), ...).
        num_replicas, rank: None: torch.distributed's if it is initialized, otherwise 1 and 0.
        seed: the same on all ranks.
        drop_last: drop the last numbers rather than deal further looks.

    Yields:
        `Numbered`, an int with `look`.

    Raises:
        ValueError: if an argument is something else or out of range, or the sampler yields no numbers.
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
        self._deals = isinstance(sampler, DistributedSampler)
        ranks, place = (sampler.num_replicas, sampler.rank) if self._deals else world()  # type: ignore[attr-defined]
        if self._deals and (num_replicas, rank) not in ((None, None), (ranks, place)):
            expected = f"{ranks} as the DistributedSampler's, with rank {place}"
            raise checks.argument_error(self, "num_replicas", expected, f"{num_replicas}, with rank {rank}")
        self.num_replicas = checks.integer(self, "num_replicas", ranks if num_replicas is None else num_replicas, 1)
        self.rank = checks.integer(self, "rank", place if rank is None else rank, 0, self.num_replicas - 1)
        self.seed = checks.integer(self, "seed", seed, 0, 2**63)
        self.drop_last = bool(drop_last)

    def __len__(self) -> int:
        count = len(self.sampler)
        if self._deals:
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
        if self._deals:
            count = len(sampler.dataset)
            for at, number in enumerate(sampler):
                yield Numbered(number, (self.rank + at * self.num_replicas) // count)
        else:
            yield from self._dealt(map(self._checked, sampler))

    def _dealt(self, numbers: Iterator[int]) -> Iterator[Numbered]:
        first = list[Numbered]()
        pages: defaultdict[int, array[int]] = defaultdict(lambda: array("H", bytes(2 * PAGE)))

        def numbered(number: int) -> Numbered:
            seen, at = pages[number // PAGE], number % PAGE
            look, seen[at] = seen[at], (seen[at] + 1) % LOOKS
            return Numbered(number, look)

        while deal := [numbered(number) for number in itertools.islice(numbers, self.num_replicas)]:
            first = first or deal
            if len(deal) < self.num_replicas:
                if self.drop_last:
                    return
                deal += [numbered(n) for n in itertools.islice(itertools.cycle(first), self.num_replicas - len(deal))]
            yield deal[self.rank]

    def _checked(self, number: Any) -> int:
        if not checks.is_integer(number) or number < 0:
            remedy = "Put BatchSampler around NumberedSampler."
            raise checks.argument_error(
                self, "sampler", "one that yields numbers of images", checks.describe(number), remedy
            )
        return int(number)


class RepeatedAugmentationSampler(NumberingSampler):
    """Deal `num_repeats` copies of each image to the ranks in turn, as timm's RepeatAugSampler does.

    It yields (number, copy), and the copy is the look of the index that our data sets give, so no two samples of an
    epoch share a draw, on whatever ranks they are. An epoch is as long as without repeats, about `len(dataset) /
    num_replicas` samples on a rank, so it shows one image in `num_repeats`. With at least `num_repeats` ranks the
    copies of an image go to different ranks, and meet in a step of the optimizer; with fewer, some are neighbours in a
    rank's batch.

    The order is a function of `seed + epoch`, as DistributedSampler's is; with seed=0 it is timm's. Where all copies
    are dealt and the ranks are not even, timm deals the first ones again; here those are further copies.

    Berman et al., MultiGrain, arXiv:1902.05509; Hoffer et al., Augment your batch, arXiv:1901.09335.

    Args:
        dataset: one of ours: ga.data.ImageFolder, or any other wrapped in ga.data.Indexed.
        num_repeats: copies of each image, at least 1; 1.5 repeats every other image.
        num_replicas, rank: None: torch.distributed's if it is initialized, otherwise 1 and 0.
        shuffle: the images, anew in each epoch.
        seed: the same on all ranks.
        selected_round: where the data set has that many images, an epoch is cut to a multiple of it; 0 does not cut.
        selected_ratio: what to divide the number of images by for the length of a rank's epoch. 0: `num_replicas`.

    Yields:
        (number, copy), for `dataset[number, copy]`.

    Raises:
        ValueError: if an argument is something else or out of range.
    """

    def __init__(
        self,
        dataset: Decoded,
        num_repeats: float = 3,
        *,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        selected_round: int = 256,
        selected_ratio: float = 0,
    ) -> None:
        if not isinstance(dataset, Decoded):
            remedy = "Wrap it in ga.data.Indexed."
            raise checks.argument_error(
                self, "dataset", "one whose images have copies", checks.describe(dataset), remedy
            )
        if len(dataset) == 0:
            raise checks.argument_error(self, "dataset", "at least one image", "none")
        self.dataset = dataset
        self.num_repeats = checks.number(self, "num_repeats", num_repeats, 1, math.inf)
        ranks, place = world()
        self.num_replicas = checks.integer(self, "num_replicas", ranks if num_replicas is None else num_replicas, 1)
        self.rank = checks.integer(self, "rank", place if rank is None else rank, 0, self.num_replicas - 1)
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
        # The deal: every image's copies side by side, the ranks take them in turn, from the front again at the end.
        places = (np.arange(math.ceil(self.num_repeats * count)) // self.num_repeats).astype(np.int64)
        again, at = np.divmod(self.rank + self.num_replicas * np.arange(self.num_samples), len(places))
        copies = at - np.searchsorted(places, places[at]) + again * math.ceil(self.num_repeats)
        return zip(order[places[at]].tolist(), copies.tolist(), strict=True)
