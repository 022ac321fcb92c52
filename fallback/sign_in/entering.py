"""The middleware that holds sessions to the second factor.

Who has one and is in without it (a session of before it was set up) has to sign in again; who has
to have one and has none sees the page where it is set up, and nothing else.
"""

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django_otp import DEVICE_ID_SESSION_KEY

from fallback.sign_in import factor

Respond = Callable[[HttpRequest], HttpResponse]


def second_factor(respond: Respond) -> Respond:
    """Let in with a second factor, or without where none is needed. A middleware."""

    def answer(request: HttpRequest) -> HttpResponse:
        if not factor.is_on() or settings.SESSION_COOKIE_NAME not in request.COOKIES:
            return respond(request)
        user: Any = request.user
        if not user.is_authenticated or user.is_verified():
            return respond(request)
        if factor.has_factor(user):
            logout(request)
        elif factor.is_required(user) and request.path not in _open_paths():
            if request.path.startswith("/admin/") or request.path == "/":
                return HttpResponseRedirect(reverse("admin:second_factor"))
            request.user = AnonymousUser()
        return respond(request)

    return answer


def is_in(user: Any, session: Any) -> bool:
    """Say the same of a session that listens to the feed, which no middleware sees."""
    if not factor.is_on() or session.get(DEVICE_ID_SESSION_KEY):
        return True
    return not (factor.is_required(user) or factor.has_factor(user))


def _open_paths() -> set[str]:
    return {reverse(f"admin:{name}") for name in ("second_factor", "logout", "jsi18n")}
