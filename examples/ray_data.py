"""Train from Ray Data: tasks decode, actors augment batches, anywhere in the cluster, and the trainer reads floats.

    pip install "gpuaug[ray]"
    python examples/ray_data.py --data photos

`photos` holds <class>/*, on storage that all machines reach. An image's draw is a function of its number, so it does
not matter which actor gets it, with which others and in what order. Where the trainer has a GPU with time to spare, let
it augment instead: read uint8 batches and call the module there. Without a cluster Ray starts on this machine.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data
import torch
import torch.nn.functional as F
from torchvision import models

import gpuaug as ga

# ---- configuration ---------------------------------------------------------------------------------------------------

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, required=True, help="ImageFolder")
parser.add_argument("--model", default="resnet18", help="a torchvision model")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--size", type=int, default=224, help="of the images, pixels")
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--actors", type=int, default=1, help="that augment")
parser.add_argument("--gpus", type=float, default=0, help="of each actor; 0: it augments on the CPU")
parser.add_argument("--seed", type=int, default=0)


def steps(size: int) -> list[Any]:
    return [
        ga.RandomResizedCrop(size),
        ga.RandomHorizontalFlip(),
        ga.RandAugment(num_ops=2, magnitude=9),
        ga.ToDtype(torch.float32, scale=True),
        ga.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    ]


# ---- data: rows of (uint8 image, label, index), then of (float image, label, index) ----------------------------------


class Augmenter:
    """An actor with an Augment module of its own."""

    def __init__(self, size: int, seed: int, epoch: int, device: str):
        self.augment = ga.Augment(steps(size), seed=seed)
        self.augment.set_epoch(epoch)
        self.device = device

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        images = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in rows["image"]]  # Ray's are read-only
        batch = ga.Ragged.from_images(images).to(self.device)
        floats = self.augment(batch, index=torch.tensor(rows["index"]))
        return rows | {"image": floats.cpu().numpy()}


def augmented(folder: ga.data.ImageFolder, args: argparse.Namespace, epoch: int) -> Iterator[dict[str, torch.Tensor]]:
    """The batches of an epoch, augmented."""

    def decoded(row: dict[str, Any]) -> dict[str, Any]:
        image, label, index = folder[row["item"]]
        return {"image": image.permute(1, 2, 0).numpy(), "label": label, "index": index}

    # Shuffled here, not by tasks of Ray's: they would wait for a core that the actors hold
    order = torch.randperm(len(folder), generator=torch.Generator().manual_seed(args.seed + epoch))
    rows = ray.data.from_items(order.tolist()).map(decoded)
    rows = rows.map_batches(
        Augmenter,
        fn_constructor_args=(args.size, args.seed, epoch, "cuda" if args.gpus else "cpu"),
        batch_size=args.batch,
        compute=ray.data.ActorPoolStrategy(size=args.actors),
        num_gpus=args.gpus,
    )
    return iter(rows.iter_torch_batches(batch_size=args.batch))


# ---- the run ---------------------------------------------------------------------------------------------------------


def main(args: argparse.Namespace) -> None:
    if not ray.is_initialized():
        ray.init(include_dashboard=False)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    folder = ga.data.ImageFolder(args.data)
    model = models.get_model(args.model, weights=None, num_classes=len(folder.classes)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.05)

    print("epoch   images    loss", flush=True)
    for epoch in range(args.epochs):
        total, seen = torch.zeros((), device=device), 0
        for batch in augmented(folder, args, epoch):
            images, labels = batch["image"].to(device), batch["label"].to(device)
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total, seen = total + len(labels) * loss.detach(), seen + len(labels)
        print(f"{epoch + 1:5d}   {seen:6d}   {total.item() / seen:5.3f}", flush=True)


if __name__ == "__main__":
    main(parser.parse_args())
