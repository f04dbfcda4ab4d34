"""The time of the recipes on one GPU: python -m benchmarks.gpu.speed --out DIR (long: one table of ways).

What is worth most comes first. A row has

    device_us     of an image, on the device alone
    device_by     by "events" or, where the host waits within a call or the device had begun too early (`late` rounds),
                  the sum of the "kernels", which leaves out the gaps between them
    host_us       of a call, the device having nothing to do
    wall_us       of an image, calls in a row; spread is that of it
    kernels_us    of an image, the sum of its kernels and copies; launches and copies of a call
    least_us      of an image: the bytes that must be moved over the bandwidth of a copy
    moved_us      the same for the bytes that our launches were counted to move
    check         what was found to be other work; nothing if it is the same
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..locations import PACKAGE
from .results import STARTED, Options, Poisoned, Results, run

__all__ = ["APART", "Layer", "Speed", "layers", "measure", "put"]

APART = "GPUAUG_APART"  # variable: recipe, batch and way of `benchmarks.gpu.apart`, as JSON
RESERVE = 6.0  # seconds that are kept for the aims and for what was left out
NEEDED = 4.0  # seconds that a way may take, at first
PROFILING = 0.25  # seconds that the profiler takes for one of them
COMPILING = 100.0  # seconds after which a way that compiles is given up
HEAD = f"{'recipe':<29}{'batch':>5} {'way':<21}{'device':>8}{'wall':>8}{'host':>8}{'least':>7}{'late':>5}"
UNITS = f"{'':<29}{'':>5} {'':<21}{'us/img':>8}{'us/img':>8}{'us/call':>8}{'us/img':>7}"


@dataclass(frozen=True)
class Layer:
    """What is measured together: each recipe by each way."""

    batch: int
    ways: tuple[str, ...]
    recipes: tuple[str, ...]
    ragged: bool = False
    apart: bool = False  # in a process of its own, which can be given up

    @property
    def name(self) -> str:
        return f"{'Ragged ' if self.ragged else ''}batch {self.batch}, {', '.join(self.ways)}"


def layers(scale: Any, full: bool, dry: bool) -> list[Layer]:
    """In the order of their worth; without `full` the first alone, when dry one for each kind of layer."""
    from . import recipes as r
    from . import ways as w

    names = scale.recipes or tuple(r.names())
    plain = tuple(name for name in names if not name.endswith(r.MIX))
    first, *others = scale.batches
    main = (w.OURS, w.GRAPH, w.LIMIT, w.TORCHVISION)
    found = [Layer(first, main, names)]
    if not full and not dry:
        return found
    small = min(scale.batches)
    found += [Layer(first, (w.KORNIA,), names)]
    found += [Layer(batch, main, names) for batch in others]
    found += [Layer(batch, (w.OURS, w.LIMIT), names, ragged=True) for batch in scale.batches]
    found += [Layer(first, (w.TORCH,), names)]
    found += [Layer(first, (w.FUSED,), tuple(name for name in plain if name in (r.PLAIN, "ColorJitter")))]
    found += [Layer(small, (w.EACH,), plain), Layer(small, (w.EACH,), plain, ragged=True)]
    compiled = tuple(name for name in plain if name in (r.PLAIN, "ColorJitter"))
    found += [Layer(first, (w.KORNIA if dry else w.COMPILED,), compiled, apart=True)]  # nothing to compile when dry
    found += [Layer(batch, (w.KORNIA,), names) for batch in others]
    if not dry:
        return found
    return [replace(layer, recipes=layer.recipes[:1] if number else names) for number, layer in enumerate(found)]


def put(results: Results, **figures: Any) -> dict[str, Any]:
    """Add a row without printing it, since a table is printed; the row, to which more can be added."""
    results.add([figures])
    return figures


@dataclass
class Ready:
    """A way that was timed, and its row, for the profiler."""

    row: dict[str, Any]
    run: Any
    key: str
    held: deque[Any]  # its last results


class Speed:
    """The part: measures layer after layer while there is time."""

    def __init__(self, results: Results, options: Options, scale: Any = None) -> None:
        from . import recipes

        self.results, self.options = results, options
        self.scale = scale or (recipes.DRY if options.dry else recipes.FULL)
        self.bandwidth: float | None = None
        self.absent: set[str] = set()  # modules that are not installed, said once
        self.moved: dict[str, Any] = {}  # bytes of an image that our launches move, by recipe

    def everything(self) -> None:
        from . import aims

        try:
            with self.guarded("bandwidth and clocks"):
                self.ceiling()
            with self.guarded("counted bytes"):
                self.counted()
            print(f"{HEAD}\n{UNITS}", flush=True)
            for layer in layers(self.scale, self.options.full, self.options.dry):
                self.layer(layer)
        finally:
            rows = list(self.results.found["rows"])
            for aim in aims.of_speed(rows, self.scale.batches[0]):
                put(self.results, **aim)
                print(aims.line(aim), flush=True)

    def ceiling(self) -> None:
        """The clocks, and the bandwidth of a copy."""
        from . import timing

        timing.warm_up(0.0 if self.options.dry else 0.5)
        self.bandwidth = timing.bandwidth(self.scale.copied)
        put(self.results, copy_gb_s=self.bandwidth / 1e9, sleep_ghz=timing.cycles_a_second() / 1e9)
        print(f"copy on the device: {self.bandwidth / 1e9:.0f} GB/s read + written", flush=True)

    def counted(self) -> None:
        """What was counted of the bytes that our launches move; said if it was of other kernels."""
        from . import moved, recipes

        known = moved.stored()
        if known is None or (known["source"], known["size"]) != (recipes.FULL.source, recipes.FULL.size):
            self.results.note(f"the bytes that launches move were not counted: python -m {PACKAGE}.gpu.moved")
            return
        if known["stale"] is not False:
            said = "are of other kernels than these" if known["stale"] else "may be of other kernels than these"
            self.results.note(f"moved_mb: the bytes {said}: python -m {PACKAGE}.gpu.moved")
        if self.scale.source == known["source"]:
            self.moved = known["recipes"]

    # ---- a layer ---------------------------------------------------------------------------------------------------

    def layer(self, layer: Layer) -> None:
        """Time all its ways, then have the profiler look at them: it would slow down what comes after it."""
        pairs = [(recipe, way) for recipe in layer.recipes for way in layer.ways if self.can_enter(way)]
        left_out, ready, data = [], [], None
        least = COMPILING / 3 if layer.apart else NEEDED
        needed = dict.fromkeys(layer.ways, least)  # seconds that a way takes
        for recipe, way in pairs:
            if self.results.left() < RESERVE + needed[way] + PROFILING * len(ready):
                left_out.append(f"{recipe} ({way})")
                continue
            before = self.results.left()
            with self.guarded(f"{recipe}, {layer.name.split(',')[0]}, {way}"):
                if layer.apart:
                    self.apart(layer, recipe, way)
                    continue
                data = data or self.inputs(layer)
                ready.append(self.one(layer, recipe, way, data))
            if len(ready) > 1:  # the first one makes the inputs
                needed[way] = max(least, 1.2 * (before - self.results.left()))
        unseen = [one.key for one in ready if not self.profiled(one)]
        if unseen:
            self.results.note(f"not profiled, for lack of time: {'; '.join(unseen)}")
        if left_out:
            self.results.note(f"left out, for lack of time: {layer.name.split(',')[0]}: {'; '.join(left_out)}")

    def can_enter(self, way: str) -> bool:
        """Whether what it needs is installed; if not, that is said once."""
        from importlib.util import find_spec

        from . import ways as w

        module = {w.KORNIA: "kornia", w.COMPILED: "kornia", w.FUSED: "triton_augment"}.get(way)
        if module is None or find_spec(module) is not None:
            return True
        if module not in self.absent:
            self.absent.add(module)
            self.results.note(f"{module} is not installed: left out")
        return False

    @contextlib.contextmanager
    def guarded(self, what: str) -> Iterator[None]:
        """What is raised inside is a failure of this one, and the others go on."""
        import torch

        try:
            yield
        except Poisoned:
            raise
        except Exception as error:
            self.results.fail(what, error)
            with contextlib.suppress(Exception):
                torch.cuda.synchronize()
                torch.cuda.empty_cache()

    def inputs(self, layer: Layer) -> Any:
        from . import recipes

        make = recipes.ragged_batches if layer.ragged else recipes.batches
        return make(self.scale, layer.batch, self.options.jpegs)

    def one(self, layer: Layer, recipe: str, way: str, data: Any) -> Ready:
        """Make a way, check its work, and time it."""
        import torch

        from . import timing, ways

        random.seed(0)  # the draws of others
        torch.manual_seed(0)
        case = ways.Case(recipe, self.scale, data)
        made = ways.WAYS[way].make(case)
        held: deque[Any] = deque(maxlen=_held(layer.batch, self.scale))  # so that results, too, are in other memory

        def call(number: int) -> None:
            held.append(made.run(*data[number % len(data)]))

        name = f"{recipe}, ragged" if layer.ragged else recipe
        first = timing.first_call(call)
        put(self.results, first_call=f"{name}, batch {layer.batch}, {way}", first_call_s=first)
        check = made.check()
        if check:
            self.results.fail(f"{name}, batch {layer.batch}, {way}: the same work", check)
        times = timing.measure(call, waits=ways.WAYS[way].waits, rounds=self.scale.rounds, seconds=self.scale.seconds)
        held.clear()
        row = put(self.results, **self.figures(name, layer.batch, way, case, times, check))
        print(line(row), flush=True)
        return Ready(row, call, f"{name}, {layer.batch}, {way}", held)

    def figures(self, name: str, batch: int, way: str, case: Any, times: Any, check: str) -> dict[str, Any]:
        from . import timing, ways

        each = 1e3 / batch
        read, written = case.bytes
        device = times.device_ms
        launched = self.moved.get(name) if way in (ways.OURS, ways.GRAPH) else None
        moved = None if launched is None else (launched["read"] + launched["written"]) * batch
        return {
            "recipe": name,
            "batch": batch,
            "way": way,
            "device_us": None if device is None else device * each,
            "device_by": None if device is None else "events",
            "device_spread": None if device is None else timing.spread(times.queued.ms),
            "late": None if times.queued is None else f"{times.queued.late}/{times.queued.late + len(times.queued.ms)}",
            "host_us": times.host_ms * 1e3,
            "wall_us": times.wall_ms * each,
            "spread": timing.spread(times.wall),
            "read_mb": read / 1e6,
            "written_mb": written / 1e6,
            "moved_mb": None if moved is None else moved / 1e6,
            "moved_us": None if moved is None or self.bandwidth is None else moved / self.bandwidth * 1e6 / batch,
            "least_us": None if self.bandwidth is None else (read + written) / self.bandwidth * 1e6 / batch,
            "check": check,
            "note": ways.WAYS[way].note or None,
        }

    def profiled(self, one: Ready) -> bool:
        """Add its kernels to its row; False if there is no time for it."""
        from . import timing

        if self.results.left() < RESERVE:
            return False
        with self.guarded(f"{one.key}: the profiler"):
            kernels = timing.kernels(one.run)
            one.held.clear()
            if kernels:
                batch = one.row["batch"]
                total = sum(kernel.us for kernel in kernels)
                one.row["kernels_us"] = total / batch
                one.row["launches"] = sum(kernel.count for kernel in kernels if not kernel.copy)
                one.row["copies"] = sum(kernel.count for kernel in kernels if kernel.copy)
                if one.row["device_us"] is None:
                    one.row |= {"device_us": total / batch, "device_by": "kernels"}
                shown = [kernel.as_json() for kernel in kernels[: timing.SHOWN]]
                self.results.found.setdefault("kernels", {})[one.key] = shown
                print(f"{line(one.row)}  {one.row['launches']:.0f} kernels {total / batch:.3f}", flush=True)
        return True

    # ---- in a process of its own -------------------------------------------------------------------------------------

    def apart(self, layer: Layer, recipe: str, way: str) -> None:
        """Its rows, if it comes to an end in time."""
        seconds = min(COMPILING, self.results.left() - RESERVE)
        given = json.dumps({"recipe": recipe, "batch": layer.batch, "way": way})
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", f"{PACKAGE}.gpu.apart", "--out", folder, "--seconds", f"{seconds:.0f}"]
            command += ["--dry"] * self.options.dry
            command += ["--jpegs", str(self.options.jpegs)] if self.options.jpegs else []
            environment = {**os.environ, APART: given}
            environment.pop(STARTED, None)
            said = Path(folder) / "said.txt"  # no pipe: processes that it leaves behind would hold it open
            try:
                with said.open("w") as output:
                    done = subprocess.run(command, env=environment, stdout=output, stderr=output, timeout=seconds)
            except subprocess.TimeoutExpired:
                self.results.note(f"given up after {seconds:.0f} s: {recipe}, batch {layer.batch}, {way}")
                return
            file = Path(folder) / "apart.json"
            if not file.exists():
                last = (said.read_text(errors="replace").strip().splitlines() or [f"ended with {done.returncode}"])[-1]
                raise RuntimeError(f"its process failed: {last}")
            self.take(json.loads(file.read_text()))

    def take(self, found: dict[str, Any]) -> None:
        for row in found["rows"]:
            if "copy_gb_s" not in row:
                row = put(self.results, **row)
                if "way" in row:
                    print(line(row), flush=True)
        for failed in found["failed"]:
            self.results.fail(failed["what"], failed["error"])
        for note in found["notes"]:
            self.results.note(note)
        if "kernels" in found:
            self.results.found.setdefault("kernels", {}).update(found["kernels"])


def _held(batch: int, scale: Any) -> int:
    """Results that are kept, so that together they do not fit the L2."""
    return max(1, min(16, scale.rotation // (batch * 3 * scale.size**2 * 2)))


def line(row: dict[str, Any]) -> str:
    """A row of the table, at most 100 characters. OTHER: its work was found to be other work."""

    def cell(name: str, width: int, form: str = ".3f") -> str:
        value = row.get(name)
        return f"{'-' if value is None else format(value, form):>{width}}"

    name = row["recipe"].replace("MixUp/CutMix", "mix")
    text = f"{name[:28]:<29}{row['batch']:>5} {row['way'][:20]:<21}"
    text += cell("device_us", 8) + cell("wall_us", 8) + cell("host_us", 8, ".0f") + cell("least_us", 7)
    return text + f"{row.get('late') or '':>5}" + (" OTHER" if row.get("check") else "")


def measure(results: Results, options: Options) -> None:
    """See the module."""
    Speed(results, options).everything()


if __name__ == "__main__":
    sys.exit(run("speed", measure))
