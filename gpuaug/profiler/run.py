"""`python -m gpuaug.profiler.run train.py ARGUMENTS`: as `python train.py ARGUMENTS`, with a report at its end.

`gpuaug profile --run` starts it. With launchers: `torchrun --nproc-per-node 2 -m gpuaug.profiler.run train.py`.
"""

from __future__ import annotations

import os
import runpy
import sys

from gpuaug.profiler import unchanged

__all__ = ["main"]

INTERRUPTED = 130  # exit status that a shell expects after Ctrl-C


def main(arguments: list[str]) -> None:
    """Run a script as Python does, and report on its loaders when the process ends.

    Args:
        arguments: Words of the command line: `--json FILE`, which may be left out, the script and its own arguments.
    """
    json = None
    if arguments[:1] == ["--json"]:
        json, arguments = arguments[1], arguments[2:]
    if not arguments or not os.path.isfile(arguments[0]):
        sys.exit(f"profile: `--run` must name a file, got {arguments[0] if arguments else 'nothing'}.")
    unchanged.start(os.environ.get(unchanged.VARIABLE, "1"), json)
    sys.argv = arguments
    sys.path[0] = os.path.dirname(os.path.realpath(arguments[0]))
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except KeyboardInterrupt:  # `python -m` would exit with 1, as after an error
        sys.excepthook(*sys.exc_info())
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main(sys.argv[1:])
