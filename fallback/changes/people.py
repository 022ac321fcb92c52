"""What is done to people: accounts, groups and roles, recorded like every other change.

Names of fields and of groups are told, and what became of them; never a password, its hash, or an
address. What somebody does to their own account (their password, their second factor) is told
apart from what is done to them.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

from django.contrib.auth.models import Group, User
from django.db import models, transaction
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_save

from fallback.changes import recording
from fallback.changes.recording import Touched
from fallback.models import ConfigChange
from fallback.roles import Role

ACCOUNTS: Final = "users"
OWN_ACCOUNTS: Final = "own_accounts"
GROUPS: Final = "groups"

_TOLD: Final = ("username", "is_active", "is_staff", "is_superuser")  # with their values
_NAMED: Final = ("password", "email", "first_name", "last_name")  # that they changed
_BY_ITSELF: Final = ({"last_login"}, {"password"})  # signing in writes these; a newer hash of it
_LINKS: Final = {
    User.groups.through: "groups",
    User.user_permissions.through: "permissions",
    Group.permissions.through: "permissions",
}
_HOW: Final = {"post_add": "added", "post_remove": "taken away", "pre_clear": "taken away"}


def watch() -> None:
    """Connect the signals; called once, when the app is ready."""
    for model in (User, Group):
        name = model.__name__
        pre_save.connect(_before, sender=model, dispatch_uid=f"fallback.people.pre.{name}")
        post_save.connect(_saved, sender=model, dispatch_uid=f"fallback.people.post.{name}")
        post_delete.connect(_gone, sender=model, dispatch_uid=f"fallback.people.gone.{name}")
    for number, through in enumerate(_LINKS):
        m2m_changed.connect(_linked, sender=through, dispatch_uid=f"fallback.people.{number}")


def tell(row: User | Group, what: str) -> None:
    """Record what became of an account or a group, with the change that is made or as its own."""
    touched = _touched(row, what)
    if making := recording.making():
        making.others.append(touched)
        return
    listed = (callback for _, callback, _ in transaction.get_connection().run_on_commit)
    found = next((one for one in listed if isinstance(one, _Stray)), None)
    if found is None:
        recording.begin()
        found = _Stray()
        found.others.append(touched)
        transaction.on_commit(found, robust=True)  # at once where there is no transaction
    else:
        found.others.append(touched)


def has_changed_account(by_id: int, user: User, since: datetime) -> bool:
    """Say whether somebody made or changed another's account since then."""
    return ConfigChange.objects.filter(
        user_id=by_id, at__gte=since, touched__section=ACCOUNTS, touched__key=str(user.pk)
    ).exists()


class _Stray:
    """What a transaction did to people outside of a change that says who and why."""

    def __init__(self) -> None:
        self.others: list[Touched] = []

    def __call__(self) -> None:
        recording.record_strays(self.others)


def _touched(row: User | Group, what: str) -> Touched:
    if isinstance(row, Group):
        return Touched(GROUPS, str(row.pk), "group", what, row.name)
    making = recording.making()
    who = making.user if making else recording.signed_in()
    is_own = who is not None and who.pk == row.pk
    section = OWN_ACCOUNTS if is_own else ACCOUNTS
    return Touched(section, str(row.pk), "user", what, row.username)


def _before(sender: Any, instance: Any, update_fields: Any, raw: bool, **_: Any) -> None:
    """Keep how a row was, on the row itself, until it is written."""
    if raw or (update_fields and set(update_fields) in _BY_ITSELF):
        instance._was = instance
    else:
        instance._was = sender._default_manager.filter(pk=instance.pk).first()


def _saved(instance: Any, created: bool, **_: Any) -> None:
    was = instance.__dict__.pop("_was", None)
    if was is instance or (created and _is_role(instance)):
        return
    if created:
        rank = ", a superuser" if getattr(instance, "is_superuser", False) else ""
        tell(instance, f"added{rank}")
    elif was is not None and (what := ", ".join(_differences(was, instance))):
        tell(instance, what)


def _gone(instance: Any, **_: Any) -> None:
    tell(instance, "removed")


def _differences(was: Any, now: Any) -> Iterator[str]:
    told = _TOLD if isinstance(now, User) else ("name",)
    for name in told:
        before, after = getattr(was, name), getattr(now, name)
        if before != after:
            yield f"{name}: {_shown(before)} → {_shown(after)}"
    for name in _NAMED if isinstance(now, User) else ():
        if getattr(was, name) != getattr(now, name):
            yield f"{name.replace('_', ' ')} changed"


def _shown(value: Any) -> str:
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else value


def _linked(
    sender: Any, instance: Any, action: str, reverse: bool, model: Any, pk_set: Any, **_: Any
) -> None:
    how = _HOW.get(action)
    if how is None or (isinstance(instance, Group) and not reverse and _is_role(instance)):
        return
    what = _LINKS[sender]
    others = _others(sender, instance, reverse, model, pk_set)
    if not reverse:
        if names := ", ".join(sorted(map(_name, others))):
            tell(instance, f"{what} {how}: {names}")
        return
    for row in others:  # the groups' or permissions' side: whom it is given to is what changes
        if not _is_role(row):
            tell(row, f"{what} {how}: {_name(instance)}")


def _others(
    sender: Any, instance: models.Model, reverse: bool, model: Any, pk_set: Any
) -> Iterable[Any]:
    if pk_set is not None:
        return list(model._default_manager.filter(pk__in=pk_set))
    ours, theirs = (
        next(field for field in sender._meta.fields if field.related_model is side)
        for side in (type(instance), model)
    )
    ids = sender.objects.filter(**{ours.name: instance}).values_list(theirs.attname, flat=True)
    return list(model._default_manager.filter(pk__in=list(ids)))


def _name(row: Any) -> str:
    return str(getattr(row, "codename", None) or getattr(row, "name", row))


def _is_role(row: Any) -> bool:
    """Say whether this is one of the four groups, which are held to the table by `migrate`."""
    return isinstance(row, Group) and row.name in list(Role)
