"""Strings, transforms and arguments of timm: the same steps as from timm's own parsers, and clear errors."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

import gpuaug as ga
from gpuaug.interop.timm_strings import CREATE, MIXUP
from tests.support.chance import hoeffding, ks_between
from tests.support.helpers import drawn

data = pytest.importorskip("timm.data")
auto = pytest.importorskip("timm.data.auto_augment")
random_erasing = pytest.importorskip("timm.data.random_erasing")

STRINGS = [
    "rand", "rand-m9", "rand-m9-mstd0.5-inc1", "rand-m9-n3-mstd0.5", "rand-mstd1-tweights", "rand-m7-n1-p0.8-t3a",
    "rand-m9-n4-mstd101-t3aw-inc1", "rand-m15-mmax20", "rand-inc0-p1", "rand-n2-mstd0-mmax0",
    "original", "original-mstd0.5", "originalr", "v0", "v0-mstd0.7", "v0r", "3a", "3a-mstd0.5",
    "augmix", "augmix-m5-w4-d2", "augmix-m3-mstd0.5-a0.5", "augmix-w1-d0",
]  # fmt: skip


def theirs(text: str, hparams: dict[str, Any] | None = None) -> Any:
    parser = {"rand": auto.rand_augment_transform, "augmix": auto.augment_and_mix_transform}
    return parser.get(text.split("-")[0], auto.auto_augment_transform)(text, hparams)


@pytest.mark.parametrize("text", STRINGS)
def test_a_string_means_what_it_means_in_timm(text: str) -> None:
    """The objects that timm makes of it are converted by other code."""
    assert ga.from_timm(text) == ga.from_timm(theirs(text))
    hparams = {"img_mean": (1, 2, 3), "translate_pct": 0.3, "interpolation": 3}
    found = ga.from_timm(text, hparams=hparams)
    assert found == ga.from_timm(theirs(text, dict(hparams)))
    assert found != ga.from_timm(text)


def test_strings_differ() -> None:
    assert len({repr(ga.from_timm(text)) for text in STRINGS}) >= len(STRINGS) - 2  # 9 is another default, mmax0 is 10


def test_what_a_string_becomes() -> None:
    assert ga.from_timm("rand-m9-mstd0.5-inc1") == [
        ga.TimmRandAugment(9, 2, 0.5, 0.5, ops="increasing", fill=(128, 128, 128))
    ]
    report = ga.from_timm("rand-m9-mstd0.5-inc1").report
    assert report.fidelity == "statistically equal"
    assert "bicubic is a = -0.75" in report[0].why
    plain = ga.TimmRandAugment(9, 1, ops=["Invert", "Solarize"])
    from gpuaug.interop.timm import policy_fidelity

    assert policy_fidelity(plain)[0] == "within one level"
    assert "truncates after each chain" in ga.from_timm("augmix-b1").report[0].why
    assert "truncates after each chain" in ga.from_timm(theirs("augmix-b1")).report[0].why


ARGUMENTS: list[dict[str, Any]] = [
    {},
    {"input_size": (3, 64, 64), "crop_pct": 0.95, "interpolation": "bicubic"},
    {"input_size": 96, "crop_mode": "squash", "crop_pct": 1.0},
    {"input_size": (3, 64, 96), "crop_mode": "squash"},
    {"normalize": False},
    {"is_training": True},
    {"is_training": True, "no_aug": True, "input_size": 64},
    {"is_training": True, "no_aug": True, "input_size": (3, 64, 64)},
    {"is_training": True, "interpolation": "random", "auto_augment": "rand-m9-mstd0.5-inc1", "re_prob": 0.25},
    {"is_training": True, "re_prob": 0.3, "re_mode": "pixel", "re_count": 3, "hflip": 0.0, "vflip": 0.2},
    {"is_training": True, "scale": (0.3, 0.9), "ratio": (0.8, 1.2), "color_jitter": (0.1, 0.2, 0.3, 0.1)},
    {"is_training": True, "color_jitter": None, "auto_augment": "augmix-m5-w4-d2", "mean": (0.5, 0.5, 0.5)},
    {"is_training": True, "auto_augment": "3a", "color_jitter": 0.3},
    {"is_training": True, "auto_augment": "original-mstd0.5", "interpolation": "bicubic"},
    {"is_training": True, "color_jitter": 0.4, "color_jitter_prob": 0.8, "grayscale_prob": 0.2},
    {"is_training": True, "gaussian_blur_prob": 0.5, "normalize": False, "re_prob": 0.5},
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_arguments_mean_what_they_mean_in_timm(arguments: dict[str, Any]) -> None:
    """The transform that create_transform makes of them is converted by other code."""
    ours, made = ga.from_timm_args(**arguments), ga.from_timm(data.create_transform(**arguments))
    assert [repr(_rounded(step)) for step in ours] == [repr(_rounded(step)) for step in made]
    assert [line.fidelity for line in ours.report if line.ours] == [
        line.fidelity for line in made.report if line.ours
    ]  # fmt: skip


def _rounded(step: Any) -> Any:
    """A step without what float32 made of its numbers."""
    if isinstance(step, ga.Normalize):
        return step.replace(**{name: tuple(round(x, 6) for x in getattr(step, name)) for name in ("mean", "std")})
    if isinstance(step, ga.RandomApply):
        return ga.RandomApply([_rounded(child) for child in step.transforms], step.p)
    if isinstance(step, ga.ColorJitter):
        return ga.ColorJitter(*step._spans.values())
    if isinstance(step, ga.RandomErasing):
        return step.replace(ratio=tuple(round(x, 9) for x in step.ratio))
    return step


def test_the_lists_run() -> None:
    images = torch.randint(0, 256, (4, 3, 80, 90), dtype=torch.uint8)
    arguments = {"input_size": 32, "interpolation": "random", "auto_augment": "rand-m9-mstd0.5-inc1", "re_prob": 0.5}
    training = ga.from_timm_args(
        is_training=True, re_mode="pixel", mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=5, **arguments
    )
    augment = ga.Augment(train=training, eval=ga.from_timm_args(input_size=32))
    result, labels = augment(images, torch.arange(4))
    assert result.shape == (4, 3, 32, 32)
    assert torch.allclose(labels.sum(dim=1), torch.ones(4))
    assert labels.min() >= 0.1 / 5 - 1e-6
    assert augment.eval()(images).shape == (4, 3, 32, 32)


def test_names_and_defaults_are_timms() -> None:
    for known, function in ((CREATE, data.create_transform), (MIXUP, data.Mixup)):
        defaults = {name: one.default for name, one in inspect.signature(function).parameters.items()}
        assert known == defaults
    with pytest.raises(TypeError, match="from_timm_args: 'reprob' are not arguments of timm's, only input_size, is_tr"):
        ga.from_timm_args(reprob=0.3)


MIXES: list[dict[str, Any]] = [
    {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "num_classes": 7},
    {"mixup_alpha": 0.2, "label_smoothing": 0.0, "mode": "pair"},
    {"mixup_alpha": 0.0, "cutmix_alpha": 1.0, "correct_lam": False, "prob": 0.5, "mode": "elem"},
    {"mixup_alpha": 0.8, "cutmix_minmax": (0.2, 0.8), "prob": 0.9, "switch_prob": 0.3, "mode": "elem"},
]


@pytest.mark.parametrize("arguments", MIXES, ids=str)
def test_mixup_means_what_it_means_in_timm(arguments: dict[str, Any]) -> None:
    found = ga.from_timm_args(is_training=True, **arguments)
    assert found[-1:] == ga.from_timm(data.Mixup(**arguments))
    pair = arguments.get("mode") == "pair"
    assert found.report[-1].fidelity == ("within one level" if pair else "statistically equal")


@pytest.mark.parametrize("mode", ["elem", "pair"])
def test_mixes_are_distributed_as_timms(mode: str) -> None:
    """How often nothing, MixUp and CutMix is drawn, and the weights of MixUp, against draws of timm's own."""
    arguments = {"mixup_alpha": 0.4, "cutmix_alpha": 1.0, "prob": 0.8, "switch_prob": 0.3, "mode": mode}
    count = 40_000
    params = drawn(ga.from_timm(data.Mixup(**arguments)), count)[0]
    rows = slice(None) if mode == "elem" else slice(0, count // 2)  # a draw for two samples
    chosen, weight = params["chosen"][rows], params["0"]["weight"][rows]
    state = np.random.get_state()
    np.random.seed(0)
    try:
        lam, cut = data.Mixup(**arguments)._params_per_elem(count)
    finally:
        np.random.set_state(state)
    none, bound = lam == 1, hoeffding(count // 2, 12) + hoeffding(count, 12)
    for number, rate in enumerate(((~none & ~cut).mean(), (~none & cut).mean(), none.mean())):
        assert abs((chosen == number).mean() - rate) <= bound
    mixed = weight[chosen == 0]
    assert ks_between(mixed, lam[~none & ~cut]) <= hoeffding(len(mixed), 12) + hoeffding(int((~none & ~cut).sum()), 12)


WRONG = [
    ("ranf-m9", "a string that begins with one of rand, augmix, original, originalr, v0, v0r, 3a, got 'ranf-m9'"),
    ("rand-mx", "'mx' (m is a whole number, got x)"),
    ("rand-m9.5", "'m9.5' (m is a whole number, got 9.5)"),
    ("rand-mstdhigh", "'mstdhigh' (mstd is a number, got high)"),
    ("rand-inc2", "'inc2' (inc is 0 or 1, got 2)"),
    ("rand-inc", "'inc' (inc is 0 or 1, got nothing)"),
    ("rand-w0", "'w0' (sections are m, n, p, mstd, mmax, inc, t, each with its value)"),
    ("rand-tall", "'tall' (t is one of weights, 3a, 3aw)"),
    ("rand-m9-m3", "'m3' (m is given twice)"),
    ("rand--m9", "'' (sections are"),
    ("v0-m9", "'m9' (sections are mstd, each with its value)"),
    ("augmix-x3", "'x3' (sections are m, w, d, a, b, mstd, each with its value)"),
]


@pytest.mark.parametrize(("text", "why"), WRONG)
def test_a_wrong_string_names_the_part(text: str, why: str) -> None:
    with pytest.raises(ValueError) as error:
        ga.from_timm(text)
    assert str(error.value).startswith("from_timm: `transform` must be a string")
    assert why in str(error.value)


def test_all_wrong_parts_are_named_at_once() -> None:
    with pytest.raises(ValueError) as error:
        ga.from_timm("rand-mx-inc2-foo")
    assert all(part in str(error.value) for part in ("'mx'", "'inc2'", "'foo'"))
    with pytest.raises(ValueError) as error:
        ga.from_timm_args(
            is_training=True, re_prob=0.2, re_mode="rand", re_num_splits=3, auto_augment="rand-x3", crop_mode="border",
            naflex=True, mode="half", mean=(1, 2), std=(0, 1),
        )  # fmt: skip
    text = str(error.value)
    assert text.startswith("from_timm_args: `arguments` must be values that gpuaug can run as timm does, got ")
    for part in ("re_mode='rand' (use 'const'", "re_num_splits=3 (", "'x3'", "crop_mode='border' (use", "naflex=True"):
        assert part in text, part
    for part in ("Mixup: `mode` must be one of 'batch', 'pair', 'elem'", "Normalize: `std`"):
        assert part in text, part


def switched_off() -> Any:
    mixup = data.Mixup(num_classes=3)
    mixup.mixup_enabled = False  # as timm's own script does for its last epochs
    return mixup


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda: ga.from_timm_args(mixup_alpha=0.8), "Mixup's arguments with is_training=False"),
        (lambda: ga.from_timm_args(is_training=True, mixup_alpha=0.0), "To smooth labels without mixing, use the loss"),
        (lambda: ga.from_timm_args(is_training=True, multi_label=True), "`label_smoothing` must be 0 with multi_label"),
        (lambda: ga.from_timm_args(is_training=True, interpolation="lanczos"), "'lanczos'"),
        (lambda: ga.from_timm_args(input_size=(3, 64, 96)), "`crop_mode` must be 'squash' if input_size is not square"),
        (lambda: ga.from_timm("v0", hparams={"mean": 3}), "`hparams` must be of translate_const, translate_pct"),
        (lambda: ga.from_timm(data.create_transform(32), hparams={}), "`hparams` must be None, except with a string"),
        (lambda: ga.from_timm(random_erasing.RandomErasing(mode="rand", device="cpu")), "use 'const' or 'pixel'"),
        (lambda: ga.from_timm([torch.nn.ReLU()]), "ReLU"),
        (lambda: ga.from_timm(switched_off()), "mixing is switched off (mixup_enabled=False)"),
    ],
)
def test_what_has_no_counterpart_is_refused(build: Any, why: str) -> None:
    with pytest.raises(ValueError) as error:
        build()
    assert why in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input_size", None), ("input_size", "224"), ("input_size", ()), ("input_size", 10**400), ("hflip", None),
        ("vflip", "0.5"), ("scale", 5), ("ratio", "ab"), ("crop_pct", "0.9"), ("crop_pct", float("nan")),
        ("color_jitter", "0.4"), ("color_jitter_prob", "a"), ("auto_augment", 5), ("re_prob", None),
        ("re_mode", ["pixel"]), ("mixup_alpha", None), ("mixup_alpha", float("nan")), ("cutmix_alpha", "1"),
    ],
)  # fmt: skip
def test_a_value_of_another_form_is_named(name: str, value: Any) -> None:
    """Not what Python says when it computes with it, such as "unsupported operand type(s)"."""
    with pytest.raises(
        ValueError, match=rf"^from_timm_args: `arguments` must be .*, got {name}=.* \(must be "
    ) as caught:
        ga.from_timm_args(**{"is_training": True, name: value})
    assert "is_training" not in str(caught.value)
    if name in CREATE:
        both = {name: value, "naflex": True}
        with pytest.raises(ValueError, match=rf"naflex=True .*; {name}="):
            ga.from_timm_args(**both)


@pytest.mark.parametrize(
    "hparams", [5, [], "m", {"img_mean": None}, {"img_mean": 5}, {"magnitude_std": None}, {"magnitude_std": "1"}]
)
def test_hparams_of_another_form_are_refused(hparams: Any) -> None:
    with pytest.raises(ValueError, match=r"^from_timm: `hparams` must be "):
        ga.from_timm("rand-m9", hparams=hparams)
    with pytest.raises(ValueError, match=r"^from_timm: `interpolation` must be one of timm's, got 99"):
        ga.from_timm("rand-m9", hparams={"interpolation": 99})
