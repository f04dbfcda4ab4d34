"""Train with Accelerate: the loaders are prepared, and a DeviceLoader around each augments its batches.

    accelerate launch examples/with_accelerate.py --data photos

`photos` holds train/<class>/* and val/<class>/*.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch.utils.data import DataLoader
from torchvision import models

import gpuaug as ga

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, required=True, help="ImageFolder with train and val")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch", type=int, default=64, help="images of each process")
parser.add_argument("--size", type=int, default=224, help="of the images, pixels")
parser.add_argument("--out", type=Path, help="folder for checkpoints")


def main(args: argparse.Namespace) -> None:
    accelerator = Accelerator()
    data = [ga.data.ImageFolder(args.data / part) for part in ("train", "val")]
    classes = len(data[0].classes)
    steps = [ga.RandomResizedCrop(args.size), ga.RandomHorizontalFlip(), ga.TrivialAugmentWide()]
    augment = ga.Augment([*steps, ga.ToDtype(torch.float32, scale=True), ga.MixUp(num_classes=classes)])
    loaders = [DataLoader(part, args.batch, shuffle=part is data[0], collate_fn=ga.ragged_collate) for part in data]
    model = models.resnet18(num_classes=classes)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)

    model, optimizer, *loaders = accelerator.prepare(model, optimizer, *loaders)
    train = ga.DeviceLoader(loaders[0], accelerator.device, augment, train=True)
    val = ga.DeviceLoader(loaders[1], accelerator.device, augment, train=False)
    accelerator.register_for_checkpointing(augment)  # it is not in the model
    for epoch in range(args.epochs):
        train.set_epoch(epoch)  # of the module, the prepared loader and its sampler
        model.train()
        for images, targets in train:
            accelerator.backward(F.cross_entropy(model(images), targets))
            optimizer.step()
            optimizer.zero_grad()
        model.eval()
        with torch.inference_mode():
            pairs = [accelerator.gather_for_metrics((model(images).argmax(1), labels)) for images, labels in val]
        accuracy = torch.cat([found == label for found, label in pairs]).float().mean()
        accelerator.print(f"epoch {epoch + 1}: accuracy {accuracy:.3f}")
        if args.out is not None:
            accelerator.save_state(args.out / str(epoch))


if __name__ == "__main__":
    main(parser.parse_args())
