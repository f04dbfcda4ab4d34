"""Clips: every frame of a clip is cropped, flipped and coloured alike, so what moves in it still moves the same way.

    python examples/clips.py --epochs 6

A window lies still on a photograph, moves across it, or moves down, and a small network of 3D convolutions tells
which. A draw for each frame would shake the still ones. One draw for each clip leaves the answer as it is. The data set
returns clips (T, C, H, W), `ragged_collate` packs them, and `DeviceLoader` augments. Prints the loss of each epoch and,
at the end, the share of right answers on clips that the network has not seen.
"""

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import gpuaug as ga
from gpuaug.demo.photographs import photographs

SIZE, FRAMES, BATCH, NAMES = 40, 6, 16, ("still", "across", "down")


class Windows(Dataset[tuple[Tensor, int, int]]):
    """Clips (FRAMES, 3, 48, 48) uint8, their class, and their number."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.photos = count, seed, photographs()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[Tensor, int, int]:
        random = torch.Generator().manual_seed(self.seed * 100_003 + number)
        photo, label = self.photos[number % len(self.photos)], number % len(NAMES)
        speed = int(torch.randint(3, 6, (), generator=random)) * (1 - 2 * int(torch.randint(2, (), generator=random)))
        way = torch.arange(FRAMES) * speed - min(0, speed * (FRAMES - 1))
        top, left = (int(torch.randint(side - 80, (), generator=random)) for side in photo.shape[1:])
        tops, lefts = top + way * (label == 2), left + way * (label == 1)
        frames = [photo[:, y : y + 48, x : x + 48] for y, x in zip(tops.tolist(), lefts.tolist(), strict=True)]
        return torch.stack(frames), label, number


def network() -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 32), (32, 32)):
        layers += [nn.Conv3d(inputs, outputs, 3, stride=(1, 2, 2), padding=1), nn.BatchNorm3d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(32, len(NAMES)))


def main(epochs: int, seed: int = 0) -> None:
    torch.manual_seed(seed)
    floats = [ga.ToDtype(torch.float32, scale=True), ga.Normalize((0.5,) * 3, (0.25,) * 3)]
    moves = [ga.RandomCrop(SIZE), ga.RandomHorizontalFlip(), ga.RandomVerticalFlip()]
    augment = ga.Augment([*moves, ga.ColorJitter(0.3, 0.3, 0.3), *floats], seed=seed)
    data = DataLoader(Windows(240, seed), BATCH, shuffle=True, collate_fn=ga.ragged_collate)
    loader = ga.DeviceLoader(data, "cpu", augment, train=True)
    optimizer = torch.optim.Adam((model := network()).parameters(), lr=3e-3)
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        total = 0.0
        for clips, labels in loader:
            loss = F.cross_entropy(model(clips.transpose(1, 2)), labels)  # the model takes (B, C, T, H, W)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch}  loss {total / len(loader):.3f}")
    model.eval()
    data = DataLoader(Windows(60, seed + 1), BATCH, collate_fn=ga.ragged_collate)
    with torch.no_grad():
        others = ga.DeviceLoader(data, "cpu", augment, train=False)
        right = [model(clips.transpose(1, 2)).argmax(1) == labels for clips, labels in others]
    print(f"right answers: {torch.cat(right).float().mean():.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=6)
    main(parser.parse_args().epochs)
