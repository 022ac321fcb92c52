"""Health for whoever restarts or routes: `/livez` and `/readyz?role=web|pump`.

Liveness asks nothing of anybody: a database that is away is no reason to kill every pod. Readiness
asks the database, Redis and, for the pump, whether events flow. For web they may be away, which is
degraded, not failing: whoever has read the configuration once decides on without them, and an
outage of the database must not take every pod out of the balancer. The pump needs both.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import structlog
from django.core.cache import caches
from django.db import connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.utils.decorators import async_only_middleware

from fallback import catalog, stream
from fallback.domain import Kind

log = structlog.get_logger(__name__)

Handler = Callable[[HttpRequest], Awaitable[HttpResponseBase]]

CHECK_TIMEOUT_S: Final = 2.0
PUMP_SILENT_S: Final = 15.0  # a living pump asks about once a second
EVENT_LATE_S: Final = 60.0

# Threads of its own: a check that hangs on a dead host must not take a request's thread with it,
# and once all of these hang, the next checks time out in the queue and say so.
THREADS: Final = ThreadPoolExecutor(max_workers=4, thread_name_prefix="health")


class NotReady(Exception):  # noqa: N818 - what it says, not what went wrong
    """A check's own words, fit for anybody who may ask."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A question with a yes or no: `ask` returns nothing if all is well, and raises what is not."""

    ask: Callable[[], None]
    required: bool


def ask_database() -> None:
    """Make the database answer."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    finally:
        connections.close_all()  # this thread's own; with a pool they go back to it


def ask_migrations() -> None:
    """Compare the migrations on disk with those that the database says were applied."""
    try:
        executor = MigrationExecutor(connection)
        waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    finally:
        connections.close_all()
    if waiting:
        raise NotReady(f"{len(waiting)} migrations are not applied: run manage.py migrate")


def ask_configuration() -> None:
    """See whether this process can decide at all: it has read the configuration."""
    if math.isinf(catalog.age_s()):
        catalog.refresh(CHECK_TIMEOUT_S / 2)
    if math.isinf(catalog.age_s()):
        raise NotReady("the configuration has not been read from the database yet")


def ask_redis() -> None:
    """Make Redis answer on the client that decisions use, with its short timeouts."""
    breaker: Any = caches["breaker"]  # django-redis has no types
    breaker.client.get_client(write=True).ping()


def ask_pump() -> None:
    """See whether any pump asks for events, and how long the oldest one has been waiting."""
    silent_ms = stream.silence_ms(Kind.STT)
    if silent_ms is None or silent_ms > PUMP_SILENT_S * 1000:
        raise NotReady("no pump asks for events: run manage.py pump")
    late_ms = max(stream.lag(kind).age_ms for kind in Kind)
    if late_ms > EVENT_LATE_S * 1000:
        raise NotReady(f"the oldest event has waited for {late_ms // 1000} s")


ROLES: Final[Mapping[str, Mapping[str, Check]]] = {
    "web": {
        "configuration": Check(ask=ask_configuration, required=True),
        "database": Check(ask=ask_database, required=False),
        "migrations": Check(ask=ask_migrations, required=False),
        "redis": Check(ask=ask_redis, required=False),
    },
    "pump": {
        "database": Check(ask=ask_database, required=True),
        "migrations": Check(ask=ask_migrations, required=True),
        "redis": Check(ask=ask_redis, required=True),
        "events": Check(ask=ask_pump, required=True),
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


async def ready(request: HttpRequest) -> JsonResponse:
    """Say whether the role can do its work: 200, or 503 if a check that it requires fails.

    Body: `{"role", "status": "ok|degraded|failing", "checks": {name: {"status", "detail"?}}}`.
    """
    role = request.GET.get("role", "web")
    if role not in ROLES:
        return _unknown_role(request, role)
    checks = ROLES[role]
    found = await asyncio.gather(*(_run(name, check) for name, check in checks.items()))
    status = _worst(found)
    body = {"role": role, "status": status, "checks": dict(zip(checks, found, strict=True))}
    return _fresh(JsonResponse(body, status=503 if status == "failing" else 200))


async def _run(name: str, check: Check) -> dict[str, str]:
    """Run one check within its bound.

    Of a driver's error the answer gives only the class: its text may hold addresses and logins.
    """
    waiting = asyncio.get_running_loop().run_in_executor(THREADS, check.ask)
    try:
        await asyncio.wait_for(waiting, CHECK_TIMEOUT_S)
    except TimeoutError:
        detail = f"no answer within {CHECK_TIMEOUT_S:g} s"
    except NotReady as error:
        detail = str(error)
    except Exception as error:  # whatever a driver raises is this check's answer
        detail = type(error).__name__
        log.warning("health_check_failed", check=name, error=str(error))
    else:
        return {"status": "ok"}
    return {"status": "failing" if check.required else "degraded", "detail": detail}


def _worst(found: list[dict[str, str]]) -> str:
    """Return the worst status among the checks."""
    statuses = {result["status"] for result in found}
    return next(word for word in ("failing", "degraded", "ok") if word in statuses)


def _unknown_role(request: HttpRequest, role: str) -> JsonResponse:
    """Answer as RFC 9457 asks, like the API does."""
    problem = {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": f"role is {role!r}; it can be {' or '.join(ROLES)}",
        "instance": request.path,
        "code": "invalid",
    }
    return _fresh(JsonResponse(problem, status=400, content_type="application/problem+json"))


def _fresh(response: JsonResponse) -> JsonResponse:
    """Keep proxies from answering in our place."""
    response["Cache-Control"] = "no-store"
    return response
