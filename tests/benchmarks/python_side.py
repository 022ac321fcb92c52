"""From Python, one caller: the breakers, the whole service, and how both bear a large catalog."""

import time
from collections.abc import Callable
from itertools import count
from statistics import median

from django.db import transaction
from django_redis import get_redis_connection

from fallback import breaker, catalog, services
from fallback.domain import Asked, Kind, Question
from fallback.models import Provider, Route, RouteStep
from tests.benchmarks.stage import Stage
from tests.benchmarks.table import Row, Turns

ROUNDS = 5
CALLS = 300
SIZES = (10, 1_000, 10_000)
CHAIN = ("soniox", "deepgram")


def run(_stage: Stage) -> list[Row]:
    """Time one call of each, beside an empty script over the same client."""
    numbers = count()
    steps = tuple((name, False) for name in CHAIN)

    def ask() -> None:
        breaker.decide(Kind.STT, Asked(call_id=f"c{next(numbers)}", route="main", steps=steps))

    def serve() -> None:
        services.make_decision(Question(route="breeze-buddy", call_id=f"c{next(numbers)}"))

    cases = {"empty script, redis-py": _empty(), "breaker.decide": ask,
             "services.make_decision": serve}  # fmt: skip
    turns = Turns({name: _timer(one) for name, one in cases.items()}, ROUNDS)
    yardstick = turns.names[0]
    return [
        Row(name, f"p50 {turns.of(name):.0f} us", turns.ratio(name, yardstick), "empty")
        for name in turns.names
    ]


def run_routes(_stage: Stage) -> list[Row]:
    """Time a decision on any route, with more and more routes in the catalog."""
    rows, first = [], 0.0
    for size in SIZES:
        serve = _server(_grow_to(size))

        turns = Turns({"empty": _timer(_empty()), "decision": _timer(serve)}, ROUNDS)
        to_empty = turns.ratio("decision", "empty")
        first = first or to_empty
        figure = f"p50 {turns.of('decision'):.0f} us, {to_empty:.2f} x empty"
        rows.append(
            Row(f"{size:,} routes", figure, to_empty / first, f"{SIZES[0]} routes", at_most=1.1)
        )
    return rows


def _server(slugs: list[str]) -> Callable[[], None]:
    """Return what makes a decision on one route after the other, far apart in the catalog."""
    numbers = count()

    def serve() -> None:
        number = next(numbers)
        slug = slugs[number * 7919 % len(slugs)]
        services.make_decision(Question(route=slug, call_id=f"r{number}"))

    return serve


def _empty() -> Callable[[], None]:
    client = get_redis_connection("breaker")
    sha = client.script_load("return 1")
    return lambda: client.evalsha(sha, 3, "{b}1", "{b}2", "{b}3")


def _timer(call: Callable[[], None]) -> Callable[[], float]:
    """Return what gives the median microseconds of many calls."""

    def measure() -> float:
        taken = []
        for _ in range(CALLS):
            began = time.perf_counter()
            call()
            taken.append(time.perf_counter() - began)
        return median(taken) * 1e6

    return measure


def _grow_to(size: int) -> list[str]:
    """Add routes until there are `size`, load them, and return their slugs."""
    providers = [Provider.objects.get(kind=Kind.STT, slug=name) for name in CHAIN]
    with transaction.atomic():
        numbers = range(Route.objects.count(), size)
        slugs = [f"route-{number}" for number in numbers]
        made = Route.objects.bulk_create([Route(slug=slug, name=slug) for slug in slugs])
        steps = [RouteStep(route=route, provider=provider, position=position)
                 for route in made for position, provider in enumerate(providers)]  # fmt: skip
        RouteStep.objects.bulk_create(steps)
    catalog.reload()
    services.publish_configuration()
    return list(catalog.current().routes)
