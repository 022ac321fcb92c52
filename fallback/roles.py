"""Who may do what: four roles, each with all that the one before it may, as Django groups.

`TABLE` is the only place that says it. `grant` makes the groups so after every `migrate`, so that
a model of a later migration is granted too, and what somebody changed in these four groups by hand
is put back: other combinations are groups of one's own. A superuser needs no role.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from django.apps.registry import Apps
from django.apps.registry import apps as all_apps
from django.contrib.auth.models import User
from django.db import DEFAULT_DB_ALIAS, transaction


class Role(StrEnum):
    """What a person is to the control plane, the least first."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    EDITOR = "editor"
    OWNER = "owner"


MEANINGS: Final[Mapping[Role, str]] = {
    Role.VIEWER: "sees everything, and changes nothing",
    Role.OPERATOR: "also gives orders to breakers, acknowledges incidents, sends alerts again",
    Role.EDITOR: "also changes providers, policies, routes, alert templates and destinations",
    Role.OWNER: "also API keys, Slack operators, users and groups, and approves proposals",
}
NOBODY: Final = None  # what only the control plane itself writes


@dataclass(frozen=True, slots=True)
class Rule:
    """The least role that may look at a model's rows and write them, and those of its orders."""

    view: Role | None = Role.VIEWER
    write: Role | None = NOBODY
    orders: Mapping[str, Role] = field(default_factory=dict)

    def least(self, codename: str) -> Role | None:
        """Return the least role that has this permission; None for nobody."""
        if codename in self.orders:
            return self.orders[codename]
        return self.view if codename.startswith("view_") else self.write


SET_BY_EDITORS: Final = Rule(write=Role.EDITOR)
SET_BY_OWNERS: Final = Rule(write=Role.OWNER)
TO_READ: Final = Rule()

TABLE: Final[Mapping[str, Rule]] = {
    "fallback.provider": Rule(write=Role.EDITOR, orders={"override_breaker": Role.OPERATOR}),
    "fallback.policy": SET_BY_EDITORS,
    "fallback.policyreason": SET_BY_EDITORS,
    "fallback.route": SET_BY_EDITORS,
    "fallback.routestep": SET_BY_EDITORS,
    "fallback.alerttemplate": SET_BY_EDITORS,
    "fallback.alertdestination": SET_BY_EDITORS,
    "fallback.apikey": SET_BY_OWNERS,
    "fallback.slackoperator": SET_BY_OWNERS,
    "fallback.transition": TO_READ,
    "fallback.incident": Rule(orders={"acknowledge_incident": Role.OPERATOR}),
    "fallback.alert": Rule(orders={"resend_alert": Role.OPERATOR}),
    "fallback.alertthread": TO_READ,
    # Putting one back into the stream is a change of it.
    "fallback.deadletter": Rule(orders={"change_deadletter": Role.OPERATOR}),
    "fallback.providerminute": TO_READ,
    "fallback.recordedslot": TO_READ,
    "fallback.position": TO_READ,
    "fallback.configrevision": TO_READ,
    "fallback.configchange": TO_READ,
    "fallback.changedentry": TO_READ,
    "fallback.rehearsal": TO_READ,
    "fallback.shadowrun": TO_READ,
    "fallback.shadowtrip": TO_READ,
    "fallback.proposal": Rule(orders={"approve_proposal": Role.OWNER}),
    "fallback.idempotentrequest": Rule(view=NOBODY),
    "auth.user": Rule(view=Role.OWNER, write=Role.OWNER),
    "auth.group": Rule(view=Role.OWNER, write=Role.OWNER),
}
OLD_VERSIONS: Final = "historical"  # simple_history's tables: written by it alone


def rule_of(app: str, model: str) -> Rule | None:
    """Return what holds for a model; None where the table has no line for it."""
    if model.startswith(OLD_VERSIONS):
        of = TABLE.get(f"{app}.{model.removeprefix(OLD_VERSIONS)}")
        return of and Rule(view=of.view)
    return TABLE.get(f"{app}.{model}")


def may(role: Role, app: str, model: str, codename: str) -> bool:
    """Say whether a role has a permission."""
    rule = rule_of(app, model)
    least = rule.least(codename) if rule else NOBODY
    return least is not NOBODY and list(Role).index(role) >= list(Role).index(least)


def grant(apps: Apps = all_apps, using: str = DEFAULT_DB_ALIAS, **_: Any) -> None:
    """Make the four groups, each with exactly what the table says; a receiver of `post_migrate`.

    Django makes the permissions of the models that a migration added just before this. `flush`
    sends no `apps`.
    """
    try:
        groups: Any = apps.get_model("auth", "Group")
        permissions: Any = apps.get_model("auth", "Permission")
    except LookupError:  # only other apps were migrated so far
        return
    known = list(permissions.objects.using(using).select_related("content_type"))
    for role in Role:
        group, _is_new = groups.objects.using(using).get_or_create(name=role.value)
        group.permissions.set(_granted(role, known))


def _granted(role: Role, permissions: Iterable[Any]) -> list[Any]:
    return [
        row
        for row in permissions
        if may(role, row.content_type.app_label, row.content_type.model, row.codename)
    ]


def of(user: User) -> Role | None:
    """Return a user's role, the highest if there are several; None without one."""
    names = {group.name for group in user.groups.all()}
    held = [role for role in Role if role in names]
    return held[-1] if held else None


def give(user: User, role: Role | None) -> None:
    """Give a user this role alone, and the right to sign in to the admin; None takes it away."""
    groups = user.groups.model._default_manager
    with transaction.atomic():
        user.groups.remove(*groups.filter(name__in=[*Role]))
        if role is not None:
            user.groups.add(groups.get(name=role.value))
            user.is_staff = True
            user.save(update_fields=["is_staff"])
