"""Several pictures of each scene: whose draw each has, what they share, and that a call uses up one look."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

import gpuaug as ga
from gpuaug.program import Keys
from gpuaug.ragged import Parts
from tests.support.errors import FORM
from tests.support.helpers import anew, labels, noise, recipe, used
from tests.support.targets import masks_of

pytestmark = pytest.mark.usefixtures("one_thread")

B, SIZE = 5, (30, 36)
INDEX = torch.tensor([3, 90, 14, 2**40, 7])
FLOATS = ga.ToDtype(torch.float32, scale=True)


def front() -> Tensor:
    return noise(B, 3, *SIZE)


def wrist() -> Tensor:
    return noise(B * 2, 3, 24, 41, seed=1).view(B, 2, 3, 24, 41)


def top() -> ga.Ragged:
    return ga.Ragged.from_images([noise(1, 3, 30 + n, 40, seed=n)[0] for n in range(B)])


def scene() -> dict[str, Any]:
    return {"front": front(), "wrist": wrist(), "top": top()}


def module(*steps: Any, **arguments: Any) -> ga.Augment:
    return ga.Augment([*(steps or recipe())], seed=4, **arguments)


def same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return list(got) == list(expected) and all(torch.equal(got[name], expected[name]) for name in got)


def test_each_picture_has_its_own_draw_whatever_stands_beside_it(backend: str) -> None:
    augment, given = module(backend=backend), scene()
    result = anew(augment, given, index=INDEX)
    assert {name: tuple(each.shape) for name, each in result.items()} == {
        "front": (B, 3, 24, 24), "wrist": (B, 2, 3, 24, 24), "top": (B, 3, 24, 24),
    }  # fmt: skip
    turned = dict(reversed(given.items()))
    assert list(anew(augment, turned, index=INDEX)) == list(turned)
    assert same(anew(augment, turned, index=INDEX), {name: result[name] for name in turned})
    for name, images in given.items():
        assert torch.equal(anew(augment, {name: images}, index=INDEX)[name], result[name])
    two = anew(augment, {"front": front(), "back": front()}, index=INDEX)
    assert torch.equal(two["front"], result["front"])
    assert not torch.equal(two["front"], two["back"])
    assert not torch.equal(anew(augment, front(), index=INDEX), result["front"])  # which has no name
    few = anew(augment, {"front": front()[[2, 0]]}, index=INDEX[[2, 0]])["front"]
    assert torch.equal(few, result["front"][[2, 0]])
    assert not torch.equal(augment(given, index=INDEX)["front"], result["front"])  # the next look


def test_a_call_uses_up_one_look_and_can_be_given_back() -> None:
    augment = module(backend="torch")
    with augment.prepare(scene()) as call:
        first = call.run()
        assert same(call.run(), first)
    assert used(augment)["counter"] == B
    call = augment.prepare(scene())
    call.release()
    assert used(augment)["counter"] == B
    with pytest.raises(ZeroDivisionError), augment.prepare(scene()):
        raise ZeroDivisionError
    assert used(augment)["counter"] == B
    assert same(copy.deepcopy(augment).eval()(scene()), augment.eval()(scene()))
    anew(augment.train(), scene(), index=INDEX)
    again = augment.prepare(scene(), index=INDEX)
    assert (again.draw()["wrist"].keys.look == 1 << 15).all()
    again.commit()


@pytest.mark.parametrize("names", [("front", "back"), (("front", "back"), ("wrist",)), [["front", "back"]]])
def test_pictures_that_share_a_draw(names: Any, backend: str) -> None:
    augment, plain = module(backend=backend, same=names), module(backend=backend)
    given = {"wrist": wrist(), "back": front(), "front": front()}
    result, apart = anew(augment, given, index=INDEX), anew(plain, given, index=INDEX)
    assert torch.equal(result["front"], result["back"])
    assert not torch.equal(apart["front"], apart["back"])
    for name in ("wrist", "front"):  # the first of a group draws as it would alone
        assert torch.equal(result[name], apart[name])
    assert torch.equal(anew(augment, {"back": front()}, index=INDEX)["back"], result["front"])
    copied: ga.Augment = pickle.loads(pickle.dumps(augment))
    assert copied.same == augment.same
    assert f"same={augment.same!r}" in repr(augment)


def test_a_shared_draw_reads_the_same_part_of_pictures_of_other_sizes() -> None:
    augment = module(ga.RandomResizedCrop(24), ga.RandomHorizontalFlip(), same=("front", "large"))
    large = torch.zeros(B, 3, 300, 360, dtype=torch.uint8)
    draws = augment.sample({"front": torch.zeros(B, 3, 100, 120, dtype=torch.uint8), "large": large}, index=INDEX)
    small, wide = (torch.from_numpy(draws[name].matrices) for name in ("front", "large"))
    scale = torch.diag(torch.tensor([3.0, 3.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(wide @ scale, small, atol=0.9, rtol=0.05)  # boxes are whole pixels


def test_sample_and_render() -> None:
    augment, given = module(), scene()
    draws = augment.sample(given, index=INDEX)
    assert list(draws) == list(given)
    result = anew(augment, given, index=INDEX)
    assert same(augment.render(given, draws), result)
    assert torch.equal(augment.render(given["front"], draws["front"]), result["front"])
    for wrong in (draws["front"], {"front": draws["front"]}, None):
        with pytest.raises(ValueError, match="`draw` must be what `sample` returned for these pictures, got"):
            augment.render(given, wrong)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match=r"This is about \"wrist\"\.$"):
        augment.render({**given, "wrist": front()}, draws)


def test_labels_of_the_scene_and_targets_of_a_picture(backend: str) -> None:
    augment, given = module(backend=backend), {"front": front(), "wrist": wrist()}
    result, own = anew(augment, given, labels(B), index=INDEX)
    assert torch.equal(own, labels(B))
    masks = torch.stack(masks_of([SIZE] * B))
    more = {"front": {"masks": masks, "name": "f"}}
    pictures, targets = anew(augment, given, more, index=INDEX)
    assert same(pictures, result)
    assert list(targets) == ["front"]
    assert targets["front"]["name"] == "f"
    draw = augment.prepare(given, index=INDEX % 2**40 + 7).draw()
    _, moved = augment.render(given, draw, more)
    assert torch.equal(moved["front"]["masks"], augment.render(front(), draw["front"], {"masks": masks})[1]["masks"])


def test_a_mix_needs_one_draw_for_labels_in_common() -> None:
    given = {"front": front(), "back": front()}
    steps = [FLOATS, ga.MixUp(num_classes=7)]
    with pytest.raises(
        ValueError, match=r"share a draw with MixUp, .*got front, back\. Use .*same=\('front', 'back'\)"
    ):
        module(*steps)(given, labels(B))
    augment = module(*steps, same=("front", "back"))
    result, soft = augment(given, labels(B), index=INDEX)
    assert torch.equal(result["front"], result["back"])
    torch.testing.assert_close(soft.sum(1), torch.ones(B))
    assert torch.equal(augment.render(given, augment.sample(given), labels(B))[1].sum(1).round(), torch.ones(B))
    each = {name: labels(B) for name in given}
    _, apart = module(*steps)(given, each, index=INDEX)  # or labels for each picture
    assert not torch.equal(apart["front"], apart["back"])
    with pytest.raises(ValueError, match=r"no labels were given.* This is about \"back\"\."):
        module(*steps)(given, {"front": labels(B)})
    with pytest.raises(ValueError, match="no labels were given"):
        augment(given)
    draws = module(*steps).sample(given)
    with pytest.raises(ValueError, match="share a draw with MixUp"):
        module(*steps).render(given, draws, labels(B))


WRONG = {
    "nothing": ({}, None, "`images` must be a mapping with at least one"),
    "a state": ({"front": front(), "state": torch.zeros(B, 7)}, None, r'images\["state"\]` must be a batch of images'),
    "a number": ({"front": 3}, None, r'images\["front"\]` must be a batch of images or clips, got 3'),
    "a key": ({3: front()}, None, "got the key 3"),
    "fewer": ({"front": front(), "wrist": wrist()[:3]}, None, "must be as many as the others, 5, got uint8"),
    "floats": ({"front": front(), "wrist": wrist().float()}, None, r"got float32 .* This is about \"wrist\"\.$"),
    "a mask": ({"front": front(), "mask": front()[:, :1]}, None, r'"mask"\]` must be a picture, .* beside images'),
    "masks typed": ({"front": front(), "a": tv_tensors.Mask(front())}, None, r'images\["a"\]` must be a picture, as'),
    "whose targets": ({"front": front()}, {"masks": torch.zeros(B, *SIZE)}, r'name of a picture, .* Pass {"front":'),
    "a list of whom": ({"front": front()}, [{}] * B, "got list"),
    "masks": ({"front": front()}, {"front": {"masks": torch.zeros(B, 2, 2)}}, r"as its image, .* about \"front\"\.$"),
    "labels": ({"front": front()}, torch.zeros(B, 2, 2), r"`labels` must be \(5,\).*about \"front\"\.$"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_scenes_are_errors_and_use_up_nothing(name: str) -> None:
    augment, (given, more, said) = module(), WRONG[name]
    with pytest.raises(ValueError, match=said) as caught:
        augment(given, more)  # type: ignore[call-overload]
    assert str(caught.value).startswith("Augment: `")
    assert used(augment)["counter"] == 0
    for wrong in (INDEX[:2], INDEX.float()):
        with pytest.raises(ValueError, match="`index` must be int64"):
            augment(scene(), index=wrong)
    assert used(augment)["counter"] == 0


@pytest.mark.parametrize("bad", ["front", ("a", "a"), (("a", "b"), "c"), 3, (("a",), ("a", "b")), (1, 2), [("a", 1)]])
def test_bad_same_is_an_error(bad: Any) -> None:
    with pytest.raises(ValueError, match="`same` must be names of images, or groups") as caught:
        module(same=bad)
    assert FORM.match(str(caught.value))
    augment = module()
    with pytest.raises(ValueError, match="`same` must be"):
        augment.same = bad
    assert augment.same == ()


def test_names_are_told_apart_from_all_else_in_a_key() -> None:
    from gpuaug.engine.scenes import keys_of

    keys = [Keys(4, 0, torch.arange(2).numpy().astype("uint64"), stream=stream) for stream in ((), (1, 5), (2, 3, 4))]
    found = [each.key for each in keys] + [keys_of(each, name).key for each in keys for name in ("a", "b", "", "ab")]
    assert len(set(found)) == len(found)


def test_parts_of_images_are_of_no_picture() -> None:
    """They were cut for a draw without a name: an error, and the draws of the call are given back."""
    zeros = np.zeros((B, 2), np.int32)
    own = Parts(
        zeros, zeros + np.array([33, 40], np.int32), "", True, 0, np.arange(B, dtype=np.uint64), np.zeros(B, np.uint32)
    )
    part = ga.Ragged(torch.zeros(B * 9 * 8 * 3, dtype=torch.uint8), zeros + np.array([9, 8], np.int32), 3, own)
    augment = module(backend="torch")
    with pytest.raises(ValueError, match=r"cut for .* This is about \"top\"\.$"):
        augment({"front": front(), "top": part})
    assert augment.sample(front()).keys.index.tolist() == list(range(B))
