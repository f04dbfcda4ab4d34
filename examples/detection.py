"""Detection: a list with a mapping for each image goes through `Augment` straight into torchvision's Faster R-CNN.

    python examples/detection.py --steps 40

A Faster R-CNN with a small backbone learns, from scratch, to find discs and squares on photographs. Targets come back
as torchvision's detectors take them; SanitizeBoundingBoxes drops boxes of which a crop leaves less than a third, and
their labels. Prints the loss and, at the end, how many objects on other images get a box with an IoU above one half.
"""

import argparse

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign, box_iou

import gpuaug as ga
from gpuaug.demo.photographs import photographs

SIZE, BATCH = 80, 8
COLOURS = torch.tensor([[220.0, 60.0, 60.0], [60.0, 90.0, 230.0]])


def scenes(count: int, seed: int) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Images (count, 3, SIZE, SIZE) uint8, and boxes (N, 4) and labels (N,), 1 or 2, of each."""
    torch.manual_seed(seed)
    photos = [photo for _ in range(count) for photo in photographs()][:count]
    images = ga.Augment([ga.RandomResizedCrop(SIZE)], seed=seed)(ga.Ragged.from_images(photos)).float()
    y, x, rows = torch.arange(SIZE)[:, None] + 0.5, torch.arange(SIZE) + 0.5, []
    for image in images:
        labels = torch.randint(1, 3, (int(torch.randint(1, 4, (1,))),))
        radii = torch.randint(9, 17, (len(labels), 1)).float()
        centres = radii + ((SIZE - 2 * radii) * torch.rand(len(labels), 2)).round()
        for label, radius, (left, top) in zip(labels.tolist(), radii, centres, strict=True):
            down, across = (y - top).abs(), (x - left).abs()
            inside = (down**2 + across**2 < radius**2) if label == 1 else (torch.maximum(down, across) < radius)
            image[:, inside] = 0.3 * image[:, inside] + 0.7 * COLOURS[label - 1][:, None]
        rows.append({"boxes": torch.cat([centres - radii, centres + radii], dim=1), "labels": labels})
    return images.to(torch.uint8), rows


def detector() -> nn.Module:
    layers = [(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU()) for a, b in ((3, 16), (16, 32), (32, 64))]
    backbone = nn.Sequential(*(layer for group in layers for layer in group))
    backbone.out_channels = 64
    anchors, pool = AnchorGenerator(((24,),), ((1.0,),)), MultiScaleRoIAlign(["0"], 5, 2)
    sizes = {"min_size": SIZE, "max_size": SIZE, "rpn_post_nms_top_n_train": 200, "box_batch_size_per_image": 64}
    return FasterRCNN(backbone, 3, rpn_anchor_generator=anchors, box_roi_pool=pool, **sizes)


def main(steps: int, seed: int = 0) -> None:
    floats = [ga.ToDtype(torch.float32, scale=True)]
    moves = [ga.RandomResizedCrop(SIZE, (0.6, 1.0)), ga.RandomHorizontalFlip()]
    clean = ga.SanitizeBoundingBoxes(min_size=4, min_visibility=0.33)
    augment = ga.Augment([*moves, clean, ga.ColorJitter(0.2, 0.2), *floats], eval=floats, seed=seed)
    (images, rows), model = scenes(16 * BATCH, seed), detector()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(steps):
        index = torch.randint(len(images), (BATCH,))
        batch, targets = augment(images[index], [rows[number] for number in index])
        loss = sum(model(list(batch), targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0 or step == steps - 1:
            print(f"step {step:3d}  loss {loss.item():.3f}")
    images, rows = scenes(4 * BATCH, seed + 1)
    good: list[bool] = []
    with torch.no_grad():
        for answer, row in zip(model.eval()(list(augment.eval()(images))), rows, strict=True):
            same = (answer["labels"] == row["labels"][:, None]) & (answer["scores"] > 0.3)
            good += ((box_iou(row["boxes"], answer["boxes"]) > 0.5) & same).any(1).tolist()
    print(f"found {sum(good)} of {len(good)} objects")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=40)
    main(parser.parse_args().steps)
