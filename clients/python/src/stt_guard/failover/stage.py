"""Who listens in a call, who is about to, and how one takes over from the other."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from stt_guard.call import Call
from stt_guard.failover.legs import Host, Leg, Swap
from stt_guard.failover.limits import Limits
from stt_guard.failover.stall import StallWatch
from stt_guard.failover.tail import Tail
from stt_guard.words import LASTING, Kind, Seen

log = logging.getLogger(__name__)


class Stage:
    """The legs of a call, best first. One of them is active; one more may be joining."""

    def __init__(self, call: Call, legs: Sequence[Leg], host: Host, limits: Limits) -> None:
        self.call, self.legs, self.host, self.limits = call, tuple(legs), host, limits
        self.active = self.legs[0]
        self.since_s = self.now()  # since when the active leg is
        self.tail = Tail(limits.tail_s)
        self.watch = StallWatch(limits)
        self.is_held = False  # audio goes only into the tail: the active leg cannot take it now
        self.is_closing = False
        self.joining: Leg | None = None
        self.error: Seen | None = None  # the joining leg's
        self.final_words = self.interim_words = 0  # that the joining leg found
        self._withheld: list[Any] = []  # the finals of the joining leg
        self._news = asyncio.Event()
        call.use(self.active.provider)

    @staticmethod
    def now() -> float:
        """The running loop's clock, in seconds."""
        return asyncio.get_running_loop().time()

    # --- who could listen

    def best(self, legs: Iterable[Leg]) -> Leg | None:
        """Return whom to try next; None when nobody is left.

        Who was tried least since the call was last heard, then who did not fail in it and is not
        left for its silence, then who comes first.
        """
        able = [leg for leg in legs if not leg.is_out]
        return min(able, key=self._rank, default=None)

    def _rank(self, leg: Leg) -> tuple[int, bool, int]:
        is_doubtful = self.call.has_failed(leg.provider) or leg.doubted_since_s is not None
        return leg.tries, is_doubtful, self.call.place_of(leg.provider)

    def report(self, leg: Leg, seen: Seen, kind: Kind) -> None:
        """Report a failure, once in this call."""
        leg.is_out |= seen.reason in LASTING
        is_first = self.call.failed(
            leg.provider,
            kind,
            reason=seen.reason,
            code=seen.code,
            retry_after_s=seen.retry_after_s,
        )
        if is_first:
            log.warning("%s failed in call %s: %s %s", leg.provider, self.call.id, kind, seen)

    # --- joining

    def join(self, leg: Leg) -> None:
        """Let a leg get ready. Its texts are withheld until it takes over."""
        self.joining, self.error, self._withheld = leg, None, []
        self.final_words = self.interim_words = 0

    def part(self, leg: Leg) -> None:
        """It does not join after all."""
        if self.joining is leg:
            self.joining, self._withheld = None, []

    def joining_wrote(self, text: str, item: Any, *, is_final: bool) -> None:
        """Take a text of the joining leg."""
        words = len(text.split())
        if words and is_final:
            self._withheld.append(item)
            self.final_words, self.interim_words = self.final_words + words, 0
        elif words:
            self.interim_words = words
        self.stir()

    def joining_failed(self, seen: Seen) -> None:
        """The joining leg cannot go on."""
        self.error = seen
        self.stir()

    async def say_rest(self, leg: Leg, number: int = -1, before: int | None = None) -> int:
        """Say to it what is kept after `number`, until nothing newer is left; return the last.

        `before`: and nothing from that piece on.
        """
        for kept in self.tail.after(number, before):
            if self.error and leg is self.joining:
                break
            number = kept.number
            await leg.say(kept.item)
        return number

    async def take_over(self, leg: Leg, reason: str) -> None:
        """Make it the active one. Nothing is awaited between the last of the tail and this."""
        left, self.active, self.joining = self.active, leg, None
        withheld, self._withheld = self._withheld, []
        self.since_s, self.is_held = self.now(), False
        self.call.use(leg.provider)
        leg.drops.forget()
        leg.came_up()
        if withheld:
            self.transcribed(leg, None)
        self.watch.meet_another(self.since_s, is_answered=bool(withheld))
        await self.host.activate(leg)
        if withheld or self.watch.owed_since_s is not None:
            self.host.replayed(withheld)
        if left is leg:
            return
        for other in self.legs:
            if other is not leg and other.doubted_since_s is None:
                self.let_go(other)
        log.warning("%s listens from now in call %s", leg.provider, self.call.id)
        self.host.tell("on_swap", Swap(self.call, left.provider, leg.provider, reason))

    def transcribed(self, leg: Leg, latency_s: float | None) -> None:
        """The leg has a final: what was said until here needs not be said again."""
        self.call.transcript(leg.provider, latency_s=latency_s)
        self.tail.answered(is_speaking=self.watch.is_speaking)
        leg.wrote()

    def let_go(self, leg: Leg) -> None:
        """Disconnect a leg, in the background."""
        if not self.is_closing:  # at the end the framework closes all of them
            self.host.spawn(leg.let_go())

    # --- waiting

    def stir(self) -> None:
        """Wake who waits for news: audio, a text, an error, the end."""
        self._news.set()

    async def news_within(self, limit_s: float) -> None:
        """Wait for news, at most so long."""
        self._news.clear()
        try:
            await asyncio.wait_for(self._news.wait(), max(0.0, limit_s))
        except TimeoutError:
            return
