"""Wrong values quoted in errors."""

import difflib
from collections.abc import Iterable

from fallback.texts import clean

__all__ = ["clean", "did_you_mean", "shown"]


def shown(value: object) -> str:
    """Quote a wrong value in an error text, short enough to read and harmless to log."""
    if isinstance(value, str):
        return f'"{clean(value, 40)}"' + ("…" if len(value) > 40 else "")
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, int) and value.bit_length() > 64:
        return "a number of more than 64 bits"
    return str(value)


def did_you_mean(word: object, right: Iterable[str]) -> str:
    """Return ", did you mean x?" where one of `right` is near, else nothing."""
    near = difflib.get_close_matches(str(word)[:64], list(right), n=1) if word else []
    return f"; did you mean {near[0]}?" if near else ""
