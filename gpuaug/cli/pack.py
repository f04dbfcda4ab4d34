"""`gpuaug pack`."""

# no `from __future__ import annotations`: typer reads the annotations

from pathlib import Path
from typing import Annotated

import typer

from gpuaug.cli.errors import INTERRUPTED, one_line_errors, require
from gpuaug.cli.progress import bar

__all__ = ["NEEDED", "command"]

NEEDED = {"pyarrow": "pyarrow"}  # module: package
SHOWN = 10  # skipped files that the summary names


def command(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder with one folder of images for each class.")],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="New folder, or an unfinished pack to continue.")],
    short_side: Annotated[
        int, typer.Option(help="Length of the short side in pixels after shrinking; 0 keeps the sizes.", min=0)
    ] = 256,
    encoding: Annotated[
        str, typer.Option(help="raw (pixels, fast), jpeg (small), or same (the files, with --short-side 0).")
    ] = "raw",
    quality: Annotated[int, typer.Option(help="JPEG quality, 1 to 100.")] = 95,
    workers: Annotated[int | None, typer.Option(help="Number of processes; default: one for each core.")] = None,
    on_error: Annotated[str, typer.Option(help="What to do with unreadable files: raise or skip.")] = "raise",
    extensions: Annotated[
        str | None, typer.Option(help="File endings to read, such as .jpg,.png; default: all image formats.")
    ] = None,
    allow_empty: Annotated[bool, typer.Option("--allow-empty", help="Accept classes without images.")] = False,
) -> None:
    """Decode and shrink images once, for gpuaug.data.Packed to read in every epoch."""
    require("pack", NEEDED)
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


def run_pack(source: Path, destination: Path, **settings: object) -> None:
    """Pack with a progress bar, and print a summary."""
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
