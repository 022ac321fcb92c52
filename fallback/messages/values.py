"""The named values that a template may use, and how they are taken from an event."""

from collections.abc import Mapping
from typing import Any, Final

from fallback.domain import Event, EventName, OutcomeKind
from fallback.messages.blocks import clean
from fallback.messages.events import AlertEvent

Values = Mapping[str, str | int]

# name -> (what it is, a sample)
NAMES: Final[dict[str, tuple[str, str | int]]] = {
    "provider": ("slug of the provider", "soniox"),
    "kind": ("stt, tts or llm; of a loss of data all that lost it", "stt"),
    "at": ("when it happened", 1_795_348_860_000),
    "state": ("the breaker's state after it", "open"),
    "before": ("the breaker's state before it", "closed"),
    "cause": ("what moved the breaker", "failure threshold"),
    "reason": ("the failure, or the operator's words", "connection"),
    "actor": ("who: breaker, admin:…, slack:…, api:…", "breaker"),
    "incident": ("number of the incident", "17"),
    "call": ("a call that saw it", "CA5f0c"),
    "host": ("the host that saw it", "pod-7"),
    "route": ("the route of that call", "breeze-buddy"),
    "outcome": ("what the agent saw", "init failure"),
    "code": ("the provider's error code", "1011"),
    "message": ("the provider's error text", "connection reset by peer"),
    "failures": ("weighted failures in the window", 2),
    "failure_threshold": ("failures that trip", 2),
    "failure_window_s": ("length of the window in seconds", 240),
    "calls": ("calls that failed in the window", 2),
    "hosts": ("hosts that saw failures", 2),
    "reasons": ("failures by reason", "connection 2"),
    "key": ("the API key that reported it", "pods-eu"),
    "reported_by": ("the API keys that reported the failures", "key pods-eu"),
    "held_back": ("why so many failures trip nothing", ""),
    "trips": ("trips in a row", 1),
    "diverted": ("calls begun elsewhere", 12),
    "hurt": ("calls it failed in", 3),
    "saved": ("calls heard by another provider", 2),
    "failed_probes": ("failed probes of this half-open spell", 1),
    "retrip_threshold": ("failed probes that reopen", 1),
    "successes": ("probes that succeeded", 1),
    "latency_ms": ("time to the first transcript", 640),
    "policy": ("the policy that only watches", "its policy"),
    "fallback": ("the provider calls go to", "deepgram"),
    "until": ("when it ends by itself", 1_795_350_660_000),
    "duration": ("how long it was out", "31 min 4 s"),
    "subject": ("what it is about", "route breeze-buddy"),
    "detail": ("what is wrong", "step google is disabled"),
    "age_s": ("age of the oldest waiting event in seconds", 42),
    "entries": ("events that wait, or are missing", 120),
    "providers": ("the providers it is about", "soniox, deepgram"),
}
TIMES: Final = frozenset({"at", "until"})
KEY_MAX: Final = 40  # characters of the name of an API key

_ALL: Final = frozenset({"provider", "kind", "at"})
_MOVE: Final = _ALL | {"state", "before", "cause", "reason", "actor", "incident"}
_CALL: Final = frozenset(
    {"call", "host", "route", "outcome", "code", "message", "key", "reported_by"}
)
_COUNT: Final = frozenset(
    {"failures", "failure_threshold", "failure_window_s", "calls", "hosts", "reasons"}
)
_CALLS: Final = frozenset({"trips", "diverted", "hurt", "saved", "until", "duration"})
_FAILURE: Final = _ALL | {"reason", "state", "held_back"} | _CALL | _COUNT
_OF: Final[dict[AlertEvent, frozenset[str]]] = {
    AlertEvent.PROVIDER_FAILURE: _FAILURE,
    AlertEvent.INIT_FALLBACK: _FAILURE,
    AlertEvent.MID_CALL_FAILURE: _FAILURE,
    AlertEvent.TRIPPED: _MOVE | _CALL | _COUNT | _CALLS,
    AlertEvent.WOULD_TRIP: _FAILURE | {"cause", "policy"},
    AlertEvent.FALLBACK_ACTIVE: _ALL | {"state", "fallback", "route", "call", "incident"},
    AlertEvent.PROBING: _MOVE | _CALLS,
    AlertEvent.PROBE_FAILED: _MOVE | _CALL | _CALLS | {"failed_probes", "retrip_threshold"},
    AlertEvent.RECOVERED: _MOVE | _CALLS | {"call", "successes", "latency_ms"},
    AlertEvent.OVERRIDE_SET: _MOVE | _CALLS,
    AlertEvent.OVERRIDE_CLEARED: _MOVE | _CALLS,
    AlertEvent.RESET: _MOVE | _CALLS,
    AlertEvent.ALL_PROVIDERS_DOWN: _ALL | {"route", "call", "incident"},
    AlertEvent.MISCONFIGURED: _ALL | {"subject", "detail"},
    AlertEvent.STATE_LOST: _ALL,
    AlertEvent.PUMP_LAGGING: _ALL | {"age_s", "entries"},
    AlertEvent.EVENTS_MISSING: _ALL | {"providers", "entries"},
    AlertEvent.EVENT_FORK: _ALL | {"providers", "entries"},
}


def known_names(event: AlertEvent) -> frozenset[str]:
    """Return the names that a template for this event may use."""
    return _OF[event]


def sample(event: AlertEvent) -> dict[str, str | int]:
    """Return made-up values for each name that this event has."""
    special: dict[AlertEvent, dict[str, str | int]] = {
        AlertEvent.PROVIDER_FAILURE: {"failures": 1, "calls": 1, "hosts": 1, "state": "closed"},
        AlertEvent.INIT_FALLBACK: {"failures": 1, "calls": 1, "hosts": 1, "state": "closed"},
        AlertEvent.MID_CALL_FAILURE: {"failures": 1, "outcome": "mid call failure"},
        AlertEvent.WOULD_TRIP: {"state": "shadow"},
        AlertEvent.PROBING: {"state": "half open", "before": "open", "cause": "time up"},
        AlertEvent.RECOVERED: {"state": "closed", "before": "half open", "cause": "probe success"},
        AlertEvent.OVERRIDE_SET: _ORDER | {"state": "forced open", "cause": "override"},
        AlertEvent.OVERRIDE_CLEARED: _ORDER | {"state": "closed", "before": "forced open"},
        AlertEvent.RESET: _ORDER | {"state": "closed", "before": "open", "cause": "reset"},
    }
    values = {name: NAMES[name][1] for name in _OF[event]}
    return values | special.get(event, {})


_ORDER: Final[dict[str, str | int]] = {
    "actor": "slack:ana",
    "reason": "maintenance at the provider",
}


def values_of(event: Event) -> dict[str, str | int]:
    """Return what an event says, by name; what it does not say is left out."""
    evidence = event.evidence
    found: dict[str, Any] = {name: evidence.get(name) for name in NAMES if name in evidence}
    found |= {
        "kind": event.kind,
        "at": event.at_ms,
        "state": _words(event.after),
        "before": _words(event.before),
        "cause": _words(event.cause),
        "reason": event.reason,
        "actor": event.actor,
        "reasons": reasons(evidence.get("reasons")),
        "reported_by": reported_by(evidence.get("keys") or {evidence.get("key"): 1}),
        "held_back": held_back(
            evidence.get("failures"), evidence.get("keys"), evidence.get("distinct_keys")
        ),
        "outcome": _words(str(evidence.get("outcome", ""))),
        "until": evidence.get("until_ms"),
    }
    if event.name == EventName.FALLBACK_ACTIVE:
        found["fallback"] = evidence.get("provider")
    if event.name == EventName.WOULD_TRIP:  # a second policy in shadow has a name of its own
        found["policy"] = evidence.get("policy") or "its policy"
    found["provider"] = event.provider
    if event.name in {EventName.MISCONFIGURED, EventName.PUMP_LAGGING}:
        found |= {"subject": event.reason, "age_s": _seconds(evidence.get("age_ms"))}
    if evidence.get("outcome") == OutcomeKind.STALL:
        found["outcome"] = "stall (speech, no transcript)"
    return {name: _kept(value) for name, value in found.items() if value not in ("", None)}


def reasons(counts: object) -> str:
    """Return failures by reason, the most frequent first: "connection 2, timeout 1"."""
    if not isinstance(counts, dict):
        return ""
    rows = sorted(
        ((int(count), clean(name, 40)) for name, count in counts.items() if _is_number(count)),
        key=lambda row: (-row[0], row[1]),
    )
    return ", ".join(f"{name} {count}" for count, name in rows[:8])


def reported_by(counts: object) -> str:
    """Return whose API keys reported failures: "key pods-eu", "keys pods-eu 3, pods-us 1"."""
    if not isinstance(counts, dict):
        return ""
    named = {key: count for key, count in counts.items() if key and _is_number(count)}
    if len(named) == 1:
        return f"key {clean(next(iter(named)), KEY_MAX)}"
    return f"keys {reasons(named)}" if named else ""


def held_back(failures: object, counts: object, wanted: object) -> str:
    """Return why failures trip nothing where a quorum of API keys is missing: "4 failures, all by
    key pods-eu; 2 keys are asked for". Empty where `wanted`, the keys asked for, is nothing."""
    if not _is_number(wanted):
        return ""
    many = "1 failure" if failures == 1 else f"{failures} failures"
    return f"{many}, all by {reported_by(counts) or 'no known key'}; {wanted} keys are asked for"


def duration(seconds: float) -> str:
    """Return a length in words, its two largest units: "31 min 4 s"."""
    rest, parts = max(0, int(seconds)), []
    for name, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2]) or "0 s"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _seconds(ms: object) -> int | None:
    return int(ms) // 1000 if isinstance(ms, int | float) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kept(value: object) -> str | int:
    """Return a number as a whole one and anything else as bounded text."""
    return int(value) if _is_number(value) else clean(value)  # type: ignore[call-overload]
