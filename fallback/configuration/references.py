"""Whether everything that a whole configuration names is in it."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from fallback.configuration.document import Document
from fallback.configuration.sections import BY_MODEL, SECTIONS, STEPS, Section
from fallback.errors import Problem


def reference_problems(document: Document) -> Iterator[Problem]:
    """Yield each name that means nothing, with its path and what may have been meant."""
    for section in SECTIONS:
        for key, entry in document[section.name].items():
            path = f"{section.name}.{key}"
            for field, names in _names(section, entry):
                other = BY_MODEL[field.related_model]
                for place, name in names:
                    if name not in document[other.name]:
                        hint = meant(name, document[other.name])
                        detail = f"There is no {other.noun} “{name[:80]}”{hint}."
                        yield Problem(f"{path}.{place}", detail)
            for index, step in enumerate(entry[STEPS] if section.nested == STEPS else []):
                yield from _step(document, f"{path}.{STEPS}[{index}]", entry["kind"], step)


def meant(name: str, known: Iterable[str]) -> str:
    """Return what somebody may have meant: the nearest name, or all where they are few."""
    names = sorted(known)
    near = difflib.get_close_matches(name[:200], names, n=1)
    if near:
        return f"; did you mean “{near[0]}”?"
    return f" (there is {', '.join(names)})" if 0 < len(names) <= 12 else ""


def _names(section: Section, entry: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield each field that names other entries, with (place, name) of each name."""
    for field in section.columns:
        if field.is_relation and entry[field.name] is not None:
            yield field, [(field.name, entry[field.name])]
    for field in section.links:
        yield field, [(f"{field.name}[{at}]", name) for at, name in enumerate(entry[field.name])]


def _step(document: Document, path: str, kind: str, step: dict[str, str]) -> Iterator[Problem]:
    slug = step["provider"]
    if f"{kind}/{slug}" in document["providers"]:
        return
    names = [name.partition("/") for name in document["providers"]]
    hint = meant(slug, [other for of, _, other in names if of == kind])
    detail = f"There is no provider “{slug[:80]}” of kind {kind[:10]}{hint}."
    yield Problem(f"{path}.provider", detail)
