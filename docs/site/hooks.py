"""What MkDocs does not do by itself: the navigation, files outside docs/, the API pages, the language of a page.

- The navigation follows the tables of docs/index.md, so a page is listed once.
- A page may link to any file of the repository. README and the like become pages, pictures are copied, and other files
  become a page that shows their text.
- `api/*.md` are made from the names in `__all__`.
- Pages in docs/ko are Korean. A page links to the same page in the other language, or to its start page.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
PAGES = {"README.md": "overview.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
PICTURES = (".png", ".jpg", ".svg")
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
NAMED = re.compile(r"\[`?[\w./-]+\.md`?(?=\]\(([^)#\s]+\.md))")  # a link whose words are the name of a file
FENCE = re.compile(r"(^```.*?^```)", re.M | re.S)
LANGUAGES = {".py": "python", ".c": "c", ".yml": "yaml", ".md": "markdown"}
KOREAN = ("index.md", "recipes.md", "profiler.md", "faq.md")  # the order of their section
TWINS = {"index.md": "start.md"}  # Korean pages whose English page has another name
WIDE = ("migrate.md",)  # pages with two columns, which need the place of the table of contents


# ---- navigation ------------------------------------------------------------------------------------------------------


def on_config(config: Any) -> Any:
    text = (DOCS / "index.md").read_text(encoding="utf-8")
    nav: list[Any] = [{"Home": "index.md"}]
    for title, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.M | re.S):
        pages: list[Any] = []
        for words, name in re.findall(r"^\| \[([^]]+)\]\(([^)#]+\.md)\)", body, re.M):
            pages.append({words: PAGES.get(name.removeprefix("../"), name)})
            if name == "api.md":
                pages += [f"api/{group}.md" for group in _api()]
        if pages:
            nav.append({title: pages})
    examples = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
    nav.append({"Examples": [{name: f"source/examples/{name}.md"} for name in examples]})
    found = {path.name for path in (DOCS / "ko").glob("*.md")}
    korean = [name for name in KOREAN if name in found] + sorted(found - set(KOREAN))
    if korean:
        nav.append({"한국어": [f"ko/{name}" for name in korean]})
    config.nav = nav
    return config


# ---- files outside docs/ ---------------------------------------------------------------------------------------------


def _address(path: str) -> str | None:
    """Where a file of the repository is on the site; None for a folder."""
    if path in PAGES:
        return PAGES[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if (ROOT / path).is_dir():
        return None
    if path.endswith(PICTURES):
        return "files/" + path.lstrip(".")
    return f"source/{path}.md"


def _links(path: str, text: str) -> Iterator[str]:
    """The files of the repository to which a page links."""
    for part in FENCE.split(text)[::2]:
        for match in LINK.finditer(part):
            file = match[2].partition("#")[0]
            if file and "://" not in file:
                yield posixpath.normpath(posixpath.join(posixpath.dirname(path), file))


def _moved(path: str, page: str, text: str) -> str:
    """A page with links to where files are on the site, by their titles; a link to a folder is only its text."""

    def link(match: re.Match[str]) -> str:
        file, mark, anchor = match[2].partition("#")
        if not file or "://" in file:
            return match[0]
        address = _address(posixpath.normpath(posixpath.join(posixpath.dirname(path), file)))
        if address is None:
            address, mark, anchor = page, "", ""
        return f"{match[1]}{posixpath.relpath(address, posixpath.dirname(page) or '.')}{mark}{anchor}{match[3]}"

    def words(match: re.Match[str]) -> str:
        file = ROOT / posixpath.join(posixpath.dirname(path), match[1])
        return f"[“{_title(file.read_text(encoding='utf-8'))}”" if file.is_file() else match[0]

    parts = FENCE.split(text)
    parts[::2] = [LINK.sub(link, NAMED.sub(words, part)) for part in parts[::2]]
    return "".join(parts)


def on_files(files: Files, config: Any) -> Files:
    texts = {f"docs/{file.src_uri}": file.content_string for file in files.documentation_pages()}
    for path, page in PAGES.items():
        texts[path] = (ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=texts[path]))
    linked = {target for path, text in texts.items() for target in _links(path, text)}
    linked |= {f"examples/{path.name}" for path in (ROOT / "examples").glob("*.py")}
    for path in sorted(linked):
        address, file = _address(path), ROOT / path
        if address is None or path in PAGES or path.startswith("docs/") or not file.exists():
            continue  # a link that leads nowhere is reported where MkDocs looks at it
        if address.startswith("files/"):
            files.append(File.generated(config, address, abs_src_path=str(file)))
        else:
            files.append(File.generated(config, address, content=_source(path, file)))
    for name, text in _api().items():
        files.append(File.generated(config, f"api/{name}.md", content=text))
    return files


def _source(path: str, file: Path) -> str:
    found = "false" if path.startswith("examples/") else "true"
    language = LANGUAGES.get(file.suffix, "text")
    text = file.read_text(encoding="utf-8").rstrip()
    return f"---\nsearch:\n  exclude: {found}\n---\n\n# {path}\n\n~~~~~~{language}\n{text}\n~~~~~~\n"


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    uri = page.file.src_uri
    path = next((path for path, name in PAGES.items() if name == uri), f"docs/{uri}")
    if uri in WIDE:
        page.meta["hide"] = ["toc"]
    if uri == "api.md":
        markdown += "\n" + "".join(f"- [{_title(text)}](api/{name}.md)\n" for name, text in _api().items())
    return markdown if uri.startswith(("source/", "api/")) else _moved(path, uri, markdown)


# ---- the API ---------------------------------------------------------------------------------------------------------


def _api() -> dict[str, str]:
    """The text of each API page: a heading, what it holds, and the names, whose docstrings mkdocstrings fills in."""
    import gpuaug

    groups: dict[str, list[str]] = {"module": [], "transforms": [], "converters": []}
    for name in gpuaug.__all__:
        module = gpuaug.MODULES.get(name, "gpuaug.transforms")
        if name in gpuaug.SUBMODULES:
            continue
        if name.startswith("from_") or module == "gpuaug.interop.report":
            groups["converters"].append(name)
        elif name in ("RandomApply", "RandomChoice", "RandomOrder") or module.startswith("gpuaug.transforms"):
            groups["transforms"].append(name)
        else:
            groups["module"].append(name)
    for name, module in gpuaug.SUBMODULES.items():
        groups[name] = [f"{name}.{one}" for one in _all_of(ROOT / module.replace(".", "/") / "__init__.py")]
    about = {
        "module": "The module, batches and functions",
        "transforms": "Transforms",
        "converters": "Converters of pipelines and configurations",
    }
    texts = {}
    for group, names in groups.items():
        options = (
            "\n    options:\n      members: false\n      inherited_members: false" if group == "transforms" else ""
        )
        body = "\n\n".join(f"::: gpuaug.{name}{options}" for name in sorted(names, key=str.lower))
        texts[group] = f"# {about.get(group, 'gpuaug.' + group)}\n\n{body}\n"
    return texts


def _all_of(file: Path) -> list[str]:
    """The names in a file's `__all__`."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    raise ValueError(f"hooks: {file} must have a literal `__all__`.")


def _title(text: str) -> str:
    return text.partition("\n")[0].removeprefix("# ")


# ---- languages -------------------------------------------------------------------------------------------------------


def on_page_context(context: Any, page: Any, config: Any, nav: Any) -> Any:
    uri = page.file.src_uri
    korean = uri.startswith("ko/")
    name = uri.removeprefix("ko/")
    config.theme["language"] = "ko" if korean else "en"
    config.extra["alternate"] = []
    if (DOCS / "ko").is_dir():
        if korean:
            english, other = TWINS.get(name, name), name
        else:
            twins = {english: own for own, english in TWINS.items()}
            english, other = name, twins.get(name, name if (DOCS / "ko" / name).exists() else "index.md")
        links = {"English": ("en", english), "한국어": ("ko", f"ko/{other}")}
        config.extra["alternate"] = [
            {"name": words, "lang": lang, "link": f"{link.removesuffix('.md')}.html"}
            for words, (lang, link) in links.items()
        ]
    return context


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Without the head's links to other languages: the theme's script would ask for the site map of each."""
    return re.sub(r'<link rel="alternate"[^>]*>', "", output)
