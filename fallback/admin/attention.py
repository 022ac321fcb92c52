"""What needs somebody's attention, each with where to go and what to do: the first page's list.

A fixed number of queries, whatever there is; nothing at all means that all is well.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from fallback import alerts, cautions
from fallback.admin.base import admin_url
from fallback.admin.questions import expiring
from fallback.admin.words import duration, moment
from fallback.live import words
from fallback.models import (
    Alert,
    AlertDestination,
    AlertThread,
    ApiKey,
    DeadLetter,
    Incident,
    Position,
    Proposal,
    Provider,
)
from fallback.sign_in import recent_failures
from fallback.times import epoch_ms

MOST: Final = 10  # of a sort; the last line says how many more there are
LAGGING_S: Final = 10.0
DEAD_SINCE: Final = timedelta(days=1)
SIGN_INS: Final = 10  # that failed: fewer are people who mistype


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to look at: what it is, and the page where it is dealt with."""

    text: str
    do: str
    url: str
    model: str
    is_grave: bool = True
    at: SafeString | str = ""


def items(user: AbstractBaseUser | AnonymousUser, body: Mapping[str, Any]) -> list[Item]:
    """Return what needs attention and this user may look at, the gravest first.

    `body` is the status that the rest of the page shows.
    """
    found = [
        *_incidents(),
        *_overrides(body),
        *_pump(body),
        *_history(),
        *_undelivered(),
        *_letters(),
        *_proposals(user),
        *_unknown_names(body),
        *_configuration(),
        *_slack(),
        *_keys(),
        *_sign_ins(user),
    ]
    shown = [item for item in found if user.has_perm(f"fallback.view_{item.model}")]  # type: ignore[union-attr]  # staff have permissions
    return sorted(shown, key=lambda item: not item.is_grave)


def _incidents() -> Iterator[Item]:
    rows = list(Incident.objects.filter(closed_at=None)[: MOST + 1])
    seen = AlertThread.objects.filter(incident_key__in=[row.key for row in rows])
    owners = dict(seen.exclude(acknowledged_by="").values_list("incident_key", "acknowledged_by"))
    for row in rows[:MOST]:
        length = duration(timezone.now() - row.opened_at)
        owner = owners.get(row.key)
        whose = f"acknowledged by {owner}" if owner else "acknowledged by nobody"
        yield Item(
            f"Incident #{row.pk}: {row.provider} has been out for {length}, {whose}.",
            "See what happened", admin_url("incident", "change", row.pk), "incident",
        )  # fmt: skip
    if len(rows) > MOST:
        yield Item(
            "There are more incidents that go on.", "All of them",
            f"{admin_url('incident', 'changelist')}?state=going-on", "incident",
        )  # fmt: skip


def _overrides(body: Mapping[str, Any]) -> Iterator[Item]:
    held = [
        shown
        for shown in body["breakers"]
        if shown["override"] and shown["override"]["until"] is None
    ]
    ids = {(kind, slug): pk for pk, kind, slug in _keys_of(held)}
    for shown in held[:MOST]:
        order = shown["override"]
        state = order["state"].replace("_", " ")
        pk = ids.get((shown["kind"], shown["provider"]))
        yield Item(
            f"{shown['provider']} is held {state} by {order['by']} with no end:"
            f" “{order['reason'][:120]}”.",
            "End it, or give it an end",
            admin_url("provider", "change", pk) if pk else admin_url("provider", "changelist"),
            "provider",
        )  # fmt: skip


def _keys_of(held: list[Any]) -> Any:
    slugs = [shown["provider"] for shown in held]
    return Provider.objects.filter(slug__in=slugs).values_list("pk", "kind", "slug")


def _pump(body: Mapping[str, Any]) -> Iterator[Item]:
    lag_s = body["pump_lag_s"]
    if lag_s is not None and lag_s > LAGGING_S:
        yield Item(
            f"The pump is {duration(timedelta(seconds=lag_s))} behind: history, alerts and"
            " incidents are late by that much.",
            "See that `manage.py pump` runs, and what its log says",
            admin_url("transition", "changelist"), "transition",
        )  # fmt: skip


def _history() -> Iterator[Item]:
    since = timezone.now() - DEAD_SINCE
    page = (admin_url("transition", "changelist"), "transition")
    rows = list(Position.objects.filter(updated_at__gte=since))
    missing = {
        row.provider: sum(last - first + 1 for first, last, noticed_ms, is_told in row.missing
                          if is_told and noticed_ms >= epoch_ms(since))
        for row in rows
    }  # fmt: skip
    if names := sorted(name for name, count in missing.items() if count):
        yield Item(
            f"{sum(missing.values()):,} events of {', '.join(names[:MOST])} never came in the last"
            " 24 h: history and alerts are without them.",
            "See that a pump always runs", *page,
        )  # fmt: skip
    if names := sorted({row.provider for row in rows if row.forked_at and row.forked_at >= since}):
        yield Item(
            f"A failover of Redis forgot changes of {', '.join(names[:MOST])} that history has.",
            "See that the orders among them still stand", *page,
        )  # fmt: skip


def _undelivered() -> Iterator[Item]:
    since = timezone.now() - DEAD_SINCE
    count = Alert.objects.filter(status=Alert.Status.DEAD, at__gte=since).count()
    if count:
        yield Item(
            f"{count:,} alert{'s' if count > 1 else ''} of the last 24 h could not be delivered.",
            "See why, and send again",
            f"{admin_url('alert', 'changelist')}?status__exact=dead", "alert",
        )  # fmt: skip
    for row in AlertDestination.objects.filter(enabled=True).exclude(problem="")[:MOST]:
        yield Item(
            f"Alerts to {row} have trouble: {row.problem[:200]}.", "Mend the destination",
            admin_url("alertdestination", "change", row.pk), "alertdestination",
        )  # fmt: skip


def _letters() -> Iterator[Item]:
    count = DeadLetter.objects.filter(replayed_at=None).count()
    if count:
        yield Item(
            f"{count:,} event{'s' if count > 1 else ''} could not be carried: what they tell is"
            " missing in history and alerts.",
            "See why, and put back into the stream",
            f"{admin_url('deadletter', 'changelist')}?which=waiting", "deadletter",
        )  # fmt: skip


def _unknown_names(body: Mapping[str, Any]) -> Iterator[Item]:
    if said := words.unknown_names(body):
        yield Item(
            said, "Add them, or correct the agents", admin_url("provider", "changelist"), "provider"
        )


def _configuration() -> Iterator[Item]:
    found = cautions.present(cautions.read())
    told = [caution for caution in found if caution.code != "unused"]
    for caution in told[:MOST]:
        url = (
            admin_url(caution.model, "change", caution.pk)
            if caution.pk
            else admin_url(caution.model, "changelist")
        )
        yield Item(caution.text, "Change it", url, caution.model, caution.is_grave)
    if len(told) > MOST:
        yield Item(
            f"There are {len(told) - MOST:,} more such things: `manage.py check --database"
            " default` tells all of them.",
            "Routes", admin_url("route", "changelist"), "route", is_grave=False,
        )  # fmt: skip


def _proposals(user: AbstractBaseUser | AnonymousUser) -> Iterator[Item]:
    decides = user.has_perm("fallback.approve_proposal")  # type: ignore[union-attr]  # staff
    waiting = Proposal.objects.filter(state=Proposal.State.PROPOSED, expires_at__gt=timezone.now())
    for row in waiting[:MOST]:
        yield Item(
            f"{row} by {row.author} waits for a second person: {row.summary[:200]}. It expires",
            "Approve or reject it" if decides else "Look at it",
            admin_url("proposal", "change", row.pk), "proposal",
            is_grave=False, at=moment(row.expires_at),
        )  # fmt: skip


def _slack() -> Iterator[Item]:
    """Slack switched off altogether is a choice, which the page says below; by halves, no."""
    if alerts.is_configured():
        for line in alerts.missing():
            yield Item(f"Slack: {line}", "Set it, or see the README",
                       admin_url("alertdestination", "changelist"), "alertdestination")  # fmt: skip
        if not AlertDestination.objects.exists():
            yield Item("Slack: there is no destination: no alert goes anywhere.", "Add one",
                       admin_url("alertdestination", "add"), "alertdestination")  # fmt: skip


def _sign_ins(user: AbstractBaseUser | AnonymousUser) -> Iterator[Item]:
    found = recent_failures()
    if found["count"] < SIGN_INS or not user.has_perm("auth.view_user"):  # type: ignore[union-attr]  # staff
        return
    last = found["last"][0]
    yield Item(
        f"{found['count']:,} sign-ins failed within an hour of each other, the last as"
        f" “{last['name']}” from {last['address']} ({last['why']}):",
        "See who has a second factor", reverse("admin:auth_user_changelist"), "provider",
        is_grave=False, at=moment(datetime.fromtimestamp(last["at_s"], UTC)),
    )  # fmt: skip


def _keys() -> Iterator[Item]:
    for row in expiring(ApiKey.objects.all(), timezone.now())[:MOST]:
        yield Item(
            f"API key {row.name} expires:", "Give its holder another",
            admin_url("apikey", "change", row.pk), "apikey", is_grave=False,
            at=moment(row.expires_at),
        )  # fmt: skip
