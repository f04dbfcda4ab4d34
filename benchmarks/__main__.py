"""Is gpuaug faster, on this machine? python -m benchmarks [REGIME ...] [--quick | --full]

With --device cuda and no REGIME: benchmarks.gpu, everything about one GPU.
"""

# no `from __future__ import annotations`: typer reads the annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from .suite import PLANS, REGIMES, SCHEMA, run

__all__ = ["command", "main"]

CHECKED = 2000  # files of the data that are decoded before anything is measured


def command(
    regimes: Annotated[list[str] | None, typer.Argument(help=f"{', '.join(REGIMES)}; default: all.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Takes two minutes; rough figures (the default).")] = False,
    full: Annotated[bool, typer.Option("--full", help="Takes twenty minutes.")] = False,
    data: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="ImageFolder; default: the packaged photographs."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda for the libraries that support it.")] = "cpu",
    json_file: Annotated[Path | None, typer.Option("--json", help="JSON file for all measurements.")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="CSV file with a line for each figure.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Folder for PNG charts.")] = None,
    show_file: Annotated[
        Path | None,
        typer.Option("--show", exists=True, dir_okay=False, help="File of --json to show, without measuring."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="--device cuda: folder for all results of the GPU.")] = None,
    budget: Annotated[float | None, typer.Option(help="--device cuda: time for everything in seconds (480).")] = None,
    only: Annotated[str | None, typer.Option(help="--device cuda: parts to run, such as speed,training.")] = None,
    jpegs: Annotated[Path | None, typer.Option(help="--device cuda: folder of photographs for training.")] = None,
    wheels: Annotated[Path | None, typer.Option(help="--device cuda: folder of wheels for the parts.")] = None,
    dry: Annotated[bool, typer.Option("--dry", help="--device cuda: rehearse without a GPU.")] = False,
) -> None:
    """Compare gpuaug with torchvision, AlbumentationsX, Kornia, DALI and others on this machine.

    ops: each op alone. recipes: from decoded images to normalised floats.
    targets: with masks, boxes and key points. views: several views of each
    image. loaders: from JPEG files to batches. training: the steps of a real
    network. scaling: batch, size, threads, N, passes. turns: batches of
    several sizes in turn. audit: the work that a GPU would do, counted and
    calculated without one. With
    --device cuda, --out DIR and no regime: all tests and measurements of one
    GPU in --budget seconds.
    """
    console = Console()
    gpu = {"--out": out, "--budget": budget, "--only": only, "--jpegs": jpegs, "--wheels": wheels}
    if device == "cuda" and not regimes and show_file is None:
        others = {"--json": json_file, "--csv": csv_file, "--plot": plot, "--data": data}
        others |= {"--quick": quick, "--full": full}
        raise typer.Exit(_gpu({**gpu, "--dry": dry}, others))
    try:
        _refuse({**gpu, "--dry": dry}, "without --device cuda, or with a regime")
        for path in (json_file, csv_file):  # before minutes are spent
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                new = not path.exists()
                path.open("a").close()
                if new:
                    path.unlink()
        if plot is not None:
            plot.mkdir(parents=True, exist_ok=True)
        found = _stored(show_file) if show_file else _measure(regimes or [], quick, full, data, device)
        if not found["regimes"]:
            raise ValueError(
                f"benchmarks: no part could be run: {'; '.join(found['failed'].values()) or 'none was asked'}."
            )
        if json_file is not None:
            part = json_file.with_name(json_file.name + ".part")
            part.write_text(json.dumps(found, indent=1) + "\n")
            part.replace(json_file)
        _show(console, found)
        if csv_file is not None:
            from .report.tables import write_csv

            write_csv(csv_file, found)
        if plot is not None:
            from .report.plots import draw

            for path in draw(found, plot):
                console.print(f"Wrote {path}")
        if found["failed"] and not show_file:
            raise typer.Exit(1)
    except KeyboardInterrupt:
        typer.echo("Stopped; nothing was written.", err=True)
        raise typer.Exit(130) from None
    except (ValueError, OSError) as error:
        typer.echo(" ".join(str(error).split()), err=True)
        raise typer.Exit(1) from None


def _gpu(given: dict[str, Any], others: dict[str, Any]) -> int:
    """Everything about one GPU; the exit status."""
    from .gpu.__main__ import main as everything

    try:
        _refuse(others, "with --device cuda and no regime")
        if given["--out"] is None:
            raise ValueError("benchmarks: --device cuda needs --out, the folder for the results.")
    except ValueError as error:
        typer.echo(str(error), err=True)
        return 2
    words = [
        word for name, value in given.items() if value for word in ([name] if value is True else [name, str(value)])
    ]
    return everything(words)


def _refuse(given: dict[str, Any], where: str) -> None:
    """Raise an error for an option that would have no effect."""
    wrong = [name for name, value in given.items() if value]
    if wrong:
        raise ValueError(f"benchmarks: {wrong[0]} has no effect {where}. Leave it out.")


def _stored(file: Path) -> dict[str, Any]:
    """A run that --json wrote."""
    try:
        found = json.loads(file.read_text())
        if found["schema"] != SCHEMA or not {"machine", "versions", "regimes", "pace", "created"} <= set(found):
            raise KeyError("schema")
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"benchmarks: --show takes a file that --json of this version has written, got {file}. Run it again."
        ) from None
    return dict(found)


def _measure(regimes: list[str], quick: bool, full: bool, data: Path | None, device: str) -> dict[str, Any]:
    unknown = [name for name in regimes if name not in REGIMES]
    if unknown:
        raise ValueError(f"benchmarks: a regime must be one of {', '.join(REGIMES)}, got {unknown[0]}.")
    if quick and full:
        raise ValueError("benchmarks: --quick and --full cannot be combined. Leave one out.")
    if device not in ("cpu", "cuda"):
        raise ValueError(f"benchmarks: `device` must be cpu or cuda, got {device}.")
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ValueError("benchmarks: --device cuda needs a CUDA device, torch sees none. Leave it out.")
    if data is not None:
        _check(data)
    plan = "full" if full else "quick"
    parts = [part for part in PLANS[plan] if not regimes or part.regime in regimes]
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as folder, _bar(console) as progress:
        task = progress.add_task("", total=len(parts))
        seen: list[str] = []

        def report(part: str, at: str) -> None:
            if part not in seen:
                seen.append(part)
            progress.update(task, completed=len(seen) - 1, description=f"{part}: {at}"[:48])

        found = run(parts, data or _shipped(Path(folder)), device, plan, report)
        progress.update(task, completed=len(parts), description="done")
    found["data"] = "the packaged photographs" if data is None else f"{data.name}"
    return found


def _check(data: Path) -> None:
    """Report a damaged file before minutes are spent."""
    from gpuaug.data.decode import decode_file

    from .cases import files

    for path in files(data)[:CHECKED]:
        try:
            decode_file(path)
        except ValueError as error:
            raise ValueError(f"benchmarks: `data` must hold whole images. {error} Move it away.") from None


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<48}"), BarColumn(bar_width=None), TimeElapsedColumn(), console=console
    )


def _shipped(folder: Path) -> Path:
    """The packaged photographs as an ImageFolder of one class."""
    from gpuaug.demo.photographs import paths

    (folder / "photographs").mkdir()
    for path in paths():
        os.symlink(path, folder / "photographs" / path.name)
    return folder


def _show(console: Console, found: dict[str, Any]) -> None:
    from .machine import lines
    from .report.tables import drift, losses, show, unmatched

    for line in lines(found):
        console.print(line, style="dim", highlight=False)
    console.print(
        f"{found['created']}, --{found['plan']}, {found['data']}, {found['wall_s'] / 60:.1f} minutes\n", style="dim"
    )
    show(console, found)
    if "audit" in found["regimes"]:
        from .report.audit import show as show_audit

        console.print()
        show_audit(console, found["regimes"]["audit"])
    moved = drift(found)
    if moved:
        console.print(moved, style="bold yellow")
    without = unmatched(found)
    if without:
        console.print(f"\ngpuaug did not run in {'; '.join(without)}.", style="bold red")
    slower = losses(found)
    if slower:
        console.print("\nAnother library is faster in these rows, or it is undecided:", style="bold")
        for line in slower:
            console.print(f"  {line}", highlight=False)
    elif not without and set(found["regimes"]) & {"ops", "recipes", "targets", "views", "loaders", "training"}:
        console.print("\nNo other library is faster in any row.", style="bold")


def main() -> None:
    typer.run(command)


if __name__ == "__main__":
    sys.exit(main())
