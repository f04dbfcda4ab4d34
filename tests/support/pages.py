"""The blocks of code of the documentation's pages, and what must exist for a command line of them to work."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import dropwhile
from pathlib import Path

__all__ = ["BY", "CHAIN", "NOT_RUN", "PAGES", "PYTHON", "SHELL", "Block", "blocks", "commands", "lacking"]

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
CHAIN = (  # pages whose blocks continue each other, in this order
    "README.md",
    "docs/use.md",
    "docs/recipes.md",
    "docs/config.md",
    "docs/dialects.md",
    "docs/preview.md",
    "docs/gpu.md",
    "docs/data.md",
    "docs/targets.md",
    "docs/clips.md",
    "docs/advice.md",
    "docs/views.md",
)
READERS = {"train.py"}  # the reader's own script, on any page
PYTHON, SHELL = ("python", "py"), ("bash", "sh")
BY = "run by "  # and a test: of a block that takes too long, or needs too much, to run as it stands
NOT_RUN = "not run: "  # and a reason, with the test that checks what can be checked
FENCE = re.compile(r"^```(\w*)[^\n]*?(?:title=\"([^\"]+)\")?\n(.*?)^```$", re.M | re.S)
OTHERS = {"apt", "cd", "mkdir", "mypy", "pre-commit", "python3", "python3.12", "ruff", "ruff format", "."}  # not ours


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        language: The word after the fence; "" if there is none.
        title: Name of the file that the reader saves it as; "" if there is none.
        mark: Text of the comment above it.
        code: The lines between the fences.
    """

    language: str
    title: str
    mark: str
    code: str


def blocks(page: Path) -> list[Block]:
    text, found = page.read_text(encoding="utf-8"), []
    for match in FENCE.finditer(text):
        above = re.search(r"<!-- ([^\n]*) -->\n\Z", text[: match.start()])
        found.append(Block(match[1], match[2] or "", above[1] if above else "", match[3]))
    return found


def commands(code: str) -> Iterator[list[str]]:
    """The words of each command of a shell block, without variables before it and comments."""
    for line in code.replace("\\\n", " ").splitlines():
        for part in re.split(r"\s&&\s", line):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"\w+=.*", words[0]):
                words = words[1:]
            if words:
                yield words


def lacking(words: list[str], files: set[str]) -> str:
    """What a command line names and is not there: a command, an option, a module, a file, an extra; "" if nothing.

    `files`: those that the page tells the reader to write.
    """
    if "--" in words:  # arguments of the reader's script
        words = words[: words.index("--")]
    program, rest = words[0], words[1:]
    if program == "torchrun":  # a script comes after its options
        program, rest = "python", list(dropwhile(lambda word: not word.endswith(".py"), rest))
    own = rest[: rest.index("--")] if "--" in rest else rest  # what comes after it is for the reader's script
    options = [word.partition("=")[0] for word in own if word.startswith("--")]
    if program == "gpuaug":
        known = _options(rest[0] if rest else "")
        return f"gpuaug {' '.join(rest[:1])}" if known is None else " ".join(one for one in options if one not in known)
    if program in ("pip", ".venv-gpu-versions/bin/pip"):
        wanted = {name for word in rest for found in re.findall(r"\.\[([\w,]+)\]", word) for name in found.split(",")}
        return " ".join(wanted - _extras())
    if program == "python" and rest[0] == "-m":
        return rest[1] if (found := _source(rest[1])) is None else _unread(options, found)
    if program == "python":
        if rest[0] in files | READERS:
            return ""
        file = ROOT / rest[0]
        return _unread(options, file.read_text(encoding="utf-8")) if file.is_file() else rest[0]
    if program == "pytest":
        return " ".join(word for word in rest if "/" in word and not (ROOT / word).exists())
    if program.startswith(".ci/"):
        return " ".join(word for word in words if word.startswith((".ci/", "tests/")) and not (ROOT / word).exists())
    return "" if program in OTHERS else program


@cache
def _options(command: str) -> set[str] | None:
    """The options of a command of `gpuaug`; None if there is no such command."""
    import typer.main

    from gpuaug.cli.main import app

    found = typer.main.get_command(app()).commands.get(command)  # type: ignore[attr-defined]
    if found is None:
        return None
    return {name for one in found.params for name in (*one.opts, *one.secondary_opts)} | {"--help"}


@cache
def _source(module: str) -> str | None:
    """The text of a module, or of a package's __main__; of one that is not ours nothing is known."""
    if not module.startswith(("benchmarks", "tests", "gpuaug")):
        return "" if importlib.util.find_spec(module.partition(".")[0]) else None
    path = ROOT / module.replace(".", "/")
    files = [path.with_suffix(".py"), path / "__main__.py"]
    return "\n".join(file.read_text(encoding="utf-8") for file in files if file.is_file()) or None


def _unread(options: list[str], source: str) -> str:
    """The options that a program does not mention, by themselves or as the name of an argument."""
    if not source:
        return ""
    names = {option: option.removeprefix("--").replace("-", "_") for option in options}
    return " ".join(one for one, name in names.items() if one not in source and not re.search(rf"\b{name}:", source))


@cache
def _extras() -> set[str]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = re.search(r"^\[project\.optional-dependencies\]\n(.*?)^\[", text, re.M | re.S)
    assert section
    return set(re.findall(r"^(\w+) = \[", section[1], re.M))
