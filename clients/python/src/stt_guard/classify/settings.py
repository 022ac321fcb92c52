"""Which of an operator's settings a constructor's error is about, by its name alone."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from stt_guard.classify.reading import chain, read, type_names

LONGEST_TEXT: Final = 2_000  # characters of an error that are searched
SHORTEST_WORD: Final = 3  # of a setting's name that is looked for in a text: "to" is in any
_UNEXPECTED: Final = re.compile(r"unexpected keyword argument '([^']{1,100})'")


def wrong_setting(error: BaseException, settings: Mapping[str, Any]) -> str | None:
    """Return the name of the setting that an error is about, or None if none of them is.

    By what the error says of itself first (a TypeError's keyword, pydantic's places, the name of
    an attribute or a key), then by the first of the names that its text has as a whole word.
    Only ever one of the keys of `settings`: nothing of the error is returned. Never raises.
    """
    for one in chain(error):
        for name in _named(one):
            if name in settings:
                return name
    for one in chain(error):
        found = _mentioned(_text(one), settings)
        if found is not None:
            return found
    return None


def _named(error: BaseException) -> Iterator[str]:
    """Yield the names that the error gives outside of a sentence, or in Python's own."""
    if isinstance(error, TypeError):
        yield from _UNEXPECTED.findall(_text(error))
    if "ValidationError" in type_names(error):
        yield from _places(error)
    found: list[Any] = [read(error, "name")] if isinstance(error, AttributeError) else []
    if isinstance(error, KeyError):
        found += error.args[:1]
    yield from (name for name in found if isinstance(name, str))


def _places(error: BaseException) -> list[str]:
    """Return the fields that pydantic's errors are about; its values and texts are left alone."""
    try:
        errors = read(error, "errors")()
        places = [part for one in errors for part in one["loc"]]
    except Exception:
        return []
    return [part for part in places if isinstance(part, str)]


def _mentioned(text: str, settings: Mapping[str, Any]) -> str | None:
    """Return the setting that a text names first; of two at one place the longer."""
    places: list[tuple[int, int, str]] = []
    for name in settings:
        if len(name) >= SHORTEST_WORD:
            match = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)
            places += [(match.start(), -len(name), name)] if match else []
    return min(places)[2] if places else None


def _text(error: BaseException) -> str:
    """Return what the error says, to be searched for names and for nothing else."""
    try:
        return str(error)[:LONGEST_TEXT]
    except Exception:
        return ""
