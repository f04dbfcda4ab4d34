"""Clips: samples of several frames, which all have the draw of their clip; only noise differs from frame to frame."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from gpuaug import checks
from gpuaug.engine.batch import Images, canvas_of, frames_of
from gpuaug.engine.follow import Drawn, follow
from gpuaug.engine.masks import take
from gpuaug.engine.pipeline import Pipeline
from gpuaug.engine.render import Output, mix_of, render
from gpuaug.engine.targets import Targets
from gpuaug.philox import NUMBERS, fold, philox
from gpuaug.program import Keys, Mix
from gpuaug.ragged import Ragged

__all__ = ["frame_keys", "render_clips"]

FRAMES = 5  # the word that makes the key under which frames are numbered; see docs/draws.md
LOW = np.uint64(0xFFFFFFFF)


def frame_keys(keys: Keys, count: int) -> Keys:
    """The keys of `count` frames of each sample, (B * count,), which differ in number and look, for noise.

    The first frame has the key of its sample. The others take 80 bits of Philox's result for (number, look, frame)
    under a key of their own; two of them, or one and a sample, are equal once in 2**80.
    """
    rows, frame = np.repeat(np.arange(len(keys.index)), count), np.tile(np.arange(count), len(keys.index))
    index, look = keys.index[rows], keys.look[rows]
    halves, key = (index & LOW, index >> np.uint64(32)), fold(keys.key, FRAMES)
    words = philox(*halves, look.astype(np.uint64), frame.astype(np.uint64), key)
    later = frame > 0
    index = np.where(later, words[0] | (words[1] << np.uint64(32)) & np.uint64(NUMBERS), index)
    return replace(keys, index=index, look=np.where(later, words[2].astype(np.uint32), look))


def render_clips(
    pipeline: Pipeline, output: Output, clips: Images, draw: Drawn, labels: Any, targets: Targets | None
) -> Tensor | tuple[Tensor, Any]:
    """As `gpuaug.engine.call.render_draw`, for clips (B, T, C, H, W), or Ragged.

    The frames are rendered as images of one batch, so every kernel serves them as it is: parameters are drawn once for
    each clip, and repeated for its frames.
    """
    count, frames = len(clips), frames_of(clips)
    images = clips.as_images() if isinstance(clips, Ragged) else clips.as_subclass(Tensor).flatten(0, 1)
    rows = np.repeat(np.arange(count), frames)
    params, keys = [take(each, rows) for each in draw.params], frame_keys(draw.keys, frames)
    items = pipeline.lower(params, keys, canvas_of(images), output.exact, output.memory_format, output.dtype)
    mix, own = mix_of(items), None
    if mix is not None:
        partner, weight, box, share = (part[::frames] for part in (mix.partner, mix.weight, mix.box, mix.share))
        own = Mix(partner, weight, box, share, mix.smoothing)
        mix.partner = mix.partner * frames + np.tile(np.arange(frames), count)  # frame t with frame t
    repeated = labels
    if mix is not None and labels is not None:
        repeated = labels[:, None].expand(-1, frames, *labels.shape[1:]).flatten(0, 1)
    moved, mixed = render(items, images, output.backend, repeated, pipeline.num_classes)
    result = _like(moved.view(count, frames, *moved.shape[1:]), clips)
    if mix is not None and mixed is not None:
        mixed = mixed[::frames].contiguous()
    if targets is not None:
        return result, follow(pipeline, targets, draw, output.backend, output.following, mixed, own)
    return result if mixed is None else (result, mixed)


def _like(result: Tensor, clips: Images) -> Tensor:
    """A Video of torchvision, if the clips are one."""
    if type(clips) is Tensor or not checks.is_target(clips):
        return result
    from torchvision import tv_tensors

    return tv_tensors.Video(result)
