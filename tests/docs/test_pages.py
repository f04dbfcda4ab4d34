"""Every block of Python of the documentation runs; every command line names only what exists."""

from __future__ import annotations

import importlib.util
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.support.pages import BY, CHAIN, PAGES, PYTHON, ROOT, SHELL, blocks, commands, lacking
from tests.support.processes import pretending

DOCS = ROOT / "docs"
ELSEWHERE = {
    "frameworks.md": "tests/integration",
    "adding-an-op.md": "tests/transforms/test_one_class_one_row.py",
    "start.md": "tests/docs/test_shell.py",
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
NEEDED = {"docs/tuning.md": "optuna"}  # by the blocks of a page, beside the packages that all tests have


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
        ("gpuaug profile train.py:make_loader --nothing -- --batch-size 64", "--nothing"),
        ("GPUAUG_PROFILE=1 python train.py --epochs 1", ""),
        ("gpuaug preview photos --recipe standard && python -m benchmarks.report.docs --check", ""),
    ],
)
def test_a_wrong_command_line_is_found(line: str, what: str) -> None:
    pytest.importorskip("typer")
    assert " ".join(filter(None, (lacking(words, set()) for words in commands(line)))) == what


def test_the_code_for_a_gpu_runs_on_pretend_cuda() -> None:
    """docs/gpu.md in a process that believes in a GPU; without it the block does nothing."""
    assert pretending("tests/support/gpu_page.py").strip() == "(2, 3, 20, 20) torch.bfloat16"
