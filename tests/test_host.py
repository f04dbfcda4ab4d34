"""What a call does on the host: the same bits by every way, and little of it. No times: counts."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from helpers import BACKENDS, blank, noise

import gpuaug as ga
from gpuaug import philox
from gpuaug.program import Listed, Op
from gpuaug.transform import Canvas, repeated
from gpuaug.transforms.crop import TRIES, RandomResizedCrop, box_shapes, first_fit
from gpuaug.transforms.policy import compute_ops

POLICIES = [
    ga.RandAugment(), ga.RandAugment(3, 0, 2), ga.RandAugment(2, 30, 31, "bilinear", 7), ga.TrivialAugmentWide(),
    ga.TrivialAugmentWide(2), ga.TrivialAugmentWide(100), ga.AutoAugment("imagenet"), ga.AutoAugment("cifar10"),
    ga.AutoAugment("svhn"), *(ga.AugMix(severity) for severity in range(1, 11)),
]  # fmt: skip


@pytest.mark.skipif("numba" not in BACKENDS, reason="Numba is not installed")
@pytest.mark.parametrize("seed", [0, 2**40 + 7, 2**64 - 1])
@pytest.mark.parametrize("count", [1, 3, 64])
def test_compiled_draws_are_those_of_numpy(seed: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpuaug.kernels.numba.philox import fill

    index = np.arange(count, dtype=np.uint64) * np.uint64(2**41 + 3) % np.uint64(2**48)
    looks = np.arange(count, dtype=np.uint32)[::-1] * np.uint32(2**26 + 5)
    ops, blocks = np.arange(6).repeat(2), np.tile([0, 7], 6)
    results = []
    for way in (fill, None):
        monkeypatch.setattr(philox, "compiled", way)
        results.append(philox.uniforms(seed, index, looks, ops, blocks))
    assert (results[0] == results[1]).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_every_draw_of_a_policy_is_in_its_book(policy: Any, channels: int) -> None:
    """And the instruction picked there is the one that the draw's magnitude computes."""
    count, canvas = 2000, Canvas(repeated(2000, 48, 40), channels)
    params = ga.Augment([policy], seed=9, backend="torch").sample(blank(count, 48, 40, channels)).params[0]
    ops, magnitude = (params[name].reshape(count, -1) for name in ("ops", "magnitude"))
    picked = [slot for slot in policy.lower(params, canvas) if isinstance(slot, Listed)]
    assert len(picked) == ops.shape[1]
    for slot, expected in zip(picked, compute_ops(policy, ops, magnitude, canvas), strict=True):
        assert slot.may == expected.may
        runs = expected.opcode != Op.IDENTITY
        assert (slot.opcode == expected.opcode).all()
        for name in ("operands", "fill", "table"):
            assert getattr(slot, name)[runs].tobytes() == getattr(expected, name)[runs].tobytes(), name


def test_a_changed_draw_is_rendered_as_it_says() -> None:
    """A magnitude that no draw has is not in the book, and is computed."""
    images, augment = noise(6), ga.Augment([ga.RandAugment(1)], seed=2, backend="torch")
    draw = augment.sample(images)
    draw.params[0]["ops"][:] = 5  # Rotate
    draw.params[0]["magnitude"][:] = 90.0
    (slot,) = augment.train_pipeline.steps[0].slots(draw.params[0], draw.canvas)
    assert not isinstance(slot, Listed)
    rotated = augment.render(
        images[..., :21, :21], ga.Draw(draw.keys, draw.params, True, Canvas(repeated(6, 21, 21), 3))
    )
    assert torch.equal(rotated, torch.rot90(images[..., :21, :21], 1, (-2, -1)))


def test_later_tries_are_those_of_all_at_once() -> None:
    """Computing further tries only where the first does not fit finds the same box."""
    rng = np.random.default_rng(3)
    uniforms = rng.random((5000, 2 * TRIES + 2))
    height, width = np.full(5000, 40), rng.integers(20, 90, 5000)
    scale, ratio = (0.5, 1.3), (0.3, 3.0)
    h, w = box_shapes(
        uniforms[:, :TRIES], uniforms[:, TRIES : 2 * TRIES], (height * width)[:, None], scale, ratio
    )  # fmt: skip
    fits = RandomResizedCrop._fits(h, w, height[:, None], width[:, None])
    first, rows = fits.argmax(axis=1), np.arange(5000)
    found = first_fit(uniforms, height, width, RandomResizedCrop._fits, scale, ratio)
    for got, expected in zip(found, (h, w, fits), strict=True):
        assert (got == expected[rows, first]).all()
    assert 0 < (first > 0).sum() < 5000
    assert not found[2].all()


def calls(augment: ga.Augment, batch: int) -> int:
    """How many functions, in Python and in C, sampling and lowering a batch calls once it is warm."""
    images, pipeline, seen = blank(batch), augment.train_pipeline, 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal seen
        seen += event in ("call", "c_call")

    for number in range(3):
        if number == 2:
            sys.setprofile(count)
        draw = augment.sample(images)
        pipeline.lower(draw.params, draw.keys, draw.canvas, False, augment.memory_format)
        sys.setprofile(None)
    return seen


TAIL = [ga.ToDtype(torch.float32, scale=True), ga.Normalize((0.5,), (0.5,))]
HEAD = [ga.RandomResizedCrop(24), ga.RandomHorizontalFlip()]


@pytest.mark.skipif("numba" not in BACKENDS, reason="without Numba, NumPy draws in ten rounds of calls")
@pytest.mark.parametrize(
    ("steps", "most"),
    [([], 300), ([ga.RandAugment()], 360), ([ga.ColorJitter(0.4, 0.4, 0.4, 0.1)], 360)],
    ids=["crop", "RandAugment", "ColorJitter"],
)
def test_a_call_is_few_functions_whatever_the_batch(steps: list[Any], most: int) -> None:
    import gpuaug.kernels.numba.philox  # noqa: F401 - from now on it draws

    augment = ga.Augment([*HEAD, *steps, *TAIL], backend="torch")
    assert calls(augment, 64) <= most
    assert abs(calls(augment, 512) - calls(augment, 64)) <= 20
