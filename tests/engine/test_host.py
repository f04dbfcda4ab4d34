"""What a call does on the host: the same bits by every way, and little of it. No times: counts."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gpuaug as ga
from gpuaug import philox
from gpuaug.program import Keys, ListedInstruction, Op
from gpuaug.transforms.base import Canvas, repeated
from gpuaug.transforms.crop import RandomResizedCrop
from gpuaug.transforms.fitting import TRIES, box_shapes, first_fit
from gpuaug.transforms.policy import compute_ops
from tests.support.helpers import BACKENDS, blank, noise

ROOT = Path(__file__).parents[2]
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
    picked = [
        instruction for instruction in policy.instructions(params, canvas) if isinstance(instruction, ListedInstruction)
    ]
    assert len(picked) == ops.shape[1]
    for instruction, expected in zip(picked, compute_ops(policy, ops, magnitude, canvas), strict=True):
        assert instruction.possible == expected.possible
        runs = expected.opcode != Op.IDENTITY
        assert (instruction.opcode == expected.opcode).all()
        for name in ("operands", "fill", "table"):
            assert getattr(instruction, name)[runs].tobytes() == getattr(expected, name)[runs].tobytes(), name


def test_a_changed_draw_is_rendered_as_it_says() -> None:
    """A magnitude that no draw has is not in the book, and is computed."""
    images, augment = noise(6), ga.Augment([ga.RandAugment(1)], seed=2, backend="torch")
    draw = augment.sample(images)
    draw.params[0]["ops"][:] = 5  # Rotate
    draw.params[0]["magnitude"][:] = 90.0
    (instruction,) = augment.train_pipeline.steps[0].instructions(draw.params[0], draw.canvas)
    assert not isinstance(instruction, ListedInstruction)
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


COMPILED = "numba" in BACKENDS and importlib.util.find_spec("triton") is not None
HEADS = [(33, 47), (64, 64), (5, 3), (1, 1), (300, 7)]  # sizes of images
STRAIGHT: dict[str, list[Any]] = {
    "crop": [RandomResizedCrop(24)],
    "crop, flip": [RandomResizedCrop(24, (0.2, 1), antialias=False), ga.RandomHorizontalFlip()],
    "flips": [
        RandomResizedCrop((9, 20), (0.9, 1.5), (0.2, 7.0), "bicubic"),
        *(ga.RandomHorizontalFlip(p) for p in (0.3, 1, 0)),
    ],
    "both flips": [RandomResizedCrop(5), ga.RandomVerticalFlip(0.7), ga.RandomHorizontalFlip()],
    "never fits": [RandomResizedCrop(8, (1.5, 3.0), (0.5, 0.6))],
    "wide": [RandomResizedCrop(8, (0.5, 1.0), (9.0, 12.0), "nearest")],
    "RandAugment": [RandomResizedCrop(24), ga.RandomHorizontalFlip(), ga.RandAugment()],
    "no op": [RandomResizedCrop(24), ga.RandAugment(0)],
    "many ops": [RandomResizedCrop(24), ga.RandAugment(5, 4, 10, "bilinear", 9), ga.TrivialAugmentWide(100)],
    "TrivialAugmentWide": [RandomResizedCrop(24), ga.RandomHorizontalFlip(), ga.TrivialAugmentWide()],
    "two strengths": [RandomResizedCrop(24), ga.TrivialAugmentWide(2)],
}
ENDS: dict[str, list[Any]] = {
    "levels": [],
    "floats": [ga.ToDtype(torch.float16, scale=True), ga.Normalize([0.4], [0.2])],
    "MixUp": [ga.ToDtype(torch.float32, scale=True), ga.MixUp(num_classes=9, alpha=0.3)],
}


def block_of(augment: ga.Augment, keys: Keys, images: Any) -> tuple[Any, Any, Any]:
    """What is sent for these keys the long way, the layouts, and what the programs have in common."""
    from gpuaug.kernels.triton import Job, Plan

    pipeline, canvas = augment.train_pipeline, Canvas(repeated(len(images), *images.shape[2:]), images.shape[1])
    items = pipeline.lower(pipeline.sample(keys, canvas), keys, canvas, augment.exact, augment.memory_format)
    job = Job.__new__(Job)
    job.plan, job.device = Plan(items, images, repeats=False), images.device
    return job._pack(items, images), job.plan, items[0].alike


@pytest.mark.skipif(not COMPILED, reason="Numba or Triton is not installed")
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", STRAIGHT)
def test_what_is_drawn_straight_into_a_block_is_what_the_long_way_sends(name: str, end: str) -> None:
    """For images of many sizes, seeds and epochs, numbers beyond 32 bits, looks, and draws of which no try fits."""
    import gpuaug.kernels.numba.philox  # noqa: F401
    from gpuaug.kernels.triton.runtime.launch import Block
    from gpuaug.kernels.triton.runtime.writer import Writer

    rng = np.random.default_rng(len(name))
    for number, (height, width) in enumerate(HEADS):
        augment = ga.Augment([*STRAIGHT[name], *ENDS[end]], seed=2**63 + number, backend="torch")
        images = blank(50, height, width, 1 if number == 1 else 3)
        block, plan, alike = block_of(augment, Keys(augment.seed, 0, np.arange(50, dtype=np.uint64)), images)
        writer = Writer.of(alike, plan.layouts, block)
        assert writer is not None
        for epoch in range(4):
            index = rng.integers(0, 2**48, 50, dtype=np.uint64)
            keys = Keys(
                augment.seed, epoch, index, rng.integers(0, 2**32, 50, dtype=np.uint32), view=epoch, stream=(epoch,)
            )
            straight = Block(plan.room, 50, images.device)
            assert writer.write(keys, straight)
            assert straight.words.numpy().tobytes() == block_of(augment, keys, images)[0].words.numpy().tobytes()


@pytest.mark.skipif(not COMPILED, reason="Numba or Triton is not installed")
@pytest.mark.parametrize(
    "steps",
    [
        [ga.RandomInvert()],
        [ga.RandomHorizontalFlip(), RandomResizedCrop(8)],
        [RandomResizedCrop(8), RandomResizedCrop(8)],
        [RandomResizedCrop(8), ga.RandAugment(), ga.RandomHorizontalFlip()],
        [RandomResizedCrop(8), ga.ColorJitter(0.4)],
        [RandomResizedCrop(8), ga.MixUp(num_classes=3, mode="elem")],
        [RandomResizedCrop(8), ga.CutMix(num_classes=3)],
        [RandomResizedCrop(8), ga.RandomErasing()],
        [ga.RandomCrop(8)],
    ],
    ids=repr,
)
def test_other_lists_go_the_long_way(steps: list[Any]) -> None:
    from gpuaug.kernels.triton.runtime.writer import Writer

    block, plan, alike = block_of(
        ga.Augment(steps, seed=0), Keys(0, 0, np.arange(4, dtype=np.uint64)), blank(4, 20, 20)
    )
    assert Writer.of(alike, plan.layouts, block) is None


@pytest.mark.skipif(not COMPILED, reason="Numba or Triton is not installed")
def test_a_batch_with_copies_goes_the_long_way() -> None:
    """A mix parts them, which only `sample` does."""
    from gpuaug.kernels.triton.runtime.launch import Block
    from gpuaug.kernels.triton.runtime.writer import Writer

    augment = ga.Augment([RandomResizedCrop(8), ga.MixUp(num_classes=3)], seed=0)
    images = blank(4, 20, 20)
    block, plan, alike = block_of(augment, Keys(0, 0, np.arange(4, dtype=np.uint64)), images)
    writer = Writer.of(alike, plan.layouts, block)
    assert writer is not None
    for index, good in (([5, 6, 7, 8], True), ([5, 5, 7, 8], False), ([5, 6, 7, 5], False), ([5, 6, 5, 6], True)):
        keys = Keys(0, 0, np.array(index, np.uint64))
        assert writer.write(keys, Block(plan.room, 4, images.device)) is good


@pytest.mark.skipif(not COMPILED, reason="Numba or Triton is not installed")
def test_a_whole_call_on_cuda_is_few_functions_whatever_the_batch() -> None:
    """Its launches start nothing. The long way is 480 functions or more."""
    counts = []
    for batch in (64, 256):
        command = [
            sys.executable,
            "-m",
            "benchmarks.evidence.host",
            "--functions",
            "--batches",
            str(batch),
            "--recipes",
        ]
        command += ["crop + flip + normalise", "RandAugment"]
        environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        counts.append(json.loads(run.stdout))
    assert counts[0] == counts[1]
    assert counts[0]["crop + flip + normalise"] <= 200
    assert counts[0]["RandAugment + MixUp"] <= 320


@pytest.mark.skipif(not COMPILED, reason="Numba or Triton is not installed")
def test_a_subclass_that_draws_otherwise_goes_the_long_way() -> None:
    """It inherits `straight`, which says what its base class draws; one that changes nothing of that may."""
    from gpuaug.kernels.triton.runtime.writer import Writer

    class Lower(RandomResizedCrop, registered=False):
        def parameters(self, uniforms: Any, canvas: Canvas) -> Any:
            return {"box": super().parameters(uniforms, canvas)["box"] // 2 + 1}

    class Never(ga.RandomHorizontalFlip, registered=False):
        def instructions(self, params: Any, canvas: Canvas) -> Any:
            return []

    class Named(RandomResizedCrop, registered=False):
        name = "mine"

    keys, images = Keys(0, 0, np.arange(4, dtype=np.uint64)), blank(4, 20, 20)
    for steps, straight in (([Lower(8)], False), ([RandomResizedCrop(8), Never()], False), ([Named(8)], True)):
        block, plan, alike = block_of(ga.Augment(steps, seed=0), keys, images)
        assert (Writer.of(alike, plan.layouts, block) is not None) is straight
