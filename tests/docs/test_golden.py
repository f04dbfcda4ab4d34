"""The tool that shows that a change of the code changes no bit has all its lists; what version 0.1 wrote loads.

The hashes in tests/support/golden.json are not compared here. They hold for one platform, since NumPy's `exp` and `cos`
may differ in the last bit between processors. `python -m tests.support.golden` compares them where they were written.
"""

from __future__ import annotations

import json
import re
import warnings

import pytest
import torch

import gpuaug as ga
from tests.support import golden, golden_data, golden_lists, golden_state

SHAPES = [(3, 16, 18), (3, 20, 26), (3, 19, 23), (3, 28, 18), (3, 20, 25), (3, 26, 20)]  # of the pack


def test_there_are_lists_enough_and_each_has_a_hash() -> None:
    names = [f"{part}: {case.name}" for part, cases in golden_lists.cases().items() for case in cases]
    assert len(names) == len(set(names)) >= 300
    kept = json.loads(golden.FILE.read_text())
    assert set(names) <= set(kept)
    assert {name.split(":")[0] for name in kept} == set(golden.parts())
    assert all(re.fullmatch(r"[0-9a-f]{12}", digest) for digest in kept.values())


def test_every_op_has_arguments() -> None:
    """Written there, not derived from the rows: with a changed row a list would have a new name, and no hash."""
    listed, ops = set(golden_lists.ARGUMENTS), {op.__name__ for op in ga.OPS}
    remedy = "then run `python -m tests.support.golden --write`, before any other change."
    assert not ops - listed, f"Add {ops - listed} to ARGUMENTS in tests/support/golden_lists.py, {remedy}"
    assert not listed - ops, f"Take {listed - ops} out of ARGUMENTS in tests/support/golden_lists.py, {remedy}"


@pytest.mark.parametrize("op", golden_lists.ARGUMENTS)
def test_every_op_gives_pixels_rather_than_errors(op: str) -> None:
    """A list that only raises would be equal before and after any change."""
    cases = [case for case in golden_lists.cases()["ops"] if f"{op}(" in case.steps and case.images == "rgb"]
    assert cases
    for case in cases[:2]:
        digest = golden.Digest()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            golden.run(digest, case, ("torch",))
        assert digest.raised == []


def test_a_hash_sees_each_part_of_a_value() -> None:
    image = torch.arange(24, dtype=torch.uint8).view(1, 2, 3, 4)
    last = image.to(memory_format=torch.channels_last)
    values = [
        image,
        image.view(1, 3, 2, 4),
        image.to(torch.int8),
        image + 1,
        last,
        [image],
        [image, image],
        {"a": image},
    ]
    values += [1, 1.0, "1", None, True, torch.tensor([0.0]), torch.tensor([-0.0]), image.half(), image.bfloat16()]
    digests = []
    for value in values:
        digest = golden.Digest()
        digest.add(value)
        digests.append(digest.text())
    assert len(set(digests)) == len(digests)


def test_of_an_error_the_type_counts_and_not_the_text() -> None:
    def digest(error: Exception) -> str:
        found = golden.Digest()
        found.attempt(lambda: (_ for _ in ()).throw(error).__next__())
        return found.text()

    assert digest(ValueError("a")) == digest(ValueError("b")) != digest(TypeError("a"))


def test_the_pack_of_version_0_1_loads() -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    dataset = ga.data.Packed(golden_data.PACK)
    assert dataset.classes == ["class0", "class1", "class2"]
    assert [tuple(image.shape) for image, _, _ in dataset] == SHAPES
    assert dataset.targets == [0, 0, 1, 1, 2, 2]


def test_the_checkpoint_of_version_0_1_loads() -> None:
    augment = golden_state.made(None)
    torch.nn.Sequential(augment).load_state_dict(torch.load(golden_data.CHECKPOINT, weights_only=True))
    assert (augment.seed, augment.epoch) == (7, 2)
