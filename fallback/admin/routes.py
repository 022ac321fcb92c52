"""Routes, with their chain: drag the steps into the order of trying."""

from typing import Any

from adminsortable2.admin import CustomInlineFormSet, SortableAdminBase, SortableTabularInline
from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from fallback.admin.asking import PlainChangeList
from fallback.admin.base import ConfiguredAdmin, link, plain_choice
from fallback.admin.confirmation import AsksFirst
from fallback.admin.questions import RoutesOver, WhichRoutes, diverted_routes
from fallback.admin.words import NOTHING
from fallback.models import Provider, Route, RouteStep, chain_problems


class ProviderChoice(forms.ModelChoiceField):  # type: ignore[type-arg]  # not at run time
    """Every provider, with what keeps it from being chosen: the error then says what to do."""

    def label_from_instance(self, obj: Provider) -> str:
        return f"{obj}{'' if obj.enabled else ' — disabled'}"


class RouteForm(forms.ModelForm):  # type: ignore[type-arg]  # not at run time
    """Leaves the judgement of the chain to its formset, which has the steps to be saved."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.instance.steps_to_be_saved = ()


class Chain(CustomInlineFormSet):  # type: ignore[misc]  # publishes no types
    """The steps of one route, judged together."""

    def _construct_form(self, i: int, **kwargs: Any) -> Any:
        form = super()._construct_form(i, **kwargs)
        form.instance.route = self.instance  # as it will be saved, not as it was
        return form

    def delete_existing(self, obj: RouteStep, commit: bool = True) -> None:
        if commit:
            obj.delete(chain_is_judged=True)  # by `clean`, with what is added

    def add_fields(self, form: Any, index: int | None) -> None:
        super().add_fields(form, index)
        if "DELETE" in form.fields:
            form.fields["DELETE"].widget.attrs["aria-label"] = "take this step out of the chain"

    def clean(self) -> None:
        super().clean()
        providers = [
            form.cleaned_data["provider"]
            for form in self.forms
            if form.cleaned_data.get("provider") and not form.cleaned_data.get("DELETE")
        ]
        told = {problem for form in self.forms for problem in form.errors.get("provider", [])}
        wrong = [
            problem
            for problem in chain_problems(self.instance.kind, providers)
            if problem not in told
        ]
        if wrong and not (told and not providers):
            raise ValidationError(wrong)


class StepInline(SortableTabularInline):  # type: ignore[misc]  # publishes no types
    """The chain, on the route's page."""

    model = RouteStep
    formset = Chain
    fields = ["provider", "settings", "position"]
    extra = 0
    min_num = 1
    verbose_name_plural = "Chain: tried from top to bottom, drag to reorder"

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "provider":
            kwargs["form_class"] = ProviderChoice
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    formfield_overrides = ConfiguredAdmin.formfield_overrides

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = plain_choice(super().formfield_for_dbfield(db_field, request, **kwargs))
        if field is not None:  # the column's heading is no label to a screen reader
            field.widget.attrs.setdefault("aria-label", f"{db_field.verbose_name} of this step")
        return field


class LiveChangeList(PlainChangeList):
    """Puts on each row where its calls start now, if not where they always do: one look."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        moved = diverted_routes()
        for row in self.result_list:
            row.moved = moved.get(row.slug)


@admin.register(Route)
class RouteAdmin(AsksFirst, SortableAdminBase, ConfiguredAdmin):  # type: ignore[misc]  # publishes no types
    """The chains that calls go through."""

    form = RouteForm
    inlines = [StepInline]
    list_display = [
        "slug",
        "name",
        "chain",
        "calls_now",
        "fallback",
        "mid_call",
        "nobody_admits",
    ]
    list_filter = [WhichRoutes, "kind", RoutesOver]
    search_fields = ["slug", "name", "notes", "steps__provider__slug"]
    search_help_text = "Name, notes, or a provider of its chain."
    fieldsets = [
        (None, {"fields": ["name", "slug", "kind"]}),
        (
            "When a provider fails",
            {"fields": ["fallback_enabled", "on_mid_call_failure", "last_resort"]},
        ),
        ("For operators", {"fields": ["notes"]}),
    ]

    class Media:
        js = ["fallback/route_chain.js"]

    @admin.display(description="chain")
    def chain(self, row: Route) -> str:
        links = [(link(step.provider, step.provider.slug),) for step in row.steps.all()]
        return format_html_join(" → ", "{}", links) or NOTHING

    @admin.display(description="calls start now on")
    def calls_now(self, row: Any) -> SafeString | str:
        if row.moved is None:
            steps = [step for step in row.steps.all() if step.provider.enabled]
            return steps[0].provider.slug if steps else NOTHING
        first, now = row.moved
        words = format_html('<span class="state state-open">◐ {}</span>', now)
        return format_html("{}, as {} is out", words, first)

    @admin.display(description="fails mid-call", ordering="on_mid_call_failure")
    def mid_call(self, row: Route) -> str:
        return row.on_mid_call_failure

    @admin.display(description="all out", ordering="last_resort")
    def nobody_admits(self, row: Route) -> str:
        return row.last_resort

    @admin.display(description="fallback", boolean=True, ordering="fallback_enabled")
    def fallback(self, row: Route) -> bool:
        return row.fallback_enabled

    def get_queryset(self, request: HttpRequest) -> QuerySet[Route]:
        queryset: QuerySet[Route] = super().get_queryset(request)
        return queryset.prefetch_related("steps__provider")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return LiveChangeList
