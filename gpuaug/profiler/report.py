"""What a profile found, as one object that is saved, read again, shown and compared."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpuaug.profiler.judge.advice import Advice
from gpuaug.profiler.judge.receipt import Receipt
from gpuaug.profiler.judge.verdict import Gain, Group, Stage, Verdict, gain
from gpuaug.profiler.measure.passes import Pass
from gpuaug.profiler.model.costs import Change, Costs
from gpuaug.profiler.model.trace import Trace

__all__ = ["VERSION", "Report", "load", "schema"]

MOST = 4096  # batches under way in a replay
VERSION = 1  # of the JSON; higher when a field's meaning changes or one goes


@dataclass
class Report:
    """All that a profile measured and concluded. Times are seconds, gains are ratios.

    Attributes:
        machine: where it ran; see `gpuaug.profiler.machine.Machine`.
        cores: that the job could use, as far as others left them.
        trace: the batches. passes: what was measured beside it. skipped: pass -> why it was not run.
        pace: seconds a batch, measured. samples: of a batch.
        residual: the replay of the trace against what was measured, a fraction.
        overhead: of tracing, a fraction; None if it was not measured.
        alone: seconds of a step on batches that are there.
        edge: seconds that the start of an epoch costs.
        verdict, stages, groups, advice, receipt: conclusions.
        drift: change of the cores' speed meanwhile, a fraction. reliable: it was small.
    """

    machine: dict[str, Any]
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

    @property
    def exposed(self) -> float:
        """Share of the step that waits for data."""
        return self.verdict.exposed

    @property
    def images_per_second(self) -> float:
        return self.samples / self.pace

    @property
    def epoch_seconds(self) -> float:
        """Of a whole epoch with its start; infinite if its length is not known."""
        return self.edge + self.pace * (self.trace.loader.length or math.inf)

    @property
    def costs(self) -> Costs:
        return Costs(self.trace, self.cores, self.alone)

    def slowest(self, count: int = 20) -> list[tuple[Any, float]]:
        """(index, seconds) of the slowest samples, the slowest first; an index is named once, if there is one."""
        worst: dict[Any, tuple[Any, float]] = {}
        for number, batch in enumerate(self.trace.batches):
            for place, (index, seconds) in enumerate(batch.samples):
                key = (number, place) if index is None else index
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
        """How many times as fast the job would be with other settings; a replay, nothing runs.

        Args:
            augment: "device" takes every transform out of the workers; a number multiplies their time.
            device_seconds: that a batch's augmentation takes on the device; None: what was probed.
            workers, prefetch, pin_memory, in_order: of the loader.
            scale: group or row -> what its time is multiplied by, such as {"decode": 0.5}.

        Raises:
            ValueError: if a setting is out of range, or a row does not exist.
        """
        return gain(
            self.costs, self.change(augment, device_seconds, workers, prefetch, pin_memory, in_order, scale or {})
        )

    def change(
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
            raise ValueError("whatif: `augment` needs transforms that were timed by name, and this report has none.")
        if augment == "device":
            probed = next((one.change for one in self.advice if one.id == "augment-on-device" and one.change), None)
            if probed is not None and device_seconds is None:
                factors, added, ahead = dict(probed.factors), probed.added, probed.ahead
            else:
                if device_seconds is None:
                    why = self.skipped.get("augment on the device", "it was not probed")
                    raise ValueError(
                        f"whatif: `augment` cannot be device without the seconds that it takes there ({why}). "
                        "Give device_seconds, --device-ms on the command line."
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
        if (found := workers or self.trace.loader.workers) * (prefetch or self.trace.loader.prefetch) > MOST:
            raise ValueError(f"whatif: `workers` times `prefetch` must be at most {MOST}, got {found} workers.")
        return Change(
            workers=workers,
            prefetch=prefetch,
            pinning=pin_memory,
            in_order=in_order,
            factors=factors,
            added=added,
            ahead=ahead,
        )

    def asdict(self) -> dict[str, Any]:
        """Plain values, as they are saved."""
        derived = {
            "schema": VERSION,
            "images_per_second": self.images_per_second,
            "slowest": [list(pair) for pair in self.slowest()],
        }
        return json.loads(json.dumps({**asdict(self), **derived}, allow_nan=False))  # tuples become lists

    def save(self, path: str | Path) -> None:
        """Write it as JSON, whole or not at all."""
        target = Path(path)
        part = target.with_name(target.name + ".part")
        part.write_text(json.dumps(self.asdict()) + "\n", encoding="utf-8")
        part.replace(target)


def factor(what: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(f"whatif: `{what}` must be a number of at least 0, got {value!r}.")
    return float(value)


# ---- reading ---------------------------------------------------------------------------------------------------------

DERIVED = ("schema", "images_per_second", "slowest")  # in the JSON, for readers without Python


def schema() -> dict[str, Any]:
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
    """Read a report that was saved.

    Raises:
        ValueError: if the file is not a report, or of another version.
        OSError: if it cannot be read.
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
            f"profile: `report` must be of schema {VERSION}, got {found}. Make it again with this version."
        )
    try:
        report = TypeAdapter(Report).validate_python({name: given[name] for name in given if name not in DERIVED})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"profile: `report` must be whole, and in {path} `{place}` is not: {first['msg']}.") from None
    loader = report.trace.loader
    times = [batch.done for batch in report.trace.batches]
    whole = min(report.pace, report.samples, report.cores) > 0 and times == sorted(times)
    if not whole or not 0 <= loader.workers * loader.prefetch <= MOST:
        raise ValueError(f"{expected}, got {path}, whose figures no run can have.")
    return report


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
