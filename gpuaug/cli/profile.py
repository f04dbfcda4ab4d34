"""`gpuaug profile`, `whatif`, `compare` and `doctor`."""

# no `from __future__ import annotations`: typer reads the annotations

import contextlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["add"]

FAILED = 3  # what the process ends with when a threshold is passed
OURS = re.compile(r"(profile|whatif|compare|doctor|replay): ")  # how what we say ourselves begins
SHARES = ("exposed", "overhead")  # of the metrics
METRICS = {
    "exposed": "share of a step that waits for data",
    "images_per_second": "measured",
    "step_ms": "measured time of a batch",
    "ceiling": "times as fast without any data work",
    "overhead": "share of time that the clocks cost",
}


def add(commands: typer.Typer) -> None:
    """Add the profiler's commands."""
    for function in (profile, whatif, compare, doctor):
        commands.command()(function)


def profile(
    target: Annotated[
        str, typer.Argument(metavar="FILE.py:NAME", help="A function that returns a DataLoader, or the loader.")
    ],
    model: Annotated[
        str | None, typer.Option(help="FILE.py:NAME of a function that returns the training step.")
    ] = None,
    budget: Annotated[str, typer.Option(help="Seconds for all of it, such as 60s or 2m.")] = "60s",
    json: Annotated[Path | None, typer.Option(help="Write the report, whole.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write one page that needs no network.")] = None,
    trace: Annotated[
        Path | None, typer.Option(help="Write a timeline for ui.perfetto.dev (.json or .json.gz).")
    ] = None,
    png: Annotated[Path | None, typer.Option(help="Write a picture.")] = None,
    cold: Annotated[bool, typer.Option("--cold", help="Also with files out of the page cache.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Write FILE_tuned.py with the first advice done.")] = False,
    receipt: Annotated[
        bool, typer.Option("--receipt/--no-receipt", help="Try the first advice and measure it.")
    ] = True,
    fail_if: Annotated[
        list[str] | None, typer.Option(help='Leave with 3, e.g. "exposed>20%". May be repeated.')
    ] = None,
    ignore: Annotated[list[str] | None, typer.Option(help="An advice's id to leave away. May be repeated.")] = None,
    device: Annotated[str | None, typer.Option(help="Where augmentation could move: cpu or cuda.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the verdict alone.")] = False,
) -> None:
    """Where a training job loses time, what changing it would gain, and the proof."""
    with errors():
        from gpuaug.profiler.session import measure

        thresholds = [threshold(text) for text in fail_if or ()]
        seconds = duration(budget)
        for path in (json, html, trace, png):
            if path is not None:
                writable(path)
        needed(html=html, png=png)
        for option, path, suffixes in (("png", png, (".png",)), ("trace", trace, (".json", ".gz"))):
            if path is not None and path.suffix not in suffixes:
                raise ValueError(f"profile: `--{option}` must name a {' or '.join(suffixes)} file, got {path}.")
        usable(device)
        loader = made(target, "target")
        if apply:
            appliable(loader, target)
        step = made(model, "--model") if model else None
        if model and not callable(step):
            raise ValueError(f"profile: `--model` must give a step that takes a batch, got {type(step).__name__}.")
        with progress(quiet) as say:
            found = measure(
                loader, step, budget=seconds, cold=cold, proof=receipt, ignore=ignore or (), device=device, report=say
            )
        write(found, json, html, trace, png)
        show(found, quiet)
        if apply:
            tuned(found, target)
        failed = [text for text, passes in ((t, holds(found, t)) for t in thresholds) if passes]
    for name, sign, value in failed:
        typer.echo(
            f"{name} is {metric(found, name):.4g}, which is {'above' if sign == '>' else 'below'} {value:g}.", err=True
        )
    if failed:
        raise typer.Exit(FAILED)


def whatif(
    report: Annotated[Path, typer.Argument(help="JSON of gpuaug profile.")],
    augment: Annotated[
        str | None, typer.Option(help="device, or a number that multiplies the time, such as 0.5.")
    ] = None,
    device_ms: Annotated[
        float | None, typer.Option(help="Of a batch's augmentation there; else what was probed.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Of the loader.")] = None,
    prefetch: Annotated[int | None, typer.Option(help="Batches ahead of each worker.")] = None,
    pin_memory: Annotated[bool | None, typer.Option(help="Through the pinning thread.")] = None,
    in_order: Annotated[bool | None, typer.Option(help="Batches in the sampler's order.")] = None,
    scale: Annotated[list[str] | None, typer.Option(help="STAGE=FACTOR, such as decode=0.5. May be repeated.")] = None,
) -> None:
    """What a report's job would gain with other settings: a replay, nothing runs."""
    with errors():
        from gpuaug.profiler.report import load
        from gpuaug.profiler.show.words import doubts

        found = load(report)
        scaled = [pair(text) for text in scale or ()]
        if len({name for name, _ in scaled}) < len(scaled):
            raise ValueError("whatif: `--scale` must name each stage once. Multiply the factors.")
        if device_ms is not None and augment != "device":
            raise ValueError("whatif: `--device-ms` is of `--augment device`, which was not given. Add it.")
        gain = found.whatif(
            augment=number(augment) if augment not in (None, "device") else augment,
            device_seconds=None if device_ms is None else device_ms / 1e3,
            workers=workers,
            prefetch=prefetch,
            pin_memory=pin_memory,
            in_order=in_order,
            scale=dict(scaled),
        )
        rate = found.images_per_second
        typer.echo(
            f"{gain}: {rate:,.0f} -> {rate * gain.times:,.0f} samples/s, "
            f"{found.pace * 1e3:.1f} -> {found.pace * 1e3 / gain.times:.1f} ms a batch"
        )
        if doubt := doubts(found):
            typer.echo(f"UNRELIABLE: {doubt}.")


def compare(
    before: Annotated[Path, typer.Argument(help="JSON of gpuaug profile.")],
    after: Annotated[Path, typer.Argument(help="Another one.")],
    tolerance: Annotated[str, typer.Option(help="Slower by more than this is a regression.")] = "5%",
) -> None:
    """Two reports side by side; leaves with 3 if the second is slower."""
    with errors():
        from gpuaug.profiler.report import load
        from gpuaug.profiler.show.terminal import compared

        slower, text = compared(load(before), load(after), fraction(tolerance))
        typer.echo(text)
    if slower:
        raise typer.Exit(FAILED)


def doctor() -> None:
    """Versions, cores, memory, decode rate per core, copies, and the backends that work here."""
    with errors():
        from gpuaug.profiler.doctor import examine
        from gpuaug.profiler.show.terminal import examined

        typer.echo(examined(examine()))


# ---- arguments -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def errors() -> Iterator[None]:
    """What the user can act on is said without a traceback."""
    try:
        yield
    except typer.Exit:
        raise
    except Exception as error:
        ours = OURS.match(str(error))
        if not ours:  # of the data set, a transform, or the step
            traceback.print_exc()
        said = str(error) if ours else f"profile: the loader or the step raised {type(error).__name__}, see above."
        typer.echo(" ".join(said.split()), err=True)
        raise typer.Exit(1) from None


def made(target: str, what: str) -> Any:
    """What FILE.py:NAME stands for; a function is called."""
    file, colon, name = target.rpartition(":")
    path = Path(file)
    if not colon or not name.isidentifier() or path.suffix != ".py":
        raise ValueError(f"profile: `{what}` must be FILE.py:NAME, got {target!r}. For example train.py:make_loader.")
    if not path.is_file():
        raise ValueError(f"profile: `{what}` must name a file, and {path} is none.")
    module = imported(path)
    if not hasattr(module, name):
        public = [n for n in vars(module) if not n.startswith("_")]
        raise ValueError(
            f"profile: `{what}` names {name!r}, which {path} does not have. It has {', '.join(public) or 'nothing'}."
        )
    found = getattr(module, name)
    if not callable(found) or hasattr(found, "__iter__"):
        return found
    try:
        return found()
    except Exception as error:
        traceback.print_exc()
        raise ValueError(f"profile: {name}() of {path} raised {type(error).__name__}: {error}.") from None


def imported(path: Path) -> Any:
    """A script as a module, under its own name, so that spawned workers find it too."""
    path = path.resolve()
    if str(path.parent) not in sys.path:
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
        raise ValueError(f"profile: {path} could not be imported: {type(error).__name__}: {error}.") from None
    return module


def duration(text: str) -> float:
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(s|m|min)?\s*", text)
    if match is None:
        raise ValueError(f"profile: `--budget` must be a time such as 60s or 2m, got {text!r}.")
    return float(match[1]) * (60 if match[2] in ("m", "min") else 1)


def fraction(text: str) -> float:
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(%?)\s*", text)
    if match is None:
        raise ValueError(f"profile: a share must be like 5% or 0.05, got {text!r}.")
    return float(match[1]) / (100 if match[2] else 1)


def number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise ValueError(f"whatif: `--augment` must be device or a number, got {text!r}.") from None


def pair(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        if not equals:
            raise ValueError
        return name.strip(), float(value)
    except ValueError:
        raise ValueError(f"whatif: `--scale` must be STAGE=FACTOR, got {text!r}.") from None


def threshold(text: str) -> tuple[str, str, float]:
    """exposed>20% as (name, sign, value)."""
    match = re.fullmatch(r"\s*(\w+)\s*([<>])\s*([0-9]+(?:\.[0-9]+)?%?)\s*", text)
    if match is None or match[1] not in METRICS:
        raise ValueError(
            f"profile: `--fail-if` must be NAME>VALUE or NAME<VALUE with {', '.join(METRICS)}, got {text!r}."
        )
    value = fraction(match[3])
    if match[1] in SHARES and value > 1:
        raise ValueError(f"profile: `--fail-if` takes {match[1]} as a share, such as {match[1]}>20%, got {text!r}.")
    return match[1], match[2], value


def metric(report: Any, name: str) -> float:
    values = {
        "exposed": report.exposed,
        "images_per_second": report.images_per_second,
        "step_ms": report.pace * 1e3,
        "ceiling": report.verdict.ceiling.times,
        "overhead": report.overhead or 0.0,
    }
    return float(values[name])


def holds(report: Any, rule: tuple[str, str, float]) -> bool:
    found = metric(report, rule[0])
    return found > rule[2] if rule[1] == ">" else found < rule[2]


# ---- results ---------------------------------------------------------------------------------------------------------


def writable(path: Path) -> None:
    """Said before anything is measured."""
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise ValueError(f"profile: a file must lie in a folder that exists, got {path}.")


def needed(**outputs: Path | None) -> None:
    """That what writes a form of the report is installed."""
    for name, module in (("html", "jinja2"), ("png", "matplotlib")):
        if outputs[name] is not None and importlib.util.find_spec(module) is None:
            raise ValueError(f'profile: --{name} needs {module}. Run pip install "gpuaug[profile]".')


def usable(device: str | None) -> None:
    """That there is such a device here."""
    import torch

    try:
        if device is not None:
            torch.empty(1, device=device)
    except Exception as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"profile: `--device` must be one that works here, got {device!r}: {first}") from None


@contextlib.contextmanager
def progress(quiet: bool) -> Iterator[Any]:
    """The pass under way, on stderr."""
    from rich.console import Console

    console = Console(stderr=True)  # lines, no spinner: its thread would be measured too
    yield lambda what: None if quiet else console.print(f"{what} ...", style="dim", highlight=False)


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """What the system says, as ours."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"profile: {error.filename} cannot be written: {error.strerror}.") from None


@writing()
def write(report: Any, json: Path | None, html: Path | None, trace: Path | None, png: Path | None) -> None:
    if json is not None:
        report.save(json)
    if html is not None:
        from gpuaug.profiler.show.html import to_html

        html.write_text(to_html(report), encoding="utf-8")
    if trace is not None:
        from gpuaug.profiler.show.timeline import save

        save(report, trace)
    if png is not None:
        from gpuaug.profiler.show.png import save_png

        save_png(report, png)


def show(report: Any, quiet: bool) -> None:
    from rich.console import Console

    from gpuaug.profiler.show.terminal import to_rich

    if quiet:
        from gpuaug.profiler.show.words import doubts

        typer.echo(report.verdict.text + (f" UNRELIABLE: {doubt}." if (doubt := doubts(report)) else ""))
    else:
        Console().print(to_rich(report))


def tuned_file(target: str) -> Path:
    """Beside the script."""
    file = Path(target.rpartition(":")[0])
    return file.with_name(f"{file.stem}_tuned.py")


def appliable(loader: Any, target: str) -> None:
    """Said before anything is measured: whether `tuned` could write a module that works."""
    from torch.utils.data import DataLoader

    file, _, name = target.rpartition(":")
    if not Path(file).stem.isidentifier():
        raise ValueError(
            f"profile: `--apply` imports the script, and {Path(file).stem!r} is no module's name. Rename it."
        )
    if not isinstance(loader, DataLoader):
        raise ValueError(f"profile: `--apply` needs {name} to give a DataLoader, got {type(loader).__name__}.")
    if getattr(imported(Path(file)), name) is loader:
        raise ValueError(f"profile: `--apply` needs a function that makes the loader, and {name} is one itself.")
    if tuned_file(target).exists():
        raise ValueError(f"profile: `--apply` writes {tuned_file(target)}, which is there already. Move it away.")


@writing()
def tuned(report: Any, target: str) -> None:
    """A module beside the script whose loader has the first advice applied; the script itself is left alone."""
    from gpuaug.profiler.judge.apply import tuned_source

    first = next((one for one in report.advice if one.gain and one.settings), None)
    if first is None:
        typer.echo("Nothing to apply.")
        return
    file, _, name = target.rpartition(":")
    path = tuned_file(target)
    path.write_text(tuned_source(Path(file).stem, name, first.id, first.settings), encoding="utf-8")
    typer.echo(f"{path}: {name}() with {first.id}. Import it instead.")
