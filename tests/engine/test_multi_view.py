"""Several views of each image: whose draw each has, what they share, and that a call uses up one look."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import gpuaug as ga
from gpuaug.engine import pipeline as engine_pipeline
from tests.support.helpers import anew, labels, noise, used
from tests.support.processes import pretending
from tests.support.targets import boxes_of, masks_of

pytestmark = pytest.mark.usefixtures("one_thread")

B, SIZE = 6, (40, 52)
INDEX = torch.tensor([3, 90, 14, 2**40, 7, 0])
FLOATS = ga.ToDtype(torch.float32, scale=True)
HEAD = [ga.RandomResizedCrop(24), ga.RandomHorizontalFlip()]
GLOBAL = [*HEAD, ga.ColorJitter(0.3), ga.GaussianNoise(sigma=0.02), FLOATS]
LOCAL = [ga.RandomResizedCrop(12, (0.05, 0.4)), ga.RandomHorizontalFlip(), ga.GaussianBlur(3), FLOATS]
MIXED = [*GLOBAL, ga.MixUp(num_classes=7)]
WHOLE = [ga.RandomHorizontalFlip(), ga.RandomVerticalFlip()]


def images() -> Tensor:
    return noise(B, 3, *SIZE)


def ragged() -> ga.Ragged:
    return ga.Ragged.from_images([noise(1, 3, 30 + n, 40, seed=n)[0] for n in range(B)])


def dino(**arguments: Any) -> ga.MultiView:
    return ga.MultiView([GLOBAL] * 2 + [LOCAL] * 8, **({"seed": 4} | arguments))


def same(got: list[Any], expected: list[Any]) -> bool:
    return len(got) == len(expected) and all(map(torch.equal, got, expected))


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


# ---- modules -------------------------------------------------------------------------------------------------------


def test_repr_pickle_state_and_casts() -> None:
    multi = ga.MultiView(
        [[ga.AugMix(), ga.ToDtype("auto", scale=True)]] * 2, [ga.CenterCrop(9)], shared=[ga.RandomCrop(20)], seed=3,
        exact=True, memory_format=torch.channels_last,
    )  # fmt: skip
    names = {"torch": torch, **{name: getattr(ga, name) for name in ga.__all__}}
    rebuilt = eval(repr(multi), names)
    assert repr(rebuilt) == repr(multi)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        loaded: ga.MultiView = pickle.loads(pickle.dumps(multi, protocol))
        assert repr(loaded) == repr(multi)
    views = anew(multi, images(), index=INDEX)
    assert same(anew(loaded, images(), index=INDEX), views)
    assert same(anew(rebuilt, images(), index=INDEX), views)
    assert views[0].is_contiguous(memory_format=torch.channels_last)
    assert {view.dtype for view in multi.half()(images())} == {torch.float16}
    nested = eval(
        repr(dino(eval=[GLOBAL, LOCAL])), {"torch": torch, **{name: getattr(ga, name) for name in ga.__all__}}
    )
    assert len(nested.eval()(images())) == 2


def test_state_continues_and_holds_one_tensor() -> None:
    multi, other = dino(), dino(seed=None)
    multi(images())
    state = torch.nn.Sequential(multi).state_dict()
    assert list(state) == ["0._extra_state"]
    torch.nn.Sequential(other).load_state_dict(state)
    assert other.seed == multi.seed == 4
    assert same(other(images()), multi(images()))
    multi.set_epoch(2)
    again = multi(images(), index=INDEX)
    multi.set_epoch(3)
    assert not same(multi(images(), index=INDEX), again)
    multi.set_epoch(2)
    assert same(multi(images(), index=INDEX), again)
    multi.seed = 5
    assert not same(anew(multi, images(), index=INDEX), again)


def test_arguments_set_later_are_checked_and_are_those_of_all_views() -> None:
    multi = dino()
    multi.mask_fill = 7
    assert {view.mask_fill for view in multi.views} == {7}
    with pytest.raises(ValueError, match="MultiView: `backend` must be one of"):
        multi.backend = "cuda"
    assert multi.backend == "auto"
    assert len(multi) == 10


def test_opaque_modules_are_part_of_the_module() -> None:
    class Shift(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = torch.nn.Buffer(torch.ones(1, dtype=torch.uint8))

        def forward(self, batch: Tensor) -> Tensor:
            return batch + self.by

    multi = ga.MultiView([[ga.Lambda(Shift())], [ga.CenterCrop(8)]], eval=[])
    assert [name for name, _ in multi.named_buffers()] == ["views.0.opaque.0.by"]
    assert multi.draws_globally(True)
    assert not multi.draws_globally(False)
    assert torch.equal(multi(images())[0], images() + 1)


# ---- loaders -------------------------------------------------------------------------------------------------------


class Photos(torch.utils.data.Dataset[Any]):
    def __len__(self) -> int:
        return 10

    def __getitem__(self, number: int) -> tuple[Tensor, int, int]:
        return noise(1, 3, 30 + number, 40, seed=number)[0], number % 3, number


def loader() -> DataLoader[Any]:
    return DataLoader(Photos(), 4, collate_fn=ga.ragged_collate)


def test_device_loader_gives_views_and_labels() -> None:
    batches = ga.DeviceLoader(loader(), "cpu", dino())
    batches.set_epoch(1)
    got = list(batches)
    alone = dino()
    alone.set_epoch(1)
    for (views, own), (packed, given, index) in zip(got, loader(), strict=True):
        assert same(views, alone(packed, index=index))
        assert torch.equal(own, given)
    assert len(got) == 3
    plain = TensorDataset(images())
    (views,) = ga.DeviceLoader(DataLoader(plain, B), "cpu", dino().eval())
    assert [tuple(view.shape) for view in views] == [(B, 3, 24, 24)]
    assert "MultiView(" in repr(batches)
    with pytest.raises(ValueError, match="`augment` must be an Augment or MultiView, got 3"):
        ga.DeviceLoader(loader(), "cpu", 3)  # type: ignore[arg-type]


def test_device_loader_counts_what_it_handed_out_only() -> None:
    multi = dino()
    plain = DataLoader(TensorDataset(noise(12, 3, *SIZE)), 4)
    batches = iter(ga.DeviceLoader(plain, "cpu", multi))
    first = next(batches)
    assert used(multi)["counter"] == 4
    del batches
    state, other = multi.state_dict(), dino(seed=None)
    other.load_state_dict(state)
    assert not same(other(noise(4, 3, *SIZE)), first)
    assert used(other)["counter"] == 8


def test_device_loader_with_an_opaque_step_and_with_a_view_that_fails() -> None:
    multi = ga.MultiView([[ga.CenterCrop(9), ga.Lambda(torch.clone)], [ga.CenterCrop(9)]], eval=[])
    plain = DataLoader(TensorDataset(images()), 3)
    assert all(same(views[:1], views[1:]) for views in ga.DeviceLoader(plain, "cpu", multi))
    failing = ga.MultiView([GLOBAL, [ga.RandomCrop(41)]], seed=1)
    with pytest.raises(ValueError, match=r"This is about view 1\.$"):
        list(ga.DeviceLoader(plain, "cpu", failing))
    assert used(failing)["counter"] == 0


def test_data_of_parts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`regions` must be a gpuaug\.Augment"):
        ga.data.Indexed(Photos(), regions=dino())  # type: ignore[arg-type]


# ---- errors --------------------------------------------------------------------------------------------------------

WRONG: dict[str, tuple[Any, str]] = {
    "nothing": ([], r"`views` must be a list with a list of transforms for each view, got an empty list"),
    "a word": ("two", r"`views` must be a list with a list .* got 'two'"),
    "a flat list": (GLOBAL, r"`views\[0\]` must be a list of transforms or a Compose, got RandomResizedCrop"),
    "a number": ([GLOBAL, 3], r"`views\[1\]` must be a list of transforms or a Compose, got 3"),
    "no transform": ([GLOBAL, [3]], r"`views\[1\]` must be a list of transforms, got 3"),
    "an order": ([GLOBAL, [FLOATS, ga.RandomCrop(3)]], r"`views\[1\]` must be with pixel work before ToDtype"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_views_are_errors(name: str) -> None:
    views, said = WRONG[name]
    with pytest.raises(ValueError, match=said) as caught:
        ga.MultiView(views)
    assert str(caught.value).startswith("MultiView: ")


def test_a_view_that_fails_says_which_and_uses_up_nothing() -> None:
    multi = ga.MultiView([GLOBAL, GLOBAL, [ga.RandomCrop(41), FLOATS]], seed=4)
    with pytest.raises(ValueError, match=r"^RandomCrop: `images` must be at least .* This is about view 2\.$"):
        multi(images())
    with pytest.raises(ValueError, match=r"^MultiView: `images` must be uint8"):
        multi(images().float())
    with pytest.raises(ValueError, match="`index` must be int64"):
        multi(images(), index=INDEX[:2])
    with pytest.raises(ValueError, match=r"^MultiView: `labels` must be .*RandomResizedCrop.* about view 0"):
        multi(images(), torch.zeros(B, 2, 2))

    def raises(batch: Tensor) -> Tensor:
        raise KeyError("mine")

    opaque = ga.MultiView([GLOBAL, [ga.Lambda(raises)]], eval=[], seed=4)
    with pytest.raises(KeyError, match="mine") as caught:
        opaque(images())
    assert getattr(caught.value, "__notes__", ["MultiView: this is about view 1."])[-1].endswith("about view 1.")
    assert used(multi)["counter"] == used(opaque)["counter"] == 0


@pytest.mark.filterwarnings("ignore:`torch.jit.trace")
def test_it_cannot_be_traced() -> None:
    with pytest.raises(RuntimeError, match="MultiView: draws and kernels cannot be traced"):
        torch.jit.trace(dino(), images())


# ---- no copies -----------------------------------------------------------------------------------------------------


def test_on_the_cpu_every_view_reads_the_batch_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each view's first pass gets the tensor that was given, and not a copy."""
    from gpuaug.engine import call as engine_call
    from gpuaug.engine import render as engine_render

    seen: list[int] = []

    def watch(function: Any, place: int) -> Any:
        def watched(*arguments: Any) -> Any:
            seen.append(arguments[place].data_ptr())
            return function(*arguments)

        return watched

    monkeypatch.setattr(engine_call, "render", watch(engine_render.render, 1))
    given = images()
    dino(backend="torch")(given)
    assert seen == [given.data_ptr()] * 10


def test_on_cuda_the_batch_goes_up_once_and_is_copied_nowhere() -> None:
    """Bytes and launches on what claims to be a GPU: tests/support/view_cases.py, in a process of its own."""
    found = json.loads(pretending("tests/support/view_cases.py"))
    for name in ("dense", "ragged"):
        one, many = found[name]["one"], found[name]["many"]
        assert one["findings"] == many["findings"] == []
        assert (one["copies"], many["copies"]) == (0, 0)
        assert (one["uploads"], many["uploads"]) == (1, 10)  # of parameters
        assert many["downloads"] == 0
        assert many["launches"] == 10 * one["launches"]
        assert many["same"]
    assert found["loader"] == {"batches": 3, "copies": 0, "uploads of images": 3, "findings": []}
    assert found["fault"] == 10  # a module that copies its source for each view is told from this one
