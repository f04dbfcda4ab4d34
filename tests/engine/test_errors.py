"""Bad input: a clear error in the one form, before anything changes (long: tables of bad input)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import transforms as v1
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.engine import backends
from gpuaug.transforms.base import Transform
from tests.support.errors import FORM, assert_form
from tests.support.helpers import CLASSES, FAST, call, labels, noise, photographs, recipe, used
from tests.support.ops import ROWS
from tests.support.ops.arguments import (
    bad_numbers,
    bad_words,
    check_argument_is_covered,
    check_bad_word,
    check_fixed,
    check_refused_number,
)

OPS = pytest.mark.parametrize("op", ga.OPS, ids=lambda op: op.__name__)


@pytest.mark.parametrize(
    ("op", "name", "value"),
    [
        pytest.param(op, name, value, id=f"{op.__name__}-{name}-{value!r}"[:60])
        for op in ga.OPS
        for name, value in bad_numbers(op, ROWS[op])
    ],
)
def test_a_bad_number_is_refused_by_the_constructor(op: type[Transform], name: str, value: Any) -> None:
    check_refused_number(op, ROWS[op], name, value)


@OPS
def test_every_argument_is_in_a_table(op: type[Transform]) -> None:
    check_argument_is_covered(op, ROWS[op])


@pytest.mark.parametrize(
    ("op", "name"),
    [(op, name) for op in ga.OPS for name in bad_words(op, ROWS[op])],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_bad_name_is_refused_by_the_constructor(op: type[Transform], name: str) -> None:
    check_bad_word(op, ROWS[op], name)


X = noise(4)
MIX = [ga.MixUp(num_classes=CLASSES)]
FLOATS = ga.ToDtype(torch.float32, scale=True)
BLUR, INVERT = ga.GaussianBlur(3), ga.RandomInvert()

LISTS: dict[str, tuple[Any, str]] = {
    "a string": ("RandomInvert", "train"),
    "none": (None, "train"),
    "one op": (ga.RandomInvert(), "train"),
    "a class": ([ga.RandomInvert], "train"),
    "a function": ([torch.neg], "train"),
    "a module": ([torch.nn.ReLU()], "train"),
    "none inside": ([ga.Compose([None])], "train"),
    "normalize before floats": ([ga.Normalize((0.5,), (0.5,)), FLOATS], "train"),
    "normalize on uint8": ([ga.ToDtype(torch.uint8), ga.Normalize((0.5,), (0.5,))], "train"),
    "pixels after floats": ([FLOATS, ga.RandomInvert()], "train"),
    "crop after floats": ([FLOATS, ga.CenterCrop(4)], "train"),
    "container after floats": ([FLOATS, ga.RandomApply([BLUR])], "train"),
    "opaque after floats": ([FLOATS, ga.Opaque(v2.RandomInvert())], "train"),
    "back to uint8": ([FLOATS, ga.ToDtype(torch.uint8, scale=True)], "train"),
    "two mixes": ([ga.MixUp(), ga.CutMix()], "train"),
    "two choices of mixes": ([ga.RandomChoice([ga.MixUp()]), ga.RandomChoice([ga.CutMix()])], "train"),
    "op after mix": ([ga.MixUp(), INVERT], "train"),
    "erase after mix": ([FLOATS, ga.MixUp(), ga.RandomErasing()], "train"),
    "random levels": ([ga.RandomErasing(value="random")], "train"),
    "torchvision normalize on uint8": ([v2.Normalize((0.5,), (0.5,))], "train"),
    "torchvision pixels after floats": ([v2.ToDtype(torch.float32, scale=True), v2.RandomInvert()], "train"),
    "torchvision v1 that is not ours": ([v1.ToPILImage()], "transforms"),
    "torchvision v2 that makes PIL images": ([v2.ToPILImage()], "transforms"),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_bad_list_is_refused_by_the_constructor(name: str) -> None:
    train, argument = LISTS[name]
    with pytest.raises(ValueError) as error:
        ga.Augment(train, backend="torch")
    assert_form(error, "Augment", argument)
    with pytest.raises(ValueError) as error:
        ga.Augment([], eval=[FLOATS, ga.ToDtype(torch.float32), INVERT], backend="torch")
    assert_form(error, "Augment", "eval")


@pytest.mark.parametrize(
    ("op", "arguments"),
    [
        (ga.RandomApply, {"transforms": [ga.CenterCrop(3)]}),
        (ga.RandomApply, {"transforms": MIX}),
        (ga.RandomApply, {"transforms": [FLOATS]}),
        (ga.RandomOrder, {"transforms": [ga.RandomResizedCrop(3)]}),
        (ga.RandomChoice, {"transforms": [INVERT, ga.CenterCrop(3)]}),
        (ga.RandomChoice, {"transforms": [ga.MixUp(), ga.MixUp(mode="elem")]}),
        (ga.RandomChoice, {"transforms": [ga.MixUp(num_classes=3), ga.MixUp(num_classes=4)]}),
        (ga.RandomChoice, {"transforms": [ga.CenterCrop(3), ga.CenterCrop(3)], "p": [0.2, 0.3]}),
        (ga.RandomChoice, {"transforms": [ga.RandomChoice([ga.CenterCrop(3)]), ga.CenterCrop(3)]}),
        (ga.RandomChoice, {"transforms": [ga.RandomChoice([ga.MixUp()]), ga.MixUp()]}),
        (ga.Resize, {"size": None}),
        (ga.Resize, {"size": (3, 4), "max_size": 5}),
        (ga.Resize, {"size": 5, "max_size": 5}),
    ],
    ids=str,
)
def test_arguments_that_do_not_go_together(op: type[Transform], arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as error:
        op(**arguments)
    assert_form(error, op.__name__)


@pytest.mark.parametrize(
    "arguments",
    [
        {"seed": -1}, {"seed": 2**64}, {"seed": 1.0}, {"seed": True}, {"seed": "0"}, {"seed": float("nan")},
        {"backend": "cuda"}, {"backend": None}, {"memory_format": torch.preserve_format}, {"memory_format": "nchw"},
        {"eval": "none"}, {"eval": ga.RandomInvert()},
    ],
    ids=str,
)  # fmt: skip
def test_a_bad_argument_of_augment(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as error:
        ga.Augment([], **{"backend": "torch"} | arguments)
    assert_form(error, "Augment", next(iter(arguments)))


@pytest.mark.parametrize("epoch", [-1, 2**32, 1.5, True, None, float("nan")])
def test_a_bad_epoch_leaves_the_epoch(epoch: Any) -> None:
    augment = ga.Augment([], backend="torch")
    augment.set_epoch(7)
    with pytest.raises(ValueError) as error:
        augment.set_epoch(epoch)
    assert_form(error, "Augment", "epoch")
    assert augment.epoch == 7


def test_numba_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "installed", lambda name: name != "numba")
    with pytest.raises(RuntimeError, match=r'`backend` "numba" needs Numba, which is not installed\. Run pip install'):
        ga.Augment([INVERT], backend="numba")
    assert torch.equal(ga.Augment([ga.RandomInvert(p=1)])(X), 255 - X)  # "auto" does without


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_triton_where_there_is_no_cuda(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(backends, "interpreted", lambda: False)
    message = rf'`backend` "triton" runs on a CUDA or ROCm device, got images on {device}\. Move them with'
    with pytest.raises(RuntimeError, match=message):
        backends.choose("triton", torch.device(device))
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="runs on a CUDA or ROCm device"):
            ga.Augment([INVERT], backend="triton")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((70000, 1, 2, 2), r"at most 65535 for backend .triton., got 70000\. Split the batch"),
        ((1, 3, 40000, 40000), r"and 2147483648 bytes each for backend .triton., got 40000 x 40000 x 3\. Use"),
        ((1, 1, 1, 2**23), r"smaller than 4194304 pixels a side .*, got 1 x 8388608 x 1\. Use backend="),
    ],
)
def test_what_the_kernels_cannot_count(shape: tuple[int, ...], message: str) -> None:
    if not backends.interpreted():
        pytest.skip("Triton's interpreter is not at hand")
    images = torch.zeros((1, 1, 1, 1), dtype=torch.uint8).expand(shape)
    with pytest.raises(ValueError, match=message):
        ga.Augment([INVERT], backend="triton")(images)


@pytest.mark.parametrize("sides", [(2**16, 2**15), (2**31,), (2**15, 2**15, 2)])
def test_more_programs_than_triton_counts(sides: tuple[int, ...]) -> None:
    """It would launch none of them, and not say so."""
    pytest.importorskip("triton", reason="Triton is not installed")
    from gpuaug.kernels.triton.runtime import launch

    class Kernel:
        """Notes the grids that it is launched with."""

        def __init__(self) -> None:
            self.grids: list[tuple[int, ...]] = []

        def fn(self) -> None: ...

        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            return lambda *_, **__: self.grids.append(grid)

    kernel, most = Kernel(), (2**31 - 1,)
    with pytest.raises(ValueError, match=r"Augment: `images` .* 2147483647 programs, got .* of fn\. Use smaller"):
        launch.launch(kernel, sides, torch.zeros(1))
    launch.launch(kernel, most, torch.zeros(1))
    assert kernel.grids == [(*most, 1, 1)]


@pytest.mark.parametrize("soft", [torch.zeros(8, 0), torch.zeros(8, 3, dtype=torch.complex64)], ids=repr)
def test_soft_labels_that_cannot_be_mixed(soft: Tensor) -> None:
    augment = ga.Augment([ga.ToDtype(torch.float32, scale=True), ga.MixUp()])
    with pytest.raises(ValueError, match="of bool, integers or floats, with at least one class, got"):
        augment(torch.zeros((8, 3, 9, 9), dtype=torch.uint8), soft)


def test_sparse_images() -> None:
    with pytest.raises(ValueError, match=r"a dense tensor, got torch\.sparse_coo\. Call images\.to_dense\(\)"):
        ga.Augment([INVERT])(torch.zeros((8, 3, 9, 9), dtype=torch.uint8).to_sparse())


def test_an_array_is_described_in_one_line() -> None:
    with pytest.raises(ValueError, match="got ndarray") as error:
        ga.Augment([INVERT])(np.zeros((8, 3, 9, 9), np.uint8))
    assert "\n" not in str(error.value)


def test_auto_is_triton_on_cuda_if_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    monkeypatch.setattr(backends, "_works", lambda name: True)
    assert backends.choose("auto", cuda) == "triton"
    assert backends.choose("auto", torch.device("mps")) == "torch"
    monkeypatch.setattr(backends, "_works", lambda name: False)
    assert backends.choose("auto", cuda) == "torch"


def test_numba_on_a_device_it_does_not_run_on() -> None:
    if FAST != "numba":
        pytest.skip("numba is not there")
    with pytest.raises(RuntimeError, match=r'`backend` "numba" runs on the CPU, got images on meta\. Use backend'):
        ga.Augment([INVERT], backend="numba")(X.to("meta"))


def images_of(sizes: list[tuple[int, int]]) -> ga.Ragged:
    return ga.Ragged.from_images([noise(1, 3, *size)[0] for size in sizes])


MIXED = images_of([(20, 30), (25, 18)])
RAISES_NAN = torch.full((4, 3), float("nan"))

# a list, and the arguments of a call that must fail
CALLS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "float images": (recipe(), {"images": X.float() / 255}),
    "int64 images": (recipe(), {"images": X.long()}),
    "int8 images": (recipe(), {"images": X.to(torch.int8)}),
    "one image": (recipe(), {"images": X[0]}),
    "six dimensions": (recipe(), {"images": X[None, None]}),
    "no frames": (recipe(), {"images": X[:, None][:, :0]}),
    "no batch": (recipe(), {"images": X[:0]}),
    "no rows": (recipe(), {"images": X[:, :, :0]}),
    "no channels": (recipe(), {"images": X[:, :0]}),
    "numpy images": (recipe(), {"images": X.numpy()}),
    "a list of images": (recipe(), {"images": list(X)}),
    "none": (recipe(), {"images": None}),
    "two channels for colour": ([ga.ColorJitter(hue=0.1)], {"images": X[:, :2]}),
    "four channels for a policy": ([ga.RandAugment()], {"images": noise(4, 4)}),
    "two channels for grey": ([ga.Grayscale()], {"images": X[:, :2]}),
    "two channels for jpeg": ([ga.JPEG(50)], {"images": X[:, :2]}),
    "17 channels to permute": ([ga.RandomChannelPermutation()], {"images": noise(4, 17)}),
    "fewer channels in a container": ([ga.RandomApply([ga.Grayscale(1)])], {"images": X}),
    "crop larger than image": ([ga.RandomCrop(25)], {"images": X}),
    "crop larger than one ragged image": ([ga.RandomCrop(19)], {"images": MIXED}),
    "crop padded too little": ([ga.RandomCrop(30, padding=2)], {"images": X}),
    "padding that leaves nothing": ([ga.Pad((-11, 0))], {"images": X}),
    "reflection too wide": ([ga.Pad(21, padding_mode="reflect")], {"images": X}),
    "reflecting crop too wide": ([ga.RandomCrop(30, padding=22, padding_mode="symmetric")], {"images": X}),
    "blur larger than image": ([ga.GaussianBlur(43)], {"images": X}),
    "blur in a container": ([ga.RandomApply([ga.GaussianBlur(43)])], {"images": X}),
    "motion blur larger than image": ([ga.MotionBlur(43, 0, 0, "reflect")], {"images": X}),
    "fill too long": ([ga.RandomRotation(5, fill=(1, 2))], {"images": X}),
    "fill of a policy too long": ([ga.RandAugment(fill=(1, 2, 3, 4))], {"images": X}),
    "fill of padding too long": ([ga.Pad(1, fill=(1, 2))], {"images": X}),
    "erased value too long": ([ga.RandomErasing(1, value=(1, 2))], {"images": X}),
    "erased value out of range": ([ga.RandomErasing(1, value=1e12)], {"images": X}),
    "mean too long": ([FLOATS, ga.Normalize((1, 2), (1, 2))], {"images": X}),
    "mean of a grey image": ([ga.Grayscale(), FLOATS, ga.Normalize((1, 2, 3), (1, 2, 3))], {"images": X}),
    "mixed sizes": ([ga.RandomHorizontalFlip()], {"images": MIXED}),
    "mixed sizes after a policy": ([ga.RandAugment()], {"images": MIXED}),
    "mixed sizes to a mix": ([FLOATS, ga.MixUp()], {"images": MIXED, "labels": torch.rand(2)}),
    "mixed sizes to an opaque step": ([ga.Opaque(v2.RandomInvert()), ga.CenterCrop(8)], {"images": MIXED}),
    "mixed sizes after resize": ([ga.Resize(8), FLOATS], {"images": MIXED}),
    "mixed sizes to a wide blur": ([ga.GaussianBlur(37), ga.CenterCrop(8)], {"images": MIXED}),
    "crops of two sizes": ([ga.RandomChoice([ga.CenterCrop(8), ga.CenterCrop(9)])], {"images": X}),
    "crops of two kinds": ([ga.RandomChoice([ga.Resize((8, 8), "nearest"), ga.Resize((8, 8))])], {"images": X}),
    "no labels": (MIX, {"images": X}),
    "labels of a choice": ([ga.RandomChoice(MIX)], {"images": X}),
    "list of labels": (MIX, {"images": X, "labels": [0, 1, 2, 3]}),
    "float labels": (MIX, {"images": X, "labels": torch.zeros(4)}),
    "bool labels": (MIX, {"images": X, "labels": torch.zeros(4, dtype=torch.bool)}),
    "three labels": (MIX, {"images": X, "labels": torch.zeros(3, dtype=torch.long)}),
    "labels (B, 1, C)": (MIX, {"images": X, "labels": torch.zeros(4, 1, CLASSES)}),
    "a label": (MIX, {"images": X, "labels": torch.tensor(1)}),
    "soft labels of another length": (MIX, {"images": X, "labels": torch.zeros(4, CLASSES + 1)}),
    "negative label": (MIX, {"images": X, "labels": torch.tensor([0, 1, 2, -1])}),
    "label too high": (MIX, {"images": X, "labels": torch.tensor([0, 1, 2, CLASSES])}),
    "class numbers without num_classes": ([ga.CutMix()], {"images": X, "labels": labels(4)}),
    "short index": (recipe(), {"images": X, "index": torch.arange(3)}),
    "int32 index": (recipe(), {"images": X, "index": torch.arange(4, dtype=torch.int32)}),
    "float index": (recipe(), {"images": X, "index": torch.arange(4.0)}),
    "index (B, 1)": (recipe(), {"images": X, "index": torch.arange(4)[:, None]}),
    "index list": (recipe(), {"images": X, "index": [0, 1, 2, 3]}),
    "numpy index": (recipe(), {"images": X, "index": np.arange(4)}),
    "negative index": (recipe(), {"images": X, "index": torch.tensor([0, 1, 2, -1])}),
    "a step that returns floats": ([ga.Opaque(v2.Lambda(lambda x: x.float()))], {"images": X}),
    "a step that returns fewer": ([ga.Opaque(v2.Lambda(lambda x: x[:2]))], {"images": X}),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_failed_call_leaves_everything_as_it_was(name: str) -> None:
    steps, bad = CALLS[name]
    augment, fresh = (ga.Augment(steps, seed=3, backend=FAST) for _ in range(2))
    for module in (augment, fresh):
        module.set_epoch(2)
        module._counter.next = 11
    before = torch.get_rng_state()
    with pytest.raises(ValueError) as error:
        augment(**bad)
    message = str(error.value)
    if "labels were given" not in message and "images` must have one size" not in message:
        assert FORM.match(message), message
    assert re.match(r"^[A-Z]\w+: .+\. [A-Z].+\.$|" + FORM.pattern, message, re.DOTALL), message
    assert used(augment) == {"epoch": 2, "counter": 11}
    assert torch.equal(torch.get_rng_state(), before)
    good = works_on(steps)
    if good is not None:
        assert torch.equal(call(augment, good), call(fresh, good))


def works_on(steps: list[Any]) -> Any:
    """Images that the list takes, or None."""
    for images in (X, noise(4, height=60, width=60), photographs()):
        try:
            return call(ga.Augment(steps, backend="torch"), images) is not None and images
        except ValueError:
            continue
    return None


@pytest.mark.parametrize("name", ["float images", "no labels", "three labels", "crop larger than image"])
def test_failing_between_calls_does_not_shift_the_stream(name: str) -> None:
    bad = CALLS[name][1] | ({"images": noise(4, height=9)} if name.startswith("crop") else {})
    steps = [ga.RandomCrop(12), *recipe(mix=True)[1:]]
    steady, disturbed = (ga.Augment(steps, seed=3, backend=FAST) for _ in range(2))
    for _ in range(2):
        expected = steady(X, labels(4))
        with pytest.raises(ValueError):
            disturbed(**bad)
        got = disturbed(X, labels(4))
        assert torch.equal(got[0], expected[0])
        assert torch.equal(got[1], expected[1])


RAGGED: dict[str, Callable[[], Any]] = {
    "no images": lambda: ga.Ragged.from_images([]),
    "numpy": lambda: ga.Ragged.from_images([np.zeros((3, 4, 4), np.uint8)]),
    "lists": lambda: ga.Ragged.from_images([[1, 2], [3, 4]]),
    "floats": lambda: ga.Ragged.from_images([torch.zeros(3, 4, 4)]),
    "a matrix": lambda: ga.Ragged.from_images([torch.zeros(4, 4, dtype=torch.uint8)]),
    "two kinds": lambda: ga.Ragged.from_images([X[0], X[0, :1]]),
    "zero area": lambda: ga.Ragged.from_images([X[0], X[0, :, :0]]),
    "zero width": lambda: ga.Ragged.from_images([X[0, :, :, :0]]),
    "zero channels": lambda: ga.Ragged.from_images([X[0, :0]]),
    "short buffer": lambda: ga.Ragged(torch.zeros(11, dtype=torch.uint8), np.array([[2, 2]]), 3),
    "numpy buffer": lambda: ga.Ragged(np.zeros(12, np.uint8), np.array([[2, 2]]), 3),
    "float buffer": lambda: ga.Ragged(torch.zeros(12), np.array([[2, 2]]), 3),
    "float sizes": lambda: ga.Ragged(torch.zeros(12, dtype=torch.uint8), np.array([[2.0, float("nan")]]), 3),
    "flat sizes": lambda: ga.Ragged(torch.zeros(12, dtype=torch.uint8), np.array([2, 2]), 3),
    "negative sizes": lambda: ga.Ragged(torch.zeros(12, dtype=torch.uint8), np.array([[-2, -2]]), 3),
    "no channels": lambda: ga.Ragged(torch.zeros(0, dtype=torch.uint8), np.array([[2, 2]]), 0),
    "channels as text": lambda: ga.Ragged(torch.zeros(12, dtype=torch.uint8), np.array([[2, 2]]), "3"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", RAGGED)
def test_a_bad_ragged_batch(name: str) -> None:
    with pytest.raises(ValueError) as error:
        RAGGED[name]()
    assert str(error.value).startswith("Ragged")
    assert_form(error)


def test_an_image_past_the_end_of_a_ragged_batch() -> None:
    with pytest.raises(IndexError, match="no image 2 in a batch of 2"):
        MIXED[2]


DRAWN = ga.Augment([ga.RandomResizedCrop(8), *MIX], backend="torch")
DRAW = DRAWN.sample(X)


@pytest.mark.parametrize(
    "arguments",
    [
        {"images": X[:3]}, {"images": X[:, :, :9]}, {"images": X[:, :1]}, {"images": X.float()}, {"images": 3},
        {"draw": None}, {"draw": DRAW.params}, {"labels": labels(3)}, {"labels": labels(4) + 5}, {"labels": [0] * 4},
    ],
    ids=[
        "fewer images", "smaller images", "fewer channels", "floats", "no images",
        "no draw", "a list", "fewer labels", "labels too high", "a list of labels",
    ],
)  # fmt: skip
def test_a_draw_is_rendered_on_what_it_was_drawn_for(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as error:
        DRAWN.render(**{"images": X, "draw": DRAW, "labels": labels(4)} | arguments)
    assert_form(error, "Augment")


def test_labels_on_a_device_are_not_read() -> None:
    """Asking a device for the values would wait, so only metadata is checked there."""

    class Unreadable(Tensor):
        @classmethod
        def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            assert getattr(function, "__name__", "") not in ("min", "max", "item", "__int__", "any", "all")
            return super().__torch_function__(function, types, args, kwargs or {})

    from gpuaug.transforms.mix import check_labels

    check_labels("Augment", ga.MixUp(num_classes=3), torch.full((4,), 9, device="meta").as_subclass(Unreadable), 4)


# ---- transforms cannot be changed ------------------------------------------------------------------------------------


@OPS
def test_arguments_cannot_be_changed_but_replaced(op: Any) -> None:
    check_fixed(op, ROWS[op])


def test_replace_checks_as_the_constructor_does() -> None:
    erase, policy = ga.RandomErasing(0.2), ga.RandAugment()
    assert erase.replace(p=0.7, value=3.0) == ga.RandomErasing(0.7, value=3.0)
    assert erase == ga.RandomErasing(0.2)
    with pytest.raises(ValueError, match=r"RandomErasing: `p` must be a probability in \[0, 1\], got 7"):
        erase.replace(p=7)
    with pytest.raises(ValueError, match="RandAugment: `magnitude` must be"):
        policy.replace(magnitude=50)
    with pytest.raises(
        AttributeError, match=r"MixUp: `p` is not an argument, .* RandomChoice\(\[\.\.\.\], p=\[\.\.\.\]\)"
    ):
        ga.MixUp().p = 0


def test_lists_that_were_given_are_not_kept() -> None:
    mean, children, chances = [0.5], [ga.RandomInvert()], [0.3]
    normalize, choice = ga.Normalize(mean, [0.5]), ga.RandomChoice(children, p=chances)
    before = repr([normalize, choice])
    mean[0], chances[0] = 9.0, 1.0
    children.append(ga.RandomEqualize())
    assert repr([normalize, choice]) == before


# ---- hints that fit ------------------------------------------------------------------------------------------------


def test_images_of_16_bits_and_of_views_get_hints_of_their_own() -> None:
    augment = ga.Augment([ga.Resize((8, 8))], backend="torch")
    deep = (torch.arange(2 * 3 * 9 * 9) * 134).reshape(2, 3, 9, 9)
    for dtype in (torch.uint16, torch.int32, torch.int64):
        with pytest.raises(ValueError, match=r"got u?int\d\d \(2, 3, 9, 9\)\. Bring levels to \[0, 255\]") as caught:
            augment(deep.to(dtype))
        assert FORM.match(str(caught.value))
        images = deep.to(dtype)
        code = str(caught.value).split("255]: ")[1].split(" for levels")[0]
        assert torch.equal(eval(code, {"images": images, "torch": torch}), (deep >> 8).to(torch.uint8))
    views = torch.zeros(2, 4, 5, 3, 9, 9, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"got uint8 \(2, 4, 5, 3, 9, 9\)\. Fold views") as caught:
        augment(views)
    code = str(caught.value).split("with ")[1].split(", and")[0]
    assert augment(eval(code, {"images": views})).shape == (8, 5, 3, 8, 8)


@pytest.mark.parametrize("make", [ga.RandomHorizontalFlip, ga.RandomRotation, ga.ColorJitter, ga.RandomErasing])
def test_integers_that_no_float_holds_are_out_of_range(make: Any) -> None:
    """float() of them raises an OverflowError, which says neither who nor what."""
    with pytest.raises(ValueError, match=f"^{make.__name__}: `"):
        make(10**400)
