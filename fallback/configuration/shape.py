"""Whether what somebody wrote has the shape of a document, and what it leaves out filled in.

Only types and names are judged here; what the values may be is judged by the models.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from django.db import models

from fallback.configuration.document import Document, in_order
from fallback.configuration.references import meant
from fallback.configuration.sections import (
    BY_NAME,
    FORMAT,
    RULE_COLUMNS,
    SECTIONS,
    STEPS,
    WHAT_COUNTS,
    Section,
)
from fallback.domain import Reason
from fallback.errors import Problem

STEP_KEYS: Final = ("provider", "settings")
_NAMES: Final = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list",
    dict: "a mapping", type(None): "nothing (null)",
}  # fmt: skip


def shape_problems(document: Any) -> list[Problem]:
    """Return everything that is wrong with the types and names in a document."""
    if not isinstance(document, dict):
        return [Problem("", f"This is {_a(document)}; a configuration is a mapping of sections.")]
    return list(_problems(document))


def completed(document: Document, now: Document, *, prune: bool) -> Document:
    """Return the whole configuration that a document of good shape asks for.

    What it leaves out stays as it is now, a section and a single value too; with `prune`, the
    entries that a section of it does not name are left out as well. A new entry's missing values
    are the models' defaults.
    """
    whole: Document = {"format": FORMAT}
    for section in SECTIONS:
        old, asked = now[section.name], document.get(section.name)
        kept = old if asked is None or not prune else {}
        entries = {**kept}
        for key, entry in (asked or {}).items():
            entries[key] = _completed(section, entry, old.get(key), prune=prune)
        whole[section.name] = {key: entries[key] for key in sorted(entries)}
    return whole


def missing_problems(document: Document, now: Document) -> Iterator[Problem]:
    """Yield what a new entry would need to say and does not."""
    for section in SECTIONS:
        for key, entry in document.get(section.name, {}).items():
            if key in now[section.name]:
                continue
            for name in required(section):
                if name not in entry:
                    path = f"{section.name}.{key}"
                    yield Problem(path, f"{name} is missing: a new {section.noun} needs one.")


def required(section: Section) -> Iterator[str]:
    """Yield the fields that have no default."""
    for field in section.columns:
        if not (field.has_default() or field.blank or field.null):
            yield field.name
    if section.nested == STEPS:
        yield STEPS


def _completed(section: Section, entry: Any, old: Any, *, prune: bool) -> dict[str, Any]:
    base = old if old is not None else _defaults(section)
    merged = {name: entry.get(name, base.get(name)) for name in section.fields}
    for field in section.columns:
        if isinstance(field, models.FloatField):
            merged[field.name] = float(merged[field.name])
        elif isinstance(merged[field.name], dict):
            merged[field.name] = in_order(merged[field.name])
    for field in section.links:
        merged[field.name] = sorted(merged[field.name])
    if section.nested == WHAT_COUNTS:
        rules = {} if prune and WHAT_COUNTS in entry else base[WHAT_COUNTS]
        merged[WHAT_COUNTS] = _rules(rules, base[WHAT_COUNTS], entry.get(WHAT_COUNTS, {}))
    elif section.nested == STEPS:
        merged[STEPS] = [
            {"provider": step["provider"], "settings": in_order(step.get("settings", {}))}
            for step in merged[STEPS]
        ]
    return merged


def _rules(kept: Mapping[str, Any], old: Mapping[str, Any], asked: Mapping[str, Any]) -> Any:
    rules = {**kept}
    for reason, rule in asked.items():
        base = old.get(reason) or {field.name: field.get_default() for field in RULE_COLUMNS}
        rules[reason] = {**base, **rule}
    return {reason: rules[reason] for reason in sorted(rules)}


def _defaults(section: Section) -> dict[str, Any]:
    found = {field.name: field.get_default() for field in section.columns}
    found |= {field.name: [] for field in section.links}
    return found | {section.nested: {} if section.nested == WHAT_COUNTS else []}


# --- types and names


def _problems(document: Mapping[str, Any]) -> Iterator[Problem]:
    yield from _unknown("", document, ("format", *BY_NAME))
    if document.get("format", FORMAT) != FORMAT:
        yield Problem("format", f"This is no format that is known here: write format: {FORMAT}.")
    for section in SECTIONS:
        entries = document.get(section.name, {})
        if not isinstance(entries, dict):
            yield _is_no(section.name, entries, "a mapping of names; write {} for none")
            continue
        for key, entry in entries.items():
            yield from _entry_problems(section, f"{section.name}.{key}", key, entry)


def _entry_problems(section: Section, path: str, key: str, entry: Any) -> Iterator[Problem]:
    if len(section.key) > 1 and key.count("/") != len(section.key) - 1:
        yield Problem(path, f"Name it {'/'.join(section.key)}, such as {section.like}.")
    if not _is_storable(key):
        yield Problem(f"{section.name}.?", "A name holds a NUL or half of a character pair.")
    if not isinstance(entry, dict):
        yield _is_no(path, entry, "a mapping")
        return
    yield from _unknown(path, entry, section.fields)
    yield from _field_problems(section, path, entry)
    if section.nested == WHAT_COUNTS:
        yield from _rules_problems(f"{path}.{WHAT_COUNTS}", entry.get(WHAT_COUNTS, {}))
    elif section.nested == STEPS:
        yield from _steps_problems(f"{path}.{STEPS}", entry.get(STEPS, []))


def _field_problems(section: Section, path: str, entry: Mapping[str, Any]) -> Iterator[Problem]:
    for field in section.columns:
        if field.name in entry:
            yield from _value_problems(f"{path}.{field.name}", entry[field.name], field)
    for field in section.links:
        yield from _names_problems(f"{path}.{field.name}", entry.get(field.name, []))


def _value_problems(path: str, value: Any, field: Any) -> Iterator[Problem]:
    wanted = _type_of(field)
    if value is None and field.null:
        return
    is_right = isinstance(value, (int, float) if wanted is float else wanted)
    if not is_right or (isinstance(value, bool) and wanted is not bool):
        quote = ": put it in quotes" if wanted is str and not isinstance(value, dict | list) else ""
        yield _is_no(path, value, f"{_NAMES[wanted]}{quote}")
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem(path, "This must be a finite number.")
    elif not _is_storable(value):
        yield Problem(path, "This holds a NUL or half of a character pair, which nothing can keep.")


def _type_of(field: Any) -> type:
    if isinstance(field, models.BooleanField):
        return bool
    if isinstance(field, models.IntegerField):
        return int
    if isinstance(field, models.FloatField):
        return float
    return type(field.get_default()) if isinstance(field, models.JSONField) else str


def _names_problems(path: str, value: Any) -> Iterator[Problem]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        yield _is_no(path, value, "a list of names")
    elif doubled := sorted({name for name in value if value.count(name) > 1}):
        yield Problem(path, f"{', '.join(doubled)} is listed twice: name each once.")


def _rules_problems(path: str, rules: Any) -> Iterator[Problem]:
    if not isinstance(rules, dict):
        yield _is_no(path, rules, "a mapping of reasons")
        return
    yield from _unknown(path, rules, tuple(map(str, Reason)))
    for reason, rule in rules.items():
        if not isinstance(rule, dict):
            yield _is_no(f"{path}.{reason}", rule, "a mapping such as {weight: 1}")
            continue
        yield from _unknown(f"{path}.{reason}", rule, [field.name for field in RULE_COLUMNS])
        for field in RULE_COLUMNS:
            if field.name in rule:
                yield from _value_problems(f"{path}.{reason}.{field.name}", rule[field.name], field)


def _steps_problems(path: str, steps: Any) -> Iterator[Problem]:
    if not isinstance(steps, list):
        yield _is_no(path, steps, "a list of steps such as - provider: soniox")
        return
    for index, step in enumerate(steps):
        inner = f"{path}[{index}]"
        if not isinstance(step, dict) or not isinstance(step.get("provider"), str):
            yield Problem(inner, "A step is a mapping that names its provider: - provider: soniox")
            continue
        yield from _unknown(inner, step, STEP_KEYS)
        settings = step.get("settings", {})
        if not isinstance(settings, dict):
            yield _is_no(f"{inner}.settings", settings, "a mapping")
        elif not _is_storable([step["provider"], settings]):
            yield Problem(inner, "This holds a NUL or half of a character pair.")


def _unknown(path: str, found: Mapping[str, Any], known: Iterable[str]) -> Iterator[Problem]:
    names = list(known)
    for name in found:
        if name not in names:
            where = f"{path}.{name}" if path else name
            yield Problem(where, f"There is no “{name[:80]}” here{meant(name, names)}.")


def _is_no(path: str, value: Any, wanted: str) -> Problem:
    return Problem(path, f"This is {_a(value)}; expected {wanted}.")


def _a(value: Any) -> str:
    return _NAMES.get(type(value), "something else")


def _is_storable(value: Any) -> bool:
    """Whether a database can keep every text in a value."""
    if isinstance(value, str):
        return "\x00" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)
    if isinstance(value, dict):
        return all(_is_storable(key) and _is_storable(item) for key, item in value.items())
    return all(map(_is_storable, value)) if isinstance(value, list) else True
