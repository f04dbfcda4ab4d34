"""Key points: left and right change places when an image is mirrored.

    python examples/keypoints.py --steps 80

Faces of a disc, two eyes and a mouth lie on photographs, and a small network regresses where these are. Key points move
with the crops, flips and rotations of their images. The left eye of a mirrored face is its right one, so `flip_pairs`
exchanges the two. A point that a crop cuts off gets visibility 0, and the loss leaves it out. Prints the loss and, at
the end, the mean distance to the true points in pixels, beside that of a guess at the centre.
"""

import argparse

import torch
from torch import Tensor, nn

import gpuaug as ga
from gpuaug.demo.photographs import photographs

SIZE, BATCH = 48, 32
LEFT_EYE, RIGHT_EYE, MOUTH = range(3)
SKIN, DARK = torch.tensor([235.0, 190.0, 150.0]), torch.tensor([30.0, 20.0, 40.0])


def faces(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images (count, 3, SIZE, SIZE) uint8 and key points (count, 1, 3, 3): x, y, visible."""
    torch.manual_seed(seed)
    photos = [photo for _ in range(count) for photo in photographs()][:count]
    images = ga.Augment([ga.RandomResizedCrop(SIZE)], seed=seed)(ga.Ragged.from_images(photos)).float()
    points = torch.ones(count, 1, 3, 3)
    y, x = torch.arange(SIZE)[:, None] + 0.5, torch.arange(SIZE) + 0.5
    for image, (group,) in zip(images, points, strict=True):
        radius = 8 + 6 * torch.rand(1)
        centre = radius + (SIZE - 2 * radius) * torch.rand(2)
        offsets = radius * torch.tensor([[-0.4, -0.3], [0.4, -0.3], [0.0, 0.5]])
        group[:, :2] = centre + offsets
        places = [(centre, radius, SKIN)] + [(place, 0.18 * radius, DARK) for place in group[:, :2]]
        for (left, top), reach, colour in places:
            image[:, (x - left) ** 2 + (y - top) ** 2 < reach**2] = colour[:, None]
    return images.to(torch.uint8), points


def network() -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * (SIZE // 8) ** 2, 6), nn.Unflatten(1, (3, 2)))


def main(steps: int, seed: int = 0) -> None:
    floats = [ga.ToDtype(torch.float32, scale=True), ga.Normalize((0.5,) * 3, (0.25,) * 3)]
    moves = [ga.RandomResizedCrop(SIZE, (0.7, 1.0)), ga.RandomHorizontalFlip(), ga.RandomRotation(10)]
    steps_ = [*moves, ga.ColorJitter(0.2, 0.2), *floats]
    augment = ga.Augment(steps_, eval=floats, seed=seed, flip_pairs=[(LEFT_EYE, RIGHT_EYE)])
    images, points = faces(16 * BATCH, seed)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for step in range(steps):
        index = torch.randint(len(images), (BATCH,))
        batch, targets = augment(images[index], {"keypoints": points[index]})
        places, visible = targets["keypoints"][:, 0].split((2, 1), dim=2)
        error = (model(batch) - (places / SIZE - 0.5)).square() * visible
        loss = error.sum() / visible.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0 or step == steps - 1:
            print(f"step {step:3d}  loss {loss.item():.4f}")
    model.eval(), augment.eval()
    images, points = faces(4 * BATCH, seed + 1)
    with torch.no_grad():
        found = (model(augment(images)) + 0.5) * SIZE
    for name, guess in (("network", found), ("centre", torch.full_like(found, SIZE / 2))):
        print(f"mean distance of the {name}: {float((guess - points[:, 0, :, :2]).norm(dim=2).mean()):.1f} pixels")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=80)
    main(parser.parse_args().steps)
