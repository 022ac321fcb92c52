"""Changing a configured row: why is asked for, and nobody's work is overwritten unseen.

A form carries what its editor saw. If the row, or a row within it, is another one when she saves,
she is told who changed what and when, with her own input still in the form: saving once more is
then on purpose. Check and save are one transaction that holds the configuration's lock, so of two
who press the button at once the second is told as well.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.contrib.admin.actions import delete_selected
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from fallback import changes
from fallback.admin.rebasing import rebase
from fallback.admin.seen import Seen, change_url, changes_of, changes_url, deleter
from fallback.admin.words import moment, who_and_where
from fallback.configuration import is_same

REASON: Final = "change_reason"
SEEN: Final = "seen_as"
REASON_MAX: Final = 300
OURS: Final = {REASON, SEEN}
TOLD: Final = 5


class Reason(forms.CharField):
    """Why a change is made."""

    def __init__(self) -> None:
        super().__init__(
            max_length=REASON_MAX,
            label="Reason for this change",
            widget=forms.TextInput(attrs={"class": "vLargeTextField", "autocomplete": "off"}),
            help_text="Why, in a few words: it stays in the history of the configuration.",
        )


class SeenAs(forms.CharField):
    """What the editor saw; shown anew each time, so that what she was told of counts as seen."""

    def __init__(self) -> None:
        super().__init__(required=False, max_length=100, widget=forms.HiddenInput)

    def bound_data(self, data: Any, initial: Any) -> Any:
        return initial


class ReasonedForm(forms.ModelForm):  # type: ignore[type-arg]  # not at run time
    """What every form of a configured row has besides its own fields."""

    request: HttpRequest

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields[REASON].label = "Reason for this change"  # some forms name all their fields
        self.now = Seen.now(self.instance) if self.instance.pk else None
        self.fields[SEEN].initial = str(self.now or "")

    def clean(self) -> Any:
        cleaned = super().clean()
        if self.now:
            seen = Seen.parsed(self.cleaned_data.get(SEEN, ""))
            if seen.is_outdated(self.now):
                self.add_error(None, ValidationError(what_happened(self.instance, seen)))
        if refused := getattr(self.request, "refused_by_database", ""):
            self.add_error(None, f"The database refused this, and nothing was changed: {refused}")
        return cleaned


class Changes:
    """A model's pages on which a reason is asked for; comes before Django's own in the bases."""

    form: Any
    model: Any
    delete_confirmation_template = "admin/fallback/delete_confirmation.html"
    delete_selected_confirmation_template = "admin/fallback/delete_selected_confirmation.html"
    object_history_template = "admin/fallback/history.html"

    # --- the form

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        page: Any = super()
        if may_save(self, request, obj):
            form = kwargs.get("form") or self.form
            own = {REASON: Reason(), SEEN: SeenAs(), "request": request}
            kwargs["form"] = type(form.__name__, (ReasonedForm, form), own)
        return page.get_form(request, obj, change, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        page: Any = super()
        fieldsets = page.get_fieldsets(request, obj)
        if not may_save(self, request, obj):
            return fieldsets
        return [*without_ours(fieldsets), ("Why", {"fields": [REASON, SEEN]})]

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        page: Any = super()
        if request.method != "POST":
            shown: HttpResponse = page.changeform_view(request, object_id, form_url, extra_context)
            return shown

        def save() -> HttpResponse:
            rebase(self, request, object_id)
            done: HttpResponse = page.changeform_view(request, object_id, form_url, extra_context)
            return done

        try:
            return told_if_nothing(request, save)
        except IntegrityError as error:
            request.refused_by_database = str(error)  # type: ignore[attr-defined] # our form's
            return told_if_nothing(request, save)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change and is_as_stored(obj):
            return
        page: Any = super()
        page.save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        page: Any = super()
        page.save_related(request, form, formsets, change)
        request.went_through = True  # type: ignore[attr-defined] # a note of ours

    # --- deleting

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        page: Any = super()

        def delete() -> HttpResponse:
            context = deletion(request, page.get_object(request, unquote(object_id)))
            if request.POST and context["errors"]:
                request.POST = QueryDict()  # so it asks again
            merged = {**(extra_context or {}), **context}
            shown: HttpResponse = page.delete_view(request, object_id, merged)
            return shown

        if request.method != "POST":
            return delete()
        with made_by(request):
            return rendered(delete())

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        page: Any = super()
        with made_by(request):
            page.delete_queryset(request, queryset)

    def get_actions(self, request: HttpRequest) -> Any:
        page: Any = super()
        actions = page.get_actions(request)
        if "delete_selected" in actions:
            _, name, description = actions["delete_selected"]
            actions["delete_selected"] = (delete_with_reason, name, description)
        return actions

    # --- what was

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        page: Any = super()
        row = page.get_object(request, unquote(object_id))
        if row is None:
            return self._get_obj_does_not_exist_redirect(request, self.model._meta, object_id)
        of_row = {"changes": changes_of(row)[:20], "changes_url": changes_url(row)}
        shown: HttpResponse = page.history_view(
            request, object_id, {**(extra_context or {}), **of_row}
        )
        return shown

    def history_form_view(
        self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Lead to the changes: an earlier row alone, without the rows within it, is no way back."""
        page: Any = super()
        row = page.get_object(request, unquote(object_id))
        if not page.has_view_or_change_permission(request, row):
            raise PermissionDenied
        return HttpResponseRedirect(changes_url(row))

    def _get_obj_does_not_exist_redirect(
        self, request: HttpRequest, opts: Any, object_id: str
    ) -> HttpResponse:
        page: Any = super()
        if last := deleter(opts.model, unquote(object_id)):
            text = 'Not saved. {} has deleted it, {}: <a href="{}">change {}</a> can be undone.'
            who, when = who_and_where(last.author)[0], moment(last.at)
            messages.error(request, format_html(text, who, when, change_url(last), last))
        shown: HttpResponse = page._get_obj_does_not_exist_redirect(request, opts, object_id)
        return shown


def is_as_stored(row: models.Model) -> bool:
    """Whether a row is what the database has: `changed_data` compares with what a page held."""
    stored = type(row)._default_manager.get(pk=row.pk)
    return all(
        is_same(str(one), str(other)) if not isinstance(one, dict | list) else is_same(one, other)
        for field in row._meta.concrete_fields
        if field.editable
        for one, other in [(field.value_from_object(row), field.value_from_object(stored))]
    )


def may_save(page: Any, request: HttpRequest, row: Any) -> bool:
    """Whether a form is one to be saved: one who may only look is asked for nothing."""
    if row is None:
        return bool(page.has_add_permission(request))
    return bool(page.has_change_permission(request, row))


def without_ours(fieldsets: Any) -> list[Any]:
    """Return fieldsets without our fields, which Django lists too where a page names none."""
    kept = []
    for name, options in fieldsets:
        fields = [field for field in options["fields"] if field not in (REASON, SEEN)]
        kept.append((name, {**options, "fields": fields}))
    return kept


def actor(request: HttpRequest) -> str:
    """Return who acts, as histories name it: `admin:ana`."""
    return f"admin:{request.user.get_username()}"


def made_by(request: HttpRequest) -> Any:
    """Return the change that a request makes."""
    reason = request.POST.get(REASON, "").strip()[:REASON_MAX]
    return changes.made_by(actor(request), reason, request.user)


def told_if_nothing(request: HttpRequest, save: Callable[[], HttpResponse]) -> HttpResponse:
    """Save, as one change; say so where nothing was different."""
    with made_by(request) as making:
        done = rendered(save())
    if hasattr(request, "went_through") and making.change is None:
        messages.info(request, "Nothing was different from before, so nothing was changed.")
    return done


def rendered(page: HttpResponse) -> HttpResponse:
    """Have a page be written now, while everything is as it was judged."""
    if isinstance(page, TemplateResponse):
        page.render()
    return page


def delete_with_reason(page: Any, request: HttpRequest, queryset: Any) -> Any:
    """Delete the selected rows; ask again where no reason was given."""
    if request.POST.get("post") and not request.POST.get(REASON, "").strip():
        messages.error(request, "Not deleted: give a reason.")
        again = request.POST.copy()
        del again["post"]
        request.POST = again  # type: ignore[assignment]
    return delete_selected(page, request, queryset)


def deletion(request: HttpRequest, row: models.Model | None) -> dict[str, Any]:
    """Return what the page that asks before a row is deleted shows, and what is wrong."""
    if row is None:
        return {"errors": []}
    now, reason = Seen.now(row), request.POST.get(REASON, "").strip()
    errors: list[Any] = []
    if request.method == "POST":
        seen = Seen.parsed(request.POST.get(SEEN, ""))
        if not reason:
            errors.append("Not deleted: give a reason.")
        if seen.is_outdated(now):
            errors.append(what_happened(row, seen))
    return {"errors": errors, "seen": now, "reason": reason, "reason_max": REASON_MAX}


def what_happened(row: models.Model, seen: Seen) -> SafeString:
    """Return who changed a row since it was seen, when, why and what: nothing is saved yet."""
    since = list(changes_of(row).filter(pk__gt=seen.change)[:TOLD])
    lines = format_html_join("", "<li>{}</li>", ((_told(change, row),) for change in since))
    return format_html(
        "Not saved: this was changed while you were editing it.<ul>{}</ul>Your own input is still"
        " in the form, and what you had not touched is as it is now. Look it over and save again,"
        " or leave the page to keep theirs.",
        lines or format_html("<li>{}</li>", "by somebody who left no record"),
    )


def _told(change: Any, row: models.Model) -> SafeString:
    what: Sequence[str] = Seen.differences(change, row)
    items = format_html_join("", "<li>{}</li>", ((line,) for line in what))
    return format_html(
        '<a href="{}">{}</a>: {}, {}{}<ul>{}</ul>',
        change_url(change), change, who_and_where(change.author)[0], moment(change.at),
        f": “{change.reason}”" if change.reason else "", items,
    )  # fmt: skip
