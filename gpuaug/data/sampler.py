"""Repeated augmentation: several copies of an image in an epoch, each with a draw of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler

from gpuaug import checks
from gpuaug.data.dataset import Decoded
from gpuaug.data.workers import world

__all__ = ["RepeatedAugmentationSampler"]


class RepeatedAugmentationSampler(Sampler[tuple[int, int]]):
    """Deal `num_repeats` copies of each image to the ranks in turn, as timm's RepeatAugSampler does.

    It yields (number, copy), for which our data sets give each copy an index of its own, so no two samples of an epoch
    share a draw, on whatever ranks they are. An epoch is as long as without repeats, about `len(dataset) /
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
            raise checks.bad(self, "dataset", "one whose images have copies", checks.describe(dataset), remedy)
        if len(dataset) == 0:
            raise checks.bad(self, "dataset", "at least one image", "none")
        self.dataset = dataset
        self.num_repeats = checks.number(self, "num_repeats", num_repeats, 1, math.inf)
        ranks, place = world()
        self.num_replicas = checks.integer(self, "num_replicas", ranks if num_replicas is None else num_replicas, 1)
        self.rank = checks.integer(self, "rank", place if rank is None else rank, 0, self.num_replicas - 1)
        self.shuffle = bool(shuffle)
        self.seed = checks.integer(self, "seed", seed, 0, 2**63)
        self.epoch = 0
        selected_round = checks.integer(self, "selected_round", selected_round, 0)
        ratio = checks.number(self, "selected_ratio", selected_ratio, 0, math.inf) or self.num_replicas
        images, most = len(dataset), math.ceil(len(dataset) * self.num_repeats / self.num_replicas)
        rounded = selected_round > 0 and images >= selected_round
        wanted = math.floor(images // selected_round * selected_round / ratio) if rounded else math.ceil(images / ratio)
        self.num_samples = min(wanted, most)

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Shuffle differently from now on; the same epoch gives the same order again."""
        self.epoch = checks.integer(self, "epoch", epoch, 0, 2**32 - 1)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        count = len(self.dataset)
        generator = torch.Generator("cpu").manual_seed(self.seed + self.epoch)
        order = torch.randperm(count, generator=generator, device="cpu").numpy() if self.shuffle else np.arange(count)
        # The deal: every image's copies side by side, the ranks take them in turn, from the front again at the end.
        places = (np.arange(math.ceil(self.num_repeats * count)) // self.num_repeats).astype(np.int64)
        again, at = np.divmod(self.rank + self.num_replicas * np.arange(self.num_samples), len(places))
        copies = at - np.searchsorted(places, places[at]) + again * math.ceil(self.num_repeats)
        return zip(order[places[at]].tolist(), copies.tolist(), strict=True)
