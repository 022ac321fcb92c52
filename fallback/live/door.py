"""Who may listen to the feed: whoever has an API key, and staff from our own pages.

A browser sends its cookies with a WebSocket from any page on the web, so with a cookie the Origin
must be ours; a key is sent by nobody by accident. Both are asked for again while they listen.
"""

from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Final, cast
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.contrib.auth import get_user
from django.db import DatabaseError
from django.http import HttpRequest
from django.http.request import split_domain_port, validate_host

from fallback import catalog, keys

log = structlog.get_logger(__name__)

PERMISSION: Final = "fallback.view_provider"


def may_listen(scope: Mapping[str, Any]) -> bool:
    """Say whether this client may listen. Reads the database for a session; never raises."""
    headers = {name.lower(): value.decode("latin-1") for name, value in scope.get("headers", ())}
    if header := headers.get(b"authorization"):
        return isinstance(keys.authenticate(header), catalog.Key)
    return is_ours(headers.get(b"origin", ""), headers.get(b"host", "")) and _is_staff(
        headers.get(b"cookie", "")
    )


def is_ours(origin: str, host: str) -> bool:
    """Say whether a page of this origin is one of ours, as Django's own check of forms does."""
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    domain, _ = split_domain_port(host)
    is_known = bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)
    return is_known and parts.scheme in {"http", "https"} and parts.netloc == host.lower()


def _is_staff(cookies: str) -> bool:
    try:
        morsel = SimpleCookie(cookies).get(settings.SESSION_COOKIE_NAME)
        if morsel is None:
            return False
        store = import_module(settings.SESSION_ENGINE).SessionStore(morsel.value)
        user: Any = get_user(cast(HttpRequest, SimpleNamespace(session=store)))
        return bool(user.is_active and user.is_staff and user.has_perm(PERMISSION))
    except CookieError:
        return False
    except DatabaseError:
        log.warning("feed_session_unknown", exc_info=True)
        return False
