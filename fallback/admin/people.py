"""Users and groups: the role of each person, and what only a superuser may give away."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django_otp.plugins.otp_totp.models import TOTPDevice

from fallback import roles, sign_in
from fallback.admin.asking import AsksPlainly
from fallback.admin.base import CSS
from fallback.admin.changing import made_by, rendered
from fallback.admin.words import NOTHING, moment
from fallback.roles import MEANINGS, Role

FOR_SUPERUSERS = ["is_superuser", "user_permissions"]

admin.site.unregister(User)
admin.site.unregister(Group)


class HasRole(admin.SimpleListFilter):
    """Who has which role."""

    title = "role"
    parameter_name = "role"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [*((role.value, role.value) for role in Role), ("none", "no role")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> QuerySet[User]:
        if self.value() == "none":
            return queryset.exclude(groups__name__in=[*Role])
        return queryset.filter(groups__name=self.value()) if self.value() else queryset


class Recorded:
    """What is done on a page of people is one change, with who did it."""

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        page: Any = super()
        return recorded(request, lambda: page.changeform_view(request, *args, **kwargs))

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        page: Any = super()
        return recorded(request, lambda: page.changelist_view(request, *args, **kwargs))

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        page: Any = super()
        return recorded(request, lambda: page.delete_view(request, *args, **kwargs))

    def user_change_password(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        page: Any = super()
        return recorded(request, lambda: page.user_change_password(request, *args, **kwargs))


def recorded(request: HttpRequest, go: Callable[[], HttpResponse]) -> HttpResponse:
    """Do what a page does; what it does to people is one change."""
    if request.method != "POST":
        return go()
    with made_by(request):
        return rendered(go())


@admin.register(User)
class PersonAdmin(Recorded, AsksPlainly, UserAdmin):  # type: ignore[type-arg]  # not at run time
    """Who may sign in, and as what. A role is a group: choose one under Groups."""

    list_display = ["username", "full_name", "role", "is_active", "second_factor", "last_seen"]
    actions = ["remove_second_factor"]
    list_filter = [HasRole, "is_active", "is_superuser"]

    class Media:
        css = CSS

    @admin.display(description="name", ordering="first_name")
    def full_name(self, row: User) -> str:
        return row.get_full_name() or NOTHING

    @admin.display(description="role")
    def role(self, row: User) -> str:
        if row.is_superuser:
            return "superuser: everything"
        role = roles.of(row)
        return format_html("<b>{}</b>: {}", role, MEANINGS[role]) if role else NOTHING

    @admin.display(description="second factor", boolean=True)
    def second_factor(self, row: Any) -> bool:
        return bool(row.has_app)

    @admin.action(permissions=["change"], description="Take off the second factor (a lost device)")
    def remove_second_factor(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        for row in queryset:
            if not _reaches(request, row):
                messages.error(request, f"Second factor of {row}: not done. Only a superuser may.")
            elif sign_in.remove(row):
                messages.success(request, f"Second factor of {row}: taken off. The password alone"
                                 " lets in, until another is set up.")  # fmt: skip
            else:
                messages.warning(request, f"Second factor of {row}: there is none.")

    @admin.display(description="last signed in", ordering="last_login")
    def last_seen(self, row: User) -> str:
        return moment(row.last_login) if row.last_login else "never"

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        has_app = Exists(TOTPDevice.objects.filter(user=OuterRef("pk"), confirmed=True))
        rows: QuerySet[User] = super().get_queryset(request)
        return rows.annotate(has_app=has_app).prefetch_related("groups")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        found = list(super().get_readonly_fields(request, obj))
        return found if request.user.is_superuser else [*found, *FOR_SUPERUSERS]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and _reaches(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody is deleted: that would take what they did out of the log. Untick “Active”."""
        return False

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        row = form.instance
        if roles.of(row) and not row.is_staff:
            messages.warning(request, f"{row} cannot sign in here yet: tick “Staff status” too.")


def _reaches(request: HttpRequest, row: User | None) -> bool:
    """Say whether a row is within one's reach: only a superuser changes a superuser."""
    return row is None or request.user.is_superuser or not row.is_superuser


@admin.register(Group)
class RoleAdmin(Recorded, AsksPlainly, GroupAdmin):
    """Groups. The four roles are held to `fallback.roles`: to be looked at, not changed."""

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and not _is_role(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and not _is_role(obj)


def _is_role(row: Group | None) -> bool:
    return row is not None and row.name in list(Role)
