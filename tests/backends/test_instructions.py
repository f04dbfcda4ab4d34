"""The instruction set: every number stands once, and there is room for more."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest

import gpuaug as ga
from gpuaug import instructions
from gpuaug.instructions import (
    FILL_AT,
    MOST_OPCODES,
    OPERANDS,
    OPERANDS_AT,
    Feature,
    Op,
    bits,
    instruction_words,
    table_at,
)
from gpuaug.program import Instruction, merge

PACKAGE = Path(ga.__file__).parent
# what a number of the instruction set looks like where it is typed: luma weights, the first fill, Q14
OTHER = {"numba/warp.py": {17}, "numba/jpeg.py": {17}, "jpeg.py": {17}}  # rows of a scratch, bits of a shift, a step
ORDER = "operand(instruction, 0), operand(instruction, 1), operand(instruction, 2)"  # of PERMUTE: its three channels
TYPED = {0.2989, 0.587, 0.114, FILL_AT, instructions.Q14}


def test_opcodes_and_features_are_apart() -> None:
    """A new opcode takes the next number, up to 31, and no bit of a feature."""
    assert max(Op) < MOST_OPCODES <= min(Feature)
    last = bits([MOST_OPCODES - 1])
    assert not last & bits(Feature)
    assert not last & bits(Op)
    assert bits([*range(MOST_OPCODES), *Feature]) < 2**63, "a word of 64 bits holds all"
    assert len({*Op, *Feature}) == len(Op) + len(Feature)


def test_words_of_an_instruction_do_not_overlap() -> None:
    assert OPERANDS_AT == instructions.OPCODE_AT + 1
    assert FILL_AT == OPERANDS_AT + OPERANDS
    assert instruction_words(3, has_table=False) == table_at(3) == FILL_AT + 3
    assert 4 * (instruction_words(3, has_table=True) - table_at(3)) == 256


def test_opcodes_stay_int32() -> None:
    """NumPy takes a member of an enumeration for an int64."""
    instruction = Instruction.of(Op.TABLE, 3)
    for one in (instruction, instruction.where(np.array([True, False, True])), instruction.take(np.array([0, 2]))):
        assert one.opcode.dtype == np.int32
    merged = merge([instruction, Instruction.of(Op.FLIP, 3, 1, 0)], np.array([0, 1, 2]))
    assert merged.opcode.dtype == np.int32
    assert merged.opcode.tolist() == [Op.TABLE, Op.FLIP, Op.IDENTITY]


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "kernels").rglob("*.py")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_no_number_is_typed_again(path: Path) -> None:
    """No luma weight, row offset, scale or operand in a backend, but for numbers that mean something else."""
    text = path.read_text()
    numbers = {node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)}
    other = OTHER.get(path.relative_to(PACKAGE / "kernels").as_posix(), set())
    assert not numbers & TYPED - other, "import it from gpuaug.instructions"
    assert not re.findall(
        r"operand\((?:instruction, )?\d|operands?\[(?:\w+, |\.\.\., )?\d|\bm\[\d",
        text.replace(ORDER, "").replace("group.operands[0", ""),
    )


def test_triton_tells_a_new_opcode_from_a_feature() -> None:
    """What a launch leaves out, for an instruction that could run opcode 31 and a bicubic warp."""
    pytest.importorskip("triton", reason="Triton is not installed")
    from gpuaug.kernels.triton.runtime.plan import runs

    new = MOST_OPCODES - 1
    (run,) = runs((frozenset({Op.IDENTITY, Op.WARP, Feature.BICUBIC, new}),), 3)
    assert run.mask == bits([Op.WARP, Feature.BICUBIC, new])
    assert run.mask >> new & 1
    assert not run.mask & bits([Feature.BILINEAR])
    assert run.tile == "bicubic"
