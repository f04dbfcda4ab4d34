"""The old name of `gpuaug.demo.preview`, as documented for version 0.1. It goes away in version 0.3."""

import warnings

from gpuaug.demo.preview import *

warnings.warn(
    "gpuaug.preview is now gpuaug.demo.preview; the old name goes away in version 0.3.",
    DeprecationWarning,
    stacklevel=2,
)
