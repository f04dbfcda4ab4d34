"""Clips: one draw for all frames. Each frame is the image alone under that draw, and only noise differs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from torchvision import tv_tensors

import gpuaug as ga
from gpuaug.engine.clips import frame_keys
from tests.support.errors import FORM
from tests.support.helpers import anew, labels, noise, pipeline, recipe, used
from tests.support.targets import boxes_of, masks_of, points_of

pytestmark = pytest.mark.usefixtures("one_thread")

B, T, SIZE = 5, 4, (30, 37)
INDEX = torch.tensor([3, 90, 14, 2**40, 7])
FLOATS = ga.ToDtype(torch.float32, scale=True)
FOLLOWED = [ga.RandomResizedCrop(24), ga.RandomHorizontalFlip(), ga.RandomAffine(30, (0.1, 0.1)), ga.ColorJitter(0.4)]


def clips(count: int = B, frames: int = T, size: tuple[int, int] = SIZE) -> Tensor:
    return noise(count * frames, 3, *size).view(count, frames, 3, *size)


def several(frames: int = T) -> list[Tensor]:
    """Clips of different sizes."""
    sizes = [(30, 37), (41, 26), (24, 24), (52, 33), (30, 37)]
    return [clips(1, frames, size)[0] + number for number, size in enumerate(sizes)]


def module(*steps: Any, **arguments: Any) -> ga.Augment:
    return ga.Augment([*(steps or FOLLOWED)], seed=4, **arguments)


def alone(augment: ga.Augment, draw: ga.Draw, given: Any, *targets: Any) -> list[Any]:
    """Each frame of the clips as an image by itself, under the same draw."""
    if isinstance(given, ga.Ragged):
        frames = [ga.Ragged.from_images([clip[t] for clip in given]) for t in range(given.frames)]
    else:
        frames = list(given.unbind(1))
    return [augment.render(frame, draw, *(target[t] for target in targets)) for t, frame in enumerate(frames)]


# ---- pixels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ga.OPS, ids=lambda op: op.__name__)
def test_each_frame_is_the_image_alone_under_the_draw_of_its_clip(op: Any, backend: str) -> None:
    augment, given, draws = module(*pipeline(op), backend=backend), clips(), labels(B)
    mixes = augment.train_pipeline.mix is not None
    draw = augment.sample(given, index=INDEX)
    result = augment.render(given, draw, draws) if mixes else augment.render(given, draw)
    frames = alone(augment, draw, given, [draws] * T) if mixes else alone(augment, draw, given)
    if mixes:
        (result, mixed), expected = result, frames[0][1]
        frames = [frame for frame, _ in frames]
        assert torch.equal(mixed, expected)
        assert mixed.is_contiguous()
    noisy = op is ga.GaussianNoise
    assert torch.equal(result[:, 0], frames[0])
    for number, frame in enumerate(frames[1:], start=1):
        assert torch.equal(result[:, number], frame) != noisy, number


@pytest.mark.parametrize("mix", [False, True])
def test_a_clip_of_one_frame_is_the_image(mix: bool, backend: str) -> None:
    augment, given, more = module(*recipe(mix), backend=backend), clips(frames=1), [labels(B)] if mix else []
    for _ in range(2):  # the second call finds its plan
        for index in (INDEX, None):
            one, image = anew(augment, given, *more, index=index), anew(augment, given[:, 0], *more, index=index)
            if index is None:
                continue
            one, image = (one[0], image[0]) if mix else (one, image)
            assert torch.equal(one[:, 0], image)
    augment.eval()
    assert torch.equal(augment(given)[:, 0] if not mix else augment(given, *more)[0][:, 0],
                       augment(given[:, 0]) if not mix else augment(given[:, 0], *more)[0])  # fmt: skip


@pytest.mark.parametrize("step", [ga.GaussianNoise(), ga.RandomErasing(p=1, value="random", scale=(0.5, 0.9))])
def test_noise_differs_between_frames_and_repeats_with_the_index(step: Any, backend: str) -> None:
    steps = [step, FLOATS] if isinstance(step, ga.GaussianNoise) else [FLOATS, step]
    given = torch.full((B, T, 3, *SIZE), 100, dtype=torch.uint8)
    augment = module(*steps, backend=backend)
    first = anew(augment, given, index=INDEX)
    assert torch.equal(first, anew(augment, given, index=INDEX))
    assert torch.equal(first[[2, 0]], anew(augment, given[[2, 0]], index=INDEX[[2, 0]]))
    assert torch.equal(first[:, :3], anew(augment, given[:, :3], index=INDEX))  # nor on the length of the clip
    assert not torch.equal(first, augment(given, index=INDEX))  # the next look
    changes = first - 100 / 255
    for clip in changes:
        frames = clip.flatten(1).double()
        assert len({frame.numpy().tobytes() for frame in frames}) == T
        both = (frames != 0).all(0)
        assert (torch.corrcoef(frames[:, both]) - torch.eye(T)).abs().max() < 0.15


def test_backends_give_frames_equal_bits() -> None:
    results = [module(*recipe(), backend=name)(clips(), index=INDEX) for name in ("torch", "numba")]
    assert torch.equal(*results)


def test_frames_have_keys_that_meet_no_other() -> None:
    augment = module()
    keys = augment.sample(noise(200), index=torch.arange(200)).keys
    frames = frame_keys(keys, 50)
    assert frames.index.dtype == np.uint64
    assert frames.look.dtype == np.uint32
    assert int(frames.index.max()) < 2**48
    assert len(set(zip(frames.index.tolist(), frames.look.tolist(), strict=True))) == 200 * 50
    assert (frames.index[::50] == keys.index).all()
    other = frame_keys(augment.sample(noise(200), index=torch.arange(200)).keys, 50)  # the next look
    same = (other.index == frames.index) & (other.look == frames.look)
    assert not same.any()
    assert frame_keys(keys, 1).index.tolist() == keys.index.tolist()


def test_layout_dtype_strides_and_video() -> None:
    augment = module(*recipe(), memory_format=torch.channels_last)
    given = clips()
    result = anew(augment, given, index=INDEX)
    assert result.shape == (B, T, 3, 24, 24)
    assert result.dtype == torch.float32
    assert all(clip.is_contiguous(memory_format=torch.channels_last) for clip in result)
    assert torch.equal(result, anew(module(*recipe()), given, index=INDEX))
    before = given.clone()
    turned = given.permute(0, 2, 1, 3, 4).contiguous().permute(0, 2, 1, 3, 4)  # (B, C, T, H, W) in memory
    assert torch.equal(result, anew(augment, turned, index=INDEX))
    assert torch.equal(given, before)
    video = anew(augment, tv_tensors.Video(given), index=INDEX)
    assert type(video) is tv_tensors.Video
    assert torch.equal(video.as_subclass(Tensor), result)
    with pytest.raises(ValueError, match=r"must be a Video \(B, T, C, H, W\), got .*images\[None\]"):
        augment(tv_tensors.Video(given[0]))


@pytest.mark.parametrize("before", [[], [ga.ColorJitter(0.4), ga.RandomHorizontalFlip()]], ids=["crop", "by size"])
def test_clips_of_different_sizes(before: list[Any], backend: str) -> None:
    augment = module(*before, *FOLLOWED, FLOATS, backend=backend)
    given = ga.Ragged.from_clips(several())
    assert len(given) == B
    assert given.frames == T
    assert torch.equal(given[1], several()[1])
    assert "T=4" in repr(given)
    assert repr(given.to("cpu")) == repr(given)
    draw = augment.sample(given, index=INDEX)
    result = augment.render(given, draw)
    for number, frame in enumerate(alone(augment, draw, given)):
        assert torch.equal(result[:, number], frame)
    alike = ga.Ragged.from_clips(list(clips()))
    assert torch.equal(anew(augment, alike, index=INDEX), anew(augment, clips(), index=INDEX))


# ---- mixes and targets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["batch", "pair", "elem"])
@pytest.mark.parametrize("kind", [ga.MixUp, ga.CutMix])
def test_a_mix_takes_the_same_frame_of_one_partner(kind: Any, mode: str, backend: str) -> None:
    """Frame t is the number t of a level: a mix with another frame would show another level."""
    given = torch.arange(T).repeat(B, 1)[:, :, None, None, None].expand(B, T, 3, *SIZE).to(torch.uint8) * 20
    given = given + torch.arange(B)[:, None, None, None, None].to(torch.uint8)
    augment = module(FLOATS, kind(alpha=1.0, num_classes=5, mode=mode), backend=backend)
    result, soft = augment(given, torch.arange(B), index=INDEX)
    assert soft.shape == (B, 5)
    torch.testing.assert_close(soft.sum(1), torch.ones(B))
    own = given.float() / 255
    for clip, weights in zip(result, soft, strict=True):
        levels = torch.einsum("b,btchw->tchw", weights, own).mean((1, 2, 3))
        torch.testing.assert_close(clip.mean((1, 2, 3)), levels, atol=1e-5, rtol=0)


def test_targets_follow_the_clip(backend: str) -> None:
    augment, given = module(backend=backend, flip_pairs=[(0, 1)]), clips()
    draw = augment.sample(given, index=INDEX)
    assert draw.matrices.shape == (B, 3, 3)
    every = [SIZE] * (B * T)
    masks = torch.stack(masks_of(every, torch.int64)).view(B, T, *SIZE)
    boxes = torch.stack([box.as_subclass(Tensor) for box in boxes_of(every)]).view(B, T, 5, 4)
    points = torch.stack([point.as_subclass(Tensor)[0] for point in points_of(every)]).view(B, T, 4, 2)
    given_all = {"masks": masks, "boxes": boxes, "keypoints": points, "labels": torch.arange(B), "name": "abcde"}
    result, moved = augment.render(given, draw, given_all)
    assert list(moved) == list(given_all)
    assert moved["labels"] is given_all["labels"]
    assert moved["name"] == "abcde"
    rows = [{"masks": m, "boxes": b, "keypoints": p} for m, b, p in zip(masks, boxes, points, strict=True)]
    _, listed = augment.render(given, draw, rows)
    for number in range(T):
        image, expected = augment.render(
            given[:, number],
            draw,
            {"masks": masks[:, number], "boxes": boxes[:, number], "keypoints": points[:, number]},
        )
        assert torch.equal(image, result[:, number])
        for key, value in expected.items():
            assert torch.equal(moved[key][:, number], value)
            assert torch.equal(torch.stack([row[key] for row in listed])[:, number], value)
    whole = augment.render(given, draw, {"masks": masks[:, 0], "boxes": boxes[:, 0]})[1]  # one for all frames
    assert torch.equal(whole["masks"], moved["masks"][:, 0])
    assert torch.equal(whole["boxes"], moved["boxes"][:, 0])
    typed = augment.render(given, draw, tv_tensors.Mask(masks))[1]
    assert type(typed) is tv_tensors.Mask
    assert torch.equal(typed.as_subclass(Tensor), moved["masks"])


def test_targets_of_clips_of_different_sizes(backend: str) -> None:
    augment, given = module(backend=backend), ga.Ragged.from_clips(several())
    draw = augment.sample(given, index=INDEX)
    sizes = [tuple(clip.shape[2:]) for clip in several()]
    rows = []
    for size in sizes:
        boxes = [box.as_subclass(Tensor) for box in boxes_of([size] * T)]  # type: ignore[list-item]
        rows.append({"masks": torch.stack(masks_of([size] * T)), "boxes": torch.stack(boxes)})  # type: ignore[list-item]
    _, moved = augment.render(given, draw, rows)
    each = [[{key: value[t] for key, value in row.items()} for row in rows] for t in range(T)]
    for number, (_, expected) in enumerate(alone(augment, draw, given, each)):
        for got, row in zip(moved, expected, strict=True):
            assert torch.equal(got["masks"][number], row["masks"])
            assert torch.equal(got["boxes"][number], row["boxes"])


@pytest.mark.parametrize("num_classes", [None, 4])
def test_masks_of_clips_mix_frame_by_frame(num_classes: int | None) -> None:
    mixes = [ga.MixUp(num_classes=num_classes), ga.CutMix(num_classes=num_classes)]
    augment, given = module(FLOATS, ga.RandomChoice(mixes)), clips()
    masks = torch.randint(0, 4, (B, T, *SIZE))
    draw = augment.sample(given, index=INDEX)
    _, moved = augment.render(given, draw, {"masks": masks})
    for number in range(T):
        _, expected = augment.render(given[:, number], draw, {"masks": masks[:, number]})
        assert list(moved) == list(expected)
        for key, value in expected.items():
            assert torch.equal(moved[key] if key.endswith("weight") else moved[key][:, number], value)


def test_functions_of_floats_get_frames_as_rows() -> None:
    seen = []
    twice = ga.Lambda(lambda batch: (seen.append(batch.shape), 2 * batch)[1])
    mix = ga.MixUp(num_classes=3)
    labels = torch.arange(B) % 3
    augment = ga.Augment([ga.RandomCrop(20), ga.ToDtype(torch.float32, scale=True), mix, twice], seed=0)
    draw = augment.sample(clips(), index=INDEX)
    doubled, weights = augment.render(clips(), draw, labels)
    plain = ga.Augment([ga.RandomCrop(20), ga.ToDtype(torch.float32, scale=True), mix], seed=0)
    single, own = plain.render(clips(), plain.sample(clips(), index=INDEX), labels)
    assert seen[-1] == (B * T, 3, 20, 20)
    assert torch.equal(doubled, 2 * single)
    assert torch.equal(weights, own)


# ---- around the module -----------------------------------------------------------------------------------------------


def test_evaluation_and_exact_lists() -> None:
    augment = module(ga.RandomResizedCrop(24), ga.RandomRotation(20), ga.RandomAffine(20), exact=True)
    draw = augment.sample(clips(), index=INDEX)
    for number, frame in enumerate(alone(augment, draw, clips())):
        assert torch.equal(augment.render(clips(), draw)[:, number], frame)
    augment.eval()
    assert torch.equal(augment(clips())[:, 2], augment(clips()[:, 2]))
    assert used(augment)["counter"] == 0


def test_a_loader_passes_clips_through() -> None:
    data = TensorDataset(clips(8), torch.arange(8), torch.arange(8))
    augment = module(*recipe(), backend="torch")
    batches = list(ga.DeviceLoader(DataLoader(data, 4), "cpu", augment))
    again = module(*recipe(), backend="torch")
    again.set_epoch(augment.epoch)
    assert [tuple(images.shape) for images, _ in batches] == [(4, T, 3, 24, 24)] * 2
    assert torch.equal(batches[1][0], again(clips(8)[4:], index=torch.arange(4, 8)))


def test_a_call_uses_up_one_number_for_each_clip() -> None:
    augment = module(backend="torch")
    augment(clips())
    assert used(augment)["counter"] == B
    call = augment.prepare(clips())
    assert torch.equal(call.run(), call.run())  # type: ignore[arg-type]
    call.release()
    assert used(augment)["counter"] == B


WRONG = {
    "masks of fewer frames": (
        {"masks": torch.zeros(B, T - 1, *SIZE)},
        r'labels\["masks"\]` must be \(B, 4, N, 30, 37\) or',
    ),
    "masks of another size": ({"masks": torch.zeros(B, T, 30, 36)}, r"or \(B, 4, 30, 37\), for each of the 4"),
    "boxes of fewer frames": ({"boxes": torch.zeros(B, T - 1, 2, 4)}, r"must be \(B, 4, N, 4\), for each of the 4"),
    "points of fewer frames": ({"keypoints": torch.zeros(B, T - 1, 2, 2)}, r"numbers \(B, 4, K, 2 or 3\), for each"),
    "a list of fewer": ([{"masks": torch.zeros(T, *SIZE)}] * (B - 1), r"must be as many as the images, 5, got"),
    "masks in a list": (
        [{"masks": torch.zeros(T + 1, *SIZE)}] * B,
        r'`labels\[0\]\["masks"\]` must be \(4, N, 30, 37\) or \(4, 30, 37\)',
    ),
    "labels of frames": (torch.arange(B * T), r"`labels` must be \(5,\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_targets_are_errors_and_use_up_nothing(name: str) -> None:
    augment, (targets, said) = module(), WRONG[name]
    with pytest.raises(ValueError, match=said):
        augment(clips(), targets)
    assert used(augment)["counter"] == 0


def test_what_clips_cannot_do_says_so() -> None:
    step = ga.SanitizeBoundingBoxes(min_size=2)
    augment = module(ga.RandomResizedCrop(24), step)
    rows = [{"boxes": torch.tensor([[[1.0, 2, 9, 9]]] * T)}] * B
    with pytest.raises(
        ValueError, match=r"\(N, 4\) with SanitizeBoundingBoxes, which drops boxes: .*, got \(4, 1, 4\)"
    ):
        augment(clips(), rows)
    kornia = pytest.importorskip("kornia.augmentation")
    augment = module(kornia.RandomGaussianBlur((3, 3), (0.1, 2.0)))
    with pytest.raises(
        ValueError, match=r"must be single images with .*RandomGaussianBlur, .*same_on_batch=True"
    ) as caught:
        augment(clips())
    assert FORM.match(str(caught.value))
    alike = module(kornia.RandomGaussianBlur((3, 3), (0.1, 2.0), p=1.0, same_on_batch=True))
    assert alike(torch.stack([clips()[:, 0]] * T, 1)).shape == (B, T, 3, *SIZE)
    assert used(augment)["counter"] == 0


@pytest.mark.parametrize("bad", [
    [], [clips()[0], clips()[0][:2]], [clips()[0][0]], [clips()[0].float()],
], ids=["none", "lengths", "images", "floats"])  # fmt: skip
def test_bad_clips_to_pack_are_errors(bad: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"Ragged\.from_\w+: `\w+` must be") as caught:
        ga.Ragged.from_clips(bad)
    assert FORM.match(str(caught.value))


def test_a_graph_of_clips_or_of_a_mapping_is_refused() -> None:
    for images, got in ((clips(), "clips"), ({"front": clips()[:, 0]}, "a mapping")):
        with pytest.raises(ValueError, match=rf"must be uint8 \(B, C, H, W\) to capture, got {got}\. [A-Z]"):
            module().capture(images)  # type: ignore[arg-type]
