"""The configuration as it is: one document of natural keys, in a stable order.

Lists of names are sorted but where order means something (a route's steps, languages, mentions);
the keys of JSON settings are sorted, as PostgreSQL keeps none of their order.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from django.db import models

from fallback.configuration.sections import FORMAT, RULE_COLUMNS, SECTIONS, STEPS, Section
from fallback.models import PolicyReason, RouteStep

Document = dict[str, Any]
Names = dict[type[models.Model], dict[Any, str]]


def build() -> Document:
    """Read the whole configuration, in ten queries however large it is."""
    names: Names = {}
    document: Document = {"format": FORMAT}
    for section in SECTIONS:
        document[section.name] = _entries(section, names)
    return document


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same as JSON: `1`, `1.0` and `true` are three values."""
    return canonical(one) == canonical(other)


def canonical(value: Any) -> str:
    """Return a value as the one text that equal values have."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def in_order(value: Any) -> Any:
    """Return a JSON value with the keys of its objects sorted."""
    if isinstance(value, dict):
        return {key: in_order(value[key]) for key in sorted(value)}
    return [in_order(item) for item in value] if isinstance(value, list) else value


def _entries(section: Section, names: Names) -> dict[str, Any]:
    rows = list(section.model._default_manager.order_by("pk").values())
    known = names[section.model] = {
        row["id"]: "/".join(str(row[column]) for column in section.key) for row in rows
    }
    more = _nested(section, names)
    links = {field.name: _linked(field, names) for field in section.links}
    entries = {}
    for row in rows:
        entry = {field.name: _plain(field, row, names) for field in section.columns}
        entry |= {name: sorted(found[row["id"]]) for name, found in links.items()}
        if section.nested:
            entry[section.nested] = more(row)
        entries[known[row["id"]]] = entry
    return {key: entries[key] for key in sorted(entries)}


def _plain(field: Any, row: Mapping[str, Any], names: Names) -> Any:
    value = row[field.attname]
    if field.is_relation:
        return names[field.related_model].get(value)
    return in_order(value)


def _linked(field: Any, names: Names) -> Mapping[Any, list[str]]:
    """Return the names that a many-to-many field holds, by the row that holds them."""
    found: defaultdict[Any, list[str]] = defaultdict(list)
    ours, theirs = f"{field.m2m_field_name()}_id", f"{field.m2m_reverse_field_name()}_id"
    for row_id, other_id in field.remote_field.through.objects.values_list(ours, theirs):
        if other_id in names[field.related_model]:  # else added since those were read
            found[row_id].append(names[field.related_model][other_id])
    return found


def _nested(section: Section, names: Names) -> Any:
    """Return how to find the rows within a row: what counts of a policy, steps of a route."""
    if section.nested == STEPS:
        chains = _chains(names)
        return lambda row: chains[row["id"]]
    rules: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
    if section.nested:
        columns = [field.name for field in RULE_COLUMNS]
        rows = PolicyReason.objects.order_by("reason")
        for policy_id, reason, *rule in rows.values_list("policy_id", "reason", *columns):
            rules[policy_id][reason] = dict(zip(columns, rule, strict=True))
    return lambda row: rules[row["id"]]


def _chains(names: Names) -> Mapping[Any, list[dict[str, Any]]]:
    """Return the steps by route; a provider is named by its slug, its kind being the route's."""
    chains: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
    rows = RouteStep.objects.order_by("route_id", "position", "id")
    for route_id, provider, settings in rows.values_list("route_id", "provider__slug", "settings"):
        chains[route_id].append({"provider": provider, "settings": in_order(settings)})
    return chains
