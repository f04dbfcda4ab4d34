"""What is measured on a GPU is what it says (long: one dry run serves all checks)."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gpuaug as ga
from benchmarks.evidence.bounds import fingerprint
from benchmarks.gpu import aims, feeding, moved, recipes, speed, timing, training, ways
from benchmarks.gpu.results import Options, Results
from tests.support.processes import pretending, python


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What a process that believes in a GPU found."""
    return json.loads(pretending("-W", "ignore", "tests/support/gpu_speed_cases.py").split("FOUND")[1])


# ---- On pretend CUDA -------------------------------------------------------------------------------------------------


def test_all_do_the_work_that_was_asked_for(found: dict[str, Any]) -> None:
    assert found["equal"] == dict.fromkeys(found["equal"], "")
    assert len(found["equal"]) == 2 * len(recipes.names()) + 3 + 3


def test_other_work_is_noticed(found: dict[str, Any]) -> None:
    other = found["other"]
    assert other["size"] == "made torch.bfloat16 (2, 3, 15, 16)"
    assert other["levels"].startswith("a mean of ")
    assert other["not normalised"].startswith(("a mean of ", "a deviation of "))
    assert other["not finite"] == "has values that are not finite"
    assert other["layout"] == "is not channels_last"
    assert (other["same"], other["other draw"], other["other labels"]) == ("True", "False", "False")


def test_a_way_that_raises_does_not_stop_the_rest(found: dict[str, Any]) -> None:
    part = found["raises"]
    assert part["failed"][0] == {"what": "crop + flip, batch 2, gpuaug", "error": "ValueError: cannot be made"}
    assert part["failed"][1]["what"] == "crop + flip, batch 2, torchvision batch: the same work"
    rows = {row["way"]: row for row in part["rows"] if "way" in row}
    assert list(rows) == ["torchvision batch", "read and write"]
    assert rows["torchvision batch"]["check"].startswith("a mean of ")
    assert rows["read and write"]["check"] == ""
    assert rows["torchvision batch"]["late"] is None  # it waits: nothing is queued
    assert {"first_call", "first_call_s"} == set(part["rows"][0])


def test_bytes_over_bandwidth(found: dict[str, Any]) -> None:
    row = next(row for row in found["raises"]["rows"] if row.get("way") == "read and write")
    assert row["written_mb"] == pytest.approx(2 * 3 * 16 * 16 * 2 / 1e6)
    assert 0 < row["read_mb"] <= 2 * 3 * 20 * 20 / 1e6
    assert row["least_us"] == pytest.approx((row["read_mb"] + row["written_mb"]) * 1e6 / 1e12 * 1e6 / 2)


def test_what_there_is_no_time_for_is_named(found: dict[str, Any]) -> None:
    part, scale = found["no time"], recipes.DRY
    assert [row for row in part["rows"] if "way" in row] == []
    assert all(row["met"] is None for row in part["rows"])
    (first, *others) = [note for note in part["notes"] if note.startswith("left out, for lack of time")]
    for recipe in scale.recipes:
        for way in (ways.OURS, ways.GRAPH, ways.LIMIT, ways.TORCHVISION):
            assert f"{recipe} ({way})" in first
    assert any("Ragged batch 2" in note for note in others)
    assert part["failed"] == []


def test_the_limit_touches_the_bytes_that_it_says(found: dict[str, Any]) -> None:
    # 1,000 bytes are 992 in pieces of 16; 1,536 values of two bytes, by programs of 1,024
    assert found["counted"]["less than it writes"] == [992, 3072, 992, 3072, [2], 1.0]
    *bytes_, sums = found["counted"]["more than it writes"]
    assert bytes_ == [4000, 3072, 4000, 3072, [2]]
    assert sums == pytest.approx(1, rel=0.01)  # rounded to bf16


def test_the_bytes_of_launches_are_counted(found: dict[str, Any]) -> None:
    counted = found["moved"]["crop + flip"]
    assert counted["written"] >= 3 * 16 * 16 * 2  # the result, and more for what lies between the passes
    assert counted["read"] >= 3 * 16
    assert counted["launches"] > 1


def test_loaders_feed_what_a_network_takes(found: dict[str, Any]) -> None:
    for name in feeding.LOADERS[1:]:
        assert found["feeding"][name] == [3, [2, 3, 16, 16], [2, 10], "cuda", True, True, True], name


def test_one_batch_ahead_gives_the_same_batches(found: dict[str, Any]) -> None:
    assert found["feeding"]["ahead"] == [True] * 4


def test_nothing_is_pretended_unless_it_is_asked_for() -> None:
    """Importing what stands in for a device would have Triton interpret its kernels."""
    code = (
        "import os, sys; os.environ.pop('TRITON_INTERPRET', None);"
        "from benchmarks.gpu import aims, apart, feeding, moved, recipes, speed, timing, training, ways;"
        "moved.stored(); from benchmarks.gpu import limit;"
        "assert 'TRITON_INTERPRET' not in os.environ;"
        "assert not {'benchmarks.evidence.pseudocuda', 'benchmarks.gpu.dry'} & set(sys.modules)"
    )
    pytest.importorskip("triton", reason="Triton is not installed")
    python("-c", code)


def test_counted_bytes_are_read_and_known_to_be_stale(tmp_path: Path) -> None:
    file = tmp_path / "bytes.json"
    assert moved.stored(file) is None
    file.write_text('{"kernels": "other ones", "recipes": {}}')
    assert moved.stored(file) == {"kernels": "other ones", "recipes": {}, "stale": True}
    file.write_text(json.dumps({"kernels": fingerprint(), "recipes": {}}))
    known = moved.stored(file)
    assert known is not None
    assert known["stale"] is False


# ---- Recipes and bytes -----------------------------------------------------------------------------------------------


def test_there_are_five_recipes_each_with_and_without_a_mix() -> None:
    assert Counter(name.removesuffix(recipes.MIX) for name in recipes.names()) == dict.fromkeys(recipes.RECIPES, 2)
    assert len(recipes.RECIPES) == 5


def test_least_bytes_by_hand() -> None:
    whole = ga.Augment([ga.RandomResizedCrop(16, (1.0, 1.0), (1.0, 1.0)), ga.ToDtype(torch.bfloat16, scale=True)])
    images = torch.zeros(5, 3, 20, 20, dtype=torch.uint8)
    assert recipes.least_bytes(whole, images, 16) == (5 * 400 * 3, 5 * 3 * 256 * 2)
    quarter = ga.Augment([ga.RandomResizedCrop(16, (0.25, 0.25), (1.0, 1.0))])
    ragged = ga.Ragged.from_images([images[0], images[1, :, :10, :10]])
    assert recipes.least_bytes(quarter, ragged, 16, itemsize=4) == ((100 + 25) * 3, 2 * 3 * 256 * 4)


def test_sizes_are_a_distribution() -> None:
    assert sum(share for _, share in recipes.SIZES) == pytest.approx(1)
    drawn = Counter(tuple(image.shape[1:]) for image in recipes._sized(64))
    assert drawn.keys() <= {size for size, _ in recipes.SIZES}
    assert drawn[375, 500] > 16


def test_inputs_do_not_fit_the_cache() -> None:
    full = recipes.FULL
    for batch in full.batches:
        each = batch * 3 * full.source**2
        assert recipes._count(full, each) * each >= 3 * 60e6
        assert speed._held(batch, full) * batch * 3 * full.size**2 * 2 >= 60e6


# ---- Order, and time -------------------------------------------------------------------------------------------------


def test_what_is_worth_most_comes_first() -> None:
    layers = speed.layers(recipes.FULL, full=True, dry=False)
    first = layers[0]
    assert first.batch == 256
    assert first.ways == ("gpuaug", "gpuaug graph", "read and write", "torchvision batch")
    assert first.recipes == tuple(recipes.names())
    assert layers[1].ways == ("kornia",)
    assert [layer.batch for layer in layers[2:4]] == [64, 1024]
    assert [(layer.ragged, layer.batch) for layer in layers[4:7]] == [(True, 256), (True, 64), (True, 1024)]
    assert {way for layer in layers for way in layer.ways} == set(ways.WAYS)
    assert [layer.ways for layer in layers if layer.apart] == [("kornia compiled",)]
    assert not any({"gpuaug graph", "kornia"} & set(layer.ways) for layer in layers if layer.ragged)
    assert speed.layers(recipes.FULL, full=False, dry=False) == layers[:1]


def test_what_is_not_installed_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    results = Results(tmp_path, "speed", 60.0, False)
    part = speed.Speed(results, Options(tmp_path, 60.0))
    assert [part.can_enter(way) for way in (ways.KORNIA, ways.COMPILED, ways.FUSED, ways.OURS)] == [False] * 3 + [True]
    assert results.found["notes"] == [
        "kornia is not installed: left out",
        "triton_augment is not installed: left out",
    ]


def test_a_process_apart_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: Any, timeout: float, **options: Any) -> Any:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(speed.subprocess, "run", run)
    results = Results(tmp_path, "speed", 60.0, False)
    part = speed.Speed(results, Options(tmp_path, 60.0))
    part.layer(speed.Layer(256, (ways.COMPILED,), (recipes.PLAIN,), apart=True))
    (note,) = results.found["notes"]
    assert note.startswith("given up after 5")
    assert note.endswith("crop + flip, batch 256, kornia compiled")


class Clock:
    """Events that say what a test wants."""

    late = False

    def __init__(self, **options: Any) -> None:
        pass

    def record(self) -> None:
        pass

    def query(self) -> bool:
        return self.late

    def elapsed_time(self, end: Any) -> float:
        return 12.0


@pytest.mark.parametrize("late", [False, True])
def test_queued_calls_are_timed_apart_from_the_host(monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    slept, called = [], []
    monkeypatch.setattr(torch.cuda, "Event", type("Late", (Clock,), {"late": late}))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "_sleep", slept.append)
    monkeypatch.setattr(timing, "cycles_a_second", lambda: 1e9)
    times = timing.measure(called.append, rounds=5, seconds=0.01)
    assert times.queued is not None
    assert times.device_ms == (None if late else 12.0 / 8)  # of eight calls
    assert (times.queued.late, len(times.queued.ms)) == ((5, 0) if late else (0, 5))
    assert len(slept) == (12 if late else 6)  # a round that warms up, and once more for longer if it was too late
    assert min(slept) >= 1e9 * timing.MARGIN
    assert timing.measure(called.append, waits=True, rounds=5, seconds=0.01).queued is None


def test_a_trace_becomes_kernels() -> None:
    about = {"registers per thread": 55, "grid": [7, 256, 1], "block": [128, 1, 1]}
    events = [
        {"ph": "X", "cat": "kernel", "name": "finish_kernel", "dur": 100.0, "args": about},
        {"ph": "X", "cat": "kernel", "name": "finish_kernel", "dur": 140.0, "args": about},
        {"ph": "X", "cat": "gpu_memcpy", "name": "Memcpy HtoD (Pinned -> Device)", "dur": 8.0, "args": {}},
        {"ph": "X", "cat": "cuda_sync", "name": "Context Sync", "dur": 900.0},
        {"ph": "X", "cat": "cuda_runtime", "name": "cuLaunchKernelEx", "dur": 5.0},
        {"ph": "M", "cat": "kernel", "name": "no duration"},
    ]
    finish, copy = timing.parse(events, calls=2)
    assert (finish.name, finish.count, finish.us, finish.registers) == ("finish_kernel", 1.0, 120.0, 55)
    assert (finish.grid, finish.block, finish.copy) == ((7, 256, 1), (128, 1, 1), False)
    assert (copy.count, copy.us, copy.copy) == (0.5, 4.0, True)


def test_spread() -> None:
    assert timing.spread([2.0]) == 0
    assert timing.spread([1.0, 2.0, 3.0]) == 0.5
    assert timing.spread([0.0, 1.9, 2.0, 2.1, 90.0]) == pytest.approx(0.05)


def test_lines_fit() -> None:
    row = {"recipe": f"TrivialAugment{recipes.MIX}, ragged", "batch": 1024, "way": "gpuaug torch backend"}
    figures = {"device_us": 123.4567, "wall_us": 1234.5, "host_us": 12345.6, "least_us": 0.111, "late": "5/5"}
    assert len(speed.line({**row, **figures})) <= 100
    assert len(speed.line({**row, "check": "other bits"})) <= 100


# ---- Aims ------------------------------------------------------------------------------------------------------------


def row(recipe: str, way: str, device: float | None, wall: float, **more: Any) -> dict[str, Any]:
    return {"recipe": recipe, "batch": 256, "way": way, "device_us": device, "wall_us": wall, "check": "", **more}


def by_aim(found: list[dict[str, Any]]) -> list[tuple[float | None, bool | None]]:
    return [(one["measured"], one["met"]) for one in found]


def test_aims_of_speed() -> None:
    rows = [
        row("crop + flip", "gpuaug", 0.3, 1.0),
        row("crop + flip", "read and write", 0.2, 0.3),
        row("crop + flip", "torchvision batch", 1.2, 2.0),
        row("RandAugment", "gpuaug", 0.5, 2.0),
        row("RandAugment", "torchvision batch", 1.6, 8.0),
        row("RandAugment", "kornia", 10.0, 19.0),
        row("RandAugment", "kornia", 1.0, 1.0, batch=64),
    ]
    limit, *peers = aims.of_speed(rows)
    assert (limit["measured"], limit["met"]) == (pytest.approx(1.5), True)
    measured = by_aim(peers)
    assert measured[0] == (pytest.approx(3.2), True)  # the worst is RandAugment
    assert measured[1] == (pytest.approx(2.0), False)  # crop + flip
    assert measured[2] == (pytest.approx(20.0), True)
    assert measured[3] == (pytest.approx(9.5), False)
    assert peers[1]["about"].startswith("worst: crop + flip; ")
    assert aims.line(peers[3]).endswith("per image, wall time, batch 256: 9.5: MISSED")


def test_aims_that_were_not_measured() -> None:
    assert by_aim(aims.of_speed([])) == [(None, None)] * 5
    wrong = [row("crop + flip", "gpuaug", 0.3, 1.0, check="other bits"), row("crop + flip", "kornia", 9.0, 9.0)]
    assert by_aim(aims.of_speed(wrong)) == [(None, None)] * 5
    slow = [row("crop + flip", "gpuaug", 0.5, 1.0), row("crop + flip", "read and write", 0.2, 1.0)]
    assert aims.of_speed(slow)[0]["met"] is False
    late = [row("crop + flip", "gpuaug", None, 1.0), row("crop + flip", "read and write", 0.2, 1.0)]
    assert aims.of_speed(late)[0]["about"] == "not measured: gpuaug"
    assert aims.line(aims.of_speed([])[1]).endswith(": not measured")


def test_aims_of_training() -> None:
    def one(network: str, way: str, recipe: str, share: float | None, by_step: float) -> dict[str, Any]:
        about = {"network": network, "batch": 256, "source": way, "way": way, "recipe": recipe}
        return {**about, "share": share, "share_by_step": by_step}

    rows = [
        one("resnet50", "augment", "light", 0.002, 0.0),
        one("resnet50", "augment", "heavy", 0.004, 0.02),
        one("resnet50", "augment graph", "heavy", 0.5, 1.0),
        one("resnet18", "augment", "heavy", None, 0.01),
    ]
    assert by_aim(aims.of_training(rows)) == [(0.004, True), (0.02, False), (None, None), (0.01, True)]


def test_shares_of_a_step() -> None:
    cached = training.Source("cached", "heavy", lambda n: None, [0.100, 0.090, 0.110])
    own = training.Source("augment", "heavy", lambda n: None, [0.101, 0.0918, 0.1111], device_ms=0.505)
    found = training.shares(own, cached)
    assert found["share"] == pytest.approx(0.005)
    assert found["share_by_step"] == pytest.approx(0.01)
    assert training.shares(cached, cached) == {"share": None, "share_by_step": None}


# ---- Feeding ---------------------------------------------------------------------------------------------------------


def test_an_epoch_has_each_image_about_as_often_and_every_copy_once() -> None:
    assert Counter(feeding.Again(3, 8, copies=False)) == {0: 3, 1: 3, 2: 2}
    copies = list(feeding.Again(3, 8, copies=True))
    assert len(set(copies)) == 8
    assert {number for number, _ in copies} == {0, 1, 2}


def test_photographs_become_an_image_folder(tmp_path: Path) -> None:
    made = feeding.as_folder(None, tmp_path / "shipped")
    assert len(ga.data.ImageFolder(made)) == 6
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in made.glob("*/*.jpg"):
        (flat / file.name).symlink_to(file)
    assert len(ga.data.ImageFolder(feeding.as_folder(flat, tmp_path / "links"))) == 6
    assert feeding.as_folder(made, tmp_path / "unused") == made
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"`jpegs` must hold \.jpg files, found none"):
        feeding.as_folder(tmp_path / "empty", tmp_path / "none")


def test_the_clock_of_an_epoch_runs_in_its_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(training.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(timing, "synchronize", lambda: None)

    class Steps:
        taken: list[int]

        def step(self, images: int, labels: int) -> None:
            self.taken.append(images)
            now[0] += 1.0

    def loader(count: int) -> Any:
        for number in range(count):
            now[0] += 3.0
            yield number, 0, None

    network = Steps()
    network.taken = []
    assert training._epoch(network, loader(7), 2, 3) == (4.0, 0.75)  # type: ignore[arg-type]
    assert network.taken == [0, 1, 2, 3, 4]
    with pytest.raises(RuntimeError, match="the epoch ended after 5 batches, 6 are needed"):
        training._epoch(network, loader(5), 2, 3)  # type: ignore[arg-type]


def test_photographs_of_a_folder_are_used(tmp_path: Path) -> None:
    folder = feeding.as_folder(None, tmp_path / "shipped")
    assert np.sort([image.shape[1] for image in recipes.photos(folder)]).tolist() == sorted(
        image.shape[1] for image in recipes.photos(None)
    )
