"""A module from plain data, as JSON, YAML and Hydra have it; each error names the place in the configuration."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any

import torch

import gpuaug
from gpuaug import checks
from gpuaug.augment import Augment
from gpuaug.engine.config import TARGET
from gpuaug.recipes.classification import cifar, deit3, large_scale, small_data, standard, torchvision_reference
from gpuaug.recipes.domains import digits, documents, medical, products, satellite
from gpuaug.recipes.views import byol, dino, simclr
from gpuaug.transforms.base import Transform

__all__ = ["NAMES", "from_dict", "from_file"]

# all recipes, by name, in the order of the docs
NAMES = {
    function.__name__: function
    for function in (
        small_data, standard, large_scale, cifar, deit3, torchvision_reference, simclr, byol, dino, documents, medical,
        satellite, products, digits,
    )
}  # fmt: skip
RECIPES = "gpuaug.recipes."
VIEWS = (simclr, byol, dino)
MEMORY_FORMATS = {"channels_last": torch.channels_last, "contiguous_format": torch.contiguous_format}
DTYPES = ("float32", "float16", "bfloat16", "uint8", "float64")  # the last one for the error of ToDtype
FORMS = '"Name", {"Name": {arguments}} or {"_target_": "gpuaug.Name", arguments}'
OWN_ERROR = re.compile(r"^[\w.]+: `(\w+)` (?=must be )")  # the beginning of errors of transforms and recipes


def from_dict(config: Mapping[str, object]) -> Augment:
    """A module from a configuration: what `Augment.to_dict` returns, or written by hand, or read by Hydra.

    Keys are the arguments of `Augment`. `train` and `eval` are lists of steps, of which each is "Name",
    {"Name": {arguments}}, or {"_target_": "gpuaug.Name", arguments} as Hydra writes it; or they are a recipe,
    {"recipe": "standard", "size": 224, ...}, which may also be one of the steps. A recipe with a list for each view
    takes "view", the number of the view. Dtypes and memory formats are strings, such as "float32" and "channels_last".

    Args:
        config: Mapping of strings, numbers, lists and mappings; OmegaConf's too.

    Returns:
        The module.

    Raises:
        ValueError: If a key is unknown or a value wrong; it names the place, such as `train[2].scale`.
    """
    try:
        return _module(_mapping(config, "config"))
    except RecursionError:
        expected = "nested less deeply than Python can follow"
        raise _error("config", expected, "lists inside one another, or one inside itself") from None


def _module(arguments: dict[str, Any]) -> Augment:
    target = arguments.pop(TARGET, "gpuaug.Augment")
    if target not in ("gpuaug.Augment", "gpuaug.augment.Augment"):
        raise _error(TARGET, '"gpuaug.Augment"', repr(target))
    replaced = arguments.pop("replace", None)
    _known(arguments, [*list(inspect.signature(Augment).parameters), "replace"], "", "Augment")
    if "train" not in arguments:
        raise _error("train", "given", "no such key")
    for name in ("train", "eval"):
        if arguments.get(name) is not None:
            arguments[name] = _list(arguments[name], name)
    if "memory_format" in arguments:
        word = str(arguments["memory_format"]).removeprefix("torch.")
        if word not in MEMORY_FORMATS:
            raise _error("memory_format", "one of " + ", ".join(map(repr, MEMORY_FORMATS)), repr(word))
        arguments["memory_format"] = MEMORY_FORMATS[word]
    augment = _called(Augment, _values(Augment, arguments, ""), "")
    if replaced is not None:
        lists = _mapping(replaced, "replace")
        _known(lists, ["train", "eval"], "replace", "replace")
        _called(augment.replace, {name: _list(steps, f"replace.{name}") for name, steps in lists.items()}, "replace.")
    return augment


def from_file(path: str | PathLike[str]) -> Augment:
    """A module from a file with a configuration; see `from_dict`.

    Args:
        path: Path of a file that ends in .json, .yaml or .yml. YAML needs PyYAML.

    Raises:
        ValueError: If the file has another ending, cannot be parsed, has a key twice in one mapping, or holds no
            configuration.
        OSError: If it cannot be read; FileNotFoundError if there is none.
        ImportError: If PyYAML is missing.
    """
    return from_dict(read(checks.path("from_file", "path", path)))


def read(path: Path) -> Any:
    """What a file of JSON or YAML holds."""
    ending = path.suffix.lower()
    if ending not in (".json", ".yaml", ".yml"):
        raise checks.argument_error("from_file", "path", "a .json, .yaml or .yml file", str(path))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        got = f"{path} ({error.strerror})"
        raise type(error)(str(checks.argument_error("from_file", "path", "a file that can be read", got))) from None
    except UnicodeDecodeError as error:
        got = f"{path}, whose byte {error.start} is {error.object[error.start]:#x}"
        raise checks.argument_error("from_file", "path", "a file of UTF-8", got, "Save it as UTF-8.") from None
    kind, parse = ("JSON", _json) if ending == ".json" else ("YAML", _yaml)
    try:
        return parse(text)
    except RecursionError:
        raise checks.argument_error("from_file", "path", f"a file of {kind}", f"{path}, which is too deep") from None
    except ValueError as error:
        got = f"{path}, where {' '.join(str(error).split())}"
        raise checks.argument_error("from_file", "path", f"a file of {kind}", got) from None


def _json(text: str) -> Any:
    """What a text of JSON holds; a key that stands twice in a mapping, of which json drops one, is an error."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
        return found

    return json.loads(text, object_pairs_hook=unique)


def _yaml(text: str) -> Any:
    """The same for YAML."""
    try:
        import yaml
    except ImportError:
        raise ImportError("from_file: YAML needs PyYAML. Run pip install pyyaml, or use JSON.") from None

    class Unique(yaml.SafeLoader):  # type: ignore[misc]
        def compose_mapping_node(self, anchor: Any) -> Any:
            node, seen = super().compose_mapping_node(anchor), set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in seen:
                    raise ValueError(f"the key {key.value!r} stands twice, in line {key.start_mark.line + 1}")
                seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
            return node

    try:
        return yaml.load(text, Unique)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _error(path: str, expected: str, got: str, remedy: str = "") -> ValueError:
    return checks.argument_error("from_dict", path, expected, got, remedy)


def _mapping(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _error(path, "a mapping with names as keys", checks.describe(value))
    return dict(value)


def _known(arguments: Mapping[str, Any], names: Sequence[str], path: str, owner: str) -> None:
    """Raise for a key that is no argument, with its path."""
    for key in arguments:
        if key not in names:
            near = get_close_matches(key, names, 1)
            place = f"{path}.{key}" if path else key
            expected = f"an argument of {owner}: {', '.join(names) or 'it has none'}"
            raise _error(place, expected, "an unknown key", f"Did you mean `{near[0]}`?" if near else "")


def _list(value: Any, path: str) -> list[Transform]:
    """A list of steps, or a recipe."""
    if _is_recipe(value):
        return _recipe(dict(value), path)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise _error(path, 'a list of steps, or {"recipe": ..., "size": ...}', checks.describe(value))
    steps: list[Transform] = []
    for number, entry in enumerate(value):
        place = f"{path}[{number}]"
        steps += _list(entry, place) if _is_list(entry) else [_step(entry, place)]
    return steps


def _is_recipe(entry: Any) -> bool:
    return isinstance(entry, Mapping) and ("recipe" in entry or str(entry.get(TARGET)).startswith(RECIPES))


def _is_list(entry: Any) -> bool:
    return _is_recipe(entry) or (isinstance(entry, Sequence) and not isinstance(entry, str))


def _recipe(arguments: dict[str, Any], path: str) -> list[Transform]:
    key = "recipe" if "recipe" in arguments else TARGET
    name = str(arguments.pop(key)).removeprefix(RECIPES)
    if name not in NAMES:
        near = get_close_matches(str(name), NAMES, 1)
        remedy = f"Did you mean `{near[0]}`?" if near else ""
        raise _error(f"{path}.{key}", "one of " + ", ".join(NAMES), repr(name), remedy)
    function: Any = NAMES[name]
    views, view = function in VIEWS, arguments.pop("view", None)
    if view is not None and not views:
        raise _error(f"{path}.view", f"left out, since {name} has one list", repr(view))
    found = _built(function, name, arguments, path)
    if not views:
        return list(found)
    if not checks.is_integer(view) or not 0 <= view < len(found):
        raise _error(
            f"{path}.view", f"a number in [0, {len(found) - 1}], since {name} has a list for each view", repr(view)
        )
    return list(found[view])


def _step(entry: Any, path: str) -> Transform:
    """A step in any of its forms."""
    if isinstance(entry, str):
        name, arguments = entry, {}
    elif isinstance(entry, Mapping) and TARGET in entry:
        arguments = _mapping(entry, path)
        name = arguments.pop(TARGET)
        if not isinstance(name, str) or not name.startswith("gpuaug."):
            remedy = "Put other classes in by `replace` after it."
            raise _error(f"{path}.{TARGET}", "a name such as gpuaug.RandomResizedCrop", repr(name), remedy)
        name = name.rpartition(".")[2]
    elif isinstance(entry, Mapping) and len(entry) == 1:
        name, inner = next(iter(entry.items()))
        arguments = {} if inner is None else _mapping(inner, f"{path}.{name}")
    else:
        raise _error(path, f"a step: {FORMS}", checks.describe(entry))
    kind = getattr(gpuaug, name, None) if name in gpuaug.__all__ else None
    if not isinstance(kind, type) or not issubclass(kind, Transform):
        known = [op.__name__ for op in gpuaug.OPS]
        near = get_close_matches(str(name), known, 1)
        raise _error(path, "the name of a transform of gpuaug", repr(name), f"Did you mean {near[0]}?" if near else "")
    found: Transform = _built(kind, name, arguments, path)
    return found


def _built(function: Any, name: str, arguments: dict[str, Any], path: str) -> Any:
    parameters = inspect.signature(function).parameters
    _known(arguments, list(parameters), path, name)
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in arguments:
            raise _error(f"{path}.{key}", f"given, since {name} has no default for it", "no such key")
    if "transforms" in arguments:
        arguments["transforms"] = _children(arguments["transforms"], f"{path}.transforms")
    return _called(function, _values(function, arguments, f"{path}."), f"{path}.")


def _children(value: Any, path: str) -> list[Any]:
    """The transforms of a container; a list among them stays one."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise _error(path, "a list of steps", checks.describe(value))
    return [
        _list(entry, f"{path}[{number}]") if _is_list(entry) else _step(entry, f"{path}[{number}]")
        for number, entry in enumerate(value)
    ]


def _values(function: Any, arguments: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The arguments as a constructor or a recipe takes them.

    Raises:
        ValueError: If a word stands for true or false: Python takes every word, also "false", as true.
    """
    parameters = inspect.signature(function).parameters
    for name, value in arguments.items():
        parameter = parameters[name]
        if value is None and "None" in str(parameter.annotation):
            continue
        if isinstance(parameter.default, bool) and not (isinstance(value, bool) or value in (0, 1)):
            raise _error(f"{path}{name}", "true or false", checks.describe(value))
    return {name: _value(name, value) for name, value in arguments.items()}


def _value(name: str, value: Any) -> Any:
    """A value as the constructor takes it: dtypes, and OmegaConf's lists as lists."""
    if name == "dtype" and isinstance(value, str) and value.removeprefix("torch.") in DTYPES:
        return getattr(torch, value.removeprefix("torch."))
    if isinstance(value, Sequence) and not isinstance(value, (str, list, tuple)):
        return list(value)
    return value


def _called(function: Any, arguments: dict[str, Any], path: str) -> Any:
    """Call a constructor or a recipe; its errors name the place instead of the class."""
    try:
        return function(**arguments)
    except (TypeError, ValueError) as error:
        text = str(error)
        found = OWN_ERROR.match(text)
        if found is not None:
            raise ValueError(f"from_dict: `{path}{found[1]}` {text[found.end() :]}") from None
        raise ValueError(f"from_dict: `{path.rstrip('.') or 'train'}` cannot be made: {text}") from error
