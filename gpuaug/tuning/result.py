"""What `tune` returns: an outcome that prints as a table, is saved as JSON and drawn."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any

from gpuaug import checks
from gpuaug.tuning.compare import CONFIDENCE
from gpuaug.tuning.outcome import Outcome, Run
from gpuaug.tuning.plot import draw
from gpuaug.tuning.rules import Warned
from gpuaug.tuning.table import lines

__all__ = ["Result"]

FORMAT = 1  # of the JSON file


class Result(Outcome):
    """What `tune` returns. `print` shows it as a table.

    Args:
        runs: All runs, the baseline's first.
        metric: Name of the metric that ranks.
        direction: "maximize" or "minimize".
        seeds: Number of seeds.

    Attributes:
        rows: Settings, best first; those without all seeds last.
        least: Difference of two means from which on they differ, with 95 % confidence; None with a single seed, or
            if all seeds show exactly the same differences.
        verdict: What was found, in a sentence.
    """

    def __str__(self) -> str:
        return "\n".join(lines(self))

    def to_dict(self) -> dict[str, object]:
        """All of it as JSON holds it; None where there is no number, such as the recall of an absent class."""
        found: dict[str, Any] = {
            "format": FORMAT,
            "metric": self.metric,
            "direction": self.direction,
            "seeds": self.seeds,
            "verdict": self.verdict,
            "best": self.best,
            "least_difference": self.least,
            "confidence": CONFIDENCE,
            "rows": [asdict(row) for row in self.rows],
            "review": self.review,
            "runs": [asdict(run) | {"warnings": [one._asdict() for one in run.warnings]} for run in self.runs],
        }
        return dict(_plain(found))

    def save(self, path: str | PathLike[str]) -> None:
        """Write it as JSON.

        Args:
            path: Path of the file, which is replaced as a whole.
        """
        target = checks.path("save", "path", path)
        draft = target.with_name(f"{target.name}.{os.getpid()}.part")  # several processes may end at the same time
        draft.write_text(json.dumps(self.to_dict(), indent=1) + "\n", encoding="utf-8")
        os.replace(draft, target)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Result:
        """The result in a file that `save` wrote; rows and verdict are computed anew.

        Args:
            path: Path of the file.

        Raises:
            ValueError: If the file holds no result of this version of the format.
        """
        found = json.loads(checks.path("load", "path", path).read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise checks.argument_error("load", "path", f"a result of `tune` of format {FORMAT}", str(path))
        runs = []
        for run in found["runs"]:
            curve = [{name: _numbers(value) for name, value in epoch.items()} for epoch in run["curve"]]
            runs.append(Run(**run | {"curve": curve, "warnings": [Warned(**one) for one in run["warnings"]]}))
        return cls(runs, found["metric"], found["direction"], found["seeds"])

    def plot(self, path: str | PathLike[str], command: str | None = None) -> None:
        """Draw the settings with their intervals, and the curves of the baseline and the best.

        Args:
            path: Path of the image; its ending sets the format, such as .png.
            command: Command that made it, which is written below; None is that of this process.
        """
        draw(self, Path(path), command)


def _numbers(value: Any) -> Any:
    """A list with nan for None, as before it was JSON."""
    return [math.nan if one is None else one for one in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.12g}") if math.isfinite(value) else None
    return value
