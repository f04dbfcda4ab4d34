"""Draws are a function of (seed, epoch, index, look, op): batch splits, order, ranks and backend change nothing."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

import gpuaug as ga
from gpuaug.philox import normal_table, philox, uniforms
from gpuaug.program import Keys
from gpuaug.transforms.base import Transform
from tests.support.helpers import (
    BACKENDS,
    PIXEL_OPS,
    anew,
    blank,
    build,
    call,
    hoeffding,
    ks_distance,
    noise,
    photographs,
    pipeline,
    recipe,
    uniform_cdf,
)

HALF = 2**32 - 1
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)

# Random123's kat_vectors, philox4x32 10: counter, key (low word first), answer
KNOWN_ANSWERS = {
    "zeros": ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    "ones": ((HALF,) * 4, (HALF, HALF), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    "pi": (PI, (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
}

KEYED: dict[str, Any] = {op.__name__: lambda op=op: pipeline(op) for op in PIXEL_OPS} | {"recipe": recipe}
RAGGED: dict[str, Any] = {op.__name__: lambda op=op: pipeline(op, ragged=True) for op in PIXEL_OPS} | {"recipe": recipe}
DRAWING = [
    pytest.param(op, id=op.__name__)
    for op in PIXEL_OPS
    if build(op).draws > 0 or "p" in inspect.signature(op).parameters
]


@pytest.mark.parametrize("name", KNOWN_ANSWERS)
def test_philox_gives_the_published_words(name: str) -> None:
    counter, key, answer = KNOWN_ANSWERS[name]
    words = philox(*(np.array([word], np.uint64) for word in counter), seed=key[0] | key[1] << 32)
    assert tuple(int(word[0]) for word in words) == answer


def test_uniforms_are_the_words_on_the_grid() -> None:
    zero = np.zeros(1, np.int64)
    numbers = uniforms(0, np.zeros(1, np.uint64), zero, zero, zero)
    assert (numbers[0] * 2**24).tolist() == [float(word >> 8) for word in KNOWN_ANSWERS["zeros"][2]]


@pytest.mark.parametrize("index", [0, 5, 2**32 - 1, 2**32, 2**48 - 1])
def test_uniforms_key_every_part(index: int) -> None:
    """Seed, view, epoch, stream, index (48 bits), look, op and block each change all numbers."""

    def draw(index: int = index, look: int = 7, op: int = 2, block: int = 3, **changes: Any) -> list[float]:
        keyed: dict[str, Any] = {"seed": 2**40 + 3, "epoch": 1, "view": 5} | changes
        keys = Keys(index=np.array([index], np.uint64), look=np.array([look], np.uint32), **keyed)
        return uniforms(keys.key, keys.index, keys.look, np.array([op]), np.array([block]))[0].tolist()

    others = [
        draw(seed=2**41 + 3), draw(seed=2**40 + 4), draw(epoch=2), draw(index=index ^ 1), draw(index=index ^ 2**32),
        draw(index=index ^ 2**47), draw(op=3), draw(block=4), draw(op=3, block=2), draw(look=6), draw(look=7 + 2**15),
        draw(look=7 + 2**31), draw(view=6), draw(view=2**31), draw(view=1, epoch=5), draw(epoch=2**32 - 1),
        draw(stream=(1,)), draw(stream=(2,)), draw(stream=(1, 1)), draw(stream=(1, 2**63)), draw(stream=(1, 0, 1)),
    ]  # fmt: skip
    assert len({tuple(numbers) for numbers in others}) == len(others)
    assert draw() == draw()
    assert not set(draw()) & {number for other in others for number in other}


COUNT = 50_000


def test_uniforms_are_uniform_and_independent() -> None:
    index, look = np.arange(COUNT, dtype=np.uint64), np.zeros(COUNT, np.int64)
    numbers = uniforms(11, index, look, np.arange(3).repeat(2), np.tile([0, 1], 3))
    assert numbers.shape == (COUNT, 24)
    assert numbers.min() >= 0.0
    assert numbers.max() < 1.0
    columns = numbers.shape[1]
    for column in numbers.T:
        assert ks_distance(column, uniform_cdf()) <= hoeffding(COUNT, columns)
    signs = 2 * numbers - 1  # a product of two has mean 0 and lies in [-1, 1], so twice Hoeffding's bound
    across = np.triu(signs.T @ signs / COUNT, 1)
    assert np.abs(across).max() <= 2 * hoeffding(COUNT, columns * columns)
    for lag in (1, 2, 7, 64):
        along = (signs[:-lag] * signs[lag:]).mean(axis=0)
        assert np.abs(along).max() <= 2 * hoeffding(COUNT - lag, columns * 4)


def test_the_uniform_bound_sees_a_slight_bias() -> None:
    index, zero = np.arange(COUNT, dtype=np.uint64), np.zeros(1, np.int64)
    numbers = uniforms(11, index, np.zeros(COUNT, np.int64), zero, zero)[:, 0]
    assert ks_distance(numbers**1.05, uniform_cdf()) > hoeffding(COUNT)


def test_normal_table_has_normal_moments() -> None:
    table = normal_table().astype(np.float64)
    assert len(table) == 65536
    assert (np.diff(table) > 0).all()
    assert np.allclose(table, -table[::-1], atol=2e-6)
    for power, moment, slack in ((1, 0.0, 1e-6), (2, 1.0, 2e-4), (3, 0.0, 1e-5), (4, 3.0, 5e-3)):
        assert abs((table**power).mean() - moment) < slack


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", KEYED)
def test_batch_splits_and_order_change_nothing(name: str, backend: str) -> None:
    count = 64 if name == "recipe" else 16
    images, index = noise(count), torch.arange(count) * 7 + 3
    augment = ga.Augment(KEYED[name](), seed=5, backend=backend)
    whole = augment(images, index=index)
    assert whole.shape[0] == count
    for length in (1, 5, count // 2):
        augment.set_epoch(0)
        parts = [
            augment(images[at : at + length], index=index[at : at + length])
            for at in range(0, count if length > 1 or name == "recipe" else 6, length)
        ]
        joined = torch.cat(parts)
        assert torch.equal(joined, whole[: len(joined)]), f"batches of {length}"
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    assert torch.equal(anew(augment, images[order], index=index[order]), whole[order])


@pytest.mark.parametrize("name", KEYED)
def test_backends_draw_the_same(name: str) -> None:
    images = noise(8)
    results = [ga.Augment(KEYED[name](), seed=5, backend=backend)(images) for backend in BACKENDS]
    for result in results[1:]:
        assert torch.equal(result, results[0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", RAGGED)
def test_a_ragged_batch_draws_as_its_images_alone(name: str, backend: str) -> None:
    images = photographs()
    augment = ga.Augment(RAGGED[name](), seed=5, backend=backend)
    index = torch.arange(len(images))
    whole = augment(ga.Ragged.from_images(images), index=index)
    for number in range(len(images)):
        dense = anew(augment, images[number][None], index=index[number : number + 1])
        assert torch.equal(dense[0], whole[number]), f"image {number}"


@pytest.mark.parametrize("backend", BACKENDS)
def test_ragged_of_equal_sizes_is_the_dense_batch(backend: str) -> None:
    images = noise(9)
    augment = ga.Augment(recipe(), seed=5, backend=backend)
    index = torch.arange(9)
    ragged = augment(ga.Ragged.from_images(list(images)), index=index)
    assert torch.equal(ragged, anew(augment, images, index=index))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mix", [False, True], ids=["plain", "mix"])
def test_a_state_dict_continues_the_stream(mix: bool, backend: str) -> None:
    images = noise(6)
    first = ga.Augment(recipe(mix), seed=5, backend=backend)
    first.set_epoch(3)
    call(first, images)
    call(first, images[:5])
    saved = first.state_dict()
    expected = [call(first, images), call(first, images)]
    again = ga.Augment(recipe(mix), seed=5, backend=backend)
    again.load_state_dict(saved)
    assert again.epoch == 3
    for result in expected:
        assert torch.equal(call(again, images), result)
    assert not torch.equal(expected[0], expected[1])


def test_a_state_dict_goes_through_a_file(tmp_path: Any) -> None:
    augment = ga.Augment([ga.RandomHorizontalFlip()], backend="torch", seed=0)
    augment(noise(3))
    augment.set_epoch(2)
    torch.save(augment.state_dict(), tmp_path / "state.pt")
    again = ga.Augment([ga.RandomHorizontalFlip()], backend="torch", seed=0)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert (again.epoch, again._counter.value(), again.seed) == (2, 3, augment.seed)


@pytest.mark.parametrize("name", ["recipe", "GaussianNoise", "RandomResizedCrop", "ColorJitter", "AugMix"])
def test_seed_epoch_and_index_each_change_the_draw(name: str) -> None:
    images = noise(1).expand(6, -1, -1, -1)
    index = torch.arange(6)

    def render(seed: int = 0, epoch: int = 0, shift: int = 0) -> torch.Tensor:
        augment = ga.Augment(KEYED[name](), seed=seed, backend="torch")
        augment.set_epoch(epoch)
        return augment(images, index=index + shift)

    base = render()
    assert torch.equal(base, render())
    for other in (render(seed=1), render(seed=2**33), render(epoch=1), render(shift=100), render(shift=2**40)):
        same = [torch.equal(a, b) for a, b in zip(base, other, strict=True)]
        assert sum(same) <= 2, "of six draws hardly any repeats"
    assert len({tuple(image.flatten().tolist()) for image in base}) >= 4


@pytest.mark.parametrize("op", DRAWING)
def test_the_place_in_the_list_changes_the_draw(op: type[Transform]) -> None:
    """Two equal ops in one list never share a draw."""
    first, second = ga.Augment([build(op), build(op)], backend="torch").sample(blank(64)).params
    assert first["op"] != second["op"]
    values = [key for key, value in first.items() if isinstance(value, np.ndarray)]
    assert any((first[key] != second[key]).any() for key in values)


def test_an_op_does_not_move_the_draws_of_those_before_it() -> None:
    steps = [ga.RandomRotation(30), ga.ColorJitter(0.5)]
    short = ga.Augment(steps, seed=5, backend="torch").sample(noise(8)).params
    long = ga.Augment([*steps, ga.RandAugment()], seed=5, backend="torch").sample(noise(8))
    for before, after in zip(short, long.params, strict=False):
        for key in before:
            assert np.array_equal(before[key], after[key])


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_an_index_a_counter_numbers_the_samples(backend: str) -> None:
    images = noise(10)
    counted, keyed = (ga.Augment(recipe(), seed=5, backend=backend) for _ in range(2))
    results = torch.cat([counted(images[:3]), counted(images[3:7]), counted(images[7:])])
    assert torch.equal(results, keyed(images, index=torch.arange(10)))
    assert counted._counter.value() == 10
    assert keyed._counter.value() == 0


def test_an_index_leaves_the_counter_alone() -> None:
    images = noise(4)
    augment, plain = (ga.Augment(recipe(), seed=5, backend="torch") for _ in range(2))
    augment(images, index=torch.arange(4) + 50)
    assert torch.equal(augment(images), plain(images))


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_never_repeat_each_other(world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_available", lambda: True)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True, raising=False)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: world, raising=False)
    seen: list[int] = []
    draws = []
    for rank in range(world):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank, raising=False)
        augment = ga.Augment([ga.GaussianBlur(3)], seed=5, backend="torch")
        for size in (4, 1 + rank, 7):  # ranks may even have batches of different lengths
            draw = augment.sample(noise(size))
            seen += draw.keys.index.tolist()
            draws += draw.params[0]["sigma"].tolist()
    assert len(set(seen)) == len(seen)
    assert len(set(draws)) == len(draws)


def test_one_rank_counts_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: False, raising=False)
    draw = ga.Augment([ga.GaussianBlur(3)], backend="torch").sample(noise(3))
    assert draw.keys.index.tolist() == [0, 1, 2]


@pytest.mark.parametrize("backend", BACKENDS)
def test_noise_is_normal_and_differs_by_pixel_and_channel(backend: str) -> None:
    images = torch.full((4, 3, 64, 64), 128, dtype=torch.uint8)
    steps = [ga.ToDtype(torch.float32), ga.RandomErasing(p=1.0, scale=(0.5, 0.9), ratio=(1, 1), value="random")]
    augment = ga.Augment(steps, backend=backend)
    draw = augment.sample(images)
    result = augment.render(images, draw)
    drawn = []
    for image, (top, left, height, width) in zip(result, draw.params[1]["box"].tolist(), strict=True):
        assert height > 0
        drawn.append(image[:, top : top + height, left : left + width].flatten().double().numpy())
    values = np.concatenate(drawn)
    limit = ks_distance(values, lambda v: torch.special.ndtr(torch.from_numpy(v)).numpy())
    assert limit <= hoeffding(len(values)) + 1 / 65536
    assert [len(np.intersect1d(drawn[0][:200], other[:200])) < 20 for other in drawn[1:]] == [True] * 3
