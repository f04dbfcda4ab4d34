"""gpuaug: batched image augmentation, per sample, on the device, inside an nn.Module."""

from gpuaug.augment import Augment, Draw
from gpuaug.ragged import Ragged
from gpuaug.transform import OPS
from gpuaug.transforms import *

__version__ = "0.1.0"
__all__ = ["Augment", "Draw", "Ragged", *(op.__name__ for op in OPS)]
