"""Accuracy with and without a recipe on a few images a class, by examples/finetune_imagefolder.py.

    python -m benchmarks.report.few_images --data cifar10 --per-class 50 --epochs 60

`--data` holds train/<class>/* and test/<class>/* (or val/). It prints a Markdown table: accuracy after the last epoch,
for each seed, with the recipe at full strength and at strength 0, which is the evaluation list.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "finetune_imagefolder.py"


def subset(data: Path, per_class: int, folder: Path) -> None:
    """Links to the first images of each class, by name: `per_class` for training, up to 100 for validation."""
    validation = next((name for name in ("val", "test") if (data / name).is_dir()), None)
    if validation is None or not (data / "train").is_dir():
        raise SystemExit(f"few_images: `--data` must hold train/ and val/ or test/, got {data}.")
    for source, target, count in (("train", "train", per_class), (validation, "val", 100)):
        for group in sorted(path for path in (data / source).iterdir() if path.is_dir()):
            place = folder / target / group.name
            place.mkdir(parents=True)
            for image in sorted(group.iterdir())[:count]:
                (place / image.name).symlink_to(image.resolve())


def accuracy(folder: Path, strength: int, seed: int, given: argparse.Namespace) -> float:
    """Validation accuracy in percent after the last epoch."""
    command: list[object] = [
        sys.executable, EXAMPLE, "--data", folder, "--recipe", given.recipe, "--strength", strength, "--seed", seed,
        "--epochs", given.epochs, "--size", given.size, "--batch", 50, "--lr", given.lr, "--weights", given.weights,
        "--workers", 0,
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and val/ or test/")
    parser.add_argument("--recipe", default="small_data")
    parser.add_argument("--per-class", type=int, default=50, help="training images of each class")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--size", type=int, default=32, help="of the images, pixels")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--weights", choices=["none", "default"], default="none")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        subset(given.data, given.per_class, Path(folder))
        seeds = range(given.seeds)
        print(f"| augmentation | {' | '.join(f'seed {seed}' for seed in seeds)} | mean |")
        print("|---|" + "---|" * (len(seeds) + 1), flush=True)
        for name, strength in (("none (the evaluation list)", 0), (f"`{given.recipe}`", 1)):
            found = [accuracy(Path(folder), strength, seed, given) for seed in seeds]
            print(
                f"| {name} | {' | '.join(f'{one:.1f}' for one in found)} | {statistics.mean(found):.1f} |", flush=True
            )


if __name__ == "__main__":
    main()
