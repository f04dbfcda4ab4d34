"""`tune`: the stages of a search, one after another."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from os import PathLike
from typing import Any

from gpuaug import checks
from gpuaug.tuning.metrics import Metric
from gpuaug.tuning.outcome import Run
from gpuaug.tuning.reporter import Epoch, Reporter, Train, UnknownMetricError, run
from gpuaug.tuning.result import Result
from gpuaug.tuning.rules import Warned, average, warned
from gpuaug.tuning.space import BASELINE, SEED, Grid, Recipe, Search, Settings, Value, label, mixed_share, search
from gpuaug.tuning.studies import ERROR, FailedRunError, Prune, Studies, finished, pruner

__all__ = ["tune"]

NEEDED = {"optuna": "optuna", "sklearn": "scikit-learn", "scipy": "scipy", "matplotlib": "matplotlib"}
DIRECTIONS = ("maximize", "minimize")


def tune(
    train: Train,
    recipe: Recipe = None,
    *,
    space: Mapping[str, Mapping[str, Sequence[Value]]] | None = None,
    num_classes: int | None = None,
    seeds: int = 3,
    metric: str = "accuracy",
    direction: str = "maximize",
    metrics: Mapping[str, Metric] | None = None,
    prune: Prune = None,
    storage: str | PathLike[str] | None = None,
    name: str = "tune",
    retry_failed: bool = False,
    quiet: bool = False,
) -> Result:
    """Train with several augmentations and seeds, and say which is better, if any is.

    The search runs in stages: the baseline, then a small grid for each stage, which keeps the best setting of those
    before it. By default: RandAugment's number of operations and magnitude, then share and alpha of mixing. The runs
    are stored by Optuna: the same call with a `storage` goes on where it stopped, and several at once share the work.
    See docs/tuning.md.

    Args:
        train: Function of (list of transforms, seed, reporter), or (settings, seed, reporter) where there is no
            `recipe`. For each epoch it yields a mapping of metrics, or calls `reporter.report`; see `Reporter.report`.
        recipe: The baseline: a list of transforms, to which num_ops and magnitude add RandAugment, and mix_p and
            mix_alpha add MixUp and CutMix; or a function from settings, as keyword arguments, to a list, whose defaults
            are the baseline; or None.
        space: Stages in their order, each a grid: {"stage": {"setting": [value, ...]}}. None: as said above, mixing
            only with `num_classes`.
        num_classes: Number of classes, for MixUp and CutMix.
        seeds: Number of seeds of each setting, at least 1; the function gets 0, 1, ...
        metric: Name of the metric that ranks, by its value of the last epoch: "accuracy", "macro_f1", "pr_auc", or any
            other that the function reports.
        direction: "maximize" or "minimize".
        metrics: More metrics, by name: functions of (targets, scores) to a number, for functions that report these.
        prune: None, no run is ended early; a number of epochs, after which Optuna's median pruner ends runs that are
            below the median (once five runs of the stage are complete); or a pruner of Optuna.
        storage: Path of a SQLite file, or URL of a database that Optuna knows. None: memory.
        name: Name of the search in the storage.
        retry_failed: Whether runs that failed in an earlier call are run once more.
        quiet: Whether nothing is printed while it runs.

    Returns:
        The result, which prints as a table and has `save` and `plot`.

    Raises:
        ImportError: If a package of the extra `tune` is missing.
        ValueError: If an argument is wrong, the storage holds another search, or `metric` is not reported.
        RuntimeError: If every run of the baseline failed.
    """
    missing = [package for module, package in NEEDED.items() if find_spec(module) is None]
    if missing:
        raise ImportError(f'tune: it needs {", ".join(missing)}. Run pip install "gpuaug[tune]".')
    _check(train, name, metric, metrics)
    checks.one_of("tune", "direction", direction, DIRECTIONS)
    count = checks.integer("tune", "seeds", seeds, 1)
    wanted = search(recipe, space, num_classes)
    words = {**wanted.words(), "seeds": count, "metric": metric, "direction": direction}
    studies = Studies(storage, name, words, direction, pruner(prune))
    task = _Task(train, wanted, studies, metric, direction, metrics or {}, count, quiet)
    return task.run(bool(retry_failed))


def _check(train: object, name: object, metric: object, metrics: object) -> None:
    if not callable(train):
        raise checks.argument_error("tune", "train", "a function of (list, seed, reporter)", checks.describe(train))
    for argument, value in (("name", name), ("metric", metric)):
        if not isinstance(value, str) or not value:
            raise checks.argument_error("tune", argument, "a word", checks.describe(value))
    if metrics is not None and not (isinstance(metrics, Mapping) and all(map(callable, metrics.values()))):
        expected = "a mapping from names to functions of (targets, scores)"
        raise checks.argument_error("tune", "metrics", expected, checks.describe(metrics))


class _Task:
    """A search while it runs."""

    def __init__(
        self,
        train: Train,
        search: Search,
        studies: Studies,
        metric: str,
        direction: str,
        metrics: Mapping[str, Metric],
        seeds: int,
        quiet: bool,
    ) -> None:
        self.train, self.search, self.studies = train, search, studies
        self.metric, self.direction, self.metrics, self.seeds, self.quiet = metric, direction, metrics, seeds, quiet
        self.runs: list[Run] = []
        self.baseline: list[Epoch] = []
        self.has_failed = False

    def run(self, retry: bool) -> Result:
        """All stages; stopped by Ctrl-C, it says how to go on."""
        try:
            return self._stages(retry)
        except KeyboardInterrupt:
            kept = "nothing is kept, as there is no `storage`" if self.studies.is_memory else "the same call goes on"
            self.say(f"Stopped: {kept}.")
            raise

    def _stages(self, retry: bool) -> Result:
        kept: Settings = {}
        for stage, grid in self.search.stages.items():
            first = stage == BASELINE
            title = f"{stage} after {label(kept)}" if not first else stage
            objective = self._objective(stage, grid, kept)
            trials = self.studies.fill(title, grid, self.seeds, objective, first=first, retry=retry, say=self.say)
            there = {(label(run.settings), run.seed) for run in self.runs}  # a stage may hold what it keeps once more
            found = [_run(trial, stage, kept) for trial in finished(trials)]
            self.runs += [run for run in found if (label(run.settings), run.seed) not in there]
            if first:
                complete = [run for run in self.runs if run.state == "complete"]
                if not complete:
                    error = self.runs[0].error.rstrip(".")
                    again = " To run them once more, give retry_failed=True (--retry-failed)."
                    remedy = "" if self.studies.is_memory else again
                    raise RuntimeError(f"tune: every run of the baseline failed, the first one with {error}.{remedy}")
                self.baseline = average([run.curve for run in complete])
            kept = self._best()
        return Result(self.runs, self.metric, self.direction, self.seeds)

    def _best(self) -> Settings:
        """The settings with the best mean so far; while no setting has all its seeds, the baseline."""
        return Result(self.runs, self.metric, self.direction, self.seeds).best

    def say(self, text: str) -> None:
        """A line on stderr."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def _objective(self, stage: str, grid: Grid, kept: Settings) -> Callable[[Any], float]:
        """Optuna's objective for a stage."""

        def objective(trial: Any) -> float:
            seed = trial.suggest_categorical(SEED, tuple(range(self.seeds)))
            found = {name: trial.suggest_categorical(name, values) for name, values in grid.items()}
            return self._trained(trial, stage, {**kept, **found}, seed)

        return objective

    def _trained(self, trial: Any, stage: str, settings: Settings, seed: int) -> float:
        """Train once; the metric of the last epoch."""
        import optuna

        who = f"{stage}: {label(settings)}, seed {seed}" if settings else f"{stage}: seed {seed}"
        share = 0.0
        told: list[Warned] = []

        def each(epoch: int, values: Epoch) -> None:
            if settings:
                for one in warned(reporter.curve, self.baseline, share, told):
                    told.append(one)
                    self.say(f"{who}, epoch {one.epoch}: {one.text}.")
            trial.report(values[self.metric], epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

        reporter = Reporter(self.metric, self.metrics, each)
        try:
            argument = self.search.argument(settings)
            share = mixed_share(argument)
            run(self.train, argument, seed, reporter)
        except optuna.TrialPruned:
            self.say(f"{who}: pruned after {len(reporter.curve)} epochs")
            raise
        except UnknownMetricError:  # in every run: the search ends
            raise
        except Exception as error:
            trial.set_user_attr(ERROR, f"{type(error).__name__}: {error}")
            trial.set_user_attr("traceback", traceback.format_exc())
            self.say(f"{who}: FAILED in epoch {len(reporter.curve) + 1}, {type(error).__name__}: {error}")
            if not self.has_failed:  # a mistake in the function makes all runs fail, and then there is no JSON
                self.say(traceback.format_exc().rstrip())
            self.has_failed = True
            raise FailedRunError from error
        finally:
            trial.set_user_attr("curve", reporter.curve)
            trial.set_user_attr("samples", reporter.samples)
            trial.set_user_attr("warnings", told)
        value = float(reporter.curve[-1][self.metric])
        self.say(f"{who}: {self.metric} {value:.4f}")
        return value


def _run(trial: Any, stage: str, kept: Settings) -> Run:
    """What a trial has kept."""
    own = {name: value for name, value in trial.params.items() if name != SEED}
    noted, state = trial.user_attrs, trial.state.name.lower().replace("fail", "failed")
    begun, ended = trial.datetime_start, trial.datetime_complete
    return Run(
        stage=stage,
        settings={**kept, **own},
        seed=int(trial.params[SEED]),
        state=state,
        value=float(trial.value) if state == "complete" else None,
        curve=[dict(epoch) for epoch in noted.get("curve", [])],
        warnings=[Warned(*one) for one in noted.get("warnings", [])],
        error=noted.get(ERROR, ""),
        traceback=noted.get("traceback", ""),
        samples=[(int(index), float(loss)) for index, loss in noted.get("samples", [])],
        seconds=(ended - begun).total_seconds() if begun and ended else 0.0,
    )
