"""The arguments of an Augment beside its lists: what they may be, and how `repr` writes them."""

from __future__ import annotations

from typing import Any

import torch

from gpuaug import checks
from gpuaug.engine.pipeline import Pipeline
from gpuaug.engine.render import NAMES
from gpuaug.engine.scenes import checked_same
from gpuaug.engine.targets import Following, following_of

__all__ = ["checked", "written"]

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
    arguments = [f"train={_listing(train.root)}"]
    if evaluation:
        arguments.append(f"eval={_listing(eval.root)}")
    if seed:
        arguments.append(f"seed={augment.seed}")
    for name, default in DEFAULTS.items():
        if getattr(augment, name) != default:
            arguments.append(f"{name}={getattr(augment, name)!r}")
    replaced = [f"train={_listing(train)}"] if train is not train.root else []
    if eval is not eval.root and not augment.derives_eval:
        replaced.append(f"eval={_listing(eval)}")
    return f"Augment({_lines(arguments)})" + (f".replace({_lines(replaced)})" if replaced else "")


def _lines(arguments: list[str]) -> str:
    return "\n" + "".join(f"    {argument},\n" for argument in arguments)


def _listing(pipeline: Pipeline) -> str:
    return "[\n" + "".join(f"        {step!r},\n" for step in pipeline.steps) + "    ]"
