"""A form that was filled in over what is no longer so, put upon what is: a merge, field by field.

What the editor had touched stays as she typed it. What she had not touched shows what the other
person made of it, so that saving again puts nobody's work back by accident. Rows within follow
the same rule, known by what they are about (a reason, a provider) and not by their number: those
that the other added are there, those that the other took out and she had not touched are gone.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from django.forms import CheckboxInput, ModelChoiceField, ModelMultipleChoiceField
from django.http import HttpRequest, QueryDict

from fallback import configuration
from fallback.admin.asking import whole
from fallback.admin.seen import Seen, document_now
from fallback.configuration import STEPS, WHAT_COUNTS, Section, is_same
from fallback.models import ConfigChange

SEEN: Final = "seen_as"
_ABOUT: Final = {WHAT_COUNTS: "reason", STEPS: "provider"}
_HIDDEN: Final = {"id", "route", "policy", "DELETE"}
Row = dict[str, list[str]]  # what was posted of one row within, by the names of its fields


def rebase(page: Any, request: HttpRequest, object_id: str | None) -> None:
    """Put what was posted upon the row as it is now, if it is another than the editor saw."""
    row = page.get_object(request, object_id) if object_id else None
    section = configuration.section_of(type(row)) if row else None
    seen = Seen.parsed(request.POST.get(SEEN, ""))
    if row is None or section is None or not seen.is_outdated(Seen.now(row)):
        return
    key = section.key_of(row)
    change = ConfigChange.objects.filter(pk=seen.change).first()
    before = change.configuration[section.name].get(key) if change else None
    if before is None:
        return
    now = document_now()[section.name][key]
    posted = request.POST.copy()
    form = page.get_form(request, row, change=True)(instance=row)
    _values(posted, "", form.fields, before, now)
    for formset_class, inline in page.get_formsets_with_inlines(request, row):
        formset = formset_class(instance=row, queryset=inline.get_queryset(request))
        _Inline(section, formset, posted, before, now).rebase()
    request.POST = posted  # type: ignore[assignment]


def _values(
    posted: QueryDict, prefix: str, fields: Mapping[str, Any], before: Any, now: Any
) -> bool:
    """Give each field that was not touched its value of now; return whether any was touched."""
    is_touched = False
    for name, field in fields.items():
        if name not in before or name not in now:
            continue
        value = field.widget.value_from_datadict(posted, {}, prefix + name)
        if field.has_changed(_initial(field, before[name]), value):
            is_touched = True
        elif not is_same(before[name], now[name]):
            posted.setlist(prefix + name, _as_posted(field, now[name]))
    return is_touched


def _initial(field: Any, value: Any) -> Any:
    """Return a value of the document as the form has it: other rows by their numbers."""
    if isinstance(field, ModelMultipleChoiceField):
        return _numbers(field, value)
    if isinstance(field, ModelChoiceField):
        return next(iter(_numbers(field, [value])), None)
    return value


def _numbers(field: Any, names: list[str]) -> list[Any]:
    section = configuration.section_of(field.queryset.model)
    return [row.pk for row in field.queryset if section and section.key_of(row) in names]


def _as_posted(field: Any, value: Any) -> list[str]:
    if isinstance(field.widget, CheckboxInput):
        return ["on"] if value else []
    initial = _initial(field, value)
    if isinstance(initial, list) and isinstance(field, ModelMultipleChoiceField):
        return [str(number) for number in initial]
    shown = field.prepare_value(initial)
    return ["" if shown is None else str(shown)]


class _Inline:
    """The rows within, as they were posted, put upon those that there are."""

    def __init__(
        self, section: Section, formset: Any, posted: QueryDict, before: Any, now: Any
    ) -> None:
        self._formset, self._posted, self._prefix = formset, posted, formset.prefix
        self._about = _ABOUT[section.nested]
        self._before, self._now = (_rows_of(one[section.nested]) for one in (before, now))

    def rebase(self) -> None:
        """Replace what was posted of these rows."""
        hers = dict(self._hers())
        order = self._order(hers)
        rows = []
        for form in self._formset.initial_forms:
            about = self._key(form.initial[self._about])
            row = self._merged(form, about, hers.pop(about, {}), "position" in form.fields)
            rows.append((about, row | {"id": [str(form.instance.pk)]}))
        for form in self._formset.extra_forms:
            if self._about in form.initial:  # a reason that has no row yet
                about = self._key(form.initial[self._about])
                rows.append((about, hers.pop(about, {}) or _shown(form)))
        initial = len(self._formset.initial_forms)
        rows += [(about, row) for about, row in hers.items() if self._is_kept(about, row)]
        self._write(rows, initial, order)

    def _hers(self) -> Iterator[tuple[str, Row]]:
        """Yield (what it is about, its values) of each row that was posted."""
        missing = (one for one in map(str, self._choices()) if one not in self._before)
        for index in range(
            min(whole(self._posted.get(f"{self._prefix}-TOTAL_FORMS", "")) or 0, 1000)
        ):
            start = f"{self._prefix}-{index}-"
            row = {
                name.removeprefix(start): values
                for name, values in self._posted.lists()
                if name.startswith(start)
            }
            if self._about in row:
                about = self._key(row[self._about][0])
            elif number := row.get("id", [""])[0]:
                about = self._key(self._once_about(number))
            else:
                about = next(missing, "")
            if about:
                yield about, {name: row[name] for name in row if name not in {"id"}}

    def _once_about(self, number: str) -> Any:
        """Return what a row was about that may be gone."""
        history = self._formset.model.history
        kept = history.filter(id=whole(number) or 0).order_by("-history_id")
        return next((getattr(one, self._about) for one in kept[:1]), "")

    def _choices(self) -> list[str]:
        field = self._formset.empty_form.fields[self._about]
        choices = [] if isinstance(field, ModelChoiceField) else field.choices
        return [value for value, _ in choices if value]

    def _key(self, value: Any) -> str:
        """Return what a row is about as the document names it: a provider by its slug."""
        field = self._formset.empty_form.fields[self._about]
        if not isinstance(field, ModelChoiceField):
            return str(value)
        number = whole(str(getattr(value, "pk", value)))
        rows: Any = field.queryset
        found = rows.filter(pk=number or 0).first()
        return found.slug if found else ""

    def _merged(self, form: Any, about: str, row: Row, has_position: bool) -> Row:
        shown = _shown(form)
        if not row:
            return shown  # the other added it
        data = QueryDict(mutable=True)
        for name, values in row.items():
            data.setlist(name, values)
        before = self._before.get(about, {})
        _values(data, "", form.fields, before, self._now.get(about, {}))
        kept = {name: values for name, values in data.lists() if name in form.fields}
        return shown | kept | ({"DELETE": row["DELETE"]} if "DELETE" in row else {})

    def _is_kept(self, about: str, row: Row) -> bool:
        """Whether a row that is there no more is to be made again: hers alone, or touched."""
        if "DELETE" in row:
            return False
        if about not in self._before:
            return True
        data = QueryDict(mutable=True)
        for name, values in row.items():
            data.setlist(name, values)
        fields = self._formset.empty_form.fields
        return _values(data, "", fields, self._before[about], self._before[about])

    def _order(self, hers: Mapping[str, Row]) -> list[str]:
        """Return the order of the rows: hers if she moved any, else the other's."""
        sorted_ = sorted(hers, key=lambda about: _position(hers[about]))
        known = [about for about in sorted_ if about in self._before]
        seen = [about for about in self._before if about in hers]
        return sorted_ if known != seen else [*self._now, *sorted_]

    def _write(self, rows: list[tuple[str, Row]], initial: int, order: list[str]) -> None:
        for name in [name for name in self._posted if name.startswith(f"{self._prefix}-")]:
            if name.removeprefix(f"{self._prefix}-").split("-")[0].isdecimal():
                del self._posted[name]
        places = list(dict.fromkeys([*order, *(about for about, _ in rows)]))
        for index, (about, row) in enumerate(rows):
            for name, values in row.items():
                self._posted.setlist(f"{self._prefix}-{index}-{name}", values)
            if "position" in row:
                self._posted[f"{self._prefix}-{index}-position"] = str(places.index(about) + 1)
        self._posted[f"{self._prefix}-TOTAL_FORMS"] = str(len(rows))
        self._posted[f"{self._prefix}-INITIAL_FORMS"] = str(initial)


def _rows_of(nested: Any) -> dict[str, Any]:
    """Return the rows within an entry by what they are about, in their order."""
    if isinstance(nested, dict):
        return nested
    return {step["provider"]: {"settings": step["settings"]} for step in nested}


def _shown(form: Any) -> Row:
    """Return what a browser would post of a form that nobody touched."""
    return {
        name: _as_posted_now(field, form.get_initial_for_field(field, name))
        for name, field in form.fields.items()
        if name not in _HIDDEN
    }


def _as_posted_now(field: Any, value: Any) -> list[str]:
    if isinstance(field.widget, CheckboxInput):
        return ["on"] if value else []
    shown = field.prepare_value(value)
    return ["" if shown is None else str(shown)]


def _position(row: Row) -> int:
    text = row.get("position", [""])[0]
    number = whole(text)
    return 10**6 if number is None else number
