"""The table of docs/dialects.md is what the converters say."""

from __future__ import annotations

import pytest

from tests.support.dialects import PIPELINES, result, table, written


def test_the_table_is_what_the_converters_say() -> None:
    """`python -m tests.support.dialects --write` has been run."""
    for library in ("timm", "kornia", "albumentations"):
        pytest.importorskip(library)
    assert written() == table()


def test_there_are_twenty_pipelines_of_four_libraries() -> None:
    assert len(PIPELINES) >= 20
    assert {pipeline.library for pipeline in PIPELINES} == {"torchvision", "timm", "Kornia", "Albumentations"}


def test_most_are_converted_and_each_refusal_says_what_to_do() -> None:
    pytest.importorskip("kornia")
    pytest.importorskip("albumentations")
    found = [result(pipeline) for pipeline in PIPELINES]
    refused = [why for what, why in found if what == "refused"]
    assert len(refused) < len(found) / 4
    assert all("use " in why or "erase in" in why for why in refused)
