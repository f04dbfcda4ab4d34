"""Train ResNet-18 on CIFAR-10 from uint8 images in memory, augmented batch by batch on the device.

Does augmentation help? Run it twice and look at accuracy.png, which shows every run in --out. Needs matplotlib.

    python examples/train_cifar10.py --augment none --out runs
    python examples/train_cifar10.py --augment standard --out runs
"""

import argparse
import json
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import datasets, models
from torchvision.transforms.v2.functional import pil_to_tensor

import gpuaug as ga

# ---- configuration ---------------------------------------------------------------------------------------------------

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, help="folder with train/<class>/* and test/<class>/*; left out: download")
parser.add_argument("--augment", choices=["none", "flip", "standard", "strong"], default="standard")
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--batch", type=int, default=256)
parser.add_argument(
    "--limit", type=int, default=50_000, help="training images, drawn with --seed; as many test images at most"
)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast, where the processor has it")
parser.add_argument("--out", type=Path, default=Path("runs"), help="folder for results and accuracy.png")
args = parser.parse_args()

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
torch.manual_seed(args.seed)

# ---- data: the whole set as uint8 (N, 3, 32, 32) in memory -----------------------------------------------------------


def load(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels of a split, at most --limit of them."""
    if args.data:
        dataset = datasets.ImageFolder(args.data / split)
    else:
        dataset = datasets.CIFAR10(args.out / "data", train=split == "train", download=True)
    chosen = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(args.seed))[: args.limit]
    images, labels = zip(*(dataset[i] for i in chosen.tolist()), strict=True)
    return torch.stack([pil_to_tensor(image) for image in images]), torch.tensor(labels)


train_images, train_labels = load("train")
test_images, test_labels = load("test")

to_float = [ga.ToDtype(torch.float32, scale=True), ga.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))]
flip = [ga.RandomHorizontalFlip()]
standard = [ga.RandomCrop(32, padding=4), *flip]
recipes = {
    "none": to_float,
    "flip": flip + to_float,
    "standard": standard + to_float,
    "strong": [*standard, ga.RandAugment(num_ops=2, magnitude=9), *to_float, ga.RandomErasing(p=0.25)],
}
augment = ga.Augment(train=recipes[args.augment], eval=to_float, seed=args.seed)

# ---- model: ResNet-18 with a stem for small images -------------------------------------------------------------------

model = models.resnet18(num_classes=10)
model.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
model.maxpool = nn.Identity()
model.to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
autocast = torch.autocast(device.type, torch.bfloat16, enabled=args.bf16)

# ---- loop ------------------------------------------------------------------------------------------------------------


def train() -> float:
    """One epoch; the accuracy on the batches as they were trained on, in percent."""
    augment.train()
    model.train()
    correct = torch.zeros((), device=device)
    for index in torch.randperm(len(train_images)).split(args.batch):
        images, labels = train_images[index].to(device), train_labels[index].to(device)
        images = augment(images, index=index)  # keyed: image 7 of epoch 3 looks the same whatever the batches are
        with autocast:
            outputs = model(images)
            loss = F.cross_entropy(outputs, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        correct += (outputs.argmax(1) == labels).sum()
    return 100 * correct.item() / len(train_images)


@torch.inference_mode()
def test() -> float:
    """Accuracy on the test images, in percent."""
    augment.eval()
    model.eval()
    correct = torch.zeros((), device=device)
    for images, labels in zip(test_images.split(args.batch), test_labels.split(args.batch), strict=True):
        with autocast:
            outputs = model(augment(images.to(device)))
        correct += (outputs.argmax(1) == labels.to(device)).sum()
    return 100 * correct.item() / len(test_images)


curve: dict[str, list[float]] = {"train": [], "test": []}
print(f"{args.augment}, seed {args.seed}: {len(train_images)} training and {len(test_images)} test images, on {device}")
print("epoch   train %   test %   seconds")
for epoch in range(args.epochs):
    start = time.perf_counter()
    augment.set_epoch(epoch)
    curve["train"].append(train())
    curve["test"].append(test())
    print(
        f"{epoch + 1:5d}   {curve['train'][-1]:7.1f}   {curve['test'][-1]:6.1f}   {time.perf_counter() - start:7.1f}",
        flush=True,
    )

# ---- result: this run's numbers, and a picture of all runs -----------------------------------------------------------

args.out.mkdir(parents=True, exist_ok=True)
(args.out / f"{args.augment}-{args.seed}.json").write_text(json.dumps(curve))
figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
colors = dict(zip(recipes, ("tab:gray", "tab:orange", "tab:blue", "tab:red"), strict=True))
for path in sorted(args.out.glob("*-*.json")):
    name, result = path.stem.split("-")[0], json.loads(path.read_text())
    epochs = range(1, len(result["test"]) + 1)
    axes.plot(epochs, result["test"], color=colors[name], label=f"{path.stem}, test")
    axes.plot(epochs, result["train"], color=colors[name], linestyle=":", label=f"{path.stem}, train")
axes.set(xlabel="epoch", ylabel="accuracy, %", title="CIFAR-10, ResNet-18")
axes.legend(ncols=2, frameon=False)
axes.grid(alpha=0.3)
figure.savefig(args.out / "accuracy.png", dpi=120)
