"""The template that each event has until an operator writes another."""

from dataclasses import dataclass
from typing import Final

from fallback.messages.events import AlertEvent, Severity


@dataclass(frozen=True, slots=True)
class Default:
    """One template: what the admin calls it, its texts, how bad its event is."""

    name: str
    title: str
    body: str
    severity: Severity = Severity.INFO


_SAW: Final = (
    "Seen by {host} in call {call} on {route}, reported by {reported_by}\n`{code}` `{message}`"
)
_COUNT: Final = (
    "Failure *{failures} of {failure_threshold}* within {failure_window_s} s: {reasons}\n"
    "Held back: {held_back}"
)

DEFAULTS: Final[dict[AlertEvent, Default]] = {
    AlertEvent.PROVIDER_FAILURE: Default(
        "A provider failed",
        "{provider} failed: failure {failures} of {failure_threshold}",
        f"{_COUNT}\nReason: {{reason}}\n{_SAW}",
        Severity.WARNING,
    ),
    AlertEvent.INIT_FALLBACK: Default(
        "Set-up fell back",
        "{provider} failed in a call's set-up: failure {failures} of {failure_threshold}",
        f"The call goes on with the next provider of its route.\n{_COUNT}\nReason: {{reason}}\n"
        + _SAW,
        Severity.WARNING,
    ),
    AlertEvent.MID_CALL_FAILURE: Default(
        "Failed in the middle of a call",
        "{provider} failed in the middle of a call: failure {failures} of {failure_threshold}",
        f"{_COUNT}\nWhat was seen: {{outcome}}, {{reason}}\n{_SAW}",
        Severity.WARNING,
    ),
    AlertEvent.TRIPPED: Default(
        "A provider is out",
        "{provider} is out: new calls go elsewhere",
        "Tripped by {cause}: {reason}\n"
        "*{failures}* failures within {failure_window_s} s (threshold {failure_threshold}),"
        " calls: {calls}, hosts: {hosts}\nReasons: {reasons}\n"
        "Reported by {reported_by}\n"
        "Last seen in call {call} on {route} by {host}\n"
        "`{code}` `{message}`",
        Severity.CRITICAL,
    ),
    AlertEvent.WOULD_TRIP: Default(
        "Shadow: it would be out",
        "{provider} would be out now (shadow)",
        "No call is diverted for this: {policy} only watches.\n"
        "{cause}: *{failures}* failures within {failure_window_s} s: {reasons}\n"
        "Reported by {reported_by}",
        Severity.WARNING,
    ),
    AlertEvent.FALLBACK_ACTIVE: Default(
        "The first call was diverted",
        "Calls of {route} now start on {fallback} instead of {provider}",
        "First diverted call: {call}",
    ),
    AlertEvent.PROBING: Default(
        "Being probed",
        "{provider} is being probed",
        "Single calls decide whether it is back.\nTrips in a row: {trips}",
    ),
    AlertEvent.PROBE_FAILED: Default(
        "A probe failed",
        "{provider} is still out: a probe failed",
        "Failed probes: {failed_probes} of {retrip_threshold}; trips in a row: {trips}\n"
        f"Reason: {{reason}}\n{_SAW}",
        Severity.WARNING,
    ),
    AlertEvent.RECOVERED: Default(
        "Back in service",
        "{provider} is back after {duration}",
        "Cause: {cause}\nProven by call {call}: first transcript after {latency_ms} ms",
    ),
    AlertEvent.OVERRIDE_SET: Default(
        "An operator's order",
        "{provider} is {state}: ordered by {actor}",
        "Why: {reason}\nUntil {until}",
        Severity.WARNING,
    ),
    AlertEvent.OVERRIDE_CLEARED: Default(
        "Back to automatic",
        "{provider} obeys its policy again: {state}",
        "{cause}, by {actor}\nWhy: {reason}",
    ),
    AlertEvent.RESET: Default(
        "Reset",
        "{provider} was reset by {actor}",
        "Closed, with nothing counted.\nWhy: {reason}",
    ),
    AlertEvent.ALL_PROVIDERS_DOWN: Default(
        "No provider is left",
        "No provider is left on {route}: calls get the last resort",
        "First seen in call {call}. Hold new outbound calls, or force the best provider closed.",
        Severity.CRITICAL,
    ),
    AlertEvent.MISCONFIGURED: Default(
        "Misconfigured",
        "Misconfigured: {subject}",
        "{detail}",
        Severity.WARNING,
    ),
    AlertEvent.STATE_LOST: Default(
        "Redis lost its data",
        "Redis lost its data: the {kind} breakers began anew",
        "Operators' orders that still hold were put back. Failures counted before are forgotten.",
        Severity.CRITICAL,
    ),
    AlertEvent.PUMP_LAGGING: Default(
        "The pump lags",
        "Events wait: the oldest for {age_s} s",
        "{entries} events are not carried yet: history, alerts and dashboard are behind.",
        Severity.CRITICAL,
    ),
    AlertEvent.EVENTS_MISSING: Default(
        "Events are missing",
        "History has holes: {entries} events never came, of {providers}",
        "They left the stream before a pump carried them: no pump ran for too long. What they told"
        " is missing in history and in alerts; the breakers themselves are as they should be.",
        Severity.WARNING,
    ),
    AlertEvent.EVENT_FORK: Default(
        "A failover forgot changes",
        "Redis forgot {entries} changes that history has, of {providers}",
        "A failover lost its newest writes: the breakers go on from before them. Look whether an"
        " operator's order is among what was lost.",
        Severity.WARNING,
    ),
}
