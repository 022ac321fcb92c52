"""The README names every variable that is read, so that none is known only to its author."""

import re

from django.conf import settings

from controlplane.env import VARIABLES


def documented_variables() -> set[str]:
    """Return the names in the first column of the README's tables, as in | `PORT` | … |."""
    readme = (settings.BASE_DIR / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\|([^|]+)\|", readme, flags=re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([A-Z][A-Z0-9_]+)`", row)}


def test_every_variable_that_is_read_is_in_the_readme():
    assert VARIABLES - documented_variables() == set()
