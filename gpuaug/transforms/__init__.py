"""Every transform a user can write into the list. Importing this package fills the registry."""

from gpuaug.transforms.blur import *

from gpuaug.transforms.degrade import *  # isort: skip
from gpuaug.transforms.color import *
from gpuaug.transforms.container import *
from gpuaug.transforms.convert import *
from gpuaug.transforms.crop import *
from gpuaug.transforms.distort import *
from gpuaug.transforms.elastic import *
from gpuaug.transforms.erase import *
from gpuaug.transforms.function import *
from gpuaug.transforms.geometric import *
from gpuaug.transforms.mix import *
from gpuaug.transforms.policy import *
