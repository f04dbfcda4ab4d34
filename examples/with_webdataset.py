"""Train on WebDataset's shards: workers decode, a DeviceLoader augments.

    python examples/with_webdataset.py --data "shards/{000000..000099}.tar" --classes 1000

The key of a record is the image's number in the data set, such as 000017, beside 000017.jpg and 000017.cls.
"""

import argparse
from typing import Any

import torch
import torch.nn.functional as F
import webdataset
from torchvision import models

import gpuaug as ga

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", required=True, help="shards, as WebDataset takes them")
parser.add_argument("--classes", type=int, required=True)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--size", type=int, default=224, help="of the images, pixels")
parser.add_argument("--workers", type=int, default=0, help="at most as many as there are shards")
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def sample(record: dict[str, Any]) -> tuple[Any, int, int]:
    return record["jpg"], record["cls"], int(record["__key__"])


def batches(args: argparse.Namespace, augment: ga.Augment, epoch: int) -> ga.DeviceLoader:
    """The batches of an epoch: a new pipeline, whose shuffles depend on the epoch alone."""
    augment.set_epoch(epoch)
    data = webdataset.WebDataset(args.data, shardshuffle=100, detshuffle=True, seed=epoch)
    data = data.shuffle(1000, seed=epoch).decode("pil").map(sample).batched(args.batch, collation_fn=ga.ragged_collate)
    loader = webdataset.WebLoader(data, batch_size=None, num_workers=args.workers)
    return ga.DeviceLoader(loader, args.device, augment, train=True)


def main(args: argparse.Namespace) -> None:
    steps = [ga.RandomResizedCrop(args.size), ga.RandomHorizontalFlip(), ga.TrivialAugmentWide()]
    augment = ga.Augment([*steps, ga.ToDtype(torch.float32, scale=True), ga.MixUp(num_classes=args.classes)])
    model = models.resnet18(num_classes=args.classes).to(args.device).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for epoch in range(args.epochs):
        losses = []
        for images, targets in batches(args, augment, epoch):
            loss = F.cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        print(f"epoch {epoch + 1}: loss {torch.stack(losses).mean():.3f}", flush=True)


if __name__ == "__main__":
    main(parser.parse_args())
