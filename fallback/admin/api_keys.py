"""API keys: minted here, shown once, never again."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from fallback import keys
from fallback.admin.base import ConfiguredAdmin
from fallback.admin.questions import WhichKeys
from fallback.admin.words import NOTHING, moment
from fallback.models import ApiKey, Route


class RouteSlugs(forms.MultipleChoiceField):
    """Routes to choose from."""

    def __init__(self, *, encoder: Any = None, decoder: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)


class ApiKeyForm(forms.ModelForm):  # type: ignore[type-arg]  # not at run time
    """Offers the routes there are, and those that the key is bound to though they are gone: a key
    must not become free of its bounds because a route was renamed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields.get("routes")
        if isinstance(field, RouteSlugs):
            known = Route.objects.order_by("slug").values_list("slug", flat=True)
            slugs = list(dict.fromkeys([*known, *self.instance.routes]))
            field.choices = [(slug, slug) for slug in slugs]


@admin.register(ApiKey)
class ApiKeyAdmin(ConfiguredAdmin):
    """Who may ask, report, override or read."""

    form = ApiKeyForm
    list_display = ["name", "role", "state", "bound_to", "expires", "last_used", "shown_part"]
    list_filter = [WhichKeys, "role"]
    search_fields = ["name", "public", "notes"]
    readonly_fields = ["shown_part", "last_used"]
    fieldsets = [
        (None, {"fields": ["name", "role", "enabled", "expires_at", "routes"]}),
        ("For operators", {"fields": ["notes", "shown_part", "last_used"]}),
    ]

    @admin.display(description="usable", boolean=True)
    def state(self, row: ApiKey) -> bool:
        return row.enabled and (row.expires_at is None or row.expires_at > timezone.now())

    @admin.display(description="routes")
    def bound_to(self, row: ApiKey) -> str:
        return ", ".join(row.routes) or "all"

    @admin.display(description="expires", ordering="expires_at")
    def expires(self, row: ApiKey) -> str:
        return moment(row.expires_at) if row.expires_at else "never"

    @admin.display(description="last used (to the minute)", ordering="last_used_at")
    def last_used(self, row: ApiKey) -> str:
        return moment(row.last_used_at) if row.last_used_at else "never"

    @admin.display(description="begins with")
    def shown_part(self, row: ApiKey) -> str:
        return f"stt_{row.public}." if row.public else NOTHING

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        kwargs["help_texts"] = {"expires_at": "UTC. Refused from then on. Empty: never expires."}
        return super().get_form(request, obj, change, **kwargs)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "routes":
            kwargs |= {"form_class": RouteSlugs}
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            obj.issued = keys.issue(obj)
        super().save_model(request, obj, form, change)

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        """Show the key in this answer: a redirect would have to keep it in a cookie or session."""
        context = self.admin_site.each_context(request) | {
            "title": "API key created",
            "opts": self.opts,
            "key": obj.issued,
            "row": obj,
            "media": self.media,
        }
        template = "admin/fallback/apikey/issued.html"
        return TemplateResponse(
            request, template, context, headers={"Cache-Control": "no-store, private"}
        )
