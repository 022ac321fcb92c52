"""The replay: one provider's past, read once, through as many lanes as are given."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from fallback import past
from fallback.backtest.fates import infer
from fallback.backtest.lane import Lane
from fallback.domain import Cause, EventName, Kind, Order, Policy, State
from fallback.errors import FallbackError
from fallback.models import Transition
from fallback.past import Sighting, Slot, What
from fallback.standing import latest
from fallback.times import epoch_ms, moment

BUCKETS: Final = 240  # of the timeline of failures

Progress = Callable[[float], bool]
"""Told how much is done, 0 to 1; answers whether to go on."""

Subject = tuple[Kind, str]
"""A provider: its kind and slug."""

_ASKED, _HEARD, _TAKEN = int(What.ASKED), int(What.HEARD), int(past.Flag.TAKEN)
_NEVER_MS: Final = 2**62


class Stopped(FallbackError):  # noqa: N818 - named like the other refusals in `errors`
    """Somebody stopped the rehearsal."""

    code = "stopped"


@dataclass(frozen=True, slots=True)
class Span:
    """From `since_ms` up to `until_ms`."""

    since_ms: int
    until_ms: int

    def bucket(self, at_ms: int) -> int:
        """Return in which part of the timeline a time lies."""
        length_ms = max(1, self.until_ms - self.since_ms)
        return min(BUCKETS - 1, (at_ms - self.since_ms) * BUCKETS // length_ms)


@dataclass
class Replay:
    """What came of it, for one provider."""

    kind: Kind
    provider: str
    lanes: dict[str, Lane]
    calls: int = 0
    failures: int = 0
    dropped: int = 0
    failed_in: list[int] = field(default_factory=lambda: [0] * BUCKETS)


def shares(progress: Progress, subjects: Sequence[Subject]) -> Iterator[tuple[Subject, Progress]]:
    """Yield each of the providers with the progress of its share."""
    for index, subject in enumerate(subjects):
        yield subject, _share(progress, index, len(subjects))


def _share(progress: Progress, index: int, count: int) -> Progress:
    return lambda done: progress((index + done) / count)


def run(
    kind: Kind,
    provider: str,
    policies: Mapping[str, Policy],
    span: Span,
    progress: Progress = lambda done: True,
) -> Replay:
    """Replay a span for one provider through each policy. Raises Stopped."""
    orders = [*_standing(kind, provider, span), *_orders(kind, provider, span)]
    fates = infer(kind, provider, span.since_ms, span.until_ms)
    lanes = {
        name: Lane(provider, policy, fates, span.since_ms, has_orders=bool(orders))
        for name, policy in policies.items()
    }
    replay = Replay(kind, provider, lanes)
    _replay(replay, span, orders, progress)
    return replay


def go_on(replay: Replay, span: Span) -> None:
    """Replay more of the past through lanes that stand at the beginning of the span, or are new."""
    orders = list(_orders(replay.kind, replay.provider, span))
    if any(lane.start_ms == span.since_ms for lane in replay.lanes.values()):
        orders = [*_standing(replay.kind, replay.provider, span), *orders]
    _replay(replay, span, orders, lambda done: True)


def _replay(
    replay: Replay, span: Span, orders: list[tuple[int, Order]], progress: Progress
) -> None:
    lanes = list(replay.lanes.values())
    for slot in past.read(replay.kind, replay.provider, span.since_ms, span.until_ms):
        done = (slot.start_ms - span.since_ms) / max(1, span.until_ms - span.since_ms)
        if not progress(max(0.0, done)):
            raise Stopped("The rehearsal was stopped.")
        _count(slot, replay, span)
        _play(slot, replay, span, orders)
    _give(orders, lanes, span.until_ms)
    for lane in lanes:
        lane.finish(span.until_ms)
    progress(1.0)


def _play(slot: Slot, replay: Replay, span: Span, orders: list[tuple[int, Order]]) -> None:
    """Have the lanes meet one slot. Most of it is calls that were taken and heard, which calm lanes
    pass over."""
    lanes = list(replay.lanes.values())
    busy, listening = _awake(lanes)
    notable = slot.notable(min((lane.slow_ms for lane in lanes if lane.slow_ms), default=None))
    position, last = slot.position(span.since_ms), slot.position(span.until_ms)
    while position < last:
        if not busy and all(lane.may_pass(slot, position) for lane in listening):
            order_at = max(position, slot.position(_next_order_ms(orders)))
            next_one = _next(notable, position, last, order_at)
            _pass_over(slot, position, next_one, listening)
            position = next_one
            if position >= last:
                break
        sighting = slot[position]
        position += 1
        if sighting.at_ms >= _next_order_ms(orders):
            _give(orders, lanes, sighting.at_ms)
            busy, listening = _awake(lanes)
        if _tell(sighting, slot, _audience(sighting, lanes, busy, listening)):
            busy, listening = _awake(lanes)
    for lane in lanes:
        lane.forget(slot.start_ms)


def _pass_over(slot: Slot, first: int, last: int, lanes: list[Lane]) -> None:
    """Have the lanes pass over a stretch that holds nothing notable."""
    if lanes:
        heard, end_ms = slot.heard_at(first, last), slot.time(last)
        for lane in lanes:
            lane.pass_over(slot, heard, end_ms)


def _tell(sighting: Sighting, slot: Slot, audience: list[Lane]) -> bool:
    """Have the lanes meet a sighting; return whether one of them is in another mood for it."""
    is_changed = False
    for lane in audience:
        is_changed |= lane.meet(sighting, slot)
    return is_changed


def _audience(
    sighting: Sighting, lanes: list[Lane], busy: list[Lane], listening: list[Lane]
) -> list[Lane]:
    """Return the lanes that must know of it."""
    if sighting.what == _HEARD:
        return listening
    return busy if sighting.what == _ASKED and sighting.flags & _TAKEN else lanes


def _next(notable: list[int], position: int, *others: int) -> int:
    """Return the first notable position from this one on, or one of the others before it."""
    index = bisect_left(notable, position)
    return min(*notable[index : index + 1], *others)


def _awake(lanes: list[Lane]) -> tuple[list[Lane], list[Lane]]:
    """Return the lanes that must know of each call, and those that must know who is heard."""
    busy = [lane for lane in lanes if not lane.is_calm]
    return busy, [lane for lane in lanes if not lane.is_deaf]


def _count(slot: Slot, replay: Replay, span: Span) -> None:
    first, last = slot.position(span.since_ms), slot.position(span.until_ms)
    replay.dropped += slot.dropped
    replay.calls += slot.calls_between(first, last)
    for sighting, _, _ in slot.failed(span.since_ms, span.until_ms):
        replay.failures += 1
        replay.failed_in[span.bucket(sighting.at_ms)] += 1


def _give(orders: list[tuple[int, Order]], lanes: list[Lane], at_ms: int) -> None:
    """Give the orders that are due."""
    while orders and orders[0][0] <= at_ms:
        order_ms, order = orders.pop(0)
        for lane in lanes:
            lane.ordered(order_ms, order)


def _next_order_ms(orders: list[tuple[int, Order]]) -> int:
    return orders[0][0] if orders else _NEVER_MS


def _standing(kind: Kind, provider: str, span: Span) -> Iterator[tuple[int, Order]]:
    """Yield the order that holds when the span begins, if there is one."""
    known = Transition.objects.filter(kind=kind, provider=provider)
    before = latest(known.filter(at__lt=moment(span.since_ms)))
    if before and _is_order(before):
        standing = _order(before, span.since_ms)
        if standing.for_ms >= 0:
            yield span.since_ms, standing


def _orders(kind: Kind, provider: str, span: Span) -> Iterator[tuple[int, Order]]:
    """Yield what operators ordered in the span, with its time: it holds under any policy."""
    known = Transition.objects.filter(kind=kind, provider=provider)
    rows = known.filter(at__gte=moment(span.since_ms), at__lt=moment(span.until_ms))
    for row in rows.order_by("at", "version", "id"):
        if _is_order(row):
            at_ms = epoch_ms(row.at)
            yield at_ms, _order(row, at_ms)


def _is_order(row: Transition) -> bool:
    return row.cause in {Cause.OVERRIDE, Cause.OVERRIDE_CLEARED, Cause.RESET}


def _order(row: Transition, at_ms: int) -> Order:
    """Return the order again, as it is at that time: `for_ms` is what is left of it."""
    if row.name == EventName.OVERRIDE_SET:
        end_ms = row.evidence.get("until_ms")
        left_ms = int(end_ms) - at_ms if end_ms else 0
        return Order("override", row.provider, row.actor, row.reason, State(row.after), left_ms)
    action = "reset" if row.cause == Cause.RESET else "clear"
    return Order(action, row.provider, row.actor, row.reason)
