"""The writes that turn one configuration into another, in an order in which they can work.

What is referred to is written before what refers to it, and steps leave a chain before anything
else happens: so one document can switch a provider off and take it out of its chain. A value that
must be unique and is being moved from one row to another is parked first.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction

from fallback.configuration.document import Document, is_same
from fallback.configuration.sections import BY_MODEL, SECTIONS, STEPS, WHAT_COUNTS, Section
from fallback.errors import Problem
from fallback.models import Policy, PolicyReason, Provider, Route, RouteStep, rules_of
from fallback.models.route import chain_problems, step_problem


class Writer:
    """Writes one document over another, of which every name is known to mean something.

    Must run inside a transaction, which the caller takes back if there were problems.
    """

    def __init__(self, now: Document, target: Document) -> None:
        self._now, self._target = now, target
        self._problems: list[Problem] = []
        self._rows: dict[str, dict[str, Any]] = {}

    def write(self) -> list[Problem]:
        """Write what differs; return every problem that was found."""
        for section in SECTIONS:
            rows = section.model._default_manager.all()
            self._rows[section.name] = {section.key_of(row): row for row in rows}
        self._shorten_chains()
        for section in SECTIONS:
            self._park(section)
            for key, entry in self._target[section.name].items():
                if not is_same(self._now[section.name].get(key), entry):
                    self._write_entry(section, key, entry)
        if not self._problems:
            self._delete()
        return self._problems

    def _differs(self, section: str, key: str, field: str) -> bool:
        now, target = (one[section].get(key, {}) for one in (self._now, self._target))
        return (field in now) != (field in target) or not is_same(now.get(field), target.get(field))

    # --- before: what would be in the way

    def _shorten_chains(self) -> None:
        """Take steps out of the chains that no longer have them."""
        for key, entry in self._now["routes"].items():
            target = self._target["routes"].get(key, {STEPS: []})
            stay = {step["provider"] for step in target[STEPS]}
            if target.get("kind") != entry["kind"]:
                stay = set()
            gone = {step["provider"] for step in entry[STEPS]} - stay
            if gone:  # the chain is judged as a whole when it is written
                self._rows["routes"][key].steps.filter(provider__slug__in=gone).delete()

    def _park(self, section: Section) -> None:
        """Free unique values of rows that will get another: two rows may be swapping them."""
        unique = [field for field in section.columns if field.unique]
        for key, row in self._rows[section.name].items():
            for field in unique:
                if self._differs(section.name, key, field.name):
                    parked = {field.name: f"parked {row.pk}"}
                    type(row)._default_manager.filter(pk=row.pk).update(**parked)

    # --- an entry

    def _write_entry(self, section: Section, key: str, entry: Mapping[str, Any]) -> None:
        path = f"{section.name}.{key}"
        row = self._rows[section.name].get(key) or _new_row(section, key)
        if not self._assign(section, row, entry):
            return
        if section.nested == WHAT_COUNTS:
            row.rules_to_be_saved = _rules(entry[WHAT_COUNTS])
        elif section.nested == STEPS:
            row.steps_to_be_saved = ()
        if not self._is_clean(row, path):
            return
        if self._has_changed(section, row, key) and not self._is_saved(row, path):
            return
        self._rows[section.name][key] = row
        self._write_inner(section, row, key, entry)

    def _assign(self, section: Section, row: Any, entry: Mapping[str, Any]) -> bool:
        """Put the values of an entry on its row; False if it needs a row that was refused."""
        for field in section.columns:
            value = entry[field.name]
            if field.is_relation and value is not None:
                value = self._rows[BY_MODEL[field.related_model].name].get(value)
                if value is None:
                    return False
            setattr(row, field.name, value)
        return True

    def _has_changed(self, section: Section, row: Any, key: str) -> bool:
        """Whether a row, with its values as its model has put them, must be written."""
        now = self._now[section.name].get(key)
        if now is None:
            return True
        return any(
            self._differs(section.name, key, field.name)
            if field.is_relation
            else not is_same(now[field.name], getattr(row, field.name))
            for field in section.columns
        )

    def _write_inner(self, section: Section, row: Any, key: str, entry: Mapping[str, Any]) -> None:
        path = f"{section.name}.{key}"
        if section.nested == WHAT_COUNTS:
            self._write_rules(row, entry[WHAT_COUNTS], f"{path}.{WHAT_COUNTS}")
        elif section.nested == STEPS:
            self._write_chain(row, entry[STEPS], f"{path}.{STEPS}")
        for field in section.links:
            if self._differs(section.name, key, field.name):
                rows = self._rows[BY_MODEL[field.related_model].name]
                linked = [rows[name] for name in entry[field.name] if name in rows]
                getattr(row, field.name).set(linked)

    def _is_clean(self, row: Any, path: str) -> bool:
        try:
            row.full_clean()
        except ValidationError as error:
            self._problems += _as_problems(error, type(row), path)
            return False
        return True

    def _is_saved(self, row: Any, path: str) -> bool:
        try:
            with transaction.atomic():
                row.save()
        except IntegrityError as error:
            self._problems.append(Problem(path, f"The database refused it: {error}"))
            return False
        return True

    def _save(self, row: Any, values: Mapping[str, Any], path: str) -> None:
        """Check and save a row within another, if any of its values is not what it was."""
        if row.pk and all(is_same(getattr(row, name), value) for name, value in values.items()):
            return
        for name, value in values.items():
            setattr(row, name, value)
        if self._is_clean(row, path):
            self._is_saved(row, path)

    # --- the rows within

    def _write_rules(self, policy: Policy, rules: Mapping[str, Any], path: str) -> None:
        if why := policy.why_it_never_trips(_rules(rules)):
            self._problems.append(Problem(path, why))
            return
        rows = {row.reason: row for row in policy.reasons.all()}
        for reason in rows.keys() - rules.keys():
            rows[reason].delete()
        for reason, rule in rules.items():
            row = rows.get(reason) or PolicyReason(policy=policy, reason=reason)
            self._save(row, rule, f"{path}.{reason}")

    def _write_chain(self, route: Route, steps: Sequence[Mapping[str, Any]], path: str) -> None:
        found = self._rows["providers"]
        keys = [f"{route.kind}/{step['provider']}" for step in steps]
        providers: list[Provider] = [found[key] for key in keys if key in found]
        if len(providers) < len(steps):
            return  # one of them was refused, and that is told
        wrong = _chain_problems(route, providers, path)
        self._problems += wrong
        rows = {row.provider_id: row for row in route.steps.all()}
        is_moved = list(rows) != [provider.pk for provider in providers]
        for index, (step, provider) in enumerate(zip(steps, providers, strict=True)):
            if wrong:
                break
            row = rows.get(provider.pk) or RouteStep(route=route, provider=provider)
            position = index + 1 if is_moved else row.position
            values = {"position": position, "settings": step["settings"]}
            self._save(row, values, f"{path}[{index}]")

    # --- after: what nothing needs any more

    def _delete(self) -> None:
        for section in reversed(SECTIONS):
            for key in self._now[section.name].keys() - self._target[section.name].keys():
                try:
                    self._rows[section.name][key].delete()
                except (models.ProtectedError, models.RestrictedError) as error:
                    what = f"It cannot be deleted: {error.args[0]}"
                    self._problems.append(Problem(f"{section.name}.{key}", what))


def _new_row(section: Section, key: str) -> Any:
    parts = [key] if len(section.key) == 1 else key.split("/")
    return section.model(**dict(zip(section.key, parts, strict=True)))


def _rules(rules: Mapping[str, Any]) -> Any:
    """Return what counts as the policy's own check reads it."""
    return rules_of(PolicyReason(reason=reason, **rule) for reason, rule in rules.items())


def _chain_problems(route: Route, providers: Sequence[Provider], path: str) -> list[Problem]:
    """Return what is wrong with a chain: of a step at its place, of the whole at the chain's."""
    told = []
    for index, provider in enumerate(providers):
        if why := step_problem(route.kind, provider):
            told.append(Problem(f"{path}[{index}].provider", why))
    details = {problem.detail for problem in told}
    rest = [one for one in chain_problems(route.kind, providers) if one not in details]
    return told + [Problem(path, detail) for detail in rest]


def _as_problems(error: ValidationError, model: Any, path: str) -> Iterator[Problem]:
    section = BY_MODEL.get(model)
    fields = section.fields if section else ("weight", "trips_at_once", "open_duration_s")
    for name, messages in error.message_dict.items():
        is_a_value = name in (*fields, "settings")
        for message in messages:
            yield Problem(f"{path}.{name}" if is_a_value else path, message)
