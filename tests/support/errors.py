"""The form that every error of ours has."""

from __future__ import annotations

import re

# who: `argument` must be what, got value. Remedy.
FORM = re.compile(r"^[A-Z]\w*(\.\w+)?: `\w+` must be .+, got [\s\S]+?\.( [A-Z][\s\S]*\.)?$")
