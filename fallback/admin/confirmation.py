"""What a change brings is said before it is saved, and saved once that was read.

The ordinary save runs first, in its transaction; the configuration it makes is compared with the
one before, and if `fallback.cautions` has something grave to say of it, all of it is rolled back
and the form comes back with what there is to know. So no rule is written twice, for a form and
for the rest.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import ProtectedError, RestrictedError
from django.forms.widgets import CheckboxInput
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from fallback import cautions
from fallback.admin.second_person import held_back, taking_back
from fallback.cautions import Caution

FIELD = "confirmed"


class Unconfirmed(Exception):  # noqa: N818 - no error: a question to be asked
    """Takes a save back whose cautions nobody has read yet."""

    def __init__(self, found: Sequence[Caution]) -> None:
        super().__init__()
        self.found = found


class Confirmation(forms.BooleanField):
    """The box to tick. It is on the page only while it still has to be: so it never passes."""

    def __init__(self, token: str) -> None:
        label = "I have read this: save it"
        widget = CheckboxInput(attrs={"value": token})
        super().__init__(required=False, label=label, widget=widget)

    def bound_data(self, data: Any, initial: Any) -> Any:
        return False  # what was ticked before was about something else

    def clean(self, value: Any) -> Any:
        raise ValidationError(
            "Nothing is saved yet. Read the above, tick this and save again; or change the form."
        )


class AsksFirst:
    """A page that asks before it saves what is allowed and seldom meant; comes first of bases."""

    form: Any
    model: Any

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        page: Any = super()
        if request.method != "POST":
            shown: HttpResponse = page.changeform_view(request, *args, **kwargs)
            return shown
        return held_back(request, lambda: self._asked_first(request, *args, **kwargs))

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        page: Any = super()
        return held_back(request, lambda: page.delete_view(request, *args, **kwargs))

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        page: Any = super()
        return held_back(request, lambda: page.changelist_view(request, *args, **kwargs))

    def _asked_first(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        page: Any = super()
        told = _Asked.on(request)
        told.before = cautions.read()
        unsaid = taking_back(request)
        try:
            done: HttpResponse = page.changeform_view(request, *args, **kwargs)
        except Unconfirmed as question:
            told.found = question.found
            unsaid()
            done = page.changeform_view(request, *args, **kwargs)  # refused by its own field
        return done

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        page: Any = super()
        page.save_related(request, form, formsets, change)
        asked = _Asked.on(request)
        if asked.before is None:
            return
        found = cautions.brought(asked.before, cautions.read())
        grave = [caution for caution in found if caution.is_grave]
        if grave and request.POST.get(FIELD) != token_of(grave):
            raise Unconfirmed(grave)
        for caution in found:
            if not caution.is_grave:
                messages.warning(request, caution.text)

    def get_form(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        page: Any = super()
        if found := _Asked.on(request).found:
            form = kwargs.get("form") or self.form
            field = Confirmation(token_of(found))
            kwargs["form"] = type(form.__name__, (form,), {FIELD: field})
        return page.get_form(request, *args, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        page: Any = super()
        usual = page.get_fieldsets(request, obj)
        found = _Asked.on(request).found
        if not found:
            return usual
        options = {"fields": [FIELD], "classes": ["danger"], "description": listed(found)}
        return [("⚠ Before this is saved", options), *usual]

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Say on the page that asks, first of all, what deleting would bring or why it cannot."""
        page: Any = super()
        rows = list(objs)
        to_delete, counts, missing, protected = page.get_deleted_objects(rows, request)
        refused = [why for row in rows if (why := row.why_it_stays())]
        warned = [format_html("<strong>⚠ {}</strong>", one.text) for one in after_deleting(rows)]
        return [*warned, *to_delete], counts, missing, [*refused, *protected]


class _Asked:
    """What is known of one request: the configuration before it, and what has to be read."""

    def __init__(self) -> None:
        self.before: cautions.Setup | None = None
        self.found: Sequence[Caution] = ()

    @classmethod
    def on(cls, request: Any) -> "_Asked":
        if not hasattr(request, "cautions_asked"):
            request.cautions_asked = cls()
        kept: _Asked = request.cautions_asked
        return kept


def after_deleting(rows: Sequence[Any]) -> list[Caution]:
    """Return what deleting rows would bring: it is done and taken back at once."""
    before = cautions.read()
    with transaction.atomic():
        try:
            for row in rows:
                type(row)._default_manager.get(pk=row.pk).delete()
            found = cautions.brought(before, cautions.read())
        except (ProtectedError, RestrictedError):
            found = []  # it cannot be deleted, and the page says why
        transaction.set_rollback(True)
    return found


def token_of(found: Sequence[Caution]) -> str:
    """Return what stands for having read just these."""
    text = "\n".join(sorted(caution.text for caution in found))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def listed(found: Sequence[Caution]) -> SafeString:
    """Return cautions as a list."""
    items = format_html_join("", "<li>{}</li>", ((caution.text,) for caution in found))
    return format_html('<ul class="cautions">{}</ul>', items)
