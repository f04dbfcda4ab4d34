"""timm's strings of RandAugment, AutoAugment, 3-Augment and AugMix, and the arguments of its create_transform."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from gpuaug import checks
from gpuaug.interop.arguments import even
from gpuaug.interop.fidelity import of_pillow, of_tensors, weakest
from gpuaug.interop.report import Conversion, Line, Report
from gpuaug.interop.timm import BLENDED, DEVICE_MODES, FILL, mix_fidelity, mixes, of_timms, policy_fidelity, resampling
from gpuaug.interop.timm_values import check_hparams, wrong_forms
from gpuaug.interop.torchvision import converted
from gpuaug.transforms.base import Transform
from gpuaug.transforms.blur import GaussianBlur
from gpuaug.transforms.color import ColorJitter, RandomGrayscale
from gpuaug.transforms.container import RandomApply
from gpuaug.transforms.convert import Normalize, ToDtype
from gpuaug.transforms.crop import CenterCrop, RandomResizedCrop, Resize
from gpuaug.transforms.erase import RandomErasing
from gpuaug.transforms.geometric import RandomHorizontalFlip, RandomVerticalFlip
from gpuaug.transforms.policy.timm import TimmAugMix, TimmAutoAugment, TimmPolicy, TimmRandAugment
from gpuaug.transforms.policy.timm_tables import AUTO_POLICIES

__all__ = ["CREATE", "MIXUP", "from_timm", "from_timm_args", "policy_of"]

HPARAMS = ("translate_const", "translate_pct", "img_mean", "interpolation", "magnitude_std", "magnitude_max")
SETS = ("weights", "3a", "3aw")

Reader = Callable[[str], Any]


def _whole(text: str) -> int:
    if not re.fullmatch(r"\d+", text):
        raise ValueError("a whole number")
    return int(text)


def _decimal(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d*)?", text):
        raise ValueError("a number")
    return float(text)


def _flag(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("0 or 1")
    return text == "1"


# the sections of each kind of string: name -> how its value is read
RAND: dict[str, Reader] = {"m": _whole, "n": _whole, "p": _decimal, "mstd": _decimal, "mmax": _whole, "inc": _flag}
AUTO: dict[str, Reader] = {"mstd": _decimal}
AUGMIX: dict[str, Reader] = {
    "m": _whole, "w": _whole, "d": _whole, "a": _decimal, "b": _flag, "mstd": _decimal,
}  # fmt: skip


def sections(
    who: tuple[str, str], config: str, parts: Sequence[str], known: Mapping[str, Reader], sets: bool
) -> dict[str, Any]:
    """The sections of a string by name; `sets`: whether "t" names a set of ops.

    Raises:
        ValueError: If a section is wrong; the message names all of them, and what is allowed.
    """
    found: dict[str, Any] = {}
    wrong: list[str] = []
    for part in parts:
        names = [*known, *(["t"] if sets else [])]
        name = max((name for name in names if part.startswith(name)), key=len, default="")
        value = part[len(name) :]
        if name == "t" and sets:
            if value not in SETS:
                wrong.append(f"{part!r} (t is one of {', '.join(SETS)})")
            found["t"] = value
        elif not name:
            wrong.append(f"{part!r} (sections are {', '.join(names)}, each with its value)")
        elif name in found:
            wrong.append(f"{part!r} ({name} is given twice)")
        else:
            try:
                found[name] = known[name](value)
            except ValueError as error:
                wrong.append(f"{part!r} ({name} is {error}, got {value or 'nothing'})")
    if wrong:
        raise checks.argument_error(*who, "a string of timm's", f"{config!r}: " + "; ".join(wrong))
    return found


def policy_of(who: tuple[str, str], config: str, hparams: Mapping[str, Any]) -> TimmPolicy:
    """The policy of one of timm's strings, with its `hparams`; `who`: the function and its argument, for errors.

    Raises:
        ValueError: If the string or a value is wrong.
    """
    check_hparams(who[0], hparams)
    unknown = [name for name in hparams if name not in HPARAMS]
    if unknown:
        raise checks.argument_error(who[0], "hparams", f"of {', '.join(HPARAMS)}", repr(unknown[0]))
    first, *parts = config.split("-")
    word = hparams.get("interpolation", "random")
    try:
        word = word if word == "random" else resampling(word).removesuffix("-exact")
    except ValueError as error:
        raise checks.argument_error(who[0], "interpolation", "one of timm's", f"{word!r} ({error})") from None
    common: dict[str, Any] = {
        "fill": tuple(hparams.get("img_mean", FILL)),
        "translate": hparams.get("translate_pct", 0.45),
        "interpolation": word,
    }
    if first == "rand":
        given = sections(who, config, parts, RAND, sets=True)
        ops = given.get("t") or ("increasing" if given.get("inc") else "plain")
        std = hparams.get("magnitude_std", given.get("mstd", 0.0))
        limit = hparams.get("magnitude_max", given.get("mmax")) or 10
        return TimmRandAugment(
            given.get("m", 10), given.get("n", 2), given.get("p", 0.5), "uniform" if std > 100 else std, limit, ops,
            **common,
        )  # fmt: skip
    limit = hparams.get("magnitude_max") or 10
    if first == "augmix":
        given = sections(who, config, parts, AUGMIX, sets=False)
        std = hparams.get("magnitude_std", given.get("mstd", math.inf))
        return TimmAugMix(
            given.get("m", 3), given.get("w", 3), given.get("d", -1), given.get("a", 1.0),
            "uniform" if std == math.inf else std, limit, **common,
        )  # fmt: skip
    if first in AUTO_POLICIES:
        given = sections(who, config, parts, AUTO, sets=False)
        std = hparams.get("magnitude_std", given.get("mstd", 0.0))
        return TimmAutoAugment(first, "uniform" if std == math.inf else std, limit, **common)
    kinds = ", ".join(["rand", "augmix", *AUTO_POLICIES])
    raise checks.argument_error(*who, f"a string that begins with one of {kinds}", f"{config!r}")


def from_timm(transform: object, *, hparams: Mapping[str, object] | None = None) -> Conversion:
    """Convert timm's strings and transforms to a list of gpuaug's: `Augment(train=from_timm("rand-m9-mstd0.5-inc1"))`.

    Args:
        transform: A string as timm's `auto_augment=` takes it ("rand-m9-mstd0.5-inc1", "original-mstd0.5", "v0",
            "3a", "augmix-m5-w4-d2"), a transform or Mixup of timm, or what timm.data.create_transform returns.
        hparams: For a string, timm's hparams: `img_mean`, the fill, (128, 128, 128) by default; `translate_pct`;
            `interpolation`; `magnitude_std`; `magnitude_max`. `translate_const` has no effect, as in timm's strings.

    Returns:
        The list of gpuaug's transforms, with a `report`.

    Raises:
        ValueError: If a part of the string is wrong, or steps cannot be converted. The message names all of them.
    """
    who = "from_timm"
    if not isinstance(transform, str):
        if hparams is not None:
            raise checks.argument_error(who, "hparams", "None, except with a string", checks.describe(hparams))
        return converted(who, transform, "timm")
    step = policy_of((who, "transform"), transform, {} if hparams is None else hparams)
    why = policy_fidelity(step)
    if transform.startswith("augmix") and "b1" in transform.split("-"):
        why = why[0], why[1] + BLENDED
    return Conversion([step], Report([Line(transform, repr(step), *why)]))


# --- the arguments of create_transform, and of Mixup, with their defaults -------------------------------------------

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CREATE: dict[str, Any] = {
    "input_size": 224, "is_training": False, "no_aug": False, "train_crop_mode": None, "scale": None, "ratio": None,
    "hflip": 0.5, "vflip": 0.0, "color_jitter": 0.4, "color_jitter_prob": None, "grayscale_prob": 0.0,
    "gaussian_blur_prob": 0.0, "auto_augment": None, "interpolation": "bilinear", "mean": MEAN, "std": STD,
    "re_prob": 0.0, "re_mode": "const", "re_count": 1, "re_num_splits": 0, "crop_pct": None, "crop_mode": None,
    "crop_border_pixels": None, "tf_preprocessing": False, "use_prefetcher": False, "normalize": True,
    "separate": False, "naflex": False, "patch_size": 16, "max_seq_len": 576, "patchify": False,
    "patchify_channels_last": True, "patchify_flatten": True,
}  # fmt: skip
MIXUP: dict[str, Any] = {
    "mixup_alpha": 1.0, "cutmix_alpha": 0.0, "cutmix_minmax": None, "prob": 1.0, "switch_prob": 0.5, "mode": "batch",
    "correct_lam": True, "label_smoothing": 0.1, "num_classes": 1000, "multi_label": False,
}  # fmt: skip

# arguments that gpuaug has no counterpart of: what is accepted, and what to do
REFUSED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "train_crop_mode": (lambda value: value in (None, "rrc"), "use 'rrc'"),
    "re_mode": (lambda value: not isinstance(value, str) or value in DEVICE_MODES, "use 'const' or 'pixel'"),
    "re_num_splits": (lambda value: value in (0, 1), "erase in one Augment, and pass clean images to another"),
    "crop_mode": (lambda value: value in (None, "center", "squash"), "use 'center' or 'squash'"),
    "crop_border_pixels": (lambda value: not value, "cut the border off in the worker"),
    "tf_preprocessing": (lambda value: not value, "leave it out"),
    "separate": (lambda value: not value, "call it without, and take parts of the list"),
    "naflex": (lambda value: not value, "batches have one size; leave it out"),
    "patchify": (lambda value: not value, "let the model cut patches"),
}


def from_timm_args(**arguments: object) -> Conversion:
    """Convert the arguments of timm.data.create_transform, and of timm.data.Mixup, to a list of gpuaug's.

    `Augment(train=from_timm_args(is_training=True, auto_augment="rand-m9-mstd0.5-inc1", re_prob=0.25,
    mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=1000))`. Names and defaults are timm's. Mixup's arguments
    (mixup_alpha, cutmix_alpha, cutmix_minmax, prob, switch_prob, mode, correct_lam, label_smoothing, num_classes,
    multi_label) are used if any of them is given, as Mixup with these. `use_prefetcher` has no effect: as in timm's
    loader, images are normalised and erased on the device.

    Args:
        arguments: Arguments by name.

    Returns:
        The list of gpuaug's transforms, with a `report`: the training list if `is_training`, else the evaluation list.

    Raises:
        TypeError: If an argument is unknown.
        ValueError: If values are wrong, or gpuaug has no counterpart. The message names all of these.
    """
    who = "from_timm_args"
    unknown = [name for name in arguments if name not in CREATE and name not in MIXUP]
    if unknown:
        known = ", ".join([*CREATE, *MIXUP])
        raise TypeError(f"{who}: {', '.join(map(repr, unknown))} are not arguments of timm's, only {known}.")
    given: dict[str, Any] = {name: arguments.get(name, default) for name, default in CREATE.items()}
    mixing = any(name in MIXUP for name in arguments)
    forms = wrong_forms(given | {name: arguments[name] for name in arguments if name in MIXUP})
    wrong = [f"{name}={given[name]!r} ({remedy})" for name, (good, remedy) in REFUSED.items() if not good(given[name])]
    wrong += forms
    if mixing and not given["is_training"]:
        wrong.append("Mixup's arguments with is_training=False (leave them out for the evaluation list)")
    lines: list[tuple[str, list[Transform], tuple[str, str]]] = []
    size = given["input_size"]
    size = tuple(size)[-2:] if isinstance(size, (tuple, list)) else size
    builders = (_train if given["is_training"] and not given["no_aug"] else _evaluation, _floats)
    for build in builders if not forms else ():
        try:
            lines += build(given, size)
        except (ValueError, TypeError) as error:
            wrong.append(str(error).removeprefix(f"{who}: ").rstrip("."))
    if mixing and not forms:
        try:
            steps = mixes({name: arguments.get(name, default) for name, default in MIXUP.items()})
            lines.append(("Mixup", steps, mix_fidelity(steps[0])))
        except (ValueError, TypeError) as error:
            wrong.append(str(error).rstrip("."))
    if wrong:
        expected = "values that gpuaug can run as timm does"
        raise checks.argument_error(who, "arguments", expected, "; ".join(wrong), "")
    report = Report(Line(theirs, ", ".join(map(repr, steps)), *found) for theirs, steps, found in lines)
    return Conversion([step for _, steps, _ in lines for step in steps], report)


Lines = list[tuple[str, list[Transform], tuple[str, str]]]


def _line(theirs: str, *steps: Transform) -> tuple[str, list[Transform], tuple[str, str]]:
    return theirs, list(steps), weakest([of_pillow(step) for step in steps])


def _train(given: Mapping[str, Any], size: Any) -> Lines:
    """The steps on levels, as timm's transforms_imagenet_train."""
    scale, ratio = tuple(given["scale"] or (0.08, 1.0)), tuple(given["ratio"] or (3 / 4, 4 / 3))
    how = given["interpolation"]
    crop = RandomResizedCrop(even(size), scale, ratio, "random" if how == "random" else resampling(how))
    lines: Lines = [("RandomResizedCropAndInterpolation", [crop], of_timms(None, [crop]))]
    if given["hflip"] > 0:
        lines.append(_line(f"hflip={given['hflip']}", RandomHorizontalFlip(given["hflip"])))
    if given["vflip"] > 0:
        lines.append(_line(f"vflip={given['vflip']}", RandomVerticalFlip(given["vflip"])))
    auto, jitter = given["auto_augment"], given["color_jitter"]
    if auto:
        hparams: dict[str, Any] = {"img_mean": tuple(min(255, round(255 * x)) for x in given["mean"])}
        if how and how != "random":
            hparams["interpolation"] = how
        if auto.startswith("augmix"):
            hparams["translate_pct"] = 0.3
        step = policy_of(("from_timm_args", "auto_augment"), auto, hparams)
        lines.append((auto, [step], policy_fidelity(step)))
    if jitter is not None and (not auto or "3a" in auto):  # timm's policies, apart from 3-Augment, replace it
        lines += _jitter(jitter, given["color_jitter_prob"])
    if given["grayscale_prob"]:
        name = f"grayscale_prob={given['grayscale_prob']}"
        lines.append(_line(name, RandomGrayscale(given["grayscale_prob"])))
    if given["gaussian_blur_prob"]:
        name = f"gaussian_blur_prob={given['gaussian_blur_prob']}"
        lines.append(_line(name, RandomApply([GaussianBlur(23)], given["gaussian_blur_prob"])))
    return lines


def _jitter(amounts: Any, p: float | None) -> Lines:
    given = tuple(amounts) if isinstance(amounts, (list, tuple)) else (float(amounts),) * 3
    if len(given) not in (3, 4):
        expected = "one number, or 3 or 4 (brightness, contrast, saturation, hue)"
        raise checks.argument_error("from_timm_args", "color_jitter", expected, repr(amounts))
    jitter: Transform = ColorJitter(*given)
    if jitter == ColorJitter(0, 0, 0) or not any(given):
        return []
    return [_line(f"color_jitter={amounts}", jitter if p is None else RandomApply([jitter], p))]


def _evaluation(given: Mapping[str, Any], size: Any) -> Lines:
    """As timm's transforms_imagenet_eval, and transforms_noaug_train."""
    how = given["interpolation"]
    if given["is_training"]:
        word = resampling("bilinear" if how == "random" else how)
        return [_line("Resize", Resize(size, word)), _line("CenterCrop", CenterCrop(even(size)))]
    pct = given["crop_pct"] or 0.875
    sides = size if isinstance(size, tuple) else (size, size)
    larger = tuple(math.floor(side / pct) for side in sides)
    if given["crop_mode"] != "squash" and larger[0] != larger[1]:
        expected = "'squash' if input_size is not square"
        raise checks.argument_error("from_timm_args", "crop_mode", expected, repr(given["crop_mode"]))
    edge = larger if given["crop_mode"] == "squash" else larger[0]
    return [_line("Resize", Resize(edge, resampling(how))), _line("CenterCrop", CenterCrop(even(size)))]


def _floats(given: Mapping[str, Any], size: Any) -> Lines:
    """ToTensor, Normalize and RandomErasing; nothing if images stay uint8."""
    if not given["normalize"]:
        return []
    mean, std = given["mean"], given["std"]
    steps: list[Transform] = [ToDtype(torch.float32, scale=True), Normalize(mean, std)]
    lines: Lines = [
        (name, [step], of_tensors(step)) for name, step in zip(("ToTensor", "Normalize"), steps, strict=True)
    ]
    if given["is_training"] and not given["no_aug"] and given["re_prob"] > 0 and given["re_mode"] in DEVICE_MODES:
        value = DEVICE_MODES[given["re_mode"]]
        erase = RandomErasing(given["re_prob"], (0.02, 1 / 3), (0.3, 1 / 0.3), value, max_count=given["re_count"])
        lines.append((f"re_prob={given['re_prob']}", [erase], of_tensors(erase)))
    return lines
