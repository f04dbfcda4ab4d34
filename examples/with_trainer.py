"""Train a model of transformers with its Trainer, on a Hugging Face data set of images: one line attaches the module.

    python examples/with_trainer.py --data photos

`photos` holds train/<class>/* and val/<class>/*; the data set has the columns "image" and "label".
"""

import argparse
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers

import gpuaug as ga

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", type=Path, required=True, help="folder with train and val")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch", type=int, default=64, help="images of each process")
parser.add_argument("--size", type=int, default=224, help="of the images, pixels")
parser.add_argument("--out", type=Path, default=Path("trainer"), help="folder for checkpoints")


def metrics(result: Any) -> dict[str, float]:
    return {"accuracy": float((result.predictions.argmax(1) == result.label_ids).mean())}


def main(args: argparse.Namespace) -> None:
    files = {part: str(args.data / part / "**") for part in ("train", "val")}
    data = datasets.load_dataset("imagefolder", data_files=files)
    classes = data["train"].features["label"].num_classes
    sizes = {"image_size": args.size, "hidden_sizes": [32, 64, 128, 256], "depths": [1, 1, 1, 1]}
    model = transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=classes, **sizes))
    steps = [ga.RandomResizedCrop(args.size), ga.RandomHorizontalFlip(), ga.TrivialAugmentWide()]
    augment = ga.Augment([*steps, ga.ToDtype(torch.float32, scale=True), ga.MixUp(num_classes=classes)])
    options = transformers.TrainingArguments(
        str(args.out),
        num_train_epochs=args.epochs,
        per_device_train_batch_size=args.batch,
        per_device_eval_batch_size=args.batch,
        eval_strategy="epoch",
        save_strategy="epoch",
        learning_rate=1e-3,
        report_to=[],
    )
    trainer = transformers.Trainer(
        model, options, train_dataset=data["train"], eval_dataset=data["val"], compute_metrics=metrics
    )
    ga.adapters.attach_to_trainer(trainer, augment)
    trainer.train()
    print("accuracy:", trainer.evaluate()["eval_accuracy"])


if __name__ == "__main__":
    main(parser.parse_args())
