"""What every answer carries, whoever made it: the request's id, and headers for browsers.

First in MIDDLEWARE, so that health, static files and errors have them too. A header that is set
already stays as it is: pages have a content security policy of their own.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from controlplane import request_id

HEADERS: Final = {
    # What is no page loads nothing, whatever a browser takes it for.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def finish(response: HttpResponseBase, id_of_request: str) -> HttpResponseBase:
    """Add what the answer lacks, and return it."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers[request_id.HEADER] = id_of_request
    return response


@sync_and_async_middleware
def middleware(
    get_response: Callable[[HttpRequest], Any],
) -> Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]:
    """Finish every answer that the other middlewares and the views give."""
    if iscoroutinefunction(get_response):

        async def asynchronous(request: HttpRequest) -> HttpResponseBase:
            return finish(await get_response(request), request_id.of(request))

        return asynchronous

    def synchronous(request: HttpRequest) -> HttpResponseBase:
        return finish(get_response(request), request_id.of(request))

    return synchronous
