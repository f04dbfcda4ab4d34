"""Loaders that decode only what the crop needs, in turns with one that decodes everything, on one core and on two.

    python -m benchmarks.evidence.crop_only FOLDER --json FILE

FOLDER is an ImageFolder of JPEGs, of which links make `--images` for an epoch. DALI reads two batches ahead, also into
the next epoch, so in the pause before its turn it decodes 64 images that nobody times: a fifth of an epoch of 320
images, a twentieth of 1,280. Beside the time stands the CPU time of all processes, which other programs on the machine
change less. DALI takes part if it is installed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..locations import PACKAGE, RESULTS
from ..peers import OURS
from ..suite import Part, run

__all__ = ["STORED", "WAYS"]

COMMAND = "python -m benchmarks.evidence.crop_only FOLDER"
STORED = RESULTS / "crop_only.json"
WAYS = (OURS, f"{OURS}, regions", f"{OURS}, files in tiles, regions", "DALI, decodes the crop only")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog=f"python -m {PACKAGE}.evidence.crop_only", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folder", type=Path, help="an ImageFolder of JPEGs")
    parser.add_argument("--images", type=int, default=1280, help="images in an epoch (default: 1280)")
    parser.add_argument("--rounds", type=int, default=3, help="epochs of each loader, and two more (default: 3)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help=f"the stored run is in benchmarks/results/{STORED.name}"
    )
    options = parser.parse_args()
    settings = {"images": options.images, "rounds": options.rounds, "cases": ("crop + flip",), "ways": WAYS}
    parts = [Part("loaders", cores, raw=False, **settings) for cores in (1, 2)]
    found = run(parts, options.folder, "cpu", "full", lambda part, at: print(f"{part}: {at}", flush=True))
    found["regimes"]["loaders"]["absent"] = [one for one in found["regimes"]["loaders"]["absent"] if one["who"] in WAYS]
    from ..report.docs import crop_only

    print(crop_only(found), *found["failed"].values(), sep="\n")
    if options.json is not None:
        options.json.write_text(json.dumps({**found, "data": options.folder.name, "command": COMMAND}, indent=1) + "\n")


if __name__ == "__main__":
    main()
