"""Work in a few threads of its own, which whoever asked for it leaves when its time is over.

For what no socket's timeout bounds: the look-up of a name, and clients that sleep and try again.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from fallback import deadline

T = TypeVar("T")


class Aside:
    """A few threads. What is left behind ends by a deadline of its own, after `at_most_s`."""

    def __init__(self, name: str, *, threads: int, at_most_s: float) -> None:
        self._name, self._count, self.at_most_s = name, threads, at_most_s
        self._begin()
        os.register_at_fork(after_in_child=self._begin)  # threads do not come along

    def _begin(self) -> None:
        self._threads = ThreadPoolExecutor(self._count, thread_name_prefix=self._name)

    def start(self, work: Callable[[], T]) -> Future[T]:
        """Begin the work, and return at once. As the interpreter ends it is done in place."""
        try:
            return self._threads.submit(self._bounded, work)
        except RuntimeError:  # no thread begins any more; what is written at the end still must be
            done: Future[T] = Future()
            try:
                done.set_result(self._bounded(work))
            except Exception as error:
                done.set_exception(error)
            return done

    def ask(self, work: Callable[[], T]) -> T:
        """Return what the work returns. Raises TimeoutError when the asker's time is over first:
        what has not begun then is dropped, and what has goes on alone."""
        future = self.start(work)
        try:
            return future.result(timeout=max(0.0, min(deadline.left_s(), self.at_most_s)))
        finally:
            future.cancel()

    def _bounded(self, work: Callable[[], T]) -> T:
        with deadline.within(self.at_most_s):
            return work()
