"""Images a second from files to training batches: a stock DataLoader against decode-only workers, the packed cache, and
DeviceLoader, in one process, taking turns.

    python -m benchmarks.loaders --data FOLDER_WITH_CLASS_FOLDERS [--images 2240] [--rounds 5] [--workers 2]

Every contestant reads the same files with the same number of worker processes and ends with the batch in this process.
A stock pipeline ends with normalised float32 (B, 3, 224, 224). "loader" rows end with raw uint8 images, which is what
the device is then sent; "to floats" rows with what the stock pipeline ends with, augmented on the same cores.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision.transforms import v2

import gpuaug as ga
from gpuaug import speed
from gpuaug.data.decode import decode_file
from gpuaug.data.workers import SPAWN

RECIPES: dict[str, tuple[list[Any], list[Any]]] = {
    "crop + flip": ([], []),
    "with RandAugment": ([v2.RandAugment(2, 9)], [ga.RandAugment(2, 9)]),
    "with ColorJitter": ([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], [ga.ColorJitter(0.4, 0.4, 0.4, 0.1)]),
}
AIMS = {  # of the issue: (row, recipe): times the faster stock pipeline
    ("loader: files", "with RandAugment"): 2.0,
    ("loader: files", "with ColorJitter"): 3.0,
    ("loader: packed raw", "with RandAugment"): 8.0,
    ("loader: packed raw", "with ColorJitter"): 8.0,
    **{("to floats: files", recipe): 1.0 for recipe in RECIPES},
}


def stock(folder: Path, transforms: list[Any], pil: bool) -> datasets.ImageFolder:
    """torchvision's ImageFolder as its tutorials write it, on Pillow images or on tensors that torchvision decodes."""
    steps = [v2.RandomResizedCrop(224, antialias=True), v2.RandomHorizontalFlip(), *transforms]
    steps += [v2.PILToTensor()] if pil else []
    steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(speed.MEAN, speed.STD)]
    loader = {} if pil else {"loader": decode_file}
    return datasets.ImageFolder(folder, v2.Compose(steps), **loader)


def augment(transforms: list[Any]) -> ga.Augment:
    floats = [ga.ToDtype(torch.float32, scale=True), ga.Normalize(speed.MEAN, speed.STD)]
    return ga.Augment([ga.RandomResizedCrop(224), ga.RandomHorizontalFlip(), *transforms, *floats])


def copies(data: Path, folder: Path, count: int) -> Path:
    """An ImageFolder of `count` links to the files below `data`, each with its class."""
    found = datasets.ImageFolder(data)
    for number in range(count):
        path, label = found.samples[number % len(found.samples)]
        target = folder / found.classes[label] / f"{number:06d}{Path(path).suffix}"
        target.parent.mkdir(exist_ok=True, parents=True)
        target.symlink_to(Path(path).resolve())
    return folder


def check(folder: Path, packed: Path) -> None:
    """Equal work: one decoder's pixels, a deterministic recipe's floats, what is packed."""
    ours, theirs, plain = ga.data.ImageFolder(folder), datasets.ImageFolder(folder), ga.data.Packed(packed)
    assert ours.samples == theirs.samples
    size = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.ToDtype(torch.float32, scale=True)])
    module = augment([]).eval()
    whole = ga.Augment([ga.Resize(256), ga.CenterCrop(224), ga.ToDtype(torch.float32, scale=True)], exact=True)
    worst = 0.0
    for number in range(0, len(ours), max(1, len(ours) // 16)):
        image, label, _ = ours[number]
        pil = v2.functional.pil_to_tensor(theirs[number][0])
        if image.shape == pil.shape:  # an EXIF orientation is obeyed here, not by torchvision's ImageFolder
            worst = max(worst, float((image.int() - pil.int()).abs().float().mean()))
        assert label == theirs[number][1] == plain[number][1]
        torch.testing.assert_close(whole(ga.Ragged.from_images([image]))[0], size(image), atol=1e-6, rtol=0)
        short = min(image.shape[1:])
        expected = v2.functional.resize(image, [256], antialias=True) if short > 256 else image
        assert torch.equal(plain[number][0], expected)
    assert worst <= 1, "decoders differ by more than a level on average"
    assert module(ga.Ragged.from_images([ours[0][0]])).shape == (1, 3, 224, 224)


def contestants(folder: Path, packed: Path, jpeg: Path, workers: int, batch: int) -> dict[tuple[str, str], Any]:
    """(row, recipe): a loader; the recipe is "" where there is none."""

    def loader(dataset: Any, **options: Any) -> DataLoader[Any]:
        settings = {"shuffle": True, "num_workers": workers, "persistent_workers": workers > 0, **options}
        if workers:
            settings |= SPAWN
        return DataLoader(dataset, batch, **settings)

    def decoding(dataset: Any) -> DataLoader[Any]:
        return loader(dataset, collate_fn=ga.ragged_collate)

    rows: dict[tuple[str, str], Any] = {}
    for recipe, (theirs, ours) in RECIPES.items():
        rows["stock, Pillow images", recipe] = loader(stock(folder, theirs, pil=True))
        rows["stock, tensors", recipe] = loader(stock(folder, theirs, pil=False))
        rows["to floats: files", recipe] = ga.DeviceLoader(decoding(ga.data.ImageFolder(folder)), "cpu", augment(ours))
        rows["to floats: packed raw", recipe] = ga.DeviceLoader(decoding(ga.data.Packed(packed)), "cpu", augment(ours))
    encoded = decoding(ga.data.ImageFolder(folder, decode="device"))
    rows["to floats: files, decoded after the workers", "with RandAugment"] = ga.DeviceLoader(
        encoded, "cpu", augment(RECIPES["with RandAugment"][1])
    )
    rows["loader: files", ""] = decoding(ga.data.ImageFolder(folder))
    rows["loader: packed raw", ""] = decoding(ga.data.Packed(packed))
    rows["loader: packed JPEG", ""] = decoding(ga.data.Packed(jpeg))
    return rows


def measure(rows: dict[tuple[str, str], Any], rounds: int, console: Console) -> dict[tuple[str, str], list[float]]:
    """Images a second of every loader, `rounds` times in turn, after one turn that warms up."""
    speeds: dict[tuple[str, str], list[float]] = {key: [] for key in rows}
    turns = [(number, key) for number in range(rounds + 1) for key in rows]
    for number, key in track(turns, "measuring", console=console, transient=True):
        loader = rows[key]
        if isinstance(loader, ga.DeviceLoader):
            loader.set_epoch(number)
        value = speed.read_all(loader)
        if number:
            speeds[key].append(value)
    return speeds


def show(speeds: dict[tuple[str, str], list[float]], console: Console) -> None:
    middle = {key: statistics.median(values) for key, values in speeds.items()}
    table = Table("way", box=None, padding=(0, 1), header_style="dim")
    for heading in ("images/s", "lowest", "highest", "x Pillow", "x tensors", "aim"):
        table.add_column(heading, justify="right")
    for recipe in RECIPES:
        table.add_row(f"[bold]{recipe}")
        base = [middle["stock, Pillow images", recipe], middle["stock, tensors", recipe]]
        for (row, its), values in speeds.items():
            if its not in ("", recipe):
                continue
            figures = [middle[row, its], min(values), max(values)]
            ratios = ["" if row.startswith("stock") else f"{middle[row, its] / other:.2f}" for other in base]
            aim = AIMS.get((row, recipe))
            table.add_row(row, *(f"{figure:.0f}" for figure in figures), *ratios, "" if aim is None else f"{aim:g}")
    console.print(table)


def main(arguments: list[str] | None = None, console: Console | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="ImageFolder")
    parser.add_argument("--images", type=int, default=2240)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args(arguments)
    console = console or Console()
    with tempfile.TemporaryDirectory() as temporary:
        folder = copies(args.data, Path(temporary) / "files", args.images)
        packed, jpeg = (Path(temporary) / name for name in ("raw", "jpeg"))
        for name, encoding in ((packed, "raw"), (jpeg, "jpeg")):
            start = time.perf_counter()
            ga.data.pack(folder, name, encoding=encoding, workers=args.workers)
            size = sum(file.stat().st_size for file in name.iterdir()) / 1e9
            console.print(f"packed as {encoding}: {size:.2f} GB in {time.perf_counter() - start:.1f} s")
        check(folder, packed)
        rows = contestants(folder, packed, jpeg, args.workers, args.batch)
        speeds = measure(rows, args.rounds, console)
    console.print(
        f"{args.images} files, {args.workers} workers, batches of {args.batch}, {torch.get_num_threads()} threads "
        f"here; medians of {args.rounds} rounds in turn; torch {torch.__version__}"
    )
    show(speeds, console)


if __name__ == "__main__":
    main()
