"""Hashes of what many lists draw, lower to and render: shows that a change of how it is computed changes no bit.

    python tests/golden.py --write     # before the change
    python tests/golden.py             # after it: names what differs

The hashes are kept in tests/golden.json. They hold for one platform: NumPy's `exp` and `cos` may differ in the last bit
between processors, so this is a tool for a change on one machine, and no part of the suite.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from device_lists import CASES
from helpers import BACKENDS, CLASSES, noise, photographs, recipe
from lists import LISTS, cases, channel_counts, random_crops, random_pixels

import gpuaug as ga
from gpuaug.program import Op, Slot

__all__ = ["hashes"]

FILE = Path(__file__).with_name("golden.json")
COUNTS = (1, 5)  # images of a batch
SEEDS = 12  # of the lists drawn at random
OPERANDS_OF = {
    Op.IDENTITY: 0, Op.TABLE: 0, Op.CONTRAST: 2, Op.AUTOCONTRAST: 0, Op.EQUALIZE: 0, Op.SATURATION: 2, Op.GRAYSCALE: 0,
    Op.HUE: 1, Op.SHARPNESS: 2, Op.WARP: 12, Op.FLIP: 2, Op.BLUR: 2, Op.CONVOLVE: 2, Op.NOISE: 4, Op.JPEG: 1,
    Op.ERASE: 4, Op.BRANCH: 1, Op.JOIN: 1, Op.MERGE: 0,
}  # fmt: skip


def digest(value: Any) -> str:
    state = hashlib.sha256()
    _feed(state, value)
    return state.hexdigest()[:12]


def _feed(state: Any, value: Any) -> None:
    """Values, dtypes and shapes, however they are held."""
    if isinstance(value, torch.Tensor):
        state.update(repr((value.dtype, tuple(value.shape), value.stride())).encode())
        value = value.contiguous().view(torch.uint8 if value.dtype == torch.uint8 else _integer(value)).numpy()
        state.update(value.tobytes())
    elif isinstance(value, np.ndarray):
        state.update(repr((value.dtype.str, value.shape)).encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, dict):
        for name in sorted(value):
            state.update(name.encode())
            _feed(state, value[name])
    elif isinstance(value, (list, tuple)):
        state.update(str(len(value)).encode())
        for one in value:
            _feed(state, one)
    elif isinstance(value, (set, frozenset)):
        state.update(repr(sorted(map(int, value))).encode())
    elif isinstance(value, Slot):
        _feed_slot(state, value)
    elif is_dataclass(value):
        for one in fields(value):
            state.update(one.name.encode())
            _feed(state, getattr(value, one.name))
    elif callable(value):
        state.update(b"callable")
    else:
        state.update(repr(value).encode())


def _feed_slot(state: Any, slot: Slot) -> None:
    """What its instructions read; the rest of its arrays may hold anything."""
    opcode = slot.opcode[:, None]
    table = None if slot.table is None else np.where(opcode == Op.TABLE, slot.table, 0)
    fill = None if slot.fill is None else np.where(np.isin(opcode, (Op.WARP, Op.ERASE)), slot.fill, 0)
    kernel = None if slot.kernel is None else np.where(np.isin(opcode, (Op.BLUR, Op.CONVOLVE)), slot.kernel, 0)
    operands = slot.operands.copy()
    for number, code in enumerate(slot.opcode.tolist()):
        operands[number, OPERANDS_OF.get(code, 16) :] = 0
    for part in (slot.may, slot.opcode, operands, fill, table, kernel):
        _feed(state, part)


def _integer(tensor: torch.Tensor) -> torch.dtype:
    return {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]


def tried() -> Iterator[tuple[str, list[Any], dict[str, Any], Any]]:
    """Name, list, options of Augment, and channels or "ragged"."""
    for case in cases():
        (steps,) = case.values
        for channels in channel_counts(steps):
            yield f"{case.id} {channels}", steps, {}, channels
    for name, steps in LISTS.items():
        for exact in (False, True):
            yield f"{name} exact={exact}", steps, {"exact": exact}, 3
    for name, made in CASES.items():
        yield f"case {name}", made.steps, made.options, "ragged" if made.ragged else 3
        yield f"case {name} exact", made.steps, {**made.options, "exact": True}, "ragged" if made.ragged else 3
    for mix in (False, True):
        yield f"recipe {mix}", recipe(mix), {}, 3
        yield f"recipe {mix} ragged", recipe(mix), {"memory_format": torch.channels_last}, "ragged"
    for mode in ("batch", "pair", "elem"):
        mixes = [ga.MixUp(alpha=0.3, num_classes=CLASSES, mode=mode), ga.CutMix(num_classes=CLASSES, mode=mode)]
        for mix in (*mixes, ga.RandomChoice(mixes, p=[0.4, 0.3])):
            yield f"{mix!r}", [ga.RandAugment(), mix], {}, 3
    for seed in range(SEEDS):
        yield f"crops {seed}", random_crops(seed), {"exact": bool(seed % 2)}, 3
        yield f"pixels {seed}", random_pixels(seed), {"exact": bool(seed % 2)}, 3
    policies = [ga.AutoAugment(name) for name in ("imagenet", "cifar10", "svhn")]
    for policy in [*policies, ga.TrivialAugmentWide(), ga.AugMix(), ga.RandAugment(3, 5, 31, "bicubic", 7)]:
        for channels in (1, 3):
            yield f"{policy!r} {channels}", [policy], {}, channels


def images(kind: Any, count: int) -> Any:
    return ga.Ragged.from_images(photographs(count)) if kind == "ragged" else noise(count, kind, 48, 44, seed=count)


def _one(steps: list[Any], options: dict[str, Any], kind: Any, count: int, training: bool, pixels: bool) -> list[Any]:
    found = []
    for seed, epoch in ((7, 0), (2**63 + 5, 3)):
        augment = ga.Augment(steps, seed=seed, backend="torch", **options).train(training)
        augment.set_epoch(epoch)
        batch = images(kind, count)
        index = torch.arange(count) * 977 + (2**33 if epoch else 0)
        draw = augment.sample(batch, index=index)
        pipeline = augment._pipeline(training)
        items = pipeline.lower(draw.params, draw.keys, draw.canvas, augment.exact, augment.memory_format)
        found += [digest(draw.params), digest(items)]
        for backend in BACKENDS if pixels and training and count == max(COUNTS) and not epoch else ():
            augment.backend = backend
            labels = [torch.arange(count) % CLASSES] if pipeline.mix is not None else []
            if labels and pipeline.mix.num_classes is not None:
                labels = [labels[0] % pipeline.mix.num_classes]
            elif labels:
                labels = [torch.eye(CLASSES)[labels[0]]]
            found.append(digest(augment.render(batch, draw, *labels)))
    return found


def hashes(pixels: bool = True) -> dict[str, str]:
    """One hash for each list: of its parameters, programs and pixels, or what it raises."""
    found = {}
    for name, steps, options, kind in tried():
        parts: list[Any] = []
        for count in COUNTS:
            for training in (True, False):
                try:
                    parts.append(_one(steps, options, kind, count, training, pixels))
                except (ValueError, RuntimeError) as error:
                    parts.append(f"{type(error).__name__}: {error}")
        key = name if name not in found else f"{name} again"
        found[key] = digest(parts)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="keep today's hashes")
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--no-pixels", action="store_true", help="parameters and programs alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = hashes(not arguments.no_pixels)
    if arguments.write:
        arguments.file.write_text(json.dumps(found, indent=0) + "\n")
        print(f"{len(found)} hashes written to {arguments.file}")
        return
    kept = json.loads(arguments.file.read_text())
    wrong = [name for name in {**kept, **found} if kept.get(name) != found.get(name)]
    print(f"{len(found)} lists, {len(wrong)} differ", *wrong, sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
