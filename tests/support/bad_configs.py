"""Configurations with one mistake each, and what is said of it after `from_dict: `."""

from __future__ import annotations

from typing import Any

__all__ = ["BAD"]

DEEP: dict[str, Any] = {"train": []}
DEEP["train"].append(DEEP["train"])  # as a YAML file may have it: train: &again [*again]

BAD: dict[str, tuple[Any, str]] = {
    "no mapping": ([], "`config` must be a mapping with names as keys, got []"),
    "no train": ({}, "`train` must be given, got no such key"),
    "another class": ({"_target_": "torch.nn.Linear"}, "`_target_` must be \"gpuaug.Augment\", got 'torch.nn.Linear'"),
    "unknown key": (
        {"train": [], "memory_fromat": "channels_last"},
        "`memory_fromat` must be an argument of Augment: train, eval, seed, backend, memory_format, exact, mask_fill, "
        "erase_masks, flip_pairs, same, replace, got an unknown key. Did you mean `memory_format`?",
    ),
    "memory format": ({"train": [], "memory_format": "nhwc"}, "`memory_format` must be one of 'channels_last', 'cont"),
    "backend": (
        {"train": [], "backend": "cuda"},
        "`backend` must be one of 'auto', 'triton', 'numba', 'torch', got 'cu",
    ),
    "seed": ({"train": [], "seed": "1"}, "`seed` must be an integer in [0, 18446744073709551615], got '1'"),
    "a string": (
        {"train": "RandAugment"},
        '`train` must be a list of steps, or {"recipe": ..., "size": ...}, got \'Ra',
    ),
    "a number": (
        {"train": ["RandAugment", 3]},
        '`train[1]` must be a step: "Name", {"Name": {arguments}} or {"_target_"',
    ),
    "two keys": ({"train": [{"Resize": {}, "Pad": {}}]}, '`train[0]` must be a step: "Name", {"Name": {arguments}} or'),
    "unknown step": (
        {"train": [{"RandomResizeCrop": {}}]},
        "`train[0]` must be the name of a transform of gpuaug, got 'RandomResizeCrop'. Did you mean RandomResizedCrop?",
    ),
    "no transform": ({"train": ["Augment"]}, "`train[0]` must be the name of a transform of gpuaug, got 'Augment'."),
    "not ours": (
        {"eval": ["Identity"], "train": [{"_target_": "os.system", "command": "true"}]},
        "`train[0]._target_` must be a name such as gpuaug.RandomResizedCrop, got 'os.system'. Put other classes in by",
    ),
    "unknown argument": (
        {"train": ["Identity", {"RandomRotation": {"degree": 3}}]},
        "`train[1].degree` must be an argument of RandomRotation: degrees, interpolation, expand, center, fill, got an "
        "unknown key. Did you mean `degrees`?",
    ),
    "argument of none": (
        {"train": [{"Identity": {"p": 1}}]},
        "`train[0].p` must be an argument of Identity: it has none",
    ),
    "missing": (
        {"train": [{"Resize": {"antialias": True}}]},
        "`train[0].size` must be given, since Resize has no default",
    ),
    "value": (
        {"train": ["Identity", "Identity", {"RandomResizedCrop": {"size": 9, "scale": [1, 0.2]}}]},
        "`train[2].scale` must be (low, high)",
    ),
    "type": (
        {"train": [{"_target_": "gpuaug.GaussianBlur", "kernel_size": {}}]},
        "`train[0].kernel_size` must be an int or",
    ),
    "dtype": (
        {"train": [{"ToDtype": {"dtype": "float23"}}]},
        "`train[0].dtype` must be one of auto, torch.float32, to",
    ),
    "nested": (
        {
            "train": [
                {
                    "RandomApply": {
                        "transforms": ["RandomInvert", {"RandomChoice": {"transforms": [{"RandomInvert": {"q": 1}}]}}]
                    }
                }
            ]
        },
        "`train[0].transforms[1].transforms[0].q` must be an argument of RandomInvert: p, got an unknown key",
    ),
    "nested kind": (
        {"train": [{"RandomOrder": {"transforms": [{"Resize": {"size": 3}}]}}]},
        "`train[0].transforms` must be",
    ),
    "no children": (
        {"train": [{"RandomOrder": {"transforms": 3}}]},
        "`train[0].transforms` must be a list of steps, got 3",
    ),
    "order": (
        {"train": [{"ToDtype": {"dtype": "float32"}}, "RandomInvert"]},
        "`train` must be with pixel work before ToD",
    ),
    "eval": (
        {"train": [], "eval": [{"Resize": {"size": 0}}]},
        "`eval[0].size` must be an int or (height, width), in pix",
    ),
    "recipe": (
        {"train": {"recipe": "standart", "size": 3}},
        "`train.recipe` must be one of small_data, standard, large_s",
    ),
    "recipe key": (
        {"train": {"recipe": "standard", "sise": 3}},
        "`train.sise` must be an argument of standard: size, num",
    ),
    "recipe size": (
        {"train": {"recipe": "standard"}},
        "`train.size` must be given, since standard has no default for it",
    ),
    "recipe strength": (
        {"train": [{"recipe": "cifar", "strength": 2}]},
        "`train[0].strength` must be a number in [0, 1]",
    ),
    "no view": (
        {"train": {"recipe": "byol", "size": 9}},
        "`train.view` must be a number in [0, 1], since byol has a list",
    ),
    "a view": (
        {"train": {"recipe": "cifar", "view": 0}},
        "`train.view` must be left out, since cifar has one list, got 0",
    ),
    "replace": ({"train": [], "replace": {"trian": []}}, "`replace.trian` must be an argument of replace: train, eval"),
    "replaced": (
        {"train": [], "replace": {"train": ["Flip"]}},
        "`replace.train[0]` must be the name of a transform of",
    ),
    "replaced order": (
        {"train": [], "replace": {"train": [{"ToDtype": {"dtype": "float32"}}, "RandomInvert"]}},
        "`replace.train` must be with pixel work before ToD",
    ),
    "nothing replaced": ({"train": [], "replace": {}}, "`replace.train` must be a list of transforms, got None, and"),
    "a word for false": ({"train": [], "exact": "false"}, "`exact` must be true or false, got 'false'"),
    "a word for false in a step": (
        {"train": [{"ToDtype": {"dtype": "float32", "scale": "no"}}]},
        "`train[0].scale` must be true or false, got 'no'",
    ),
    "too deep": (DEEP, "`config` must be nested less deeply than Python can follow, got lists inside one another"),
}
