"""Fine-tune a torchvision backbone on any ImageFolder: workers only decode, the batch is augmented on the device.

    python examples/finetune_imagefolder.py --data photos --weights default --recipe small_data

`photos` holds train/<class>/* and val/<class>/*, or just <class>/*, of which a fifth is then kept for validation.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import models

import gpuaug as ga

# ---- configuration ---------------------------------------------------------------------------------------------------

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, required=True, help="ImageFolder")
parser.add_argument("--recipe", help="a recipe of docs/recipes.md, such as small_data, instead of the list below")
parser.add_argument("--strength", type=float, default=1.0, help="of the recipe; 0: no augmentation")
parser.add_argument("--model", default="resnet18", help="a torchvision model with a last layer `fc`")
parser.add_argument("--weights", choices=["none", "default"], default="default", help="default: download ImageNet's")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--limit", type=int, help="training and validation images at most")
parser.add_argument("--size", type=int, default=224, help="of the images, pixels")
parser.add_argument("--lr", type=float, default=3e-4)
parser.add_argument("--workers", type=int, default=2)
parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast")
parser.add_argument("--seed", type=int, default=0)

# ---- data: uint8 images as they come, their labels, and their numbers, which key the draws ---------------------------


def load(args: argparse.Namespace) -> tuple[DataLoader, DataLoader, int]:
    """Training and validation batches, and the number of classes."""
    halves = [args.data / "train", args.data / "val"]
    if halves[1].is_dir():
        folders = [ga.data.ImageFolder(half) for half in halves]
        parts = [torch.randperm(len(folder))[: args.limit] for folder in folders]
    else:
        folders = [ga.data.ImageFolder(args.data)] * 2
        order = torch.randperm(len(folders[0]))[: args.limit]
        parts = [order[len(order) // 5 :], order[: len(order) // 5]]
    train, val = (Subset(folder, part.tolist()) for folder, part in zip(folders, parts, strict=True))
    options = {"num_workers": args.workers, "collate_fn": ga.ragged_collate, "pin_memory": torch.cuda.is_available()}
    if args.workers:  # spawn: a child of fork would inherit threads that are not there
        options |= {"multiprocessing_context": "spawn", "persistent_workers": True}
    batches = DataLoader(train, args.batch, shuffle=True, **options), DataLoader(val, args.batch, **options)
    return *batches, len(folders[0].classes)


# ---- the run ---------------------------------------------------------------------------------------------------------


def main(args: argparse.Namespace) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    train, val, classes = load(args)

    mixes = [ga.MixUp(alpha=0.2, num_classes=classes), ga.CutMix(alpha=1.0, num_classes=classes)]
    steps = [
        ga.RandomResizedCrop(args.size),
        ga.RandomHorizontalFlip(),
        ga.RandAugment(num_ops=2, magnitude=9),
        ga.ToDtype(torch.float32, scale=True),
        ga.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        ga.RandomChoice(mixes, p=[0.4, 0.4]),  # a fifth of the batches stays unmixed
    ]
    if args.recipe is not None:
        recipe = {"recipe": args.recipe, "size": args.size, "num_classes": classes, "strength": args.strength}
        steps = ga.from_dict({"train": recipe}).train_pipeline.steps
    # eval, left out, is Resize(255), CenterCrop(224), ToDtype, Normalize at size 224
    augment = ga.Augment(steps, seed=args.seed, memory_format=torch.channels_last)

    train, val = (ga.DeviceLoader(loader, device, augment) for loader in (train, val))

    model = models.get_model(args.model, weights=None if args.weights == "none" else "DEFAULT")
    model.fc = nn.Linear(model.fc.in_features, classes)
    model.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * len(train))
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=args.bf16)

    print("epoch    loss   validation %")
    for epoch in range(args.epochs):
        augment.train()
        model.train()
        train.set_epoch(epoch)
        total = torch.zeros((), device=device)
        for images, targets in train:  # targets: (B, classes) weights, or class numbers where nothing is mixed
            with autocast:
                loss = F.cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)
            optimizer.step()
            schedule.step()
            total += loss.detach()

        augment.eval()
        model.eval()
        correct = torch.zeros((), device=device)
        with torch.inference_mode(), autocast:
            for images, labels in val:
                correct += (model(images).argmax(1) == labels).sum()
        percent = 100 * correct.item() / len(val.loader.dataset)
        print(f"{epoch + 1:5d}   {total.item() / len(train):5.3f}   {percent:12.1f}", flush=True)


if __name__ == "__main__":
    main(parser.parse_args())
