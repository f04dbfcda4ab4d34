"""Train a torchvision model on several processes: each loads its share of the images and augments it on its device.

    torchrun --standalone --nproc_per_node 2 examples/train_ddp.py --data photos --repeats 3

`photos` holds train/<class>/* and val/<class>/*. Without torchrun it runs on one process.
"""

import argparse
import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler
from torchvision import models

import gpuaug as ga

# ---- configuration ---------------------------------------------------------------------------------------------------

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, required=True, help="ImageFolder with train and val")
parser.add_argument("--model", default="resnet18", help="a torchvision model")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch", type=int, default=64, help="images of each process")
parser.add_argument("--repeats", type=int, default=1, help="copies of an image in an epoch; it then shows 1 in REPEATS")
parser.add_argument("--size", type=int, default=224, help="of the images, pixels")
parser.add_argument("--lr", type=float, default=0.1, help="at 256 images a step, of all processes")
parser.add_argument("--workers", type=int, default=2, help="of each process")
parser.add_argument("--out", type=Path, default=Path("ddp.pt"), help="the checkpoint")
parser.add_argument("--resume", action="store_true", help="go on after it")
parser.add_argument("--seed", type=int, default=0)


def start() -> torch.device:
    """Join the processes that torchrun started, or be the only one."""
    local = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    options: dict[str, Any] = {"backend": "gloo"}
    if device.type == "cuda":
        torch.cuda.set_device(device)
        options = {"backend": "nccl", "device_id": device}
    if not dist.is_torchelastic_launched():
        options |= {"store": dist.HashStore(), "rank": 0, "world_size": 1}
    dist.init_process_group(**options)
    return device


def load(args: argparse.Namespace) -> tuple[DataLoader, DataLoader, int]:
    """This process's training and validation batches, and the number of classes."""
    train, val = (ga.data.ImageFolder(args.data / part) for part in ("train", "val"))
    if args.repeats > 1:
        sampler = ga.data.RepeatedAugmentationSampler(train, args.repeats, seed=args.seed)
    else:
        sampler = DistributedSampler(train, seed=args.seed)
    options = {"num_workers": args.workers, "collate_fn": ga.ragged_collate, "pin_memory": torch.cuda.is_available()}
    if args.workers:  # spawn: a child of fork would inherit threads that are not there
        options |= {"multiprocessing_context": "spawn", "persistent_workers": True}
    share = range(dist.get_rank(), len(val), dist.get_world_size())  # DistributedSampler would show some images twice
    batches = (
        DataLoader(train, args.batch, sampler=sampler, **options),
        DataLoader(val, args.batch, sampler=share, **options),
    )
    return *batches, len(train.classes)


# ---- the run ---------------------------------------------------------------------------------------------------------


def main(args: argparse.Namespace) -> nn.Module:
    device = start()
    torch.manual_seed(args.seed)
    train, val, classes = load(args)

    augment = ga.Augment(
        train=[
            ga.RandomResizedCrop(args.size),
            ga.RandomHorizontalFlip(),
            ga.RandAugment(num_ops=2, magnitude=9),
            ga.ToDtype(torch.float32, scale=True),
            ga.Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
            ga.MixUp(alpha=0.2, num_classes=classes),  # within each process's batch
        ],
        seed=args.seed,  # the same on all: the images' numbers make the draws differ
    )
    train, val = ga.DeviceLoader(train, device, augment), ga.DeviceLoader(val, device, augment)

    model = models.get_model(args.model, weights=None, num_classes=classes).to(device)
    parallel = DistributedDataParallel(model)
    rate = args.lr * args.batch * dist.get_world_size() / 256
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * len(train))
    parts = {"model": model, "augment": augment, "optimizer": optimizer, "schedule": schedule}

    begin = 0
    if args.resume:
        checkpoint = torch.load(args.out, map_location=device, weights_only=True)
        begin = checkpoint["epoch"] + 1
        for name, part in parts.items():
            part.load_state_dict(checkpoint[name])

    if dist.get_rank() == 0:
        print(f"processes: {dist.get_world_size()}\nepoch    loss   validation %", flush=True)
    for epoch in range(begin, args.epochs):
        augment.train()
        model.train()
        train.set_epoch(epoch)  # of the sampler and of the draws
        sums = torch.zeros(4, device=device)  # of losses, steps, right answers, validation images
        for images, targets in train:
            loss = F.cross_entropy(parallel(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            sums[:2] += torch.stack([loss.detach(), torch.ones_like(loss)])

        augment.eval()
        model.eval()
        with torch.inference_mode():
            for images, labels in val:  # the bare model: the processes may have different numbers of batches
                right = (model(images).argmax(1) == labels).sum()
                sums[2:] += torch.stack([right, torch.full_like(right, len(labels))])
        dist.all_reduce(sums)
        if dist.get_rank() == 0:
            losses, steps, right, seen = sums.tolist()
            print(f"{epoch + 1:5d}   {losses / steps:5.3f}   {100 * right / seen:12.1f}", flush=True)
            torch.save({name: part.state_dict() for name, part in parts.items()} | {"epoch": epoch}, args.out)
    dist.destroy_process_group()
    return model


if __name__ == "__main__":
    main(parser.parse_args())
