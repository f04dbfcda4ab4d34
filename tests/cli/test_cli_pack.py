"""`gpuaug pack` and `gpuaug verify`: what they print, and how they end."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import gpuaug as ga
from gpuaug.cli import main as cli
from gpuaug.cli.errors import INTERRUPTED
from gpuaug.cli.pack import SHOWN
from tests.support.helpers import until
from tests.support.packs import contents, flip, make, packed

pytest.importorskip("pyarrow")
typer_testing = pytest.importorskip("typer.testing")


def invoke(*arguments: object) -> Any:
    return typer_testing.CliRunner(env={"COLUMNS": "80"}).invoke(cli.app(), list(map(str, arguments)))


def command(*arguments: object) -> subprocess.Popen[str]:
    """In a process of its own, with Ctrl-C as a terminal sends it: to the whole group."""
    code = "from gpuaug.cli.main import main; main()"
    given = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "80"}
    return subprocess.Popen(
        given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make(tmp_path / "source")


def test_pack_and_verify(source: Path, tmp_path: Path) -> None:
    result = invoke("pack", source, tmp_path / "pack", "--short-side", 48, "--workers", 0)
    assert result.exit_code == 0, result.output
    assert "7/7" in result.output
    assert re.search(r"pack: 7 images; 0\.00 GB; 0 skipped; \d+ s\.\n$", result.output)
    assert len(ga.data.Packed(tmp_path / "pack")) == 7
    again = invoke("pack", source, tmp_path / "pack", "--short-side", 48, "--workers", 0)
    assert "7 images, 7 of them by an earlier run;" in again.output
    verified = invoke("verify", tmp_path / "pack")
    assert (verified.exit_code, "every byte is as it was written." in verified.output) == (0, True)
    for shown in (result, again, verified, invoke("pack", "--help"), invoke("verify", "--help")):
        own = [line for line in shown.output.splitlines() if not line.startswith(str(tmp_path))]  # a path may be long
        assert max(map(len, own)) <= 80


def test_settings_arrive(source: Path, tmp_path: Path) -> None:
    arguments = ("--short-side", 0, "--encoding", "jpeg", "--quality", 50, "--workers", 0)
    assert invoke("pack", source, tmp_path / "pack", *arguments).exit_code == 0
    dataset = ga.data.Packed(tmp_path / "pack")
    assert dataset.encoding == "jpeg"
    assert dataset[0][0].shape == ga.data.ImageFolder(source)[0][0].shape
    result = invoke("pack", source, tmp_path / "pack", *arguments[:-3], 40)
    assert result.exit_code == 1
    assert re.fullmatch(r"pack: `quality` must be 50, as in the pack that \S+ holds, got 40\. .+\n", result.output)


def test_unreadable_files(source: Path, tmp_path: Path) -> None:
    for number in (3, 5):
        (source / "class1" / f"{number:03d}.png").write_bytes(b"no image")
    result = invoke("pack", source, tmp_path / "pack", "--workers", 0)
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith(f"pack: `file` must be an image that can be read, got {source}")
    assert "Traceback" not in result.output
    result = invoke("pack", source, tmp_path / "pack", "--workers", 0, "--on-error", "skip")
    assert result.exit_code == 0
    assert "Skipped class1/003.png (not an image in a supported format, or its header is damaged).\n" in result.output
    assert "5 images; 0.00 GB; 2 skipped;" in result.output


def test_files_that_are_no_images_are_counted(source: Path, tmp_path: Path) -> None:
    for name in ("notes.txt", "more.txt", "labels.csv", ".DS_Store"):
        (source / "class1" / name).write_bytes(b"text")
    Image.open(next(source.rglob("*.png"))).convert("P").save(source / "class1" / "animated.gif")
    result = invoke("pack", source, tmp_path / "pack", "--workers", 0)
    assert "In the class folders, 4 files are left out: 2 .txt, 1 hidden, 1 .csv.\n" in result.output
    assert "8 images; 0.00 GB; 0 skipped, 4 other files left out;" in result.output
    assert len(ga.data.Packed(tmp_path / "pack")) == 8
    (source / "class9").mkdir()
    assert "with none in class9." in invoke("pack", source, tmp_path / "other", "--workers", 0).output
    some = invoke("pack", source, tmp_path / "other", "--workers", 0, "--extensions", ".gif, .bmp", "--allow-empty")
    assert "other: 1 images; 0.00 GB; 0 skipped, 11 other files left out;" in some.output


def test_many_skipped_files_are_counted(tmp_path: Path) -> None:
    source = make(tmp_path / "source", files=15)
    for path in source.rglob("*.png"):
        path.write_bytes(b"no image")
    result = invoke("pack", source, tmp_path / "pack", "--workers", 0, "--on-error", "skip")
    assert result.output.count("not an image") == SHOWN
    assert f"Skipped 2 more, see skipped in {tmp_path / 'pack' / 'index.json'}.\n" in result.output


def test_verify_names_every_damaged_shard(source: Path, tmp_path: Path) -> None:
    folder = packed(source, tmp_path / "pack")
    flip(folder / "shard-00000.arrow", 5000)
    with open(folder / "shard-00002.arrow", "ab") as file:
        file.write(b"x")
    result = invoke("verify", folder)
    assert result.exit_code == 1
    lines = result.output.splitlines()[-3:]
    assert [str(folder / f"shard-0000{number}.arrow is damaged") in lines[place] for place, number in enumerate((0, 2))]
    assert lines[2] == "Delete these 2 shards and run gpuaug pack again."


@pytest.mark.parametrize("arguments", [("verify", "nowhere"), ("pack", "nowhere", "pack")])
def test_errors_are_one_line(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert "nowhere" in result.output
    assert result.output.count("\n") == 1


SECOND = "shard-00001.arrow.partial"  # the first shard is in the index

posix = pytest.mark.skipif(os.name != "posix", reason="signals")


def many(root: Path, files: int = 3000) -> Path:
    """One image under many names: more than a shard of them."""
    first = make(root, files=1, classes=1) / "class0" / "000.jpg"
    for number in range(1, files):
        os.link(first, first.with_name(f"{number:04d}.jpg"))
    return root


@posix
@pytest.mark.parametrize(
    ("how", "when"),
    [
        (signal.SIGKILL, "index.json"),  # workers are starting
        (signal.SIGKILL, SECOND),  # they wait for somebody to take their images
        (signal.SIGTERM, SECOND),
    ],
)
def test_workers_do_not_outlive_a_pack_that_is_killed(tmp_path: Path, how: signal.Signals, when: str) -> None:
    given = (many(tmp_path / "source"), tmp_path / "pack", "--short-side", 150)  # one image is more than a pipe holds
    with command("pack", *given, "--workers", 2) as process:
        try:
            assert until(lambda: (tmp_path / "pack" / when).exists())
            process.send_signal(how)
            _, errors = process.communicate(timeout=30)  # until nobody has its pipes, which workers inherit
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if how == signal.SIGTERM:
        assert process.returncode == INTERRUPTED, errors
        assert re.fullmatch(r"Stopped at image 1,\d+ of 3,000\. Run the same command again to go on\.\n", errors)
    else:
        assert process.returncode == -signal.SIGKILL


@posix
@pytest.mark.parametrize("after", [0.0, 0.5, 1.5])
def test_ctrl_c_while_workers_start_is_said_once(tmp_path: Path, after: float) -> None:
    """It reaches the workers too, in the middle of their imports."""
    process = command("pack", many(tmp_path / "source", 2000), tmp_path / "pack", "--short-side", 16, "--workers", 2)
    assert until(lambda: (tmp_path / "pack" / "index.json").exists())
    time.sleep(after)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, errors
    where = r"(at image [\d,]+ of 2,000|before the first image)"
    assert re.fullmatch(rf"Stopped {where}\. Run the same command again to go on\.\n", errors)


@posix
def test_ctrl_c_leaves_what_the_next_run_goes_on_with(tmp_path: Path) -> None:
    arguments = ("pack", many(tmp_path / "source", 2000), tmp_path / "pack", "--short-side", 16, "--workers", 1)
    process = command(*arguments)
    assert until(lambda: (tmp_path / "pack" / SECOND).exists())
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == INTERRUPTED, errors
    assert re.fullmatch(r"Stopped at image 1,\d+ of 2,000\. Run the same command again to go on\.\n", errors)
    assert contents(tmp_path / "pack").keys() == {"index.json", "shard-00000.arrow"}
    result = invoke(*arguments[:-1], 0)
    assert "2,000 images, 1,024 of them by an earlier run;" in result.output
    whole = packed(tmp_path / "source", tmp_path / "whole", short_side=16, shard_images=1024)
    assert contents(tmp_path / "pack") == contents(whole)


def test_what_each_command_needs(monkeypatch: pytest.MonkeyPatch, source: Path, tmp_path: Path) -> None:
    find = importlib.util.find_spec
    gone: set[str] = set()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in gone else find(name))
    gone |= {"matplotlib", "sklearn"}
    assert invoke("pack", source, tmp_path / "pack", "--workers", 0).exit_code == 0
    assert 'needs matplotlib, scikit-learn. Run pip install "gpuaug[demo]"' in invoke("demo").output
    gone.add("pyarrow")
    for arguments in (("verify", tmp_path), ("pack", tmp_path, tmp_path)):
        assert 'needs pyarrow. Run pip install "gpuaug[pack]"' in invoke(*arguments).output
    assert "pack" in invoke("--help").output
    gone.add("typer")
    needs = {"demo": "demo", "profile": "profile", "doctor": "profile", "bench": "bench", "pack": "pack"}
    for words, extra in ((["gpuaug"], "pack"), *((["gpuaug", word], extra) for word, extra in needs.items())):
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit, match=rf'needs typer\. Run pip install "gpuaug\[{extra}\]"'):
            cli.main()
