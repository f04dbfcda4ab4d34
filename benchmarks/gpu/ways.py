"""Who does the work of a recipe, and whether it is the same work."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.transforms import v2

import gpuaug as ga

from ..cases import JITTER, MEAN, STD
from . import recipes, timing
from .recipes import MIX, PLAIN, Scale

__all__ = [
    "COMPILED", "EACH", "FUSED", "GRAPH", "KORNIA", "LIMIT", "OURS", "TORCH", "TORCHVISION", "WAYS", "Case", "Made",
    "Way", "pixels", "same",
]  # fmt: skip

OURS, GRAPH, TORCH = "gpuaug", "gpuaug graph", "gpuaug torch backend"
LIMIT = "read and write"
TORCHVISION, EACH = "torchvision batch", "torchvision each"
KORNIA, COMPILED, FUSED = "kornia", "kornia compiled", "triton-augment"
FEW = 16  # images that are compared with the twin: as divisible as a batch is, so that nothing else is compiled
DRAWS = 8  # of others, whose mean and deviation are looked at

Function = Callable[[Any, Tensor], Any]  # (images, labels) to what a network takes


@dataclass
class Case:
    """A recipe on a batch."""

    recipe: str
    scale: Scale
    data: list[tuple[Any, Tensor]]  # images uint8 (B, 3, H, W) or Ragged, and labels, on the device

    @property
    def mixes(self) -> bool:
        return self.recipe.endswith(MIX)

    @property
    def base(self) -> str:
        return self.recipe.removesuffix(MIX)

    @property
    def ragged(self) -> bool:
        return isinstance(self.data[0][0], ga.Ragged)

    def given(self, labels: Tensor) -> tuple[Tensor, ...]:
        return (labels,) if self.mixes else ()

    @cached_property
    def bytes(self) -> tuple[int, int]:
        """That must be read and written at least."""
        return recipes.least_bytes(recipes.augment(self.recipe, self.scale), self.data[0][0], self.scale.size)

    @cached_property
    def level(self) -> float:
        """The mean of what our module makes of the first batch."""
        images, labels = self.data[0]
        augment = recipes.augment(self.recipe, self.scale)
        return float(pixels(augment(images, *self.given(labels))).float().mean())


class Made(NamedTuple):
    """A way that is ready."""

    run: Function
    check: Callable[[], str]  # what differs from the work asked for; nothing if it is the same


@dataclass(frozen=True)
class Way:
    """One of those who take part.

    Attributes:
        note: what is different about its work.
        waits: the host waits for the device within a call.
    """

    name: str
    make: Callable[[Case], Made]
    note: str = ""
    waits: bool = False


def pixels(result: Any) -> Tensor:
    return result if isinstance(result, Tensor) else result[0]


def same(one: Any, other: Any) -> bool:
    """Whether two results, images or (images, labels), are the same bits, wherever they are."""
    ones, others = ([r] if isinstance(r, Tensor) else list(r) for r in (one, other))
    return len(ones) == len(others) and all(
        (a.dtype, a.shape, a.stride()) == (b.dtype, b.shape, b.stride()) and torch.equal(_bits(a), _bits(b))
        for a, b in zip(ones, others, strict=True)
    )


def _bits(tensor: Tensor) -> Tensor:
    tensor = tensor.cpu()
    kinds = {2: torch.int16, 4: torch.int32}
    return tensor.view(kinds[tensor.element_size()]) if tensor.is_floating_point() else tensor


# ---- ours ------------------------------------------------------------------------------------------------------------


def ours(backend: str) -> Callable[[Case], Made]:
    def make(case: Case) -> Made:
        augment = recipes.augment(case.recipe, case.scale, backend)

        def check() -> str:
            images, labels = _few(case)
            index = torch.arange(len(images)) * 11 + 5
            got = augment(images, *case.given(labels), index=index)
            twin = recipes.augment(case.recipe, case.scale, "torch")
            expected = twin(images.to("cpu"), *case.given(labels.cpu()), index=index)
            return "" if same(got, expected) else "other bits than the twin on the CPU"

        return Made(lambda images, labels: augment(images, *case.given(labels)), check)

    return make


def _few(case: Case) -> tuple[Any, Tensor]:
    images, labels = case.data[0]
    if case.ragged:
        return ga.Ragged.from_images([images[number] for number in range(min(FEW, len(images)))]), labels[:FEW]
    return images[:FEW], labels[:FEW]


def graph(case: Case) -> Made:
    images, labels = case.data[0]
    augment = recipes.augment(case.recipe, case.scale)
    captured = augment.capture(images, *case.given(labels))

    def check() -> str:
        index = torch.arange(len(images)) * 11 + 5
        images_, labels_ = case.data[1]
        got = captured(images_, *case.given(labels_), index=index)
        another = recipes.augment(case.recipe, case.scale)  # the same one would draw for a second look
        expected = another(images_, *case.given(labels_), index=index)
        return "" if same(got, expected) else "other bits than forward"

    return Made(lambda images, labels: captured(images, *case.given(labels)), check)


def limit(case: Case) -> Made:
    """The fastest of a few shapes of the kernel."""
    from .limit import SHAPES, ReadWrite

    read, _ = case.bytes
    count, found = len(case.data[0][0]), []
    for block, warps in SHAPES:
        one = ReadWrite(count, recipes.CHANNELS, case.scale.size, read, block, warps)

        def run(number: int, one: ReadWrite = one) -> Tensor:
            return one(*case.data[number % len(case.data)])

        timing.first_call(run)
        taken = timing.queued(run, 8, 1e-4, 2.0, 5)
        found.append((min(taken.ms, default=math.inf), block, one))
    best = min(found, key=lambda pair: pair[:2])[2]

    def check() -> str:
        images = case.data[0][0]
        data = images if isinstance(images, Tensor) else images.data
        whole = best.total // best.block  # programs; the last one may have fewer values to write than bytes to read
        expected = int(data.reshape(-1)[: min(best.read, whole * best.read_each)].sum(dtype=torch.int64))
        written = best(images).permute(0, 2, 3, 1).reshape(-1)[: whole * best.block]
        got = int(written.sum(dtype=torch.float64))
        allowed = 0 if best.loads == 1 else 0.01 * expected  # sums of several are rounded to bf16
        return "" if abs(got - expected) <= allowed else f"read {got} of what sums to {expected}"

    return Made(best, check)


# ---- others ----------------------------------------------------------------------------------------------------------


def finished(images: Tensor) -> Tensor:
    """As a network takes it: bf16, channels_last."""
    return images.to(torch.bfloat16, memory_format=torch.channels_last)


def plausible(case: Case, run: Function) -> Callable[[], str]:
    """The check of those who draw otherwise: shape, dtype, layout, finite values, and a mean near ours."""

    def check() -> str:
        size, found = case.scale.size, []
        for number in range(DRAWS):
            images, labels = case.data[number % len(case.data)]
            result = pixels(run(images, labels))
            expected = (len(images), recipes.CHANNELS, size, size)
            if tuple(result.shape) != expected or result.dtype != torch.bfloat16:
                return f"made {result.dtype} {tuple(result.shape)}"
            if not result.is_contiguous(memory_format=torch.channels_last):
                return "is not channels_last"
            if not bool(torch.isfinite(result).all()):
                return "has values that are not finite"
            found.append((float(result.float().mean()), float(result.float().std())))
        level, deviation = (sum(values) / len(found) for values in zip(*found, strict=True))
        near = 0.4 if case.base == PLAIN else 1.5  # one draw moves a whole batch
        if abs(level - case.level) > near + len(images) ** -0.5:
            return f"a mean of {level:.2f}, ours is {case.level:.2f}"
        return "" if 0.4 < deviation < 2 else f"a deviation of {deviation:.2f}, which should be near 1"

    return check


def torchvision(each: bool) -> Callable[[Case], Made]:
    def make(case: Case) -> Made:
        chain = v2.Compose(recipes.steps(v2, case.recipe, case.scale.size, torch.bfloat16))
        mix = recipes.mix(v2, case.scale.classes) if case.mixes else None

        def run(images: Any, labels: Tensor) -> Any:
            result = torch.stack([chain(image) for image in images]) if each else chain(images)
            if mix is None:
                return finished(result)
            result, labels = mix(result, labels)
            return finished(result), labels

        return Made(run, plausible(case, run))

    return make


def kornia(compiled: bool) -> Callable[[Case], Made]:
    def make(case: Case) -> Made:
        chain = kornia_chain(case.base, case.scale.size, compiled).to("cuda")
        if compiled:
            torch._dynamo.reset()
            chain = torch.compile(chain)
        mixes = kornia_mixes() if case.mixes else []

        def run(images: Any, labels: Tensor) -> Any:
            result = chain(images.float() / 255)
            if not mixes:
                return finished(result)
            result, labels = random.choice(mixes)(result, labels)
            return finished(result), labels

        return Made(run, plausible(case, run))

    return make


def kornia_chain(recipe: str, size: int, ordered: bool = False) -> torch.nn.Module:
    """A recipe of Kornia's modules.

    Args:
        ordered: fix the order of ColorJitter's steps, which torch.compile needs.
    """
    import kornia.augmentation as ka
    from kornia.augmentation import auto

    order: dict[str, Any] = {"order": (0, 1, 2, 3)} if ordered else {}
    middles: dict[str, Callable[[], list[Any]]] = {
        PLAIN: list,
        "RandAugment": lambda: [auto.RandAugment(n=2, m=9)],
        "TrivialAugment": lambda: [auto.TrivialAugment()],
        "ColorJitter": lambda: [ka.ColorJitter(*JITTER, p=1.0, **order)],
        "SimCLR": lambda: [
            ka.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8, **order),
            ka.RandomGrayscale(p=0.2),
            ka.RandomGaussianBlur((23, 23), (0.1, 2.0), p=0.5),
        ],
    }
    head = [ka.RandomResizedCrop((size, size), cropping_mode="resample"), ka.RandomHorizontalFlip()]
    return torch.nn.Sequential(*head, *middles[recipe](), ka.Normalize(torch.tensor(MEAN), torch.tensor(STD)))


def kornia_mixes() -> list[Any]:
    import kornia.augmentation as ka

    keys: Any = ["input", "class"]
    return [ka.RandomMixUpV2(p=1.0, data_keys=keys), ka.RandomCutMixV2(p=1.0, data_keys=keys)]


def triton_augment(case: Case) -> Made:
    import triton_augment as ta

    if case.recipe not in (PLAIN, "ColorJitter"):
        raise ValueError(f"triton-augment has no {case.recipe}")
    jitter = dict(zip(("brightness", "contrast", "saturation"), JITTER, strict=False))
    given = jitter if case.base == "ColorJitter" else {}
    fused = ta.TritonFusedAugment(crop_size=case.scale.size, horizontal_flip_p=0.5, mean=MEAN, std=STD, **given)

    def run(images: Any, labels: Tensor) -> Any:
        return finished(fused(images.float() / 255))

    return Made(run, plausible(case, run))


WAYS = {
    way.name: way
    for way in (
        Way(OURS, ours("auto")),
        Way(GRAPH, graph),
        Way(LIMIT, limit, "reads and writes the bytes that the recipe must, and nothing else"),
        Way(TORCHVISION, torchvision(each=False), "one draw for the whole batch; uint8 until bf16", waits=True),
        Way(KORNIA, kornia(compiled=False), "float32 until the end; not antialiased; policies draw once a batch", True),
        Way(TORCH, ours("torch")),
        Way(EACH, torchvision(each=True), "image by image; uint8 until bf16", waits=True),
        Way(COMPILED, kornia(compiled=True), "as Kornia, in torch.compile; ColorJitter's order fixed", waits=True),
        Way(FUSED, triton_augment, "float32; crops but does not resize: less work; no hue, one order", waits=True),
    )
}
