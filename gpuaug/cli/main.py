"""The command `gpuaug`."""

# no `from __future__ import annotations`: typer reads the annotations, and is only imported inside `app`

import contextlib
import importlib.util
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if TYPE_CHECKING:
    import typer

__all__ = ["main"]

# module: package
COMMANDS = {"typer": "typer", "rich": "rich"}
REPORTS = {"pydantic": "pydantic"}  # reads them
DEMO = {"matplotlib": "matplotlib", "sklearn": "scikit-learn"}
PACK = {"pyarrow": "pyarrow"}

EXTRAS = {"demo": "demo", "bench": "bench", **dict.fromkeys(("profile", "whatif", "compare", "doctor"), "profile")}

SHOWN = 10  # skipped files named in the summary
INTERRUPTED = 130  # what a shell expects after Ctrl-C


def main() -> None:
    """Run the command line, or say what to install for it."""
    require(EXTRAS.get("".join(sys.argv[1:2]), "pack"), COMMANDS)
    if sys.argv[1:2] in (["whatif"], ["compare"]):
        require("profile", REPORTS)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    app()()


def require(extra: str, packages: dict[str, str]) -> None:
    """Leave if a module is missing, and name the extra that brings it."""
    missing = [package for module, package in packages.items() if importlib.util.find_spec(module) is None]
    if missing:
        sys.exit(f'The gpuaug command needs {", ".join(missing)}. Run pip install "gpuaug[{extra}]".')


def app() -> "typer.Typer":
    """The commands."""
    import typer

    import gpuaug

    commands = typer.Typer(
        no_args_is_help=True, add_completion=False, help=gpuaug.__doc__, pretty_exceptions_enable=False
    )

    def show_version(wanted: bool) -> None:
        if wanted:
            typer.echo(f"gpuaug {gpuaug.__version__}")
            raise typer.Exit

    @commands.callback()
    def root(
        version: Annotated[
            bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and leave.")
        ] = False,
    ) -> None:
        pass

    @commands.command()
    def demo(
        data: Annotated[
            Path | None, typer.Option(exists=True, file_okay=False, help="ImageFolder to use in place of what ships.")
        ] = None,
        out: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("preview.png"),
        backend: Annotated[str, typer.Option(help="auto, numba or torch.")] = "auto",
        quick: Annotated[bool, typer.Option("--quick", help="Seconds, not minutes; rough figures.")] = False,
    ) -> None:
        """Draw a picture, measure the speed, train with and without augmentation. No network, under three minutes."""
        require("demo", DEMO)
        from gpuaug.demo.run import run

        with one_line_errors():
            run(data, out, backend=backend, quick=quick)

    @commands.command()
    def pack(
        source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder with a folder of images for each class.")],
        destination: Annotated[Path, typer.Argument(metavar="DST", help="New folder, or one to go on with.")],
        short_side: Annotated[int, typer.Option(help="Shrink to that many pixels; 0 keeps the sizes.", min=0)] = 256,
        encoding: Annotated[str, typer.Option(help="raw (pixels, fast) or jpeg (small).")] = "raw",
        quality: Annotated[int, typer.Option(help="Of jpeg, 1 to 100.")] = 95,
        workers: Annotated[int | None, typer.Option(help="Processes; one for each core if left out.")] = None,
        on_error: Annotated[str, typer.Option(help="raise or skip: what to do with unreadable files.")] = "raise",
        extensions: Annotated[
            str | None, typer.Option(help="Endings of the files to take, such as .jpg,.png; all formats if left out.")
        ] = None,
        allow_empty: Annotated[bool, typer.Option("--allow-empty", help="A class may have no image.")] = False,
    ) -> None:
        """Decode and shrink images once, for gpuaug.data.Packed to read in every epoch."""
        require("pack", PACK)
        with one_line_errors():
            run_pack(
                source,
                destination,
                short_side=short_side or None,
                encoding=encoding,
                quality=quality,
                workers=workers,
                on_error=on_error,
                extensions=None if extensions is None else [end.strip() for end in extensions.split(",")],
                allow_empty=allow_empty,
            )

    @commands.command()
    def verify(
        path: Annotated[Path, typer.Argument(metavar="DST", help="Folder that gpuaug pack made.")],
    ) -> None:
        """Read a whole pack and name every damaged shard."""
        require("pack", PACK)
        with one_line_errors():
            run_verify(path)

    from gpuaug.cli import profile as profiler

    profiler.add(commands)
    commands.command("bench")(bench())
    return commands


def bench() -> Callable[..., None]:
    """The command of `python -m benchmarks`, which lies beside the package in a clone and inside it when installed."""
    package = Path(__file__).parent
    home = package if (package / "benchmarks").exists() else package.parent
    if str(home) not in sys.path:
        sys.path.append(str(home))
    from benchmarks.__main__ import command

    return command


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """What the user can act on is said without a traceback."""
    import typer

    try:
        yield
    except typer.Exit:  # a RuntimeError
        raise
    except (ValueError, RuntimeError, OSError) as error:
        typer.echo(" ".join(str(error).split()), err=True)
        raise typer.Exit(1) from None


# ---- pack and verify -------------------------------------------------------------------------------------------------


def run_pack(source: Path, destination: Path, **settings: object) -> None:
    """Pack with a bar, and say what came of it."""
    import typer

    from gpuaug.data import pack
    from gpuaug.data.discover import left_out

    progress = [0, 0]
    try:
        with bar("images") as report:

            def both(done: int, total: int) -> None:
                progress[:] = done, total
                report(done, total)

            result = pack(source, destination, report=both, **settings)  # type: ignore[arg-type]
    except KeyboardInterrupt:
        done, total = progress
        where = f"at image {done:,} of {total:,}" if total else "before the first image"
        typer.echo(f"Stopped {where}. Run the same command again to go on.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    for path, why in list(result.skipped.items())[:SHOWN]:
        typer.echo(f"Skipped {path} ({why}).")
    if len(result.skipped) > SHOWN:
        typer.echo(f"Skipped {len(result.skipped) - SHOWN:,} more, see skipped in {destination / 'index.json'}.")
    if result.ignored:
        typer.echo(f"In the class folders, {left_out(result.ignored)}.")
    earlier = result.images - result.written
    before = f", {earlier:,} of them by an earlier run" if earlier else ""
    others = f", {sum(result.ignored.values()):,} other files left out" if result.ignored else ""
    typer.echo(
        f"{destination}: {result.images:,} images{before}; {result.bytes / 1e9:.2f} GB; {len(result.skipped):,} "
        f"skipped{others}; {result.seconds:.0f} s."
    )


def run_verify(path: Path) -> None:
    """Name the damaged shards; leave with 1 if there are some."""
    import typer

    from gpuaug.data.packs.read import verify

    with bar("bytes") as report:
        damaged = verify(path, report)
    for what in damaged.values():
        typer.echo(what)
    if damaged:
        shards = "that shard" if len(damaged) == 1 else f"these {len(damaged):,} shards"
        typer.echo(f"Delete {shards} and run gpuaug pack again.")
        raise typer.Exit(1)
    typer.echo(f"{path}: every byte is as it was written.")


@contextlib.contextmanager
def bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar, as a function of (done, all): it appears at the first call, and measures from there."""
    from rich import progress
    from rich.text import Text

    class Speed(progress.ProgressColumn):
        def render(self, task: progress.Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.0f} images/s", style="progress.data.speed")

    counts = {
        "images": (progress.MofNCompleteColumn(), Speed()),
        "bytes": (progress.DownloadColumn(), progress.TransferSpeedColumn()),
    }
    left = progress.TimeRemainingColumn(elapsed_when_finished=True)
    shown = progress.Progress(progress.BarColumn(bar_width=None), *counts[unit], left, expand=True)

    def report(done: int, total: int) -> None:
        if shown.tasks:
            shown.update(shown.task_ids[0], completed=done)
        else:
            shown.add_task("", total=total, completed=done)
            shown.start()

    try:
        yield report
    finally:
        if shown.tasks:
            shown.stop()
