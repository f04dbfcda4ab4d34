"""`gpuaug profile` with a script's own arguments, on a job that runs, and on a script that is not changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from gpuaug.profiler import unchanged
from gpuaug.profiler.attach import Frame, attach, doing, sampled, stacks, stage_of
from gpuaug.profiler.report import load

ROOT = Path(__file__).parents[2]
DATA = """
import time
from torch.utils.data import Dataset

class Slow(Dataset):
    def __init__(self):
        self.transform = Wait()
    def __len__(self):
        return 64
    def __getitem__(self, index):
        return self.transform(index)

class Wait:
    def __call__(self, index):
        time.sleep(0.004)
        return index
"""
SCRIPT = """
import argparse, os, sys
from torch.utils.data import DataLoader
from beside import Slow

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, required=True)
parser.add_argument("--epochs", type=int, default=2)
options = parser.parse_args()

def make_loader():
    print("batch size", options.batch_size, "argv", sys.argv, "cwd", os.path.basename(os.getcwd()))
    return DataLoader(Slow(), options.batch_size, num_workers=1)

if __name__ == "__main__":
    loader = make_loader()
    seen = [int(index) for _ in range(options.epochs) for batch in loader for index in batch]
    print("samples", len(seen), seen == list(range(64)) * options.epochs)
    sys.exit(5)
"""


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "COLUMNS": "80", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **more}


def run(*command: Any, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=180, cwd=cwd,
        env=environment(**more), check=False,
    )  # fmt: skip


def words_of(text: str) -> str:
    """A card without its frame and line breaks."""
    return " ".join(text.replace("│", " ").split())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A script in `job`, with a module beside it; commands run in the folder above."""
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "beside.py").write_text(DATA)
    (tmp_path / "job" / "train.py").write_text(SCRIPT)
    return tmp_path


def test_arguments_of_the_script(folder: Path) -> None:
    target = "job/train.py:make_loader"
    done = run("-m", "gpuaug", "profile", target, "--budget", "1s", "--no-receipt", "--", "--batch-size", 8, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert f"batch size 8 argv ['job/train.py', '--batch-size', '8'] cwd {folder.name}" in done.stdout
    assert "batch_size=8" in done.stdout
    assert "samples" not in done.stdout.splitlines()[0]  # its main part did not run
    without = run("-m", "gpuaug", "profile", target, "--budget", "1s", cwd=folder)
    assert without.returncode == 1
    assert "the following arguments are required: --batch-size" in without.stderr
    assert "Write arguments of the script behind --" in without.stderr.splitlines()[-1]


# ---- a script that is not changed ------------------------------------------------------------------------------------


def test_a_script_is_run_as_python_runs_it(folder: Path) -> None:
    words = ("--batch-size", 4, "--epochs", 3)
    plain = run("job/train.py", *words, cwd=folder)
    done = run("-m", "gpuaug", "profile", "--run", "job/train.py", "--json", "r.json", "--", *words, cwd=folder)
    assert plain.returncode == done.returncode == 5, done.stderr
    assert done.stdout == plain.stdout
    assert "samples 192 True" in done.stdout
    for part in ("Verdict", "Wait", "gain if free", "only watches the job"):
        assert part in words_of(done.stderr), part
    report = load(folder / "r.json")
    assert len(report.trace.batches) == 48
    assert report.receipt is None
    assert report.verdict.place == "augmentation"


def test_an_interrupted_script_is_interrupted(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("raise KeyboardInterrupt")
    done = run("-m", "gpuaug.profiler.run", "train.py", cwd=tmp_path)
    assert done.returncode == 130  # as a shell has it of `python train.py`
    assert 'train.py", line 1, in <module>' in done.stderr


def test_the_variable_is_read_with_the_import(folder: Path) -> None:
    path = folder / "job" / "train.py"
    path.write_text("import gpuaug" + SCRIPT)
    words = (path, "--batch-size", 4)
    done = run(*words, cwd=folder, GPUAUG_PROFILE="1")
    assert done.returncode == 5
    assert "Verdict" in done.stderr
    assert "32 batches" in words_of(done.stderr)
    assert "samples 128 True" in done.stdout
    early = run(*words, cwd=folder, GPUAUG_PROFILE="20")
    assert "samples 128 True" in early.stdout
    assert "20 batches" in words_of(early.stderr)


def test_the_variable_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = DataLoader.__iter__
    monkeypatch.setenv("RANK", "1")
    unchanged.start("1")  # another rank reports
    monkeypatch.delenv("RANK")
    for value in ("0", "", " "):
        unchanged.start(value)
    assert DataLoader.__iter__ is plain
    with pytest.raises(ValueError, match="`GPUAUG_PROFILE` must be 1, or the number of batches"):
        unchanged.start("yes")
    unchanged.start("1")
    assert DataLoader.__iter__ is not plain
    unchanged.stop()
    assert DataLoader.__iter__ is plain


WITHOUT = """
import gpuaug, sys, time
from torch.utils.data import DataLoader
loader = DataLoader(range(12), 2)
if "custom" in sys.argv:
    class Own(DataLoader):
        def __iter__(self):
            yield from super().__iter__()
    print(sum(map(int, (len(batch) for batch in Own(range(12), 2)))))
if "two" in sys.argv:
    other = range(4)
    for epoch in range(3):
        for batch in loader: time.sleep(0.01)
        for batch in DataLoader(other, 2): pass
"""


@pytest.mark.parametrize(
    ("word", "printed", "said"),
    [
        ("none", "", "GPUAUG_PROFILE: no loop over a DataLoader of torch ran in this process"),
        ("custom", "12\n", "Own, which has a custom __iter__"),
        ("two", "", "6 batches, in less time"),
    ],
)
def test_what_an_unchanged_job_has_besides(tmp_path: Path, word: str, printed: str, said: str) -> None:
    (tmp_path / "train.py").write_text(WITHOUT)
    done = run("train.py", word, cwd=tmp_path, GPUAUG_PROFILE="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == printed
    assert said in words_of(done.stderr)


# ---- a job that runs -------------------------------------------------------------------------------------------------

SITE = "/venv/site-packages"
MAIN = "<module> (/job/train.py)"
AFTER = f"{MAIN};_BaseDataLoaderIter.__next__ ({SITE}/torch/utils/data/dataloader.py)"
NEXT = f"{AFTER};_get_data ({SITE}/torch/utils/data/dataloader.py)"
UTILS = f"{SITE}/torch/utils/data/_utils"
LOOP = f"{MAIN};DataLoader.__iter__ ({SITE}/torch/utils/data/dataloader.py);_worker_loop ({UTILS}/worker.py)"
FETCH = f"{LOOP};_MapDatasetFetcher.fetch ({UTILS}/fetch.py)"
ITEM = f"{FETCH};__getitem__ (/job/train.py)"
SECOND = 'process 10:"python -c a; b (x.py)";process 11:"python train.py";'
START = f"{MAIN};DataLoader.__iter__ ({SITE}/torch/utils/data/dataloader.py);start (/usr/lib/process.py)"
TRANSFORM = f"{SITE}/torchvision/transforms/v2"
RAW = f"""process 10:"python -c a; b (x.py)";{NEXT} 70
process 10:"python -c a; b (x.py)";{MAIN};step (/job/train.py) 20
process 10:"python -c a; b (x.py)";{START} 10
process 10:"python -c a; b (x.py)";_bootstrap (/usr/lib/python3.11/threading.py);_pin_memory_loop (/pin_memory.py) 100
{SECOND}{LOOP};get (/usr/lib/python3.11/multiprocessing/queues.py) 20
{SECOND}{ITEM};open (/job/reader.py) 4
{SECOND}{ITEM};ImageFile.load ({SITE}/PIL/ImageFile.py) 40
{SECOND}{ITEM};Compose.forward ({TRANSFORM}/_container.py);RandomCrop.transform ({TRANSFORM}/_geometry.py) 16
{SECOND}{ITEM};__call__ ({TRANSFORM}/_transform.py);ImageFile.load ({SITE}/PIL/ImageFile.py) 8
{SECOND}{FETCH};default_collate ({UTILS}/collate.py) 8
{SECOND}{FETCH};mine (/job/train.py) 4
{SECOND}_bootstrap (/usr/lib/python3.11/threading.py);_feed (/usr/lib/python3.11/multiprocessing/queues.py) 100
"""


def test_stacks_are_summed_up() -> None:
    found = sampled(stacks(RAW), 10, 2.0)
    assert (found.waiting, found.starting, found.fetching) == (0.7, 0.1, 0.0)
    assert found.workers == 1
    assert found.busy == 0.8
    assert found.stages == {
        "decode": 0.6, "RandomCrop (transform)": 0.2, "collate": 0.15, "getitem": 0.05,
    }  # fmt: skip
    assert found.functions["ImageFile.load (ImageFile.py)"] == 0.6
    assert found.verdict == (
        "Decoding limits the job: 80% of the time of the loop waits for data, and 60% of the time of fetching is "
        "decoding."
    )
    for part in ("70% waits for a batch", "1 worker processes were seen; they fetch 80%", "RandomCrop (transform)"):
        assert part in str(found)


def test_a_loop_without_workers_and_a_step_that_limits() -> None:
    own = f"{AFTER};_MapDatasetFetcher.fetch ({UTILS}/fetch.py);__getitem__ (/job/a.py)"
    found = sampled(stacks(f"{own} 3\n{MAIN};step (/job/train.py) 97\n"), 1, 2.0)
    assert found.verdict == "The step limits the job: only 3% of the time of the loop waits for data."
    assert found.stages == {"getitem": 1.0}
    assert "no worker processes" in str(found)
    with pytest.raises(ValueError, match="must be the id of a job that loops over a DataLoader"):
        sampled(stacks(f"{MAIN};step (/job/train.py) 97\n"), 1, 2.0)


def test_a_frame_decides_from_inside() -> None:
    fetch: Frame = ("fetch", "/x/torch/utils/data/_utils/fetch.py")
    item: Frame = ("__getitem__", "/job/data.py")
    assert stage_of([fetch, item, ("open", "/x/PIL/Image.py")]) == "decode"
    assert stage_of([fetch, item, ("__getitem__", "/x/h5py/_hl/dataset.py")]) == "storage"
    assert stage_of([fetch, item, ("read", "/usr/lib/zipfile.py")]) == "storage"
    assert stage_of([fetch, item, ("forward", "/x/torchvision/transforms/transforms.py")]) == "transforms (transform)"
    assert stage_of([item]) is None
    assert doing([("train", "/job/train.py")]) == "step"


def test_attach_says_what_it_needs(tmp_path: Path) -> None:
    def said(*words: Any, **more: str) -> str:
        done = run("-m", "gpuaug", "profile", *words, cwd=tmp_path, **more)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        return done.stderr.splitlines()[-1]

    assert "must be the id of a process that runs here, got 4194304" in said("--attach", 4194304)
    assert "only takes --budget and --quiet, got --html" in said("--attach", os.getpid(), "--html", "a.html")
    assert "must not be given together" in said("--attach", os.getpid(), "--run", "a.py")
    assert "there is no file a.py" in said("--run", "a.py")
    assert "only takes --json" in said("--run", "a.py", "--budget", "5s")
    assert "got --ignore" in said("--attach", os.getpid(), "--ignore", "pack-data")
    assert "got --no-receipt" in said("--run", "a.py", "--no-receipt")
    (tmp_path / "a.py").touch()
    assert "folder that exists" in said("--run", "a.py", "--json", "no/such/a.json")


def test_a_running_job_is_looked_at(folder: Path) -> None:
    if shutil.which("py-spy") is None and not Path(sys.executable).with_name("py-spy").is_file():
        pytest.skip("py-spy is not installed")
    words = [sys.executable, "job/train.py", "--batch-size", "4", "--epochs", "1000"]
    with subprocess.Popen(words, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True) as job:
        try:
            assert job.stdout is not None
            job.stdout.readline()
            time.sleep(1)
            done = run("-m", "gpuaug", "profile", "--attach", job.pid, "--budget", "3s", cwd=folder)
        finally:
            job.kill()
    if "Permission" in done.stderr or "ptrace" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    assert "The data set's own code limits the job" in done.stdout
    assert "worker processes were seen" in done.stdout
    assert "getitem" in done.stdout


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("No python processes found in process 7", "Pass the id of the Python process"),
        ("Permission Denied", "with sudo"),
    ],
)
def test_what_py_spy_says_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str, remedy: str
) -> None:
    """It prints a backtrace behind its error."""
    program = tmp_path / "py-spy"
    program.write_text(
        f"#!/bin/sh\necho 'Error: {error}' >&2\necho 'Stack backtrace:' >&2\necho '  7: main' >&2\nexit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(RuntimeError, match=rf"could not read process \d+: {error}\. .*{remedy}"):
        attach(os.getpid(), 1)
