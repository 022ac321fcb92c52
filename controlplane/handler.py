"""How a request becomes a response under ASGI: one thread hop for everything synchronous.

Django's own handler gives each request a thread of its own and enters it once or twice for every
synchronous middleware, once for each signal and once to close the response; under load that is
most of a decision's time. Here whatever is asynchronous (health, static files: first in MIDDLEWARE)
runs in the event loop, and all that follows runs as it would under WSGI, in one visit to a thread.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, ASGIRequest, get_script_prefix
from django.http import HttpResponseBase
from django.urls import set_script_prefix

# What calls wait for has threads of its own: pages that hang in the database cannot take them.
# Enough of them that a Redis as slow as its timeout allows still leaves 400 decisions a second.
CALL_PATHS: Final = frozenset({"/api/v1/decisions", "/api/v1/outcomes"})
CALL_THREADS: Final = ThreadPoolExecutor(max_workers=64, thread_name_prefix="call")
OTHER_THREADS: Final = ThreadPoolExecutor(max_workers=32, thread_name_prefix="page")

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
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        with body:
            request, refusal = self.create_request(scope, body)
            response: Any = refusal if request is None else await self.run_get_response(request)
            try:
                await self.send_response(response, send)
            finally:
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

        async def hop(request: ASGIRequest) -> HttpResponseBase:
            threads = CALL_THREADS if request.path in CALL_PATHS else OTHER_THREADS
            return await asyncio.get_running_loop().run_in_executor(threads, in_thread, request)

        return hop
