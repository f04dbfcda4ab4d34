"""Checks of how an op is shown to the world: documentation, torchvision's spelling, tables, benchmarks."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

from torchvision import transforms as v1
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.transforms.base import Transform
from tests.support.helpers import blank, noise, pipeline
from tests.support.ops.row import Row
from tests.support.ops.table import by_group, reference

__all__ = [
    "MODULES", "carried", "check_annotated", "check_caption", "check_carried", "check_carries", "check_carries_all",
    "check_documented", "check_pixels", "check_spelled", "check_tables", "check_timed", "counterpart",
]  # fmt: skip

Op = type[Any]

MODULES: dict[str, ModuleType] = {"v1": v1, "v2": v2}


def counterpart(op: Op, module: ModuleType = v2) -> Any:
    """torchvision's class, or None."""
    return None if op.torchvision is None else getattr(module, op.torchvision, None)


# --- documentation and spelling -----------------------------------------------------------------------------------


def check_documented(thing: type, row: Row | None = None, deed: bool = True) -> None:
    """The docstring says in the imperative what it does (a `deed`), and names every argument."""
    doc = inspect.getdoc(thing)
    assert doc is not None
    assert doc != inspect.getdoc(Transform)
    first = doc.split(".")[0].split("\n\n")[0]
    verb = first.split()[0]
    if deed:
        assert verb[0].isupper()
        third_person = verb.endswith("s") and not verb.endswith("ss")
        assert not third_person, f"not an imperative: {first}"
        assert not verb.endswith(("ing", "ed")), f"not an imperative: {first}"
    section = doc.partition("Args:")[2]
    for name in inspect.signature(thing).parameters:
        lines = [line.split(":")[0] for line in section.splitlines()]
        assert any(name in line.replace(",", " ").split() for line in lines), f"`{name}` is not in Args"


def check_annotated(op: Op, row: Row) -> None:
    for name, argument in inspect.signature(op).parameters.items():
        assert argument.annotation is not inspect.Parameter.empty, name


def check_spelled(op: Op, row: Row) -> None:
    """Its arguments have torchvision's names, kinds, order and defaults, but for `row.more`."""
    theirs = counterpart(op)
    if theirs is None:
        assert isinstance(row.same, str), "say why torchvision has none"
        return
    ours, oracle = (dict(inspect.signature(cls).parameters) for cls in (op, theirs))
    assert set(row.more) <= set(ours) - set(oracle)
    assert [name for name in ours if name not in row.more] == list(oracle)
    for name, argument in oracle.items():
        assert ours[name].kind == argument.kind, name
        own, other = (getattr(default, "value", default) for default in (ours[name].default, argument.default))
        assert own == other, name


# --- from_torchvision ---------------------------------------------------------------------------------------------


def carried(op: Op, row: Row) -> list[tuple[str, Any, dict[str, Any]]]:
    """(version, torchvision's class, arguments) of every example that carries over."""
    examples = [] if isinstance(row.same, str) else [dict(arguments) for arguments in row.same]
    return [
        (version, cls, arguments)
        for version, module in MODULES.items()
        if (cls := counterpart(op, module)) is not None
        for arguments in examples
        if version == "v2" or arguments not in row.only_v2
    ]


def made_by_torchvision(cls: type, arguments: dict[str, Any]) -> Any:
    """torchvision's transform; v1 takes the enums of interpolations, and so do v2's policies up to 0.26."""
    v2s = cls.__module__.startswith("torchvision.transforms.v2") and not cls.__module__.endswith("_auto_augment")
    if v2s or "interpolation" not in arguments:
        return cls(**arguments)
    return cls(**arguments | {"interpolation": v1.InterpolationMode(arguments["interpolation"])})


def check_carries(cls: type, op: Op, arguments: dict[str, Any]) -> None:
    """`from_torchvision` keeps every argument."""
    (step,) = ga.from_torchvision(made_by_torchvision(cls, arguments))
    by_hand = op(**arguments)
    assert repr(step) == repr(by_hand)
    assert step == by_hand
    for name in arguments:  # a lost argument would be seen
        if inspect.signature(op).parameters[name].default is not inspect.Parameter.empty:
            rest = {other: value for other, value in arguments.items() if other != name}
            if op is not ga.Resize or rest.get("size") is not None:
                assert repr(op(**rest)) != repr(by_hand), name


def check_carried(op: Op, row: Row) -> None:
    for _, cls, arguments in carried(op, row):
        check_carries(cls, op, arguments)


def check_carries_all(op: Op, row: Row) -> None:
    """Every argument of torchvision's appears in an example."""
    if isinstance(row.same, str):
        return
    shown = {argument for arguments in row.same for argument in arguments}
    assert shown == set(inspect.signature(counterpart(op)).parameters) - set(row.refused)


# --- captions, tables, benchmarks ---------------------------------------------------------------------------------


def check_caption(op: Op, row: Row) -> None:
    """The preview and `explain` say what was done to a sample, and nothing where its gate said no."""
    from gpuaug.demo.preview import captions

    augment = ga.Augment(pipeline(op), backend="torch", seed=0)
    draw = augment.sample(blank(32))
    params = draw.params
    found = captions(augment.train_pipeline.steps, params, 32)
    says = row.example.kind in ("pixel", "mix") and not row.example.children
    for sample, caption in enumerate(found):
        applied = any(bool(drawn.get("applied", [True] * 32)[sample]) for drawn in params)
        assert "\n" not in caption
        assert applied or caption == "unchanged"
        assert not (applied and says) or caption != "unchanged" or "ops" in params[-1]  # a policy may draw Identity
        lines = [line for line in augment.explain(draw, sample).splitlines()[1:] if not line.startswith(" ")]
        for step, drawn, line in zip(augment.train_pipeline.steps, params, lines, strict=True):
            assert line.startswith(f"{type(step).__name__}: ")
            assert (line == f"{type(step).__name__}: not applied") != bool(drawn.get("applied", [True] * 32)[sample])
            assert not line.endswith(": ")


def check_tables(op: Op, row: Row) -> None:
    """Each table names it once."""
    lines = by_group().splitlines()
    assert [line.split("|")[1].strip() for line in lines if f"`{op.__name__}`" in line] == [row.group]
    assert sum(line.startswith(f"| `{op.__name__}` |") for line in reference().splitlines()) == 1


def check_timed(op: Op, row: Row) -> None:
    """Its entries are among the benchmarks', and run there with random and with fixed parameters."""
    from benchmarks.cases import timed
    from benchmarks.peers.v2 import Gpuaug

    names = [name for name, (kind, _) in timed().items() if kind is op]
    assert len(names) == (0 if isinstance(row.timed, str) else len(row.timed))
    peer = Gpuaug("gpuaug", 1, "cpu")
    images = peer.prepare(list(noise(2, height=256, width=256)), 2)
    for name in names:
        for fixed in (False, True) if timed()[name][1].fixed else (False,):
            results = peer.tensors(peer.run(peer.op(name, fixed), images))
            assert [len(image) for image in results] == [3, 3], name


def check_pixels(op: Op, row: Row) -> None:
    """Its pixels are distributed as torchvision's, and faults are noticed."""
    from benchmarks.evidence import distribution

    found = {name: faults for name, (_, faults) in distribution.cases().items() if name.split(",")[0] == op.__name__}
    assert len(found) == (0 if isinstance(row.pixels, str) else len(row.pixels))
    draws, more = distribution.DRAWS, distribution.MORE * distribution.DRAWS
    for name, faults in found.items():
        expected = distribution.theirs(name, draws)
        for fault in ({}, *faults):
            distances = distribution.compare(distribution.ours(name, more, fault), expected)
            assert (max(distances.values()) > distribution.bound(draws)) == bool(fault), fault
