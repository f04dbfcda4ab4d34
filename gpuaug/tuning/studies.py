"""Optuna's bookkeeping: a study for each stage of a search, which several processes may fill and continue."""

from __future__ import annotations

import inspect
import json
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from gpuaug import checks
from gpuaug.tuning.space import SEED, Grid

__all__ = ["ERROR", "FailedRunError", "Prune", "Studies", "pruner"]

HEARTBEAT = 10  # seconds between the signs of life of a run in a database
GRACE = 40  # seconds without one after which another process repeats the run
POLL = 1.0  # seconds between looks at the runs of other processes
LOCKED = 120  # seconds to wait for SQLite while another process writes
TAKEN = "Cannot tell a "  # beginning of Optuna's error at the end of a run that another process has declared dead
ERROR = "error"  # attribute of a trial whose training function failed: it is not repeated
SEARCH = "search"  # attribute of a study: what is searched

Prune = object  # None, a number of epochs, or a pruner of Optuna


class FailedRunError(Exception):
    """The training function failed; it has been said."""


def pruner(prune: Prune) -> Any:
    """Optuna's pruner: none, its median pruner after a number of epochs, or the one given.

    Raises:
        ValueError: If it is neither.
    """
    import optuna

    if prune is None:
        return optuna.pruners.NopPruner()
    if isinstance(prune, optuna.pruners.BasePruner):
        return prune
    if not checks.is_integer(prune):
        expected = "None, a number of epochs, or a pruner of Optuna"
        raise checks.argument_error("tune", "prune", expected, checks.describe(prune))
    return optuna.pruners.MedianPruner(n_warmup_steps=checks.integer("tune", "prune", prune, 1))


class Studies:
    """The studies of one search.

    Args:
        storage: Path of a SQLite file, URL of a database that Optuna knows, or None for memory.
        name: Name of the search in that storage.
        search: What is searched, as JSON holds it; a storage with another search under this name is an error.
        direction: "maximize" or "minimize".
        pruner: Optuna's pruner.

    Raises:
        ValueError: If the storage cannot be opened, or holds another search.
    """

    def __init__(
        self, storage: str | PathLike[str] | None, name: str, search: dict[str, object], direction: str, pruner: Any
    ) -> None:
        self.name, self.direction, self.pruner = name, direction, pruner
        self.shown, self.is_memory = _masked(storage), storage is None
        with quiet(), unwarned():
            self.storage = _opened(storage, self.shown)
        self.search = json.loads(json.dumps(search))

    def fill(
        self,
        title: str,
        grid: Grid,
        seeds: int,
        objective: Callable[[Any], float],
        *,
        first: bool,
        retry: bool,
        say: Callable[[str], None],
    ) -> list[Any]:
        """Run what is missing of a stage, wait for runs of other processes, and return its trials.

        Args:
            title: The stage, with the settings that it keeps.
            grid: Values of its settings.
            seeds: Number of seeds.
            objective: Function of a trial.
            first: Whether this is the first stage, which is not pruned, and whose study says what is searched.
            retry: Whether runs that failed are run once more.
            say: Prints a line.

        Raises:
            ValueError: If the storage holds another search.
        """
        import optuna

        space = {SEED: tuple(range(seeds)), **grid}
        with quiet():
            study = optuna.create_study(
                storage=self.storage,
                study_name=f"{self.name}: {title}",
                sampler=optuna.samplers.GridSampler(space, seed=0),
                pruner=optuna.pruners.NopPruner() if first else self.pruner,
                direction=self.direction,
                load_if_exists=True,
            )
            if first:
                self._check(study)
            points = seeds
            for values in grid.values():
                points *= len(values)
            there = finished(study.get_trials(deepcopy=False))
            kept = [trial for trial in there if not (retry and ERROR in trial.user_attrs)]
            if kept:  # the training function may have changed since
                say(f"{title}: {len(kept)} of {points} runs are those in {self.shown}")
            waits = False
            while (todo := _todo(study, points, retry)) is not None:
                retry = False
                if todo:
                    try:
                        study.optimize(objective, n_trials=1, catch=(FailedRunError,))
                    except ValueError as error:
                        if not str(error).startswith(TAKEN):
                            raise
                        say(f"{title}: a run is dropped; without a sign of life for {GRACE} s, it was taken for dead")
                    except UnboundLocalError as error:  # what Optuna makes of Ctrl-C while it stores the end of a run
                        if isinstance(error.__context__, KeyboardInterrupt):
                            raise error.__context__ from None
                        raise
                else:
                    if not waits:
                        gone = f"those of processes that are gone are repeated after {GRACE} s"
                        say(f"{title}: waiting for runs of other processes; {gone}")
                    waits = True
                    time.sleep(POLL)
            return list(study.get_trials(deepcopy=False))

    def _check(self, study: Any) -> None:
        """Raise if the study is of another search."""
        there = study.user_attrs.get(SEARCH)
        if there is None:
            study.set_user_attr(SEARCH, self.search)
            return
        for key in {**self.search, **there}:
            now, then = self.search.get(key), there.get(key)
            if now != then:
                got = f"{self.shown}, in which `{key}` of {self.name!r} was {_short(then)} and is now {_short(now)}"
                remedy = "Give another `name` or file, or what it was."
                raise checks.argument_error("tune", "storage", "that of this search", got, remedy)


def _todo(study: Any, points: int, retry: bool) -> bool | None:
    """Whether a run can be started; None when all are done.

    Runs of processes that are gone are put into the queue again, by Optuna where they are stale, here where they were
    interrupted; failed ones too if `retry`.
    """
    import optuna

    states = optuna.trial.TrialState
    with unwarned():
        optuna.storages.fail_stale_trials(study)
    groups: dict[int, list[Any]] = {number: [] for number in range(points)}
    for trial in study.get_trials(deepcopy=False):
        if "grid_id" in trial.system_attrs:
            groups[trial.system_attrs["grid_id"]].append(trial)
    todo, pending = False, False
    for trials in groups.values():
        found = {trial.state for trial in trials}
        if found & {states.COMPLETE, states.PRUNED}:
            continue
        if found == {states.FAIL}:
            failed = any(ERROR in trial.user_attrs for trial in trials)
            if failed and not retry:
                continue
            _again(study, trials[-1])
            found = {states.WAITING}
        pending = True
        todo = todo or not found or states.WAITING in found
    return todo if pending else None


def _again(study: Any, trial: Any) -> None:
    """Put a trial into the queue, as Optuna's callback for stale trials does."""
    import optuna

    study.add_trial(
        optuna.create_trial(
            state=optuna.trial.TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            system_attrs=dict(trial.system_attrs),
        )
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's lines for each trial."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


@contextmanager
def unwarned() -> Iterator[None]:
    """Without Optuna's warnings that heartbeats are experimental. Not around training: what it sets would be undone."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _opened(storage: str | PathLike[str] | None, shown: str) -> Any:
    import optuna

    if storage is None:
        return optuna.storages.InMemoryStorage()
    text = str(storage) if "://" in str(storage) else str(checks.path("tune", "storage", storage))
    if "://" not in text:
        if not Path(text).resolve().parent.is_dir() or Path(text).is_dir():
            raise checks.argument_error("tune", "storage", "a file in a folder that exists", text)
        text = f"sqlite:///{text}"
    options = {"connect_args": {"timeout": LOCKED}} if text.startswith("sqlite") else {}
    # The process that finds a stale run puts it into the queue; the name of this argument changed in Optuna 4.9
    known = inspect.signature(optuna.storages.RDBStorage).parameters
    stale = next(name for name in ("heartbeat_stale_trial_callback", "failed_trial_callback") if name in known)
    given: dict[str, Any] = {"heartbeat_interval": HEARTBEAT, "grace_period": GRACE, stale: _again}
    failed: Exception | None = None
    for last in (False, True):  # twice: another process may be writing the tables of a new database
        try:
            return optuna.storages.RDBStorage(text, engine_kwargs=options, **given)
        except Exception as error:  # of Optuna, SQLAlchemy or a driver of the database
            failed = error
        if not last:
            time.sleep(POLL)
    got = f"{shown} ({type(failed).__name__}: {_hidden(next(iter(str(failed).splitlines()), ''))})"
    expected = "the path of a SQLite file, or the URL of a database that Optuna knows"
    raise checks.argument_error("tune", "storage", expected, got)


def _masked(storage: object) -> str:
    return "memory" if storage is None else _hidden(str(storage))


def _hidden(text: str) -> str:
    """A text with the user and password of a URL left out."""
    return re.sub(r"://[^@/\s]*@", "://***@", text)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def finished(trials: Sequence[Any]) -> list[Any]:
    """For each setting and seed the trial that counts: the first complete, else a pruned, else the last failed one."""
    import optuna

    states = optuna.trial.TrialState
    order = {states.COMPLETE: 0, states.PRUNED: 1, states.FAIL: 2}
    found: dict[int, Any] = {}
    for trial in trials:
        if trial.state not in order or (trial.state == states.FAIL and ERROR not in trial.user_attrs):
            continue
        point = trial.system_attrs["grid_id"]
        old = found.get(point)
        failed_again = old is not None and trial.state == old.state == states.FAIL
        if old is None or failed_again or order[trial.state] < order[old.state]:
            found[point] = trial
    return [found[point] for point in sorted(found)]
