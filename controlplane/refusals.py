"""The page for a form that is refused because nobody can tell where it was sent from.

Nearly always the deployment does not know its own address, so the page says which setting does it.
"""

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import REASON_BAD_ORIGIN, REASON_NO_CSRF_COOKIE
from django.shortcuts import render

ORIGIN_WORDS = REASON_BAD_ORIGIN.partition(" -")[0]


def csrf(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer 403, with what to do about it. `reason` is Django's."""
    context = {
        "title": "This form was not accepted",
        "sent_from": request.headers.get("Origin", "") if reason.startswith(ORIGIN_WORDS) else "",
        "asked_at": f"{request.scheme}://{request.get_host()}",
        "no_cookie": reason == REASON_NO_CSRF_COOKIE,
    }
    return render(request, "fallback/refused_form.html", context, status=403)
