"""The FILE.py:NAME or configuration that a command is about, and the file that `--apply` writes beside a script."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import typer

from gpuaug.cli.errors import writing

if TYPE_CHECKING:
    from gpuaug import Augment
    from gpuaug.profiler import Report

__all__ = ["LIST", "appliable", "configured", "is_configuration", "listed", "made", "named", "set_arguments", "tuned"]

CONFIGURATIONS = (".json", ".yaml", ".yml")  # endings of files that `gpuaug.from_file` reads
LIST = ("FILE.py:NAME, or a configuration (.json, .yaml or .yml)", "train.py:augment")  # what is expected, an example
HOW_TO_PASS = "Write arguments of the script behind --, as in gpuaug profile train.py:make_loader -- --batch-size 64."
LOADER = ("FILE.py:NAME", "train.py:make_loader")


def listed(target: str, what: str, command: str) -> Any:
    """The module of a configuration, or the object that FILE.py:NAME names; of a function, what it returns."""
    return configured(target, what, command) if is_configuration(target) else made(target, what, command, LIST)


def is_configuration(target: str) -> bool:
    """Whether this names a file that `gpuaug.from_file` reads."""
    return Path(target).suffix.lower() in CONFIGURATIONS


def configured(target: str, what: str, command: str) -> Augment:
    """The module of a configuration."""
    from gpuaug import from_file

    if not Path(target).is_file():
        raise ValueError(f"{command}: `{what}` must name a file, and there is no file {target}.")
    try:
        return from_file(target)
    except ImportError as error:
        raise ValueError(str(error)) from None


def named(target: str, what: str, command: str, form: tuple[str, str] = LOADER, *, modules: bool = False) -> Any:
    """The object that FILE.py:NAME names, or with `modules` also MODULE:NAME. `form`: what is expected, an example."""
    file, colon, name = target.rpartition(":")
    path = Path(file)
    is_module = modules and path.suffix != ".py" and all(part.isidentifier() for part in file.split("."))
    if not colon or not name.isidentifier() or (path.suffix != ".py" and not is_module):
        raise ValueError(f"{command}: `{what}` must be {form[0]}, got {target!r}. For example {form[1]}.")
    if not is_module and not path.is_file():
        raise ValueError(f"{command}: `{what}` must name a file, and there is no file {path}.")
    module = installed(file, command) if is_module else imported(path, command)
    if not hasattr(module, name):
        own = [name_ for name_, value in vars(module).items() if _is_own(module, name_, value)]
        raise ValueError(
            f"{command}: `{what}` must be a name in {path}, which does not have {name!r}. "
            f"It defines {', '.join(own) or 'no name'}."
        )
    return getattr(module, name)


def made(target: str, what: str, command: str = "profile", form: tuple[str, str] = LOADER) -> Any:
    """The object that FILE.py:NAME names; of a function, what it returns."""
    found = named(target, what, command, form)
    if not callable(found) or hasattr(found, "__iter__") or hasattr(found, "forward"):  # a loader, or a module
        return found
    try:
        return found()
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        file, _, name = target.rpartition(":")
        remedy = HOW_TO_PASS if isinstance(error, SystemExit) else ""
        raise ValueError(
            f"{command}: {name}() of {file} raised {type(error).__name__}: {error}. {remedy}".rstrip()
        ) from None


def _is_own(module: Any, name: str, value: Any) -> bool:
    """Whether a script made this, and did not import it."""
    if name.startswith("_") or isinstance(value, ModuleType):
        return False
    return not isinstance(value, (type, FunctionType)) or value.__module__ == module.__name__


def set_arguments(target: str, arguments: Sequence[str]) -> None:
    """Give a script its command line, which it may parse when it is imported or when its function is called.

    Args:
        target: FILE.py:NAME.
        arguments: Words behind `--`.
    """
    sys.argv = [target.rpartition(":")[0], *arguments]


def installed(name: str, command: str) -> Any:
    """A module by its name, installed or below the present folder, as `python -m` finds it."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if not (isinstance(error, ModuleNotFoundError) and error.name == name):
            traceback.print_exc()
        raise ValueError(f"{command}: {name} could not be imported: {type(error).__name__}: {error}.") from None


def imported(path: Path, command: str = "profile") -> Any:
    """A script as a module, under its own name, so that spawned workers can import it."""
    path = path.resolve()
    if sys.path[:1] != [str(path.parent)]:  # as `python FILE` does: the user's script may import files beside it
        sys.path.insert(0, str(path.parent))
    name = path.stem
    if name in sys.modules and Path(getattr(sys.modules[name], "__file__", "") or "").resolve() == path:
        return sys.modules[name]
    if name in sys.modules or not name.isidentifier():
        name = f"profiled_{re.sub(r'[^0-9a-zA-Z]', '_', name)}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        traceback.print_exc()
        remedy = HOW_TO_PASS if isinstance(error, SystemExit) else ""
        raise ValueError(
            f"{command}: {path} could not be imported: {type(error).__name__}: {error}. {remedy}".rstrip()
        ) from None
    return module


def tuned_file(target: str) -> Path:
    """The file that `--apply` writes, beside the script."""
    file = Path(target.rpartition(":")[0])
    return file.with_name(f"{file.stem}_tuned.py")


def appliable(loader: Any, target: str) -> None:
    """Raise if `tuned` could not write a module that works, before anything is measured."""
    from torch.utils.data import DataLoader

    file, _, name = target.rpartition(":")
    if not Path(file).stem.isidentifier():
        raise ValueError(
            f"profile: `--apply` imports the script, but {Path(file).stem!r} cannot be the name of a module. Rename it."
        )
    if not issubclass(type(loader), DataLoader):
        raise ValueError(f"profile: `--apply` needs {name} to give a DataLoader, got {type(loader).__name__}.")
    if getattr(imported(Path(file)), name) is loader:
        raise ValueError(
            f"profile: `--apply` needs a function that makes the loader, but {name} is a loader. Write a function."
        )
    if tuned_file(target).exists():
        raise ValueError(f"profile: `--apply` writes {tuned_file(target)}, which is there already. Move it away.")


@writing()
def tuned(report: Report, target: str) -> None:
    """Write a module beside the script whose loader applies the first recommendation; the script stays unchanged."""
    from gpuaug.profiler.judge.apply import tuned_source

    file, _, name = target.rpartition(":")
    path = tuned_file(target)
    for advice in report.advice:
        if advice.gain and advice.is_code and advice.id != "pack-data":  # which needs a command first
            path.write_text(tuned_source(Path(file).stem, name, advice.id, advice.how), encoding="utf-8")
            typer.echo(f"Wrote {path}: import its {name}(), which has {advice.id}.")
            return
    typer.echo(f"{path} was not written, as no recommendation can be applied automatically.")
