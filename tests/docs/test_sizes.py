"""No file is above 350 lines and no function above 80, unless its first line says why: "What it is (long: why)." """

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.imports import ROOT

FOLDERS = ("gpuaug", "benchmarks", "tests", "examples")
MOST_LINES, MOST_OF_A_FUNCTION = 350, 80
REASON = re.compile(r"\(long: [^)]{10,}\)")


def too_long(text: str, lines: int = MOST_LINES, of_a_function: int = MOST_OF_A_FUNCTION) -> Iterator[str]:
    """The file (`file`) and the functions of it that are too long and do not say why."""
    tree = ast.parse(text)
    if text.count("\n") > lines and not _says_why(tree):
        yield f"file: {text.count(chr(10))} lines"
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            if length > of_a_function and not _says_why(node):
                yield f"{node.name}: {length} lines"


def _says_why(node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return bool(REASON.search((ast.get_docstring(node) or "").partition("\n")[0]))


def files() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


def test_files_and_functions_are_short() -> None:
    assert len(files()) > 200
    found = {f"{path.relative_to(ROOT)}: {one}" for path in files() for one in too_long(path.read_text("utf-8"))}
    assert not found, "\n".join(sorted(found))


def test_what_is_too_long_is_found() -> None:
    body = "".join(f"    x = {number}\n" for number in range(90))
    assert list(too_long(f"def run():\n{body}")) == ["run: 91 lines"]
    assert list(too_long(f'def run():\n    """Run (long: a table of cases)."""\n{body}')) == []
    assert list(too_long("x = 1\n" * 351)) == ["file: 351 lines"]
    assert list(too_long('"""All cases (long: one table of cases)."""\n' + "x = 1\n" * 351)) == []
    assert list(too_long('"""All cases (long: )."""\n' + "x = 1\n" * 351)) == ["file: 352 lines"]
