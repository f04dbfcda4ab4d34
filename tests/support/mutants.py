"""Small changes of meaning in the code, each of which a test must notice.

    python tests/support/mutants.py                 # all: prints who survives, and counts
    python tests/support/mutants.py looks mix.py    # those in files whose path contains a word
    python tests/support/mutants.py looks#3         # one of them
    python tests/support/mutants.py --list

A mutant is one text of a file replaced by another, and the tests that should fail then. Each runs in a process that is
forked from one which has imported what is slow to import, in a copy of the tree, on one core, and ends at the first
failure. A mutant that takes more than LIMIT seconds of the processor counts as noticed: it hangs.

The table is in `mutants.txt` beside this file. What is not there because it changes nothing is said where the code is.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_suffix(".txt")
LIMIT = 240  # seconds of the processor
BROKEN = 70
# what pytest ends with if a test fails or its module cannot be imported, and what ends one that hangs or crashes
NOTICED = (1, 2, -signal.SIGXCPU, -signal.SIGKILL, -signal.SIGSEGV, -signal.SIGABRT)
QUIET = ("-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")  # imported before the fork
STAMPED = ("gpuaug/kernels/numba/", "gpuaug/program.py", "gpuaug/philox.py")  # a change makes Numba compile anew


@dataclass(frozen=True)
class Mutant:
    """`text`, which stands in `file` once, becomes `other`; `tests` are arguments of pytest, paths below tests/."""

    name: str
    file: str
    text: str
    other: str
    tests: str

    def apply(self, root: Path) -> None:
        path = root / self.file
        path.write_text(path.read_text().replace(self.text, self.other))


def read(table: str) -> Iterator[Mutant]:
    """Mutants of a table: a line `[file]`, lines `tests: ...` for those that follow, and `text => other` lines.

    Raises:
        ValueError: if texts do not stand in their files once; all of them are named.
    """
    wrong: list[str] = []
    file = tests = source = ""
    counts: Counter[str] = Counter()
    for line in table.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("[gpuaug/") and line.endswith(".py]"):
            file, tests = line[1:-1], ""
            source = (ROOT / file).read_text()
        elif line.startswith("tests: "):
            tests = line.removeprefix("tests: ")
        else:
            text, other = (part.replace("\\n", "\n") for part in (line if " => " in line else f"{line} ").split(" => "))
            counts[file] += 1
            name = f"{Path(file).with_suffix('').as_posix().removeprefix('gpuaug/')}#{counts[file]}"
            if source.count(text) != 1 or not tests:
                wrong.append(f"{name}: {text!r} must stand in {file} once, got {source.count(text)}.")
            yield Mutant(name, file, text, other, tests)
    if wrong:
        raise ValueError("mutants.txt: " + "\n".join(wrong))


def failed(mutant: Mutant | None, root: Path, tests: str) -> tuple[bool, str]:
    """Whether a test fails with this change (None: none) in the copy at `root`, and the end of what pytest says."""
    with tempfile.TemporaryDirectory() as folder:
        log, child = Path(folder, "log"), os.fork()
        if child == 0:
            code = BROKEN
            try:
                code = _run(mutant, root, tests, folder, log)
            except BaseException:
                log.write_text(traceback.format_exc())
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what a test started and left; a group of its own
        said = log.read_text(errors="replace")
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, *NOTICED):
        raise RuntimeError(f"pytest {tests} ends with {code}:\n{said[-3000:]}")
    return code != 0, said[-1500:]


def _run(mutant: Mutant | None, root: Path, tests: str, folder: str, log: Path) -> int:
    import pytest
    from numba import config

    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT + 5))
    out = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(out, 1)
    os.dup2(out, 2)
    if mutant is not None:
        mutant.apply(root)
        if mutant.file.startswith(STAMPED):
            config.CACHE_DIR = folder
    os.chdir(root)
    sys.path[:] = [str(root), *(path for path in sys.path if Path(path or ".").resolve() not in (ROOT,))]
    for name in ("tests.support", "tests"):  # with `-m` they are imported, and not from the copy
        sys.modules.pop(name, None)
    arguments = [_path(root, word) if word.startswith("test_") else word for word in shlex.split(tests)]
    return int(pytest.main([*arguments, "-x", "-q", "--no-header", "--tb=line", *QUIET]))


def _path(root: Path, test: str) -> str:
    """Where a test of the table is: `test_mix.py` or `test_mix.py::test_pairs`."""
    name, _, rest = test.partition("::")
    (found,) = (root / "tests").glob(f"*/{name}")
    return str(found.relative_to(root)) + (f"::{rest}" if rest else "")


def warm() -> None:
    """Import, before forking, what all tests import and nobody changes."""
    os.environ["TRITON_INTERPRET"] = "0"  # none is in a kernel of Triton's, whose interpreter is slow
    sys.dont_write_bytecode = True
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        import hypothesis
        import numba
        import pytest
        import torchvision.transforms.v2

    import torch

    torch.set_num_threads(1)
    assert all((hypothesis, numba, pytest, torchvision))
    assert "gpuaug" not in sys.modules


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="words of a path, or names; all if none")
    parser.add_argument("--list", action="store_true", help="print the mutants and run none")
    parser.add_argument("--check", action="store_true", help="run each set of tests unchanged: all must pass")
    options = parser.parse_args()
    mutants = list(read(TABLE.read_text()))
    if options.names:
        found = [m for word in options.names for m in mutants if word == m.name or ("#" not in word and word in m.file)]
        mutants = list(dict.fromkeys(found))
    if options.list:
        for mutant in mutants:
            print(f"{mutant.name}: {mutant.text!r} -> {mutant.other!r}  [{mutant.tests}]")
        return 0
    warm()
    survivors, passed = [], set[str]()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "tree")
        for part in ("gpuaug", "tests", "benchmarks", "examples", "docs", "pyproject.toml", "README.md"):
            source = ROOT / part
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, _made(root / part))
        for mutant in mutants:
            begin = time.monotonic()
            if options.check:
                if mutant.tests not in passed:
                    bad, said = failed(None, root, mutant.tests)
                    print(
                        f"{'fails' if bad else 'passes'} {time.monotonic() - begin:4.0f} s  {mutant.tests}", flush=True
                    )
                    passed.add(mutant.tests)
                    survivors += [said] if bad else []
                continue
            before = (root / mutant.file).read_bytes()
            try:
                noticed, _ = failed(mutant, root, mutant.tests)
            finally:
                (root / mutant.file).write_bytes(before)
            survivors += [] if noticed else [mutant.name]
            word = "noticed" if noticed else "SURVIVES"
            print(
                f"{word:8} {time.monotonic() - begin:4.0f} s  {mutant.name}: {mutant.text!r} -> {mutant.other!r}",
                flush=True,
            )
    if options.check:
        print("\n".join(survivors))
    else:
        print(f"{len(mutants)} mutants, {len(mutants) - len(survivors)} noticed, {len(survivors)} survive")
    return 1 if survivors else 0


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


if __name__ == "__main__":
    sys.exit(main())
