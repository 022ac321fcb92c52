"""Threads for the synchronous part of requests: so many of a kind, and a bounded queue before them.

A queue without a bound answers everybody late. Here whoever finds it full is told at once, and
whoever waited in it for too long.
"""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class Busy(Exception):  # noqa: N818 - named by what whoever asked is told
    """No thread is free, and enough others wait for one."""


class Pool:
    """At most `threads` at work, and `waiting` before them, each for `wait_s` at most."""

    def __init__(self, name: str, *, threads: int, waiting: int, wait_s: float) -> None:
        self.threads, self.room, self.wait_s = threads, threads + waiting, wait_s
        self.under_way = 0
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)

    async def run(self, work: Callable[..., Answer], *args: Any) -> Answer:
        """Run it in a thread, in this task's context. Raises Busy; what has begun goes on."""
        if self.under_way >= self.room:
            raise Busy
        must_wait = self.under_way >= self.threads
        self.under_way += 1
        try:
            queued = self._executor.submit(contextvars.copy_context().run, work, *args)
            answer = asyncio.wrap_future(queued)
            if must_wait:
                done, _ = await asyncio.wait([answer], timeout=self.wait_s)
                if not done and queued.cancel():
                    raise Busy
            return await answer
        finally:
            self.under_way -= 1
