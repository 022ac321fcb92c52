"""Who is asking: an API key, or on reads a signed-in member of staff; and what each may do.

A key is checked in memory (`fallback.keys`), so a decision costs no query for it. The session is
for the dashboard's reads only: no cookie can order anything here, and so no request forged by
another site can.
"""

from dataclasses import dataclass
from typing import Any, Final, NoReturn, cast

import structlog
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from fallback import keys
from fallback.api import throttling
from fallback.api.texts import clean
from fallback.errors import ConfigurationUnavailable
from fallback.models import Role

log = structlog.get_logger(__name__)

AGENTS: Final = frozenset({Role.AGENT, Role.OPERATOR})  # decisions, outcomes
OPERATORS: Final = frozenset({Role.OPERATOR})  # overrides
READERS: Final = frozenset({Role.OPERATOR, Role.READER})  # history
ALL: Final = frozenset(Role)  # status, and why a call got what it got

STAFF_PERMISSION: Final = "fallback.view_provider"
CHALLENGE: Final = 'Bearer realm="api"'


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever asks. `actor` is what their orders are signed with: `api:<key name>`.

    `routes`: those that the key is bound to; empty: all.
    """

    actor: str
    role: str
    routes: frozenset[str] = frozenset()
    is_authenticated: bool = True

    @property
    def pk(self) -> str:
        """What the log names the caller by, where it has the id of a person elsewhere."""
        return self.actor


def _is_order(request: Request) -> bool:
    """Whether only operators may do this."""
    roles = getattr(request.parser_context.get("view"), "roles", {})
    return bool(roles.get(request.method) == OPERATORS)


def caller_of(request: Request) -> Caller:
    """Return who asks; only after `ApiView.check_permissions`."""
    return cast(Caller, request.user)


class BearerKey(BaseAuthentication):
    """`Authorization: Bearer <key>`."""

    def authenticate(self, request: Request) -> tuple[Caller, None] | None:
        """Return the caller, None when no key was sent; a bad one is refused and logged."""
        header = request.headers.get("Authorization")
        if not header:
            return None
        found = keys.authenticate(header, for_order=_is_order(request))
        if isinstance(found, keys.Refusal):
            refuse(request, found)
        return Caller(f"api:{found.name}", found.role, found.routes), None

    def authenticate_header(self, request: Request) -> str:
        """Return the challenge, without which a 401 would become a 403."""
        return CHALLENGE


class StaffSession(BaseAuthentication):
    """The session of a member of staff who may see providers; reads only."""

    def authenticate(self, request: Request) -> tuple[Caller, None] | None:
        """Return the caller, or None: no session, not of staff, or more than a read."""
        if request.method not in {"GET", "HEAD", "OPTIONS"}:
            return None
        user: Any = getattr(request._request, "user", None)
        if user is None or not (user.is_active and user.is_staff):
            return None
        if not user.has_perm(STAFF_PERMISSION):
            raise exceptions.PermissionDenied("Your account may not view providers.")
        return Caller(f"admin:{user.get_username()}", Role.READER), None


def refuse(request: Request, refusal: keys.Refusal) -> NoReturn:
    """Raise 401, 503 where the key could not be checked, or 429 for an address that keeps trying.
    The log never has the key."""
    address = request.META.get("REMOTE_ADDR") or "unknown"
    if wait_s := throttling.wait_s("stranger", address):
        raise exceptions.Throttled(wait=wait_s)
    log.warning("api key refused", address=clean(address, 45), why=refusal.name.lower())
    if refusal is keys.Refusal.UNCERTAIN:
        raise ConfigurationUnavailable(str(refusal))
    if refusal is keys.Refusal.MISSING:
        raise exceptions.NotAuthenticated(str(refusal))
    raise exceptions.AuthenticationFailed(str(refusal))


class _BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the schema says it."""

    target_class = BearerKey
    name = "key"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return the security scheme."""
        return {"type": "http", "scheme": "bearer", "bearerFormat": "stt_<public>.<secret>"}


class _SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the schema says it."""

    target_class = StaffSession
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return the security scheme."""
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": "sessionid",
            "description": "Members of staff, reads only.",
        }
