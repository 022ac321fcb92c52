"""The words of the contract as enumerations, and what they have in common."""

from enum import StrEnum


class Kind(StrEnum):
    """What a provider does. A route never mixes kinds, so one decision touches one kind."""

    STT = "stt"
    TTS = "tts"
    LLM = "llm"


class State(StrEnum):
    """The fleet-wide state of one provider's breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"
    SHADOW = "shadow"


OVERRIDE_STATES = frozenset({State.FORCED_OPEN, State.FORCED_CLOSED, State.SHADOW})


ADMITTING_STATES = frozenset({State.CLOSED, State.FORCED_CLOSED, State.SHADOW})


class Recovery(StrEnum):
    """How an open breaker comes back: on a probe's proof, or simply when its time is up."""

    PROBE = "probe"
    TIMER = "timer"


class Memory(StrEnum):
    """How a call is remembered: as long as it matters, a quarter of an hour, or not at all."""

    FULL = "full"
    BRIEF = "brief"
    NONE = "none"


class Verdict(StrEnum):
    """What was found for one step of a chain."""

    ADMITTED = "admitted"
    PROBE = "probe"
    OPEN = "open"
    FORCED_OPEN = "forced_open"
    PROBES_BUSY = "probes_busy"
    FAILED_IN_CALL = "failed_in_call"
    NOT_USABLE = "not_usable"
    WRONG_LANGUAGE = "wrong_language"
    DISABLED = "disabled"
    BYPASS = "bypass"


ADMITTING_VERDICTS = frozenset({Verdict.ADMITTED, Verdict.PROBE})
DIVERTING_VERDICTS = frozenset({Verdict.OPEN, Verdict.FORCED_OPEN, Verdict.PROBES_BUSY})


class Mode(StrEnum):
    """Why a call starts on the provider it starts on."""

    PRIMARY = "primary"
    FALLBACK = "fallback"
    PROBE = "probe"
    LAST_RESORT = "last_resort"
    BYPASS = "bypass"


class Given(StrEnum):
    """How the walk over a chain found its provider; `decision` turns it into a `Mode`."""

    FIRST = "first"
    STICKY = "sticky"
    PROBE = "probe"
    LAST_RESORT = "last_resort"
    BYPASS = "bypass"


class OutcomeKind(StrEnum):
    """What an agent saw."""

    STARTED = "started"
    INIT_FAILURE = "init_failure"
    MID_CALL_FAILURE = "mid_call_failure"
    STALL = "stall"
    RECOVERED = "recovered"
    FIRST_TRANSCRIPT = "first_transcript"
    CALL_END = "call_end"


FAILURE_KINDS = frozenset(
    {OutcomeKind.INIT_FAILURE, OutcomeKind.MID_CALL_FAILURE, OutcomeKind.STALL}
)


class Reason(StrEnum):
    """Why a provider failed, as the agent saw it. The policy decides what that counts."""

    CONNECTION = "connection"
    TIMEOUT = "timeout"
    SERVER_ERROR = "server_error"
    STREAM = "stream"
    STALL = "stall"
    AUTH = "auth"
    QUOTA = "quota"
    RATE_LIMIT = "rate_limit"
    BAD_REQUEST = "bad_request"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class Effect(StrEnum):
    """What one outcome did to its provider's breaker."""

    NONE = "none"
    COUNTED = "counted"
    TRIPPED = "tripped"
    PROBE_SUCCEEDED = "probe_succeeded"
    PROBE_FAILED = "probe_failed"
    PROBE_RELEASED = "probe_released"
    RECOVERED = "recovered"
    WOULD_TRIP = "would_trip"


class Status(StrEnum):
    """Whether an outcome was taken."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    INVALID = "invalid"


class Named(StrEnum):
    """What an agent names, and the configuration may not hold."""

    PROVIDER = "provider"
    ROUTE = "route"


class Cause(StrEnum):
    """What moved a breaker."""

    FAILURE_THRESHOLD = "failure_threshold"
    FAILURE_RATE = "failure_rate"
    SLOW_RATE = "slow_rate"
    TRIP_AT_ONCE = "trip_at_once"
    TIME_UP = "time_up"
    PROBE_SUCCESS = "probe_success"
    PROBE_FAILURE = "probe_failure"
    OVERRIDE = "override"
    OVERRIDE_CLEARED = "override_cleared"
    OVERRIDE_ENDED = "override_ended"
    RESET = "reset"
    POLICY = "policy"
    UNKNOWN = "unknown"  # in history alone: the event that would say is lost


class EventName(StrEnum):
    """Everything the script writes to the event stream, by the word alerts use."""

    PROVIDER_FAILURE = "provider_failure"
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


class MidCallAction(StrEnum):
    """What a route asks of a call whose provider fails in the middle."""

    SWAP = "swap"
    END = "end"


class LastResort(StrEnum):
    """Whom a call gets when nobody admits it: the first in the chain, or whoever is back first."""

    PRIMARY = "primary"
    SOONEST = "soonest"


class NextAction(StrEnum):
    """What the agent should do after the outcome it reported."""

    CONTINUE = "continue"
    SWAP = "swap"
    END = "end"


BREAKER_ACTOR = "breaker"  # the actor of every transition that no person ordered


NO_POLICY = "no_policy"  # nothing was taken: the breakers have not been configured yet
