"""The page in a real browser: Debian's Chromium, headless, without a network."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torchvision.transforms import v2

from gpuaug.profiler.model.functions import Function
from gpuaug.profiler.report import Report
from gpuaug.profiler.session import measure
from gpuaug.profiler.show.comparison import to_html as comparison_page
from gpuaug.profiler.show.html import to_html
from gpuaug.profiler.show.png import save_png
from gpuaug.profiler.show.terminal import to_text
from gpuaug.profiler.show.timeline import events
from tests.support import profiler_cases as cases
from tests.support.browser import colours, contrast, open_page

NARROW, WIDE = {"width": 380, "height": 800}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def report() -> Report:
    """Of a loader with names that HTML would read as tags."""
    loader = cases.make("map")
    loader.dataset.transform = v2.Compose([*cases.TRANSFORM.transforms, cases.Hostile()])
    found = measure(loader, cases.step, budget=3.0, proof=False)
    place = "/home/user/a-long-folder/another-long-folder-of-a-project/data.py"
    library = ("getitem", "Image.copy", "/lib/PIL/Image.py", 1355, f"{place}:41", 0.002, 0.6)
    found.functions = [Function(*library), Function("getitem", cases.HOSTILE, place, 44, "", 0.001, 0.3)]
    return found


@pytest.fixture
def opened(browser: Any, report: Report, tmp_path: Path) -> Iterator[Any]:
    """The page, and what it asked for and complained of."""
    path = tmp_path / "report.html"
    path.write_text(to_html(report), encoding="utf-8")
    tab = open_page(browser, path, WIDE)
    yield tab
    tab.close()


def test_it_asks_for_nothing_else(opened: Any) -> None:
    assert len(opened.requests) == 1
    assert opened.requests[0].startswith("file:")
    assert opened.complaints == []
    assert opened.evaluate("document.scripts.length") == 0


def test_it_shows_the_report(opened: Any, report: Report) -> None:
    assert opened.locator("#verdict").inner_text() == report.verdict.text
    rows = opened.locator("section, main").locator("h2#stages + div tbody tr")
    assert rows.count() == len(report.stages)
    for row, stage in zip(rows.all(), report.stages, strict=True):
        said = row.inner_text()
        assert stage.name in said
        assert str(stage.gain) in said
    body = opened.locator("body").inner_text()
    for one in report.advice:
        assert one.id in body
    for index, _ in report.slowest(3):
        assert str(index) in body


def test_names_are_text(opened: Any) -> None:
    """A transform called like a tag stays a name."""
    assert opened.locator("b.hostile").count() == 0
    assert opened.evaluate("document.querySelectorAll('script, iframe, object').length") == 0
    assert cases.HOSTILE in opened.locator("body").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_by_day_and_night(opened: Any, scheme: str) -> None:
    opened.emulate_media(color_scheme=scheme)
    paper = colours(opened, "body")[1]
    assert (sum(paper) > 600) == (scheme == "light")
    for selector in ("body", "#verdict", ".dim", "caption", "th", "td", "code"):
        assert contrast(*colours(opened, selector)) >= 4.5, selector


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(opened: Any, scheme: str) -> None:
    """What screen readers and keyboards need, as far as a program can tell."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    opened.emulate_media(color_scheme=scheme)
    found = axe.Axe().run(opened)
    assert found.violations_count == 0, found.generate_report()


def test_keys_reach_everything(opened: Any) -> None:
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.className") == "skip"
    opened.keyboard.press("Enter")
    assert opened.url.endswith("#stages")
    seen = set()
    for _ in range(60):
        opened.keyboard.press("Tab")
        seen.add(
            opened.evaluate("document.activeElement.getAttribute('aria-labelledby') || document.activeElement.tagName")
        )
        closed = not opened.locator("details[open]").count()  # the keys come round again
        if closed and opened.evaluate("document.activeElement.tagName") == "SUMMARY":
            opened.keyboard.press("Enter")
            assert opened.evaluate("document.activeElement.parentElement.open")
    assert {"stages", "timeline", "slowest"} <= seen


def test_pictures_have_words(opened: Any) -> None:
    for image in opened.locator("svg[role=img]").all():
        assert len(image.get_attribute("aria-label")) > 20
    assert opened.locator("svg:not([role=img]):not([aria-hidden=true] svg)").count() == 0
    assert opened.locator("html").get_attribute("lang") == "en"


def test_nothing_is_cut_off_on_a_phone(opened: Any) -> None:
    opened.set_viewport_size(NARROW)
    assert opened.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


def test_boxes_lie_in_the_drawing(opened: Any) -> None:
    script = """() => [...document.querySelectorAll('svg[role=img]')].map(s => { const w = s.viewBox.baseVal;
        return [...s.querySelectorAll('rect')].every(r => r.x.baseVal.value >= -0.01 && r.y.baseVal.value >= -0.01
            && r.x.baseVal.value + r.width.baseVal.value <= w.width + 0.5
            && r.y.baseVal.value + r.height.baseVal.value <= w.height + 0.5)
            && s.querySelectorAll('rect').length > 2; })"""
    assert opened.evaluate(script) == [True, True]


# ---- the other forms, without a browser ------------------------------------------------------------------------------


def test_every_form_tells_the_same(report: Report, tmp_path: Path) -> None:
    shown = to_text(report)
    assert report.verdict.text in " ".join(shown.replace("│", " ").split())
    for stage in report.stages:
        assert stage.name[:12] in shown
    written = to_html(report)
    assert f"{report.images_per_second:,.0f}" in shown
    assert f"{report.images_per_second:,.0f}" in written
    for one in report.functions:
        assert html.escape(one.name) in written
    save_png(report, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000
    save_png(report, tmp_path / "a.svg")
    assert len([e for e in events(report) if e["ph"] == "s"]) == len(report.trace.batches)


def test_it_fits_a_phone(opened: Any, report: Report) -> None:
    """At 390 pixels nothing is off the screen: names whole, each number on one line, fewer columns."""
    opened.set_viewport_size({"width": 390, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    tables = opened.locator("table").all()
    assert all(table.evaluate("e => e.getBoundingClientRect().right") <= 390 for table in tables)
    row = opened.locator("h2#stages + div tbody tr").first
    assert row.locator("td:visible").count() == 3
    assert row.bounding_box()["height"] < 60


def test_two_reports_side_by_side(browser: Any, report: Report, tmp_path: Path) -> None:
    slower = replace(report, pace=2 * report.pace, stages=report.stages[1:])
    path = tmp_path / "compare.html"
    path.write_text(comparison_page(report, slower, 0.05), encoding="utf-8")
    tab = browser.new_page(viewport={"width": 390, "height": 800})
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(path.as_uri())
    assert len(asked) == 1
    body = tab.locator("body").inner_text()
    assert "0.50 times as fast" in body
    assert "A regression: 0.50x is below 0.95x." in body
    first = tab.locator(".pair").first
    assert first.locator("h3").inner_text() == report.stages[0].name
    assert first.locator(".change").inner_text() == "gone"
    widths = [bar.bounding_box()["width"] for bar in first.locator(".bar").all()]
    assert widths[0] > widths[1]
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert tab.locator("b.hostile").count() == 0
    tab.close()
