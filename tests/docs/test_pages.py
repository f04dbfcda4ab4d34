"""Every block of Python of the documentation runs; every command line is run, or names only what exists."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuaug.demo import photographs
from tests.support.pages import CHAIN, PAGES, PYTHON, ROOT, SHELL, blocks, commands, lacking
from tests.support.processes import pretending

DOCS = ROOT / "docs"
ELSEWHERE = {
    "frameworks.md": "tests/integration",
    "adding-an-op.md": "tests/transforms/test_one_class_one_row.py",
    "start.md": "test_start_here",
    "migrate.md": "test_from_other_libraries",
}
NAMES = {page.relative_to(ROOT).as_posix(): page for page in PAGES}
ALONE = [
    name
    for name, page in NAMES.items()
    if any(block.language in PYTHON for block in blocks(page))
    and name not in CHAIN
    and page.name not in ELSEWHERE
    and page.parent.name != "ko"  # test_korean.py: letter by letter the code of the English pages
]
LIBRARIES = {
    "torchvision": "torchvision",
    "timm": "timm",
    "Albumentations": "albumentations",
    "Kornia": "kornia",
    "DALI": "nvidia.dali",
}
BY = "run by "  # a test that runs the block, which needs more than a page can
NEEDED = {"docs/tuning.md": "optuna"}  # by the blocks of a page, beside the packages that all tests have
EPOCHS = ("epochs=40", "epochs=2")  # of start.md, and of its test


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with what the reader has: photographs in folders of classes."""
    monkeypatch.chdir(tmp_path)
    for number, path in enumerate(photographs.paths()):
        folder = tmp_path / "photos" / "train" / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / path.name)
    return tmp_path


def prepared(name: str) -> dict[str, Any]:
    """What the blocks of a page need and do not make themselves."""
    if name != "docs/profiler.md":
        return {}
    import torch
    from torch.utils.data import DataLoader

    import gpuaug as ga

    samples = [(torch.zeros(3, 8, 8, dtype=torch.uint8), 0, number) for number in range(24)]
    return {"ga": ga, "loader": DataLoader(samples, 2)}


@pytest.mark.parametrize("name", ALONE)
@pytest.mark.usefixtures("reader")
def test_blocks_of_a_page_run(name: str) -> None:
    if name in NEEDED:
        pytest.importorskip(NEEDED[name])
    names = prepared(name)
    for block in blocks(NAMES[name]):
        if block.mark.startswith(BY):
            assert (ROOT / block.mark.removeprefix(BY)).is_file(), block.mark
        elif block.language in PYTHON:
            exec(compile(block.code, name, "exec"), names)


def test_the_pages_that_are_run_elsewhere_are_there() -> None:
    assert {"docs/index.md", "docs/faq.md", "docs/profiler.md"} <= set(ALONE)
    assert all((DOCS / page).is_file() for page in ELSEWHERE)
    for name in (*CHAIN, *ALONE):
        assert any(block.language in PYTHON for block in blocks(NAMES[name])), name


# ---- start.md --------------------------------------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """An environment in which `python` and `gpuaug` are those of this test."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, arguments in (("python", ""), ("gpuaug", "-m gpuaug ")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        script.chmod(0o755)
    paths = {"PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return {**os.environ, **paths, "OMP_NUM_THREADS": "1"}


def test_start_here(tmp_path: Path, shell: dict[str, str]) -> None:
    """The page as a reader follows it, with fewer epochs; what it does not run says why."""
    for library in ("sklearn", "typer", "matplotlib"):
        pytest.importorskip(library)
    folder, printed, left_out = tmp_path, {}, []
    for block in blocks(DOCS / "start.md"):
        if block.mark.startswith("not run: "):
            left_out.append(block.code)
        elif block.language in PYTHON:
            assert block.title, "a block of Python is saved as a file"
            code = block.code
            if block.title == "train.py":
                assert code.count(EPOCHS[0]) == 1
                code = code.replace(*EPOCHS)
            (folder / block.title).write_text(code, encoding="utf-8")
        elif block.language in SHELL:
            command = f"set -e\n{block.code}pwd > {tmp_path}/folder"
            done = subprocess.run(["bash", "-c", command], cwd=folder, env=shell, capture_output=True, text=True)
            assert done.returncode == 0, (block.code, done.stdout, done.stderr)
            printed[block.code.strip()] = done.stdout
            folder = Path((tmp_path / "folder").read_text().strip())
    assert folder.name == "first-model"
    assert (folder / "digits.png").stat().st_size > 10_000
    told = r"without augmentation: \d+\.\d % of .*\nwith augmentation: \d+\.\d % of .*\n"
    assert re.fullmatch(told, printed["python train.py"]), printed
    assert len(left_out) == 3


def test_start_here_installs_as_the_readme_does() -> None:
    (command,) = [block.code.strip() for block in blocks(DOCS / "start.md") if "venv" in block.code]
    assert f"{command} && gpuaug demo" in (ROOT / "README.md").read_text(encoding="utf-8")


# ---- migrate.md ------------------------------------------------------------------------------------------------------


def test_from_other_libraries(reader: Path) -> None:
    """Each library's blocks, its own first; a library that is not installed is left out with gpuaug's side of it."""
    text = (DOCS / "migrate.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    run = []
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    assert set(sections) == set(LIBRARIES)
    for library, body in sections.items():
        theirs, ours = re.findall(r"^```python\n(.*?)^```", body, re.M | re.S)
        installed = _installed(LIBRARIES[library])
        if installed:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # those of the other library
                file = reader / f"{library}.py"
                file.write_text(theirs, encoding="utf-8")  # DALI reads the source of its functions
                exec(compile(theirs, str(file), "exec"), names)
        if installed or library == "DALI":  # whose side is not converted
            exec(compile(ours, f"migrate.md, gpuaug for {library}", "exec"), names)
            run.append(library)
    assert {"torchvision", "DALI"} <= set(run)


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


# ---- command lines, and CUDA -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_command_lines_name_what_exists(page: Path) -> None:
    pytest.importorskip("typer")
    files = {block.title for block in blocks(page)}
    for block in blocks(page):
        if block.language in SHELL:
            for words in commands(block.code):
                assert not (what := lacking(words, files)), f"{' '.join(words)}: there is no {what}"
        else:
            assert block.language in (*PYTHON, "text", "yaml"), f"{page.name}: a block must have a language"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("gpuaug profil train.py:make_loader", "gpuaug profil"),
        ("gpuaug preview photos --recipes standard", "--recipes"),
        ("python -m benchmarks.reports.docs", "benchmarks.reports.docs"),
        ("python -m benchmarks.report.docs --checks", "--checks"),
        ("python examples/train.py", "examples/train.py"),
        ("python examples/train_cifar10.py --augments flip", "--augments"),
        ("torchrun --nproc_per_node 2 examples/train_ddp.py --repetitions 3", "--repetitions"),
        ('pip install ".[demos]"', "demos"),
        ("pytest tests/engine/test_nothing.py", "tests/engine/test_nothing.py"),
        ("gpaug demo", "gpaug"),
        ("gpuaug preview photos --recipe standard && python -m benchmarks.report.docs --check", ""),
    ],
)
def test_a_wrong_command_line_is_found(line: str, what: str) -> None:
    pytest.importorskip("typer")
    assert " ".join(filter(None, (lacking(words, set()) for words in commands(line)))) == what


def test_the_code_for_a_gpu_runs_on_pretend_cuda() -> None:
    """docs/gpu.md in a process that believes in a GPU; without it the block does nothing."""
    assert pretending("tests/support/gpu_page.py").strip() == "(2, 3, 20, 20) torch.bfloat16"
