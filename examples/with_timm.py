"""Train with timm's create_loader, model, optimizer and scheduler: its loaders decode, gpuaug does the rest.

    python examples/with_timm.py --data photos

`photos` holds train/<class>/* and val/<class>/*.
"""

import argparse
from pathlib import Path

import torch
from timm.data import create_dataset, create_loader
from timm.loss import SoftTargetCrossEntropy
from timm.models import create_model
from timm.optim import create_optimizer_v2

import gpuaug as ga

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, required=True, help="folder with train and val")
parser.add_argument("--model", default="resnet18", help="a model of timm")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--size", type=int, default=224, help="of the images, pixels")
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def main(args: argparse.Namespace) -> None:
    parts = [create_dataset("folder", str(args.data / part)) for part in ("train", "val")]
    classes = len(parts[0].reader.class_to_idx)
    steps = [ga.RandomResizedCrop(args.size), ga.RandomHorizontalFlip(), ga.RandAugment(2, 9)]
    mix = ga.RandomChoice([ga.MixUp(alpha=0.8, num_classes=classes), ga.CutMix(num_classes=classes)])
    augment = ga.Augment([*steps, ga.ToDtype(torch.float32, scale=True), mix])
    # timm's prefetcher would normalise; input_size is of a transform that timm sets and nobody calls
    options = {"use_prefetcher": False, "num_workers": 1, "collate_fn": ga.ragged_collate, "input_size": args.size}
    train, val = (
        ga.DeviceLoader(
            create_loader(ga.data.Indexed(part), batch_size=args.batch, is_training=train, **options),
            args.device, augment, train=train,
        )
        for part, train in zip(parts, (True, False), strict=True)
    )  # fmt: skip
    model = create_model(args.model, num_classes=classes).to(args.device)
    optimizer, criterion = create_optimizer_v2(model, opt="adamw", lr=1e-3), SoftTargetCrossEntropy()
    for epoch in range(args.epochs):
        train.set_epoch(epoch)
        model.train()
        for images, targets in train:
            optimizer.zero_grad()
            criterion(model(images), targets).backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            correct = torch.cat([model(images).argmax(1) == labels for images, labels in val])
        print(f"epoch {epoch + 1}: accuracy {correct.float().mean():.3f}", flush=True)


if __name__ == "__main__":
    main(parser.parse_args())
