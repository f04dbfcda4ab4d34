"""Image augmentation from the first flip to CIFAR-10, after the section of that name in "Dive into Deep Learning".

Each `# %%` begins a cell: run the cells one by one in an editor that knows them, or all of them as a script.
It writes the grids, the table and the curves to a folder. Needs matplotlib.

    python examples/book_augmentation.py --data cifar10 --out book
    torchrun --standalone --nproc_per_node 2 examples/book_augmentation.py --data cifar10 --out book

`cifar10` holds train/<class>/* and test/<class>/*. Left out, CIFAR-10 is downloaded.
"""

# %% Imports and arguments

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
import torch.distributed as dist
import torch.nn.functional as F
import torchvision
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torchvision import datasets, models
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image
from torchvision.utils import make_grid

import gpuaug as ga
from gpuaug.demo.photographs import photographs

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, help="folder with train/<class>/* and test/<class>/*; left out: download")
parser.add_argument("--photo", type=Path, help="photograph for the grids; left out: one of the package")
parser.add_argument("--out", type=Path, default=Path("book"), help="folder for grids, table and curves")
parser.add_argument("--epochs", type=int, default=20)
parser.add_argument("--images", type=int, default=5000, help="training images at most")
parser.add_argument("--test-images", type=int, default=2000, help="test images at most")
parser.add_argument("--batch", type=int, default=128, help="images of a step, of all processes together")
parser.add_argument("--network", choices=["small", "resnet18"], default="small", help="resnet18: as in the book")
parser.add_argument("--seeds", type=int, default=1, help="runs of each list, with seeds from 0")
args = parser.parse_args([] if "ipykernel" in sys.modules else None)  # in a notebook: the defaults
args.out.mkdir(parents=True, exist_ok=True)

# %% One process or several: torchrun starts one for each device

processes = int(os.environ.get("WORLD_SIZE", 1))
rank, local = int(os.environ.get("RANK", 0)), int(os.environ.get("LOCAL_RANK", 0))
device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
if device.type == "cuda":
    torch.cuda.set_device(device)
if processes > 1 and not dist.is_initialized():  # a cell may run twice
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
if args.batch % processes:
    parser.error(f"--batch must be a multiple of the number of processes, got {args.batch} for {processes}")

# %% [markdown]
# ## The usual methods
#
# A photograph, and eight versions of it for each method. Every version has its own draw; the caption says what it is.
# `ga.show` returns a figure, which a notebook displays.

# %%
photo = pil_to_tensor(Image.open(args.photo).convert("RGB")) if args.photo else photographs()[0]  # uint8 (3, H, W)


def grid(name: str, steps: list[Any]) -> Figure | None:
    """Save a 2 x 4 grid of augmented versions of the photograph, and return it."""
    if rank:
        return None  # the first process draws
    figure = ga.show(steps, photo, rows=2, columns=4)
    figure.savefig(args.out / f"{name}.jpg", dpi=70, pil_kwargs={"quality": 75})
    return figure


# %% Mirror left and right. One of the oldest and most used methods: most objects look as likely both ways.
grid("flip_left_right", [ga.RandomHorizontalFlip()])

# %% Mirror up and down. For fewer data sets: fine for leaves or images from above, not for streets.
grid("flip_up_down", [ga.RandomVerticalFlip()])

# %% A random part, resized to one size: objects come in any place and scale. 10 to 100 % of the area, ratio 1/2 to 2.
crop = ga.RandomResizedCrop((200, 200), scale=(0.1, 1.0), ratio=(0.5, 2.0))
grid("crop", [crop])

# %% Brightness times 0.5 to 1.5.
grid("brightness", [ga.ColorJitter(brightness=0.5)])

# %% Hue, turned by up to half of the circle of colours.
grid("hue", [ga.ColorJitter(hue=0.5)])

# %% Brightness, contrast, saturation and hue together, in a random order.
jitter = ga.ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.5)
grid("jitter", [jitter])

# %% All of it: a list is applied in order. This one is a module as well: `ga.Augment(combined)`.
combined = [ga.RandomHorizontalFlip(), jitter, crop]
grid("combined", combined)

# %% [markdown]
# ## CIFAR-10
#
# The images stay uint8 in memory. A batch is augmented at once, on the device on which the network trains.


# %%
def load(split: str, count: int) -> tuple[Tensor, Tensor]:
    """At most `count` images, uint8 (N, 3, 32, 32), and their labels (N,): the same ones each time."""
    if args.data:
        dataset = datasets.ImageFolder(args.data / split)
    else:
        if rank == 0:  # one process downloads, the others wait
            datasets.CIFAR10(args.out / "data", download=True)
        if processes > 1:
            dist.barrier()
        dataset = datasets.CIFAR10(args.out / "data", train=split == "train")
    chosen = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))[:count]
    images, labels = zip(*(dataset[number] for number in chosen.tolist()), strict=True)
    return torch.stack([pil_to_tensor(image) for image in images]), torch.tensor(labels)


train_images, train_labels = load("train", args.images)
test_images, test_labels = load("test", args.test_images)
if len(train_images) < args.batch:
    parser.error(f"--batch must be at most the number of training images, {len(train_images)}, got {args.batch}")
if rank == 0:
    first = make_grid(train_images[:32].repeat_interleave(2, 2).repeat_interleave(2, 3), nrow=8)
    to_pil_image(first).save(args.out / "cifar10.jpg")

# %% The lists to be compared. The book trains with the second one.

flip, shift = ga.RandomHorizontalFlip(), ga.RandomCrop(32, padding=4)
lists: dict[str, list[Any]] = {
    "none": [],
    "flip": [flip],
    "flip, shift": [flip, shift],
    "flip, shift, RandAugment": [flip, shift, ga.RandAugment(num_ops=2, magnitude=9)],
    "all of the grids": [flip, jitter, ga.RandomResizedCrop(32, scale=(0.1, 1.0), ratio=(0.5, 2.0))],
}
floats = [ga.ToDtype(torch.float32, scale=True), ga.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))]

# %% The network: a residual network that trains on a CPU, or ResNet-18 with a stem for small images


class Block(nn.Module):
    """Two convolutions, and a way around them."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True),
            nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out),
        )  # fmt: skip
        self.around = nn.Conv2d(channels, out, 1, stride, bias=False) if (channels, stride) != (out, 1) else None

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + (x if self.around is None else self.around(x)))


def network() -> nn.Module:
    """A new network for ten classes, with weights from torch's generator."""
    if args.network == "resnet18":
        model = models.resnet18(num_classes=10)
        model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
        return model
    stem = [nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)]
    blocks = [Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


# %% Training. The same code for one device and for several


@torch.inference_mode()
def accuracy(model: nn.Module, augment: ga.Augment, images: Tensor, labels: Tensor) -> float:
    """Percent of right answers on images that are not augmented. Each process takes its share."""
    augment.eval()
    model.eval()
    right = torch.zeros((), device=device)
    for part in torch.arange(rank, len(images), processes).split(500):
        right += (model(augment(images[part].to(device))).argmax(1) == labels[part].to(device)).sum()
    if processes > 1:
        dist.all_reduce(right)
    return round(100 * right.item() / len(images), 2)


def train(steps: list[Any], seed: int) -> dict[str, Any]:
    """Train a network with a list; its test accuracy after each epoch, and both accuracies at the end, in percent."""
    torch.manual_seed(seed)  # all lists begin with the same weights
    augment = ga.Augment(train=[*steps, *floats], eval=floats, seed=seed, memory_format=torch.channels_last)
    model = network().to(device, memory_format=torch.channels_last)
    parallel = DistributedDataParallel(model) if processes > 1 else model
    batches = len(train_images) // args.batch
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.epochs * batches)
    curve = []
    for epoch in range(args.epochs):
        augment.train()
        model.train()
        augment.set_epoch(epoch)
        order = torch.randperm(len(train_images), generator=torch.Generator().manual_seed(1000 * seed + epoch))
        for batch in order[: batches * args.batch].split(args.batch):
            index = batch[rank::processes]  # this process's share of the batch
            # the draw depends on seed, epoch and index: an image looks the same whichever process shows it
            images = augment(train_images[index].to(device), index=index)
            loss = F.cross_entropy(parallel(images), train_labels[index].to(device))
            optimizer.zero_grad()
            loss.backward()  # DistributedDataParallel averages the gradients of all processes
            optimizer.step()
            schedule.step()
        curve.append(accuracy(model, augment, test_images, test_labels))
    seen = accuracy(model, augment, train_images, train_labels)
    return {"train": seen, "test": curve[-1], "curve": curve}


# %% All lists, with all seeds. The file is written after each run, so that a stopped run leaves what it has

settings = {name: vars(args)[name] for name in ("epochs", "images", "test_images", "batch", "network", "seeds")}
versions = {module.__name__: module.__version__ for module in (ga, torch, torchvision)}
command = " ".join(["python", "examples/book_augmentation.py", *sys.argv[1:]])
runs: list[dict[str, Any]] = []
if rank == 0:
    print(f"processes: {processes}, {len(train_images)} training and {len(test_images)} test images, on {device.type}")
    print("seed   list                       training %   test %", flush=True)
for seed in range(args.seeds):
    for name, steps in lists.items():
        runs.append({"list": name, "seed": seed, **train(steps, seed)})
        if rank == 0:
            print(f"{seed:4d}   {name:24}   {runs[-1]['train']:10.1f}   {runs[-1]['test']:6.1f}", flush=True)
            found = {
                "command": command,
                "processes": processes,
                "settings": settings,
                "versions": versions,
                "runs": runs,
            }
            (args.out / "book.json").write_text(json.dumps(found, indent=1) + "\n")

# %% The curves: test accuracy after each epoch, the mean over the seeds


def curves() -> Figure:
    """The figure, with the command that made it."""
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for name in lists:
        own = [run["curve"] for run in runs if run["list"] == name]
        means = [statistics.mean(points) for points in zip(*own, strict=True)]
        axes.plot(range(1, len(means) + 1), means, marker=".", label=name)
    axes.set(xlabel="epoch", ylabel="test accuracy, %", title=f"CIFAR-10, {len(train_images):,} training images")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.text(0.01, -0.03, command, fontsize=7, color="tab:gray")
    return figure


if rank == 0:
    curves().savefig(args.out / "curves.jpg", dpi=80, bbox_inches="tight", pil_kwargs={"quality": 80})

# %% [markdown]
# ## Exercises
#
# **1. Train without augmentation and compare. Can augmentation mitigate overfitting?** Compare the rows "none" and
# "flip": the gap between training and test accuracy is the overfitting. With augmentation it becomes smaller, and the
# test accuracy rises.
#
# **2. Combine several methods. Does the test accuracy improve?** Up to a point: compare "flip" with "flip, shift".
# Strong lists, such as the last row, make images harder than a small network can learn in a few epochs.
# docs/book.md has the figures of three seeds.

# %%
if rank == 0:
    print("\nlist                       training %   test %   gap   minus none")
    base = statistics.mean(run["test"] for run in runs if run["list"] == "none")
    for name in lists:
        seen, unseen = (statistics.mean(run[part] for run in runs if run["list"] == name) for part in ("train", "test"))
        print(f"{name:24}   {seen:10.1f}   {unseen:6.1f}   {seen - unseen:3.0f}   {unseen - base:+10.1f}")

# %% [markdown]
# **3. Which other methods are there?** torchvision's documentation lists them, and gpuaug has them by the same names;
# `ga.OPS` holds the classes. Eight of them:

# %%
others = [
    ga.RandomPerspective(p=1.0), ga.RandomRotation((20, 30)), ga.ElasticTransform(alpha=120.0),
    ga.GaussianBlur(21, sigma=4.0), ga.RandomSolarize(threshold=128, p=1.0), ga.RandomPosterize(bits=2, p=1.0),
    ga.RandomErasing(p=1.0), ga.RandomInvert(p=1.0),
]  # fmt: skip


def one_of_each() -> Figure:
    """A version of the photograph by each of the other methods."""
    figure, axes = plt.subplots(2, 4, figsize=(9.2, 5), layout="constrained")
    for method, place in zip(others, axes.flat, strict=True):
        place.imshow(ga.Augment([method], seed=2)(photo[None])[0].permute(1, 2, 0).numpy())
        place.set_title(type(method).__name__, fontsize=9)
        place.axis("off")
    return figure


if rank == 0:
    print(f"\nga.OPS has {len(ga.OPS)} classes: {', '.join(sorted(op.__name__ for op in ga.OPS))}")
    one_of_each().savefig(args.out / "others.jpg", dpi=70, pil_kwargs={"quality": 75})

# %% End of the processes
if processes > 1:
    dist.destroy_process_group()
