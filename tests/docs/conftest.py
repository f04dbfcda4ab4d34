"""What tests of several pages share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gpuaug.demo import photographs


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with what the reader has: photographs in folders of classes."""
    monkeypatch.chdir(tmp_path)
    for number, path in enumerate(photographs.paths()):
        folder = tmp_path / "photos" / "train" / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / path.name)
    return tmp_path
