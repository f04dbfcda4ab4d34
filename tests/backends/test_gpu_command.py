"""`python -m benchmarks.gpu`: the dry run, and that parts fail alone (long: one command, all its parts)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.gpu import carry, charts, correctness, sanitizer, tuning
from benchmarks.gpu.__main__ import Plan, main, run_all
from benchmarks.gpu.clock import Timed
from benchmarks.gpu.parts import FULL, PARTS, RESERVE, SHORT, Part, share, size
from benchmarks.gpu.results import Poisoned, Results, arguments, short
from benchmarks.gpu.summary import LINES, WIDTH, aims, summary

ROOT = Path(__file__).parents[2]
LARGEST = 16 << 20  # bytes of a file
KERNELS = {
    name
    for file in (ROOT / "gpuaug" / "kernels" / "triton").glob("*.py")
    for name in re.findall(r"^def (\w+_kernel)\(", file.read_text(), re.MULTILINE)
}


# ---- The dry run -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dry(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where a dry run put its files, and what it printed."""
    pytest.importorskip("triton", reason="Triton is not installed")
    out = tmp_path_factory.mktemp("gpu") / "out"
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(out), "--dry", "--budget", "1800"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-6000:]
    return out, done.stdout


def found(out: Path) -> dict[str, Any]:
    return {part.name: json.loads((out / f"{part.name}.json").read_text()) for part in PARTS}


def test_the_dry_run_does_every_part(dry: tuple[Path, str]) -> None:
    for part in PARTS:
        result = found(dry[0])[part.name]
        if find_spec(part.runs) is None:  # it comes with another change
            assert (result["status"], result["rows"]) == ("skipped", [])
            continue
        assert (result["status"], result["failed"], result["exit"]) == ("done", [], 0), part.name
        assert result["rows"], part.name
        assert result["dry"] is True


def test_its_files_fit_the_way_back(dry: tuple[Path, str]) -> None:
    names = {path.name for path in dry[0].iterdir()}
    assert names - {"charts.png"} == {*(f"{part.name}.json" for part in PARTS), "summary.txt"}
    assert len(names) <= 8
    assert all(path.is_file() and path.stat().st_size < LARGEST for path in dry[0].iterdir())


def test_its_summary_is_one_screen(dry: tuple[Path, str]) -> None:
    text = (dry[0] / "summary.txt").read_text()
    assert text.startswith("DRY RUN")
    assert "FAILED  nothing" in text
    assert len(text.splitlines()) <= LINES
    assert max(map(len, text.splitlines())) <= WIDTH
    assert text in dry[1]


def test_it_launches_every_kernel(dry: tuple[Path, str]) -> None:
    (row,) = found(dry[0])["sanitizer"]["rows"]
    assert {word.split()[0] for word in row["launched"].split(", ")} == KERNELS


def test_it_sees_every_test_of_a_device(dry: tuple[Path, str]) -> None:
    rows = found(dry[0])["correctness"]["rows"]
    tests = [row for row in rows if "test" in row]
    assert len(tests) > 250
    assert {row["outcome"] for row in tests} == {"skipped"}
    assert rows[-1]["tests"] == len(tests)


def test_it_sweeps_over_the_kernels_of_the_recipes(dry: tuple[Path, str]) -> None:
    rows = found(dry[0])["tuning"]["rows"]
    assert {row["kernel"] for row in rows if row.get("best")} == {"crop", "run_fused", "statistics", "finish"}
    tried = [row for row in rows if "same_bits" in row]
    assert len(tried) >= 4
    assert all(row["same_bits"] for row in tried)


# ---- Parts that go wrong ---------------------------------------------------------------------------------------------

BODY = """
import os, signal, subprocess, sys, time
from benchmarks.gpu.results import run
def measure(results, options):
    results.row(figure=1, left=results.left() > 0, full=options.full)
    {body}
if __name__ == "__main__":
    sys.exit(run(os.path.basename(__file__)[len("planted_"):-3], measure))
"""
FAULTS = {
    "raises": 'raise ValueError("the planted error")',
    "hangs": "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "leaves": "os._exit(3)",
    "poisons": 'results.fail("a", RuntimeError("CUDA error: an illegal memory access")); results.row(n=2)',
    "strays": "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])",
    "floods": 'results.add([{"text": "x" * 1000}] * 30_000)',
    "skips": 'results.skip("no such tool"); return',
    "good": 'results.note("all is well")',
}


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes parts with the bodies of FAULTS."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(*names: str, **limits: float) -> list[Part]:
        for name in names:
            (tmp_path / f"planted_{name}.py").write_text(BODY.format(body=FAULTS[name]))
        shares = {"full": 10, "short": 10, "least": 1, "most": 8, **limits}
        return [Part(name, **shares, module=f"planted_{name}") for name in names]  # type: ignore[arg-type]

    return make


def run(plan: Plan) -> tuple[int, dict[str, Any]]:
    code = run_all(plan)
    return code, {part.name: json.loads((plan.out / f"{part.name}.json").read_text()) for part in plan.parts}


def test_no_part_costs_another(plant: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    others = plant(*(name for name in FAULTS if name != "hangs"), full=100, short=100, most=100)
    code, results = run(Plan(tmp_path / "out", 2000, parts=[*plant("hangs"), *others]))  # room for a busy machine
    assert code == 1
    states = {name: result["status"] for name, result in results.items()}
    expected = {"raises": "failed", "hangs": "timeout", "killed": "crashed", "leaves": "crashed", "poisons": "failed"}
    assert states == {**expected, "strays": "done", "floods": "done", "skips": "skipped", "good": "done"}
    assert all(result["rows"][0]["figure"] == 1 for result in results.values())  # what was found before
    whys = {name: [one["error"] for one in result["failed"]] for name, result in results.items()}
    assert whys["raises"] == ["ValueError: the planted error"]
    assert "time limit" in whys["hangs"][0]
    assert whys["killed"] == ["its process ended with SIGKILL"]
    assert whys["leaves"] == ["its process ended with status 3"]
    assert len(whys["poisons"]) == 1
    assert len(results["poisons"]["rows"]) == 1  # nothing is measured on a lost device
    assert results["poisons"]["poisoned"] is True
    assert "rows were left out" in results["floods"]["notes"][0]
    assert (tmp_path / "out" / "floods.json").stat().st_size < LARGEST
    assert results["skips"]["reason"] == "no such tool"
    assert any("the planted error" in line for line in results["raises"]["tail"])
    assert "all is well" in capfd.readouterr().out  # it is shown as it comes
    text = (tmp_path / "out" / "summary.txt").read_text()
    assert text.splitlines()[1] == "FAILED  5"
    assert all(word in text for word in ("the planted error", "SIGKILL", "time limit", "illegal memory access"))


def test_a_part_leaves_nobody_behind(plant: Any, tmp_path: Path) -> None:
    run(Plan(tmp_path / "out", 100, parts=plant("strays")))
    processes = [path for path in Path("/proc").glob("[0-9]*/environ") if path.parent.name != str(os.getpid())]
    mine = f"PYTHONPATH={ROOT}{os.pathsep}{tmp_path}".encode()
    alive = []
    for path in processes:
        try:
            if mine in path.read_bytes():
                alive.append(path)
        except OSError:
            continue
    assert not alive


def test_only_some_parts(plant: Any, tmp_path: Path) -> None:
    parts = plant("raises", "good")
    run(Plan(tmp_path / "out", 100, parts=parts))
    before = (tmp_path / "out" / "raises.json").read_text()
    code, results = run(Plan(tmp_path / "out", 100, parts=parts, only=["good"]))
    assert code == 1  # one that failed before, and was not run again
    assert list(results) == ["good"]
    assert (tmp_path / "out" / "raises.json").read_text() == before
    assert "the planted error" in (tmp_path / "out" / "summary.txt").read_text()


def test_results_of_an_earlier_run_do_not_stay(plant: Any, tmp_path: Path) -> None:
    run(Plan(tmp_path / "out", 100, parts=plant("good", "raises")))
    code, _ = run(Plan(tmp_path / "out", RESERVE / 2, parts=plant("good", "raises")))
    assert code == 0
    assert "the planted error" not in (tmp_path / "out" / "summary.txt").read_text()


def test_the_budget_is_kept(plant: Any, tmp_path: Path) -> None:
    """Parts that would hang for ten minutes; the last has no time."""
    start = time.monotonic()
    parts = plant("hangs", full=10, least=4, most=60) + plant("good", full=0.01, short=0.01, least=6)
    code, results = run(Plan(tmp_path / "out", RESERVE + 5, parts=parts))
    assert time.monotonic() - start < 60
    assert code == 1
    assert (results["hangs"]["status"], results["good"]["status"]) == ("timeout", "skipped")
    assert "no time" in results["good"]["reason"]


def test_without_a_device_the_first_part_says_so(tmp_path: Path, plant: Any) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    parts = [PARTS[0], *plant("good")]
    code, results = run(Plan(tmp_path / "out", 300, parts=[Part("environment", 100, 100, 1, 100), parts[1]]))
    assert code == 1
    assert "no CUDA device" in results["environment"]["failed"][0]["error"]
    assert (results["good"]["status"], results["good"]["reason"]) == ("skipped", "torch sees no CUDA device")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "speeds"], "`only` must be of environment"),
        (["--budget", "0"], "`budget` must be above 0"),
        (["--wheels", "nowhere"], "`wheels` must be a folder"),
    ],
)
def test_what_cannot_be_meant_is_said(
    tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path), *words]) == 2
    assert said in capsys.readouterr().err


# ---- How time is shared ----------------------------------------------------------------------------------------------


def spend(budget: float, used: float = 1.0) -> dict[str, float]:
    """Seconds of each part, if each takes that share of what it is given."""
    left, given = budget, {}
    for number, part in enumerate(PARTS):
        seconds = share(PARTS[number:], left, budget)
        given[part.name] = seconds
        left -= seconds * used
    assert left >= RESERVE - 1e-9 or not any(given.values())
    return given


def test_everything_fits_the_long_budget() -> None:
    given = spend(FULL)
    assert size(FULL) == "full"
    assert all(given[part.name] >= part.least for part in PARTS)
    assert sum(given.values()) <= FULL - RESERVE + 1e-9
    assert sum(part.full for part in PARTS) <= FULL


def test_the_short_budget_has_the_first_parts() -> None:
    given = spend(SHORT)
    assert size(SHORT) == "short"
    assert all(given[part.name] >= part.least for part in PARTS if part.short)
    assert [part.name for part in PARTS if not given[part.name]] == ["sanitizer", "tuning"]
    assert sum(part.short for part in PARTS) <= SHORT


@pytest.mark.parametrize("budget", [FULL, SHORT])
def test_time_that_is_left_goes_to_those_after(budget: float) -> None:
    given, quick = spend(budget), spend(budget, used=0.5)
    assert quick["training"] > given["training"]
    assert quick["sanitizer"] >= PARTS[4].least


@pytest.mark.parametrize("budget", [5, 30, 90, 300, 2000])
def test_other_budgets_are_kept(budget: float) -> None:
    given = spend(budget)
    assert all(not given[part.name] or part.least <= given[part.name] <= part.most for part in PARTS)
    assert bool(given["environment"]) == (budget > RESERVE + PARTS[0].least)


# ---- Results ---------------------------------------------------------------------------------------------------------


def test_a_file_is_whole_after_every_call(tmp_path: Path) -> None:
    results = Results(tmp_path, "speed", 5.0, False)

    def stored() -> dict[str, Any]:
        return json.loads((tmp_path / "speed.json").read_text())

    assert (stored()["status"], stored()["rows"]) == ("running", [])
    results.row(recipe="a", device_us=torch.tensor(1.5), dtype=torch.bfloat16)
    assert stored()["rows"] == [{"recipe": "a", "device_us": 1.5, "dtype": "torch.bfloat16"}]
    results.fail("b", ValueError("x" * 1000))
    assert len(stored()["failed"][0]["error"]) <= 300
    assert stored()["failed"][0]["error"].startswith("ValueError: xxx")
    with pytest.raises(Poisoned):
        results.fail("c", "RuntimeError: CUDA error: unspecified launch failure")
    results.fail("d", "CUDA out of memory")  # which is no reason to stop
    results.note("e")
    assert [one["what"] for one in stored()["failed"]] == ["b", "c", "d"]
    assert 0 < results.left() <= 5.0
    results.close()
    assert stored()["status"] == "failed"
    assert [path.name for path in tmp_path.iterdir()] == ["speed.json"]


def test_arguments_of_a_part() -> None:
    options = arguments("speed", ["--out", "a", "--seconds", "3.5", "--size", "short", "--jpegs", "b"])
    assert (options.out, options.seconds, options.full, options.jpegs) == (Path("a"), 3.5, False, Path("b"))
    assert not arguments("speed", ["--out", "a", "--dry"]).full


def test_errors_are_shortened_in_the_middle() -> None:
    assert short("a" * 400 + "z") == "a" * 148 + " ... " + "a" * 146 + "z"


# ---- Summary and charts ----------------------------------------------------------------------------------------------


def a_run(failures: int = 0) -> dict[str, Any]:
    """What a whole run would have found."""
    ways = {"gpuaug": 0.5, "gpuaug graph": 0.4, "read and write": 0.3, "torchvision batch": 4.0, "kornia": 20.0}
    recipes = [name + mix for name in ("crop + flip", "RandAugment", "TrivialAugment", "ColorJitter", "SimCLR")
               for mix in ("", " + MixUp/CutMix")]  # fmt: skip
    speed: list[Any] = [
        {"recipe": recipe + kind, "batch": batch, "way": way, "device_us": us, "check": ""}
        for kind in ("", ", ragged") for batch in (256, 64) for recipe in recipes for way, us in ways.items()
    ]  # fmt: skip
    speed.append({"aim": "3x as fast as torchvision batch per image, batch 256", "met": True, "measured": 8.0})
    training: list[Any] = [
        {"network": network, "batch": 256, "source": source, "images_s": 3000.0}
        for network in ("resnet50", "resnet18") for source in ("cached", "augment", "DeviceLoader over JPEGs")
    ]  # fmt: skip
    training.append({"aim": "augmentation takes at most 1% of a resnet50 step", "met": False, "measured": 0.0123})
    rows = {
        "environment": [
            {"gpu": "A GPU"},
            {"torch": "2.11", "triton": "3.6"},
            {"copy": "d", "gb_s": 1.0, "largest": True},
        ],
        "correctness": [{"test": "a", "outcome": "passed"}, {"test": "b", "outcome": "failed"}],
        "speed": speed,
        "training": training,
        "sanitizer": [{"tool": "memcheck", "errors": 0}],
        "tuning": [{"kernel": "statistics", "variant": "16 x 64, 8 warps", "gain": 1.2, "best": True}],
    }
    run = {
        name: {"part": name, "status": "done", "taken_s": 9.0, "failed": [], "rows": own} for name, own in rows.items()
    }
    run["correctness"]["failed"] = [
        {"what": f"test_gpu.py::test_{n}[{'x' * 90}]", "error": "y"} for n in range(failures)
    ]
    return run


@pytest.mark.parametrize("failures", [0, 1, 100])
def test_a_summary_is_one_screen_and_begins_with_what_failed(failures: int) -> None:
    run = a_run(failures)
    lines = summary(run, list(run), 400, 480).splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= WIDTH
    assert lines[0] == "gpuaug on A GPU, torch 2.11, triton 3.6; 400 of 480 s"
    assert lines[1] == f"FAILED  {failures or 'nothing'}"
    text = "\n".join(lines)
    assert "MISSED       1.23%    at most 1% of a resnet50 step" in text
    assert "met          8.00x    3x as fast as torchvision batch" in text
    assert "1 passed, 1 failed" in text
    assert "ragged" not in text
    assert re.search(r"RandAugment \+ mix +0\.5 +0\.4 +0\.3 +4 +20 +-", text)


def test_aims_that_were_not_measured_are_named() -> None:
    assert {met for _, met, _ in aims({})} == {None}
    assert len(aims({})) == 5
    assert summary({}, ["speed"], 1, 480).count("not measured") == 5


def test_charts_are_drawn_from_the_rows(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert charts.draw(a_run(), tmp_path / "charts.png")
    assert (tmp_path / "charts.png").read_bytes().startswith(b"\x89PNG")
    assert not charts.draw({}, tmp_path / "charts.png")
    assert not list(tmp_path.iterdir())


# ---- Correctness -----------------------------------------------------------------------------------------------------

PLANTED = """
import os, time, pytest
pytestmark = pytest.mark.gpu
def test_passes(): pass
def test_fails(): assert 1 == 2, "the planted failure"
def test_kills(): os.kill(os.getpid(), 9)
def test_hangs(): time.sleep(600)
def test_is_skipped(): pytest.skip("no reason")
@pytest.mark.parametrize("n", range(5))
def test_many(n): pass
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_test_that_hangs_or_kills_its_process_is_named(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if workers:
        pytest.importorskip("xdist")
    monkeypatch.setattr(correctness, "PATIENCE_S", 10.0)
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        monkeypatch.delenv(name)  # of the workers of this very run
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "test_planted.py").write_text(PLANTED)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu: needs a device\n")
    results = Results(tmp_path / "out", "correctness", 300, False)
    correctness.run_tests(results, [str(tmp_path / "test_planted.py")], workers, 300, dry=True)
    rows = {row["test"].split("::")[-1]: row["outcome"] for row in results.found["rows"] if "test" in row}
    failed = {one["what"].split("::")[-1]: one for one in results.found["failed"]}
    assert set(failed) == {"test_fails", "test_kills", "test_hangs"}
    assert "the planted failure" in failed["test_fails"]["error"]
    assert "test_hangs" in failed["test_hangs"]["lines"].split("Timeout")[1]  # where it hung
    assert Counter(rows.values())["passed"] == 6
    assert rows["test_is_skipped"] == "skipped"
    assert results.found["rows"][-1]["tests"] == 10


def test_no_tests_are_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "test_planted.py").write_text("import nothing_like_this\n")
    results = Results(tmp_path / "out", "correctness", 100, False)
    correctness.run_tests(results, [str(tmp_path / "test_planted.py")], 0, 100, dry=True)
    assert any("nothing_like_this" in one["error"] for one in results.found["failed"])


# ---- Sanitizer -------------------------------------------------------------------------------------------------------

MEMCHECK = """========= COMPUTE-SANITIZER
========= Invalid __global__ read of size 4 bytes
=========     at crop_kernel+0x5a0 in crop.py:250
=========     by thread (3,0,0) in block (0,1,0)
=========     Address 0x7f out of bounds
=========         Host Frame: cuLaunchKernelEx [0x3] in libcuda.so.1
=========
========= Invalid __global__ write of size 4 bytes
=========     at void at::native::vectorized_elementwise_kernel<4>(int)+0x80
=========     by thread (3,0,0) in block (0,1,0)
=========
launched: crop_kernel 2, run_fused_kernel 1
========= ERROR SUMMARY: 2 errors
"""
RACES = """========= COMPUTE-SANITIZER
========= Error: Race reported between Write access at statistics_kernel+0x1 in statistics.py:90
=========     and Read access at statistics_kernel+0x9 in statistics.py:91 [16 hazards]
=========
launched: statistics_kernel 2
========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)
"""
CLEAN = "========= COMPUTE-SANITIZER\nlaunched: statistics_kernel 2\n========= ERROR SUMMARY: 0 errors\n"
REFUSED = "========= COMPUTE-SANITIZER\n========= Error: Device not supported. Please refer to the documentation.\n"


def test_only_errors_of_our_kernels_count() -> None:
    verdict = sanitizer.read(MEMCHECK, KERNELS)
    assert (verdict.errors, verdict.others, verdict.total) == ({"crop_kernel": 1}, 1, 2)
    assert "crop.py:250" in verdict.texts[0]
    assert verdict.launched == "crop_kernel 2, run_fused_kernel 1"
    verdict = sanitizer.read(RACES, KERNELS)
    assert (verdict.errors, verdict.others, verdict.total) == ({"statistics_kernel": 1}, 0, 1)
    assert sanitizer.read(REFUSED, KERNELS).refused
    verdict = sanitizer.read(CLEAN, KERNELS)
    assert (verdict.errors, verdict.others, verdict.total) == ({}, 0, 0)


@pytest.mark.parametrize(
    ("output", "failed", "errors"),
    [(MEMCHECK, True, 1), (CLEAN, False, 0), (REFUSED, False, None), ("a crash\n", True, 0)],
    ids=["errors", "clean", "refused", "crash"],
)
def test_the_tool_is_run_and_judged(
    output: str, failed: bool, errors: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    (tmp_path / "output").write_text(output)
    tool = tmp_path / sanitizer.NAME
    tool.write_text(f'#!/bin/sh\ntest "$1" = --tool && cat "{tmp_path}/output"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert sanitizer.find() == str(tool)
    results = Results(tmp_path / "out", "sanitizer", 60, False)
    sanitizer.watch(results, str(tool))
    assert results.failed is failed
    assert sorted(row["tool"] for row in results.found["rows"]) == sorted(sanitizer.TOOLS)
    assert {row.get("errors") for row in results.found["rows"]} == {errors}


# ---- Tuning ----------------------------------------------------------------------------------------------------------


def a_launch(arguments: tuple[Any, ...], **constants: Any) -> tuning.Kept:
    names = ["out", "height", "width"]
    kernel = SimpleNamespace(__name__="run_fused_kernel", arg_names=names, warmup=lambda *_, **__: None)
    return tuning.Kept("a", kernel, (49, 3, 1), arguments, 4, {"BH": 32, "BW": 32, **constants}, [arguments[0]])


def test_a_variant_has_as_many_programs_as_tiles() -> None:
    one = a_launch((torch.zeros(4), 224, 224))
    assert one.sizes(tuning.Variant(16, 64, 4)) == ((14 * 4, 3, 1), {"BH": 16, "BW": 64})
    one.grid = (1, 3, 1)  # one program walks over all tiles
    assert one.sizes(tuning.Variant(16, 64, 4))[0] == (1, 3, 1)
    every = list(tuning.variants(one))
    assert every[0] == one.now
    assert len(set(every)) == len(every) > 10
    assert list(tuning.variants(one, 3)) == every[:3]


@pytest.mark.parametrize("wrong", [False, True])
def test_a_faster_variant_with_other_bits_is_a_failure(
    wrong: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []

    def launch(kernel: Any, grid: Any, out: Any, *_: Any, num_warps: int, **constants: Any) -> None:
        taken[:] = [constants["BH"] * num_warps]
        out[:3] = constants["BH"] if wrong else 7.0  # and leaves the last as it was

    def timed(run: Any, **_: Any) -> Timed:
        run()
        return Timed(float(taken[0]), float(taken[0]), 0)

    monkeypatch.setattr(tuning, "device_ms", timed)
    results = Results(tmp_path, "tuning", 60, False)
    tuning.sweep(results, a_launch((torch.zeros(4), 224, 224)), launch, 60)
    best = results.found["rows"][-1]
    assert results.failed is wrong
    rows = results.found["rows"]
    assert best["best"] is True
    if wrong:
        assert best["variant"].startswith("32 x ")
    else:
        assert (best["variant"], best["gain"]) == ("4 x 64, 2 warps", 16.0)
        assert len(rows) == 2 + len(list(tuning.variants(a_launch((torch.zeros(4), 224, 224))))) - 1


# ---- What is carried -------------------------------------------------------------------------------------------------


def test_photographs_up_to_a_limit(tmp_path: Path) -> None:
    for number in range(30):
        file = tmp_path / "from" / f"class {number % 3}" / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x" * 1000)
    (tmp_path / "from" / "class 0" / "notes.txt").write_bytes(b"x" * 10)
    assert carry.choose(tmp_path / "from", tmp_path / "to", limit=10_500) == 10_000
    copied = sorted(path.relative_to(tmp_path / "to") for path in (tmp_path / "to").rglob("*.jpg"))
    assert len(copied) == 10
    assert len({path.parent for path in copied}) == 3
    assert carry.choose(tmp_path / "from", tmp_path / "again", limit=10_500) == 10_000
    assert copied == sorted(path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("*.jpg"))


def test_a_wheel_that_cannot_be_unpacked_is_named(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    assert carry.install(tmp_path / "wheels", tmp_path / "to") == ["--wheels: there is no wheel in wheels"]
    (tmp_path / "wheels" / "broken-1.0-py3-none-any.whl").write_bytes(b"no wheel")
    (said,) = carry.install(tmp_path / "wheels", tmp_path / "to")
    assert "broken-1.0-py3-none-any.whl was not installed" in said


def test_the_documentation_names_the_command() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert f"python -m benchmarks.gpu --out benchmarks/results/gpu --budget {FULL}\n" in text
    assert all(f"| {part.name} |" in text for part in PARTS)
    assert all(package in text for package in carry.PACKAGES)
