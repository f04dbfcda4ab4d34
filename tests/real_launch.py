"""Triton's real JIT, compiler and launcher on a libcuda without a device; what is launched runs in the PTX emulator.

    python tests/real_launch.py                   # what CI runs: every kernel, and faults that must be noticed
    python tests/real_launch.py --all --arch 90   # every list, op, dtype and layout of tests/gpu_checks.py: an hour
    python tests/real_launch.py --cache FOLDER --arch 90   # only compile, into a cache of Triton's for such a GPU

Every launch is compared with what the backend asked `launch` for: the kernel and its constants, what the compiler took
for granted of the arguments, grid, block, shared memory, stream, and every raw parameter as the driver gets it. The
results are compared with the twin's. Prints a report in JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import fakecuda


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="everything that tests/gpu_checks.py checks")
    parser.add_argument("--faults", action="store_true", help="then plant faults, and tell how each was noticed")
    parser.add_argument("--arch", type=int, default=80, help="compute capability times ten (80, 90)")
    parser.add_argument("--cache", type=Path, help="compile only, into this folder")
    parser.add_argument("parts", nargs="*", help="only the parts whose name has one of these")
    return parser.parse_args()


def run(parts: dict[str, Callable[[], None]]) -> dict[str, float | str]:
    """CPU seconds of each part, or what went wrong."""
    done: dict[str, float | str] = {}
    for name, part in parts.items():
        start = time.process_time()
        try:
            part()
            done[name] = round(time.process_time() - start, 2)
        except Exception as error:
            done[name] = f"{type(error).__name__}: {error}"
        print(f"{name}: {done[name]}", file=sys.stderr, flush=True)
    return done


def contents(cache: Path) -> dict[str, Any]:
    """What a folder of Triton's holds."""
    files = [path for path in cache.rglob("*") if path.is_file()]
    code = sum(path.suffix == ".cubin" for path in files)
    return {"kernels": code, "files": len(files), "MB": round(sum(path.stat().st_size for path in files) / 1e6, 1)}


def main() -> int:
    given = options()
    fakecuda.restarted(given.cache)
    import gpu_checks  # imports Triton, which reads its environment
    import torch
    import triton
    from launch_checks import Report, Watch, kernels
    from launch_faults import noticed
    from launch_parts import chosen, everything

    from benchmarks.pseudocuda import PseudoCuda

    driver, report = fakecuda.pretend(given.arch), Report()
    torch.cuda._sleep = torch.cuda.set_sync_debug_mode = lambda *_: None
    torch.set_num_threads(1)
    with PseudoCuda():
        watch = Watch(driver, report, execute=given.cache is None)
        if given.cache is not None:  # nothing was computed
            gpu_checks.same = lambda got, expected: True
        parts = (everything if given.all or given.cache else chosen)(watch)
        wanted = {name: part for name, part in parts.items() if not given.parts or any(p in name for p in given.parts)}
        result = {"triton": triton.__version__, "arch": given.arch, "kernels": sorted(kernels()), "parts": run(wanted)}
        result |= report.figures()
        if given.cache is not None:
            result["cache"] = contents(given.cache)
        if given.faults:
            result["faults"] = noticed(watch)
    print(json.dumps(result, indent=1))
    return any(isinstance(seconds, str) for seconds in result["parts"].values())


if __name__ == "__main__":
    sys.exit(main())
