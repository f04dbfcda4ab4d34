"""The drawings are those that the code makes, and every chart says what it shows, in which unit, and what made it."""

from __future__ import annotations

import re

import pytest

from benchmarks.report import docs, flow
from tests.support.pages import PAGES, ROOT

PICTURE = re.compile(r"^!\[([^]]+)\]\(([^)]+)\)", re.M)


def test_the_drawing_is_what_the_code_draws() -> None:
    """`python -m benchmarks.report.flow` has been run."""
    assert flow.FILE.read_text(encoding="utf-8") == flow.drawing()


def test_every_chart_names_its_axes_and_its_command() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib import pyplot

    from benchmarks.report import plots

    charts = 0
    for name, figure in plots._figures(docs.stored()["full"]):
        about = " ".join(" ".join(text.get_text() for text in figure.texts).split())
        assert "python -m benchmarks" in about, name
        for axis in figure.axes:
            assert re.search(r"second|millisecond|time|images|pixels|threads|RandAugment N", axis.get_xlabel()), name
            named = [label.get_text() for label in axis.get_yticklabels()]
            assert axis.get_ylabel() or any(re.search("[a-z]", label) for label in named), name
        pyplot.close(figure)
        charts += 1
    assert charts >= 5


@pytest.mark.parametrize("page", [page for page in PAGES if PICTURE.search(page.read_text(encoding="utf-8"))])
def test_every_picture_has_words_and_a_command(page: object) -> None:
    """A page with pictures names the command that makes them; the front page's is in use.md."""
    from pathlib import Path

    assert isinstance(page, Path)
    text = page.read_text(encoding="utf-8")
    for words, _ in PICTURE.findall(text):
        assert len(words.split()) >= 3
    if page.name not in ("index.md", "README.md") and page.parent.name != "ko":
        assert re.search(r"python -m benchmarks|python examples/|gpuaug report", text), page.relative_to(ROOT)
