"""API keys: minting one, and telling whose key a request carries.

A key is `stt_<public>.<secret>`. The secret has 256 random bits, so a keyed SHA-256 is enough (a
slow hash protects guessable passwords) and cheap enough for every request. The pepper comes from
SECRET_KEY: a copy of the database alone verifies nothing. Checking touches memory only.
"""

import hashlib
import hmac
import re
import secrets
import threading
import time
from datetime import datetime, timedelta
from enum import StrEnum

import structlog
from django.conf import settings
from django.db import connections
from django.utils import timezone

from fallback import catalog
from fallback.models import ApiKey

USED_EVERY = timedelta(minutes=1)  # `last_used_at` is at most this much behind
UNKNOWN_LOOK_EVERY_S = 1.0  # strangers cannot make us read the database more often

_KEY = re.compile(r"stt_([a-z0-9]{1,16})\.([A-Za-z0-9_-]{1,128})")
_SCHEME = re.compile(r"Bearer +(\S+) *", re.IGNORECASE)

log = structlog.get_logger(__name__)


class Refusal(StrEnum):
    """Why a request carries no usable key, fit to be told to whoever sent it."""

    MISSING = "No API key was sent: use the header “Authorization: Bearer stt_…”."
    INVALID = "The API key is not valid."
    DISABLED = "This API key is switched off."
    EXPIRED = "This API key has expired."


def issue(row: ApiKey) -> str:
    """Give `row` (not saved yet) a new secret and return the key, which is kept nowhere."""
    public, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    row.public = public
    row.secret_hash = hashed(secret, peppers()[0])
    return f"stt_{public}.{secret}"


def authenticate(header: str | None, now: datetime | None = None) -> catalog.Key | Refusal:
    """Return whose key an `Authorization` header carries, or why it is refused.

    Never waits for the database, except that an unknown key may have the catalog read again, at
    most once a second for all of them together, so that a key works as soon as it is made.
    """
    if not header:
        return Refusal.MISSING
    scheme = _SCHEME.fullmatch(header)
    parts = scheme and _KEY.fullmatch(scheme[1])
    if not parts:
        return Refusal.INVALID
    public, secret = parts[1], parts[2]
    key = catalog.current().keys.get(public) or _look_again().keys.get(public)
    return _checked(key, secret, now or timezone.now()) if key else Refusal.INVALID


def _checked(key: catalog.Key, secret: str, now: datetime) -> catalog.Key | Refusal:
    current, *older = peppers()
    rehashed = ""
    if not _matches(key, secret, current):
        if not any(_matches(key, secret, pepper) for pepper in older):
            return Refusal.INVALID
        rehashed = hashed(secret, current)  # so that the older SECRET_KEY can be dropped one day
    if not key.enabled:
        return Refusal.DISABLED
    if key.expires_at is not None and key.expires_at <= now:
        return Refusal.EXPIRED
    _usage.note(key.public, now, rehashed)
    return key


def peppers() -> list[bytes]:
    """Return what secrets are hashed with: by SECRET_KEY first, then by its fallbacks."""
    known = [settings.SECRET_KEY, *map(str, settings.SECRET_KEY_FALLBACKS)]
    return [hmac.digest(text.encode(), b"fallback.keys", hashlib.sha256) for text in known]


def hashed(secret: str, pepper: bytes) -> str:
    """Return what is stored of a secret: 64 hexadecimal digits."""
    return hmac.digest(pepper, secret.encode(), hashlib.sha256).hex()


def _matches(key: catalog.Key, secret: str, pepper: bytes) -> bool:
    return hmac.compare_digest(key.secret_hash, hashed(secret, pepper))


_looked_lock = threading.Lock()
_looked_at = float("-inf")


def _look_again() -> catalog.Catalog:
    global _looked_at
    with _looked_lock:
        now = time.monotonic()
        is_due = now - _looked_at >= UNKNOWN_LOOK_EVERY_S
        _looked_at = now if is_due else _looked_at
    return catalog.refresh() if is_due else catalog.current()


class Usage:
    """Remembers which keys were used, and writes that down in a thread of its own.

    A write that fails is dropped with a line in the log: the key's next use brings another.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: dict[str, datetime] = {}
        self._pending: dict[str, tuple[datetime, str]] = {}
        self._writer: threading.Thread | None = None

    def note(self, public: str, now: datetime, rehashed: str = "") -> None:
        """Note a use; `rehashed` replaces the stored hash after SECRET_KEY was rotated."""
        noted = self._noted.get(public)
        if noted is not None and now - noted < USED_EVERY:
            return
        with self._lock:
            self._noted[public] = now
            self._pending[public] = (now, rehashed)
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
