"""Runs in a process of its own and prints, as JSON, what a MultiView asks of a device: it makes torch believe in a GPU.

python tests/support/view_cases.py
"""

from __future__ import annotations

import json
import sys
from typing import Any
from unittest import mock

import torch

from benchmarks.evidence.pseudocuda import PseudoCuda, install, to_device, to_host  # before anything imports Triton
from benchmarks.evidence.recording import Audit

# isort: split
from torch.utils._pytree import tree_map

import gpuaug as ga
from gpuaug.engine.views import View
from tests.support.device_lists import place, same, tail
from tests.support.helpers import noise, photographs

VIEWS, COUNT = 10, 3
STEPS = [ga.RandomResizedCrop(24), ga.RandomHorizontalFlip(), ga.ColorJitter(0.4), *tail()]
COPYING = ("clone", "copy_", "_to_copy", "cat", "index_select")


def copies(audit: Audit, size: int) -> int:
    """How many operations on the device write as many bytes as the batch has, and only copy."""
    named = [one for one in audit.launches if any(word in one.name.split(".") for word in COPYING)]
    return sum(one.written >= size for one in named)


def size_of(images: Any) -> int:
    return int((images.data if isinstance(images, ga.Ragged) else images).numel())


def asked(module: Any, images: Any, expected: Any) -> dict[str, Any]:
    """What a second call asks for; the first sends constants."""
    there, index = place([images], to_device)[0], torch.arange(len(images))
    with Audit():
        module(there, index=index + 50)
    with Audit() as audit:
        result = module(there, index=index)
    return {
        "findings": [str(finding) for finding in audit.findings], "copies": copies(audit, size_of(images)),
        "uploads": len(audit.uploads), "downloads": len(audit.downloads), "launches": len(audit.launches),
        "same": same(tree_map(to_host, result), expected(images, index=index)),
    }  # fmt: skip


def calls(images: Any) -> dict[str, Any]:
    """One Augment, and a MultiView of ten views."""
    augment, multi = (ga.Augment(STEPS, seed=3, backend=name) for name in ("triton", "torch")), [STEPS] * VIEWS
    many = (ga.MultiView(multi, seed=3, backend=name) for name in ("triton", "torch"))
    return {"one": asked(*one(augment, images)), "many": asked(*one(many, images))}


def one(modules: Any, images: Any) -> tuple[Any, Any, Any]:
    on_device, on_host = modules
    return on_device, images, on_host


def loader() -> dict[str, Any]:
    """A pass of a DeviceLoader on the device, from pinned memory."""
    images = noise(3 * COUNT, 3, 40, 36)
    source = [(part.pin_memory(), torch.arange(len(part)).pin_memory()) for part in images.split(COUNT)]
    multi = ga.MultiView([STEPS] * VIEWS, seed=3, backend="triton")
    with Audit() as audit:
        found = list(ga.DeviceLoader(source, "cuda", multi))
    assert all(len(views) == VIEWS for views, _ in found)
    size = size_of(images) // 3
    return {
        "batches": len(found), "copies": copies(audit, size),
        "uploads of images": sum(copy.size == size for copy in audit.uploads),
        "findings": [str(finding) for finding in audit.findings],
    }  # fmt: skip


def fault() -> int:
    """The copies of a MultiView that copies its batch for each view."""
    keyed = View.keyed

    def copying(self: View, images: Any, *others: Any) -> Any:
        return keyed(self, images.clone(), *others)

    images = noise(COUNT, 3, 40, 36)
    there = to_device(images)
    with mock.patch.object(View, "keyed", copying), Audit() as audit:
        ga.MultiView([STEPS] * VIEWS, seed=3, backend="triton")(there)
    return copies(audit, size_of(images))


def main() -> None:
    install()
    torch.set_num_threads(1)
    with PseudoCuda():
        result = {
            "dense": calls(noise(COUNT, 3, 40, 36)),
            "ragged": calls(ga.Ragged.from_images(photographs(COUNT))),
            "loader": loader(),
            "fault": fault(),
        }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
