"""Who imports whom in the package: files and the floors they are on. `python -m tests.support.imports` prints it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

__all__ = ["FLOORS", "PACKAGE", "circles", "floor", "graph", "imported", "name_of", "picture", "upwards"]

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "gpuaug"

# From the top. A file may import from its own floor and from those below; `a` is the module a, or all that is in it.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("__init__", "__main__"),
    ("cli",),
    ("photographs", "preview"),  # old names, until version 0.3
    (
        "demo",
        "profiler.callbacks",
        "profiler.run",
        "profiler.session",
        "profiler.unchanged",
        "advice",
        "sheet",
        "tuning",
    ),
    ("profiler.show",),
    ("interop.adapters",),
    ("profiler", "data.loader", "data.batches"),
    ("data",),
    ("recipes",),
    ("augment",),
    ("engine",),
    ("interop",),
    ("kernels",),
    ("transforms",),
    ("ragged",),
    ("program",),
    ("philox", "checks", "instructions", "compat"),
)


def name_of(path: Path, root: Path = PACKAGE) -> str:
    """`kernels.torch.crop` for gpuaug/kernels/torch/crop.py; a folder is its own name, the root is `__init__`."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imported(tree: ast.AST, module_level: bool, package: str = "") -> Iterator[str]:
    """Full names of what is imported, at module level or anywhere.

    Args:
        package: the package of the file, for imports that are relative to it; without it they raise.
    """
    nodes = list(ast.walk(tree))
    if module_level:
        inside = {
            child
            for node in nodes
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or is_type_checking(node)
            for child in ast.walk(node)
        }
        nodes = [node for node in nodes if node not in inside]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert package or node.level == 0, "imports are absolute"
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def graph(sources: Mapping[str, str] | None = None, package: str = "gpuaug") -> dict[str, set[str]]:
    """For each module what it imports of the package, anywhere in its file.

    Args:
        sources: name and text of each module; None reads the package.
    """
    if sources is None:
        sources = {name_of(path): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    found: dict[str, set[str]] = {}
    for name, text in sources.items():
        names = [full.removeprefix(f"{package}.") for full in imported(ast.parse(text), module_level=False)
                 if full.startswith(f"{package}.")]  # fmt: skip
        found[name] = {module for module in map(lambda n: _module(n, sources), names) if module != name}  # noqa: C417
    return found


def _module(name: str, modules: Iterable[str]) -> str:
    """The module that `from gpuaug.a import b` reads: a.b where that is one, else a; names of the root are its own."""
    if name in modules:
        return name
    owner = name.rpartition(".")[0]
    return owner if owner in modules else "__init__"


def floor(name: str) -> int:
    """Number of the module's floor, 0 is the top; the longest entry that fits it counts."""
    fits = [(len(entry), number) for number, entries in enumerate(FLOORS) for entry in entries
            if f"{name}.".startswith(f"{entry}.")]  # fmt: skip
    if not fits:
        raise ValueError(f"imports: `FLOORS` must name {name}, got no entry for it.")
    return max(fits)[1]


def upwards(found: Mapping[str, set[str]]) -> list[str]:
    """Imports from a higher floor. A folder's `__init__` may show what is inside it."""
    return [f"{name} imports {other}" for name, others in found.items() for other in sorted(others)
            if other != "__init__" and floor(other) < floor(name) and not other.startswith(f"{name}.")]  # fmt: skip


def circles(found: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import one another, by whatever way (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(found[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            groups.append(sorted(group))

    for name in found:
        if name not in index:
            visit(name)
    return [group for group in groups if len(group) > 1]


def picture(found: Mapping[str, set[str]]) -> str:
    """The floors from the top, each room with its files and the rooms it imports from."""
    lines = []
    for number, entries in enumerate(FLOORS):
        for entry in entries:
            names = [name for name in found if f"{name}.".startswith(f"{entry}.") and floor(name) == number]
            others = {other.split(".")[0] for name in names for other in found[name]} - {entry.split(".")[0]}
            lines.append(f"{number:2} {entry:14} {len(names):3} files <- {', '.join(sorted(others)) or '-'}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(picture(graph()))
