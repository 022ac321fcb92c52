"""Whether thresholds make sense together: pure judgement over a `domain.Policy`.

Single values are judged by their ranges (`RANGES`, which the columns, the form and the database
share). What is refused here is what an operator cannot have meant: a breaker that can never trip,
or two values of which one makes the other void.
"""

from collections.abc import Iterator, Mapping

from fallback.domain import LIMITS, Policy, Reason
from fallback.errors import Problem

RANGES: Mapping[str, tuple[float, float]] = {
    "failure_threshold": (0, LIMITS["evidence"]),  # more failures are not remembered
    "failure_window_s": (1, 86_400),
    "failure_rate_percent": (0, 100),
    "minimum_calls": (0, 100_000),
    "rate_window_s": (1, 3_600),
    "slow_rate_percent": (0, 100),
    "slow_after_ms": (1, 60_000),
    "distinct_hosts": (1, 100),
    "distinct_keys": (1, LIMITS["keys_told"]),  # more are not named
    "distinct_calls_for_stall": (1, 100),
    "open_duration_s": (1, 604_800),
    "open_backoff": (1, 10),
    "open_duration_max_s": (1, 604_800),
    "probe_slots": (1, 100),
    "probe_lease_s": (1, 3_600),
    "probe_successes": (1, 100),
    "retrip_threshold": (1, 100),
    "weight": (0, 10),
}


def contradictions(policy: Policy) -> Iterator[Problem]:
    """Yield what is wrong between the numbers of a policy, whatever its reasons count."""
    rates = [
        name for name in ("failure_rate_percent", "slow_rate_percent") if getattr(policy, name)
    ]
    if rates and policy.minimum_calls < 1:
        yield Problem(
            "minimum_calls",
            f"{rates[0]} is on, and a rate of no minimum of calls trips on the first bad call:"
            " set minimum_calls to 1 or more (20 is usual).",
        )
    if policy.open_duration_max_s < policy.open_duration_s:
        yield Problem(
            "open_duration_max_s",
            f"{policy.open_duration_max_s} s is less than open_duration_s"
            f" ({policy.open_duration_s} s): set at least {policy.open_duration_s}.",
        )
    for quorum, noun in (("distinct_hosts", "hosts"), ("distinct_keys", "keys")):
        wanted = getattr(policy, quorum)
        if 0 < policy.failure_threshold < wanted:
            yield Problem(
                quorum,
                f"A failure_threshold of {policy.failure_threshold} is reached before {wanted}"
                f" {noun} could have failed: raise it to {wanted} or more, or ask for at most"
                f" {policy.failure_threshold} {noun}.",
            )


def never_trips(policy: Policy) -> Problem | None:
    """Return why no outcome at all could trip this policy, or None if one could."""
    rules = [policy.rule(reason) for reason in Reason]
    if all(rule.is_neutral for rule in rules):
        return Problem(
            "what_counts",
            "No reason counts: every weight is 0 and none trips at once, so this policy can never"
            " trip. Give at least one reason a weight from 1 to 10. To count without diverting,"
            " tick shadow instead.",
            code="never_trips",
        )
    if policy.failure_threshold or policy.samples_calls or any(r.trips_at_once for r in rules):
        return None
    return Problem(
        "failure_threshold",
        "Every rule is off (failure_threshold, failure_rate_percent and slow_rate_percent are 0,"
        " and no reason trips at once), so this policy can never trip. Switch one on (2 failures"
        " in 240 s is usual). To count without diverting, tick shadow instead.",
        code="never_trips",
    )
