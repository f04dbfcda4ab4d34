"""Named stages: their clocks, and how steps of transforms become stages and are put back."""

from __future__ import annotations

import pickle
import threading
import time

import numpy as np
import pytest
from torchvision.transforms import v2

from gpuaug.profiler import stage
from gpuaug.profiler.measure import clock, instrument


def test_inner_stages_are_not_counted_twice() -> None:
    notes = clock.mine.notes = clock.Notes(True)
    begin = time.perf_counter_ns()
    try:
        with stage("outer"):
            time.sleep(0.01)
            with stage("inner"):
                time.sleep(0.03)
            with stage("inner"):
                pass
    finally:
        clock.mine.notes = None
    took = time.perf_counter_ns() - begin
    assert notes.stages is not None
    wall, cpu, _, calls = notes.stages["inner"]
    assert wall > 0.029e9
    assert cpu < 0.02e9
    assert calls == 2
    assert notes.stages["outer"][0] > 0.009e9
    assert notes.stages["outer"][0] + wall <= took


def test_a_stage_notes_nothing_where_nobody_listens() -> None:
    assert clock.mine.notes is None
    used = stage("quiet")
    with used:
        assert used.notes is None


def test_threads_have_clocks_of_their_own() -> None:
    """A stage in another thread than the sample's is not noted, and does no harm."""

    notes = clock.mine.notes = clock.Notes(True)
    try:
        thread = threading.Thread(target=lambda: stage("other").__enter__())
        thread.start()
        thread.join()
    finally:
        clock.mine.notes = None
    assert notes.stages == {}


def test_a_timed_step_is_the_step() -> None:
    step = v2.RandomHorizontalFlip(0.25)
    timed = clock.Timed(step, "flip")
    assert isinstance(timed, v2.RandomHorizontalFlip)
    assert timed.p == 0.25
    assert repr(timed) == repr(step)
    timed.p = 0.5
    assert step.p == 0.5
    again = pickle.loads(pickle.dumps(timed))
    assert again.p == 0.5
    assert type(again) is clock.Timed


def test_compositions_are_taken_apart() -> None:
    names: list[str] = []
    chain = v2.Compose([v2.RandomApply([v2.ColorJitter(0.1), v2.GaussianBlur(3)]), v2.RandomChoice([v2.RandomCrop(2)])])
    patches = instrument.Patches()
    timed = instrument.steps(chain, names, patches)
    assert names == ["ColorJitter", "GaussianBlur", "RandomCrop"]
    assert timed is chain
    assert type(chain.transforms[0].transforms[0]) is clock.Timed
    assert chain.transforms[0].transforms[0].__class__ is v2.ColorJitter
    chain.transforms[0].p = 0.9  # what the user changes meanwhile stays
    chain.transforms.append(v2.Identity())
    patches.restore()
    assert [type(step) for step in chain.transforms] == [v2.RandomApply, v2.RandomChoice, v2.Identity]
    assert type(chain.transforms[0].transforms[0]) is v2.ColorJitter
    assert chain.transforms[0].p == 0.9


def test_albumentations() -> None:
    a = pytest.importorskip("albumentations")
    chain = a.Compose([a.HorizontalFlip(p=0.5), a.OneOf([a.Blur(p=1), a.RandomBrightnessContrast(p=1)], p=1)], seed=3)
    same = a.Compose([a.HorizontalFlip(p=0.5), a.OneOf([a.Blur(p=1), a.RandomBrightnessContrast(p=1)], p=1)], seed=3)
    names: list[str] = []
    patches = instrument.Patches()
    timed = instrument.steps(chain, names, patches)
    assert {"HorizontalFlip", "Blur", "RandomBrightnessContrast"} <= set(names)
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    for _ in range(8):
        assert np.array_equal(timed(image=image)["image"], same(image=image)["image"])
    clock.mine.notes = notes = clock.Notes(True)
    for _ in range(8):
        assert np.array_equal(timed(image=image)["image"], same(image=image)["image"])
    clock.mine.notes = None
    assert {"HorizontalFlip", "Blur", "RandomBrightnessContrast"} <= set(notes.stages or ())
    patches.restore()
    assert "apply_in_invocation" not in vars(chain.transforms[0])
    assert np.array_equal(chain(image=image)["image"], same(image=image)["image"])
