"""Train with Lightning: a callback augments the batches, so the LightningModule and its loaders say nothing of it.

    python examples/with_lightning.py --data photos

`photos` holds train/<class>/* and val/<class>/*.
"""

import argparse
from pathlib import Path
from typing import Any

import lightning
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import models

import gpuaug as ga

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, required=True, help="ImageFolder with train and val")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--size", type=int, default=224, help="of the images, pixels")
parser.add_argument("--devices", type=int, default=1, help="processes")


class Classifier(lightning.LightningModule):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.network = models.resnet18(num_classes=classes)

    def training_step(self, batch: Any, number: int) -> Tensor:
        images, targets = batch  # targets are mixed: (B, classes)
        return F.cross_entropy(self.network(images), targets)

    def validation_step(self, batch: Any, number: int) -> None:
        images, labels = batch
        correct = self.network(images).argmax(1) == labels
        self.log("accuracy", correct.float().mean(), batch_size=len(labels), prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.05, momentum=0.9)


if __name__ == "__main__":
    args = parser.parse_args()
    data = [ga.data.ImageFolder(args.data / part) for part in ("train", "val")]
    steps = [ga.RandomResizedCrop(args.size), ga.RandomHorizontalFlip(), ga.TrivialAugmentWide()]
    tensor = [ga.ToDtype("auto", scale=True), ga.MixUp(num_classes=len(data[0].classes))]
    train = DataLoader(data[0], args.batch, shuffle=True, collate_fn=ga.ragged_collate)
    val = DataLoader(data[1], args.batch, collate_fn=ga.ragged_collate)
    callback = ga.adapters.lightning_callback(ga.Augment([*steps, *tensor]))
    trainer = lightning.Trainer(callbacks=[callback], max_epochs=args.epochs, devices=args.devices, logger=False)
    trainer.fit(Classifier(len(data[0].classes)), train, val)
    print("accuracy:", float(trainer.callback_metrics["accuracy"]))
