"""README and docs say what is: snippets run, tables are the registry and the stored runs, links lead somewhere."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import gpuaug as ga
from benchmarks.report import docs
from tests.support.pages import CHAIN, PAGES

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
LARGEST_PICTURE = 600_000  # bytes
MOST_LINES = 205  # of the README


def section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)
    assert found, title
    return found[1]


def prose(page: Path) -> str:
    """The text of a page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """The names by which a link reaches the headings of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_the_readme_is_short() -> None:
    assert len(TEXT.splitlines()) <= MOST_LINES


def test_snippets_run(reader: Path) -> None:
    pytest.importorskip("matplotlib")
    names: dict[str, object] = {}  # one after another, as a reader would
    for page in CHAIN:
        snippets = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)
        assert snippets, page
        for snippet in snippets:
            exec(compile(snippet, page, "exec"), names)
        if page == "README.md":
            assert tuple(names["batch"].shape) == (8, 3, 224, 224)  # type: ignore[attr-defined]
    assert (reader / "preview.png").exists()


def test_the_table_is_the_registry() -> None:
    listed = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| .*\|$", section("Transforms"), re.M)))
    assert len(listed) == len(set(listed))
    assert set(listed) == {op.__name__ for op in ga.OPS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        file, _, heading = target.partition("#")
        other = (page.parent / file).resolve() if file else page
        assert other.exists(), target
        assert not heading or heading in anchors(other), target


def test_the_index_lists_every_page() -> None:
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs" / "index.md").read_text(encoding="utf-8")))
    assert listed == {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}


def test_figures_are_those_of_the_stored_runs() -> None:
    """`python -m benchmarks.report.docs` has been run."""
    runs, names = docs.stored(), []
    for page in docs.PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert docs.fill(text, runs) == text, page
        names += re.findall(r"<!-- results: (\w+) -->", text)
    assert sorted(names) == sorted(docs.BLOCKS)


def test_the_command_writes_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m benchmarks.report.docs` puts a wrong figure right; with --check it writes nothing and exits with 1."""
    for page in docs.PAGES:
        (tmp_path / page).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / page, tmp_path / page)
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    page = tmp_path / "docs" / "gpu.md"
    right = page.read_text(encoding="utf-8")
    wrong = re.sub(r"(<!-- results: \w+ -->\n)", r"\1Not so. ", right, count=1)
    assert docs.main(["--check"]) == 0
    page.write_text(wrong, encoding="utf-8")
    assert docs.main(["--check"]) == 1
    assert page.read_text(encoding="utf-8") == wrong
    assert docs.main([]) == 0
    assert page.read_text(encoding="utf-8") == right


def test_every_losing_row_is_shown() -> None:
    from benchmarks.report.tables import losses

    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    found = losses(docs.stored()["losses"])
    assert found
    assert all(f"- {line}\n" in page for line in found)


def test_what_has_not_run_on_a_gpu_stands_once() -> None:
    """In docs/gpu.md; other pages link to it."""
    assert "what-has-and-what-has-not-run-on-a-gpu" in anchors(ROOT / "docs" / "gpu.md")
    for page in PAGES:
        for paragraph in re.split(r"\n\s*\n|\n- ", prose(page)) if page.name != "gpu.md" else ():
            if re.search(r"\brun (on (a GPU|one)|there)\b", " ".join(paragraph.split())):
                assert "gpu.md" in paragraph, f"{page.name}: {paragraph}"


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


def test_the_workflow_calls_the_script_that_one_can_run_at_home() -> None:
    assert "run: .ci/run" in (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
