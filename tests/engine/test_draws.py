"""Every look at an image in training has its own draw, see docs/draws.md (long: a case for each report)."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, TensorDataset, WeightedRandomSampler

import gpuaug as ga
from gpuaug.engine.looks import MOST, PAGE, Looks
from gpuaug.philox import LOOKS
from gpuaug.program import Keys
from gpuaug.transforms.mix import partners, strangers
from tests.support.helpers import anew, blank, noise, twin, used

STEPS = [ga.RandomResizedCrop(8), ga.ColorJitter(0.4, 0.4, 0.4, 0.1)]
COUNT = 12


def module(seed: int | None = 5) -> ga.Augment:
    return ga.Augment(STEPS, seed=seed, backend="torch")


def pictures(result: Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in result]


def same(count: int = 8) -> Tensor:
    """The same image many times, so that equal pictures are equal draws."""
    return noise(1).expand(count, -1, -1, -1)


class Same(torch.utils.data.Dataset[Any]):
    """Twelve times the same image, which return their numbers."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, number: int) -> Any:
        return noise(1)[0], int(number), number


def batches(**options: Any) -> DataLoader[Any]:
    return DataLoader(Same(), 4, collate_fn=ga.ragged_collate, **options)


def shown(loader: Any) -> list[bytes]:
    return [picture for images, _ in loader for picture in pictures(images)]


# ---- 1: the same index again -----------------------------------------------------------------------------------------


def test_the_same_index_again_is_the_next_look() -> None:
    augment, index = module(), torch.arange(8)
    seen = [picture for _ in range(5) for picture in pictures(augment(same(), index=index))]
    assert len(set(seen)) == len(seen)
    augment.set_epoch(0)  # which starts the looks again
    assert [picture for _ in range(5) for picture in pictures(augment(same(), index=index))] == seen


def test_the_same_index_within_a_batch() -> None:
    augment = module()
    drawn = pictures(augment(same(), index=torch.tensor([3, 3, 1, 3, 2, 1, 3, 0])))
    assert len(set(drawn)) == 8
    augment.set_epoch(0)
    apart = [pictures(augment(same(1), index=torch.tensor([n])))[0] for n in (3, 3, 1, 3, 2, 1, 3, 0)]
    assert apart == drawn, "however the batches were cut"


def test_evaluation_has_no_looks() -> None:
    augment = ga.Augment([], eval=STEPS, seed=5, backend="torch").eval()
    first, second = (augment(same(), index=torch.arange(8)) for _ in range(2))
    assert torch.equal(first, second)


def test_passes_of_a_device_loader_are_epochs() -> None:
    augment = module()
    loader = ga.DeviceLoader(batches(), "cpu", augment)
    passes = [shown(loader) for _ in range(3)]
    assert augment.epoch == 2
    assert len({picture for one in passes for picture in one}) == 3 * COUNT
    told = module()
    for epoch, pictures_ in enumerate(passes):
        again = ga.DeviceLoader(batches(), "cpu", told)
        again.set_epoch(epoch)
        assert shown(again) == pictures_


def test_passes_within_an_epoch_that_was_told() -> None:
    """The next epoch that is told draws what none of them drew, and a pass that was left goes on in its place."""
    augment, seen, states = module(), [], []
    loader = ga.DeviceLoader(batches(), "cpu", augment)
    for epoch in range(3):
        loader.set_epoch(epoch)
        for _ in range(3):
            for images, _ in loader:
                seen.append(pictures(images))
                states.append((epoch, augment.state_dict()))
    assert len({picture for some in seen for picture in some}) == 9 * COUNT
    assert augment.epoch == 2
    for at in (3, 4, 13):  # in the second pass of their epochs
        again, (epoch, state) = module(), states[at]
        again.load_state_dict(state)
        again.set_epoch(epoch)
        resumed = ga.DeviceLoader([list(batches())[at % 3 + 1]], "cpu", again)
        assert shown(resumed) == seen[at + 1]


def test_an_iterator_that_is_never_used_is_no_pass() -> None:
    """Lightning makes one to see whether it can."""
    augment, expected = module(), module()
    loader = ga.DeviceLoader(batches(), "cpu", augment)
    for _ in range(2):
        unused = iter(loader)
        assert shown(loader) == shown(ga.DeviceLoader(batches(), "cpu", expected))
        del unused
    assert augment.epoch == expected.epoch == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that one module trains on two loaders, as one that is used would
        late = iter(ga.DeviceLoader(batches(), "cpu", augment))
    augment.eval()
    assert [picture for images, _ in late for picture in pictures(images)] == shown(
        ga.DeviceLoader(batches(), "cpu", module().eval())
    )


def test_an_infinite_loop_over_a_loader() -> None:
    def forever(loader: Any) -> Iterator[Any]:
        while True:
            yield from loader

    seen: list[bytes] = []
    for images, _ in forever(ga.DeviceLoader(batches(), "cpu", module())):
        seen += pictures(images)
        if len(seen) >= 5 * COUNT:
            break
    assert len(set(seen)) == len(seen)


def test_an_early_break_and_two_iterators_at_once() -> None:
    augment = module()
    loader = ga.DeviceLoader(batches(), "cpu", augment)
    seen = pictures(next(iter(loader))[0])
    for (one, _), (other, _) in zip(loader, loader, strict=True):
        seen += pictures(one) + pictures(other)
    assert len(seen) == 4 + 2 * COUNT
    assert len(set(seen)) == len(seen)
    assert augment.epoch == 2


def test_an_infinite_sampler_without_numbers() -> None:
    class Infinite(torch.utils.data.Sampler[int]):
        def __iter__(self) -> Iterator[int]:
            while True:
                yield from range(COUNT)

    loader = ga.DeviceLoader(batches(sampler=Infinite()), "cpu", module())
    seen = [picture for (images, _), _ in zip(loader, range(12), strict=False) for picture in pictures(images)]
    assert len(set(seen)) == len(seen) == 48


def test_a_batch_made_ahead_uses_up_no_look() -> None:
    """Leaving a pass early, its state, and that a failed call gives its looks back."""
    augment, expected = module(), module()
    loader = ga.DeviceLoader(batches(), "cpu", augment)
    iterator = iter(loader)
    next(iterator)
    state = augment.state_dict()
    del iterator
    fresh = module()
    fresh.load_state_dict(state)
    expected(same(4), index=torch.arange(4))
    for one in (augment, fresh):
        assert torch.equal(one(same(8), index=torch.arange(8)), twin(expected)(same(8), index=torch.arange(8)))
    augment = module()
    crop = ga.Augment([ga.RandomCrop(20)], seed=5, backend="torch")
    with pytest.raises(ValueError):
        crop(noise(4, 3, 9, 9), index=torch.arange(4))
    draws = [one.sample(noise(4), index=torch.arange(4)).keys.look.tolist() for one in (crop, augment)]
    assert draws == [[0] * 4] * 2


# ---- the count of looks ----------------------------------------------------------------------------------------------


def test_no_two_looks_are_equal_whatever_is_asked_for() -> None:
    """Numbered or not, in any order, at both ends of the range."""
    generator = np.random.default_rng(0)
    looks, seen = Looks(), Counter[tuple[int, int]]()
    for _ in range(300):
        numbers = generator.choice([0, 1, 2, PAGE, 2**40, 2**48 - 1], 9).astype(np.uint64)
        numbered = (generator.integers(0, 4, 9) * generator.integers(0, 2)).astype(np.uint64)
        taken = looks.reserve(numbers | numbered << np.uint64(48))
        looks.commit(taken)
        seen.update(zip(numbers.tolist(), taken.looks.tolist(), strict=True))
    assert max(seen.values()) == 1


def test_numbered_looks_depend_on_nothing_shown_before() -> None:
    looks = Looks()
    for look in (0, 3, 4, 900, LOOKS - 1):
        assert looks.reserve(np.array([7 | look << 48, 8 | look << 48], np.uint64)).looks.tolist() == [look] * 2


def test_looks_go_through_a_state_and_are_given_back() -> None:
    looks = Looks()
    index = np.array([5, 5, 9, 2**47], np.uint64)
    looks.commit(looks.reserve(index))
    pages, entries = looks.save()
    assert entries.shape == (3, 8) or entries.shape == (2, 8)
    again = Looks.load(pages, entries)
    unused = looks.reserve(index)
    assert all(np.array_equal(*pair) for pair in zip(looks.save(), (pages, entries), strict=True))
    looks.release(unused)
    assert looks.reserve(index).looks.tolist() == again.reserve(index).looks.tolist() == unused.looks.tolist()


def test_memory_is_bounded_by_what_was_shown() -> None:
    dense, sparse = Looks(), Looks()
    dense.reserve(np.arange(100_000, dtype=np.uint64))
    sparse.reserve(np.arange(1000, dtype=np.uint64) << np.uint64(30))
    assert dense._pool.nbytes <= 2 * 4 * 100_000
    assert sparse._pool.nbytes <= 2 * 4 * PAGE * 1000


def test_looks_that_begin_to_repeat_say_so() -> None:
    looks = Looks()
    looks.reserve(np.zeros(1, np.uint64))
    looks._pool[0, 0, 1] = MOST - 1
    with pytest.warns(UserWarning, match="more than 65,536 times in one epoch.*set_epoch"):
        looks.reserve(np.zeros(1, np.uint64))


# ---- 3: views --------------------------------------------------------------------------------------------------------


def test_two_modules_are_two_views() -> None:
    one, other = ga.Augment(STEPS, backend="torch"), ga.Augment(STEPS, backend="torch")
    for arguments in ({}, {"index": torch.arange(8)}):
        first, second = pictures(one(same(), **arguments)), pictures(other(same(), **arguments))
        assert not set(first) & set(second)


def test_manual_seed_governs_the_seed_that_is_drawn() -> None:
    seeds = []
    for number in (1, 1, 2):
        torch.manual_seed(number)
        seeds.append([ga.Augment([]).seed, ga.Augment([]).seed])
    assert seeds[0] == seeds[1]
    assert len({seed for pair in seeds for seed in pair}) == 4


def test_a_number_is_that_number() -> None:
    assert torch.equal(module(7)(same()), module(7)(same()))
    assert not torch.equal(module(7)(same()), module(8)(same()))


def test_copies_are_views_of_their_own() -> None:
    """Copies, copies of copies, counted by the family; the same in every run."""

    def family() -> list[bytes]:
        original = module()
        first, second = copy.deepcopy(original), copy.copy(original)
        members = [original, first, second, copy.deepcopy(first), copy.deepcopy([original])[0]]
        return [picture for member in members for picture in pictures(member(same(), index=torch.arange(8)))]

    seen = family()
    assert len(set(seen)) == len(seen) == 40
    assert family() == seen


def test_copies_of_a_copy_that_was_restored_are_views_of_their_own() -> None:
    restored = module()
    restored.load_state_dict(copy.deepcopy(module()).state_dict())
    views = [restored, copy.deepcopy(restored), copy.copy(restored)]
    drawn = [pictures(view(same(), index=torch.arange(8))) for view in views]
    assert len({picture for some in drawn for picture in some}) == 24


def test_a_copy_does_not_share_what_is_used_up() -> None:
    augment = module()
    for other in (copy.copy(augment), copy.deepcopy(augment)):
        other.set_epoch(3)
        other(same())
    assert used(augment) == {"epoch": 0, "counter": 0}


def test_one_draw_for_two_batches_is_asked_for() -> None:
    augment = module()
    draw = augment.sample(same(), index=torch.arange(8))
    assert torch.equal(augment.render(same(), draw), augment.render(same(), draw))
    assert not torch.equal(augment(same()), augment(same()))


def test_the_representation_shows_a_seed_that_was_given() -> None:
    assert "seed" not in repr(ga.Augment([]))
    assert "seed=0" in repr(ga.Augment([], seed=0))


def test_views_are_keys() -> None:
    index = np.arange(4, dtype=np.uint64)
    keys = {Keys(5, epoch, index, view=view).key for epoch in range(9) for view in range(9)}
    assert len(keys) == 81


# ---- 6: mixing with copies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
def test_partners_are_other_images(mode: str) -> None:
    generator = np.random.default_rng(0)
    for _ in range(500):
        size = int(generator.integers(1, 12))
        numbers = generator.integers(0, generator.integers(1, 6), size).astype(np.uint64)
        before = partners(mode, size)
        after, own = strangers(before, numbers), np.arange(size)
        if len(set(numbers.tolist())) == 1:
            assert np.array_equal(after, before)
            continue
        assert not ((numbers[after] == numbers) & (after != own)).any()
        kept = (numbers[before] != numbers) | (before == own)
        assert np.array_equal(after[kept], before[kept])


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize("kind", ["MixUp", "CutMix", "RandomChoice"])
def test_no_sample_is_mixed_with_its_own_copy(kind: str, mode: str, backend: str) -> None:
    """Each image is its label, so a sample of weight 1 was mixed with a copy."""
    mixes = [op(alpha=1.0, num_classes=4, mode=mode) for op in (ga.MixUp, ga.CutMix)]
    mix: Any = ga.RandomChoice(mixes) if kind == "RandomChoice" else mixes[kind == "CutMix"]
    steps = [ga.ToDtype(torch.float32), mix]
    numbers = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
    looks = torch.tensor([0, 1, 2] * 4)
    augment, oracle = (ga.Augment(steps, seed=5, backend=name) for name in (backend, "torch"))
    images, targets = augment(noise(12), numbers, index=numbers | looks << 48)
    assert ((targets > 0).sum(1) == 2).all()
    assert torch.equal(images, oracle(noise(12), numbers, index=numbers | looks << 48)[0])
    plain = ga.Augment(steps, seed=5, backend=backend).sample(noise(4), index=torch.arange(4)).params[1]
    nested = plain if "partner" in plain else plain["0"]
    assert nested["partner"].tolist() == partners(mode, 4).tolist(), "nothing changes without copies"


def test_repeated_augmentation_mixes_with_other_images() -> None:
    data = ga.data.Indexed([(image, number) for number, image in enumerate(noise(COUNT))])
    sampler = ga.data.RepeatedAugmentationSampler(data, 3, selected_ratio=1 / 3)
    loader = DataLoader(data, 9, sampler=sampler, collate_fn=ga.ragged_collate)
    augment = ga.Augment([ga.Resize((8, 8)), ga.ToDtype(torch.float32), ga.MixUp(num_classes=COUNT)], seed=5)
    targets = torch.cat([targets for _, targets in ga.DeviceLoader(loader, "cpu", augment)])
    assert len(targets) == 3 * COUNT
    assert ((targets > 0).sum(1) == 2).all()


# ---- 4: in worker processes ------------------------------------------------------------------------------------------


class Inside:
    """A collate_fn that augments in the worker."""

    def __init__(self, augment: ga.Augment, indexed: bool) -> None:
        self.augment, self.indexed = augment, indexed

    def __call__(self, samples: Any) -> Tensor:
        images = torch.stack([image for image, *_ in samples])
        index = torch.tensor([int(number) for *_, number in samples])
        return self.augment(images, index=index) if self.indexed else self.augment(images)


class Stream(IterableDataset[Any]):
    def __init__(self, augment: ga.Augment) -> None:
        self.augment = augment

    def __iter__(self) -> Iterator[Any]:
        for _ in range(2):
            yield from self.augment(same(4))


def epochs_inside(indexed: bool, epochs: int = 3, **options: Any) -> list[list[bytes]]:
    torch.manual_seed(3)
    collate = Inside(module(None), indexed)
    loader = DataLoader(Same(), 4, collate_fn=collate, **options)
    return [[picture for images in loader for picture in pictures(images)] for _ in range(epochs)]


forked = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@forked
@pytest.mark.parametrize("indexed", [False, True], ids=["counted", "indexed"])
@pytest.mark.parametrize("persistent", [False, True], ids=["anew", "persistent"])
def test_workers_and_epochs_tell_draws_apart(indexed: bool, persistent: bool) -> None:
    options = {"num_workers": 2, "persistent_workers": persistent, "multiprocessing_context": "fork"}
    seen = epochs_inside(indexed, **options)
    whole = [picture for epoch in seen for picture in epoch]
    assert len(set(whole)) == len(whole) == 3 * COUNT
    assert epochs_inside(indexed, **options) == seen, "manual_seed governs them"


@forked
def test_a_stream_of_workers() -> None:
    loader = DataLoader(Stream(module(None)), 4, num_workers=2, multiprocessing_context="fork")
    seen = [picture for _ in range(2) for images in loader for picture in pictures(images)]
    assert len(set(seen)) == len(seen) == 32


@forked
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_epoch_that_is_told_reaches_persistent_workers(method: str) -> None:
    """And then draws are those of a call here, on any number of workers."""
    augment = module()
    options: dict[str, Any] = {"num_workers": 2, "persistent_workers": True, "multiprocessing_context": method}
    loader = DataLoader(Same(), 4, collate_fn=Inside(augment, indexed=True), **options)
    for epoch in (4, 4, 6):
        augment.set_epoch(epoch)
        seen = torch.cat(list(loader))
        assert torch.equal(seen, anew(augment, same(COUNT), index=torch.arange(COUNT)))
        augment.set_epoch(epoch)


# ---- 10: an index that frameworks move -------------------------------------------------------------------------------


def test_an_index_stays_where_it_is() -> None:
    index = ga.ragged_collate([(noise(1)[0], 1, 7), (noise(1)[0], 0, 9)]).index
    assert isinstance(index, ga.data.Index)
    there = torch.device("meta")
    ways = [index.to("meta"), index.to(device="meta", non_blocking=True), index.to(there, torch.int64), index.clone()]
    for moved in (*ways, index.pin_memory(), index.detach()):
        assert type(moved) is ga.data.Index
        assert moved.tolist() == [7, 9]
    assert type(index + 1) is Tensor
    assert type(index[:1]) is ga.data.Index
    assert index.to(torch.float32).tolist() == [7.0, 9.0]
    assert index.as_subclass(Tensor).to("meta").device.type == "meta"


def test_an_index_on_a_device_is_taken_with_a_warning() -> None:
    class Elsewhere(Tensor):
        device = torch.device("cuda", 0)

    index = torch.arange(8).as_subclass(Elsewhere)
    index.cpu = lambda: torch.arange(8)  # type: ignore[method-assign]
    with pytest.warns(UserWarning, match="`index` is on cuda:0, and reading it waits"):
        result = module()(same(), index=index)
    assert torch.equal(result, module()(same(), index=torch.arange(8)))


def test_an_index_is_copied_and_a_wrong_one_says_what_to_pass() -> None:
    index = torch.arange(4).as_subclass(ga.data.Index)
    twin_ = copy.deepcopy(index)
    assert isinstance(twin_, ga.data.Index)
    assert torch.equal(twin_, index)
    assert twin_.data_ptr() != index.data_ptr()
    for wrong in ([0, 1, 2, 3], np.arange(4), torch.arange(4, dtype=torch.int32)):
        with pytest.raises(ValueError, match=r"`index` must be int64 \(4,\).*Pass torch.as_tensor\(index, dtype="):
            module()(same(4), index=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`index` must be a tensor that holds numbers, got one on the meta device"):
        module()(same(4), index=torch.arange(4, device="meta"))


def test_numbers_may_lie_far_apart() -> None:
    numbers = [2**40, 7, 2**40, 2**47 + 1, 7]
    dealt = list(ga.data.NumberedSampler(numbers))
    assert [(int(number), number.look) for number in dealt] == [
        (2**40, 0), (7, 0), (2**40, 1), (2**47 + 1, 0), (7, 1),
    ]  # fmt: skip


def test_movers_of_frameworks_leave_it_alone() -> None:
    accelerate = pytest.importorskip("accelerate")
    batch = ga.ragged_collate([(noise(1)[0], 1, 7), (noise(1)[0], 0, 9)])
    moved = accelerate.utils.send_to_device({"index": batch.index, "labels": batch.labels}, "meta")
    assert moved["labels"].device.type == "meta"
    assert moved["index"].tolist() == [7, 9]


def test_an_index_survives_workers_and_default_collate() -> None:
    sampler = ga.data.NumberedSampler([0, 1, 1, 2, 1])
    for workers in (0, 1):
        options: dict[str, Any] = {"num_workers": workers, "multiprocessing_context": "spawn" if workers else None}
        for collate in (None, ga.ragged_collate):
            loader = DataLoader(Same(), 5, sampler=sampler, collate_fn=collate, **options)
            *_, index = next(iter(loader))
            assert [(n & (1 << 48) - 1, n >> 48) for n in index.tolist()] == [(0, 0), (1, 0), (1, 1), (2, 0), (1, 2)]


# ---- samplers that number --------------------------------------------------------------------------------------------


def test_what_the_numbered_sampler_refuses() -> None:
    sampler = ga.data.NumberedSampler([0, 1])
    for bad, message in (
        (sampler, "`sampler` must be a sampler of plain numbers"),
        (torch.utils.data.BatchSampler([1, 2], 2, False), "`sampler` must be .*Put BatchSampler around"),
        (3, "`sampler` must be a sampler of plain numbers, got 3"),
    ):
        with pytest.raises(ValueError, match=f"NumberedSampler: {message}"):
            ga.data.NumberedSampler(bad)
    with pytest.raises(ValueError, match=r"`rank` must be an integer in \[0, 1\], got 2"):
        ga.data.NumberedSampler([0], 2, 2)
    with pytest.raises(ValueError, match="`sampler` must be a sampler of image numbers"):
        list(ga.data.NumberedSampler([[0, 1]]))


def test_a_sampler_without_a_generator_is_seeded_by_epoch() -> None:
    data = range(40)
    orders = []
    for _ in range(2):
        sampler = ga.data.NumberedSampler(RandomSampler(data), seed=3)
        orders.append([[int(n) for n in sampler] for _ in range(3)])
        sampler.set_epoch(1)
        assert [int(n) for n in sampler] == orders[-1][1]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders[0]}) == 3, "a pass that nobody tells is the next epoch"


def test_a_sampler_within_a_batch_sampler_of_others_follows_the_epoch() -> None:
    """As Accelerate's skipped batches hold one. A loader that is made anew in epoch 1 has that epoch's order."""

    class Wrapper:
        def __init__(self, batch_sampler: Any) -> None:
            self.batch_sampler = batch_sampler

        def __iter__(self) -> Iterator[Any]:
            return iter(self.batch_sampler)

    def passes(wrapper: Any) -> list[list[bytes]]:
        augment, found = module(), []
        for _ in range(2):
            sampler = ga.data.NumberedSampler(RandomSampler(range(COUNT)), seed=3)
            wrapped = wrapper(torch.utils.data.BatchSampler(sampler, 4, False))
            loader = DataLoader(Same(), batch_sampler=wrapped, collate_fn=ga.ragged_collate)
            found.append(shown(ga.DeviceLoader(loader, "cpu", augment)))
        return found

    assert passes(Wrapper) == passes(lambda batches: batches)


def test_looks_of_a_rare_class_differ() -> None:
    """The public report: one image 253 times in an epoch, and one picture."""
    weights = [1.0] + [0.001] * (COUNT - 1)
    data = ga.data.Indexed([(noise(1)[0], number) for number in range(COUNT)])
    sampler = ga.data.NumberedSampler(WeightedRandomSampler(weights, 253))
    for chosen in (sampler, WeightedRandomSampler(weights, 253)):
        loader = DataLoader(data, 32, sampler=chosen, collate_fn=ga.ragged_collate)
        seen = shown(ga.DeviceLoader(loader, "cpu", module()))
        assert len(set(seen)) == len(seen) == 253


def test_a_plain_tensor_data_set_counts_as_before() -> None:
    loader = DataLoader(TensorDataset(noise(8), torch.arange(8)), 4)
    augment = module()
    seen = [picture for _ in range(2) for picture in shown(ga.DeviceLoader(loader, "cpu", augment))]
    assert len(set(seen)) == 16
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert augment.sample(blank(2)).keys.index.tolist() == [16, 17]
