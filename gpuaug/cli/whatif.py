"""`gpuaug whatif`."""

# no `from __future__ import annotations`: typer reads the annotations

from pathlib import Path
from typing import Annotated

import typer

from gpuaug.cli.arguments import number, pair
from gpuaug.cli.errors import profiler_errors

__all__ = ["command"]


def command(
    report: Annotated[Path, typer.Argument(help="JSON file of gpuaug profile.")],
    augment: Annotated[
        str | None, typer.Option(help="device, or a factor for the time of augmentation, such as 0.5.")
    ] = None,
    device_ms: Annotated[
        float | None, typer.Option(help="Time of augmenting a batch on the device; default: as measured.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Number of worker processes.")] = None,
    prefetch: Annotated[int | None, typer.Option(help="Batches that each worker prepares ahead.")] = None,
    pin_memory: Annotated[bool | None, typer.Option(help="Whether batches are copied into pinned memory.")] = None,
    in_order: Annotated[bool | None, typer.Option(help="Whether batches come in the sampler's order.")] = None,
    scale: Annotated[
        list[str] | None, typer.Option(help="STAGE=FACTOR for its time, such as decode=0.5. May be repeated.")
    ] = None,
) -> None:
    """Predict a job's speed with other settings, from its report; the job does not run."""
    with profiler_errors():
        from gpuaug.profiler.report import load
        from gpuaug.profiler.show.terminal import doubts

        found = load(report)
        scaled = [pair(text) for text in scale or ()]
        if len({name for name, _ in scaled}) < len(scaled):
            raise ValueError("whatif: `--scale` must name each stage once. Multiply the factors.")
        if device_ms is not None and augment != "device":
            raise ValueError("whatif: `--device-ms` needs `--augment device`. Add it.")
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
