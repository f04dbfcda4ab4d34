"""A whole search: its stages, its result in all forms, runs that fail, and arguments that are wrong."""

from __future__ import annotations

import json
import re
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("optuna", reason="Optuna is not installed")

import gpuaug as ga
from gpuaug.tuning import Result
from gpuaug.tuning.reporter import Reporter, run
from tests.tuning.task import SPACE, train


def tuned(function: Any = train, **options: Any) -> Result:
    options = {"space": SPACE, "seeds": 2, "quiet": True} | options
    return ga.tune(function, **options)


def test_each_stage_keeps_the_best_of_those_before() -> None:
    result = tuned()
    assert [(run.stage, run.settings) for run in result.runs if run.seed == 0][:1] == [("baseline", {})]
    assert {run.settings["x"] for run in result.runs if run.stage == "second"} == {2}
    assert len(result.runs) == 2 * (1 + 3 + 2)
    assert result.best == {"x": 2, "y": 0.5}
    best, *_, last = result.rows
    assert (best.rank, best.settings, best.states) == (1, {"x": 2, "y": 0.5}, {"complete": 2})
    assert best.mean == pytest.approx(0.4 + 0.15 + 0.05 + 0.11 + 0.0015)
    assert last.settings == {"x": 3}
    assert result.verdict.startswith("Better than the baseline by 0.11 ± 0.0")


def test_no_difference_is_said() -> None:
    def same(settings: dict[str, Any], seed: int, reporter: object) -> dict[str, float]:
        return {"accuracy": 0.5 + 0.1 * ((seed + settings.get("x", 0)) % 2) + 0.001 * settings.get("x", 0)}

    result = tuned(same, space={"first": {"x": [1, 2, 3]}})
    assert result.verdict.startswith("No difference between the best setting and the baseline (x=3: accuracy 0.553,")
    assert {row.rank for row in result.rows} == {1}
    assert tuned(same, seeds=1).verdict.startswith("One seed, so that any difference may be chance.")


def test_a_function_that_does_not_use_its_seed() -> None:
    """Without it, a difference of 0.001 was "better by 0.001 ± 0"."""
    result = tuned(lambda settings, *_: {"accuracy": 0.5 + 0.001 * settings.get("x", 0)}, seeds=3)
    assert result.verdict.startswith("All seeds show exactly the same differences (is `seed` used?), so that any")
    assert {row.low for row in result.rows} == {None}


def test_the_baseline_may_be_the_best() -> None:
    worse = {"first": {"x": [3]}}
    result = tuned(space=worse)
    assert result.best == {}
    assert result.verdict.startswith("The baseline is better than all settings (x=3: ")
    assert tuned(space=worse, direction="minimize").best == {"x": 3}


def test_the_result_as_text_json_and_picture(tmp_path: Path) -> None:
    result = tuned()
    head, best, *_ = str(result).splitlines()
    assert head.split()[:3] == ["rank", "settings", "accuracy"]
    assert best.split()[:3] == ["1", "x=2,", "y=0.5"]
    assert best.endswith("2 of 2")
    assert "+0.1100" in best
    result.save(tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())
    assert [row["settings"] for row in found["rows"]] == [row.settings for row in result.rows]
    assert len(found["runs"][0]["curve"]) == 4
    assert sorted(tmp_path.iterdir()) == [tmp_path / "found.json"], "no draft is left"
    assert str(Result.load(tmp_path / "found.json")) == str(result)
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ValueError, match="`path` must be a result of `tune` of format 1, got"):
        Result.load(tmp_path / "other.json")
    result.plot(tmp_path / "found.svg", command="python search.py")
    picture = (tmp_path / "found.svg").read_text()
    assert picture.count("<path") > 50
    result.plot(tmp_path / "found.png")
    assert (tmp_path / "found.png").stat().st_size > 20_000


def test_settings_and_large_values_are_saved_as_they_are(tmp_path: Path) -> None:
    """With six digits, the best setting in the file was one that had not been run, and two costs were the same."""
    costs = {0.1234567: 1234567.0, 0.1234568: 1234568.0}
    space = {"first": {"x": list(costs)}}
    options: dict[str, Any] = {"metric": "cost", "direction": "minimize", "seeds": 1}
    result = tuned(lambda settings, *_: {"cost": costs.get(settings.get("x"), 2e6)}, space=space, **options)
    result.save(tmp_path / "found.json")
    loaded = Result.load(tmp_path / "found.json")
    assert loaded.best == result.best == {"x": 0.1234567}
    assert [row.rank for row in loaded.rows] == [1, 2, 3]


def test_lists_are_trained_with() -> None:
    """RandAugment and mixes really reach the module, and warnings come while it runs."""
    base = [ga.RandomHorizontalFlip(), ga.ToDtype(torch.float32, scale=True)]
    seen: list[tuple[int, bool]] = []

    def learn(steps: Any, seed: int, reporter: Any) -> None:
        _, targets = ga.Augment(steps, seed=seed)(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4))
        seen.append((len(steps), targets.ndim == 2))
        mixes = isinstance(steps[-1], ga.RandomChoice)
        for epoch in range(3):
            reached = 0.1 if mixes else 0.2 + 0.1 * epoch + 0.01 * len(steps)
            reporter.report(accuracy=reached, loss=2.0, sample_loss=range(30))

    space = {"randaugment": {"num_ops": [1]}, "mixing": {"mix_p": [1.0]}}
    result = tuned(learn, recipe=base, space=space, num_classes=4, seeds=1)
    assert seen == [(2, False), (3, False), (4, True)]
    assert [(run.settings, one.id) for run, one in result.warnings()] == [
        ({"num_ops": 1, "mix_p": 1.0}, "mixing-too-high")
    ]
    assert [one["index"] for one in result.review] == list(range(29, 9, -1))
    assert "Training samples to review" in str(result)


# ---- what fails ------------------------------------------------------------------------------------------------------


def faulty(settings: dict[str, Any], seed: int, reporter: object) -> Iterator[dict[str, float]]:
    yield {"accuracy": 0.5 + 0.1 * settings.get("x", 0)}
    if settings.get("x") == 1 and seed == 1:
        raise OSError("the disk is full")
    yield {"accuracy": float("nan") if settings.get("x") == 2 else 0.6}


@pytest.mark.parametrize("how", ["returns", "yields"])
def test_an_epoch_that_is_given_twice_is_an_error(how: str) -> None:
    def returns(settings: object, seed: int, reporter: Any) -> dict[str, float]:
        reporter.report(accuracy=0.5)
        return {"accuracy": 0.5}

    def yields(settings: object, seed: int, reporter: Any) -> Iterator[dict[str, float]]:
        for _ in range(2):
            reporter.report(accuracy=0.5)
            yield {"accuracy": 0.5}

    reporter = Reporter()
    with pytest.raises(ValueError, match=rf"one that calls reporter.report and also {how} values. Do one of the two."):
        run({"returns": returns, "yields": yields}[how], {}, 0, reporter)


def test_a_run_that_fails_is_said_and_the_others_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    result = tuned(faulty, space={"first": {"x": [1, 2, 3]}}, quiet=False)
    failed = {(run.settings["x"], run.seed): run for run in result.runs if run.state == "failed"}
    assert set(failed) == {(1, 1), (2, 0), (2, 1)}
    assert failed[1, 1].error == "OSError: the disk is full"
    assert 'raise OSError("the disk is full")' in failed[1, 1].traceback
    assert "`accuracy` must be a finite number in epoch 2, got nan" in failed[2, 0].error
    assert failed[2, 0].curve == [{"accuracy": 0.7}]
    printed = capsys.readouterr().err
    assert "first: x=1, seed 1: FAILED in epoch 2, OSError: the disk is full" in printed
    assert printed.count("Traceback (most recent call last)") == 1, "of the first one"
    ranked = [row.settings for row in result.rows if row.rank is not None]
    assert ranked == [{}, {"x": 3}], "the others have not all seeds"
    assert "1 of 2, 1 failed" in str(result)
    late = [replace(run, value=None, state="failed") if not run.settings and run.seed else run for run in result.runs]
    (line,) = re.findall(r"\n(.*x=3 .* 2 of 2)\n", str(Result(late, "accuracy", "maximize", 2)))
    assert line.split()[-4] == "-", "not compared with a baseline that has not all seeds"
    assert "- x=1, seed 1: OSError: the disk is full" in str(result)


def test_an_interrupted_run_is_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(settings: dict[str, Any], seed: int, reporter: object) -> dict[str, float]:
        if settings:
            raise KeyboardInterrupt
        return {"accuracy": 0.5}

    options: dict[str, Any] = {"space": {"first": {"x": [1]}}, "quiet": False}
    for storage, words in ((tmp_path / "tune.db", "the same call goes on"), (None, "nothing is kept, as there is no")):
        with pytest.raises(KeyboardInterrupt):
            tuned(interrupted, **options, storage=storage)
        assert f"Stopped: {words}" in capsys.readouterr().err
    result = tuned(lambda *_: {"accuracy": 0.6}, **options, storage=tmp_path / "tune.db")
    assert [run.state for run in result.runs] == ["complete"] * 4
    assert [run.value for run in result.runs] == [0.5, 0.5, 0.6, 0.6], "the baseline was complete"
    assert "baseline: 2 of 2 runs are those in " in capsys.readouterr().err


def test_ctrl_c_while_the_end_of_a_run_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna raised UnboundLocalError then, and nothing said how to go on."""
    import optuna

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(optuna.study._optimize, "_tell_with_warning", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tuned()


def test_a_run_that_was_taken_for_dead_is_dropped_and_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a laptop has slept: another process ends the run. The search ended with "Cannot tell a FAIL trial."."""
    taken: list[int] = []

    def slept(settings: dict[str, Any], seed: int, reporter: object) -> Iterator[dict[str, float]]:
        yield {"accuracy": 0.5}
        if not taken:
            taken.append(seed)
            with closing(sqlite3.connect(tmp_path / "tune.db")) as database, database:
                database.execute("update trials set state = 'FAIL' where state = 'RUNNING'")
        yield {"accuracy": 0.6}

    result = tuned(slept, space={"first": {"x": [1]}}, storage=tmp_path / "tune.db", quiet=False)
    assert [(run.state, run.value) for run in result.runs] == [("complete", 0.6)] * 4
    assert "baseline: a run is dropped; without a sign of life for 40 s" in capsys.readouterr().err


def test_a_function_may_change_the_filters_of_warnings() -> None:
    """As compiling kernels in a thread does: then Optuna's warnings were shown, and were errors here."""

    def strict(settings: dict[str, Any], seed: int, reporter: object) -> dict[str, float]:
        warnings.resetwarnings()
        warnings.simplefilter("error")
        return {"accuracy": 0.5}

    assert len(tuned(strict, space={"first": {"x": [1]}}).runs) == 4


def test_a_baseline_that_fails_ends_the_search() -> None:
    def broken(*_: object) -> None:
        raise OSError("no data")

    with pytest.raises(RuntimeError, match="every run of the baseline failed, the first one with OSError: no data"):
        tuned(broken)
    with pytest.raises(RuntimeError, match=r"got one that gives nothing\.$"):
        tuned(lambda *_: None)


def test_the_error_is_that_of_the_last_try(tmp_path: Path) -> None:
    """After a mistake is mended and another one is found, the message is not that of the first one."""

    def first(*_: object) -> None:
        raise OSError("no data")

    def second(*_: object) -> None:
        raise OSError("no labels")

    options: dict[str, Any] = {"storage": tmp_path / "tune.db"}
    remedy = r"To run them once more, give retry_failed=True \(--retry-failed\)\.$"
    with pytest.raises(RuntimeError, match="no data"):
        tuned(first, **options)
    with pytest.raises(RuntimeError, match=rf"no data\. {remedy}"):
        tuned(second, **options)
    with pytest.raises(RuntimeError, match="no labels"):
        tuned(second, **options, retry_failed=True)


def test_an_unknown_metric_ends_the_search_at_once() -> None:
    calls: list[int] = []

    def counted(settings: Any, seed: int, reporter: Any) -> Any:
        calls.append(seed)
        yield from train(settings, seed, reporter)

    with pytest.raises(ValueError, match="`metric` must be one of the metrics that are reported: accuracy, loss, got"):
        tuned(counted, metric="acuracy")
    assert len(calls) == 1


def test_pruned_runs_are_no_results() -> None:
    def falling(settings: dict[str, Any], seed: int, reporter: object) -> Iterator[dict[str, float]]:
        for _ in range(6):
            yield {"accuracy": 0.5 + 0.01 * settings.get("x", 0)}

    result = tuned(falling, space={"first": {"x": list(range(1, 9))}}, prune=2)
    pruned = [run for run in result.runs if run.state == "pruned"]
    assert pruned
    assert all(run.value is None and len(run.curve) == 3 for run in pruned)
    assert all(run.stage == "first" for run in pruned)
    assert all(row.rank is None for row in result.rows if row.settings in [run.settings for run in pruned])


def test_a_storage_goes_on_and_belongs_to_one_search(tmp_path: Path) -> None:
    file = tmp_path / "tune.db"
    space = {"first": {"x": [1, 2]}}
    first = tuned(faulty, space=space, storage=file)
    states = [run.state for run in first.runs]
    calls: list[object] = []

    def mended(settings: dict[str, Any], seed: int, reporter: object) -> dict[str, float]:
        calls.append(settings)
        return {"accuracy": 0.7}

    again = tuned(mended, space=space, storage=file)
    assert ([run.state for run in again.runs], calls) == (states, []), "nothing is run twice"
    assert [run.curve for run in again.runs] == [run.curve for run in first.runs]
    retried = tuned(mended, space=space, storage=str(file), retry_failed=True)
    assert {run.state for run in retried.runs} == {"complete"}
    assert len(calls) == states.count("failed") == 3
    with pytest.raises(ValueError, match=r"`storage` must be that of this search, got .*tune.db, in which `space` of"):
        tuned(mended, space={"first": {"x": [1, 2, 3]}}, storage=file)
    with pytest.raises(ValueError, match="`seeds` of 'tune' was 2 and is now 3"):
        tuned(mended, space=space, storage=file, seeds=3)
    assert tuned(mended, space=space, storage=file, seeds=3, name="other").seeds == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seeds": 0}, "`seeds` must be an integer of at least 1"),
        ({"metric": ""}, "`metric` must be a word"),
        ({"direction": "up"}, "`direction` must be one of 'maximize', 'minimize'"),
        ({"metrics": {"cost": 3}}, "`metrics` must be a mapping from names to functions"),
        ({"prune": 0.5}, "`prune` must be None, a number of epochs, or a pruner of Optuna"),
        ({"storage": "no_such_folder/tune.db"}, "`storage` must be a file in a folder that exists"),
        ({"storage": "postgres9://me:secret@host/db"}, r"`storage` must be the path .*got postgres9://\*\*\*@host"),
        ({"space": {"first": {"x": []}}}, r"`space\['first'\]\['x'\]` must be a list of at least one value"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"^tune: {words}") as error:
        tuned(**options)
    assert "secret" not in str(error.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "tune.db").write_text("no database, but a text of more than sixteen letters")
    with pytest.raises(ValueError, match="`storage` must be the path of a SQLite file, or the URL"):
        tuned(storage=tmp_path / "tune.db")
