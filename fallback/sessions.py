"""When a session of a person ends: unused for some hours, and after some days however used.

The first is the session's own expiry, moved on every few minutes of use; a page that only listens
to the feed does not use it.
"""

import time
from collections.abc import Callable
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest, HttpResponse

BEGAN: Final = "began_s"
SEEN: Final = "seen_s"
MOVED_ON_EVERY_S: Final = 300  # not with each request: each is a write

Respond = Callable[[HttpRequest], HttpResponse]


def sessions(respond: Respond) -> Respond:
    """End the session of a request when its time is over; move its expiry on. A middleware."""

    def answer(request: HttpRequest) -> HttpResponse:
        if settings.SESSION_COOKIE_NAME in request.COOKIES and SESSION_KEY in request.session:
            _judge(request.session, time.time())
        return respond(request)

    return answer


def is_over(session: Any, now_s: float) -> bool:
    """Say whether somebody signed in too long ago, however busy they were since."""
    began_s = session.get(BEGAN)
    return began_s is not None and now_s - began_s > settings.SESSION_DAYS * 86_400


def _judge(session: Any, now_s: float) -> None:
    if is_over(session, now_s):
        session.flush()
    elif now_s - session.get(SEEN, 0) > MOVED_ON_EVERY_S:
        session[SEEN] = now_s
        session.setdefault(BEGAN, now_s)
