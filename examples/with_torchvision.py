"""What changes in torchvision's reference script (references/classification/train.py), as a script that runs.

    python examples/with_torchvision.py --data photos

`photos` holds train/<class>/* and val/<class>/*. The functions here stand for the parts of train.py of the same name.
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
parser.add_argument("--data", type=Path, required=True, help="ImageFolder with train and val")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--size", type=int, default=224, help="of the images, pixels")
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def presets(size: int) -> list[v2.Compose]:
    """What ClassificationPresetTrain and ClassificationPresetEval hold; train.py passes the presets themselves."""
    end = [v2.PILToTensor(), v2.ToDtype(torch.float, scale=True), v2.Normalize((0.485, 0.456, 0.406), (0.229,) * 3)]
    train = [v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), v2.TrivialAugmentWide(), *end]
    return [v2.Compose(train), v2.Compose([v2.Resize(size * 8 // 7), v2.CenterCrop(size), *end])]


def main(args: argparse.Namespace) -> None:
    # load_data: the data sets have no transform, so that their workers only decode
    dataset, dataset_test = (ga.data.ImageFolder(args.data / part) for part in ("train", "val"))
    samplers = RandomSampler(dataset), SequentialSampler(dataset_test)  # or DistributedSampler, as before
    # main: presets and mixes become the module, in place of the collate function
    train, val = (ga.from_torchvision(preset) for preset in presets(args.size))
    names = {"num_classes": len(dataset.classes)}
    augment = ga.Augment([*train, ga.RandomChoice([ga.MixUp(0.2, **names), ga.CutMix(1.0, **names)])], val)
    loaders = [
        DataLoader(part, args.batch, sampler=sampler, collate_fn=ga.ragged_collate)
        for part, sampler in zip((dataset, dataset_test), samplers, strict=True)
    ]
    data_loader = ga.DeviceLoader(loaders[0], args.device, augment, train=True)
    data_loader_test = ga.DeviceLoader(loaders[1], args.device, augment, train=False)
    # the rest stays, apart from data_loader.set_epoch in place of the sampler's, and augment.state_dict() when it saves
    model, criterion = models.resnet18(**names).to(args.device), nn.CrossEntropyLoss(label_smoothing=0.1)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for epoch in range(args.epochs):
        data_loader.set_epoch(epoch)
        model.train()
        for image, target in data_loader:
            optimizer.zero_grad()
            criterion(model(image), target).backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            correct = torch.cat([model(image).argmax(1) == target for image, target in data_loader_test])
        print(f"epoch {epoch + 1}: accuracy {correct.float().mean():.3f}", flush=True)


if __name__ == "__main__":
    main(parser.parse_args())
