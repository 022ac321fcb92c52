"""What can be alerted, how bad it is, and which template tells an event of the stream."""

from enum import StrEnum
from typing import Final

from fallback.domain import Event, EventName, OutcomeKind


class AlertEvent(StrEnum):
    """What an alert template is for: the contract's events, and a reset."""

    PROVIDER_FAILURE = "provider_failure"
    INIT_FALLBACK = "init_fallback"
    MID_CALL_FAILURE = "mid_call_failure"
    TRIPPED = "tripped"
    WOULD_TRIP = "would_trip"
    FALLBACK_ACTIVE = "fallback_active"
    PROBING = "probing"
    PROBE_FAILED = "probe_failed"
    RECOVERED = "recovered"
    OVERRIDE_SET = "override_set"
    OVERRIDE_CLEARED = "override_cleared"
    RESET = "reset"
    ALL_PROVIDERS_DOWN = "all_providers_down"
    MISCONFIGURED = "misconfigured"
    STATE_LOST = "state_lost"
    PUMP_LAGGING = "pump_lagging"
    EVENTS_MISSING = "events_missing"
    EVENT_FORK = "event_fork"


class Severity(StrEnum):
    """How bad it is. Default mentions are for what is critical."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


# What operators must hear whatever happens, and first of all that waits.
MOST_IMPORTANT: Final = (
    AlertEvent.TRIPPED,
    AlertEvent.ALL_PROVIDERS_DOWN,
    AlertEvent.RECOVERED,
    AlertEvent.STATE_LOST,
)
RANK: Final = {Severity.INFO: 0, Severity.WARNING: 1, Severity.CRITICAL: 2}
REMINDER: Final = "reminder"  # no event, and no template: an incident that nobody acknowledged
TEST: Final = "test"  # the prefix of an alert that an operator sends from the admin

# What is said in the thread and does not become the headline of the incident's message.
ASIDE: Final = frozenset({AlertEvent.FALLBACK_ACTIVE, AlertEvent.ALL_PROVIDERS_DOWN, REMINDER})

_IN_CALL: Final[dict[str, AlertEvent]] = {
    OutcomeKind.INIT_FAILURE: AlertEvent.INIT_FALLBACK,
    OutcomeKind.MID_CALL_FAILURE: AlertEvent.MID_CALL_FAILURE,
    OutcomeKind.STALL: AlertEvent.MID_CALL_FAILURE,
}


def told_by(event: Event) -> tuple[AlertEvent, ...]:
    """Return the templates that may tell an event, best first: the first that is on does.

    A failure is told by what it did to its call, and as a failure where that template is off.
    """
    if event.name not in list(AlertEvent):
        return ()
    own = AlertEvent(event.name)
    special = _IN_CALL.get(str(event.evidence.get("outcome")))
    if event.name == EventName.PROVIDER_FAILURE and special:
        return (special, own)
    return (own,)
