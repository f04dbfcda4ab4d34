"""Several views of each image: whose draw each has, what they share, and that a call uses up one look."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

import gpuaug as ga
from gpuaug.engine import pipeline as engine_pipeline
from tests.support.helpers import anew, labels, noise, used
from tests.support.targets import boxes_of, masks_of
from tests.support.views import FLOATS, GLOBAL, HEAD, INDEX, LOCAL, SIZE, B, dino, images, ragged, same

pytestmark = pytest.mark.usefixtures("one_thread")

MIXED = [*GLOBAL, ga.MixUp(num_classes=7)]
WHOLE = [ga.RandomHorizontalFlip(), ga.RandomVerticalFlip()]


# ---- draws ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [images(), ragged()], ids=["dense", "ragged"])
def test_ten_views_of_two_sizes(backend: str, given: Any) -> None:
    views = dino(backend=backend)(given, index=INDEX)
    assert [tuple(view.shape) for view in views] == [(B, 3, 24, 24)] * 2 + [(B, 3, 12, 12)] * 8
    for group in (views[:2], views[2:]):  # the same list draws otherwise in each of its views
        assert len({view.numpy().tobytes() for view in group}) == len(group)


def test_the_backends_agree() -> None:
    assert same(dino(backend="torch")(images(), index=INDEX), dino(backend="auto")(images(), index=INDEX))


def test_the_first_view_is_that_of_an_augment_and_no_view_depends_on_other_lists(backend: str) -> None:
    views = dino(backend=backend)(images(), index=INDEX)
    alone = ga.Augment(GLOBAL, seed=4, backend=backend)
    assert torch.equal(alone(images(), index=INDEX), views[0])
    other = ga.MultiView([[ga.CenterCrop(8)], GLOBAL, LOCAL], seed=4, backend=backend)(images(), index=INDEX)
    assert torch.equal(other[1], views[1])
    assert torch.equal(other[2], views[2])
    few = anew(dino(backend=backend), images()[[2, 0]], index=INDEX[[2, 0]])
    assert same(few, [view[[2, 0]] for view in views])


def test_each_view_equals_an_augment_with_its_number() -> None:
    """The number of a view is the low 16 bits of the view in the keys, as docs/draws.md says."""
    multi = dino()
    views = multi(images(), index=INDEX)
    for number in (1, 5):
        alone = ga.Augment([GLOBAL, LOCAL][number > 1], seed=4)
        alone._numbering.view = number
        assert torch.equal(alone(images(), index=INDEX), views[number])


def test_copies_have_views_of_their_own() -> None:
    multi = dino()
    twin, shallow = copy.deepcopy(multi), copy.copy(multi)
    found = [anew(one, images(), index=INDEX) for one in (multi, twin, shallow)]
    assert len({view.numpy().tobytes() for views in found for view in views}) == 30
    shallow.backend = "torch"
    assert (multi.backend, twin.backend, shallow.backend) == ("auto", "auto", "torch")
    assert all(view.backend == "torch" for view in shallow.views)


def test_a_call_uses_up_one_look_and_can_be_given_back() -> None:
    multi = dino()
    with multi.prepare(images()) as call:
        first = call.run()
        assert same(call.run(), first)
    assert used(multi)["counter"] == B
    multi.prepare(images()).release()
    assert used(multi)["counter"] == B
    with pytest.raises(ZeroDivisionError), multi.prepare(images()):
        raise ZeroDivisionError
    assert used(multi)["counter"] == B
    assert not same(anew(multi, images(), index=INDEX), multi(images(), index=INDEX))  # the next look


def test_keys_are_drawn_once_for_each_view_and_the_index_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    uniforms = engine_pipeline.uniforms

    def counted(key: int, index: Any, *others: Any) -> Any:
        seen.append((key, id(index)))
        return uniforms(key, index, *others)

    monkeypatch.setattr(engine_pipeline, "uniforms", counted)
    dino(backend="torch")(images(), index=INDEX)
    assert len({key for key, _ in seen}) == len(seen) == 10
    assert len({index for _, index in seen}) == 1


def test_sample_and_render() -> None:
    multi = dino()
    draws = multi.sample(images(), index=INDEX)
    views = anew(multi, images(), index=INDEX)
    assert same(multi.render(images(), draws), views)  # type: ignore[arg-type]
    rendered, own = multi.render(images(), draws, labels(B))
    assert same(rendered, views)  # type: ignore[arg-type]
    assert torch.equal(own, labels(B))  # type: ignore[arg-type]
    assert draws[3].matrices.shape == (B, 3, 3)  # type: ignore[union-attr]
    for wrong in (draws[0], draws[:3], None):
        with pytest.raises(ValueError, match="MultiView: `draws` must be what `sample` returned, a list, got"):
            multi.render(images(), wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"This is about view 0\.$"):
        multi.render(images()[:, :, :30], draws)


# ---- what is shared ------------------------------------------------------------------------------------------------


def test_augmix_has_one_crop_for_clean_and_augmented_views(backend: str) -> None:
    multi = ga.MultiView([[], [ga.AugMix()], [ga.AugMix()]], shared=HEAD, seed=4, backend=backend)
    clean, one, other = multi(images(), index=INDEX)
    assert torch.equal(clean, ga.Augment(HEAD, seed=4, backend=backend)(images(), index=INDEX))
    first = ga.MultiView([[*HEAD, ga.AugMix()]] * 2, seed=4, backend=backend)(images(), index=INDEX)
    assert torch.equal(ga.MultiView([[ga.AugMix()]], shared=HEAD, seed=4)(images(), index=INDEX)[0], first[0])
    assert not torch.equal(one, other)
    assert not torch.equal(one, first[1])  # whose crop is its own
    draws = multi.sample(images(), index=INDEX)
    boxes = [draw.params[0]["box"] for draw in draws]
    assert (boxes[0] == boxes[1]).all()
    assert (boxes[0] == boxes[2]).all()


def test_shared_steps_draw_as_in_the_first_view_for_every_kind() -> None:
    head = [ga.RandomResizedCrop(24), ga.RandAugment(), ga.RandomApply([ga.ColorJitter(0.4)]), ga.RandomErasing(0.9)]
    views = ga.MultiView([[], [], [ga.RandomInvert(1.0)]], shared=head, seed=9)(images(), index=INDEX)
    assert torch.equal(views[0], views[1])
    assert torch.equal(255 - views[0], views[2])


def test_what_cannot_be_shared() -> None:
    with pytest.raises(ValueError, match=r"MultiView: `shared` must be of transforms that draw .* got Lambda"):
        ga.MultiView([[]], shared=[ga.Lambda(lambda batch: batch)])
    with pytest.raises(ValueError, match="MultiView: `shared` must be a list of transforms or a Compose, got 3"):
        ga.MultiView([[]], shared=3)  # type: ignore[arg-type]


# ---- labels and targets --------------------------------------------------------------------------------------------


def test_labels_come_once_unless_a_list_mixes() -> None:
    views, own = dino()(images(), labels(B))
    assert len(views) == 10
    assert torch.equal(own, labels(B))
    views, names = dino()(images(), ["a"] * B)  # type: ignore[arg-type]
    assert names == ["a"] * B
    views, each = ga.MultiView([GLOBAL, MIXED, MIXED], seed=1)(images(), labels(B))
    assert torch.equal(each[0], labels(B))
    for soft in each[1:]:
        torch.testing.assert_close(soft.sum(1), torch.ones(B))
    assert not torch.equal(each[1], each[2])
    again = ga.MultiView([GLOBAL, MIXED, MIXED], seed=1)
    assert len(again.render(images(), again.sample(images()), labels(B))[1]) == 3
    views, once = ga.MultiView([MIXED], eval=[[ga.CenterCrop(8)]]).eval()(images(), labels(B))
    assert torch.equal(once, labels(B))
    with pytest.raises(ValueError, match=r"no labels were given.* This is about view 1\.$"):
        ga.MultiView([GLOBAL, MIXED])(images())


def test_targets_follow_each_view() -> None:
    multi = ga.MultiView([WHOLE, [ga.CenterCrop(20)]], seed=1)
    given = {"masks": torch.stack(masks_of([SIZE] * B)), "labels": labels(B)}
    (one, _), (first, second) = multi(images(), given, index=INDEX)
    assert first["masks"].shape == (B, *SIZE)
    assert second["masks"].shape == (B, 20, 20)
    assert torch.equal(second["labels"], labels(B))
    expected = ga.Augment(WHOLE, seed=1)(images(), given, index=INDEX)
    assert torch.equal(first["masks"], expected[1]["masks"])
    assert torch.equal(one, expected[0])
    boxes = [{"boxes": box.as_subclass(Tensor)} for box in boxes_of([SIZE] * B, 3)]
    _, listed = multi(images(), boxes)
    assert [len(each) for each in listed] == [B, B]
    _, listed = multi.eval()(images(), boxes)
    assert len(listed) == 1


def test_several_pictures_and_clips() -> None:
    scene = {"front": images(), "wrist": noise(B * 2, 3, 30, 41, seed=1).view(B, 2, 3, 30, 41)}
    multi = ga.MultiView([GLOBAL, LOCAL], seed=4)
    views = multi(scene, index=INDEX)
    assert [list(view) for view in views] == [["front", "wrist"]] * 2
    assert views[1]["wrist"].shape == (B, 2, 3, 12, 12)
    assert torch.equal(views[0]["front"], ga.Augment(GLOBAL, seed=4)(scene, index=INDEX)["front"])
    assert used(multi)["counter"] == 0
    views, own = multi(scene, labels(B))
    assert torch.equal(own, labels(B))  # type: ignore[arg-type]
    draws = multi.sample(scene)
    assert list(multi.render(scene, draws)[1]) == ["front", "wrist"]
    with pytest.raises(ValueError, match=r"images\[\"state\"\]` must be a batch of images"):
        multi({**scene, "state": torch.zeros(B, 7)})


# ---- evaluation ----------------------------------------------------------------------------------------------------


def test_evaluation_is_one_list_or_a_list_for_each_view() -> None:
    derived = dino().eval()
    (view,) = derived(images())
    assert torch.equal(view, ga.Augment(GLOBAL).eval()(images()))
    assert same(derived(images()), [view])
    given = dino(eval=[ga.CenterCrop(20), FLOATS]).eval()
    assert [each.shape[-1] for each in given(images())] == [20]
    pair = dino(eval=[GLOBAL, [ga.CenterCrop(20), FLOATS]]).eval()
    assert [each.shape[-1] for each in pair(images())] == [24, 20]
    assert same(pair(images()), pair(images()))  # nothing is used up
    assert used(pair)["counter"] == 0
    assert len(pair.train()(images())) == 10
    expected = ga.Augment(GLOBAL).eval_module(SIZE)(images())
    assert torch.equal(derived.eval_module(SIZE)(images()), expected)
    with pytest.raises(ValueError, match=r"`eval` must be one list, or a list for each view at most, got 2 for 1"):
        ga.MultiView([GLOBAL], eval=[[], []])
    choice = ga.RandomChoice([ga.CenterCrop(8), ga.Resize((8, 8))])
    with pytest.raises(ValueError, match=r"MultiView: `eval` must be given, since .*RandomChoice.* about view 0"):
        ga.MultiView([[choice], GLOBAL]).eval()(images())
    assert len(ga.MultiView([GLOBAL, [choice]]).eval()(images())) == 1  # the first list is the one that counts
