"""One step further: what was recorded since the last one, replayed through each second policy.

A step is one transaction: where the lane stands, how far it came and what it found are stored
together, so that a pump may be killed at any point. A trip is told before the commit, under a name
that is the same when the step is taken again: once.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

import structlog
from django.db import IntegrityError, transaction

from fallback import breaker, metrics, spells
from fallback.backtest import Span
from fallback.backtest.fates import infer
from fallback.backtest.lane import Lane
from fallback.backtest.replay import Replay, go_on
from fallback.backtest.storing import restored, stored
from fallback.breaker import wire
from fallback.domain import Event, EventName, Kind, Policy, State
from fallback.models import Provider, ShadowRun, ShadowTrip, rules_of
from fallback.times import epoch_ms, moment

SETTLED_MS: Final = 10_000  # processes write what they saw within two seconds
STEP_MS: Final = 3_600_000  # after a pause, so much at once: a step stays short
TOLD_AGAIN_MS: Final = 24 * 3_600_000  # a step that is taken again is taken sooner
FOUND_MAX: Final = 200  # trips kept of one run

log = structlog.get_logger(__name__)


def follow(now_ms: int | None = None) -> int:
    """Take a step for every provider that names a second policy; return how many trips were found.

    `now_ms`: another time than Redis's own, for tests. Raises BreakerUnavailable or a database
    error, with nothing lost.
    """
    ShadowRun.objects.filter(provider__shadow_policy=None).delete()
    rows = Provider.objects.filter(enabled=True).exclude(shadow_policy=None)
    return sum(_alone(row, now_ms) for row in rows.select_related("shadow_policy"))


def _alone(row: Provider, at_ms: int | None) -> int:
    """Take one provider's step; what is wrong with it must not hold up the others'."""
    try:
        return _step(row, at_ms)
    except Exception as error:
        if spells.culprit(error):
            raise
        metrics.degraded("shadow_step")
        log.exception("shadow_step_failed", provider=row.slug)
        return 0


def _step(row: Provider, at_ms: int | None) -> int:
    # Also proves that Redis answers: without it the newest of the past would be passed over.
    redis_ms = breaker.look(Kind(row.kind), [row.slug]).now_ms
    now_ms = redis_ms if at_ms is None else at_ms
    try:
        with transaction.atomic():
            run = _locked(row, now_ms)
            return _advance(run, row, now_ms) if run else 0
    except IntegrityError:  # another pump began it in this moment
        return 0


def _locked(row: Provider, now_ms: int) -> ShadowRun | None:
    """Return the provider's run, begun where there is none; None while another pump has it."""
    values = wire.policy_values(_policy(row))
    run = ShadowRun.objects.select_for_update(skip_locked=True).filter(provider=row).first()
    if run is None:
        if ShadowRun.objects.filter(provider=row).exists():
            return None
        run = ShadowRun(provider=row)
    if run.pk is None or run.policy_id != row.shadow_policy_id or run.judged_by != values:
        _begin(run, row, values, now_ms)
    return run


def _begin(run: ShadowRun, row: Provider, values: dict[str, Any], now_ms: int) -> None:
    run.policy_id, run.judged_by = row.shadow_policy_id or 0, values
    run.since = run.until = moment(now_ms)
    run.lane = {}
    run.trips = run.hurt = run.diverted = run.diverted_healthy = 0
    run.save()
    run.found.all().delete()


def _policy(row: Provider) -> Policy:
    """Return the second policy as if it were live: one that only watches would show nothing."""
    policy = row.shadow_policy
    assert policy is not None, "only providers that name one are followed"
    return replace(policy.as_value(rules_of(policy.reasons.all())), shadow=False)


def _advance(run: ShadowRun, row: Provider, now_ms: int) -> int:
    since_ms = epoch_ms(run.until)
    span = Span(since_ms, min(now_ms - SETTLED_MS, since_ms + STEP_MS))
    if span.until_ms <= span.since_ms:
        return 0
    kind, policy = Kind(row.kind), _policy(row)
    fates = infer(kind, row.slug, span.since_ms, span.until_ms)
    lane = restored(run.lane, policy, fates)
    if lane is None:
        if run.lane:  # another version of this program stored it
            log.warning("shadow_begun_anew", provider=row.slug)
            _begin(run, row, run.judged_by, since_ms)
        lane = Lane(row.slug, policy, fates, span.since_ms, has_orders=True)
    go_on(Replay(kind, row.slug, {"shadow": lane}), span)
    found = _keep(run, lane.moves)
    run.lane, run.until = stored(lane), moment(span.until_ms)
    run.hurt, run.diverted = lane.counts.hurt, lane.counts.diverted
    run.diverted_healthy = lane.counts.diverted_healthy
    run.trips += len(found)
    run.save()
    for event in found:
        _tell(row, run, event)
    return len(found)


def _keep(run: ShadowRun, events: Iterable[Event]) -> list[Event]:
    """Store the trips among the events, and the ends of earlier ones; return the trips."""
    found = []
    for event in events:
        if event.name == EventName.TRIPPED:
            found.append(event)
            ShadowTrip.objects.create(
                run=run, at=moment(event.at_ms), cause=event.cause, reason=event.reason,
                evidence=dict(event.evidence),
            )  # fmt: skip
        elif event.is_transition and event.after == State.CLOSED:
            run.found.filter(until=None).update(until=moment(event.at_ms))
    old = run.found.order_by("-at", "-id").values_list("pk", flat=True)[FOUND_MAX:]
    run.found.filter(pk__in=list(old)).delete()
    return found


def _tell(row: Provider, run: ShadowRun, event: Event) -> None:
    at = moment(event.at_ms)
    breaker.announce(
        Kind(row.kind),
        EventName.WOULD_TRIP,
        f"{run.policy} in shadow of {row}, {at:%Y-%m-%d %H:%M:%S.%f} UTC",
        every_ms=TOLD_AGAIN_MS,
        provider=row.slug,
        cause=event.cause,
        evidence={**event.evidence, "policy": run.policy.name, "at_ms": event.at_ms},
    )
    log.info("shadow_would_trip", provider=row.slug, policy=run.policy.name, cause=event.cause)
