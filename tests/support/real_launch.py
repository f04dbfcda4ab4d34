"""Triton's real JIT, compiler and launcher on a libcuda without a device; what is launched runs in the PTX emulator.

    python tests/support/real_launch.py                   # what CI runs: every kernel, and faults that must be noticed
    python tests/support/real_launch.py --all --arch 90   # every list, op, dtype and layout of
    tests/support/gpu_checks.py: an hour
    python tests/support/real_launch.py --cache FOLDER --at PATH --arch 90   # only compile, for a machine with such
    a GPU

Every launch is compared with what the backend asked `launch` for: the kernel and its constants, what the compiler took
for granted of the arguments, grid, block, shared memory, stream, and every raw parameter as the driver gets it. The
results are compared with the twin's. Prints a report in JSON.

A cache is found again by the same versions of Triton and Python and the same text of the kernels: on the machine with
the GPU, unpack FOLDER.tar.xz at PATH and set TRITON_CACHE_DIR=PATH. Triton's launchers in C are in it too; Triton 3.8
builds its own again where libcuda or Triton lie in other folders, which takes a second and a C compiler.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.evidence import fakecuda


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="everything that tests/support/gpu_checks.py checks")
    parser.add_argument("--faults", action="store_true", help="then plant faults, and tell how each was noticed")
    parser.add_argument("--arch", type=int, default=80, help="compute capability times ten (80, 90)")
    parser.add_argument(
        "--cache", type=lambda text: Path(text).absolute(), help="compile only, into this folder, and archive it"
    )
    parser.add_argument("--at", type=Path, help="where the archive of the cache will be unpacked")
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


def archive(cache: Path, at: Path) -> dict[str, Any]:
    """Write what a GPU needs of a folder of Triton's (machine code, its description, launchers) to FOLDER.tar.xz.

    Args:
        at: where it will be unpacked: Triton writes whole paths into its files.
    """
    target, count = cache.with_name(f"{cache.name}.tar.xz"), 0
    with tarfile.open(target, "w:xz") as file:
        for path in sorted(cache.rglob("*")):
            if path.suffix not in (".cubin", ".json", ".so"):
                continue
            content, count = path.read_bytes(), count + (path.suffix == ".cubin")
            if path.name.startswith("__grp__"):
                content = content.replace(str(cache).encode(), str(at).encode())
            entry = tarfile.TarInfo(str(path.relative_to(cache)))
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return {"kernels": count, "archive": str(target), "MB": round(target.stat().st_size / 1e6, 1), "unpack at": str(at)}


def main() -> int:
    given = options()
    fakecuda.restarted(given.cache)
    import torch
    import triton

    from benchmarks.evidence.pseudocuda import PseudoCuda
    from tests.support import gpu_checks  # imports Triton, which reads its environment
    from tests.support.launch_checks import Report, Watch, kernels
    from tests.support.launch_faults import noticed
    from tests.support.launch_parts import chosen, everything

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
            result["cache"] = archive(given.cache, given.at or given.cache)
        if given.faults:
            result["faults"] = noticed(watch)
    print(json.dumps(result, indent=1))
    return any(isinstance(seconds, str) for seconds in result["parts"].values())


if __name__ == "__main__":
    sys.exit(main())
