"""From disk to the device: data sets whose workers only decode, and batches that travel as one object."""

from gpuaug.data.dataset import ImageFolder, Indexed
from gpuaug.data.decode import ImageError
from gpuaug.data.index import Index, Numbered
from gpuaug.data.packs.read import Packed
from gpuaug.data.packs.write import pack
from gpuaug.data.sampler import NumberedSampler, RepeatedAugmentationSampler
from gpuaug.data.transport.collate import Batch, ragged_collate
from gpuaug.data.transport.encoded import Encoded

__all__ = [
    "Batch",
    "Encoded",
    "ImageError",
    "ImageFolder",
    "Index",
    "Indexed",
    "Numbered",
    "NumberedSampler",
    "Packed",
    "RepeatedAugmentationSampler",
    "pack",
    "ragged_collate",
]


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
