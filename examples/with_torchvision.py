"""What changes in torchvision's reference script (references/classification/train.py), as a script that runs.

python examples/with_torchvision.py --data photos   # which holds train/<class>/* and val/<class>/*
"""

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from torchvision import models
from torchvision.transforms import v2

import gpuaug as ga

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, required=True)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--size", type=int, default=224, help="of the images, pixels")
parser.add_argument("--device", default="cpu", help="cuda, for instance")


def presets(size: int) -> list[v2.Compose]:
    """As train.py's ClassificationPresetTrain and ClassificationPresetEval, which from_torchvision takes too."""
    end = [v2.PILToTensor(), v2.ToDtype(torch.float, scale=True)]
    train = [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), v2.TrivialAugmentWide(), *end]
    return [v2.Compose(train), v2.Compose([v2.Resize(size * 8 // 7), v2.CenterCrop(size), *end])]


def main(args: argparse.Namespace) -> None:
    # load_data: the data sets have no transform, so that their workers only decode
    dataset, dataset_test = (ga.data.ImageFolder(args.data / part) for part in ("train", "val"))
    # main: presets and mixes become the module, in place of the collate function
    train, val = (ga.from_torchvision(preset) for preset in presets(args.size))
    names, pack = {"num_classes": len(dataset.classes)}, {"collate_fn": ga.ragged_collate}
    augment = ga.Augment([*train, ga.RandomChoice([ga.MixUp(alpha=0.2, **names), ga.CutMix(**names)])], val)
    data_loader = DataLoader(dataset, args.batch, sampler=RandomSampler(dataset), **pack)  # or its DistributedSampler
    data_loader_test = DataLoader(dataset_test, args.batch, sampler=SequentialSampler(dataset_test), **pack)
    data_loader = ga.DeviceLoader(data_loader, args.device, augment, train=True)
    data_loader_test = ga.DeviceLoader(data_loader_test, args.device, augment, train=False)
    # the rest stays, apart from data_loader.set_epoch in place of the sampler's, and augment.state_dict() when it saves
    model, criterion = models.resnet18(**names).to(args.device), nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for epoch in range(args.epochs):
        data_loader.set_epoch(epoch)
        model.train()
        for image, target in data_loader:
            criterion(model(image), target).backward()
            optimizer.step()
            optimizer.zero_grad()
        model.eval()
        with torch.inference_mode():
            correct = torch.cat([model(image).argmax(1) == target for image, target in data_loader_test])
        print(f"epoch {epoch + 1}: accuracy {correct.float().mean():.3f}", flush=True)


if __name__ == "__main__":
    main(parser.parse_args())
