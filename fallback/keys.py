"""API keys: minting one, and telling whose key a request carries.

A key is `stt_<public>.<secret>`. The secret has 256 random bits, so a keyed SHA-256 is enough (a
slow hash protects guessable passwords) and cheap enough for every request. The pepper comes from
SECRET_KEY: a copy of the database alone verifies nothing. Checking touches memory only.
"""

import functools
import hashlib
import hmac
import re
import secrets
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum

import structlog
from django.conf import settings
from django.db import connections
from django.utils import timezone

from fallback import catalog, metrics
from fallback.models import ApiKey

USED_EVERY = timedelta(minutes=1)  # `last_used_at` is at most this much behind
WAIT_S = 0.1  # how long a request waits for an idle process to look whether its key still holds

_KEY = re.compile(r"stt_([a-z0-9]{1,16})\.([A-Za-z0-9_-]{1,128})")
_SCHEME = re.compile(r"Bearer +(\S+) *", re.IGNORECASE)

log = structlog.get_logger(__name__)


class Refusal(StrEnum):
    """Why a request carries no usable key, fit to be told to whoever sent it."""

    MISSING = "No API key was sent: use the header “Authorization: Bearer stt_…”."
    INVALID = "The API key is not valid."
    UNKNOWN = "There is no such API key."  # told to nobody: who guesses learns nothing
    DISABLED = "This API key is switched off."
    EXPIRED = "This API key has expired."
    UNCERTAIN = (
        "This API key cannot be checked now: it is not known here, and the database could not be"
        " asked in time whether it is new. Try again; /readyz says what is wrong."
    )


def issue(row: ApiKey) -> str:
    """Give `row` (not saved yet) a new secret and return the key, which is kept nowhere."""
    public, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    row.public = public
    row.secret_hash = hashed(secret, peppers()[0])
    return f"stt_{public}.{secret}"


def authenticate(
    header: str | None, now: datetime | None = None, *, for_order: bool = False
) -> catalog.Key | Refusal:
    """Return whose key an `Authorization` header carries, or why it is refused.

    What is held is believed as long as the database confirmed it `catalog.CONFIRMED_S` ago or less;
    a process that was idle for longer looks first, for `WAIT_S` at most. A key that seems to be
    new, or good again, has everybody who uses it wait for a look. `for_order`: looks in any case,
    for `catalog.CONFIRM_WAIT_S` at most, so that a key which was switched off anywhere gives no
    order; while the database is away, orders go by what was last read of it.
    """
    if not header:
        return Refusal.MISSING
    scheme = _SCHEME.fullmatch(header)
    parts = scheme and _KEY.fullmatch(scheme[1])
    if not parts:
        return Refusal.INVALID
    public, secret, now = parts[1], parts[2], now or timezone.now()
    found = _checked(catalog.confirmed(WAIT_S), public, secret, now)
    if isinstance(found, catalog.Key):
        if for_order:
            found = _checked(_newest(found), public, secret, now)
    elif found in _MAY_BE_OLD:
        found = _chased(public, secret, now)
    if isinstance(found, catalog.Key):
        _usage.note(public, now, functools.partial(_rehashed, found, secret))
    return found


_MAY_BE_OLD = {Refusal.UNKNOWN, Refusal.DISABLED, Refusal.EXPIRED}


def _chased(public: str, secret: str, now: datetime) -> catalog.Key | Refusal:
    """Check a key again that was unknown or no longer good, by a configuration in which it is."""
    config, is_certain = catalog.chased(
        lambda it: isinstance(_checked(it, public, secret, now), catalog.Key), f"key {public}"
    )
    found = _checked(config, public, secret, now)
    if found is not Refusal.UNKNOWN:
        return found
    return Refusal.INVALID if is_certain else Refusal.UNCERTAIN


def _newest(key: catalog.Key) -> catalog.Catalog:
    """Return the configuration as it is now; as it was, where the database does not say."""
    newest = catalog.looked_at_now()
    if newest is None:
        metrics.degraded("key_not_confirmed")
        log.warning("key_not_confirmed", key=key.name, age_s=round(catalog.age_s(), 1))
    return newest or catalog.current()


def _checked(
    config: catalog.Catalog, public: str, secret: str, now: datetime
) -> catalog.Key | Refusal:
    key = config.keys.get(public)
    if key is None:
        return Refusal.UNKNOWN
    if not any(_matches(key, secret, pepper) for pepper in peppers()):
        return Refusal.INVALID
    if not key.enabled:
        return Refusal.DISABLED
    if key.expires_at is not None and key.expires_at <= now:
        return Refusal.EXPIRED
    return key


def _rehashed(key: catalog.Key, secret: str) -> str:
    """Return the hash to store, so that an older SECRET_KEY can be dropped one day; empty where it
    is stored."""
    newest = peppers()[0]
    return "" if _matches(key, secret, newest) else hashed(secret, newest)


def peppers() -> list[bytes]:
    """Return what secrets are hashed with: by SECRET_KEY first, then by its fallbacks."""
    known = [settings.SECRET_KEY, *map(str, settings.SECRET_KEY_FALLBACKS)]
    return [hmac.digest(text.encode(), b"fallback.keys", hashlib.sha256) for text in known]


def hashed(secret: str, pepper: bytes) -> str:
    """Return what is stored of a secret: 64 hexadecimal digits."""
    return hmac.digest(pepper, secret.encode(), hashlib.sha256).hex()


def _matches(key: catalog.Key, secret: str, pepper: bytes) -> bool:
    return hmac.compare_digest(key.secret_hash, hashed(secret, pepper))


class Usage:
    """Remembers which keys were used, and writes that down in a thread of its own.

    A write that fails is dropped with a line in the log: the key's next use brings another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: dict[str, datetime] = {}
        self._pending: dict[str, tuple[datetime, str]] = {}
        self._writer: threading.Thread | None = None

    def note(self, public: str, now: datetime, rehashed: Callable[[], str]) -> None:
        """Note a use; `rehashed` says what replaces the stored hash after SECRET_KEY was rotated,
        empty if nothing does."""
        noted = self._noted.get(public)
        if noted is not None and now - noted < USED_EVERY:
            return
        with self._lock:
            self._noted[public] = now
            self._pending[public] = (now, rehashed())
            if self._writer is None:
                self._writer = threading.Thread(target=self._write, name="key-usage", daemon=True)
                self._writer.start()

    def join(self, timeout_s: float) -> None:
        """Wait until what was noted is written, at most `timeout_s`; for tests and shutdown."""
        writer = self._writer
        if writer is not None:
            writer.join(timeout_s)

    def _write(self) -> None:
        try:
            while batch := self._take():
                for public, (at, rehashed) in batch.items():
                    changes = {"last_used_at": at} | ({"secret_hash": rehashed} if rehashed else {})
                    ApiKey.objects.filter(public=public).update(**changes)
        except Exception:  # whatever the database raises: a dead writer would never be replaced
            log.warning("key_use_not_noted", exc_info=True)
            with self._lock:
                self._writer = None
        finally:
            connections.close_all()

    def _take(self) -> dict[str, tuple[datetime, str]]:
        with self._lock:
            batch, self._pending = self._pending, {}
            if not batch:
                self._writer = None
            return batch


_usage = Usage()
