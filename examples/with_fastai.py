"""Train with fastai: its Learner takes DeviceLoaders in place of its own loaders.

    python examples/with_fastai.py --data photos

`photos` holds train/<class>/* and val/<class>/*.
"""

import argparse
from pathlib import Path

import torch
from fastai.vision.all import DataLoaders, Learner, accuracy
from torch import nn
from torch.utils.data import DataLoader
from torchvision import models

import gpuaug as ga

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, required=True, help="ImageFolder with train and val")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--size", type=int, default=224, help="of the images, pixels")
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def main(args: argparse.Namespace) -> None:
    parts = [ga.data.ImageFolder(args.data / part) for part in ("train", "val")]
    classes = len(parts[0].classes)
    steps = [ga.RandomResizedCrop(args.size), ga.RandomHorizontalFlip(), ga.TrivialAugmentWide()]
    augment = ga.Augment([*steps, ga.ToDtype(torch.float32, scale=True), ga.MixUp(num_classes=classes)])
    train = DataLoader(parts[0], args.batch, shuffle=True, collate_fn=ga.ragged_collate)
    val = DataLoader(parts[1], args.batch, collate_fn=ga.ragged_collate)
    loaders = DataLoaders(
        ga.DeviceLoader(train, args.device, augment, train=True),  # counts the epochs itself
        ga.DeviceLoader(val, args.device, augment, train=False),
    )
    # fastai's own CrossEntropyLossFlat does not take the mixed labels (B, classes)
    model = models.resnet18(num_classes=classes).to(args.device)
    learner = Learner(loaders, model, loss_func=nn.CrossEntropyLoss(), metrics=accuracy)
    learner.fit_one_cycle(args.epochs, 1e-3)
    print("accuracy:", float(learner.validate()[1]))


if __name__ == "__main__":
    main(parser.parse_args())
