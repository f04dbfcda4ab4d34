"""All checks of an op. Each takes the op's class and its row, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.ops import arguments, behaviour, surface
from tests.support.ops.row import Row

__all__ = ["CHECKS"]

Check = Callable[[type[Any], Row], None]

CHECKS: dict[str, Check] = {
    "bad numbers are refused": arguments.check_bad_numbers,
    "bad words are refused": arguments.check_bad_words,
    "every argument is tried": arguments.check_argument_is_covered,
    "arguments cannot be changed but replaced": arguments.check_fixed,
    "repr rebuilds it": arguments.check_repr,
    "it is pickled and copied": arguments.check_pickle,
    "equality sees the arguments": arguments.check_equality,
    "its example changes pixels": behaviour.check_alone,
    "it equals the oracle on every backend": behaviour.check_answers,
    "a nudge is noticed": behaviour.check_nudges,
    "all backends make the same bits": behaviour.check_backends,
    "it stands in containers": behaviour.check_containers,
    "neutral parameters change nothing": behaviour.check_neutral,
    "it is gated by p": behaviour.check_gate,
    "parameters have their distributions": behaviour.check_drawn,
    "every parameter has a distribution": behaviour.check_drawn_names,
    "parameters have the batch first": behaviour.check_batch_first,
    "it says what stays in evaluation": behaviour.check_evaluation,
    "it is documented": surface.check_documented,
    "it is annotated": surface.check_annotated,
    "it is spelled as in torchvision": surface.check_spelled,
    "every argument carries over from torchvision": surface.check_carried,
    "no argument of torchvision's is left out": surface.check_carries_all,
    "the preview has a caption": surface.check_caption,
    "the tables name it": surface.check_tables,
    "the benchmarks run it": surface.check_timed,
    "its pixels are distributed as torchvision's": surface.check_pixels,
}
