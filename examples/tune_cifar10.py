"""Which augmentation helps on a small part of CIFAR-10? A search in stages: baseline, RandAugment, mixing.

    pip install "gpuaug[tune]"
    python examples/tune_cifar10.py --data cifar10 --out runs

`cifar10` holds train/<class>/*. Validation images are taken from the training images too: those of the test are for the
setting that is chosen in the end. Stopped, the same command goes on; started twice, both share the work.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torchvision.transforms.v2.functional import pil_to_tensor

import gpuaug as ga
from gpuaug.tuning import Reporter

# ---- configuration ---------------------------------------------------------------------------------------------------

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, required=True, help="folder with train/<class>/*, images of 32x32")
parser.add_argument("--per-class", type=int, default=200, help="training images of each class")
parser.add_argument("--validation", type=int, default=100, help="validation images of each class")
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("--batch", type=int, default=50)
parser.add_argument("--seeds", type=int, default=2)
parser.add_argument("--threads", type=int, default=1, help="of torch; one for each process if there are several")
parser.add_argument("--out", type=Path, default=Path("runs"), help="folder for the storage, the JSON and the picture")

# ---- data: uint8 images in memory ------------------------------------------------------------------------------------

Split = tuple[torch.Tensor, torch.Tensor]


def load(args: argparse.Namespace) -> tuple[Split, Split, list[Path]]:
    """Training and validation images with their labels, and the files of the training images."""
    parts: list[list[tuple[Path, int]]] = [[], []]
    folders = sorted(path for path in (args.data / "train").iterdir() if path.is_dir())
    for label, folder in enumerate(folders):
        files = sorted(folder.iterdir())
        order = torch.randperm(len(files), generator=torch.Generator().manual_seed(label)).tolist()
        parts[0] += [(files[n], label) for n in order[: args.per_class]]
        parts[1] += [(files[n], label) for n in order[args.per_class :][: args.validation]]
    train, validation = (_decoded(part) for part in parts)
    return train, validation, [file for file, _ in parts[0]]


def _decoded(part: list[tuple[Path, int]]) -> Split:
    images = torch.stack([pil_to_tensor(Image.open(file).convert("RGB")) for file, _ in part])
    return images, torch.tensor([label for _, label in part])


# ---- the baseline, and the training that is given a list -------------------------------------------------------------

BASELINE = [
    ga.RandomCrop(32, padding=4),
    ga.RandomHorizontalFlip(),
    ga.ToDtype(torch.float32, scale=True),
    ga.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
]
SPACE = {
    "randaugment": {"num_ops": [1, 2], "magnitude": [5, 9]},
    "mixing": {"mix_p": [0.4, 0.8], "mix_alpha": [0.2, 1.0]},
}


def network(classes: int) -> nn.Sequential:
    def block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    layers = [*block(3, 32, 2), *block(32, 64, 2), *block(64, 64, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, classes))


def train(
    args: argparse.Namespace, data: Split, validation: Split, steps: list[Any], seed: int, reporter: Reporter
) -> Iterator[dict[str, Any]]:
    """Train once with a list; yields the metrics of each epoch."""
    torch.manual_seed(seed)
    images, labels = data
    augment = ga.Augment(steps, seed=seed)
    model = network(int(labels.max()) + 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.05)
    total = args.epochs * -(-len(images) // args.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=total)

    @torch.inference_mode()
    def outputs(images: torch.Tensor) -> torch.Tensor:
        return torch.cat([model(augment(part)) for part in images.split(500)])

    for epoch in range(args.epochs):
        augment.set_epoch(epoch)
        augment.train()
        model.train()
        losses = []
        for index in torch.randperm(len(images)).split(args.batch):
            batch, targets = augment(images[index], labels[index], index=index)
            loss = F.cross_entropy(model(batch), targets)  # targets are weights of classes where the list mixes
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        augment.eval()
        model.eval()
        last = epoch == args.epochs - 1
        part = slice(None) if last else slice(None, None, 4)  # a quarter of the training images is enough on the way
        clean = outputs(images[part])  # without augmentation
        yield {
            "loss": torch.stack(losses).mean(),
            "clean_accuracy": (clean.argmax(1) == labels[part]).float().mean(),
            "targets": validation[1],
            "scores": outputs(validation[0]).softmax(1),
        } | ({"sample_loss": F.cross_entropy(clean, labels, reduction="none")} if last else {})


# ---- the search ------------------------------------------------------------------------------------------------------


def main(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    data, validation, files = load(args)
    result = ga.tune(
        partial(train, args, data, validation),
        BASELINE,
        space=SPACE,
        num_classes=int(data[1].max()) + 1,
        seeds=args.seeds,
        storage=args.out / "cifar10.db",
    )
    print(result)
    review = [files[one["index"]] for one in result.review]
    print("\nTheir files:", ", ".join(f"{file.parent.name}/{file.name}" for file in review))
    result.save(args.out / "cifar10.json")
    result.plot(args.out / "cifar10.png", command="python examples/tune_cifar10.py --data cifar10")


if __name__ == "__main__":
    main(parser.parse_args())
