"""gpuaug: batched image augmentation, per sample, on the device, inside an nn.Module."""

from gpuaug import data
from gpuaug.augment import Augment, Draw
from gpuaug.data import ragged_collate
from gpuaug.interop import from_torchvision
from gpuaug.loader import DeviceLoader
from gpuaug.ragged import Ragged
from gpuaug.transform import OPS
from gpuaug.transforms import *

__version__ = "0.1.0"
__all__ = [
    "Augment",
    "DeviceLoader",
    "Draw",
    "Ragged",
    "data",
    "from_torchvision",
    "ragged_collate",
    *(op.__name__ for op in OPS),
]
