"""GPUs that nothing here ran on: their limits, what follows from them, and how fast networks train on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["GPU", "GPUS", "RATES", "Rate", "bounds"]

SCHEDULERS = 4  # of a multiprocessor; each issues one warp instruction a cycle


@dataclass(frozen=True)
class GPU:
    multiprocessors: int
    clock: float  # Hz, boost
    bandwidth: float  # bytes/s of memory

    def memory(self, size: float) -> float:
        """Seconds that moving `size` bytes takes at least."""
        return size / self.bandwidth

    def issue(self, warp_instructions: float) -> float:
        """Seconds that issuing so many instructions takes at least."""
        return warp_instructions / (self.multiprocessors * SCHEDULERS * self.clock)


# The makers' data sheets. The clock is that of their float32 rate (19.5, 66.9 and 82.6 TFLOP/s), which is
# multiprocessors x 64, 128 and 128 lanes x 2 x clock.
GPUS = {
    "A100": GPU(108, 1.41e9, 1.555e12),  # SXM4, 40 GB
    "H100": GPU(132, 1.98e9, 3.35e12),  # SXM5
    "RTX 4090": GPU(128, 2.52e9, 1.008e12),
}


@dataclass(frozen=True)
class Rate:
    """How fast one GPU trains a network."""

    images: float  # a second
    kind: str  # "published", "derived" by arithmetic from published figures, or "estimated" from a similar network
    source: str


# Mixed precision at 224 x 224; of several figures the fastest, so that a share of a step is rather too large.
# Lambda: github.com/lambdal/deeplearning-benchmark, pytorch/pytorch-train-throughput[-v2]-fp16.csv, one GPU.
# timm: github.com/huggingface/pytorch-image-models, results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv.
# FFCV's ResNet-18 (10,032 on an A100: 88 epochs in 187 minutes) trains at 160 to 192 pixels, so it is not here.
_RESNET18 = "RTX 3090's 3,482 (timm) x Lambda's ResNet-50, {} / RTX 3090's 905"
RATES: dict[str, dict[str, Rate]] = {
    "ResNet-18": {
        "A100": Rate(3482 * 1582 / 905, "derived", _RESNET18.format("1,582")),
        "H100": Rate(3482 * 2790 / 905, "derived", _RESNET18.format("2,790")),
        "RTX 4090": Rate(3482 * 1301 / 905, "derived", _RESNET18.format("1,301")),
    },
    "ResNet-50": {
        "A100": Rate(2470, "published", "NVIDIA DeepLearningExamples, ResNet50 v1.5 for PyTorch, one of DGX A100"),
        "H100": Rate(7006, "published", "MLPerf Training v3.0, DGX H100, 56,050 on eight; PyTorch: 2,790 (Lambda)"),
        "RTX 4090": Rate(1301, "published", "Lambda"),
    },
    "ViT-B/16": {
        "A100": Rate(1030, "published", "willgpaik, pytorch-ddp-bench, A100 SXM4 80 GB, synthetic data"),
        "H100": Rate(2119, "estimated", "ViT-5-Base, of the same size: nvSubquadratic, eight H100, compiled"),
        "RTX 4090": Rate(393 * 297 / 172, "derived", "RTX 3090's 393 (timm) x Lambda's BERT base, 297 / 172"),
    },
}


def bounds(size: float, warp_instructions: float | None = None) -> dict[str, dict[str, Any]]:
    """Calculated for each GPU: the least time an image takes, in us, and the percentage of a training step it is.

    Args:
        size: bytes that its launches move.
        warp_instructions: that its launches issue; None if nobody counted them.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, gpu in GPUS.items():
        memory = gpu.memory(size) * 1e6
        issue = None if warp_instructions is None else gpu.issue(warp_instructions) * 1e6
        least = max(memory, issue or 0.0)
        shares = {model: least / 1e6 * rates[name].images * 100 for model, rates in RATES.items()}
        found[name] = {"memory_us": memory, "issue_us": issue, "step_percent": shares}
    return found
