"""What a search has found, as numbers: its runs, the settings in their ranks, the verdict, samples to review."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpuaug.tuning.compare import least_difference, ranks
from gpuaug.tuning.reporter import Epoch
from gpuaug.tuning.rules import Warned, average
from gpuaug.tuning.space import Settings, label

__all__ = ["Outcome", "Row", "Run"]

REVIEWED = 20  # samples that are listed, at most


@dataclass(frozen=True)
class Run:
    """One training: a setting with a seed.

    Attributes:
        stage: Stage in which it was run.
        settings: Settings, those kept from stages before included.
        seed: Seed that the function got.
        state: "complete", "pruned" or "failed".
        value: Metric of the last epoch; None unless complete.
        curve: Values of each epoch.
        warnings: Warnings of the rules.
        error: Type and text of what the function raised, or "".
        traceback: Its traceback, or "".
        samples: (index, loss) of the training samples with the highest losses.
        seconds: Duration.
    """

    stage: str
    settings: Settings
    seed: int
    state: str
    value: float | None
    curve: list[Epoch] = field(default_factory=list)
    warnings: list[Warned] = field(default_factory=list)
    error: str = ""
    traceback: str = ""
    samples: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Row:
    """A setting, over its seeds.

    Attributes:
        rank: 1 for the best and for those that do not differ from it; None unless all seeds are complete.
        stage: Stage in which it was run.
        settings: Settings.
        mean: Mean over the seeds that are complete, None if there is none.
        low, high: Interval around the mean: settings whose intervals do not overlap differ, with 95 % confidence for
            all pairs together. None where `least` is None.
        metrics: Means of all numbers of the last epoch.
        states: Number of runs in each state.
    """

    rank: int | None
    stage: str
    settings: Settings
    mean: float | None
    low: float | None
    high: float | None
    metrics: dict[str, Any]
    states: dict[str, int]


class Outcome:
    """What a search has found, as numbers; `Result`, which also shows and saves them, says what each is."""

    def __init__(self, runs: Sequence[Run], metric: str, direction: str, seeds: int) -> None:
        self.runs, self.metric, self.direction, self.seeds = list(runs), metric, direction, seeds
        self.least = least_difference([_values(group) for group in self._groups() if self._is_whole(group)])
        self.rows = self._rows()
        self.verdict = self._verdict()

    @property
    def best(self) -> Settings:
        """Settings with the best mean; {} is the baseline."""
        return dict(self.rows[0].settings)

    @property
    def review(self) -> list[dict[str, Any]]:
        """Training samples whose loss is among the highest in at least half of the runs: their labels may be wrong.

        Each has `index`, `runs` (in which it is among the highest), `of` (runs that reported losses) and `loss` (mean
        over those runs); at most 20, those of most runs first.
        """
        reporting = [run for run in self.runs if run.samples]
        losses: dict[int, list[float]] = {}
        for run in reporting:
            for index, loss in run.samples:
                losses.setdefault(index, []).append(loss)
        found = [
            {"index": index, "runs": len(each), "of": len(reporting), "loss": sum(each) / len(each)}
            for index, each in losses.items()
            if len(each) * 2 >= len(reporting)
        ]
        return sorted(found, key=lambda one: (-one["runs"], -one["loss"], one["index"]))[:REVIEWED]

    def _groups(self) -> list[list[Run]]:
        groups: dict[str, list[Run]] = {}
        for run in self.runs:
            groups.setdefault(label(run.settings), []).append(run)
        return [sorted(group, key=lambda run: run.seed) for group in groups.values()]

    def _is_whole(self, group: Sequence[Run]) -> bool:
        return len(_values(group)) == self.seeds

    def _sign(self) -> int:
        return 1 if self.direction == "maximize" else -1

    def _rows(self) -> list[Row]:
        groups = self._groups()
        whole = [group for group in groups if self._is_whole(group)]
        means = [_mean(_values(group)) for group in whole]
        ranked = ranks([self._sign() * mean for mean in means], self.least)
        half = None if self.least is None else self.least / 2
        rows = []
        for group, mean, rank in zip(whole, means, ranked, strict=True):
            low, high = (None, None) if half is None else (mean - half, mean + half)
            rows.append(Row(rank, group[0].stage, group[0].settings, mean, low, high, _last(group), _states(group)))
        rows.sort(key=lambda row: -self._sign() * (row.mean or 0.0))  # stable: of equals the first run
        for group in groups:
            if not self._is_whole(group):
                values = _values(group)
                mean_ = _mean(values) if values else None
                row = Row(None, group[0].stage, group[0].settings, mean_, None, None, _last(group), _states(group))
                rows.append(row)
        return rows

    def _verdict(self) -> str:
        base = next((row for row in self.rows if not row.settings and row.rank is not None), None)
        best = self.rows[0]
        if base is None or best.mean is None or base.mean is None:
            return "The baseline is not complete, so nothing is compared."
        others = [row for row in self.rows if row.rank is not None and row.settings]
        if not others:
            return "Only the baseline is complete, so nothing is compared."
        top = others[0]
        assert top.mean is not None
        gain = self._sign() * (top.mean - base.mean)
        fact = f"{label(top.settings)}: {self.metric} {top.mean:.4g}, baseline {base.mean:.4g}"
        if self.least is None:
            why = "One seed" if self.seeds == 1 else "All seeds show exactly the same differences (is `seed` used?)"
            return f"{why}, so that any difference may be chance. Best of the settings: {fact}."
        chance = f"of {self.seeds} seeds; differences up to {self.least:.2g} may be chance"
        if abs(gain) <= self.least:
            return f"No difference between the best setting and the baseline ({fact}; means {chance})."
        if gain < 0:
            return f"The baseline is better than all settings ({fact}; means {chance})."
        equal = sum(row.rank == 1 for row in self.rows) - 1
        same = f" {equal} other setting{'s do' if equal > 1 else ' does'} not differ from it." if equal else ""
        return f"Better than the baseline by {gain:.2g} ± {self.least:.2g} ({fact}; means {chance}).{same}"

    def warnings(self) -> Iterator[tuple[Run, Warned]]:
        """Each warning of the rules, with its run."""
        for run in self.runs:
            for one in run.warnings:
                yield run, one


def _values(group: Sequence[Run]) -> list[float]:
    return [run.value for run in group if run.value is not None]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _last(group: Sequence[Run]) -> dict[str, Any]:
    """Means of the last epoch of complete runs."""
    last = [[run.curve[-1]] for run in group if run.value is not None and run.curve]
    return dict(sorted(average(last)[0].items())) if last else {}


def _states(group: Sequence[Run]) -> dict[str, int]:
    counts = {state: sum(run.state == state for run in group) for state in ("complete", "pruned", "failed")}
    return {state: count for state, count in counts.items() if count}
