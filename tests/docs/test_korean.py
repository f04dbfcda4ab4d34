"""The Korean pages have the code of the English ones, letter by letter; test_pages.py runs that of the English ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
ENGLISH = {"index.md": "start.md", "recipes.md": "recipes.md", "profiler.md": "profiler.md", "faq.md": "faq.md"}
SHOWN = "text"  # output, of which a page may show a part


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each block of code."""
    return re.findall(r"^```(\w*)[^\n]*\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


def other(own: list[tuple[str, str]], english: list[tuple[str, str]]) -> list[str]:
    """What is not code or output of the English page, and the code that is only there."""
    missing = [text for block in english if block[0] == "python" and block not in own for text in block[1:]]
    lines = {line for language, text in english if language == SHOWN for line in text.splitlines()}
    for language, text in own:
        if language == SHOWN:
            missing += [line for line in text.splitlines() if line not in lines]
        elif (language, text) not in english:
            missing.append(text)
    return missing


def test_every_korean_page_has_an_english_one() -> None:
    assert {page.name for page in (DOCS / "ko").glob("*.md")} == set(ENGLISH)


@pytest.mark.parametrize("name", ENGLISH)
def test_both_languages_have_the_same_code(name: str) -> None:
    own, english = blocks(DOCS / "ko" / name), blocks(DOCS / ENGLISH[name])
    assert own
    assert other(own, english) == []


def test_other_code_is_found() -> None:
    english = [("python", "x = 1\n"), ("bash", "run\n"), ("text", "one\ntwo\n")]
    assert other([("python", "x = 1\n"), ("text", "two\n")], english) == []
    assert other([("python", "x = 2\n")], english) == ["x = 1\n", "x = 2\n"]
    assert other([("python", "x = 1\n"), ("bash", "run fast\n"), ("text", "three\n")], english) == [
        "run fast\n",
        "three",
    ]
