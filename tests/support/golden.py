"""Hashes of everything that a user can see: shows that a change of the code changes no bit.

    python -m tests.support.golden --write       # before the change
    python -m tests.support.golden               # after it: names what differs, and ends with status 1
    python -m tests.support.golden --part data   # one part only

It uses the public names of gpuaug alone, so the same file runs before and after the code is reorganised. Of an error
only the type is hashed, never the text. The hashes are kept in golden.json. They hold for one platform: NumPy's `exp`
and `cos` may differ in the last bit between processors. So this is a tool for a change on one machine, and not a part
of the tests. Beside golden.json lies what version 0.1 wrote, a pack and a checkpoint: every later version must load
them, and `--write` leaves them as they are.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision import models
from torchvision import transforms as v1
from torchvision.transforms import v2

import gpuaug as ga
from tests.support import golden_data, golden_lists, golden_state
from tests.support.golden_lists import CLASSES, Case, images

__all__ = ["Digest", "found", "module", "parts"]

FILE = Path(__file__).with_name("golden.json")
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
NAMES = {name: getattr(ga, name) for name in ga.__all__}
NAMES |= {"torch": torch, "v1": v1, "v2": v2, "models": models}


class Digest:
    """SHA-256 of values, dtypes, shapes and memory formats, however they are held."""

    def __init__(self) -> None:
        self._state = hashlib.sha256()
        self.raised: list[str] = []

    def text(self) -> str:
        return self._state.hexdigest()[:12]

    def attempt(self, function: Callable[[], Any]) -> None:
        """Add what a function returns, or the type of what it raises."""
        try:
            result = function()
        except Exception as error:
            self.raised.append(f"{type(error).__name__}: {error}")
            result = type(error).__name__
        self.add(result)

    def add(self, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            value = value.detach().as_subclass(torch.Tensor)
            formats = (torch.contiguous_format, torch.channels_last) if value.ndim == 4 else (torch.contiguous_format,)
            layout = [value.is_contiguous(memory_format=one) for one in formats]
            self._bytes(repr((value.dtype, tuple(value.shape), layout)).encode())
            plain = value.contiguous()
            self._bytes(plain.view(INTEGERS[plain.element_size()]).numpy().tobytes() if plain.numel() else b"")
        elif isinstance(value, np.ndarray):
            self._bytes(repr((value.dtype.str, value.shape)).encode() + np.ascontiguousarray(value).tobytes())
        elif isinstance(value, ga.Ragged):
            self.add([value.data, value.sizes, value.channels])
        elif isinstance(value, dict):
            self.add([part for name in sorted(value) for part in (name, value[name])])
        elif isinstance(value, (list, tuple)):
            self._bytes(b"%d parts" % len(value))
            for part in value:
                self.add(part)
        elif value is None or isinstance(value, (str, bytes, int, float, bool)):
            self._bytes(repr(value).encode())
        else:
            raise TypeError(f"golden: cannot hash {type(value).__name__}")

    def _bytes(self, data: bytes) -> None:
        self._state.update(len(data).to_bytes(8, "little") + data)


# ---- modules and labels ----------------------------------------------------------------------------------------------


def labels(case: Case, count: int) -> list[torch.Tensor]:
    numbers = torch.arange(count) * 3 % CLASSES
    soft = torch.tensor([[(3 * row + column) % 5 / 4 for column in range(CLASSES)] for row in range(count)])
    return {"": [], "numbers": [numbers], "soft": [soft]}[case.labels]


def module(case: Case, backend: str) -> ga.Augment:
    options = f", {case.options}" if case.options else ""
    options += "" if "seed=" in options else ", seed=7"
    return eval(f"Augment([{case.steps}]{options}, backend={backend!r}){case.then}", dict(NAMES))


# ---- parts -----------------------------------------------------------------------------------------------------------


def run(digest: Digest, case: Case, backends: tuple[str, ...] = ("torch", "numba")) -> None:
    """Training with a counter and with indices, looks, epochs, a draw rendered twice, and evaluation."""
    batch = images(case.images)
    given, index = labels(case, len(batch)), torch.arange(len(batch)) * 977 + 2**33
    for backend in backends:
        torch.manual_seed(5)
        made: list[ga.Augment] = []
        digest.attempt(lambda made=made, backend=backend: made.append(module(case, backend)))  # type: ignore[misc]
        for augment in made:
            digest.attempt(lambda augment=augment: augment(batch, *given))
            augment.set_epoch(3)
            digest.attempt(lambda augment=augment: augment(batch, *given, index=index))
            digest.attempt(lambda augment=augment: augment(batch, *given, index=index.flip(0)))  # another look
            digest.attempt(lambda augment=augment: augment.render(batch, augment.sample(batch), *given))
            digest.add(augment.state_dict())
            digest.attempt(lambda augment=augment: augment.eval()(batch, *given, index=index))
            digest.add(torch.rand(2))  # what a call takes from torch's generator


def listed(cases: list[Case], *options: Any) -> Iterator[tuple[str, Digest]]:
    for case in cases:
        digest = Digest()
        run(digest, case, *options)
        yield case.name, digest


def errors() -> Iterator[tuple[str, Digest]]:
    given = {**NAMES, "images": images("rgb"), "grid": torch.zeros(1, 5, 4, 4, dtype=torch.uint8)}
    for text in golden_lists.ERRORS:
        digest = Digest()
        digest.attempt(lambda text=text: type(eval(text, dict(given))).__name__)
        yield text, digest


def separate(functions: list[Callable[[], Any]]) -> Iterator[tuple[str, Digest]]:
    """One hash for each function, by its name."""
    for function in functions:
        digest = Digest()
        torch.manual_seed(5)
        digest.attempt(function)
        yield function.__name__, digest


def interpreted() -> Iterator[tuple[str, str]]:
    """In a process of its own: Triton asks when it is imported whether to interpret."""
    command = [sys.executable, "-m", "tests.support.golden", "--part", "interpreter", "--print"]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=FILE.parents[2], check=True)
    yield from json.loads(done.stdout).items()


def parts() -> dict[str, Callable[[], Iterator[tuple[str, Any]]]]:
    """The parts by name; each gives names and digests."""
    lists = {part: lambda cases=cases: listed(cases) for part, cases in golden_lists.cases().items()}
    return {
        **lists,
        "errors": errors,
        "state": lambda: separate(golden_state.STATE),
        "data": lambda: separate(golden_data.DATA),
        "kept": lambda: separate(golden_data.LOADED),
        "triton": interpreted,
    }


def found(names: list[str], verbose: bool = False) -> dict[str, str]:
    """The hashes of some parts."""
    result: dict[str, str] = {}
    every = {**parts(), "interpreter": lambda: listed(golden_lists.interpreted(), ("triton",))}
    for part in names:
        begin = time.perf_counter()
        for name, digest in every[part]():
            key = name if part == "interpreter" else f"{part}: {name}"
            assert key not in result, f"two cases are named {key!r}"
            result[key] = digest if isinstance(digest, str) else digest.text()
            if verbose and isinstance(digest, Digest) and digest.raised:
                print(key, *sorted(set(digest.raised)), sep="\n    ", file=sys.stderr)
        if verbose:
            print(f"{part}: {time.perf_counter() - begin:.1f} s", file=sys.stderr)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="keep the hashes of now")
    parser.add_argument("--part", action="append", choices=[*parts(), "interpreter"], help="only this part")
    parser.add_argument("--file", type=Path, default=FILE, help="where the hashes are kept")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--verbose", action="store_true", help="say what raised, and how long each part took")
    parser.add_argument("--print", action="store_true", help="print the hashes as JSON, and compare nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    names = arguments.part or list(parts())
    if arguments.write:
        golden_data.keep()
    hashes = found(names, arguments.verbose)
    if arguments.print:
        print(json.dumps(hashes))
        return
    before = json.loads(arguments.file.read_text()) if arguments.file.exists() else {}
    of_parts = {name: digest for name, digest in before.items() if name.split(":")[0] in names}
    if arguments.write:
        kept = {name: digest for name, digest in before.items() if name not in of_parts}
        arguments.file.write_text(json.dumps({**kept, **hashes}, indent=0) + "\n")
        print(f"{len(hashes)} hashes written to {arguments.file}")
        return
    wrong = [name for name in {**of_parts, **hashes} if of_parts.get(name) != hashes.get(name)]
    print(f"gpuaug of {Path(ga.__file__).parent}: {len(hashes)} hashes, {len(wrong)} differ", *wrong, sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
