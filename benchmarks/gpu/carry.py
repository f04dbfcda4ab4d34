"""What a machine with a GPU and no network needs beside the repository: python -m benchmarks.gpu.carry --to FOLDER

FOLDER/wheels has Kornia and what it needs (pip downloads them for Python 3.12 on Linux), FOLDER/jpegs photographs of a
folder, at most 15 MB of them.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..locations import PACKAGE

__all__ = ["PACKAGES", "choose", "download", "install", "main"]

PACKAGES = ("kornia", "kornia_rs", "triton-augment")  # what is measured against; without their own dependencies
LIMIT = 15_000_000  # bytes of JPEGs
SUFFIXES = (".jpg", ".jpeg")
TARGET = ["--python-version", "3.12", "--implementation", "cp"]
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64", "any")


def install(wheels: Path, target: Path) -> list[str]:
    """Unpack wheels into a folder for PYTHONPATH; a sentence for each that cannot be."""
    said = []
    files = sorted(wheels.glob("*.whl"))
    if not files:
        said.append(f"--wheels: there is no wheel in {wheels.name}")
    for file in files:  # one by one: none costs another
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--no-index",
            "--no-deps",
            "--quiet",
            "--target",
            str(target),
        ]
        try:
            done = subprocess.run([*command, str(file)], capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired) as error:
            said.append(f"--wheels: {file.name} was not installed: {type(error).__name__}")
            continue
        if done.returncode:
            why = (done.stderr.strip().splitlines() or [f"pip ended with {done.returncode}"])[-1]
            said.append(f"--wheels: {file.name} was not installed: {why}")
    return said


def download(folder: Path, packages: Sequence[str] = PACKAGES) -> list[str]:
    """Fetch wheels; a sentence for each package that has none."""
    folder.mkdir(parents=True, exist_ok=True)
    said = []
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    for package in packages:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
        command += [*TARGET, *platforms, "--dest", str(folder), package]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            why = (done.stderr.strip().splitlines() or [f"pip ended with {done.returncode}"])[-1]
            said.append(f"{package}: {why}")
    return said


def choose(source: Path, folder: Path, limit: int = LIMIT) -> int:
    """Copy JPEGs of a folder, at random but the same each time, up to `limit` bytes; the bytes copied.

    Folders of classes are kept.
    """
    files = sorted(file for file in source.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    random.Random(0).shuffle(files)
    total = 0
    for file in files:
        size = file.stat().st_size
        if total + size > limit:
            continue
        target = folder / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
        total += size
    return total


def main(given: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {PACKAGE}.gpu.carry", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="one that git ignores")
    parser.add_argument("--jpegs", type=Path, metavar="FOLDER", help="photographs to choose from")
    parser.add_argument("--no-wheels", action="store_true", help="choose photographs only")
    options = parser.parse_args(given)
    if options.jpegs is not None and not options.jpegs.is_dir():
        parser.error(f"--jpegs must be a folder, got {options.jpegs}")
    missing = [] if options.no_wheels else download(options.to / "wheels")
    for line in missing:
        print(f"Not there: {line}", file=sys.stderr)
    if options.jpegs is not None:
        size = choose(options.jpegs, options.to / "jpegs")
        print(f"{options.to / 'jpegs'}: {size / 1e6:.1f} MB of JPEGs")
    total = sum(file.stat().st_size for file in options.to.rglob("*") if file.is_file())
    print(f"{options.to}: {total / 1e6:.1f} MB")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
