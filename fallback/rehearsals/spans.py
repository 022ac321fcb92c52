"""Which past is rehearsed: the last incident with its surroundings, or so much back from now."""

from datetime import datetime, timedelta
from typing import Final

from fallback.errors import Invalid
from fallback.models import Incident, Policy

LAST_INCIDENT: Final = "incident"
LENGTHS: Final = {
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
SPANS: Final = {
    LAST_INCIDENT: "the last incident",
    "24h": "24 hours",
    "7d": "7 days",
    "30d": "30 days",
}
AROUND: Final = timedelta(minutes=30)  # before and after an incident: what led to it, and after


def resolve(span: str, policy: Policy, now: datetime) -> tuple[datetime, datetime]:
    """Return the beginning and the end of a span named in `SPANS`, for the providers of a policy.

    Raises Invalid when there is no such span, or nothing in it.
    """
    if span in LENGTHS:
        return now - LENGTHS[span], now
    if span != LAST_INCIDENT:
        raise Invalid(f"There is no span {span!r}: choose one of {', '.join(SPANS)}.")
    incident = last_incident(policy)
    if incident is None:
        raise Invalid(f"No provider under {policy} has had an incident: choose another span.")
    return incident.opened_at - AROUND, min(now, (incident.closed_at or now) + AROUND)


def last_incident(policy: Policy) -> Incident | None:
    """Return the latest incident of the providers that use a policy."""
    found = [
        Incident.objects.filter(kind=row.kind, provider=row.slug).order_by("-opened_at", "-id")
        for row in policy.providers.all()
    ]
    latest = [incident for rows in found for incident in rows[:1]]
    return max(latest, key=lambda incident: incident.opened_at, default=None)


def covering(incident: Incident, policy: Policy, now: datetime) -> str:
    """Return the shortest span that holds an incident; empty when it is too long ago."""
    if last_incident(policy) == incident:
        return LAST_INCIDENT
    ages = (span for span, length in LENGTHS.items() if now - length < incident.opened_at)
    return next(ages, "")
