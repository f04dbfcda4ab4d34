"""The result of a profile, as one object that can be saved, loaded, shown and compared."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from gpuaug.profiler.judge.advice import Advice
from gpuaug.profiler.judge.receipt import Receipt
from gpuaug.profiler.judge.verdict import Gain, Group, Stage, Verdict, gain
from gpuaug.profiler.measure.passes import Pass
from gpuaug.profiler.model.costs import Change, Costs
from gpuaug.profiler.model.functions import Function
from gpuaug.profiler.model.trace import Memory, Trace
from gpuaug.profiler.ranks import Rank

__all__ = ["VERSION", "Report", "load", "schema"]

MAX_PREFETCHED = 4096  # limit of workers times prefetch in a replay
VERSION = 1  # version of the JSON; increased when a field is removed or changes its meaning


@dataclass
class Report:
    """The measurements and conclusions of a profile. Times are seconds, gains are ratios.

    Attributes:
        machine: Machine of the profile, see `gpuaug.profiler.machine.Machine`.
        cores: Number of cores that the job could use, without those that other jobs used.
        trace: Batches, see `gpuaug.profiler.model.trace.Trace`.
        passes: Measured passes.
        skipped: {pass: reason why it was not run}.
        pace: Measured seconds per batch.
        samples: Mean number of samples in a batch.
        residual: Replayed time / measured time - 1.
        overhead: Cost of tracing, a fraction of the time; None if not measured.
        alone: Seconds of a step alone, on batches in memory; None if not measured.
        busy: Of a step alone, see `Pass.busy`; None if not measured.
        wrapped: Seconds per batch of a wrapper such as DeviceLoader without a step; None for others.
        edge: Extra seconds of the first step of an epoch.
        verdict: What limits the job.
        stages: Time of a batch in each stage.
        groups: Stages by kind.
        advice: Recommendations, the largest gain first.
        receipt: Measured gain of the first recommendation; None if not measured.
        drift: Change of the cores' speed during the profile, a fraction.
        reliable: Whether `drift` is at most 15 %.
        files: {index as text: path} of the slowest samples, where the data set lists files.
        functions: Functions in which the workers spend the time of their rows; empty if they were not looked at.
        ranks: Times of every rank of a distributed job, if they were gathered.
    """

    machine: dict[str, object]
    cores: float
    trace: Trace
    passes: list[Pass]
    skipped: dict[str, str]
    pace: float
    samples: float
    residual: float
    overhead: float | None
    alone: float | None
    edge: float
    verdict: Verdict
    stages: list[Stage]
    groups: list[Group]
    advice: list[Advice]
    receipt: Receipt | None
    drift: float
    reliable: bool
    files: dict[str, str] = field(default_factory=dict)
    busy: tuple[float, float, float] | None = None
    wrapped: float | None = None
    functions: list[Function] = field(default_factory=list)
    ranks: list[Rank] = field(default_factory=list)

    @property
    def exposed(self) -> float:
        """Fraction of the step that waits for data."""
        return self.verdict.exposed

    @property
    def images_per_second(self) -> float:
        """Measured samples per second."""
        return self.samples / self.pace

    @property
    def epoch_seconds(self) -> float:
        """Seconds of an epoch; infinite if its length is unknown."""
        return self.edge + self.pace * (self.trace.loader.length or math.inf)

    @property
    def memory(self) -> Memory | None:
        """Memory of the processes and of the device; None if it was not looked at."""
        return self.trace.memory

    def as_rank(self, number: int) -> Rank:
        """The times of this report as those of a rank of a distributed job."""
        return Rank(
            rank=number,
            pace=self.pace,
            wait=fmean(batch.given - batch.asked for batch, _ in self.costs.batches),
            step={stage.name: stage.seconds for stage in self.stages if stage.place == "step"},
            main=self.memory.main if self.memory else None,
            device=self.memory.device if self.memory else None,
        )

    @property
    def costs(self) -> Costs:
        """Costs of the trace, for the replay."""
        return Costs(self.trace, self.cores, self.alone, self.busy, self.wrapped)

    def slowest(self, count: int = 20) -> list[tuple[int | str | None, float]]:
        """The slowest samples, the slowest first. Each index is listed once.

        Args:
            count: Number of samples, at most.

        Returns:
            (index, seconds) of each; the index is None for an iterable data set. None of those that a data set fetched
            all at once with `__getitems__`, whose times are not known one by one.
        """
        worst: dict[Any, tuple[Any, float]] = {}
        for number, batch in enumerate(self.trace.batches):
            if batch.together:
                continue
            for position, (index, seconds) in enumerate(batch.samples):
                key = (number, position) if index is None else index
                if seconds > worst.get(key, (index, 0.0))[1]:
                    worst[key] = index, seconds
        return sorted(worst.values(), key=lambda pair: -pair[1])[:count]

    def whatif(
        self,
        *,
        augment: str | float | None = None,
        device_seconds: float | None = None,
        workers: int | None = None,
        prefetch: int | None = None,
        pin_memory: bool | None = None,
        in_order: bool | None = None,
        scale: Mapping[str, float] | None = None,
    ) -> Gain:
        """Predict the gain of other settings by a replay; the loader does not run.

        Args:
            augment: "device" moves every transform to the device; a number is a factor of their time.
            device_seconds: Seconds to augment a batch on the device, for augment="device". None: the measured time.
            workers: Number of worker processes, in [0, 1024].
            prefetch: Prefetched batches per worker, in [1, 1024].
            pin_memory: Whether batches pass through the pinning thread.
            in_order: Whether batches come in the sampler's order.
            scale: {group or stage: factor of its time}, such as {"decode": 0.5}.

        Returns:
            Gain: How many times as fast the job would be, with an interval.

        Raises:
            ValueError: If a setting is out of range, or if a stage does not exist.
        """
        return gain(
            self.costs, self._change(augment, device_seconds, workers, prefetch, pin_memory, in_order, scale or {})
        )

    def _change(
        self,
        augment: str | float | None,
        device_seconds: float | None,
        workers: int | None,
        prefetch: int | None,
        pin_memory: bool | None,
        in_order: bool | None,
        scale: Mapping[str, float],
    ) -> Change:
        if workers is not None and (not isinstance(workers, int) or not 0 <= workers <= 1024):
            raise ValueError(f"whatif: `workers` must be an integer in [0, 1024], got {workers!r}.")
        if prefetch is not None and (not isinstance(prefetch, int) or not 1 <= prefetch <= 1024):
            raise ValueError(f"whatif: `prefetch` must be an integer in [1, 1024], got {prefetch!r}.")
        factors: dict[str, float] = {}
        added, ahead = (0.0, 0.0), (0.0, 1.0)
        augments = [stage.name for stage in self.stages if stage.group == "augmentation"]
        if augment is not None and not augments:
            raise ValueError("whatif: `augment` needs transforms that were timed, and this report has none.")
        if augment == "device":
            probed = next((one.change for one in self.advice if one.id == "augment-on-device" and one.change), None)
            if probed is not None and device_seconds is None:
                factors, added, ahead = dict(probed.factors), probed.added, probed.ahead
            else:
                if device_seconds is None:
                    why = self.skipped.get("augment on the device", "it was not measured")
                    raise ValueError(
                        f"whatif: `augment` on the device needs the time of a batch there, which is unknown ({why}). "
                        "Pass device_seconds, or --device-ms on the command line."
                    )
                factors = dict.fromkeys(augments, 0.0)
                added = (0.0, factor("device_seconds", device_seconds))
        elif augment is not None:
            factors = dict.fromkeys(augments, factor("augment", augment))
        names = {stage.name: [stage.name] for stage in self.stages}
        for group in self.groups:
            names.setdefault(group.name, list(group.rows))
        for name, value in scale.items():
            if name not in names:
                raise ValueError(f"whatif: `scale` must name one of {', '.join(names)}, got {name!r}.")
            for row in names[name]:
                factors[row] = factors.get(row, 1.0) * factor(f"scale of {name}", value)
        if (found := workers or self.trace.loader.workers) * (prefetch or self.trace.loader.prefetch) > MAX_PREFETCHED:
            raise ValueError(
                f"whatif: `workers` times `prefetch` must be at most {MAX_PREFETCHED}, got {found} workers."
            )
        return Change(
            workers=workers,
            prefetch=prefetch,
            pinning=pin_memory,
            in_order=in_order,
            factors=factors,
            added=added,
            ahead=ahead,
        )

    def asdict(self) -> dict[str, object]:
        """The report as plain values, as in the JSON."""
        derived = {
            "schema": VERSION,
            "images_per_second": self.images_per_second,
            "slowest": [list(pair) for pair in self.slowest()],
        }
        return json.loads(json.dumps({**asdict(self), **derived}, allow_nan=False))  # tuples become lists

    def save(self, path: str | Path) -> None:
        """Write the report as JSON. If writing fails, an earlier file is unchanged.

        Raises:
            OSError: If the file cannot be written.
        """
        target = Path(path)
        part = target.with_name(target.name + ".part")
        part.write_text(json.dumps(self.asdict()) + "\n", encoding="utf-8")
        part.replace(target)


def factor(what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(f"whatif: `{what}` must be a number of at least 0, got {value!r}.")
    return float(value)


# ---- reading ---------------------------------------------------------------------------------------------------------

DERIVED = ("schema", "images_per_second", "slowest")  # fields of the JSON only, for readers without Python


def schema() -> dict[str, object]:
    """The JSON Schema of a saved report."""
    from pydantic import TypeAdapter

    found = TypeAdapter(Report).json_schema(mode="serialization")
    found["title"] = "gpuaug profile"
    number = {"type": "number"}
    found["properties"] |= {
        "schema": {"const": VERSION},
        "images_per_second": number,
        "slowest": {
            "type": "array",
            "items": {"type": "array", "prefixItems": [{}, number], "minItems": 2, "maxItems": 2},
        },
    }
    found["required"] = sorted({*found["required"], *DERIVED})
    found["additionalProperties"] = False
    return found


def load(path: str | Path) -> Report:
    """Read a report that `Report.save` wrote.

    Raises:
        ValueError: If the file is no report, or one of another version.
        OSError: If the file cannot be read.
    """
    from pydantic import TypeAdapter, ValidationError

    expected = "profile: `report` must be a JSON file of gpuaug profile"
    try:
        given = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise type(error)(f"{expected}, and {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:  # of the text or the JSON
        raise ValueError(f"{expected}, got {path}: {error}.") from None
    if not isinstance(given, dict) or type(given.get("schema")) is not int:
        raise ValueError(f"{expected}, got {path}, which has no schema.")
    if given["schema"] != VERSION:
        found = f"{given['schema']} in {path}"
        raise ValueError(
            f"profile: `report` must be of schema {VERSION}, got {found}. Profile again with this version."
        )
    try:
        report = TypeAdapter(Report).validate_python({name: given[name] for name in given if name not in DERIVED})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"profile: `report` must be complete, got `{place}` in {path}: {first['msg']}.") from None
    loader = report.trace.loader
    times = [batch.done for batch in report.trace.batches]
    whole = min(report.pace, report.samples, report.cores) > 0 and times == sorted(times)
    if not whole or not 0 <= loader.workers * loader.prefetch <= MAX_PREFETCHED:
        raise ValueError(f"{expected}, got {path}, whose numbers are impossible.")
    return report


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")
