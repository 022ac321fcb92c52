"""The history of the configuration: who changed what and why, and the two ways back.

Undoing one change keeps whatever was changed since; going back to a point does not. Both show
what they would do before they do it, ask for a reason, and are changes themselves.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from fallback import changes, configuration
from fallback.admin.asking import whole
from fallback.admin.base import HistoryAdmin, admin_url
from fallback.admin.changing import Reason, actor
from fallback.admin.second_person import held_back
from fallback.admin.seen import change_url
from fallback.admin.words import moment, who_and_where
from fallback.changes import Plan
from fallback.configuration import Difference
from fallback.errors import Invalid, Problem
from fallback.models import ChangedEntry, ConfigChange

WAYS: Final = {
    "undo": (
        "Undo this change",
        "What this change did is put back. Whatever was changed since stays as it is.",
        changes.way_without,
        changes.undo,
    ),
    "back": (
        "Back to here",
        "The whole configuration becomes what it was right after this change: everything that"
        " was changed since is taken back, whoever changed it.",
        changes.way_back,
        changes.back_to,
    ),
}
SHOWN_MAX: Final = 400  # lines of a difference on a page
PEOPLE: Final[dict[str, Any]] = {"users": User, "own_accounts": User, "groups": Group}


class WayForm(forms.Form):
    """Why, and what was shown before the button was pressed."""

    change_reason = Reason()
    shown = forms.CharField(widget=forms.HiddenInput, max_length=64)


class WhatWasTouched(admin.SimpleListFilter):
    """A section (`policies`), or one entry of it (`policies.default`)."""

    title = "what was touched"
    parameter_name = "touched"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = ChangedEntry.objects.order_by("section").values_list("section", flat=True)
        found = [(name, name.replace("_", " ")) for name in names.distinct()]
        value = str(self.used_parameters.get(self.parameter_name) or "")
        return [*found, (value, value)] if "." in value else found

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        section, _, key = (self.value() or "").partition(".")
        if not section:
            return queryset
        entries = ChangedEntry.objects.filter(section=section, **({"key": key} if key else {}))
        return queryset.filter(pk__in=entries.values("change"))


@admin.register(ConfigChange)
class ConfigChangeAdmin(HistoryAdmin):
    """Every change of the configuration."""

    change_form_template = "admin/fallback/configchange/change_form.html"
    list_display = ["number", "when", "who", "what", "why"]
    list_display_links = ["number", "what"]
    list_filter = [WhatWasTouched, "author"]
    search_fields = ["author", "reason", "summary"]
    date_hierarchy = "at"

    @admin.display(description="change", ordering="pk")
    def number(self, row: ConfigChange) -> str:
        return str(row)

    @admin.display(description="at", ordering="at")
    def when(self, row: ConfigChange) -> SafeString | str:
        return moment(row.at)

    @admin.display(description="who", ordering="author")
    def who(self, row: ConfigChange) -> str:
        name, place = who_and_where(row.author)
        return f"{name}, in the {place}" if place == "admin" else row.author

    @admin.display(description="what")
    def what(self, row: ConfigChange) -> str:
        return row.summary

    @admin.display(description="why")
    def why(self, row: ConfigChange) -> str:
        return row.reason or "—"

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.way_or_proposal_view)
        own = path("<int:number>/<slug:way>/go/", view, name="fallback_configchange_way")
        return [own, *super().get_urls()]

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kw: Any) -> Any:
        change = kw.get("obj")
        if change is not None:
            context |= page_of(change)
            newest = ConfigChange.objects.newest()
            is_possible = {"undo": bool(context["differences"]), "back": newest != change}
            context["ways"] = [(way, label) for way, (label, *_) in WAYS.items()
                               if is_possible[way]]  # fmt: skip
        return super().render_change_form(request, context, *args, **kw)

    def way_or_proposal_view(self, request: HttpRequest, number: int, way: str) -> HttpResponse:
        return held_back(request, lambda: self.way_view(request, number, way))

    def way_view(self, request: HttpRequest, number: int, way: str) -> HttpResponse:
        """Show what undoing a change or going back to it would do; do it when told to."""
        if way not in WAYS:
            raise Http404(way)
        if not self.has_view_permission(request):
            raise PermissionDenied
        change = get_object_or_404(ConfigChange, pk=number)
        label, _, plan_of, go = WAYS[way]
        plan = plan_of(change)
        form = WayForm(request.POST or None, initial={"shown": digest(plan)})
        problems: Sequence[Problem] = plan.problems
        if request.method == "POST" and form.is_valid():
            require(request, plan.differences)
            if form.cleaned_data["shown"] == digest(plan):
                reason = form.cleaned_data["change_reason"]
                try:
                    making = go(change, author=actor(request), reason=reason, user=request.user)
                except Invalid as error:
                    problems = error.problems
                else:
                    return self._done(request, label, change, making.change)
            else:
                form = WayForm(initial={**form.cleaned_data, "shown": digest(plan)})
                messages.warning(request, NOT_AS_SHOWN)
        return self._way_page(request, change, way, plan, problems, form)

    def _done(
        self, request: HttpRequest, label: str, change: ConfigChange, made: ConfigChange | None
    ) -> HttpResponse:
        text = f"{label} ({change}): done." if made else "Nothing was different: nothing was done."
        messages.success(request, text)
        return HttpResponseRedirect(change_url(made or change))

    def _way_page(
        self, request: HttpRequest, change: ConfigChange, way: str, plan: Plan,
        problems: Sequence[Problem], form: WayForm,
    ) -> HttpResponse:  # fmt: skip
        label, effect, *_ = WAYS[way]
        context = self.admin_site.each_context(request) | {
            "title": f"{label}: {change}",
            "opts": self.opts,
            "label": label,
            "effect": effect,
            "change": change,
            "change_url": change_url(change),
            "problems": problems,
            "lacking": lacking(request.user, plan.differences),
            "form": form,
            "media": self.media,
            **shown_differences(plan.differences, plan.text),
        }
        return TemplateResponse(request, "admin/fallback/configchange/way.html", context)


NOT_AS_SHOWN: Final = (
    "Nothing was done: the configuration has been changed since this page was shown. This is what"
    " it would do now."
)


def digest(plan: Plan) -> str:
    """Return what stands for a plan that was shown."""
    text = f"{configuration.canonical(plan.now)}\n{configuration.canonical(plan.target)}"
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


def lacking(user: Any, differences: Sequence[Difference]) -> list[str]:
    """Return the permissions that somebody would need and has not, in words."""
    needed = {
        (difference.what, configuration.SECTION_OF[difference.path[0]])
        for difference in differences
    }
    return sorted(
        f"{what} {section.noun}"
        for what, section in needed
        if not user.has_perm(f"fallback.{what}_{section.model._meta.model_name}")
    )


def require(request: HttpRequest, differences: Sequence[Difference]) -> None:
    """Raise PermissionDenied for somebody who may not change all of this."""
    if lacking(request.user, differences):
        raise PermissionDenied


def page_of(change: ConfigChange) -> dict[str, Any]:
    """Return what the page of a change shows."""
    before, after = change.previous(), change.configuration
    old = before.configuration if before else after
    text = configuration.text_diff(old, after, at_most=SHOWN_MAX // 8)
    newer = ConfigChange.objects.filter(pk__gt=change.pk).order_by("pk").first()
    name, place = who_and_where(change.author)
    return {
        "title": f"Change {change}",
        "subtitle": None,
        "made": change,
        "at": moment(change.at),
        "who": f"{name}, in the {place}" if place == "admin" else change.author,
        "is_first": before is None,
        "touched": [(entry, entry_link(entry)) for entry in change.touched.all()[:SHOWN_MAX]],
        "older": before and change_url(before),
        "newer": newer and change_url(newer),
        **shown_differences(configuration.diff(old, after), text),
    }


def shown_differences(differences: Sequence[Difference], text: str) -> dict[str, Any]:
    """Return differences as a page shows them: a line each, and the text with its marks."""
    lines = text.splitlines()
    return {
        "differences": [str(one) for one in differences[:SHOWN_MAX]],
        "more_differences": max(0, len(differences) - SHOWN_MAX),
        "lines": [(_KINDS.get(line[:1], ""), line) for line in lines[:SHOWN_MAX]],
        "more_lines": max(0, len(lines) - SHOWN_MAX),
    }


_KINDS: Final = {"+": "added", "-": "removed"}


def entry_link(entry: ChangedEntry) -> SafeString | str:
    """Return a link to what was touched, or its name alone where it is no more."""
    if entry.section in PEOPLE:
        model = PEOPLE[entry.section]
        person = model._default_manager.filter(pk=whole(entry.key) or 0).first()
        url = reverse(f"admin:auth_{model._meta.model_name}_change", args=[entry.key])
        return format_html('<a href="{}">{}</a>', url, person) if person else str(entry)
    section = configuration.SECTION_OF.get(entry.section)
    if section is None:
        return str(entry)
    parts = [entry.key] if len(section.key) == 1 else entry.key.split("/")
    found = dict(zip(section.key, parts, strict=False))
    row = section.model._default_manager.filter(**found).first()
    if row is None:
        return f"{section.noun} {entry.key} (no longer there)"
    url = admin_url(section.model._meta.model_name, "change", row.pk)
    return format_html('<a href="{}">{} {}</a>', url, section.noun, entry.key)
