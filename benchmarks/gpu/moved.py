"""The bytes that our launches move, counted without a GPU: python -m benchmarks.gpu.moved

The kernels run in Triton's interpreter, which watches every load and store (`benchmarks.evidence.recording`); each byte
counts once a launch. `benchmarks.gpu.speed` divides them by the bandwidth of a copy. Count again when the kernels
change: the file has their fingerprint, and counts of other kernels are reported as stale.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..locations import RESULTS

__all__ = ["STORED", "count", "main", "stored"]

STORED = RESULTS / "gpu_bytes.json"
IMAGES = 4


def count(scale: Any, names: Any, images: int = IMAGES) -> dict[str, dict[str, float]]:
    """Bytes read and written, and launches, of each recipe, of an image but for the launches; in `pretend()`."""
    from ..evidence.recording import Audit
    from . import recipes

    images_, labels = recipes.batches(scale, images, None)[0]
    found = {}
    for name in names:
        augment = recipes.augment(name, scale)
        given = (labels,) if name.endswith(recipes.MIX) else ()
        augment(images_, *given)  # sends constants
        with Audit(count_bytes=True) as audit:
            augment(images_, *given)
        figures = {"read": audit.read / images, "written": audit.written / images}
        found[name] = {**figures, "launches": len(audit.launches)}
        print(f"{name:<30} {(audit.read + audit.written) / images / 1e6:.3f} MB an image", flush=True)
    return found


def stored(file: Path = STORED) -> dict[str, Any] | None:
    """What `file` has, and whether it is `stale`: of other kernels than these, or None where that cannot be told."""
    if not file.exists():
        return None
    found: dict[str, Any] = json.loads(file.read_text())
    try:
        from ..evidence.bounds import fingerprint
    except ImportError:  # rich is not installed
        return {**found, "stale": None}
    return {**found, "stale": found["kernels"] != fingerprint()}


def main() -> None:
    """Count at full size and write STORED."""
    from .dry import pretend

    with pretend():
        from dataclasses import replace

        from ..evidence.bounds import fingerprint
        from . import recipes

        scale = replace(recipes.FULL, rotation=1)
        found = count(scale, recipes.names())
        about = {"timed": False, "images": IMAGES, "source": scale.source, "size": scale.size}
        text = json.dumps({**about, "kernels": fingerprint(), "recipes": found}, indent=1)
    STORED.parent.mkdir(exist_ok=True)
    STORED.write_text(text + "\n")


if __name__ == "__main__":
    main()
