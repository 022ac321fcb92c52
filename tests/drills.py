"""A random day of one route, lived through the real verbs and scripts at a virtual time.

Everything a rehearsal must reckon with happens: outages and recoveries of each provider, stray
failures of healthy ones, calls that hang up, ask again, report late or twice, probes that are heard
or lost, operators' orders.
"""

import heapq
import itertools
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from django.conf import settings

from fallback import breaker, catalog, past, services
from fallback.domain import Kind, Outcome, OutcomeKind, Question, State
from fallback.past import recorder
from fallback.past.keeping import Keeper
from fallback.past.recorder import Recorder
from fallback.pump import Pump
from tests.twins import VIRTUAL_CLOCK, VirtualBreakers

CHAIN = ("soniox", "deepgram", "sarvam")
HOSTS = ("pod-1", "pod-2", "pod-3")
KEYS = ("api:eu", "api:us")  # whose hosts they are
REASONS = ("connection", "timeout", "server_error", "stream", "rate_limit", "auth", "bad_request")
KIND = Kind.STT
DAY_MS = 86_400_000
# Yesterday, so that no pump forgets it; in the middle of a slot.
START = (time.time_ns() // 1_000_000 // DAY_MS - 1) * DAY_MS + 123_456


class VirtualTime:
    """The real breakers of this deployment, at a time that the drill chooses."""

    def __init__(self, client: redis.Redis) -> None:
        requests = itertools.count(1)
        self.breakers = VirtualBreakers(
            connect=lambda: client,
            namespace=settings.FALLBACK_NAMESPACE,
            clock=VIRTUAL_CLOCK,
            new_request=lambda: f"{next(requests):016x}",
        )
        self.breakers.now_ms = START
        self.keeper = Keeper(lambda: self.now_ms / 1000)

    @property
    def now_ms(self) -> int:
        return self.breakers.now_ms

    def go_to(self, at_ms: int) -> None:
        """Let time pass; the past is written and stored on the way, as threads and pump do."""
        while at_ms - self.now_ms > 1_200_000:
            self.go_to(self.now_ms + 1_200_000)
        if at_ms // 600_000 != self.now_ms // 600_000:
            past.flush()
            self.keeper.run()
        self.breakers.now_ms = at_ms


@contextmanager
def virtual_time(client: redis.Redis, patch: pytest.MonkeyPatch) -> Iterator[VirtualTime]:
    """Have every verb of this process meet the breakers at a virtual time."""
    world = VirtualTime(client)
    for verb in ("decide", "record", "order", "configure", "snapshot", "announce", "recall"):
        patch.setattr(breaker, verb, getattr(world.breakers, verb))
    patch.setattr(recorder, "_recorder", _quiet_recorder(patch))
    yield world


def _quiet_recorder(patch: pytest.MonkeyPatch) -> Recorder:
    mine = Recorder()
    patch.setattr(mine._flusher, "start", lambda: None)
    return mine


class Drill:
    """One random history. The same seed lives the same."""

    def __init__(self, world: VirtualTime, seed: int, *, has_orders: bool) -> None:
        self.world, self.random = world, random.Random(seed)
        self.has_orders = has_orders
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.count = itertools.count()
        self.sick_until: dict[str, int] = {}

    def live(self, calls: int) -> None:
        """Begin so many calls, and let all that follows happen."""
        at_ms = self.world.now_ms + 1000
        for number in range(calls):
            at_ms += self.random.choice((50, 400, 2_000, 9_000, 60_000))
            self.at(at_ms, lambda number=number: self.begin(f"CA{number}"))
            if self.random.random() < 0.01:
                self.at(at_ms, self.outage)
            if self.has_orders and self.random.random() < 0.01:
                self.at(at_ms + 7, self.order)  # which came first in one millisecond is not kept
        while self.queue:
            due_ms, _, happen = heapq.heappop(self.queue)
            self.world.go_to(due_ms)
            happen()
        past.flush()

    def at(self, at_ms: int, happen: Callable[[], None]) -> None:
        heapq.heappush(self.queue, (at_ms, next(self.count), happen))

    def after(self, least_ms: int, most_ms: int, happen: Callable[[], None]) -> None:
        self.at(self.world.now_ms + self.random.randint(least_ms, most_ms), happen)

    def outage(self) -> None:
        slug = self.random.choice(CHAIN)
        self.sick_until[slug] = self.world.now_ms + self.random.randint(10_000, 3_600_000)

    def order(self) -> None:
        slug, chance = self.random.choice(CHAIN), self.random.random()
        if chance < 0.6:
            state = self.random.choice((State.FORCED_OPEN, State.FORCED_CLOSED, State.SHADOW))
            for_s = self.random.choice((None, 30, 600, 1800))
            services.set_override(KIND, slug, state=state, reason="drill", for_s=for_s, by="ana")
        elif chance < 0.9:
            services.clear_override(KIND, slug, reason="drill", by="ana")
        else:
            services.reset_breaker(KIND, slug, reason="drill", by="ana")

    def begin(self, call: str, failed: tuple[str, ...] = ()) -> None:
        question = Question(
            "breeze-buddy", call, failed=failed, host=self.random.choice(HOSTS),
            probe=self.random.random() < 0.9,
        )  # fmt: skip
        made = services.make_decision(question)
        self.go_on(call, made.provider, made.lease)
        if self.random.random() < 0.1:
            self.after(100, 5_000, lambda: self.begin(call, failed))

    def go_on(self, call: str, slug: str, lease: str) -> None:
        """The call is on this provider: it fails, is heard, or hangs up."""
        is_sick = self.sick_until.get(slug, 0) > self.world.now_ms
        chance = self.random.random()
        if chance < (0.95 if is_sick else 0.03):
            self.after(1, 3_000, lambda: self.fail(call, slug, lease))
        elif chance < 0.97:
            self.after(200, 6_000, lambda: self.hear(call, slug, lease))
            if self.random.random() < 0.03:
                self.after(7_000, 60_000, lambda: self.fail(call, slug, lease))
        else:
            self.after(500, 150_000, lambda: self.report(call, slug, OutcomeKind.CALL_END, lease))

    def fail(self, call: str, slug: str, lease: str) -> None:
        kind = self.random.choice(
            (OutcomeKind.INIT_FAILURE, OutcomeKind.MID_CALL_FAILURE, OutcomeKind.STALL)
        )
        reason = "stall" if kind == OutcomeKind.STALL else self.random.choice(REASONS)
        wait_s = 20.0 if reason == "rate_limit" and self.random.random() < 0.5 else None
        self.report(call, slug, kind, lease, reason=reason, retry_after_s=wait_s)
        if self.random.random() < 0.5:
            self.after(1, 500, lambda: self.begin(call, (slug,)))

    def hear(self, call: str, slug: str, lease: str) -> None:
        latency_ms = self.random.choice((None, 300, 900, 2_500, 5_000))
        shown = lease if self.random.random() < 0.95 else ""
        self.report(call, slug, OutcomeKind.FIRST_TRANSCRIPT, shown, latency_ms=latency_ms)

    def report(self, call: str, slug: str, kind: OutcomeKind, lease: str, **seen: Any) -> None:
        outcome = Outcome(
            f"{call}:{slug}:{kind}:{self.world.now_ms}", call, slug, kind, lease=lease,
            host=self.random.choice(HOSTS), route="breeze-buddy",
            age_ms=self.random.choice((0, 0, 0, 40, 700, 20_000)), **seen,
        )  # fmt: skip
        batch = [outcome] * (2 if self.random.random() < 0.05 else 1)
        services.report_outcomes(batch, by=KEYS[outcome.host == HOSTS[0]])


def carry_all() -> None:
    """Have a pump carry every event into history."""
    pump = Pump("drill")
    while pump.turn():
        pass


def publish() -> None:
    """Have the breakers judge by the configuration in the database."""
    catalog.reload()
    services.publish_configuration()
