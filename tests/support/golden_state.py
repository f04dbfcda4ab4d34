"""What golden.py hashes of a module's state: seeds, copies, epochs, looks, resumed runs, and layouts of a batch."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import gpuaug as ga
from tests.support.golden_lists import CLASSES, images

__all__ = ["INDEX", "STATE", "made", "steps"]

INDEX = torch.arange(5) * 977 + 2**33


def steps(mix: bool = False) -> list[Any]:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    head = [ga.RandomResizedCrop(24), ga.RandomHorizontalFlip(), ga.RandAugment()]
    tail = [ga.ToDtype(torch.float32, scale=True), ga.Normalize(mean, std), ga.RandomErasing(0.5)]
    return [*head, *tail, *([ga.MixUp(num_classes=CLASSES)] if mix else [])]


def made(seed: int | None = 7, **options: Any) -> ga.Augment:
    return ga.Augment(steps(), seed=seed, **options)


def copies() -> Any:
    """A module, its copies and a copy of a copy each have a view of their own."""
    augment, batch = made(), images("rgb")
    family = [augment, copy.copy(augment), copy.deepcopy(augment)]
    family.append(copy.deepcopy(family[1]))
    return [[one(batch), one(batch, index=INDEX), one.state_dict()] for one in family]


def seeds() -> Any:
    """One that is drawn, one that is set later, and one that two modules share."""
    drawn, later, batch = made(None), made(3), images("rgb")
    later.seed = 2**63 + 9
    return [drawn.seed, drawn(batch), later.seed, later(batch), made(2)(batch), made(2)(batch), torch.rand(2)]


def resumed() -> Any:
    """A run with a counter that goes on in a module of another seed."""
    augment, again, batch = made(), made(99), images("rgb")
    before = [augment(batch) for _ in range(3)]
    state = augment.state_dict()
    after = [augment(batch), augment(batch[:2])]
    again.load_state_dict(state)
    return [before, state, after, [again(batch), again(batch[:2])], again.seed, again.epoch]


def resumed_in_an_epoch() -> Any:
    """Looks that were counted go on after a state is loaded, also when its epoch is told again."""
    augment, batch = made(), images("rgb")
    augment.set_epoch(2)
    before = [augment(batch, index=INDEX), augment(batch, index=INDEX % 977)]
    found = [before, augment.state_dict()]
    for told in (False, True):
        again = made(1)
        again.load_state_dict(augment.state_dict())
        if told:
            again.set_epoch(2)
        found.append([again(batch, index=INDEX), again(batch, index=INDEX + 1), again.epoch])
    return found


def states_of_other_kinds() -> Any:
    """The dict of the first checkpoints, a damaged one, and none."""
    old, damaged, missing, batch = made(), made(), made(), images("rgb")
    old.load_state_dict({"_extra_state": {"epoch": 2, "counter": 40}})
    damaged.load_state_dict({"_extra_state": made(1).state_dict()["_extra_state"] + 1})
    missing.load_state_dict({}, strict=False)
    return [[one(batch), one.epoch, one.seed, one.state_dict()] for one in (old, damaged, missing)]


def in_a_model() -> Any:
    """Names in a checkpoint, and the pixels of a module that was saved as a part of a model."""
    torch.manual_seed(3)
    model = nn.Sequential(made(), nn.Conv2d(3, 2, 3))
    first = model[0](images("rgb"))
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = nn.Sequential(made(5), nn.Conv2d(3, 2, 3))
    other.load_state_dict(torch.load(file, weights_only=True))
    names = [[name for name, _ in values] for values in (model.named_buffers(), model.named_parameters())]
    return [first, list(model.state_dict()), model.state_dict(), names, other[0](images("rgb"))]


def pickled() -> Any:
    augment, batch = made(), images("rgb")
    augment(batch)
    again = pickle.loads(pickle.dumps(augment))
    return [augment(batch), again(batch), again.state_dict()]


def written() -> Any:
    """What `repr` shows makes the same module."""
    names = {name: getattr(ga, name) for name in ga.__all__} | {"torch": torch, "gpuaug": ga, "ga": ga}
    augment = ga.Augment(steps(mix=True), seed=7, exact=True, memory_format=torch.channels_last)
    again = eval(repr(augment), names)
    return [one(images("rgb"), torch.arange(5) % CLASSES) for one in (augment, again)]


def epochs() -> Any:
    augment, batch = made(), images("rgb")
    found = []
    for epoch in (0, 1, 5, 1, 2**32 - 1):
        augment.set_epoch(epoch)
        found.append([augment(batch), augment(batch, index=INDEX), augment(batch, index=INDEX), augment.epoch])
    return found


def looks() -> Any:
    """Those of a sampler, those of the module, and an image that is twice in a batch."""
    augment, batch = made(), images("rgb")
    told = torch.tensor([3, 3 | 1 << 48, 3 | 2 << 48, 4, 2**48 - 1])
    return [augment(batch, index=index) for index in (told, told, torch.tensor([3, 3, 3, 4, 4]), torch.zeros(5).long())]


def sizes_of_a_batch() -> Any:
    """An image looks the same whatever else is in its batch."""
    batch, whole = images("rgb"), made()(images("rgb"), index=INDEX)
    parts = [made()(batch[number : number + 1], index=INDEX[number : number + 1]) for number in range(5)]
    return [whole, parts, made()(batch.flip(0), index=INDEX.flip(0))]


def layouts_of_a_batch() -> Any:
    batch = images("rgb")
    wide = torch.stack([batch, batch], dim=4)[..., 0]
    given = [batch.to(memory_format=torch.channels_last), wide, batch[:, :, ::2, 3:], batch[:1].expand(5, -1, -1, -1)]
    return [made(backend=name)(one) for one in given for name in ("torch", "numba")]


def changed_later() -> Any:
    augment, batch = made(), images("rgb")
    found = [augment(batch)]
    for name, value in (("exact", True), ("memory_format", torch.channels_last), ("backend", "torch")):
        setattr(augment, name, value)
        found += [augment(batch), augment.eval()(batch), augment.train()(batch)]
    return found


def rendered() -> Any:
    """A draw on other images, with labels, and after the module has gone on."""
    augment = ga.Augment(steps(mix=True), seed=7)
    batch, labels = images("rgb"), torch.arange(5) % CLASSES
    draw, other = augment.sample(batch, index=INDEX), augment.eval().sample(batch)
    augment.train()(batch, labels)
    return [augment.render(*args) for args in ((batch, draw), (batch.flip(0), draw, labels), (batch, other))]


def checkpointed() -> Any:
    """A call that activation checkpointing repeats."""
    augment, weight = made(), torch.ones(1, requires_grad=True)
    for _ in range(2):
        checkpoint(lambda x: (augment(x) * weight) ** 2, images("rgb"), use_reentrant=False).sum().backward()
    return [weight.grad is not None, augment(images("rgb")), augment.state_dict()]


def exported() -> Any:
    """The evaluation list as plain torch operations."""
    floats = [ga.ToDtype(torch.float32, scale=True), ga.Normalize((0.5,), (0.2,))]
    half = [ga.Resize(30, max_size=33), ga.Pad(3, 9, "reflect"), ga.ToDtype("auto", scale=True)]
    lists = [
        [ga.Resize(28), ga.CenterCrop(24), *floats],
        [ga.Resize((50, 31), "bicubic", antialias=False), ga.Grayscale(1), *floats],
        [ga.CenterCrop((50, 20)), ga.Pad((1, 2, 3, 4), 7), ga.Grayscale(3)],
        half,
    ]
    batch = images("rgb")
    modules = [ga.Augment([], one).half().eval_module((40, 36)) for one in lists]
    return [module(given) for module in modules for given in (batch, batch.float())]


STATE = [
    *(copies, seeds, resumed, resumed_in_an_epoch, states_of_other_kinds, in_a_model, pickled, written, epochs, looks),
    *(sizes_of_a_batch, layouts_of_a_batch, changed_later, rendered, checkpointed, exported),
]
