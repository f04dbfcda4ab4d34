"""The profiler's commands, run as users run them, on loops that take seconds."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpuaug.profiler.report import VERSION, load, schema

ROOT = Path(__file__).parents[2]
SCRIPT = """
import time
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

import sys
class Images(Dataset):
    def __init__(self):
        self.transform = v2.Compose([Wait(), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)])
    def __len__(self):
        return 400
    def __getitem__(self, index):
        return self.transform(torch.zeros(3, 16, 16, dtype=torch.uint8)), index

class Wait:
    def __call__(self, image):
        time.sleep(0.003)
        return image

def make_loader():
    return DataLoader(Images(), 8, shuffle=True, num_workers=1)

def make_step():
    def step(batch):
        time.sleep(0.002)
    return step

def forgets_return():
    pass

def make_bad_step():
    def step(batch):
        x, y, z = batch
    return step

loader = make_loader()
number = 5
def broken():
    raise RuntimeError("the loader breaks")
"""


def gpuaug(*arguments: Any, cwd: Path | None = None, timeout: int = 180) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gpuaug", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "80", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, cwd=cwd, env=environment, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("job")
    (path / "train.py").write_text(SCRIPT)
    return path


@pytest.fixture(scope="module")
def done(folder: Path) -> subprocess.CompletedProcess[str]:
    """One profile, with everything it can write."""
    return gpuaug(
        "profile", "train.py:make_loader", "--model", "train.py:make_step", "--budget", "30s", "--json", "a.json",
        "--html", "a.html", "--trace", "a.json.gz", "--png", "a.png", "--apply", "--cold", cwd=folder,
    )  # fmt: skip


def test_the_card(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr
    text = done.stdout
    for part in (
        "Verdict",
        "Why",
        "Next",
        "Wait",
        "gain if free",
        "num-workers",
        "CPU augmentation limits the job",
    ):
        assert part in text, part
    assert "Receipt" in text or "receipt: " in text.partition("Not run")[2]  # other programs may have taken the time
    assert max(map(len, text.splitlines())) <= 80


def test_the_json(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    raw = json.loads((folder / "a.json").read_text())
    assert raw["schema"] == VERSION
    report = load(folder / "a.json")
    assert report.verdict.place == "augmentation"
    assert report.exposed > 0.5
    assert report.asdict() == raw
    assert sum(stage.exposed for stage in report.stages) == pytest.approx(report.pace)
    assert "whole, traced" in {one.name for one in report.passes}
    others = {"whole, untraced": "cost of tracing", "model alone": "model alone", "loader alone": "loader alone"}
    for name, reason in others.items():  # other programs may have taken the time
        ran = name in {one.name for one in report.passes}
        assert ran or "did not fit the budget" in report.skipped[reason], name
    if report.receipt is None:
        assert "did not fit the budget" in report.skipped["receipt"]
    else:
        assert report.receipt.measured.times > 1.2
    assert "cold" in report.skipped  # no files


def test_the_schema_holds(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    raw = json.loads((folder / "a.json").read_text())
    jsonschema.validate(raw, schema())
    raw["stages"][0]["gain"]["times"] = "fast"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(raw, schema())


def test_the_trace(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    events = json.loads(gzip.decompress((folder / "a.json.gz").read_bytes()))["traceEvents"]
    names = {event["name"].split()[0] for event in events}
    assert {"fetch", "send", "wait", "receive", "step", "batch"} <= names
    starts = [event["id"] for event in events if event["ph"] == "s"]
    assert starts == [event["id"] for event in events if event["ph"] == "f"]
    assert all(event.get("dur", 0) >= 0 for event in events)


def test_the_picture(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    from PIL import Image

    with Image.open(folder / "a.png") as image:
        assert image.size[0] == 1500


def test_the_tuned_loader(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert "train_tuned.py: import its make_loader()" in done.stdout
    code = "import train_tuned, torch; batch = next(iter(train_tuned.make_loader())); print(len(batch[0]))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=True)
    assert found.stdout.strip() == "8"
    again = gpuaug("profile", "train.py:make_loader", "--budget", "1s", "--no-receipt", "--apply", cwd=folder)
    assert again.returncode == 1
    assert "is there already" in again.stderr


def test_whatif(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    raw = json.loads((folder / "a.json").read_text())
    (folder / "free.json").write_text(json.dumps({**raw, "cores": 2.0}))  # other tests may take them
    found = gpuaug("whatif", "free.json", "--workers", 2, cwd=folder)
    assert found.returncode == 0, found.stderr
    assert 1.5 < float(found.stdout.split("x")[0]) < 2.2
    found = gpuaug("whatif", "free.json", "--augment", "device", "--device-ms", 1, "--scale", "getitem=0", cwd=folder)
    assert float(found.stdout.split("x")[0]) > 3
    report = load(folder / "free.json")
    assert report.whatif(workers=2).times == pytest.approx(1.8, rel=0.2)
    assert report.whatif().times == 1.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--augment", "gpu"), "device or a number"),
        (("--augment", "device"), "Pass device_seconds"),  # its Wait cannot be moved, so nothing was probed
        (("--augment", "device", "--device-ms", "-1"), "at least 0"),
        (("--scale", "nothing=0"), "must name one of"),
        (("--scale", "decode"), "STAGE=FACTOR"),
        (("--scale", "getitem=-1"), "at least 0"),
        (("--workers", "-1"), "in [0, 1024]"),
        (("--prefetch", "0"), "in [1, 1024]"),
        (("--workers", "1024", "--prefetch", "1024"), "at most 4096"),
        (("--device-ms", "5"), "--augment device"),
        (("--scale", "getitem=0", "--scale", "getitem=2"), "each stage once"),
    ],
)
def test_whatif_checks(
    done: subprocess.CompletedProcess[str], folder: Path, arguments: tuple[str, ...], said: str
) -> None:
    found = gpuaug("whatif", "a.json", *arguments, cwd=folder)
    assert found.returncode == 1
    assert said in found.stderr
    assert found.stderr.count("\n") == 1


def test_compare(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    same = gpuaug("compare", "a.json", "a.json", cwd=folder)
    assert same.returncode == 0
    assert "1.00x" in same.stdout
    slower = json.loads((folder / "a.json").read_text())
    slower["pace"] *= 1.2
    (folder / "b.json").write_text(json.dumps(slower))
    worse = gpuaug("compare", "a.json", "b.json", cwd=folder)
    assert worse.returncode == 3
    assert "A regression" in worse.stdout
    more = gpuaug("compare", "a.json", "b.json", "--tolerance", "30%", "--html", "diff.html", cwd=folder)
    assert more.returncode == 0
    assert more.stderr == "Wrote diff.html.\n"
    assert "0.83 times as fast" in (folder / "diff.html").read_text()


def test_a_saved_report_is_shown_again(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    again = gpuaug("report", "a.json", "--html", "again.html", "--png", "again.png", cwd=folder)
    assert again.returncode == 0
    assert again.stderr == "Wrote again.html.\nWrote again.png.\n"
    assert again.stdout in done.stdout
    assert (folder / "again.html").read_text() == (folder / "a.html").read_text()
    raw = json.loads((folder / "a.json").read_text())
    one = {"id": "prefetch", "title": "", "gain": None, "how": "loader = 3", "change": None, "settings": None}
    (folder / "c.json").write_text(json.dumps(raw | {"advice": [one]}))  # what is recommended depends on the machine
    assert gpuaug("report", "c.json", "--how", "prefetch", cwd=folder).stdout == "loader = 3\n"
    wrong = gpuaug("report", "c.json", "--how", "pack-data", cwd=folder)
    assert wrong.returncode == 1
    assert wrong.stderr == "profile: `--how` must be one of prefetch, got 'pack-data'.\n"


def test_a_narrow_terminal_shows_whole_names(done: subprocess.CompletedProcess[str], folder: Path) -> None:
    environment = {**os.environ, "COLUMNS": "60", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "gpuaug", "report", "a.json"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=True).stdout
    assert max(map(len, shown.splitlines())) <= 60
    for stage in load(folder / "a.json").stages:
        assert any(line.split()[:1] == [stage.name.split()[0]] for line in shown.splitlines()), stage.name


def test_thresholds(folder: Path) -> None:
    arguments = (
        "profile",
        "train.py:make_loader",
        "--model",
        "train.py:make_step",
        "--budget",
        "2s",
        "--no-receipt",
        "-q",
    )
    high = gpuaug(*arguments, "--fail-if", "exposed>20%", cwd=folder)
    assert high.returncode == 3, high.stderr
    assert "exposed is" in high.stderr
    assert high.stdout.count("\n") == 1  # the verdict alone
    assert gpuaug(*arguments, "--fail-if", "exposed>99.9%", cwd=folder).returncode == 0


def test_advice_is_muted(folder: Path) -> None:
    found = gpuaug(
        "profile", "train.py:make_loader", "--budget", "2s", "--no-receipt", "--ignore", "num-workers", cwd=folder
    )
    assert found.returncode == 0
    assert "num-workers" not in found.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train.py",), "FILE.py:NAME"),
        (("nothing.py:make_loader",), "there is no file"),
        (("train.py:nothing",), "does not have"),
        (("train.py:number",), "must be a torch DataLoader"),
        (("train.py:broken",), "the loader breaks"),
        (("train.py:make_loader", "--budget", "soon"), "60s or 2m"),
        (("train.py:make_loader", "--budget", "0.1s"), "at least 1"),
        (("train.py:make_loader", "--fail-if", "speed>3"), "exposed"),
        (("train.py:make_loader", "--fail-if", "exposed>20"), "exposed>20%"),
        (("train.py:make_loader", "--device", "nosuch"), "a device that works here"),
        (("train.py:make_loader", "--png", "a.gif"), "must name a .png"),
        (("train.py:number", "--apply"), "to give a DataLoader"),
        (("train.py:make_loader", "--ignore", "everything"), "must name one of"),
        (("train.py:make_loader", "--json", "no/such/folder/a.json"), "folder that exists"),
        (("train.py:make_loader", "--trace", "a.txt"), "must name a .json"),
        (("train.py:make_loader", "--model", "train.py:number"), "must give a step"),
        (("train.py:make_loader", "--model", "train.py:forgets_return"), "must give a step"),
    ],
)
def test_mistakes_are_said_in_one_line(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    found = gpuaug("profile", *arguments, cwd=folder)
    assert found.returncode == 1, found.stdout
    assert said in found.stderr.splitlines()[-1]
    assert ("Traceback" in found.stderr) == ("broken" in arguments[0])  # the user's own error is shown whole


def test_errors_of_a_step_are_shown_whole(folder: Path) -> None:
    """They may be of the kinds that we raise."""
    found = gpuaug("profile", "train.py:make_loader", "--model", "train.py:make_bad_step", "--budget", "2s", cwd=folder)
    assert found.returncode == 1
    assert "x, y, z = batch" in found.stderr
    assert found.stderr.splitlines()[-1] == "profile: the loader or the step raised ValueError, see above."


def test_files_are_named(tmp_path: Path) -> None:
    for command in (("whatif", "no.json"), ("compare", "no.json", "no.json")):
        found = gpuaug(*command, cwd=tmp_path)
        assert found.returncode == 1
        assert found.stderr == (
            "profile: `report` must be a JSON file of gpuaug profile, and no.json cannot be read: No such file or "
            "directory.\n"
        )


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"schema": 99}', '{"schema": 1}', "\x00\xff"])
def test_other_files_are_no_reports(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match="`report` must"):
        load(path)


def test_doctor() -> None:
    found = gpuaug("doctor")
    assert found.returncode == 0, found.stderr
    for part in ("cores", "memory", "shared memory", "decode, Pillow", "backend torch", "versions", "pinned memory"):
        assert part in found.stdout, part
    assert max(map(len, found.stdout.splitlines())) <= 80


def test_the_block(tmp_path: Path) -> None:
    """`with gpuaug.profile(loader) as report:` around a loop, over the loader itself or over the profile."""
    code = """

import gpuaug, time
from tests.support import profiler_cases as cases
loader = cases.make("map")
kind = type(loader)
with gpuaug.profile(loader) as report:
    for _ in range(2):
        for batch in loader:
            time.sleep(0.01)
    for batch in report:
        time.sleep(0.01)
assert type(loader) is kind
assert len(report.trace.batches) == 36
print(report)
assert report.verdict.kind in ("model", "epoch", "tie", "data")
assert "<html" in report._repr_html_()
report.save({out!r})
assert gpuaug.profiler.load({out!r}).pace == report.report.pace
""".format(out=str(tmp_path / "r.json"))
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert found.returncode == 0, found.stderr
    assert "Verdict" in found.stdout
