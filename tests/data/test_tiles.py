"""JPEGs in tiles: the pixels of the original, bit for bit, and parts of them without any other library."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import gpuaug as ga
from gpuaug.data import parts
from gpuaug.data.decode import decode, read
from gpuaug.data.packs.retile import _codes, _lengths, retiled
from gpuaug.data.tiles import decode_box, frame_of, tiles_of
from gpuaug.demo.photographs import ASSETS
from tests.support.files import encode, kinds, tensor, turned_jpegs, with_orientation
from tests.support.packs import packed

pytest.importorskip("numba")
pytest.importorskip("pyarrow")
PHOTOGRAPHS = sorted(ASSETS.glob("**/*.jpg"))
NEVER = ("jpeg progressive",)  # of several scans


def jpegs() -> dict[str, bytes]:
    from PIL import Image

    generator = np.random.default_rng(5)
    noise = Image.fromarray(generator.integers(0, 256, (75, 203, 3), np.uint8))
    squares = np.kron(generator.integers(0, 2, (12, 20, 3), np.uint8) * 255, np.ones((9, 11, 1), np.uint8))
    blocks = Image.fromarray(squares)
    found = {name: data for name, data in kinds().items() if data[:3] == b"\xff\xd8\xff"}
    for subsampling in (0, 1, 2):
        found[f"noise {subsampling}"] = encode(noise, "JPEG", quality=100, subsampling=subsampling)
        found[f"blocks {subsampling}"] = encode(blocks, "JPEG", quality=60, subsampling=subsampling, optimize=True)
        found[f"restarts {subsampling}"] = encode(noise, "JPEG", subsampling=subsampling, restart_marker_blocks=5)
        found[f"turned {subsampling}"] = with_orientation("JPEG", 6, blocks, subsampling=subsampling)
    found["flat"] = encode(Image.new("RGB", (300, 80), (7, 7, 7)), "JPEG", optimize=True)
    found["one unit"] = encode(noise.crop((0, 0, 16, 16)), "JPEG")
    found["prime width"] = encode(noise.resize((16 * 47, 40)), "JPEG", subsampling=2)
    return found


@pytest.mark.parametrize("name", jpegs())
def test_pixels_do_not_change(name: str) -> None:
    data = tensor(jpegs()[name])
    tiled = retiled(data)
    assert torch.equal(decode(tiled), decode(data))
    frame, tiles = frame_of(data), tiles_of(tiled)
    if name in NEVER:
        assert frame is None
        assert tiled is data
    elif frame is not None and name not in ("one unit", "mpo"):
        assert tiles is not None or frame.units[0] * frame.units[1] < 3 or max(frame.units) == 1
    assert retiled(tiled) is tiled, "it is tiled already"


@pytest.mark.parametrize("path", PHOTOGRAPHS, ids=lambda path: path.stem)
def test_photographs(path: Path) -> None:
    data = read(path)
    tiled = retiled(data)
    assert torch.equal(decode(tiled), decode(data))
    assert len(tiled) < 1.06 * len(data)


def test_orientation_is_kept() -> None:
    for name, data in list(turned_jpegs().items())[:12]:
        assert torch.equal(decode(retiled(tensor(data))), decode(tensor(data))), name


@pytest.mark.parametrize("name", [name for name in jpegs() if tiles_of(retiled(tensor(jpegs()[name]))) is not None])
def test_any_box_equals_that_of_the_whole(name: str) -> None:
    data = retiled(tensor(jpegs()[name]))
    tiles = tiles_of(data)
    assert tiles is not None
    whole = torch.ops.image.decode_jpeg(data, 3, False)
    generator = np.random.default_rng(1)
    height, width = tiles.frame.size
    sizes = []
    for _ in range(40):
        top, left = int(generator.integers(height)), int(generator.integers(width))
        box = top, left, int(generator.integers(1, height - top + 1)), int(generator.integers(1, width - left + 1))
        found = decode_box(data, tiles, box).permute(2, 0, 1)
        assert torch.equal(found, whole[:, top : top + box[2], left : left + box[3]]), box
        sizes.append(found.shape[1:].numel())
    assert min(sizes) < height * width


def test_less_is_read_of_a_tiled_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpuaug.data import tiles as module

    data = retiled(read(PHOTOGRAPHS[0]))
    tiles = tiles_of(data)
    assert tiles is not None
    given: list[int] = []
    monkeypatch.setattr(module, "DECODE_JPEG", lambda file, *rest: given.append(len(file)) or torch.zeros(3, 99, 999))
    decode_box(data, tiles, (8, 8, 16, 16))
    assert given[0] < len(data) / 4


@pytest.mark.parametrize("counts", [[5], [1, 1], [0, 9, 9, 2], [2**n for n in range(12)], [1] * 12], ids=str)
def test_codes_are_a_prefix_code_without_all_ones(counts: list[int]) -> None:
    """T.81, C.2 and K.2: no code begins another, none is longer than 16 bits, and none is all ones."""
    given = np.array(counts + [0] * (12 - len(counts)))
    lengths, symbols = _lengths(given)
    codes = _codes(lengths, symbols)
    assert set(codes) == {symbol for symbol in range(12) if given[symbol]}
    texts = sorted(f"{code:0{length}b}" for code, length in codes.values())
    assert all(not second.startswith(first) for first, second in itertools.pairwise(texts))
    assert all("0" in text and len(text) <= 16 for text in texts)
    assert sorted(codes, key=lambda symbol: codes[symbol][1])[0] in np.flatnonzero(given == given.max())


def test_codes_of_any_counts() -> None:
    generator = np.random.default_rng(7)
    for _ in range(2000):
        counts = generator.integers(0, generator.choice([2, 4, 100, 10**6]), 12)
        if counts.any():
            texts = [f"{code:0{length}b}" for code, length in _codes(*_lengths(counts)).values()]
            assert all("0" in text for text in texts), counts
            assert sum(2.0 ** -len(text) for text in texts) < 1, counts


def test_codes_that_are_none_leave_the_file_as_it_is() -> None:
    good = jpegs()["blocks 2"]
    frame = frame_of(tensor(good))
    assert frame is not None
    data = tensor(good[: frame.start] + b"\xfe" * 400 + b"\xff\xd9")
    assert retiled(data) is data


def test_damaged_files_are_left_as_they_are() -> None:
    """Any byte changed or missing: the same file comes back, or one of the same pixels; nothing crashes."""
    generator = np.random.default_rng(2)
    good = bytearray(jpegs()["blocks 2"])
    for _ in range(300):
        data = good.copy()
        for _ in range(int(generator.integers(1, 4))):
            data[int(generator.integers(2, len(data)))] = int(generator.integers(256))
        data = data[: int(generator.integers(4, len(data) + 1))] if generator.random() < 0.3 else data
        found = retiled(tensor(bytes(data)))
        assert found.dtype == torch.uint8
        tiles = tiles_of(found)
        if tiles is not None:
            with contextlib.suppress(ga.data.ImageError):
                decode_box(found, tiles, (0, 0, 5, 5))


# ---- in packs --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def same(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(source, tmp_path_factory.mktemp("packs") / "same", encoding="same", short_side=None)


def pixels(dataset: Any) -> list[Tensor]:
    return [image for image, _, _ in dataset]


def test_a_pack_of_the_same_files(source: Path, same: Path) -> None:
    dataset = ga.data.Packed(same)
    assert dataset.encoding == "same"
    folder = ga.data.ImageFolder(source)
    for found, expected in zip(pixels(dataset), pixels(folder), strict=True):
        assert torch.equal(found, expected)
    assert dataset.targets == folder.targets


@pytest.mark.parametrize("encoding", ["jpeg", "same"])
def test_regions_of_a_pack_need_no_other_library(
    encoding: str, jpeg: Path, same: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "decoder", lambda: None)
    path = jpeg if encoding == "jpeg" else same
    seen, cut = [], 0
    for regions in (False, True):
        augment = ga.Augment([ga.RandomResizedCrop(32), ga.RandomHorizontalFlip()], seed=4)
        dataset = ga.data.Packed(path, regions=augment if regions else None)
        loader = DataLoader(dataset, 4, collate_fn=ga.ragged_collate)
        batches = []

        def watched(loader: Any = loader, batches: Any = batches) -> Any:
            for batch in loader:
                batches.append(batch.images)
                yield batch

        class Watched:
            dataset = loader.dataset

            def __iter__(self, watched: Any = watched) -> Any:
                return watched()

        seen.append(torch.cat([images for images, _ in ga.DeviceLoader(Watched(), "cpu", augment, train=True)]))
        cut += sum(images.parts is not None for images in batches)
    assert torch.equal(*seen)
    assert cut > 0


def test_same_keeps_sizes(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'pack: `short_side` must be None with encoding="same", got 256'):
        ga.data.pack(source, tmp_path / "pack", encoding="same")


def test_the_command(source: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gpuaug", "pack", str(source), str(tmp_path / "pack"), "--encoding", "same"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "--short-side 0" in done.stderr + done.stdout
    done = subprocess.run([*command, "--short-side", "0"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ga.data.Packed(tmp_path / "pack").encoding == "same"


def test_without_numba_it_is_said(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpuaug.data.packs import write

    monkeypatch.setattr(write, "can_tile", lambda: False)
    with pytest.warns(UserWarning, match="Numba is not installed, so JPEGs are written without tiles"):
        ga.data.pack(source, tmp_path / "pack", encoding="jpeg", workers=0)
