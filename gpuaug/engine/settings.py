"""The arguments of an Augment beside its lists: what they may be, and how `repr` writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from gpuaug import checks
from gpuaug.engine.render import NAMES
from gpuaug.engine.scenes import checked_same
from gpuaug.engine.targets import Following, following_of

__all__ = ["DEFAULTS", "checked", "listing", "written", "written_call"]

MEMORY_FORMATS = (torch.contiguous_format, torch.channels_last)
DEFAULTS = {"backend": "auto", "memory_format": MEMORY_FORMATS[0], "exact": False, **Following()._asdict(), "same": ()}


def checked(owner: object, name: str, value: Any) -> Any:
    """An attribute that is set, also later than in the constructor.

    Raises:
        ValueError: If it is an argument, and out of range.
    """
    if name == "backend":
        checks.one_of(owner, name, value, NAMES)
    elif name == "memory_format" and value not in MEMORY_FORMATS:
        raise checks.argument_error(owner, name, " or ".join(map(str, MEMORY_FORMATS)), value)
    elif name == "same":
        return checked_same(owner, value)
    elif name in Following._fields:
        return getattr(following_of(owner, **{name: value}), name)
    return value


def written(augment: Any, evaluation: bool, seed: bool) -> str:
    """The call that makes an Augment like this one, with its list for evaluation if `evaluation`, and with its seed;
    and a call of `replace` if its lists were replaced, since draws depend on the first ones too."""
    train, eval = augment.train_pipeline, augment.eval_pipeline
    lists = {"train": listing(train.root.steps)} | ({"eval": listing(eval.root.steps)} if evaluation else {})
    text = written_call("Augment", lists, augment, seed)
    replaced = {"train": listing(train.steps)} if train is not train.root else {}
    if eval is not eval.root and not augment.derives_eval:
        replaced["eval"] = listing(eval.steps)
    return text + (f".replace({_lines(replaced)})" if replaced else "")


def written_call(name: str, lists: Mapping[str, str], module: Any, seed: bool) -> str:
    """The call of a class with these lists, with the arguments of a module that are not the default."""
    arguments = {**lists, **({"seed": str(module.seed)} if seed else {})}
    for argument, default in DEFAULTS.items():
        if getattr(module, argument) != default:
            arguments[argument] = repr(getattr(module, argument))
    return f"{name}({_lines(arguments)})"


def _lines(arguments: Mapping[str, str]) -> str:
    return "\n" + "".join(f"    {name}={text},\n" for name, text in arguments.items())


def listing(items: Iterable[object], depth: int = 1) -> str:
    """A list with a line for each of its items, at a depth of 4 spaces; an item that is text is written as it is."""
    indent = "    " * depth
    lines = (f"{indent}    {item if isinstance(item, str) else repr(item)},\n" for item in items)
    text = "".join(lines)
    return f"[\n{text}{indent}]" if text else "[]"
