"""The regime `loaders`: from JPEG files on disk to the batch a training step takes, worker processes included.

Every way reads the same files on the same cores. The ways of one group end alike: "floats" with normalised float32
(B, 3, 224, 224) in this process, "raw" with the raw uint8 images, which is what a GPU is then sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug.data.decode import decode_file
from gpuaug.data.workers import SPAWN

from ..cases import SIZE, SOURCE
from ..locations import PACKAGE
from ..measure import take_turns
from ..peers import OURS, PeerError
from ..peers.v2 import steps
from .op_regimes import Row, as_peer_error, missing
from .sent import Sent, counted, drain

__all__ = ["CASES", "RAW", "WAYS", "Files", "copies", "loaders", "open_way"]

CASES = ("crop + flip", "RandAugment", "ColorJitter")
RAW = "raw images"
BATCH = 32
REST = 0.3  # seconds in which those who read ahead into the next epoch come to an end
START = "forkserver"  # its server has imported everything, so many loaders start soon; SPAWN's workers end with us
PRELOAD = [__name__, f"{PACKAGE}.peers.albumentations"]


@dataclass
class Files:
    """The same images on disk in every form that somebody reads; made when first asked for."""

    folder: Path  # an ImageFolder of JPEGs
    temporary: Path
    workers: int
    batch: int = BATCH

    def pack(self, encoding: str) -> Path:
        """Of images whose short side is 256; "same" keeps the files, in tiles."""
        path = self.temporary / f"pack-{encoding}"
        if not path.exists():
            short_side = None if encoding == "same" else 256
            ga.data.pack(self.folder, path, short_side=short_side, encoding=encoding, workers=0)
        return path

    def beton(self, mode: str) -> Path:
        """FFCV's file of what the pack holds."""
        path = self.temporary / f"{mode}.beton"
        if not path.exists():
            from ..peers.ffcv import write

            write(ga.data.Packed(self.pack("raw")), path, mode)
        return path

    def loader(self, dataset: Any, **options: Any) -> DataLoader[Any]:
        settings = {"shuffle": True, "num_workers": self.workers, "persistent_workers": self.workers > 0, **options}
        if self.workers:
            settings |= {**SPAWN, "multiprocessing_context": START}
        return DataLoader(dataset, self.batch, **settings)

    def decoding(self, dataset: Any) -> DataLoader[Any]:
        return self.loader(dataset, collate_fn=ga.ragged_collate)


Way = Callable[[Files, str], Iterable[Any]]  # from a case to a loader whose batches begin with the images


def _stock(pil: bool) -> Way:
    """torchvision's ImageFolder as its tutorials write it, on PIL images or on tensors that torchvision decodes."""

    def way(files: Files, case: str) -> Iterable[Any]:
        chain = steps(v2, case)
        if pil:
            chain.insert(-2, v2.PILToTensor())
        decoder = {} if pil else {"loader": decode_file}
        return files.loader(datasets.ImageFolder(files.folder, v2.Compose(chain), **decoder))

    return way


def _albumentations(files: Files, case: str) -> Iterable[Any]:
    """OpenCV decodes, as its examples do."""
    from ..peers.albumentations import Albumentations, read

    transform = Albumentations("", 1, "cpu").recipe(case)
    return files.loader(datasets.ImageFolder(files.folder, _Named(transform), loader=read))


class _Named:
    """Albumentations takes and gives by name; a class, so that workers can be sent it."""

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __call__(self, image: Any) -> Any:
        return self.transform(image=image)["image"]


def _kornia(files: Files, case: str) -> Iterable[Any]:
    """Workers decode and make one size of all, as its documentation has it; modules on the batch follow here."""
    from ..peers.kornia import Kornia

    resize = v2.Compose([v2.Resize(SOURCE), v2.CenterCrop(SOURCE)])
    loader = files.loader(datasets.ImageFolder(files.folder, resize, loader=decode_file))
    recipe = Kornia("", 1, "cpu").recipe(case)
    return _Mapped(loader, recipe)


@dataclass
class _Mapped:
    loader: Any
    function: Any

    def __iter__(self) -> Any:
        return ((self.function(images), labels) for images, labels in self.loader)


def _dali(fused: bool) -> Way:
    def way(files: Files, case: str) -> Iterable[Any]:
        from ..peers.dali import loader

        return loader(files.folder, case, files.batch, max(1, files.workers), fused)

    return way


def _ffcv(mode: str) -> Way:
    def way(files: Files, case: str) -> Iterable[Any]:
        from ..peers.ffcv import loader

        if case != CASES[0]:
            raise PeerError(f"FFCV has no {case}")

        return loader(files.beton(mode), files.batch, max(1, files.workers))

    return way


def _ours(dataset: Callable[[Files], Any]) -> Way:
    def way(files: Files, case: str) -> Iterable[Any]:
        return ga.DeviceLoader(files.decoding(dataset(files)), "cpu", ga.Augment(steps(ga, case)))

    return way


def _regions(dataset: Callable[..., Any], encoding: str | None = None) -> Way:
    """Workers decode only what the draw reads."""

    def way(files: Files, case: str) -> Iterable[Any]:
        augment = ga.Augment(steps(ga, case))
        source = files.folder if encoding is None else files.pack(encoding)
        return ga.DeviceLoader(files.decoding(dataset(source, regions=augment)), "cpu", augment)

    return way


def _raw(dataset: Callable[[Files], Any]) -> Way:
    return lambda files, case: files.decoding(dataset(files))


def _from_files(files: Files) -> Any:
    return ga.data.ImageFolder(files.folder)


def _from_pack(encoding: str) -> Callable[[Files], Any]:
    return lambda files: ga.data.Packed(files.pack(encoding))


# what is read -> way
FROM_FILES: dict[str, Way] = {
    OURS: _ours(_from_files),
    "torchvision v2, PIL": _stock(pil=True),
    "torchvision v2, tensors": _stock(pil=False),
    "AlbumentationsX": _albumentations,
    "Kornia after the workers": _kornia,
    "DALI": _dali(fused=False),
    "DALI, decodes the crop only": _dali(fused=True),
    f"{OURS}, regions": _regions(ga.data.ImageFolder),
    f"{OURS}, files in tiles, regions": _regions(ga.data.Packed, "same"),
    f"{OURS}, decodes after the workers": _ours(lambda files: ga.data.ImageFolder(files.folder, decode="device")),
}
FROM_PACKS: dict[str, Way] = {
    f"{OURS}, packed raw": _ours(_from_pack("raw")),
    f"{OURS}, packed JPEG": _ours(_from_pack("jpeg")),
    f"{OURS}, packed JPEG, regions": _regions(ga.data.Packed, "jpeg"),
    "FFCV, raw": _ffcv("raw"),
    "FFCV, JPEG": _ffcv("jpg"),
}
TO_RAW: dict[str, Way] = {
    OURS: _raw(_from_files),
    f"{OURS}, packed raw": _raw(_from_pack("raw")),
    f"{OURS}, packed JPEG": _raw(_from_pack("jpeg")),
}
WAYS = {**FROM_FILES, **FROM_PACKS}


def group(way: str, case: str) -> str:
    """Rows of one group are compared with each other; the first of it is gpuaug's."""
    if case == RAW:
        return RAW
    return next((kind for kind, members in GROUPS.items() if way in members), "files")


GROUPS = {
    "packed raw": (f"{OURS}, packed raw", "FFCV, raw"),
    "packed JPEG": (f"{OURS}, packed JPEG", f"{OURS}, packed JPEG, regions", "FFCV, JPEG"),
}
WORK = {
    "Kornia after the workers": "resized to 256 x 256 before; float32 all the way, not antialiased",
    "AlbumentationsX": "OpenCV decodes and resizes, not antialiased",
    "DALI": "threads, no processes; two batches ahead",
    "DALI, decodes the crop only": "threads, no processes; two batches ahead",
    "FFCV, raw": "threads, no processes; images of 256 pixels; OpenCV resizes by area",
    "FFCV, JPEG": "threads, no processes; images of 256 pixels; OpenCV resizes by area",
    f"{OURS}, regions": "decodes what the draw reads; the same pixels",
    f"{OURS}, files in tiles, regions": "decodes what the draw reads, from a pack of the files; the same pixels",
    f"{OURS}, packed raw": "images of 256 pixels",
    f"{OURS}, packed JPEG": "images of 256 pixels",
    f"{OURS}, packed JPEG, regions": "images of 256 pixels; decodes what the draw reads",
}


def open_way(files: Files, way: str, case: str) -> Iterable[Any]:
    """A loader; raises PeerError if it cannot be had."""
    with as_peer_error():
        return (TO_RAW if case == RAW else WAYS)[way](files, case)


def copies(data: Path, folder: Path, count: int) -> Path:
    """An ImageFolder of `count` links to the files below `data`, each with its class."""
    found = datasets.ImageFolder(data)
    for number in range(count):
        path, label = found.samples[number % len(found.samples)]
        target = folder / found.classes[label] / f"{number:06d}{Path(path).suffix}"
        target.parent.mkdir(exist_ok=True, parents=True)
        target.symlink_to(Path(path).resolve())
    return folder


def loaders(
    data: Path,
    temporary: Path,
    *,
    images: int = 1120,
    workers: int = 2,
    cases: Sequence[str] = CASES,
    ways: Sequence[str] = tuple(WAYS),
    rounds: int = 3,
    batch: int = BATCH,
    raw: bool = True,
    report: Callable[[str], None] = lambda text: None,
) -> dict[str, list[Row]]:
    """Time every way on every case.

    Args:
        data: an ImageFolder.
        temporary: where links to `images` of its files and the packs go.
        workers: processes, or threads of those that have none.
        raw: whether to time raw images as well.

    Returns:
        "rows" with the seconds of every turn for all images, the CPU seconds of all processes, and the bytes of an
        image that gpuaug's workers send (of the first epoch); "absent".
    """
    torch.multiprocessing.set_forkserver_preload(PRELOAD)
    files = Files(copies(data, temporary / "files", images), temporary, workers, batch)
    _check_files(files)
    rows, absent = [], []
    for case in (*cases, RAW) if raw else cases:
        named = [way for way in (TO_RAW if case == RAW else WAYS) if way in ways]
        opened: dict[str, Any] = {}
        sent: dict[str, Sent] = {}
        for way in named:
            report(f"{case}: {way}")
            try:
                loader = open_way(files, way, case)
                with as_peer_error(), counted(loader) as sent[way]:
                    _check_epoch(loader, images, case)
                opened[way] = loader
            except PeerError as error:
                absent.append(missing(way, case, workers, error))
        report(case)
        lost: dict[str, Exception] = {}
        taken: dict[str, list[float]] = {}
        cpu: dict[str, list[float]] = {}
        for kind in dict.fromkeys(group(way, case) for way in opened):
            members = {way: loader for way, loader in opened.items() if group(way, case) == kind}
            runs = {way: partial(drain, loader) for way, loader in members.items()}
            close = kind in GROUPS or case == CASES[0]  # where little lies between the contestants
            taken |= take_turns(runs, rounds + 2 * close * (len(members) > 1), rest=REST, lost=lost, cpu=cpu)
        absent += [missing(way, case, workers, error) for way, error in lost.items()]
        rows += [
            {
                "case": case,
                "who": way,
                "threads": workers,
                "images": images,
                "seconds": seconds,
                "cpu": cpu[way],  # of all processes
                "work": WORK.get(way, ""),
                "group": group(way, case),
                **({"sent": sent[way].bytes / images} if sent[way].bytes else {}),
            }
            for way, seconds in taken.items()
        ]
    return {"rows": rows, "absent": absent}


def _check_epoch(loader: Iterable[Any], images: int, case: str) -> None:
    """An epoch has every image once, in the form asked for."""
    count = 0
    for batch in loader:
        pixels = batch[0]
        count += len(pixels)
        if case != RAW and (tuple(pixels.shape[1:]) != (3, SIZE, SIZE) or pixels.dtype != torch.float32):
            raise PeerError(f"made {pixels.dtype} {tuple(pixels.shape)}")
    if count != images:
        raise PeerError(f"gave {count} images of {images}")


def _check_files(files: Files) -> None:
    """One decoder's pixels, and the same labels, whoever reads."""
    ours, theirs = ga.data.ImageFolder(files.folder), datasets.ImageFolder(files.folder)
    assert ours.samples == theirs.samples
    worst = 0.0
    for number in range(0, len(ours), max(1, len(ours) // 16)):
        image, label, _ = ours[number]
        pil = v2.functional.pil_to_tensor(theirs[number][0])
        assert label == theirs[number][1]
        if image.shape == pil.shape:  # an EXIF orientation is obeyed here, not by torchvision's ImageFolder
            worst = max(worst, float((image.int() - pil.int()).abs().float().mean()))
    assert worst <= 1, "decoders differ by more than a level on average"
