"""How often somebody may try to sign in: charged before the hash of a password is computed.

A name alone is never locked, or anybody could keep anybody out: what counts is who tries a name
from where, and how often an address tries at all. A browser that signed in with a name before is
counted by itself, so that a person gets in while others guess their name, even from an address that
they share (an office, a proxy that hides everybody's).

Counted in Redis for all processes together, and in this process's memory too: without Redis each
process still counts what it sees. Both are bounded: an attempt that is let through costs a hash,
and what nobody tried for an hour is forgotten.
"""

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog
from django.conf import settings
from django.core.cache import caches
from django.core.signing import BadSignature, Signer

from fallback.texts import clean

log = structlog.get_logger(__name__)

PAUSE_S: Final = 5.0  # after the last free attempt; twice as long after each further one
PAUSE_MAX_S: Final = 300.0
FORGOTTEN_AFTER_S: Final = 3_600
MOST: Final = 10_000  # in memory; the least recently seen is forgotten first
SHOWN: Final = 20  # of the last failures
HASHES_AT_ONCE: Final = 4  # in this process, of strangers; more wait, and not for long
HASH_PATIENCE_S: Final = 2.0
BROWSER_COOKIE: Final = "known_browser"
BROWSER_DAYS: Final = 180

_hashing = threading.BoundedSemaphore(HASHES_AT_ONCE)


@dataclass(frozen=True, slots=True)
class Subject:
    """Whoever is counted, and how many attempts are free before pauses begin."""

    key: str
    free: int


class Memory:
    """The counts of this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: OrderedDict[str, tuple[int, float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def charge(self, subject: Subject) -> float:
        """Count one attempt and return 0; within a pause count nothing, and return what is left."""
        now = self._clock()
        with self._lock:
            count, until, seen = self._counts.pop(subject.key, (0, 0.0, now))
            if now - seen > FORGOTTEN_AFTER_S:
                count = 0
            if now < until:
                self._counts[subject.key] = count, until, seen
                return until - now
            count += 1
            self._counts[subject.key] = count, now + pause_s(count, subject.free), now
            if len(self._counts) > MOST:
                self._counts.popitem(last=False)
            return 0.0

    def forget(self, subject: Subject | None = None) -> None:
        """Forget one, or all."""
        with self._lock:
            if subject is None:
                self._counts.clear()
            else:
                self._counts.pop(subject.key, None)


memory = Memory()


def pause_s(count: int, free: int) -> float:
    """Return how long nobody may try after this many attempts."""
    if count < free:
        return 0.0
    return float(min(PAUSE_S * 2 ** min(count - free, 10), PAUSE_MAX_S))


def subjects(name: str, address: str, browser: str = "") -> list[Subject]:
    """Return what an attempt is counted for: a known browser alone, or name and address."""
    if browser:
        return [Subject(_key("browser", browser, name), 5)]
    return [Subject(_key("pair", name, address), 5), Subject(_key("address", address), 30)]


def charge(found: list[Subject]) -> float:
    """Count an attempt; return the seconds for which there may be none, 0 if this one may go on."""
    return max(max(memory.charge(one), _shared(one)) for one in found)


def passed(found: list[Subject]) -> None:
    """Forget the attempts of somebody who turned out to know the password."""
    for one in found[:1]:  # an address goes on: others may guess from it
        memory.forget(one)
        _quietly(lambda key: _store().delete_many([key, f"{key}:turn"]), one.key)


@contextmanager
def hashing(is_known: bool) -> Iterator[bool]:
    """Hold one of the few places for computing a hash; yields whether there was one in time."""
    if is_known:
        yield True
        return
    has_place = _hashing.acquire(timeout=HASH_PATIENCE_S)
    try:
        yield has_place
    finally:
        if has_place:
            _hashing.release()


def failed(name: str, address: str, why: str) -> None:
    """Tell that somebody did not get in: a line in the log, and the admin's first page."""
    shown = {"at_s": int(time.time()), "name": clean(name, 150), "address": clean(address, 45),
             "why": why}  # fmt: skip
    log.warning("sign_in_failed", name=shown["name"], address=shown["address"], why=why)
    key = _key("recent")
    kept = _quietly(lambda key: _store().get(key), key) or {"count": 0, "last": []}
    kept = {"count": kept["count"] + 1, "last": [shown, *kept["last"]][:SHOWN]}
    _quietly(lambda key: _store().set(key, kept, timeout=FORGOTTEN_AFTER_S), key)


def recent_failures() -> dict[str, Any]:
    """Return `count` of failures until there was none for an hour, and the `last` of them."""
    return _quietly(lambda key: _store().get(key), _key("recent")) or {"count": 0, "last": []}


# --- browsers


def new_browser(user_id: int) -> str:
    """Return what a browser keeps that signed in with an account."""
    return Signer(salt=BROWSER_COOKIE).sign(f"{user_id}.{secrets.token_urlsafe(12)}")


def browser_of(cookie: str, user_id: int | None) -> str:
    """Return which browser this is, empty for one that never signed in with this account."""
    try:
        value = Signer(salt=BROWSER_COOKIE).unsign(cookie)
    except BadSignature:
        return ""
    return value if user_id is not None and value.split(".")[0] == str(user_id) else ""


# --- Redis


def _shared(subject: Subject) -> float:
    """Count an attempt in Redis; 0 too where Redis is away."""

    def count(key: str) -> float:
        store = _store()
        store.add(key, 0, timeout=FORGOTTEN_AFTER_S)
        attempts = int(store.incr(key))
        pause = pause_s(attempts - 1, subject.free)  # of the attempt before
        if not pause or store.add(f"{key}:turn", time.time() + pause, timeout=int(pause)):
            return 0.0
        store.decr(key)
        until_s = store.get(f"{key}:turn")
        return max(float(until_s or 0) - time.time(), 1.0)

    return float(_quietly(count, subject.key) or 0.0)


def _quietly(do: Callable[[str], Any], key: str) -> Any:
    """Return what Redis says, None where it is away: that keeps nobody out, and lets nobody in."""
    try:
        return do(key)
    except Exception as error:
        log.warning("sign_in_counts_unshared", error=type(error).__name__)
        return None


def _store() -> Any:
    return caches["breaker"]


def _key(kind: str, *parts: str) -> str:
    digest = hashlib.sha256("\n".join(parts).encode(errors="replace")).hexdigest()[:24]
    return f"{settings.FALLBACK_NAMESPACE}:sign-in:{kind}:{digest}"
