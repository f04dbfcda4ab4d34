"""The built site in a real browser, from a folder and without a network: links, search, phone, light and dark, keys."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import gpuaug as ga
from tests.support.browser import colours, open_page
from tests.support.built_site import broken, build, foreign, read
from tests.support.pages import ROOT

pytest.importorskip("mkdocs", reason="MkDocs is not installed (the extra docs)")
pytest.importorskip("material", reason="MkDocs Material is not installed (the extra docs)")
filelock = pytest.importorskip("filelock")

DOCS = ROOT / "docs"
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SHOWN = """() => [...document.images].every(i => i.loading === "lazy" || (i.complete && i.naturalWidth > 0))"""
AXE = {"resultTypes": ["violations"], "preload": False}  # it would ask for the style sheets again


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The site, built once for all processes of a run of the tests."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "site"
    with filelock.FileLock(f"{folder}.lock"):
        if not (folder / "built").exists():
            printed = build(folder)
            assert "WARNING" not in printed, printed
            (folder / "built").touch()
    return folder


@pytest.fixture
def opened(browser: Any, site: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    tab = open_page(browser, site / f"{request.param}.html", WIDE)
    yield tab
    tab.close()


one_page = pytest.mark.parametrize("opened", ["index"], indirect=True)


# ---- files -----------------------------------------------------------------------------------------------------------


def test_no_link_is_broken(site: Path) -> None:
    assert sorted(broken(site)) == []


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    assert sorted(foreign(site)) == []


def test_what_is_broken_or_foreign_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<h2 id="here"><a href="b.html">b</a><a href="#there">t</a><a href="#here">h</a>')
    assert sorted(broken(tmp_path)) == ["a.html: #there (no such place)", "a.html: b.html"]
    (tmp_path / "b.html").write_text(
        '<img src="//host/x.png"><script src="https://host/x.js"></script><a href="https://h/">'
    )
    assert sorted(foreign(tmp_path)) == ["b.html: //host/x.png", "b.html: https://host/x.js"]


def test_every_page_of_the_documentation_is_there(site: Path) -> None:
    pages = {page.relative_to(DOCS).with_suffix(".html") for page in DOCS.rglob("*.md")}
    assert len(pages) > 20
    assert all((site / page).is_file() for page in pages)
    linked = read((site / "index.html").read_text(encoding="utf-8")).links
    assert {page.as_posix() for page in pages} <= {link.partition("#")[0] for link in linked} | {"index.html"}


def test_every_public_name_is_in_the_api(site: Path) -> None:
    names = {f"gpuaug.{name}" for name in ga.__all__} - {f"gpuaug.{name}" for name in ga.SUBMODULES}
    for name in ga.SUBMODULES:
        names |= {f"gpuaug.{name}.{one}" for one in import_module(ga.SUBMODULES[name]).__all__}
    found: set[str] = set()
    for page in (site / "api").glob("*.html"):
        found |= read(page.read_text(encoding="utf-8")).names
    assert len(names) > 100
    assert names - found == set()


def test_no_markdown_is_left(site: Path) -> None:
    """Tables, lists and blocks are those of the page, not text."""
    for page in sorted(site.rglob("*.html")):
        if page.relative_to(site).parts[0] != "source":
            text = re.sub(r"<(pre|code|script)\b.*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.S)
            found = re.search(r"\|---|```|\n- |\]\([\w#.]|^ *\| ", text, re.M)
            assert not found, (page, text[found.start() - 100 : found.end() + 100])


def test_the_language_of_each_page(site: Path) -> None:
    for page in sorted(site.rglob("*.html")):
        language = read(page.read_text(encoding="utf-8")).language
        assert language == ("ko" if page.parent.name == "ko" else "en"), page


# ---- in a browser ----------------------------------------------------------------------------------------------------


def violations(page: Any) -> list[tuple[str, str]]:
    """What axe finds: (rule, the first place)."""
    from axe_playwright_python.sync_playwright import Axe

    return [(one["id"], one["nodes"][0]["html"]) for one in Axe().run(page, options=AXE).response["violations"]]


@pytest.mark.parametrize(("scheme", "viewport"), [("light", PHONE), ("dark", WIDE)])
def test_every_page_in_a_browser(browser: Any, site: Path, scheme: str, viewport: dict[str, int]) -> None:
    """It asks no other host, complains of nothing, shows its pictures, is not cut off, and axe finds nothing."""
    has_axe = importlib.util.find_spec("axe_playwright_python") is not None
    wrong: dict[str, object] = {}
    pages = [page for page in sorted(site.rglob("*.html")) if page.name != "404.html"]
    made = [sorted((site / folder).rglob("*.html")) for folder in ("api", "source")]  # each from one template
    alike = {page for folder in made for page in folder[1:]}  # axe looks at the first
    opened = open_page(browser, site / "index.html", viewport, color_scheme=scheme)
    for page in pages:
        opened.goto(page.as_uri())
        name = page.relative_to(site).as_posix()
        paper = colours(opened, "body")[1]
        if (sum(paper) > 600) != (scheme == "light"):
            wrong[name] = paper
        if not opened.evaluate(SHOWN) or opened.evaluate("document.documentElement.scrollWidth") > viewport["width"]:
            wrong[name] = "a picture is missing, or it is cut off"
        if has_axe and page not in alike and (found := violations(opened)):
            wrong[name] = found
    assert len(pages) > 40
    assert wrong == {}
    assert [url for url in opened.requests if not url.startswith(("file:", "data:", "blob:"))] == []
    assert opened.complaints == []
    opened.close()


@one_page
@pytest.mark.parametrize("word", ["Philox", "RandomResizedCrop"] + ["증강"] * (DOCS / "ko").is_dir())
def test_search_finds_a_word_offline(opened: Any, word: str) -> None:
    opened.keyboard.press("/")
    opened.keyboard.type(word)
    opened.locator(".md-search-result__link").first.wait_for()
    assert word.lower() in opened.locator(".md-search-result__item").first.inner_text().lower()
    opened.keyboard.press("ArrowDown")
    opened.keyboard.press("Enter")
    opened.wait_for_url(re.compile(r"\.html.*h="))
    assert [url for url in opened.requests if not url.startswith(("file:", "data:", "blob:"))] == []


@one_page
def test_the_keyboard_is_enough(opened: Any) -> None:
    opened.keyboard.press("Tab")
    assert "md-skip" in (opened.evaluate("document.activeElement.className") or "")
    seen = []
    for _ in range(40):
        opened.keyboard.press("Tab")
        seen.append(opened.evaluate("document.activeElement.getAttribute('href')"))
        if seen[-1] == "start.html":
            break
    assert seen[-1] == "start.html", seen
    outline = opened.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"  # where the keyboard is can be seen
    opened.keyboard.press("Enter")
    opened.wait_for_url(re.compile(r"start\.html"))


@one_page
def test_the_other_colours_are_one_key_away(opened: Any) -> None:
    paper = colours(opened, "body")[1]
    opened.locator("label[for^=__palette]:visible, .md-header__option label:visible").first.click()
    assert (sum(colours(opened, "body")[1]) > 600) != (sum(paper) > 600)


@pytest.mark.skipif(not (DOCS / "ko").is_dir(), reason="there are no Korean pages")
@pytest.mark.parametrize("opened", ["ko/recipes", "recipes"], indirect=True)
def test_a_page_leads_to_its_twin_in_the_other_language(opened: Any) -> None:
    for language, path in (("en", "/recipes.html"), ("ko", "/ko/recipes.html")):
        link = opened.locator(f"a[hreflang={language}]")
        assert link.evaluate("a => a.href").endswith(path)
