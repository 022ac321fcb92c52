"""What a guard holds in one event loop: a session, a feed, an outbox, and the calls begun there.

Sockets and tasks belong to their loop, so each loop has its own; a picture too, for its feed is its
one writer. Every loop may read the picture of another.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakValueDictionary

import aiohttp

from stt_guard.call import Call
from stt_guard.environment import FeedMode
from stt_guard.feed import Feed
from stt_guard.keeper import Keeper
from stt_guard.memory import Memory
from stt_guard.outcomes import Outbox
from stt_guard.said import Said
from stt_guard.state import Picture

LAST_S: Final = 0.3  # for what is queued when a loop ends and nobody closed the guard in it

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the links of one guard have in common."""

    url: str
    headers: Mapping[str, str]
    feed: FeedMode
    memory: Memory
    said: Said
    clock: Callable[[], float]
    left: Callable[["Link"], None]  # told by a link that is over
    stray: Callable[[dict[str, Any]], None]  # takes an outcome that comes after that


class Link:
    """Made in a loop, and at work from then on. Only `put` may be called from elsewhere."""

    def __init__(self, plan: Plan) -> None:
        self.loop = asyncio.get_running_loop()
        self.calls: WeakValueDictionary[str, Call] = WeakValueDictionary()
        self.deciding = 0  # calls whose decision is under way
        self.is_over = False
        self._plan = plan
        self._session: aiohttp.ClientSession | None = None
        self.feed = Feed(
            plan.url, plan.headers, self.http, Picture(), plan.memory, plan.said,
            plan.feed, plan.clock,
        )  # fmt: skip
        self.outbox = Outbox(
            f"{plan.url}/api/v1/outcomes", plan.headers, self.http, self._answered,
            plan.said, plan.clock,
        )  # fmt: skip
        self.put: Callable[[dict[str, Any]], None] = self._put  # bound once, for all calls
        self._is_closing = self._is_ended = False
        self._task = self.loop.create_task(self._live(), name="stt_guard")

    @property
    def is_busy(self) -> bool:
        """Whether a call that was begun here is still going on."""
        return self.deciding > 0 or any(not call.is_over for call in list(self.calls.values()))

    def http(self) -> aiohttp.ClientSession:
        """Return the session of this loop, made when it is first needed."""
        if self._session is None:  # each wait has a limit of its own
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        return self._session

    async def close(self) -> None:
        """Stop all that is at work here, and close. Safe to repeat."""
        self.is_over = True  # at once: a call that begins now makes a link of its own
        if not self._is_closing:
            self._is_closing = True
            self._task.cancel()
        await asyncio.wait({self._task})
        if not self._is_ended:  # it was cancelled before it began
            await self._end()

    async def _live(self) -> None:
        """Work until it is cancelled: by `close`, or by a loop that ends without it."""
        try:
            async with asyncio.TaskGroup() as group:
                for part in self._parts():
                    group.create_task(part, name="stt_guard")
        except GeneratorExit:  # that loop was closed under it: nothing can be awaited any more
            raise
        except BaseException:
            await self._end()
            raise

    async def _end(self) -> None:
        self.is_over = self._is_ended = True
        try:
            if not self._is_closing:
                await self.outbox.flush(LAST_S)
        finally:
            if self._session is not None:
                with contextlib.suppress(Exception):
                    await self._session.close()
            self._plan.left(self)

    def _parts(self) -> list[Coroutine[Any, Any, None]]:
        parts = [self.outbox.run()]
        if self._plan.feed != "off":
            parts.append(self.feed.run())
        elif self._plan.memory.is_kept:
            keeper = Keeper(
                self._plan.url, self._plan.headers, self.http, self._plan.memory,
                self._plan.said, self._plan.clock,
            )  # fmt: skip
            parts.append(keeper.run())
        return parts

    def _put(self, body: dict[str, Any]) -> None:
        if not self.outbox.put(body):
            self._plan.stray(body)

    def _answered(self, body: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Hand the server's advice to the call, if it is still there."""
        advice = result.get("next")
        provider = advice.get("provider") if isinstance(advice, Mapping) else None
        call = self.calls.get(body["call_id"])
        if call is not None and isinstance(provider, str):
            call.advise(provider)
