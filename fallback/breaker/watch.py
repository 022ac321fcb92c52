"""Whether the server that answers is the master, looked up while somebody asks.

A master that was replaced goes on answering whoever can still reach it: a decision that writes
nothing is never refused. So a thread asks again every `LOOK_EVERY_S` who the master is and whether
it says so itself. It ends when nobody has asked for a while.
"""

import os
import threading
import time
from collections.abc import Callable
from typing import Final

import structlog
from redis.exceptions import RedisClusterException, RedisError

from fallback import deadline

log = structlog.get_logger(__name__)

LOOK_EVERY_S: Final = 0.3
APART_S: Final = 0.05  # however many refusals ask for a look at once
SURE_S: Final = 1.0  # for how long a look is believed
IDLE_S: Final = 3.0  # nobody asked for so long: nobody looks
WAIT_S: Final = 0.3  # at most, for the look under way, where a request gives no other limit


class NotMaster(Exception):  # noqa: N818 - what it says, not what went wrong
    """The server is no master, or not one that anybody should believe; the text says why."""


class Trust:
    """Believes whoever answers: for a client that somebody else made, as in a test."""

    generation = 0

    def asked(self) -> None:
        """Do nothing."""

    def doubt(self) -> None:
        """Do nothing."""

    def is_sure(self) -> bool:
        """Return True."""
        return True


class Watch(Trust):
    """Looks for one process. Safe for threads.

    `named` returns who the master is, in any words; `confirm` raises NotMaster unless the server in
    use says that it is one; `chores` is done after each look. Each may raise a RedisError: then
    nothing was learned.
    """

    def __init__(
        self,
        named: Callable[[], str] = lambda: "",
        confirm: Callable[[], None] = lambda: None,
        chores: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._named, self._confirm, self._chores = named, confirm, chores
        self._clock = clock
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._looked = threading.Condition()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._master: str | None = None
        self.generation = 0  # grows with each change of the master
        self._asked_at_s = self._looked_at_s = self._sure_at_s = float("-inf")

    def asked(self) -> None:
        """Note that somebody asks. Every decision calls this: it starts the thread, if need be, and
        does not wait for it."""
        if self._process != os.getpid():  # a fork: the thread did not come along
            self._begin()
        self._asked_at_s = self._clock()
        if self._thread is None:
            self._start()

    def is_sure(self) -> bool:
        """Whether the master was confirmed within `SURE_S`; waits for the look under way if there
        was none for so long, as after a pause."""
        since_s = self._clock() - SURE_S
        if self._sure_at_s >= since_s:
            return True
        if self._looked_at_s < since_s:
            self.asked()
            self._wake.set()
            with self._looked:
                wait_s = max(0.0, min(WAIT_S, deadline.left_s()))
                self._looked.wait_for(lambda: self._looked_at_s >= since_s, wait_s)
        return self._sure_at_s >= since_s

    def doubt(self) -> None:
        """Believe nobody until the next look, which comes at once."""
        self._sure_at_s = float("-inf")
        self._wake.set()

    def look(self) -> None:
        """Look once. Never raises."""
        began_s = self._clock()
        try:
            master = self._named()
            if master != self._master:
                if self._master is not None:
                    self.generation += 1
                    self._sure_at_s = float("-inf")
                    log.warning("redis_master_changed", before=self._master, now=master)
                self._master = master
            self._confirm()
            self._sure_at_s = began_s
        except NotMaster as error:
            if self._sure_at_s > float("-inf"):
                log.error("redis_not_master", server=self._master, problem=str(error))
            self._sure_at_s = float("-inf")
        except (RedisError, RedisClusterException, OSError) as error:
            log.debug("redis_not_confirmed", error=str(error)[:200])
        except Exception:  # a thread that ends unseen would have every answer doubted
            log.exception("redis_look_failed")
        with self._looked:
            self._looked_at_s = self._clock()
            self._looked.notify_all()

    def is_looking(self) -> bool:
        """Whether the thread is there: while somebody asks, and `IDLE_S` longer."""
        return self._thread is not None

    def _start(self) -> None:
        with self._looked:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="redis-watch", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the interpreter is ending: nobody is sure of anything
                    return
                self._thread = thread

    def _do_chores(self) -> None:
        try:
            self._chores()
        except Exception:  # as above
            log.exception("redis_chores_failed")

    def _run(self) -> None:
        while True:
            self._wake.clear()
            self.look()
            self._do_chores()
            time.sleep(APART_S)
            self._wake.wait(LOOK_EVERY_S - APART_S)
            with self._looked:
                if self._clock() - self._asked_at_s > IDLE_S:
                    self._thread = None
                    return
