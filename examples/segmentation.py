"""Segmentation: masks follow their images, and what no image covers is ignored.

    python examples/segmentation.py --steps 60

A small U-Net learns where discs and squares lie on photographs. Masks move with their images; corners that a rotation
leaves empty get `mask_fill`, which the loss ignores. Prints the loss and, at the end, the IoU of each class on others.
"""

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gpuaug as ga
from gpuaug.demo.photographs import photographs

SIZE, BATCH, IGNORED, NAMES = 48, 16, 255, ("background", "disc", "square")
COLOURS = torch.tensor([[220.0, 60.0, 60.0], [60.0, 90.0, 230.0]])


def scenes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images (count, 3, SIZE, SIZE) uint8 and masks (count, SIZE, SIZE) uint8."""
    torch.manual_seed(seed)
    photos = [photo for _ in range(count) for photo in photographs()][:count]
    images = ga.Augment([ga.RandomResizedCrop(SIZE)], seed=seed)(ga.Ragged.from_images(photos)).float()
    masks = torch.zeros(count, SIZE, SIZE, dtype=torch.uint8)
    y, x = torch.arange(SIZE)[:, None], torch.arange(SIZE)
    for image, mask in zip(images, masks, strict=True):
        for label in (1, 2):
            (top, left), radius = torch.randint(12, SIZE - 12, (2,)), torch.randint(7, 13, (1,))
            down, across = (y - top).abs(), (x - left).abs()
            inside = (down**2 + across**2 < radius**2) if label == 1 else (torch.maximum(down, across) < radius)
            image[:, inside] = 0.3 * image[:, inside] + 0.7 * COLOURS[label - 1][:, None]
            mask[inside] = label
    return images.to(torch.uint8), masks


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        sizes = ((3, 16), (16, 32), (32, 32), (64, 16))
        blocks = [nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()) for a, b in sizes]
        self.first, self.second, self.third, self.up = blocks
        self.last = nn.Conv2d(32, len(NAMES), 1)

    def forward(self, images: Tensor) -> Tensor:
        fine = self.first(images)
        middle = self.second(F.max_pool2d(fine, 2))
        coarse = F.interpolate(self.third(F.max_pool2d(middle, 2)), scale_factor=2)
        return self.last(torch.cat([F.interpolate(self.up(torch.cat([coarse, middle], 1)), scale_factor=2), fine], 1))


def main(steps: int, seed: int = 0) -> None:
    floats = [ga.ToDtype(torch.float32, scale=True), ga.Normalize((0.5,) * 3, (0.25,) * 3)]
    moves = [ga.RandomResizedCrop(SIZE, (0.6, 1.0)), ga.RandomHorizontalFlip(), ga.RandomRotation(20)]
    augment = ga.Augment([*moves, ga.ColorJitter(0.2, 0.2, 0.2), *floats], eval=floats, seed=seed, mask_fill=IGNORED)
    (images, masks), model = scenes(8 * BATCH, seed), UNet()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(steps):
        index = torch.randint(len(images), (BATCH,))
        batch, targets = augment(images[index], {"masks": masks[index]})
        loss = F.cross_entropy(model(batch), targets["masks"].long(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0 or step == steps - 1:
            print(f"step {step:3d}  loss {loss.item():.3f}")
    images, masks = scenes(2 * BATCH, seed + 1)
    with torch.no_grad():
        found = model.eval()(augment.eval()(images)).argmax(1)
    for label, name in enumerate(NAMES):
        mine, true = found == label, masks == label
        print(f"IoU {name}: {float((mine & true).sum() / (mine | true).sum()):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=60)
    main(parser.parse_args().steps)
