"""Augment as an nn.Module: copies, compiling, threads, modes, layouts (long: one contract)."""

from __future__ import annotations

import copy
import math
import pickle
import shutil
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gpuaug as ga
from gpuaug.engine.evaluation import evaluation
from tests.support.helpers import BACKENDS, CLASSES, FAST, anew, call, labels, noise, photographs, recipe, twin, used

backends = pytest.mark.parametrize("backend", BACKENDS)
NAMESPACE = {name: getattr(ga, name) for name in ga.__all__} | {"torch": torch}  # names are imported when asked for

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TAIL = [ga.ToDtype(torch.float32, scale=True), ga.Normalize(MEAN, STD)]


def variants() -> dict[str, Any]:
    return {
        "plain": lambda: ga.Augment(recipe(), backend=FAST),
        "mix": lambda: ga.Augment(recipe(mix=True), seed=2**63 + 1, backend=FAST),
        "all": lambda: ga.Augment(
            recipe(), [ga.Resize(30), ga.CenterCrop(24), *TAIL], seed=3, backend="torch",
            memory_format=torch.channels_last, exact=True,
        ),
        "compose": lambda: ga.Augment(ga.Compose([ga.RandomInvert(), ga.Compose([ga.RandAugment()])]), backend=FAST),
        "empty": lambda: ga.Augment([], backend=FAST),
        "policies": lambda: ga.Augment([ga.AugMix(), ga.AutoAugment("svhn"), ga.TrivialAugmentWide()], backend=FAST),
    }  # fmt: skip


@pytest.mark.parametrize("name", variants())
@pytest.mark.parametrize("way", ["repr", "deepcopy", "pickle", "to"])
@pytest.mark.filterwarnings("ignore:Augment. the module was cast to torch.float64")
def test_rebuilt_it_renders_the_same_pixels(name: str, way: str) -> None:
    augment = variants()[name]()
    if way != "repr":  # state travels along
        augment.set_epoch(4)
        call(augment, noise(3))
    again = {
        "repr": lambda: eval(repr(augment), NAMESPACE),
        "deepcopy": lambda: twin(augment),
        "pickle": lambda: pickle.loads(pickle.dumps(augment)),
        "to": lambda: twin(augment).to("cpu", torch.float64),
    }[way]()
    assert repr(again) == repr(augment)
    if "seed=" not in repr(augment):  # it was drawn, and is in the state
        again.load_state_dict(augment.state_dict())
    assert used(again) == used(augment)
    for mode in (True, False):
        for _ in range(2):
            assert torch.equal(call(again.train(mode), noise(4)), call(augment.train(mode), noise(4)))


def test_repr_shows_only_what_differs_from_the_default() -> None:
    assert (
        repr(ga.Augment([ga.RandomHorizontalFlip()]))
        == "Augment(\n    train=[\n        RandomHorizontalFlip(),\n    ],\n)"
    )
    assert "eval" not in repr(ga.Augment([ga.CenterCrop(8)]))
    assert "seed=7" in repr(ga.Augment([], seed=7))


class Model(nn.Module):
    def __init__(self, augment: ga.Augment) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.augment = augment
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
        )

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.backbone(self.augment(images))
        return result


@pytest.fixture
def model() -> Model:
    with torch.random.fork_rng():
        return Model(ga.Augment(recipe(), backend=FAST))


def test_inside_a_sequential_and_its_state_dict(model: Model) -> None:
    images = noise(4)
    sequential = nn.Sequential(model.augment, model.backbone)
    sequential(images)
    state = sequential.state_dict()
    assert state["0._extra_state"].dtype == torch.int64
    with torch.random.fork_rng():
        other = nn.Sequential(ga.Augment(recipe(), backend=FAST), copy.deepcopy(model.backbone))
    other.load_state_dict(state)
    assert torch.equal(other(images), sequential(images))
    assert not list(model.augment.parameters())
    assert not list(model.augment.buffers())


def test_gradients_flow_behind_it(model: Model) -> None:
    model(noise(4)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not model.augment(noise(4)).requires_grad


@pytest.mark.parametrize("compiler", ["eager", "aot_eager", "inductor"])
def test_compiled_with_the_model_around_it(compiler: str, model: Model) -> None:
    if compiler == "inductor" and not any(map(shutil.which, ("g++", "clang++"))):
        pytest.skip("no C++ compiler")
    torch._dynamo.reset()
    compiled = torch.compile(twin(model), backend=compiler)
    slow = compiler == "inductor"  # it runs a C++ compiler for each size, and for the backward pass
    for size in (4, 4) if slow else (4, 4, 3):
        with torch.set_grad_enabled(not slow):
            expected, result = model(noise(size)), compiled(noise(size))
        assert torch.allclose(result, expected, atol=1e-5)
    if not slow:
        result.sum().backward()
    assert used(compiled.augment) == used(model.augment)
    if not slow:
        assert torch.allclose(compiled.eval()(noise(4)), model.eval()(noise(4)), atol=1e-5)
    torch._dynamo.reset()


def test_compiled_itself() -> None:
    torch._dynamo.reset()
    plain, compiled = (ga.Augment(recipe(mix=True), backend=FAST, seed=0) for _ in range(2))
    compiled.compile(backend="eager")
    index = torch.arange(4) + 9
    for arguments in ({}, {"index": index}):
        for got, expected in zip(
            compiled(noise(4), labels(4), **arguments), plain(noise(4), labels(4), **arguments), strict=True
        ):
            assert torch.equal(got, expected)
    torch._dynamo.reset()


@backends
@pytest.mark.parametrize("mix", [False, True])
def test_autocast_changes_nothing(mix: bool, backend: str) -> None:
    plain, cast = (ga.Augment(recipe(mix), backend=backend, seed=0) for _ in range(2))
    expected = call(plain, noise(4))
    with torch.autocast("cpu", torch.bfloat16):
        result = call(cast, noise(4))
        assert torch.is_autocast_enabled("cpu")
    assert result.dtype == torch.float32
    assert torch.equal(result, expected)


@backends
def test_grad_and_inference_modes_change_nothing(backend: str) -> None:
    augment = ga.Augment(recipe(), backend=backend)
    index = torch.arange(4)
    expected = augment(noise(4), index=index)
    for context in (torch.no_grad(), torch.inference_mode(), torch.enable_grad()):
        with context:
            assert torch.equal(anew(augment, noise(4), index=index), expected)


def in_threads(work: Any, count: int = 4) -> None:
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # a thread's exception would be lost
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors


@backends
def test_threads_that_share_it_get_what_one_thread_gets(backend: str) -> None:
    augment = ga.Augment(recipe(), backend=backend)
    batches = [noise(5, seed=n) for n in range(4)]
    draws = [augment.sample(batch) for batch in batches]
    expected = [augment.render(*pair) for pair in zip(batches, draws, strict=True)]
    results: dict[tuple[int, int], Tensor] = {}

    def work(number: int) -> None:
        for turn in range(5):
            results[number, turn] = augment.render(batches[number], draws[number])

    in_threads(work)
    assert len(results) == 20
    for (number, _), result in results.items():
        assert torch.equal(result, expected[number])


@backends
def test_threads_never_share_or_lose_a_number_of_the_counter(backend: str) -> None:
    augment = ga.Augment([ga.RandomCrop(12), ga.RandomHorizontalFlip(), ga.ToDtype(torch.float32)], backend=backend)
    taken: list[int] = []

    def work(number: int) -> None:
        for turn in range(25):
            taken.extend(augment.sample(noise(3)).keys.index.tolist())
            augment(noise(2))
            if turn % 5 == 0:  # an error in one thread takes nothing from the others
                with pytest.raises(ValueError):
                    augment(noise(2, 3, 9, 9))

    in_threads(work)
    assert len(set(taken)) == len(taken) == 4 * 25 * 3
    assert used(augment)["counter"] >= 4 * 25 * 5
    assert max(taken) < used(augment)["counter"]


DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@backends
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("mix", [False, True], ids=["plain", "mix"])
def test_dtypes_and_layouts(dtype: torch.dtype, mix: bool, backend: str) -> None:
    results = {}
    for memory_format in (torch.contiguous_format, torch.channels_last):
        steps = [ga.ToDtype(dtype, scale=True) if isinstance(step, ga.ToDtype) else step for step in recipe(mix)]
        result = call(ga.Augment(steps, backend=backend, memory_format=memory_format, seed=0), noise(5))
        assert result.dtype == dtype
        assert result.is_contiguous(memory_format=memory_format)
        results[memory_format] = result
    assert torch.equal(*results.values())
    exact = call(ga.Augment(recipe(mix), backend=backend, seed=0), noise(5))
    assert torch.equal(exact.to(dtype), result)  # computed in float32, rounded once


@backends
def test_channels_last_uint8(backend: str) -> None:
    result = ga.Augment([ga.RandomInvert(p=1)], backend=backend, memory_format=torch.channels_last)(noise(2))
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert not result.is_contiguous()
    assert torch.equal(result, 255 - noise(2))


@backends
def test_evaluation_is_deterministic_and_counts_nothing(backend: str) -> None:
    augment = ga.Augment(recipe(mix=True), backend=backend).eval()
    state = used(augment)
    first = augment(noise(4))
    augment.set_epoch(5)
    assert torch.equal(augment(noise(4)), first)
    assert torch.equal(torch.cat([augment(noise(4)[n : n + 1]) for n in range(4)]), first)
    assert used(augment) == state | {"epoch": 5}


@backends
def test_labels_pass_through_in_evaluation(backend: str) -> None:
    augment = ga.Augment(recipe(mix=True), backend=backend).eval()
    for given in (labels(4), torch.rand(4, CLASSES), torch.full((4,), 10**6), torch.zeros(4)):
        images, back = augment(noise(4), given)
        assert back is given
        assert images.dtype == torch.float32
    assert isinstance(augment(noise(4)), Tensor)


@backends
def test_labels_come_back_as_they_were_without_a_mix(backend: str) -> None:
    given = labels(4)
    _, back = ga.Augment(recipe(), backend=backend)(noise(4), given)
    assert back is given


def test_the_default_evaluation_list() -> None:
    larger = (round(1.14 * 48), round(1.14 * 40))
    for train, expected in (
        (
            [ga.RandomResizedCrop(224), ga.RandAugment(), *TAIL, ga.RandomErasing()],
            [ga.Resize(255), ga.CenterCrop(224), *TAIL],
        ),
        (
            [ga.RandomResizedCrop((48, 40), interpolation="bicubic")],
            [ga.Resize(larger, "bicubic"), ga.CenterCrop((48, 40))],
        ),
        ([ga.RandomCrop(32, padding=4), ga.RandomHorizontalFlip(), *TAIL], [ga.CenterCrop(32), *TAIL]),
        ([ga.Resize(40), ga.CenterCrop(32), ga.Pad(2), ga.Grayscale(), *TAIL], None),
        ([ga.RandomInvert(), ga.ColorJitter(0.4), ga.GaussianBlur(3), ga.AugMix(), ga.MixUp()], []),
    ):
        assert evaluation(train) == (train if expected is None else expected)
    assert math.isclose(255, 1.14 * 224, abs_tol=0.5)


@backends
def test_the_default_evaluation_runs_on_ragged_images(backend: str) -> None:
    images = photographs()
    augment = ga.Augment(recipe(), backend=backend).eval()
    result = augment(ga.Ragged.from_images(images))
    assert result.shape == (len(images), 3, 24, 24)
    assert torch.equal(result, torch.cat([augment(image[None]) for image in images]))


@backends
@pytest.mark.parametrize("mix", [False, True], ids=["plain", "mix"])
def test_sample_and_render_replay_a_call(mix: bool, backend: str) -> None:
    augment = ga.Augment(recipe(mix), backend=backend)
    images, index = noise(6), torch.arange(6) + 30
    expected = augment(images, labels(6), index=index)
    augment.set_epoch(0)
    draw = augment.sample(images, index=index)
    augment.set_epoch(9)  # what was drawn stays
    for _ in range(2):
        for got, wanted in zip(augment.render(images, draw, labels(6)), expected, strict=True):
            assert torch.equal(got, wanted)
    assert torch.equal(augment.render(images, draw), expected[0])
    augment.eval()  # a draw remembers what it was drawn for
    assert torch.equal(augment.render(images, draw), expected[0])
    other = augment.train().render(images.flip(0), draw)  # a second view: the same draw, other images
    assert other.shape == expected[0].shape
    assert not torch.equal(other, expected[0])


@backends
def test_draws_of_one_backend_render_on_the_other(backend: str) -> None:
    images = noise(6)
    draw = ga.Augment(recipe(), backend="torch").sample(images)
    assert torch.equal(
        *(ga.Augment(recipe(), backend=name).render(images, draw) for name in (backend, "torch")),
    )


def test_rendering_asks_no_generator() -> None:
    augment = ga.Augment(recipe(), backend=FAST)
    images = noise(4)
    draw = augment.sample(images)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        first = augment.render(images, draw)
        state = torch.get_rng_state()
        torch.manual_seed(2)
        assert torch.equal(augment.render(images, draw), first)
        torch.manual_seed(1)
        assert torch.equal(torch.get_rng_state(), state)


def test_set_epoch_draws_anew_and_the_same_again() -> None:
    augment = ga.Augment(recipe(), backend=FAST)
    index = torch.arange(4)
    zero = augment(noise(4), index=index)
    augment.set_epoch(1)
    one = augment(noise(4), index=index)
    augment.set_epoch(0)
    assert torch.equal(augment(noise(4), index=index), zero)
    assert not torch.equal(one, zero)


@backends
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8], ids=str)
def test_kinds_of_labels(dtype: torch.dtype, backend: str) -> None:
    steps = [ga.ToDtype(torch.float32), ga.MixUp(num_classes=CLASSES, mode="elem")]
    augment = ga.Augment(steps, backend=backend)
    index = torch.arange(5)
    _, expected = augment(noise(5), labels(5), index=index)
    _, mixed = anew(augment, noise(5), labels(5).to(dtype), index=index)
    assert torch.equal(mixed, expected)
    hot = nn.functional.one_hot(labels(5), CLASSES)
    for multi in (hot, hot.bool(), hot.float()):
        _, mixed = anew(augment, noise(5), multi, index=index)
        assert torch.equal(mixed, expected)
    _, half = anew(augment, noise(5), hot.half(), index=index)
    assert half.dtype == torch.float16
    assert torch.allclose(half.float(), expected, atol=1e-3)
    loss = nn.functional.cross_entropy(torch.zeros(5, CLASSES), expected)
    assert math.isclose(loss.item(), math.log(CLASSES), rel_tol=1e-5)


@pytest.mark.parametrize(("name", "value"), [("backend", "fastest"), ("memory_format", torch.preserve_format)])
def test_arguments_that_are_set_later_are_checked(name: str, value: Any) -> None:
    augment = ga.Augment([ga.RandomInvert()], seed=0, backend="torch")
    before = getattr(augment, name)
    with pytest.raises(ValueError, match=f"Augment: `{name}` must be"):
        setattr(augment, name, value)
    assert getattr(augment, name) == before
