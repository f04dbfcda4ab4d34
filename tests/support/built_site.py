"""The documentation as a site: how it is built, and what its pages link to and load."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["Page", "broken", "build", "foreign", "read"]

ROOT = Path(__file__).parents[2]
LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}  # what a browser asks for


def build(folder: Path) -> str:
    """Build the site strictly into a folder; what it printed."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-f", "docs/site/mkdocs.yml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run([*command, "-d", str(folder)], cwd=ROOT, env=environment, capture_output=True, text=True)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    return printed


@dataclass
class Page:
    """What a built page has: names to which a link may lead, links, what the browser loads, and its language."""

    names: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    language: str = ""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.page.names |= {found[name] for name in ("id", "name") if name in found}
        if tag == "a" and "href" in found:
            self.page.links.append(found["href"])
        if tag == "html":
            self.page.language = found.get("lang", "")
        if LOADED.get(tag) in found and found.get("rel") not in ("prev", "next", "canonical", "alternate"):
            self.page.loaded.append(found[LOADED[tag]])


def read(html: str) -> Page:
    reader = _Reader()
    reader.feed(html)
    return reader.page


def broken(folder: Path) -> Iterator[str]:
    """Each link, picture and script of the site that leads nowhere: to no file, or to no place in a page."""
    pages = {path: read(path.read_text(encoding="utf-8")) for path in folder.rglob("*.html")}
    for path, page in pages.items():
        if path.name == "404.html":
            continue  # for a server; its links begin at the root
        for target in [*page.links, *page.loaded]:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            other = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not other.is_file():
                yield f"{path.relative_to(folder)}: {target}"
            elif parts.fragment and other in pages and unquote(parts.fragment) not in pages[other].names:
                yield f"{path.relative_to(folder)}: {target} (no such place)"


def foreign(folder: Path) -> Iterator[str]:
    """What a page would load from another host."""
    for path in folder.rglob("*.html"):
        for target in read(path.read_text(encoding="utf-8")).loaded:
            if (urlsplit(target).scheme or urlsplit(target).netloc) and not target.startswith("data:"):
                yield f"{path.relative_to(folder)}: {target}"
