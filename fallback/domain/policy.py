"""The thresholds that a breaker obeys, and what bounds the shared state."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fallback.domain.words import Reason, Recovery

LIMITS: Mapping[str, int] = {
    # What bounds the shared state. The script and the machine read the same numbers.
    "events": 20_000,  # entries of one event stream, about 300 bytes each
    "evidence": 1_000,  # failures remembered for one provider
    "rate_slices": 30,  # slices of a rate window; a window is exact to one slice
    "call_entries": 100,  # decisions and outcomes remembered for one call
    "call_bytes": 32_000,  # of the texts of those outcomes
    "announcements": 500,  # subjects of announcements remembered for "not again so soon"
    "unknown_names": 20,  # names remembered that agents use and the configuration does not hold
    "unknown_by_one": 10,  # of those, by one API key, so that it leaves room for others
    "unknown_ms": 24 * 3_600_000,  # one that nobody used for this long is forgotten
    "unknown_again_ms": 30_000,  # when one was used last is written again after this
    "tolerance_ms": 2_000,  # how far in the future a stored time may lie before it is re-based
    "quiet_call_ms": 15 * 60_000,  # an uneventful or bypassed call, or one over its key's budget:
    # long enough to know a resent outcome
    "call_ms": 24 * 3_600_000,  # a diverted, probed or failed call
    "evidence_ttl_ms": 3_600_000,  # garbage collection of evidence, on top of its window
    "notice_ms": 1_000,  # at most one failure notice per provider in this time past the threshold
    "retry_after_ms": 300_000,  # the longest that a provider's rate limit is taken at its word
    "keys_told": 20,  # keys named in one piece of evidence, the busiest first
    "age_ms": 3_600_000,  # an outcome older than this is taken as this old
}


@dataclass(frozen=True, slots=True)
class ReasonRule:
    """What one reason counts: a weight from 0 to 10, or a trip at once; its own open time."""

    weight: int = 1
    trips_at_once: bool = False
    open_duration_s: int | None = None

    @property
    def is_neutral(self) -> bool:
        """Neither a failure nor a success: it frees a lease and decides nothing."""
        return self.weight == 0 and not self.trips_at_once


DEFAULT_WHAT_COUNTS: Mapping[str, ReasonRule] = {
    Reason.CONNECTION: ReasonRule(),
    Reason.TIMEOUT: ReasonRule(),
    Reason.SERVER_ERROR: ReasonRule(),
    Reason.STREAM: ReasonRule(),
    Reason.STALL: ReasonRule(),
    Reason.UNKNOWN: ReasonRule(),
    Reason.RATE_LIMIT: ReasonRule(open_duration_s=15),
    Reason.AUTH: ReasonRule(trips_at_once=True, open_duration_s=300),
    Reason.QUOTA: ReasonRule(trips_at_once=True, open_duration_s=300),
    Reason.BAD_REQUEST: ReasonRule(weight=0),
    Reason.CANCELLED: ReasonRule(weight=0),
}


@dataclass(frozen=True, slots=True)
class Policy:
    """The thresholds a breaker obeys. 0 switches a rule off. Defaults: the contract's."""

    failure_threshold: int = 2
    failure_window_s: int = 240
    failure_rate_percent: int = 0
    minimum_calls: int = 20
    rate_window_s: int = 60
    slow_rate_percent: int = 0
    slow_after_ms: int = 3000
    distinct_hosts: int = 1
    distinct_keys: int = 1
    distinct_calls_for_stall: int = 2
    open_duration_s: int = 1800
    open_backoff: float = 1.0
    open_duration_max_s: int = 7200
    recovery: Recovery = Recovery.PROBE
    probe_slots: int = 1
    probe_lease_s: int = 120
    probe_successes: int = 1
    retrip_threshold: int = 1
    shadow: bool = False
    what_counts: Mapping[str, ReasonRule] = field(default_factory=lambda: DEFAULT_WHAT_COUNTS)

    def rule(self, reason: str) -> ReasonRule:
        """Return what `reason` counts; one that the table does not name counts as `unknown`."""
        return self.what_counts.get(reason) or self.what_counts.get(Reason.UNKNOWN) or ReasonRule()

    @property
    def samples_calls(self) -> bool:
        """Whether calls must be sampled at all: only a rate rule needs that."""
        return self.failure_rate_percent > 0 or self.slow_rate_percent > 0
