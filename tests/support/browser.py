"""A real browser for tests of pages: Debian's Chromium, headless, without a network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

__all__ = ["browser", "colours", "contrast", "open_page"]

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if BROWSER is None:
        assert "GPUAUG_BROWSER" not in os.environ, "no Chromium is installed, and GPUAUG_BROWSER asks for one"
        pytest.skip("no Chromium is installed (apt install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as p:
        found = p.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield found
        found.close()


def open_page(browser: Any, path: Path, viewport: dict[str, int], **options: Any) -> Any:
    """A tab with the page, opened with Playwright's options.

    `requests` and `complaints` hold what it asked for and complained of.
    """
    tab = browser.new_page(viewport=viewport, **options)
    tab.requests, tab.complaints = [], []
    tab.on("request", lambda request: tab.requests.append(request.url))
    tab.on("console", lambda message: tab.complaints.append(message.text))
    tab.on("pageerror", lambda error: tab.complaints.append(str(error)))
    tab.goto(path.as_uri())
    return tab


def colours(tab: Any, selector: str) -> tuple[list[int], list[int]]:
    """Colours of the text and of what is behind it, of the first element that fits."""
    script = """s => { const e = document.querySelector(s); const c = getComputedStyle(e);
        let p = e; while (p && getComputedStyle(p).backgroundColor === 'rgba(0, 0, 0, 0)') p = p.parentElement;
        const n = t => t.match(/[0-9.]+/g).slice(0, 3).map(Number);
        return [n(c.color), n(getComputedStyle(p).backgroundColor)]; }"""
    ink, paper = tab.evaluate(script, selector)
    return ink, paper


def contrast(a: list[int], b: list[int]) -> float:
    """WCAG 2.2's."""

    def light(colour: list[int]) -> float:
        parts = [v / 255 / 12.92 if v / 255 <= 0.04045 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in colour]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    high, low = sorted((light(a), light(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)
