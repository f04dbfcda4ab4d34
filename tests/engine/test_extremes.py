"""What only large numbers show: high bits of seed, epoch and index, values beyond float16, batches of many chunks."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch

import gpuaug as ga
from gpuaug.philox import normal_table, philox
from gpuaug.program import Keys
from tests.support.helpers import BACKENDS, anew, noise, used

FLOATS = ga.ToDtype(torch.float32, scale=True)
NOISY = [ga.GaussianNoise(sigma=0.2), FLOATS, ga.RandomErasing(1.0, value="random")]
KEYS = {"plain": (0, 0, 0), "seed": (2**63 + 5, 0, 0), "epoch": (1, 2**31 + 9, 0), "index": (1, 2, 2**47 + 2**33)}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_pixels_are_keyed_by_all_bits(key: str, backend: str) -> None:
    """GaussianNoise against Philox in NumPy, word by word, as the design writes it down."""
    seed, epoch, first = KEYS[key]
    philox_key = Keys(seed, epoch, np.zeros(1, np.uint64)).key
    images = torch.full((2, 3, 5, 7), 128, dtype=torch.uint8)
    augment = ga.Augment([ga.RandomInvert(0.0), ga.GaussianNoise(sigma=0.2)], seed=seed, backend=backend)
    augment.set_epoch(epoch)
    result = augment(images, index=torch.tensor([first, first + 1]))
    for sample in range(2):
        index, blocks = first + sample, np.arange(14, dtype=np.uint64)  # 105 elements, eight a block
        op = 1 | 32768 | (index >> 32 << 16)  # the second step; bit 15 marks pixels
        full = [np.full_like(blocks, value) for value in (op, index & 0xFFFFFFFF, 0)]
        words = np.stack(philox(blocks, *full, philox_key), axis=1).reshape(-1)
        halves = np.stack([words & np.uint64(0xFFFF), words >> np.uint64(16)], axis=1).reshape(-1)[:105]
        change = (normal_table()[halves.astype(np.int64)] * np.float32(0.2 * 255)).astype(np.int16)
        expected = np.clip(128 + change, 0, 255).reshape(3, 5, 7)
        assert (result[sample].numpy() == expected).all()


@pytest.mark.parametrize("key", KEYS)
def test_random_erasing_is_keyed_alike(key: str) -> None:
    seed, epoch, first = KEYS[key]
    results = []
    for backend in BACKENDS:
        augment = ga.Augment([*NOISY, ga.MixUp(num_classes=2)], seed=seed, backend=backend)
        augment.set_epoch(epoch)
        results.append(augment(noise(5), torch.tensor([0, 1, 1, 0, 1]), index=first + torch.arange(5))[0])
    assert all(torch.equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("value", [65519.0, 65520.0, 1e30, -1e30, 6e-8, -3e-8])
@pytest.mark.parametrize("backend", BACKENDS)
def test_casts_of_values_at_the_edges(backend: str, dtype: torch.dtype, value: float) -> None:
    augment = ga.Augment([ga.ToDtype(dtype, scale=True), ga.RandomErasing(1.0, value=value)], backend=backend)
    result = augment(noise(3))
    assert (result == torch.tensor(value).to(dtype)).any(dim=(1, 2, 3)).all()


LISTS: dict[str, list[Any]] = {
    "crop": [ga.RandomResizedCrop((9, 14)), ga.RandomVerticalFlip()],
    "steps": [ga.RandomAffine(30, fill=9), ga.GaussianBlur(3), ga.RandAugment(3), ga.JPEG((5, 95))],
    "noise": NOISY,
    "mix": [ga.ColorJitter(0.5, 0.5, 0.5, 0.2), *NOISY, ga.MixUp(num_classes=2, mode="pair")],
    "cut": [*NOISY, ga.CutMix(num_classes=2, mode="elem")],
    "augmix": [ga.AugMix(), *NOISY],
}


@pytest.mark.parametrize("name", LISTS)
def test_the_twin_in_chunks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that takes few samples at a time gives what it gives for all at once."""
    images, labels = noise(11), torch.arange(11) % 2
    ragged = ga.Ragged.from_images([image[:, : 12 + k, : 20 - k] for k, image in enumerate(images)])
    batch: Any = ragged if name == "crop" else images
    whole = ga.Augment(LISTS[name], backend="torch", seed=0)(batch, labels)
    for module in ("common", "crop"):
        monkeypatch.setattr(importlib.import_module(f"gpuaug.kernels.torch.{module}"), "PIXELS_AT_ONCE", 4000)
    parts = ga.Augment(LISTS[name], backend="torch", seed=0)(batch, labels)
    assert torch.equal(whole[0], parts[0])
    assert torch.equal(whole[1], parts[1])


def test_evaluation_does_not_count() -> None:
    """Random steps of an evaluation list, if somebody wants them, draw the same every time."""
    augment = ga.Augment([ga.RandomInvert()], eval=[ga.RandomInvert()])
    first = augment.eval()(noise(8))
    augment.train()(noise(8))
    assert torch.equal(augment.eval()(noise(8)), first)


def test_a_draw_of_training_is_rendered_in_evaluation() -> None:
    augment = ga.Augment([FLOATS, ga.MixUp(num_classes=2)], eval=[FLOATS])
    images, labels = noise(4), torch.tensor([0, 1, 1, 0])
    draw = augment.sample(images)
    want, soft = augment.render(images, draw, labels)
    got, targets = augment.eval().render(images, draw, labels)
    assert torch.equal(got, want)
    assert torch.equal(targets, soft)


def test_auto_is_the_fastest_backend_there_is() -> None:
    from gpuaug.engine.render import choose

    assert choose("auto", torch.device("cpu")) == ("numba" if "numba" in BACKENDS else "torch")
    assert choose("auto", torch.device("meta")) == "torch"


def test_rendering_leaves_modes_alone() -> None:
    augment = ga.Augment([ga.RandomRotation(10), FLOATS], backend="torch")
    with torch.autocast("cpu", torch.bfloat16):
        result = augment(noise(2))
        assert torch.is_autocast_enabled("cpu")
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    assert torch.is_grad_enabled()
    assert not result.requires_grad
    weights = torch.ones(1, requires_grad=True)
    (augment(noise(2)) * weights).sum().backward()
    assert weights.grad is not None


@pytest.mark.parametrize("interpolation", ["nearest", "nearest-exact", "bilinear", "bicubic"])
def test_a_flip_before_a_resize_does_not_depend_on_the_batch(interpolation: str) -> None:
    """Whether a batch holds a grey image decides whether the flip can be done by the crop."""
    steps = [ga.RandomGrayscale(0.1), ga.RandomHorizontalFlip(), ga.Resize((16, 13), interpolation)]
    images, index = noise(40), torch.arange(40)
    augment = ga.Augment(steps)
    whole = augment(images, index=index)
    single = torch.cat([anew(augment, images[k : k + 1], index=index[k : k + 1]) for k in range(40)])
    assert torch.equal(whole, single)


def test_a_strided_buffer_is_packed() -> None:
    data = torch.arange(2 * 20 * 20 * 3).to(torch.uint8)[::2]
    ragged = ga.Ragged(data, np.array([[20, 20]]), 3)
    results = [ga.Augment([ga.Resize((9, 9))], backend=backend, seed=0)(ragged) for backend in BACKENDS]
    assert all(torch.equal(result, results[0]) for result in results)
    assert torch.equal(ragged[0], data.reshape(20, 20, 3).permute(2, 0, 1))
    with pytest.raises(ValueError, match="read-only"):
        ragged.sizes[0] = 99


DEFAULTS = {
    "dtype": (torch.set_default_dtype, torch.float64, torch.float32),
    "device": (torch.set_default_device, "meta", None),
}


@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_torchs_defaults_change_nothing(backend: str, name: str) -> None:
    from gpuaug.transforms import policy

    steps = [
        ga.RandomResizedCrop(12),
        ga.RandAugment(4),
        ga.ColorJitter(0.4, 0.4, 0.4, 0.1),
        FLOATS,
        ga.RandomErasing(1.0),
    ]
    augment, images, index = ga.Augment(steps, seed=5, backend=backend), noise(8), torch.arange(8)
    expected = augment(images, index=index)
    change, value, normal = DEFAULTS[name]
    policy.magnitudes.cache_clear()
    change(value)
    try:
        result = ga.Augment(steps, seed=5, backend=backend)(images, index=index)
    finally:
        change(normal)
        policy.magnitudes.cache_clear()
    assert torch.equal(result, expected)


def test_a_bad_label_stays_with_its_own_sample() -> None:
    """Nobody is mixed here, so nobody else's NaN may leak."""
    mixes = [ga.MixUp(num_classes=2), ga.CutMix(num_classes=2)]
    augment = ga.Augment([FLOATS, ga.RandomChoice(mixes, p=[1e-9, 1e-9])])
    labels = torch.tensor([[0.0, 1.0], [float("nan"), 0.0], [0.5, 0.5]])
    assert augment(noise(3), labels)[1].isnan().sum() == 1


def test_a_wide_image_needs_little_scratch() -> None:
    pytest.importorskip("numba")
    from gpuaug.kernels.numba.crop import make_scratch

    assert sum(array.nbytes for array in make_scratch(1 << 15, 64, 64, 3, 64, 1 << 15)) < 2**28


def test_a_kept_kernel_is_stamped_with_all_sources() -> None:
    """A change of any file of the backend makes Numba compile anew."""
    pytest.importorskip("numba")
    from gpuaug.kernels.numba import group
    from gpuaug.kernels.numba.runtime import jit

    assert len(jit.baked()) > 10
    assert group.crop_group._cache._cache_file._source_stamp == jit.STAMP


@pytest.mark.parametrize(
    "state", [{"epoch": 0, "counter": -5}, {"epoch": -1, "counter": 0}, {"epoch": 1.5, "counter": 0}]
)
def test_a_state_that_cannot_be(state: dict[str, Any]) -> None:
    augment = ga.Augment([ga.RandomInvert()])
    with pytest.raises(ValueError, match="must be an integer in"):
        augment.set_extra_state(state)
    assert used(augment) == {"epoch": 0, "counter": 0}
