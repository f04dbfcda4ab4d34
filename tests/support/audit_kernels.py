"""A Triton kernel for the tests of the audit; a file of its own, since importing Triton decides how kernels run."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def strided(source, out, total, step, count, BLOCK: tl.constexpr):  # noqa: N803
    """out[i] = source[i * step], and their sum is added to total."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    values = tl.load(source + place * step, mask=inside, other=0)
    tl.store(out + place, values.to(tl.float32), mask=inside)
    tl.atomic_add(total, tl.sum(values))
