"""Who may listen to the feed: whoever has an API key, and staff from our own pages.

A browser sends its cookies with a WebSocket from any page on the web, so with a cookie the Origin
must be ours; a key is sent by nobody by accident. Both are asked for again while they listen.

Keys are checked in memory, sessions in the database, each in threads of their own: sessions that
hang keep no fleet out. How often either may knock is bounded.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from math import ceil
from types import SimpleNamespace
from typing import Any, Final, cast

import structlog
from django.conf import settings
from django.contrib.auth import get_user
from django.db import DatabaseError, connections
from django.http import HttpRequest
from django.http.request import split_domain_port, validate_host

from controlplane.pools import Busy, Pool
from fallback import catalog, keys, sessions
from fallback.live.places import Listener
from fallback.pacing import Buckets
from fallback.sign_in import entering

log = structlog.get_logger(__name__)

PERMISSION: Final = "fallback.view_provider"
SCHEMES: Final = {"ws": "http", "wss": "https"}  # a socket's, and its page's
KEYS: Final = Pool("feed-key", threads=32, waiting=5_000, wait_s=10.0)
SESSIONS: Final = Pool("feed-session", threads=4, waiting=500, wait_s=10.0)

# A fleet of a thousand pods may come back at once; a thousand sessions from one address may not.
_keys = Buckets(100, 2_500)
_sessions = Buckets(10, 100)

Scope = Mapping[str, Any]


class TryLater(Exception):  # noqa: N818 - named by what whoever knocked is told
    """Nothing is wrong with who knocks, but not now; the text says why."""


@dataclass(frozen=True, slots=True)
class Knock:
    """What a client shows at the door."""

    key: str
    origin: str
    host: str
    cookies: str
    scheme: str
    address: str

    @classmethod
    def of(cls, scope: Scope) -> "Knock":
        """Read it from the handshake."""
        sent = {name.lower(): value.decode("latin-1") for name, value in scope.get("headers", ())}
        client = scope.get("client")
        return cls(
            key=sent.get(b"authorization", ""),
            origin=sent.get(b"origin", ""),
            host=sent.get(b"host", ""),
            cookies=sent.get(b"cookie", ""),
            scheme=scope.get("scheme", "ws"),
            address=client[0] if client else "unknown",
        )


async def let_in(scope: Scope) -> Listener | None:
    """Return who knocks, None for whoever may not listen. Raises TryLater."""
    knock = Knock.of(scope)
    if not knock.key and is_ours(knock.origin, knock.host, knock.scheme):
        _charge(_sessions, knock.address, "this address opens too many connections")
    try:
        who = await _who(knock)
    except Busy:
        raise TryLater("too many connections are opened at once") from None
    if who is not None and who.kind == "key":
        _charge(_keys, who.name, "this API key opens too many connections")
    return who


async def may_still(scope: Scope) -> bool:
    """Say whether somebody who was let in may go on listening; so far as can be found out now."""
    try:
        return await _who(Knock.of(scope)) is not None
    except (Busy, TryLater):
        return True


async def _who(knock: Knock) -> Listener | None:
    if knock.key:
        return await KEYS.run(_holder, knock.key)
    if is_ours(knock.origin, knock.host, knock.scheme):
        return await SESSIONS.run(_staff, knock.cookies)
    return None


def _charge(buckets: Buckets, name: str, why: str) -> None:
    if wait_s := buckets.take(name, time.monotonic()):
        raise TryLater(f"{why}: wait {ceil(wait_s)} s")


def is_ours(origin: str, host: str, scheme: str) -> bool:
    """Say whether a page of this origin is one of ours, as Django's own check of forms does.

    `scheme`: the socket's, `ws` or `wss`, as the server has it from a proxy that it believes.
    """
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    domain, _ = split_domain_port(host)
    if not (domain and validate_host(domain, settings.ALLOWED_HOSTS)):
        return False
    return origin == f"{SCHEMES.get(scheme)}://{host.lower()}"


def _holder(key: str) -> Listener | None:
    found = keys.authenticate(key)
    if found is keys.Refusal.UNCERTAIN:
        raise TryLater("this API key cannot be checked now")
    return Listener("key", found.public) if isinstance(found, catalog.Key) else None


def _staff(cookies: str) -> Listener | None:
    try:
        morsel = SimpleCookie(cookies).get(settings.SESSION_COOKIE_NAME)
        if morsel is None:
            return None
        store = import_module(settings.SESSION_ENGINE).SessionStore(morsel.value)
        if sessions.is_over(store, time.time()):
            return None
        user: Any = get_user(cast(HttpRequest, SimpleNamespace(session=store)))
        may_listen = (
            user.is_active
            and user.is_staff
            and user.has_perm(PERMISSION)
            and entering.is_in(user, store)
        )
        return Listener("person", str(user.pk)) if may_listen else None
    except CookieError:
        return None
    except DatabaseError:
        log.warning("feed_session_unknown", exc_info=True)
        return None
    finally:
        connections.close_all()  # this thread's own; with a pool they go back to it
