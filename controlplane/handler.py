"""How a request becomes a response under ASGI: one thread hop for everything synchronous.

Django's own handler gives each request a thread of its own and enters it once or twice for every
synchronous middleware, once for each signal and once to close the response; under load that is
most of a decision's time. Here whatever is asynchronous (health, static files: first in MIDDLEWARE)
runs in the event loop, and all that follows runs as it would under WSGI, in one visit to a thread.

What a request may take is bounded before: its body (controlplane/bodies.py), and its place in a
queue for threads (controlplane/pools.py). Decisions and outcomes have shares of their own.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, ASGIRequest, get_script_prefix
from django.http import HttpResponse, HttpResponseBase
from django.urls import set_script_prefix

from controlplane import answers, bodies, problem, request_id
from controlplane.pools import Busy, Pool
from controlplane.request_log import Line
from fallback import deadline

# What calls wait for has threads of its own: pages that hang in the database cannot take them.
# Enough of them that a Redis as slow as its timeout allows still leaves 400 decisions a second.
DECISIONS: Final = "/api/v1/decisions"
CALL_PATHS: Final = frozenset({DECISIONS, "/api/v1/outcomes"})
CALLS: Final = Pool("call", threads=64, waiting=256, wait_s=0.1)
# Calls that found no thread in time are answered without waiting for anybody: decisions from what
# this process last knew, outcomes with 503.
LATE: Final = Pool("late", threads=8, waiting=256, wait_s=1.0)
# Everything polls the status: it must not wait behind pages either.
STATUS_PATHS: Final = frozenset({"/api/v1/status"})
STATUS: Final = Pool("status", threads=8, waiting=64, wait_s=5.0)
# Hashing a password takes a core for a while: a flood of sign-ins gets two threads, no more.
SIGN_IN_PATHS: Final = frozenset({"/admin/login/"})
SIGN_IN: Final = Pool("sign-in", threads=2, waiting=16, wait_s=5.0)
PAGES: Final = Pool("page", threads=32, waiting=64, wait_s=10.0)

RETRY_AFTER_S: Final = 1
# Whoever is refused in the middle of sending may finish, unheard: else it would see its connection
# reset in place of the answer.
UNHEARD_S: Final = 2.0
UNHEARD_BYTES: Final = 4 * 1024 * 1024

CALL_BODIES: Final = bodies.Share()
OTHER_BODIES: Final = bodies.Share()

Synchronous = Callable[[ASGIRequest], HttpResponseBase]


class Handler(ASGIHandler):
    """Django's handler for HTTP, with its synchronous part in one piece."""

    def load_middleware(self, is_async: bool = True) -> None:
        """Build the chain from a synchronous core, so that only what must be is asynchronous."""
        super().load_middleware(is_async=False)

    def adapt_method_mode(
        self,
        is_async: bool,
        method: Any,
        method_is_async: bool | None = None,
        debug: bool = False,
        name: str | None = None,
    ) -> Any:
        """Make the one hop, where an asynchronous middleware calls the synchronous rest."""
        if is_async and method_is_async is False:
            return self._hop(method)
        if method_is_async and not is_async:
            return method  # the whole chain, which is awaited
        return super().adapt_method_mode(is_async, method, method_is_async, debug, name)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request. A client that goes away does not stop what it asked for."""
        own_id = request_id.sent_in(scope)
        line = Line(scope, own_id)
        share = CALL_BODIES if scope["path"] in CALL_PATHS else OTHER_BODIES
        try:
            body = await bodies.read(scope, receive, share)
        except RequestAborted:
            return
        except bodies.Refused as error:
            answer = _refused(scope, own_id, error)
            line.end(answer.status_code, None)
            await self._send_unheard(answer, receive, send)
            return
        with body:
            response: Any
            request, response = self.create_request(scope, body)
            if request is None:
                answers.finish(response, own_id)
            else:
                request_id.give(request, own_id)
                response = await self.run_get_response(request)
            try:
                await self.send_response(response, send)
            finally:
                line.end(response.status_code, request)
                if not response.closed:
                    response.close()

    def _hop(self, respond: Synchronous) -> Callable[[ASGIRequest], Any]:
        def in_thread(request: ASGIRequest) -> HttpResponseBase:
            set_script_prefix(get_script_prefix(request.scope))
            signals.request_started.send(sender=self.__class__, scope=request.scope)
            response = respond(request)
            if not response.streaming:
                response.close()  # here, because this thread's database connection goes with it
            return response

        def in_time(request: ASGIRequest, began_s: float) -> HttpResponseBase:
            with deadline.within(deadline.CALL_S, since=began_s):
                return in_thread(request)

        async def hop(request: ASGIRequest) -> HttpResponseBase:
            if request.path not in CALL_PATHS:
                return await _in_pool(pool_of(request.path), in_thread, request)
            began_s = time.monotonic()
            try:
                return await CALLS.run(in_time, request, began_s)
            except Busy:  # its time is up: it is answered from memory
                return await _in_pool(LATE, in_time, request, began_s - deadline.CALL_S)

        return hop

    async def _send_unheard(self, response: HttpResponse, receive: Any, send: Any) -> None:
        """Answer before the body is there, take some more of it unheard, and close."""

        async def send_open(message: Any) -> None:
            await send({**message, "more_body": True} if "body" in message else message)

        await self.send_response(response, send_open)
        left = UNHEARD_BYTES
        try:
            async with asyncio.timeout(UNHEARD_S):
                while left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body"):
                        break
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b""})


async def _in_pool(
    pool: Pool, work: Callable[..., HttpResponseBase], request: ASGIRequest, *more: Any
) -> HttpResponseBase:
    try:
        return await pool.run(work, request, *more)
    except Busy:
        return _busy(request)


def pool_of(path: str) -> Pool:
    """Return the threads that a path has its share in."""
    if path in CALL_PATHS:
        return CALLS
    if path in STATUS_PATHS:
        return STATUS
    return SIGN_IN if path in SIGN_IN_PATHS else PAGES


def _refused(scope: Any, own_id: str, refusal: bodies.Refused) -> HttpResponse:
    """Answer a body that is not taken; what follows of it makes the connection useless."""
    is_busy = refusal.status == 503
    response = problem.response(
        _busy_status(scope["path"]) if is_busy else refusal.status,
        code=refusal.code,
        detail=str(refusal),
        path=scope["path"],
        request_id=own_id,
        headers={"Connection": "close"},
    )
    response.headers["Content-Length"] = str(len(response.content))
    if is_busy:
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
    answers.finish(response, own_id)
    return response


def _busy(request: ASGIRequest) -> HttpResponse:
    """Answer for threads that are all taken."""
    return problem.response(
        _busy_status(request.path),
        code="busy",
        detail="Too many requests at once here; ask again in a moment.",
        path=request.path,
        request_id=request_id.of(request),
        headers={"Retry-After": str(RETRY_AFTER_S)},
    )


def _busy_status(path: str) -> int:
    """A decision is never a 503: that Redis or the database is away is no reason to refuse one."""
    return 429 if path == DECISIONS else 503
