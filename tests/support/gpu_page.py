"""Runs the code of docs/gpu.md on pretend CUDA, with small images: python tests/support/gpu_page.py"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from benchmarks.evidence.launches import intercept
from benchmarks.evidence.pseudocuda import PseudoCuda, install  # before anything imports Triton

# isort: split
import gpuaug as ga

PAGE = Path(__file__).parents[2] / "docs" / "gpu.md"
SMALL = {"224": "20", "256, 256": "24, 28", "(64, 3": "(2, 3"}  # Triton's interpreter is slow


def main() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    for large, small in SMALL.items():
        assert large in code, large
        code = code.replace(large, small)
    install()
    names: dict[str, Any] = {"torch": torch, "ga": ga}
    with PseudoCuda():
        intercept()
        exec(compile(code, str(PAGE), "exec"), names)
        assert names["result"].device.type == "cuda"
        print(tuple(names["result"].shape), names["result"].dtype)


if __name__ == "__main__":
    main()
