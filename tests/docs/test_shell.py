"""Every command line of the documentation is typed as a reader types it, or a comment above it names its test."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.pages import BY, NOT_RUN, PYTHON, ROOT, SHELL, Block, blocks, commands

DOCS = [page for page in sorted((ROOT / "docs").rglob("*.md")) if page.parent.name != "ko"]  # see test_korean.py
NAMES = {page.relative_to(ROOT).as_posix(): page for page in DOCS}
SMALLER = {  # text of a page, and what the test has in its place, so that it takes seconds
    "docs/start.md": {
        "epochs=40": "epochs=2",
        "gpuaug profile train.py:make_loader": "gpuaug profile --budget 3s train.py:make_loader",
    },
    "docs/profiler.md": {
        "gpuaug profile train.py:make_loader": "gpuaug profile --budget 3s train.py:make_loader",
        "gpuaug profile examples/": "gpuaug profile --budget 3s examples/",
        "--attach 4711": "--attach $JOB --budget 3s",
        "torchrun --nproc-per-node": "torchrun --standalone --nproc-per-node",  # its usual port may be taken
    },
}
JOB = """
import argparse

import torch
from torch.utils.data import ConcatDataset, DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

import gpuaug

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=4)
parser.add_argument("--epochs", type=int, default=2)
options = parser.parse_args()


def make_loader():
    steps = [v2.RandomResizedCrop(64), v2.RandomHorizontalFlip(), v2.PILToTensor(), v2.ToDtype(torch.float32, True)]
    photos = ImageFolder("photos/train", v2.Compose(steps))
    return DataLoader(ConcatDataset([photos] * 16), options.batch_size, shuffle=True, num_workers=1)


def make_step():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64 * 64, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)

    def step(batch):
        images, labels = batch
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    loader, step = make_loader(), make_step()
    for epoch in range(options.epochs):
        for batch in loader:
            step(batch)
        print("epoch", epoch, "has ended", flush=True)
"""


class Walk:
    """A reader who follows a page: types its lines in order, and saves the files that it shows where they then are."""

    def __init__(self, page: str, folder: Path) -> None:
        self.page, self.folder, self.base = page, folder, folder
        self.steps: deque[Block | str] = deque()
        self.said = ""  # by the last line, errors included
        self.smaller = SMALLER.get(page, {})
        found = [block for block in blocks(ROOT / page) if not block.mark.startswith((BY, NOT_RUN))]
        for old in self.smaller:
            assert any(old in block.code for block in found), f"{page} has no {old!r}"
        for block in found:
            if block.title:
                self.steps.append(block)
            elif block.language in SHELL:
                self.steps += [line for line in block.code.replace("\\\n", " ").splitlines() if line]
        programs = folder / "bin"
        programs.mkdir()
        for name, arguments in (("python", ""), ("gpuaug", "-m gpuaug"), ("torchrun", "-m torch.distributed.run")):
            script = programs / name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
            script.chmod(0o755)
        paths = {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        self.environment = {**os.environ, **paths, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}

    def next(self, start: str) -> str:
        """The next line of the page, which begins like this."""
        while self.steps and isinstance(block := self.steps[0], Block):
            (self.folder / block.title).write_text(self.shortened(block.code), encoding="utf-8")
            self.steps.popleft()
        assert self.steps, f"{self.page} has no line {start!r} any more"
        line = self.steps.popleft()
        assert isinstance(line, str)
        assert line.startswith(start), f"{self.page}: the line {line!r} is new; say here what it does"
        return line

    def shortened(self, text: str) -> str:
        for old, new in self.smaller.items():
            text = text.replace(old, new)
        return text

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line; the next one is run in the folder that it leads to."""
        left = self.base / "left"
        script = f"{self.shortened(line)}\nstatus=$?\npwd > '{left}'\nexit $status"
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        self.folder = Path(left.read_text().strip())
        return done

    def type(self, start: str, *says: str, writes: tuple[str, ...] = (), status: int = 0) -> str:
        """Type the next line; what it printed.

        `says`: patterns, each in what it prints; `writes`: files that it makes; `status`: with which it ends.
        """
        line = self.next(start)
        for name in writes:
            (self.folder / name).unlink(missing_ok=True)
        made, done = [self.folder / name for name in writes], self.run(line)
        self.said = done.stdout + done.stderr
        assert done.returncode == status, f"{line}\n{self.said}"
        for pattern in says:
            where = done.stdout if pattern.startswith(r"\A") else self.said
            assert re.search(pattern, where, re.M), f"{line}: no {pattern!r} in\n{where}"
        for path in made:
            assert path.stat().st_size > 0, f"{line}: {path.name} is empty"
        return done.stdout


# ---- the pages that are typed ----------------------------------------------------------------------------------------


def start(walk: Walk) -> None:
    for library in ("sklearn", "matplotlib", "pydantic"):
        pytest.importorskip(library)
    right = r"\d+\.\d % of the validation images are right"
    walk.type("mkdir first-model && cd first-model")
    assert walk.folder.name == "first-model"
    walk.type("python make_digits.py")
    assert len(list(walk.folder.glob("digits/train/*/*.png"))) == 300
    walk.type("gpuaug preview", "Wrote digits.png: digits, .*4 versions of 6 images", writes=("digits.png",))
    walk.type("python train.py", rf"\Awithout augmentation: {right}\nwith augmentation: {right}\n\Z")
    walk.type("gpuaug advise", r"^(Nothing was found|[a-z-]+: )")
    walk.type("gpuaug profile", "Verdict", r"^ decode ", writes=("report.html",))


def advice(walk: Walk) -> None:
    pytest.importorskip("yaml", reason="PyYAML is not installed")
    (python,) = (block.code for block in blocks(NAMES[walk.page]) if block.language in PYTHON)
    (walk.folder / "train.py").write_text(python.partition("findings = ")[0], encoding="utf-8")
    (yaml,) = (block.code for block in blocks(NAMES["docs/config.md"]) if block.language == "yaml")
    (walk.folder / "augment.yaml").write_text(yaml, encoding="utf-8")
    printed = walk.type("gpuaug advise train.py:augment")
    found = re.findall(r"^([a-z-]+): ", printed, re.M)
    assert f"assert [finding.id for finding in findings] == {json.dumps(found)}\n" in python, printed
    walk.type("gpuaug advise augment.yaml", r"^(Nothing was found|[a-z-]+: )")


def preview(walk: Walk) -> None:
    for library in ("matplotlib", "jinja2"):
        pytest.importorskip(library)
    says = "Wrote preview.png: standard, strength 0.7, 4 versions of 6 images", "page.html, with a slider over 6"
    walk.type("gpuaug preview photos/ ", *says, writes=("preview.png", "page.html"))


def profiler(walk: Walk) -> None:
    for library in ("pydantic", "jinja2"):
        pytest.importorskip(library)
    train, report = walk.folder / "train.py", walk.folder / "report.json"
    train.write_text(JOB, encoding="utf-8")
    (walk.folder / "examples").symlink_to(ROOT / "examples")  # the folder is a clone
    card = "Verdict", "Trust", "gain if free", "^ decode "
    walk.type("gpuaug profile train.py:make_loader --model train.py:make_step --html", *card,
              writes=("report.html", "report.json"))  # fmt: skip
    found = json.loads(report.read_text())
    moved = {"id": "augment-on-device", "title": "", "gain": None, "how": "lines", "change": None, "settings": None}
    found["advice"] = [moved]  # what is recommended depends on the machine
    report.write_text(json.dumps(found))
    walk.type("gpuaug report report.json --html", *card, writes=("report.html",))
    walk.type("gpuaug report report.json --how augment-on-device", r"\Alines\n\Z")
    walk.type("gpuaug whatif", r"^\d+\.\d\dx .* samples/s, .* ms a batch$")
    for name, times in (("before", 1.0), ("after", 1.2)):
        (walk.folder / f"{name}.json").write_text(json.dumps(found | {"pace": found["pace"] * times}))
    walk.type("gpuaug compare", "A regression", writes=("compare.html",), status=3)
    walk.type("gpuaug profile --run train.py ", *card, "epoch 1 has ended")
    walk.type("gpuaug doctor", "cores", "memory", "decode, Pillow", "memory copy", "backend torch")
    walk.type(
        "gpuaug profile train.py:make_loader --model train.py:make_step -- --batch-size 64", *card, "batch_size=64"
    )
    attached(walk, [sys.executable, str(train), "--epochs", "1000"])
    walk.type("GPUAUG_PROFILE=1 python train.py --epochs 1 ", *card, "epoch 0 has ended")
    walk.type("gpuaug profile --run train.py -- --epochs 1 ", *card, "epoch 0 has ended")
    walk.type("torchrun", *card)
    assert walk.said.count("Verdict") == 1  # rank 0 reports
    walk.type("IMAGES=photos gpuaug profile examples/profile_imagefolder.py", *card, "^ RandAugment ")


def attached(walk: Walk, command: list[str]) -> None:
    """The line with the number of a running job, which needs py-spy and the right to trace it."""
    line = walk.next("gpuaug profile --attach 4711 ")
    if shutil.which("py-spy") is None and not Path(sys.executable).with_name("py-spy").is_file():
        return
    with subprocess.Popen(command, cwd=walk.folder, env=walk.environment, stdout=subprocess.PIPE, text=True) as job:
        try:
            assert job.stdout is not None
            job.stdout.readline()
            walk.environment["JOB"] = str(job.pid)
            done = walk.run(line)
        finally:
            job.kill()
    done.stdout += done.stderr
    if done.returncode == 0:
        assert re.search("limits the job(.|\n)*worker processes were seen(.|\n)*decode", done.stdout), done.stdout
    else:
        assert re.search("Permission|ptrace", done.stdout), done.stdout


def tuning(walk: Walk) -> None:
    for library in ("optuna", "sklearn", "scipy", "matplotlib"):
        pytest.importorskip(library)
    python = next(block.code for block in blocks(NAMES[walk.page]) if block.language in PYTHON)
    code = python.partition("result = ")[0].replace("baseline = ", "steps = ")  # the page's function, for ten classes
    (walk.folder / "train.py").write_text(code.replace("192, 3", "192, 10").replace("// 20", "// 6"), encoding="utf-8")
    rows = r"^rank  settings .*accuracy", r"baseline .* 3 of 3$", r"mix_alpha=.* 3 of 3$", "^(No difference|Better)"
    walk.type("gpuaug tune train.py:train", *rows, writes=("tuned.json", "tuned.png", "gpuaug-tune.db"))


WALKS: dict[str, Callable[[Walk], None]] = {
    "docs/start.md": start,
    "docs/advice.md": advice,
    "docs/preview.md": preview,
    "docs/profiler.md": profiler,
    "docs/tuning.md": tuning,
}


@pytest.mark.parametrize("page", WALKS)
def test_a_page_is_typed(page: str, reader: Path) -> None:
    pytest.importorskip("typer")
    walk = Walk(page, reader)
    WALKS[page](walk)
    assert not walk.steps, "the page has more lines"


def test_start_here_installs_as_the_readme_does() -> None:
    (command,) = [block.code.strip() for block in blocks(NAMES["docs/start.md"]) if "venv" in block.code]
    assert f"{command} && gpuaug demo" in (ROOT / "README.md").read_text(encoding="utf-8")


# ---- the blocks that are run elsewhere -------------------------------------------------------------------------------

INSTALLS = ("pip", "python3", ".")  # programs that no test runs: it would change the environment of all others


def program(words: list[str]) -> str:
    """The word by which a test of a command mentions what it runs."""
    if words[0] in ("python", "torchrun"):
        module = "-m" in words
        return words[words.index("-m") + 1] if module else next(Path(word).name for word in words if ".py" in word)
    if words[0] == "pytest":
        return words[words.index("-k") + 1]
    return words[1] if words[0] == "gpuaug" else words[0]


def wrong(block: Block) -> str:
    """What is wrong with the comment above a block of shell that is not typed; "" if nothing."""
    files = re.findall(r"\btests/[\w/]+\.py\b", block.mark)
    if not block.mark.startswith((BY, NOT_RUN)) or not files:
        return "no comment says which test runs it"
    if missing := [file for file in files if not (ROOT / file).is_file()]:
        return f"there is no {missing[0]}"
    text = "\n".join((ROOT / file).read_text(encoding="utf-8") for file in files)
    for words in commands(block.code):
        if words[0] in INSTALLS and block.mark.startswith(NOT_RUN):
            continue
        if words[0] == "pytest" and not any(file.startswith(word) for file in files for word in words[1:]):
            return f"pytest does not run {files[0]}"
        if not re.search(rf"(?<!\w){re.escape(program(words))}(?!\w)", text):
            return f"no {program(words)} in {', '.join(files)}"
    return ""


def untyped(page: Path, typed: bool) -> list[Block]:
    """The blocks of shell of a page that no walk types: if it has a walk, only those with a comment."""
    shell = [block for block in blocks(page) if block.language in SHELL]
    return [block for block in shell if not typed or block.mark.startswith((BY, NOT_RUN))]


def test_every_other_block_names_its_test() -> None:
    found = {name: [(block, wrong(block)) for block in untyped(page, name in WALKS)] for name, page in NAMES.items()}
    assert sum(map(len, found.values())) > 10
    assert [f"{name}: {why}:\n{block.code}" for name, own in found.items() for block, why in own if why] == []


def test_a_block_cannot_hide() -> None:
    for name, page in NAMES.items():
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"^([ \t]+```|[ \t]*~~~)", text, re.M), f"{name}: a block begins with ``` at the left"
        assert text.count("```") == 2 * len(blocks(page)), name


@pytest.mark.parametrize(
    ("mark", "code", "why"),
    [
        ("", "gpuaug bench\n", "no comment says which test runs it"),
        ("results: book", "gpuaug bench\n", "no comment says which test runs it"),
        ("not run: it downloads", "gpuaug bench\n", "no comment says which test runs it"),
        ("run by tests/cli/test_none.py", "gpuaug bench\n", "there is no tests/cli/test_none.py"),
        ("run by tests/cli/test_benchmarks.py", "gpuaug bench --quick\n", ""),
        ("run by tests/cli/test_benchmarks.py", "gpuaug bench\ngpuaug tune a.py:b\n", "no tune in tests/cli/test_benc"),
        ("run by tests/cli/test_tune.py", "python -m benchmarks.gpu --dry\n", "no benchmarks.gpu in tests/cli/test_tu"),
        ("run by tests/cli/test_tune.py", "torchrun examples/train_ddp.py\n", "no train_ddp.py in tests/cli/test_tun"),
        ("run by tests/cli/test_tune.py", "pytest tests/transforms -k Gamma\n", "pytest does not run tests/cli/test_t"),
    ],
)
def test_a_wrong_comment_is_found(tmp_path: Path, mark: str, code: str, why: str) -> None:
    comment = f"<!-- {mark} -->\n" if mark else ""
    (tmp_path / "page.md").write_text(f"# Page\n\n{comment}```bash\n{code}```\n")
    (block,) = untyped(tmp_path / "page.md", typed=False)
    assert wrong(block).startswith(why)
    assert bool(wrong(block)) == bool(why)


def test_a_line_that_no_walk_types_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.md").write_text("```bash\necho one\necho two\n```\n<!-- run by a.py -->\n```bash\nfalse\n```\n")
    monkeypatch.setattr("tests.docs.test_shell.ROOT", tmp_path)
    walk = Walk("page.md", tmp_path)
    walk.type("echo one", "^one$")
    with pytest.raises(AssertionError, match="the line 'echo two' is new"):
        walk.type("echo three")
    assert not walk.steps
