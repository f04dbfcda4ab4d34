"""The old name of `gpuaug.demo.photographs`, as documented for version 0.1. It goes away in version 0.3."""

import warnings

from gpuaug.demo.photographs import *

warnings.warn(
    "gpuaug.photographs is now gpuaug.demo.photographs; the old name goes away in version 0.3.",
    DeprecationWarning,
    stacklevel=2,
)
