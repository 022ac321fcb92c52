"""Health for whoever restarts or routes: `/livez` and `/readyz?role=web|pump`.

Liveness asks nothing of anybody: a database that is away is no reason to kill every pod. Readiness
says what is known of the database, Redis and, for the pump, whether events flow; each is asked in
the background, so that one that hangs costs a probe nothing and the others are told rightly. For
web they may be away, which is degraded, not failing: whoever has read the configuration once
decides on without them, and an outage of the database must not take every pod out of the balancer.
The pump needs both.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from django.db import connection, connections
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils.decorators import async_only_middleware

from controlplane import problem, request_id
from fallback import catalog, stream
from fallback.domain import Kind
from fallback.fitness import WELL, Finding, Grade, NotFit, redis_server, schema
from fallback.fitness.question import FIRST_WAIT_S, POLL_S, Answer, Question

Handler = Callable[[HttpRequest], Awaitable[HttpResponseBase]]

PUMP_SILENT_S: Final = 15.0  # a living pump asks about once a second
PUMP_WAITS_S: Final = 5.0  # a lock or a restart is over by then
EVENT_LATE_S: Final = 60.0
SCHEMA_KEPT_S: Final = 60.0  # nobody changes it but a release


def ask_database() -> Finding:
    """Make the database answer."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connections.close_all()  # this thread's own; with a pool they go back to it
    return WELL


def ask_schema() -> Finding:
    """Compare the database's schema with what this version's migrations make."""
    try:
        schema.require()
    finally:
        connections.close_all()
    return WELL


def ask_pump() -> Finding:
    """See whether any pump asks for events, and how long the oldest one has been waiting."""
    silent_ms = stream.silence_ms(Kind.STT)
    if silent_ms is None:
        raise NotFit("no pump asks for events: run manage.py pump")
    if silent_ms > PUMP_SILENT_S * 1000:
        text = f"no pump has asked for events for {silent_ms // 1000} s"
        raise NotFit(f"{text}: it waits for the database, or does not run")
    waiting = stream.waiting()
    if waiting and time.time() * 1000 - waiting.since_ms > PUMP_WAITS_S * 1000:
        raise NotFit(f"pump {waiting.consumer} waits for the {waiting.what}: {waiting.why}")
    late_ms = max(stream.lag(kind).age_ms for kind in Kind)
    if late_ms > EVENT_LATE_S * 1000:
        raise NotFit(f"the oldest event has waited for {late_ms // 1000} s")
    return WELL


DATABASE: Final = Question("database", ask_database)
MIGRATIONS: Final = Question("migrations", ask_schema, keep_s=SCHEMA_KEPT_S)
REDIS: Final = Question("redis", redis_server.ask)
EVENTS: Final = Question("events", ask_pump)
QUESTIONS: Final = (DATABASE, MIGRATIONS, REDIS, EVENTS)


async def configuration() -> Answer:
    """Say whether this process can decide at all: it has read the configuration once. Where it goes
    on with what it read before, because the database holds none or does not answer, say why."""
    age_s = catalog.age_s()
    if math.isinf(age_s):
        catalog.refresh(0)  # has a thread of its own look
        for _ in range(int(FIRST_WAIT_S / POLL_S)):
            await asyncio.sleep(POLL_S)
            if not math.isinf(age_s := catalog.age_s()):
                break
    if math.isinf(age_s):
        text = "the configuration has not been read from the database yet"
        return Answer(Finding(Grade.FAILING, ": ".join(filter(None, (text, catalog.trouble())))))
    catalog.current()  # has a look made where nobody asks but the prober
    why = catalog.trouble()
    found = Finding(Grade.DEGRADED, f"what was read before is in use: {why}") if why else WELL
    return Answer(found, round(age_s, 1))


Ask = Callable[[], Awaitable[Answer]]
# By role and check: who is asked, and whether the role cannot do its work without.
ROLES: Final[Mapping[str, Mapping[str, tuple[Ask, bool]]]] = {
    "web": {
        "configuration": (configuration, True),
        "database": (DATABASE.answer, False),
        "migrations": (MIGRATIONS.answer, False),
        "redis": (REDIS.answer, False),
    },
    "pump": {
        "database": (DATABASE.answer, True),
        "migrations": (MIGRATIONS.answer, True),
        "redis": (REDIS.answer, True),
        "events": (EVENTS.answer, True),
    },
}


@async_only_middleware
def health(get_response: Handler) -> Handler:
    """Answer the health paths before any other middleware sees them; pass on everything else."""
    answers: dict[str, Handler] = {"/livez": live, "/readyz": ready}

    async def middleware(request: HttpRequest) -> HttpResponseBase:
        return await answers.get(request.path, get_response)(request)

    return middleware


async def live(_request: HttpRequest) -> JsonResponse:
    """Say that this process still takes requests; nothing else is asked."""
    return _fresh(JsonResponse({"status": "ok"}))


async def ready(request: HttpRequest) -> HttpResponse:
    """Say whether the role can do its work: 200, or 503 if a check that it requires fails.

    Body: `{"role", "status": "ok|degraded|failing", "checks": {name: {"status", "detail"?,
    "age_s"?}}}`; `age_s` is how long ago the check was answered.
    """
    role = request.GET.get("role", "web")
    if role not in ROLES:
        return _unknown_role(request, role)
    checks = ROLES[role]
    answers = await asyncio.gather(*(ask() for ask, _ in checks.values()))
    found = [
        _told(answer, is_required=required)
        for answer, (_, required) in zip(answers, checks.values(), strict=True)
    ]
    statuses = {result["status"] for result in found}
    status = next(grade for grade in reversed(Grade) if grade in statuses)
    body = {"role": role, "status": status, "checks": dict(zip(checks, found, strict=True))}
    return _fresh(JsonResponse(body, status=503 if status == Grade.FAILING else 200))


def _told(answer: Answer, *, is_required: bool) -> dict[str, Any]:
    """Return one check as it is shown. What a role can do without only degrades it."""
    grade = answer.finding.grade
    if grade is Grade.FAILING and not is_required:
        grade = Grade.DEGRADED
    told = {"status": grade, "detail": answer.finding.detail, "age_s": answer.age_s}
    return {name: value for name, value in told.items() if value not in ("", None)}


def _unknown_role(request: HttpRequest, role: str) -> HttpResponse:
    """Answer as RFC 9457 asks, like the API does."""
    return problem.response(
        400,
        code="invalid",
        detail=f"role is {role[:40]!r}; it can be {' or '.join(ROLES)}",
        path=request.path,
        request_id=request_id.of(request),
    )


def _fresh(response: JsonResponse) -> JsonResponse:
    """Keep proxies from answering in our place."""
    response["Cache-Control"] = "no-store"
    return response
