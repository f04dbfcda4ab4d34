"""The benchmark suite: turns, figures, tables, charts, files (long: one stored run serves all checks)."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torchvision.transforms.functional import to_pil_image

from benchmarks import peers, suite
from benchmarks.cases import OPS, RECIPES, load
from benchmarks.measure import cpu_seconds, ratio, spread, take_turns, wide
from benchmarks.peers import PEERS, PeerError, enter
from benchmarks.regimes import views as view_regime
from benchmarks.regimes.loaders import CASES, Files, copies, open_way
from benchmarks.regimes.op_regimes import contest
from benchmarks.regimes.scaling import PASSES, parts, scaling
from benchmarks.regimes.sent import counted
from benchmarks.regimes.targets import CASES as TARGET_CASES
from benchmarks.regimes.targets import SMALL, batches, check, targets
from benchmarks.regimes.turns import calls, check_equal, turns
from benchmarks.report import tables
from benchmarks.worker_pool import WorkerPool
from gpuaug.data.parts import is_installed
from gpuaug.demo.photographs import photographs
from tests.support.files import encode
from tests.support.ops import ROWS
from tests.support.ops.surface import check_timed
from tests.support.pages import SHELL, blocks, commands

ROOT = Path(__file__).parents[2]
OURS, THEIRS = "gpuaug", "torchvision v2, tensors"


def row(case: str, who: str, seconds: list[float], **more: Any) -> dict[str, Any]:
    return {"case": case, "who": who, "threads": 1, "images": 10, "seconds": seconds, "work": "", **more}


def a_run() -> dict[str, Any]:
    """A run as the suite writes it, with a loss, a wide spread, less work, other pixels, an absence and a failure."""
    steady, slow = [0.1, 0.1, 0.1], [0.4, 0.4, 0.4]
    ops = [
        row("RandomHorizontalFlip", OURS, steady, difference=0.0),
        row("RandomHorizontalFlip", THEIRS, [0.05, 0.05, 0.05], difference=0.0),
        row("Hue", OURS, steady, difference=0.0),
        row("Hue", THEIRS, [0.2, 0.4, 0.9], difference=0.0),
        row("Hue", "DALI", slow, difference=8.8),
        row("Hue", "torchvision v2, batch", [0.05, 0.05, 0.05], difference=0.0, less=True),
    ]
    recipes = [
        {"case": "deterministic", "who": THEIRS, "threads": 1, "difference": 0.25},
        row("crop + flip", OURS, steady),
        row("crop + flip", THEIRS, slow),
    ]
    loaders = [
        row("RandAugment", OURS, steady, group="files"),
        row("RandAugment", "DALI", slow, group="files"),
        row("RandAugment", f"{OURS}, packed raw", [0.02, 0.02, 0.02], group="packed raw"),
        row("raw images", OURS, steady, group="raw images"),
        row("raw images", f"{OURS}, packed raw", [0.01, 0.01, 0.01], group="raw images"),
    ]
    training = [
        row("ResNet-18", OURS, steady, waited=[0.05, 0.05, 0.05]),
        row("ResNet-18", "DALI", slow, waited=[0.1] * 3),
    ]
    scaling = [row("batch", OURS, steady, at=10), row("batch", "read and write only", [0.05] * 3, at=10)]
    times = {"draw": 0.01, "crop + flip": 0.05, "RandAugment": 0.07, "to floats": 0.1}
    scaling += [row("passes", who, [seconds] * 3, at="RandAugment") for who, seconds in times.items()]
    in_turn = {"cpu": [0.1] * 3, "faults": [1200, 7, 3]}
    turns = [row("sizes in turn", who, steady, **in_turn) for who in (OURS, "one after another")]
    missing = [{"who": "FFCV", "case": "Hue", "threads": 1, "error": "No module named 'ffcv'"}]
    return {
        "schema": suite.SCHEMA,
        "created": "2026-01-02T03:04:05+00:00",
        "plan": "quick",
        "device": "cpu",
        "data": "photographs",
        "wall_s": 90.0,
        "load": 0.1,
        "pace": [1.0, 1.3],
        "machine": {"processor": "Test", "cores": 2, "memory_gb": 8.0, "gpu": None, "system": "Linux"},
        "versions": {"python": "3.11", "torch": "2.9"},
        "regimes": {
            "ops": {"rows": ops, "absent": missing},
            "recipes": {"rows": recipes, "absent": []},
            "loaders": {"rows": loaders, "absent": []},
            "training": {"rows": training, "absent": []},
            "scaling": {"rows": scaling, "absent": []},
            "turns": {"rows": turns, "absent": []},
        },
        "failed": {"loaders, 2 cores": "its process ended with -9"},
    }


# ---- measuring -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ROWS, ids=lambda op: op.__name__)
def test_every_op_is_timed_as_its_row_says(op: type[Any]) -> None:
    check_timed(op, ROWS[op])


def test_contestants_take_turns_in_both_orders_and_the_first_is_not_kept() -> None:
    order: list[str] = []
    taken = take_turns({name: lambda name=name: order.append(name) for name in "ab"}, rounds=3)
    assert order == ["b", "a", "a", "b", "b", "a", "a", "b"]
    assert {name: len(seconds) for name, seconds in taken.items()} == {"a": 3, "b": 3}


def test_a_time_limit_leaves_three_rounds() -> None:
    assert len(take_turns({"a": lambda: None}, rounds=50, seconds=0.0)["a"]) == 3


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that slows down hits both: the ratio stays."""
    assert ratio([2.0, 20.0, 4.0], [1.0, 10.0, 2.0]) == 2.0


def test_spread_is_half_the_quartiles_distance() -> None:
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(1 / 3)
    assert wide([1.0, 1.0, 2.0, 2.0, 2.0])
    assert not wide([1.0, 1.01, 1.02])
    assert wide([1.0, 1.45])  # of few rounds it is the extremes' distance
    assert not wide([1.0, 1.0, 1.0, 1.0, 1.45])


def test_who_raises_in_a_turn_is_out_and_the_others_go_on() -> None:
    calls = []

    def fails() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("no more")

    lost: dict[str, Exception] = {}
    taken = take_turns({"good": lambda: None, "bad": fails}, rounds=3, lost=lost)
    assert {name: len(seconds) for name, seconds in taken.items()} == {"good": 3}
    assert str(lost["bad"]) == "no more"
    with pytest.raises(ZeroDivisionError):
        take_turns({"a": lambda: 1 / 0}, rounds=1)


def test_a_contest_checks_times_and_reports_who_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "Nothing", "nowhere:Nobody")
    names = [OURS, THEIRS, "triton-augment", "Nothing"]
    found = contest("ops", photographs()[:4], names, ["RandomHorizontalFlip", "MixUp"], rounds=2, batch=4)
    who = {(one["who"], one["case"]) for one in found["rows"]}
    assert who == {(OURS, "RandomHorizontalFlip"), (THEIRS, "RandomHorizontalFlip"), (OURS, "MixUp")}
    assert all(len(one["seconds"]) == 2 and one["images"] == 4 for one in found["rows"])
    assert [one["difference"] for one in found["rows"]][:2] == [0.0, 0.0]
    absent = {one["who"]: one["error"] for one in found["absent"]}
    assert "benchmarks.peers.nowhere" in absent["Nothing"]
    assert absent[THEIRS] == "mixes work on batches"
    assert "triton-augment" in absent


def test_a_contestant_that_makes_something_else_is_put_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.peers import v2

    monkeypatch.setattr(v2.TorchvisionPil, "tensors", lambda self, results: [torch.zeros(3, 255, 256) for _ in results])
    found = contest("ops", photographs()[:2], [OURS, "torchvision v2, PIL"], ["RandomInvert"], rounds=1)
    assert [one["who"] for one in found["rows"]] == [OURS]
    assert found["absent"][0]["error"].startswith("made 2 images of {(3, 255, 256)}")


def test_recipes_are_compared_without_chance_first() -> None:
    found = contest("recipes", photographs()[:3], [OURS, THEIRS, "torchvision v2, PIL"], ["crop + flip"], rounds=1)
    parity = {one["who"]: one["difference"] for one in found["rows"] if one["case"] == "deterministic"}
    assert parity[THEIRS] == 0
    assert parity[OURS] < 0.01
    assert parity["torchvision v2, PIL"] < 1
    assert len([one for one in found["rows"] if "seconds" in one]) == 3


def test_contestants_of_one_image_get_processes() -> None:
    images = photographs()[:4]
    with WorkerPool(2, images, 4) as pool:
        pool.run(THEIRS, "recipes", "crop + flip")()
        pool._processes[0].kill()
        pool._processes[0].join()
        with pytest.raises((PeerError, OSError)):
            pool.run(THEIRS, "recipes", "crop + flip")
    with WorkerPool(1, images, 4) as pool, pytest.raises(PeerError, match="mixes work on batches"):
        pool.run(THEIRS, "ops", "MixUp")


def test_what_is_chosen_once_for_a_batch_is_less_work() -> None:
    peer = enter("Kornia", 1)
    assert peer.differs("RandAugment")[1]
    assert not peer.differs("ColorJitter")[1]


def test_tables_and_charts_do_without_us(tmp_path: Path) -> None:
    """If gpuaug itself failed, the rest is still shown."""
    run = a_run()
    for found in run["regimes"].values():
        found["rows"] = [one for one in found["rows"] if one["who"] != OURS or one["case"] in ("batch", "passes")]
    assert "failed" in shown(run)
    pytest.importorskip("matplotlib")
    from benchmarks.report.plots import draw

    assert draw(run, tmp_path)


def test_we_have_every_op_and_recipe() -> None:
    peer = enter(OURS, 1)
    batch = peer.prepare([image[:, :256, :256] for image in photographs()[:2]], 2)
    for case in OPS:
        assert len(peer.tensors(peer.run(peer.op(case, False), batch))) == 2
    for case in RECIPES:
        assert peer.recipe(case) is not None


def test_passes_add_up() -> None:
    runs = parts(PASSES["SimCLR"], torch.stack([image[:, :128, :128] for image in photographs()[:2]]))
    assert list(runs) == ["draw", "crop + flip", "ColorJitter", "Grayscale", "GaussianBlur", "to floats"]
    assert runs["GaussianBlur"]().dtype == torch.uint8
    assert runs["to floats"]().dtype == torch.float32


def test_scaling_goes_along_each_axis() -> None:
    found = scaling(photographs()[:2], batches=(1, 3), sizes=(32,), numbers=(0, 1), rounds=1, sweeps=("batch", "size"))
    assert [(one["case"], one["at"]) for one in found["rows"]] == [("batch", 1)] * 2 + [("batch", 3)] * 2 + [
        ("size", 32)
    ] * 2


def test_sizes_in_turn_make_no_new_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do they use more than the same calls one after another; on both numbers of threads."""
    buffers = pytest.importorskip("gpuaug.kernels.numba.runtime.buffers")
    made: list[int] = []
    make_room = buffers._make_room
    monkeypatch.setattr(buffers, "_make_room", lambda size: (made.append(size), make_room(size)))
    buffers._kept.clear()
    named = calls(photographs()[:2])
    sizes = {name: call().nbytes for name, (_, call) in named.items()}
    assert len(set(sizes.values())) == len(named)
    assert sorted(made) == sorted(sizes.values())
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for _, call in [*named.values()] * 3:
                call()
    finally:
        torch.set_num_threads(before)
    assert len(made) == len(named), "a storage was made after the first round"


def test_sizes_in_turn_are_compared_with_the_same_calls() -> None:
    found = turns(photographs()[:2], threads=1, rounds=3)["rows"]
    assert [one["who"] for one in found] == [OURS, "one after another"]
    assert all(len(one[name]) == 3 for one in found for name in ("seconds", "cpu", "faults"))
    assert found[0]["images"] == found[1]["images"] == 6 * (64 + 17 + 100 + 32)
    table = shown({**a_run(), "regimes": {"turns": {"rows": found, "absent": []}}})
    assert "Sizes in turn" in table


def test_sizes_in_turn_must_give_the_same_pixels() -> None:
    count = itertools.count()
    call = lambda: torch.full((1,), next(count))  # noqa: E731
    with pytest.raises(AssertionError):
        check_equal([call], [call])


def test_targets_are_checked_and_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.peers.targets import FOLLOWERS, Torchvision

    names = [OURS, f"{OURS}, list", f"{OURS}, images only", THEIRS]
    case = "small images, 20 boxes"
    found = targets(photographs()[:2], names=names, cases=["small images", case], rounds=1)
    who = [(one["case"], one["who"]) for one in found["rows"]]
    assert who == [("small images", OURS), ("small images", THEIRS), *((case, name) for name in names)]
    assert not found["absent"]
    assert {one["images"] for one in found["rows"]} == {SMALL[0]}
    run = {**a_run(), "regimes": {"targets": found}}
    (grid,) = (grid for regime, grid in tables.grids(run) if regime == "targets")
    assert [row[0] for row in grid.rows] == ["small images", case]
    assert any(
        note.startswith(f"What the targets of a batch take beside its images, ms: {case} ") for note in grid.notes
    )
    batch = batches(photographs()[:2])["mask + 10 boxes"]
    follower = FOLLOWERS[OURS](batch)
    check(follower, batch)
    made = follower.results(list(follower.run()))
    less = [{**made[0], "boxes": made[0]["boxes"][:-1]}, *made[1:]]
    monkeypatch.setattr(follower, "results", lambda _: less)
    with pytest.raises(PeerError, match=r"made boxes of torch.float32 \(9, 4\), not torch.float32 \(10, 4\)"):
        check(follower, batch)
    monkeypatch.setattr(Torchvision, "results", lambda self, made: [])
    out = targets(photographs()[:2], names=[THEIRS], cases=[TARGET_CASES[0]], rounds=1)["absent"]
    assert out[0]["error"] == "made 0 images, not 64"


def test_views_are_checked_and_timed() -> None:
    found = view_regime.views(photographs()[:2], cases=["DINO, 2 + 8 crops"], batch=9, rounds=1)
    assert [one["who"] for one in found["rows"]] == [OURS, view_regime.CALLS, THEIRS]
    assert {one["images"] for one in found["rows"]} == {9}
    assert not found["absent"]
    (grid,) = (grid for regime, grid in tables.grids({**a_run(), "regimes": {"views": found}}) if regime == "views")
    assert grid.columns == ["views of each image", OURS, "a call each", "tv tens."]
    good = [torch.rand(3, 3, side, side) for side in view_regime.CASES["SimCLR pair"]]
    view_regime.check("SimCLR pair", 3, good)
    for wrong in (good[:1], [good[0], good[1][1:]], [good[0], good[1].half()], [good[0], good[1] * 0]):
        with pytest.raises(PeerError, match="made "):
            view_regime.check("SimCLR pair", 3, wrong)


def test_no_images_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"benchmarks: `data` must hold .*\.jpg.* files, found none in"):
        load(tmp_path, 3)


# ---- what becomes of a run -------------------------------------------------------------------------------------------


def shown(run: dict[str, Any], width: int = 80) -> str:
    out = io.StringIO()
    tables.show(Console(width=width, file=out), run)
    return out.getvalue()


def test_tables_mark_what_must_be_known() -> None:
    text = shown(a_run())
    assert max(map(len, text.splitlines())) <= 80
    flip, hue = (
        next(line for line in text.splitlines() if line.startswith(name)) for name in ("HorizontalFlip", "Hue")
    )
    assert flip.split() == ["HorizontalFlip", "10.0", "0.500"]
    assert hue.split() == ["Hue", "10.0", "4.0~", "4.00!", "0.500*"]
    assert "Absent: ops: FFCV, Hue: No module named 'ffcv'" in text
    assert "failed: its process ended with -9" in text


def test_losses_are_told_whoever_it_is() -> None:
    found = tables.losses(a_run())
    assert found == [
        "ops, 1 core, RandomHorizontalFlip: torchvision v2, tensors takes 0.50 times as long",
        "ops, 1 core, Hue: torchvision v2, batch takes 0.50 times as long*",
    ]


def test_passes_are_differences() -> None:
    rows = [one for one in a_run()["regimes"]["scaling"]["rows"] if one["case"] == "passes"]
    (found,) = tables.stacked(rows).values()
    assert {name: round(ms, 6) for name, ms in found} == {
        "draw": 1.0,
        "crop + flip": 5.0,
        "RandAugment": 2.0,
        "to floats": 3.0,
    }


def test_a_machine_that_changes_its_speed_is_told() -> None:
    run = a_run()
    assert "changed by 30%" in str(tables.drift(run))
    run["pace"] = [1.0, 1.05]
    assert tables.drift(run) is None


def test_csv_has_a_line_for_each_figure_with_machine_and_versions(tmp_path: Path) -> None:
    tables.write_csv(tmp_path / "run.csv", a_run())
    with (tmp_path / "run.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 6 + 2 + 5 + 2 + 6 + 2
    first = lines[0]
    assert (first["regime"], first["who"], float(first["ms_per_image"])) == ("ops", OURS, 10.0)
    assert "Test, 2 cores" in first["machine"]
    assert "torch 2.9" in first["versions"]


def test_charts_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.report.plots import draw

    files = draw(a_run(), tmp_path)
    assert [file.name for file in files] == [
        "ops.png", "recipes-1.png", "loaders-1.png", "loaders-1-raw.png", "training-1.png", "scaling.png", "passes.png",
    ]  # fmt: skip
    assert all(file.read_bytes()[:4] == b"\x89PNG" and file.stat().st_size > 5000 for file in files)


def test_markdown_is_a_table() -> None:
    for _, grid in tables.grids(a_run()):
        lines = tables.markdown(grid).splitlines()
        assert len({line.count("|") for line in lines}) == 1


# ---- the command -----------------------------------------------------------------------------------------------------


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    environment = {**os.environ, "COLUMNS": "80", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_a_stored_run_is_shown_and_written(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(a_run()))
    done = run_command("--show", str(tmp_path / "run.json"), "--csv", str(tmp_path / "new" / "run.csv"))
    assert done.returncode == 0, done.stderr
    assert "Another library is faster in these rows" in done.stdout
    assert (tmp_path / "new" / "run.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("walking",), f"a regime must be one of {', '.join(suite.REGIMES)}, got walking"),
        (("--quick", "--full"), "--quick and --full cannot be combined"),
        (("--device", "tpu"), "`device` must be cpu or cuda, got tpu"),
        (("--show", "pyproject.toml"), "--show takes a file that --json of this version has written"),
        (("--json", "/dev/null/x.json"), "/dev/null"),
    ],
)
def test_bad_commands_get_a_sentence(arguments: tuple[str, ...], error: str) -> None:
    done = run_command(*arguments)
    assert done.returncode == 1
    assert error in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_part_that_dies_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    folder = Path(tables.__file__).parents[2] / "gpuaug" / "demo" / "assets"
    parts_ = [
        suite.Part("recipes", 1, images=2, rounds="many"),
        suite.Part("scaling", 1, sweeps=("batch",), batches=(2,), rounds=1),
    ]
    found = suite.run(parts_, folder, "cpu", "quick", lambda part, at: heard.append(part))
    assert found["failed"]["recipes, 1 core"].startswith("TypeError")
    assert len(found["regimes"]["scaling"]["rows"]) == 2
    assert "scaling" in heard
    assert (
        found["versions"]["torch"] == torch.__version__.split("+")[0] or found["versions"]["torch"] == torch.__version__
    )


@pytest.mark.parametrize("plan", ["quick", "full"])
def test_the_commands_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: str) -> None:
    """`gpuaug bench` as it stands in docs/benchmarks.md, with one small part in place of its plan."""
    from typer.testing import CliRunner

    from gpuaug.cli.main import app

    code = "".join(block.code for block in blocks(ROOT / "docs" / "benchmarks.md") if block.language in SHELL)
    (words,) = [words for words in commands(code) if words[:3] == ["gpuaug", "bench", f"--{plan}"]]
    monkeypatch.chdir(tmp_path)
    folder_of_photographs(tmp_path).rename("FOLDER_WITH_CLASS_FOLDERS")
    monkeypatch.setitem(suite.PLANS, plan, [suite.Part("scaling", 1, sweeps=("batch",), batches=(2,), rounds=1)])
    done = CliRunner().invoke(app(), words[1:])
    assert done.exit_code == 0, done.output
    assert f"--{plan}, FOLDER_WITH_CLASS_FOLDERS, " in done.output
    assert Path("charts/scaling.png").stat().st_size > 5000
    if plan == "full":
        assert len(json.loads(Path("run.json").read_text())["regimes"]["scaling"]["rows"]) == 2
        assert len(Path("run.csv").read_text().splitlines()) == 3


def test_gpuaug_bench_is_the_same_command() -> None:
    from benchmarks.__main__ import command
    from gpuaug.cli.bench import command as bench

    assert bench is command


def test_every_contestant_says_what_differs() -> None:
    for name in peers.PEERS:
        with contextlib.suppress(PeerError):
            assert enter(name, 1).work


def test_nothing_outlives_a_killed_command(tmp_path: Path) -> None:
    """The children of a regime, and theirs."""
    command = [sys.executable, "-m", "benchmarks", "recipes", "--full"]
    process = subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: len(session(process.pid)) > 2)
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not session(process.pid))


def session(leader: int) -> list[int]:
    """Living processes of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(state[3]) == leader and state[0] != "Z":
                found.append(int(folder.name))
    return found


def wait_for(what: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.2)


# ---- what a comparison is made with ----------------------------------------------------------------------------------


def timed(who: str, seconds: list[float], **more: Any) -> dict[str, Any]:
    return {"case": "crop", "who": who, "threads": 1, "images": 10, "seconds": seconds, **more}


@pytest.mark.skipif(not is_installed(), reason="nvImageCodec, which decodes parts, is not installed")
def test_what_workers_send_is_counted(tmp_path: Path) -> None:
    """With regions at most 45 % of the bytes: RandomResizedCrop reads 43 % of the pixels."""
    files = Files(copies(folder_of_photographs(tmp_path), tmp_path / "files", 400), tmp_path, workers=0)
    sent, passes = {}, {}
    torch.manual_seed(3)  # seeds the modules
    for way in (OURS, f"{OURS}, regions"):
        loader = open_way(files, way, CASES[0])
        inner = loader.loader
        with counted(loader) as found:
            passes[way] = sum(len(images) for images, _ in loader)
        assert loader.loader is inner
        sent[way] = found.bytes
    assert set(passes.values()) == {400}
    assert 0.3 * sent[OURS] < sent[f"{OURS}, regions"] <= 0.45 * sent[OURS]
    with counted([1, 2]) as found:
        assert found.bytes == 0


def test_loaders_that_decode_the_crop_only_are_compared_with_the_first() -> None:
    from benchmarks.report.docs import crop_only

    def way(who: str, cores: int, seconds: float, cpu: float, **more: Any) -> dict[str, Any]:
        return {**row("crop + flip", who, [seconds] * 3, cpu=[cpu] * 3, group="files", **more), "threads": cores}

    rows = [
        way(OURS, 2, 0.2, 0.4, sent=200.0), way("DALI", 2, 0.1, 0.1),
        way(OURS, 1, 0.3, 0.4, sent=200.0), way("regions", 1, 0.2, 0.1, sent=90.0),
    ]  # fmt: skip
    text = crop_only({**a_run(), "regimes": {"loaders": {"rows": rows, "absent": []}}, "failed": {}})
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert cells[2:] == [
        ["1", OURS, "33", "1.00", "40.00", "1.00", "1.00"],
        ["1", "regions", "50", "1.50", "10.00", "4.00", "0.45"],
        ["2", OURS, "50", "1.00", "40.00", "1.00", "1.00"],
        ["2", "DALI", "100", "2.00", "10.00", "4.00", ""],
    ]


def test_cpu_seconds_are_those_of_this_process_and_its_children() -> None:
    work = "s = sum(range(10**7)); print(s, flush=True); input()"
    before = cpu_seconds()
    with subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        if os.path.exists("/proc/self/stat"):
            assert cpu_seconds() - before > 0.02
        child.communicate(b"\n")


def folder_of_photographs(folder: Path) -> Path:
    """Parts of 3 to 2, as many photographs are, as an ImageFolder."""
    place = folder / "photographs" / "class"
    place.mkdir(parents=True)
    for number, image in enumerate(photographs()):
        (place / f"{number}.jpg").write_bytes(encode(to_pil_image(image[:, :240, :360]), "JPEG"))
    return place.parent


def test_shares_of_bytes_are_told() -> None:
    rows = a_run()["regimes"]["loaders"]["rows"]
    assert not any("Bytes" in note for _, grid in tables.grids(a_run()) for note in grid.notes)
    first = next(one for one in rows if one["who"] == OURS and one["case"] == "RandAugment")
    rows += [{**first, "who": f"{OURS}, regions", "sent": 40.0}]
    first["sent"] = 100.0
    text = shown({**a_run(), "regimes": {"loaders": {"rows": rows, "absent": []}}}, width=200)
    assert "divided by those of the first row of the part: gpuaug, regions 0.40." in text


def test_without_gpuaug_nothing_is_compared() -> None:
    """Neither with another of gpuaug's ways, nor by silence."""
    from benchmarks.report.tables import grids, losses, unmatched

    rows = [
        timed("gpuaug, decodes after the workers", [1.0], group="files"),
        timed("DALI", [0.5], group="files"),
        timed("FFCV, raw", [0.5], group="packed raw"),
        timed("gpuaug, packed raw", [1.0], group="packed raw"),
    ]
    run = {"regimes": {"loaders": {"rows": rows, "absent": []}}}
    rows.insert(0, rows.pop(1))  # DALI's row comes first
    assert unmatched(run) == ["loaders, 1 core, crop"]
    assert losses(run) == ["loaders, 1 core, crop: FFCV, raw takes 0.50 times as long"]
    cells = next(grid for _, grid in grids(run)).rows
    assert [row[2] for row in cells if row[0] == "DALI"] == [""]


def test_rounds_on_both_sides_are_undecided() -> None:
    from benchmarks.report.tables import losses, marks

    own, close, clear = timed("gpuaug", [1.0, 1.0, 1.0]), timed("a", [1.1, 0.98, 1.1]), timed("b", [1.1, 1.12, 1.1])
    assert marks(close, own) == "?"
    assert marks(clear, own) == ""
    run = {"regimes": {"recipes": {"rows": [own, close, clear], "absent": []}}}
    assert losses(run) == ["recipes, 1 core, crop: a takes 1.10 times as long?"]


class Stamped(torch.utils.data.Dataset[Any]):
    """Notes when each sample is made."""

    def __init__(self, count: int) -> None:
        self.made = torch.zeros(count, dtype=torch.float64).share_memory_()

    def __len__(self) -> int:
        return len(self.made)

    def __getitem__(self, index: int) -> Any:
        time.sleep(0.005)
        self.made[index] = time.perf_counter()
        return torch.zeros(3, 8, 8), 0


def test_training_times_the_making_of_what_it_uses() -> None:
    """Of a window's batches about as many are made in it: nobody works ahead of the clock, or after it."""
    from benchmarks.regimes.training import AHEAD, WARM, Trainer

    steps, batch = 10, 4
    dataset = Stamped((WARM + steps + AHEAD) * batch)
    loader = torch.utils.data.DataLoader(dataset, batch, num_workers=2)
    trainer = Trainer("MobileNetV3-Small", "cpu")
    at: list[float] = []

    def step(images: Any, labels: Any) -> None:
        time.sleep(0.02)
        at.append(time.perf_counter())

    trainer.step = step  # type: ignore[method-assign]
    seconds, waited = trainer.run(loader, steps)
    assert len(at) == WARM + steps
    assert seconds == pytest.approx(at[-1] - at[WARM - 1], rel=0.2)
    assert 0 <= waited < seconds
    inside = int(((dataset.made > at[WARM - 1]) & (dataset.made <= at[-1])).sum())
    assert 0.6 * steps * batch <= inside <= 1.4 * steps * batch
    assert (dataset.made > 0).all()  # the epoch was finished


@pytest.mark.parametrize(("shape", "most"), [((3, 4, 4), 5), ((2, 3, 4, 4), 1)])
def test_images_are_kept_until_their_batch_is_there(shape: tuple[int, ...], most: int) -> None:
    """Single images as many as in a batch, of batches the last one, as in a training loop."""
    from benchmarks.peers.peer import exhaust

    alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
    seen = []

    def results() -> Iterator[torch.Tensor]:
        for _ in range(12):
            seen.append(len(alive))
            one = torch.zeros(shape)
            alive.add(one)
            yield one
            del one

    exhaust(results(), 5)
    assert max(seen) == most
    assert len(seen) == 12
