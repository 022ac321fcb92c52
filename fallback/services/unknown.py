"""Names that agents use and the configuration does not hold: said once, and shown on the server.

Calls on such a route or provider run unprotected, and nobody would know. The request that names
one pays a look into a dictionary. A thread that ends with its work then waits for a look at the
configuration, since what this process does not know may have been made a moment ago elsewhere;
what is unknown even so is remembered in Redis and told, once for the whole fleet.
"""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

import structlog
from django.db import connections

from fallback import breaker, catalog, metrics
from fallback.catalog import Catalog
from fallback.domain import LIMITS, Kind, Named, UnknownName
from fallback.errors import BreakerUnavailable
from fallback.messages.blocks import clean

AGAIN_S: Final = 60.0  # the same name is looked into again after this, by one process
NAMES_MAX: Final = 2 * LIMITS["unknown_names"]  # looked into in that time; more are only counted
NAME_MAX: Final = 63
HOST_MAX: Final = 128

log = structlog.get_logger(__name__)


def note(
    config: Catalog, *, route: str, providers: Iterable[str], host: str = "", by: str = ""
) -> None:
    """Have looked into whatever `config` does not hold of what an agent named. Never waits.

    `by`: whose key it was, as `api:<its name>`.
    """
    for one in _missing(config, route, providers, host, by):
        _namings.add(one)


def forget_known(kind: Kind, config: Catalog) -> None:
    """Forget the names that the configuration holds by now; else they are forgotten in a day."""
    try:
        names, _ = breaker.unknown_names(kind, now_ms=0)
        breaker.forget_unknown(kind, [one for one in names if config.holds(one.what, one.name)])
    except BreakerUnavailable as error:
        log.info("unknown_names_not_forgotten", kind=kind, error=str(error))


def _missing(
    config: Catalog, route: str, providers: Iterable[str], host: str, by: str
) -> Iterable[UnknownName]:
    if route and route not in config.routes:
        yield UnknownName(Named.ROUTE, route, "", host, by)
    for slug in providers:
        if not config.holds(Named.PROVIDER, slug):
            yield UnknownName(Named.PROVIDER, slug, route, host, by)


class Namings:
    """What this process heard of and has not looked into yet. Bounded; safe for threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._noted: dict[tuple[Named, str], float] = {}
        self._waiting: list[UnknownName] = []
        self._worker: threading.Thread | None = None

    def add(self, one: UnknownName) -> None:
        """Count a naming; have it looked into unless it was just now, or too many were."""
        metrics.unknown_name(one.what)
        now = self._clock()
        with self._lock:
            noted = {name: at for name, at in self._noted.items() if now - at < AGAIN_S}
            self._noted = noted
            if (one.what, one.name) in noted or len(noted) >= NAMES_MAX:
                return
            noted[one.what, one.name] = now
            self._waiting.append(one)
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="unknown", daemon=True)
                self._worker.start()

    def join(self, timeout_s: float) -> None:
        """Wait until all is looked into, at most `timeout_s`; for tests."""
        if worker := self._worker:
            worker.join(timeout_s)

    def _work(self) -> None:
        try:
            while batch := self._take():
                try:
                    is_done = _look_into(batch)
                except Exception:  # a name that goes unsaid must not end the saying of others
                    log.exception("unknown_names_not_told")
                    is_done = False
                if not is_done:
                    metrics.degraded("unknown_names")
                    self._forget(batch)
        finally:
            connections.close_all()

    def _take(self) -> list[UnknownName]:
        with self._lock:
            batch, self._waiting = self._waiting, []
            if not batch:
                self._worker = None
            return batch

    def _forget(self, batch: Iterable[UnknownName]) -> None:
        """Have these looked into when they are named again."""
        with self._lock:
            for one in batch:
                self._noted.pop((one.what, one.name), None)


def _look_into(batch: Iterable[UnknownName]) -> bool:
    """Tell what is unknown even now; False where database or Redis could not be asked."""
    config = catalog.looked_at_now()
    if config is None:
        return False
    try:
        for one in batch:
            if not config.holds(one.what, one.name):
                _tell(one, config)
    except BreakerUnavailable as error:
        log.debug("unknown_names_wait", error=str(error))
        return False
    return True


def _tell(one: UnknownName, config: Catalog) -> None:
    route = config.routes.get(one.route)
    seen = UnknownName(
        one.what,
        clean(one.name, NAME_MAX) or "(unreadable)",
        clean(one.route, NAME_MAX),
        clean(one.host, HOST_MAX),
        one.by,
    )
    subject = f'agents name the {seen.what} "{seen.name}"'
    reply = breaker.note_unknown(
        route.kind if route else Kind.STT,
        seen,
        subject=subject,
        full_subject="agents name more unknown providers and routes than are remembered"
        f" ({LIMITS['unknown_names']}, {LIMITS['unknown_by_one']} by one API key)",
        detail=f"{_who(seen)}: {_what_to_do(seen.what)}",
    )
    if reply == "new":
        log.warning("misconfigured", subject=subject, by=seen.by, host=seen.host, route=seen.route)


def _who(seen: UnknownName) -> str:
    parts = [
        f"by {seen.host}" if seen.host else "",
        f"on the route {seen.route}" if seen.route else "",
        f"with the key {seen.by.removeprefix('api:')}" if seen.by else "",
    ]
    return " ".join(["named", *filter(None, parts)])


def _what_to_do(what: Named) -> str:
    if what is Named.ROUTE:
        return "there is no such route: its calls run unprotected; add it, or correct the agents"
    return (
        "no provider has this slug: calls with it run unprotected; add it, or correct can_use"
        " in the agents"
    )


_namings = Namings()
