"""History held against the breakers as they are: incidents whose end was lost, and holes.

Only right once every event that the breakers' state includes was carried; whoever calls must see
to that (`pump` does, by the stream's lag).
"""

from collections.abc import Sequence
from datetime import datetime

import structlog
from django.db import transaction

from fallback import metrics
from fallback.domain import ADMITTING_STATES, BreakerView, Kind
from fallback.history import positions
from fallback.history.recording import UNKNOWN, moment, raise_counts
from fallback.models import Incident, Transition
from fallback.standing import latest

log = structlog.get_logger(__name__)


def reconcile(
    kind: Kind,
    views: Sequence[BreakerView],
    *,
    version: int,
    now_ms: int,
    tell: positions.Tell = lambda _what, _events: None,
) -> int:
    """Bring open incidents in line with the breakers as they were at `version`; count the repairs.

    Also takes over the numbers of calls, which rise without an event, and has holes and forks told
    to people by `tell`. A provider about which history knows more than this snapshot is left for
    the next one.
    """
    going_on = list(Incident.objects.filter(kind=kind, closed_at=None))
    repairs = 0
    for view in views:
        own = [incident for incident in going_on if incident.provider == view.provider]
        if _differs(own, view):
            repairs += _repair(view, version=version, now_ms=now_ms)
    with transaction.atomic():
        positions.tell_breaks(kind, until_ms=now_ms, tell=tell)
    return repairs


def _differs(going_on: Sequence[Incident], view: BreakerView) -> bool:
    """Whether a provider's open incidents are not the one its breaker shows, as it shows it."""
    breaker = view.breaker
    shown = [(breaker.incident, breaker.diverted, breaker.hurt, breaker.saved)]
    held = [(one.key, one.diverted, one.hurt, one.saved) for one in going_on]
    return held != (shown if breaker.incident else [])


@transaction.atomic
def _repair(view: BreakerView, *, version: int, now_ms: int) -> int:
    positions.lock_provider(view.kind, view.provider)
    moves = Transition.objects.filter(kind=view.kind, provider=view.provider)
    if moves.filter(version__gt=version).exists():
        return 0
    repairs = 0
    for incident in Incident.objects.filter(
        kind=view.kind, provider=view.provider, closed_at=None
    ).exclude(key=view.breaker.incident):
        _close(incident, _end(incident, view, now=moment(now_ms)))
        repairs += 1
    return repairs + (_show(view) if view.breaker.incident else 0)


def _show(view: BreakerView) -> int:
    """Make the incident that a breaker shows one that is going on, with the calls it shows."""
    incident, is_new = Incident.objects.get_or_create(
        key=view.breaker.incident,
        defaults={
            "provider": view.provider,
            "kind": view.kind,
            "opened_at": moment(view.breaker.since_ms),
            "cause": UNKNOWN,
        },
    )
    counts = {name: getattr(view.breaker, name) for name in ("diverted", "hurt", "saved")}
    has_more = raise_counts(incident, counts)
    is_repaired = is_new or incident.closed_at is not None
    if is_repaired:
        incident.closed_at, incident.closing_cause = None, ""
        _tell(incident, "incident_reopened")
    if is_repaired or has_more:
        incident.save()
    return int(is_repaired)


def _close(incident: Incident, at: datetime) -> None:
    incident.closed_at, incident.closing_cause = at, UNKNOWN
    incident.save()
    _tell(incident, "incident_closed_without_its_event")


def _end(incident: Incident, view: BreakerView, *, now: datetime) -> datetime:
    """Return the best guess at when an incident ended whose last event is lost.

    No later than the next trip, which began from an admitting breaker; else since when the
    breaker admits; else now.
    """
    last = latest(Transition.objects.filter(incident=incident))
    later = Transition.objects.filter(kind=view.kind, provider=view.provider)
    later = later.filter(version__gt=last.version if last else 0, at__gt=incident.opened_at)
    following = later.filter(before__in=ADMITTING_STATES).order_by("version").first()
    if following is not None:
        return following.at
    since = moment(view.breaker.since_ms)
    is_back = view.breaker.state in ADMITTING_STATES and since >= incident.opened_at
    return since if is_back else max(now, incident.opened_at)


def _tell(incident: Incident, what: str) -> None:
    metrics.degraded(what)
    log.warning(what, kind=incident.kind, provider=incident.provider, incident=incident.key)
