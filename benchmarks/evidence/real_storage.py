"""Real loaders that read from one file: h5py, lmdb, sqlite3, zip, a memory map, WebDataset, Hugging Face datasets."""

from __future__ import annotations

import io
import sqlite3
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .real_photos import REPEATS, PerProcess, Samples, files, loader, small, to_image

__all__ = ["h5", "hugging_face", "lmdb_jpegs", "memory_map", "sqlite_jpegs", "web_dataset", "zip_jpegs"]


def h5(folder: Path) -> Any:
    import h5py

    path = folder / "images.h5"
    if not path.exists():
        with h5py.File(path, "w") as file:
            images = np.stack([np.asarray(Image.open(one).resize((160, 160))) for one in files(folder)])
            file.create_dataset("images", data=images, chunks=(1, 160, 160, 3), compression="gzip")
    opened = PerProcess(lambda: h5py.File(path, "r"))

    def read(number: int) -> Image.Image:
        return Image.fromarray(opened()["images"][number])

    return loader(Samples(read, small()))


def lmdb_jpegs(folder: Path) -> Any:
    import lmdb

    path = folder / "lmdb"
    if not path.exists():
        with lmdb.open(str(path), map_size=1 << 28) as base, base.begin(write=True) as writer:
            for number, one in enumerate(files(folder)):
                writer.put(str(number).encode(), one.read_bytes())
    opened = PerProcess(lambda: lmdb.open(str(path), readonly=True, lock=False))

    def read(number: int) -> Image.Image:
        with opened().begin() as reader:
            return to_image(reader.get(str(number).encode()))

    return loader(Samples(read, small()))


def sqlite_jpegs(folder: Path) -> Any:
    path = folder / "images.db"
    if not path.exists():
        with sqlite3.connect(path) as base:
            base.execute("create table images (number integer primary key, data blob)")
            base.executemany("insert into images values (?, ?)", enumerate(one.read_bytes() for one in files(folder)))
        base.close()
    opened = PerProcess(lambda: sqlite3.connect(path))

    def read(number: int) -> Image.Image:
        return to_image(opened().execute("select data from images where number = ?", (number,)).fetchone()[0])

    return loader(Samples(read, small()))


def zip_jpegs(folder: Path) -> Any:
    path = folder / "images.zip"
    if not path.exists():
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for number, one in enumerate(files(folder)):
                archive.write(one, str(number))
    opened = PerProcess(lambda: zipfile.ZipFile(path))

    def read(number: int) -> Image.Image:
        return to_image(opened().read(str(number)))

    return loader(Samples(read, small()))


def memory_map(folder: Path) -> Any:
    path = folder / "images.npy"
    if not path.exists():
        np.save(path, np.stack([np.asarray(Image.open(one).resize((192, 192))) for one in files(folder)]))
    images = np.load(path, mmap_mode="r")
    return loader(Samples(lambda number: Image.fromarray(images[number]), small(160)))


def web_dataset(folder: Path) -> Any:
    import webdataset

    shards = [folder / f"shard{k}.tar" for k in range(4)]
    for k, shard in enumerate(shards):
        if not shard.exists():
            with tarfile.open(shard, "w") as archive:
                for number, one in list(enumerate(files(folder)))[k :: len(shards)]:
                    for ending, data in (("jpg", one.read_bytes()), ("cls", str(number % 2).encode())):
                        member = tarfile.TarInfo(f"{number:04}.{ending}")
                        member.size = len(data)
                        archive.addfile(member, io.BytesIO(data))
    stream = webdataset.WebDataset([str(shard) for shard in shards], shardshuffle=len(shards))
    return loader(stream.shuffle(32).decode("pil").to_tuple("jpg", "cls").map_tuple(small()).repeat(REPEATS))


def hugging_face(folder: Path) -> Any:
    import datasets as hub

    steps = small()
    names = REPEATS * [str(one) for one in files(folder)]
    rows = hub.Dataset.from_dict({"image": names, "label": [n % 2 for n in range(len(names))]})

    def apply(batch: dict[str, Any]) -> dict[str, Any]:
        return {**batch, "image": [steps(image.convert("RGB")) for image in batch["image"]]}

    return loader(rows.cast_column("image", hub.Image()).with_transform(apply))
