"""Train with torchdata's StatefulDataLoader, and go on after any batch: the loader keeps its place, gpuaug its draws.

    python examples/with_torchdata.py --data photos --stop 100   # saves and ends after 100 batches
    python examples/with_torchdata.py --data photos              # goes on with batch 101

`photos` holds train/<class>/*.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from torchdata.stateful_dataloader import StatefulDataLoader
from torchvision import models

import gpuaug as ga

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, required=True, help="ImageFolder with train")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--size", type=int, default=224, help="of the images, pixels")
parser.add_argument("--stop", type=int, help="batches after which to save and end")
parser.add_argument("--out", type=Path, default=Path("state.pt"), help="the checkpoint")
parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


def main(args: argparse.Namespace) -> None:
    data = ga.data.ImageFolder(args.data / "train")
    steps = [ga.RandomResizedCrop(args.size), ga.RandomHorizontalFlip(), ga.TrivialAugmentWide()]
    tensor = [ga.ToDtype(torch.float32, scale=True), ga.MixUp(num_classes=len(data.classes))]
    augment = ga.Augment([*steps, *tensor])
    loader = StatefulDataLoader(data, args.batch, shuffle=True, num_workers=1, collate_fn=ga.ragged_collate)
    batches = ga.DeviceLoader(loader, args.device, augment, train=True)
    model = models.resnet18(num_classes=len(data.classes)).to(args.device).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    parts = {"model": model, "optimizer": optimizer, "augment": augment, "batches": batches}
    if args.out.exists():
        state = torch.load(args.out, weights_only=False)
        for name, part in parts.items():
            part.load_state_dict(state[name])
    done = 0
    for _ in range(augment.epoch, args.epochs):
        for images, targets in batches:
            loss = F.cross_entropy(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            print(f"epoch {augment.epoch + 1}: loss {loss.item():.6f}", flush=True)
            if done == args.stop:
                torch.save({name: part.state_dict() for name, part in parts.items()}, args.out)
                return


if __name__ == "__main__":
    main(parser.parse_args())
