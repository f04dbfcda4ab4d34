"""The README says what is: its snippets run, its table is the registry, its links lead somewhere."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import gpuaug as ga
from benchmarks.report import readme
from gpuaug.demo import photographs

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
LARGEST_PICTURE = 600_000  # bytes


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)
    assert found, title
    return found[1]


def test_snippets_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    for number, path in enumerate(photographs.paths()):  # what the reader has
        folder = tmp_path / "photos" / "train" / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / path.name)
    names: dict[str, object] = {}  # one after another, as a reader would
    snippets = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)
    assert len(snippets) >= 2
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)
    assert tuple(names["batch"].shape) == (8, 3, 224, 224)  # type: ignore[attr-defined]
    assert (tmp_path / "preview.png").exists()


def test_the_table_is_the_registry() -> None:
    listed = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| .*\|$", section("Transforms"), re.M)))
    assert len(listed) == len(set(listed))
    assert set(listed) == {op.__name__ for op in ga.OPS}


def test_links_lead_somewhere() -> None:
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in target]
    assert targets
    sections = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall(r"^#+ (.+)$", TEXT, re.M)
    }
    for target in targets:
        file, _, section = target.partition("#")
        assert (ROOT / file).exists(), target
        assert file or section in sections, target


def test_figures_are_those_of_the_stored_runs() -> None:
    """`python -m benchmarks.report.readme` has been run."""
    assert readme.fill(TEXT, readme.stored()) == TEXT
    assert set(readme.BLOCKS) == set(re.findall(r"<!-- results: (\w+) -->", TEXT))


def test_the_picture_is_small() -> None:
    picture = re.search(r"!\[[^]]+\]\(([^)]+)\)", TEXT)
    assert picture
    assert (ROOT / picture[1]).stat().st_size <= LARGEST_PICTURE


def test_two_commands_set_up_a_fresh_machine() -> None:
    commands = re.findall(r"^```bash\n(.*?)^```", TEXT, re.M | re.S)
    lines = [command.strip() for command in commands if "venv" in command]
    assert all("\n" not in line for line in lines)
    assert [line.split("&& ")[-1] for line in lines] == ["gpuaug demo", "pytest -n auto"]
    assert re.search(r"<!-- ci -->\s*```bash\n[^\n]*&& pytest -n auto\n```", TEXT)
