"""The form that every error of ours has."""

from __future__ import annotations

import re
from typing import Any

import pytest

__all__ = ["FORM", "assert_form"]

# who: `argument` must be what, got value. Remedy.
FORM = re.compile(r"^[A-Z]\w*(\.\w+)?: `\w+` must be .+, got [\s\S]+?\.( [A-Z][\s\S]*\.)?$")


def assert_form(error: pytest.ExceptionInfo[Any], who: str | None = None, argument: str | None = None) -> None:
    message = str(error.value)
    assert FORM.match(message), message
    assert who is None or message.startswith(f"{who}:"), message
    assert argument is None or f"`{argument}` must be" in message, message
