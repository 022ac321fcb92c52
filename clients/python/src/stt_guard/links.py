"""The links of one guard: each event loop's own, and what those that are over leave to the others.

Safe in any thread. A loop may close its link, end without a word, or be its parent's in a fork.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

from stt_guard.environment import FeedMode
from stt_guard.feed import Feed
from stt_guard.link import Link, Plan
from stt_guard.memory import Memory
from stt_guard.said import Said
from stt_guard.state import Picture
from stt_guard.waiting import Counts, Entry, Waiting

FRESH_S: Final = 15.0
LONG_AGO_S: Final = float("-inf")


class Links:
    """Makes a link in the loop that first needs it."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        feed: FeedMode,
        memory: Memory,
        said: Said,
        clock: Callable[[], float],
    ) -> None:
        self.alive: dict[asyncio.AbstractEventLoop, Link] = {}
        self.plan = Plan(url, headers, feed, memory, said, clock, self._let_go, self._stray)
        self._lock = threading.RLock()  # over who is alive, and over what the others left:
        self._counts = Counts()
        self._unsent = Waiting(self._counts, said, clock)
        self._picture, self._heard_s = Picture(), LONG_AGO_S
        self._process, self._parents = os.getpid(), self.alive

    @property
    def unsent(self) -> int:
        """How many outcomes the last loop left when it was over."""
        return len(self._unsent)

    def here(self) -> Link:
        """Return the running loop's link; make one where there is none, or none any more."""
        loop = asyncio.get_running_loop()
        link = self.alive.get(loop)
        if link is not None and not link.is_over:
            return link
        with self._lock:
            if os.getpid() != self._process:
                self._leave_to_parent()
            for old in [one for one in self.alive.values() if one.loop.is_closed()]:
                self._let_go(old)  # its loop ended without a word
            link = self.alive[loop] = Link(self.plan)
            link.outbox.adopt(self._unsent.empty())
        return link

    def sight(self, link: Link | None = None) -> tuple[Picture, float]:
        """Return the picture to decide from, and its age in seconds.

        The link's where it is fresh, else the freshest of the process: a job in a loop of its own
        knows what the others were told.
        """
        if link is not None and (age_s := link.feed.age_s) < FRESH_S:
            return link.feed.picture, age_s
        heard_s, picture = self._heard_s, self._picture
        for other in list(self.alive.values()):
            if other.feed.heard_s > heard_s:
                heard_s, picture = other.feed.heard_s, other.feed.picture
        return picture, self.plan.clock() - heard_s

    def totals(self) -> dict[str, int]:
        """Return what became of the outcomes of all loops: each is in one of these numbers."""
        with self._lock:
            total, links = Counts(), list(self.alive.values())
            for counts in (self._counts, *(link.outbox.counts for link in links)):
                total.add(counts)
            waiting = sum(link.outbox.waiting for link in links)
            return {**asdict(total), "waiting": waiting, "unsent": self.unsent}

    def _let_go(self, link: Link) -> None:
        """Take over what a link leaves when it is over: its counts, its picture, its outcomes."""
        with self._lock:
            if self.alive.get(link.loop) is link:
                del self.alive[link.loop]
            self._remember(link.feed)
            left = link.outbox.close()
            self._counts.add(link.outbox.counts)
            self._hand_on(left)

    def _leave_to_parent(self) -> None:
        """Begin anew in a fork: the links that it has are at work in its parent.

        They are kept as they are: to close their sockets here would make the parent deaf.
        """
        self._process, self._parents, self.alive = os.getpid(), self.alive, {}
        for link in self._parents.values():
            self._remember(link.feed)

    def _remember(self, feed: Feed) -> None:
        """Keep what a feed heard, if nothing newer is kept."""
        if feed.heard_s > self._heard_s:
            self._heard_s, self._picture = feed.heard_s, feed.picture

    def _stray(self, body: dict[str, Any]) -> None:
        """Queue an outcome of a call whose link is over."""
        with self._lock:
            self._counts.queued += 1
            self._hand_on([Entry(body, self.plan.clock())])

    def _hand_on(self, entries: list[Entry]) -> None:
        for link in list(self.alive.values()):
            if not link.is_over and not link.loop.is_closed() and link.outbox.adopt(entries):
                return
        self._unsent.adopt(entries)
