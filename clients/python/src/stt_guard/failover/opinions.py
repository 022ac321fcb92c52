"""A doubt, and the second opinion that decides it.

The caller speaks and nobody transcribes. That is noise, a slow provider or a dead one; all three
look the same from here. So the next provider hears the same sound. It takes over only if it finds
words and the active one still does not; a stall is reported only when the one that was left has
written nothing for so long that it is not slow but dead. Nothing else follows from a doubt: no
report, no swap, no end.
"""

import asyncio
import logging
from typing import Final

from stt_guard.failover.legs import Leg
from stt_guard.failover.stage import Stage
from stt_guard.words import INIT_FAILURE, STALL, Seen

# One interim word may be a guess at a noise; two are words.
WORDS_MIN: Final = 2
log = logging.getLogger(__name__)


class Opinions:
    """At most one opinion at a time, and a bounded number in a call: each costs a connection."""

    def __init__(self, stage: Stage) -> None:
        self._stage, self._watch, self._limits = stage, stage.watch, stage.limits
        self._left_to_ask = stage.limits.checks if len(stage.legs) > 1 else 0
        self._timer: asyncio.TimerHandle | None = None
        self._check_task: asyncio.Task[None] | None = None
        self._is_answered = False  # the active leg wrote during the check
        # When a silent leg that was left counts as dead, unless it writes before.
        self._verdicts: dict[Leg, asyncio.TimerHandle] = {}

    def look(self) -> None:
        """Find out when the next doubt is due, after anything that may have changed it."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        due_s = self._watch.suspect_s()
        if due_s is None or not self._left_to_ask or self._stage.is_closing:
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(max(due_s, loop.time()), self._ask)

    def answered(self) -> None:
        """The active leg wrote something new."""
        self._is_answered = True
        self._stage.stir()
        self.look()

    async def stop(self) -> None:
        """Stop the check that is under way: the active leg has failed anyway."""
        if self._check_task:
            self._check_task.cancel()
            await asyncio.wait({self._check_task})

    def close(self) -> None:
        """The call is over: what is not proven is not reported."""
        for handle in (self._timer, *self._verdicts.values()):
            if handle:
                handle.cancel()
        if self._check_task:
            self._check_task.cancel()

    # --- the check

    def _ask(self) -> None:
        stage = self._stage
        if stage.is_held or self._check_task:  # looked at again when that is over
            return
        leg = stage.best(one for one in stage.legs if one is not stage.active)
        if leg is not None:
            self._left_to_ask -= 1
            self._check_task = stage.host.spawn(self._check(leg))

    async def _check(self, leg: Leg) -> None:
        stage, is_proven = self._stage, False
        self._is_answered = False
        self.forget(leg)
        stage.join(leg)
        try:
            if error := await leg.connect(self._limits.connect_s):
                stage.report(leg, error, INIT_FAILURE)
            elif await self._finds_words(leg):
                is_proven = True
                await self._swap(leg)
        finally:
            self._check_task = None
            if not is_proven:
                stage.part(leg)
                stage.let_go(leg)
        if not is_proven and not self._is_answered:
            self._watch.came_of_nothing(stage.now())
        self.look()

    async def _finds_words(self, leg: Leg) -> bool:
        """Say to it what has no transcript; whether it finds words there and the active does not.

        Only that, and nothing that is said since: words that both hear now prove nothing.
        """
        stage, watch = self._stage, self._watch
        is_speech_over = watch.owed_since_s is not None
        shown = watch.shown_words
        believe_s = watch.believe_s() or stage.now()
        give_up_s = max(stage.now(), believe_s) + self._limits.confirm_s
        goes_on_from = stage.tail.last_beginning if watch.is_speaking and is_speech_over else None
        number = await stage.say_rest(leg, before=goes_on_from)
        while not (self._is_answered or stage.error or watch.is_muted or stage.is_closing):
            now_s = stage.now()
            found = self._has_found(is_speech_over=is_speech_over, shown=shown)
            if found and now_s >= believe_s:
                await stage.say_rest(leg, number)
                return not (self._is_answered or stage.error)
            if now_s >= give_up_s:
                return False
            await stage.news_within((believe_s if found else give_up_s) - now_s)
        return False

    def _has_found(self, *, is_speech_over: bool, shown: int) -> bool:
        """Whether it found more than the active leg has: finals where only interim text is shown.

        While the caller speaks on, a word or two may be the next that the active leg writes.
        """
        finals, all_words = self._stage.final_words, self._words
        if not is_speech_over:
            return all_words >= shown + WORDS_MIN
        return finals > 0 or (not shown and all_words >= WORDS_MIN)

    @property
    def _words(self) -> int:
        return self._stage.final_words + self._stage.interim_words

    async def _swap(self, leg: Leg) -> None:
        stage = self._stage
        left = stage.active
        since_s = left.doubted_since_s = self._watch.owed_since_s or stage.now()
        await stage.take_over(leg, STALL)
        loop = asyncio.get_running_loop()
        due_s = max(since_s + self._limits.late_s, loop.time())
        self._verdicts[left] = loop.call_at(due_s, self._was_dead, left)

    # --- slow, or dead?

    def wrote_late(self, leg: Leg) -> None:
        """A leg that was left for its silence writes after all: it was slow, not dead."""
        call = self._stage.call
        if leg.doubted_since_s is not None:
            latency_s = self._stage.now() - leg.doubted_since_s
            log.warning("%s is %.1f s late in call %s", leg.provider, latency_s, call.id)
            call.slow(leg.provider, latency_s=latency_s)
            self.forget(leg)
            self._stage.let_go(leg)

    def forget(self, leg: Leg) -> None:
        """There is nothing left to doubt: it failed for a plain reason, or is connected anew."""
        leg.doubted_since_s = None
        if verdict := self._verdicts.pop(leg, None):
            verdict.cancel()

    def _was_dead(self, leg: Leg) -> None:
        self.forget(leg)
        self._stage.report(leg, Seen("stall"), STALL)
        self._stage.let_go(leg)
