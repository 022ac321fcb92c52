"""WHAT WE COUNT: the product's Prometheus metrics, and one function per thing to count.

Below everything that counts, so it knows nothing of catalog or breaker. What is read when
Prometheus asks (the state of each breaker) is in `exporter`. Label values come from configuration
or from enumerations; any other becomes `other`, so that no agent can make series without end.
"""

from collections.abc import Iterable
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from fallback.domain import Cause, Effect, Mode, Named, OutcomeKind, Reason, State

OTHER: Final = "other"
# From a decision out of memory to the limit that none may pass.
DECISION_BUCKETS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1)
DELAY_BUCKETS_S: Final = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)

decisions_total: Final = Counter(
    "stt_decisions_total", "Decisions given.", ["route", "provider", "mode"]
)
decision_seconds: Final = Histogram(
    "stt_decision_seconds", "Time to decide, in the service.", buckets=DECISION_BUCKETS_S
)
outcomes_total: Final = Counter(
    "stt_outcomes_total", "Outcomes taken.", ["provider", "kind", "reason", "effect"]
)
transitions_total: Final = Counter(
    "stt_transitions_total",
    "Transitions that this process carried to the database.",
    ["provider", "to", "cause"],
)
calls_diverted_total: Final = Counter(
    "stt_calls_diverted_total", "Calls sent elsewhere because this provider was out.", ["provider"]
)
alerts_total: Final = Counter(
    "stt_alerts_total", "Alerts, by what became of them.", ["destination", "status"]
)
alert_delay_seconds: Final = Histogram(
    "stt_alert_delay_seconds", "From an event to its alert's delivery.", buckets=DELAY_BUCKETS_S
)
feed_clients: Final = Gauge("stt_feed_clients", "Clients connected to the live feed.")
degraded_total: Final = Counter(
    "stt_degraded_total", "Times that something was done in its lesser way, by what.", ["what"]
)

unknown_names_total: Final = Counter(
    "stt_unknown_names_total",
    "Times that an agent named what this process's configuration did not hold.",
    ["what"],
)

_configured: dict[str, frozenset[str]] = {}
_WORDS: Final = {
    "mode": frozenset(Mode),
    "kind": frozenset(OutcomeKind),
    "reason": frozenset(Reason) | {""},
    "effect": frozenset(Effect),
    "to": frozenset(State),
    "cause": frozenset(Cause) | {""},
}


def configured(*, routes: Iterable[str], providers: Iterable[str]) -> None:
    """Say which routes and providers may be label values; called with each new configuration."""
    _configured["route"] = frozenset(routes)
    _configured["provider"] = frozenset(providers)


def decided(route: str, provider: str, mode: str, seconds: float) -> None:
    """Count one decision and the time it took."""
    decisions_total.labels(
        _label("route", route), _label("provider", provider), _label("mode", mode)
    ).inc()
    decision_seconds.observe(seconds)


def outcome(provider: str, kind: str, reason: str, effect: str) -> None:
    """Count one outcome that was taken; `reason` empty where nothing failed."""
    outcomes_total.labels(
        _label("provider", provider),
        _label("kind", kind),
        _label("reason", reason),
        _label("effect", effect),
    ).inc()


def transition(provider: str, to: str, cause: str) -> None:
    """Count one transition, by the pump that stored it: once in the fleet."""
    transitions_total.labels(
        _label("provider", provider), _label("to", to), _label("cause", cause)
    ).inc()


def diverted(provider: str) -> None:
    """Count one call that `provider` did not get because it was out."""
    calls_diverted_total.labels(_label("provider", provider)).inc()


def alerted(destination: str, status: str, delay_s: float | None = None) -> None:
    """Count one alert by destination and status; `delay_s` from the event, when delivered."""
    alerts_total.labels(destination, status).inc()
    if delay_s is not None:
        alert_delay_seconds.observe(delay_s)


def degraded(what: str) -> None:
    """Count one lesser answer. `what` is a word of our own code, never of a request."""
    degraded_total.labels(what).inc()


def unknown_name(what: Named) -> None:
    """Count one naming of a provider or a route that the configuration does not hold."""
    unknown_names_total.labels(what).inc()


def _label(name: str, value: str) -> str:
    known = _configured.get(name, _WORDS.get(name))
    return str(value) if known is not None and value in known else OTHER
