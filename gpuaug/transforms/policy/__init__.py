"""RandAugment, AutoAugment, TrivialAugmentWide and AugMix: `tables` of AutoAugment, the `ops` they draw, `policies`.

timm's have tables, ops and policies of their own.
"""

from gpuaug.transforms.policy.ops import NAMES as NAMES
from gpuaug.transforms.policy.ops import NUMBER as NUMBER
from gpuaug.transforms.policy.ops import SIGNED as SIGNED
from gpuaug.transforms.policy.ops import compute_ops as compute_ops
from gpuaug.transforms.policy.ops import magnitudes as magnitudes
from gpuaug.transforms.policy.policies import AugMix, AutoAugment, RandAugment, TrivialAugmentWide
from gpuaug.transforms.policy.policies import Policy as Policy
from gpuaug.transforms.policy.timm import TimmAugMix, TimmAutoAugment, TimmRandAugment

__all__ = [
    "AugMix", "AutoAugment", "RandAugment", "TimmAugMix", "TimmAutoAugment", "TimmRandAugment", "TrivialAugmentWide",
]  # fmt: skip
