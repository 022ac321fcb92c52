"""`Failover`: what an adapter tells of a call, and what follows from drops and failures.

    a drop        the same provider again, within the grace; what it missed is said again
    a failure     the next provider that can be had, and all of them again when none is left
    a doubt       see `opinions`

The call ends only when nobody could be had for `on_last_s`, or when its route says so.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from stt_guard.call import Call
from stt_guard.failover.legs import Host, Leg
from stt_guard.failover.limits import Limits
from stt_guard.failover.opinions import Opinions
from stt_guard.failover.search import Search
from stt_guard.failover.stage import Stage
from stt_guard.words import INIT_FAILURE, MID_CALL_FAILURE, Kind, Seen

SETTLED_S: Final = 5.0  # up for as long, a provider was there, whether or not anybody spoke
log = logging.getLogger(__name__)


class Failover:
    """The rules of one call over its legs, best first. Its methods are quick and never raise."""

    def __init__(self, call: Call, legs: Sequence[Leg], host: Host, limits: Limits) -> None:
        self.call, self.limits = call, limits
        self._stage = Stage(call, legs, host, limits)
        self._opinions = Opinions(self._stage)
        self._host = host
        self._lost_s: float | None = None  # since when nobody listens for sure
        self._is_last_told = False
        self._moving: asyncio.Task[None] | None = None
        self._healing: asyncio.Task[None] | None = None
        self._has_dropped_again = False

    @property
    def active(self) -> Leg:
        """Who listens now."""
        return self._stage.active

    @property
    def is_held(self) -> bool:
        """Whether audio is only kept for now, because the active leg cannot take it."""
        return self._stage.is_held

    @property
    def is_closing(self) -> bool:
        """Whether the call is over."""
        return self._stage.is_closing

    @property
    def is_muted(self) -> bool:
        """Whether nobody is to be heard."""
        return self._stage.watch.is_muted

    @property
    def is_speaking(self) -> bool:
        """Whether the caller is speaking."""
        return self._stage.watch.is_speaking

    # --- what the caller does

    def hears(self, item: Any, seconds: float) -> None:
        """Take a piece of the caller's audio."""
        if not self._stage.watch.is_muted:
            self._stage.tail.add(item, seconds)
            self._stage.stir()

    def speech_began(self, at_s: float, mark: Any = None) -> None:
        """The caller began to speak, at that time of the loop's clock."""
        if mark is not None:
            self._stage.tail.add(mark, is_beginning=True)
        self._stage.watch.started(at_s)
        self._opinions.look()

    def speech_ended(self, at_s: float, mark: Any = None) -> None:
        """The caller stopped speaking: from here an answer is due."""
        if mark is not None:
            self._stage.tail.add(mark)
            self._stage.stir()
        self._stage.watch.stopped(at_s)
        self._opinions.look()

    def muted(self, is_muted: bool) -> None:
        """Nobody is to be heard for a while, or is again."""
        self._stage.watch.mute(is_muted)
        self._stage.stir()

    def open(self) -> None:
        """Connect the active leg, where the framework does not do it by itself."""
        self._stage.is_held = True
        self._healing = self._host.spawn(self._open(self.active))

    async def leave(self) -> None:
        """Let all legs go for now, until `open`: the framework has a pause."""
        self._stage.is_held = True  # no doubt is raised while nobody is to listen
        for task in (self._moving, self._healing):
            if task:
                task.cancel()
        await self._opinions.stop()
        for leg in self._stage.legs:
            self._opinions.forget(leg)
        await asyncio.gather(*(leg.let_go() for leg in self._stage.legs))

    def close(self) -> None:
        """The call is over. Nothing that is seen from now on counts."""
        if self.is_closing:
            return
        self._stage.is_closing = True
        self._stage.stir()
        self._opinions.close()
        for task in (self._moving, self._healing):
            if task:
                task.cancel()
        self.call.end()

    # --- what a leg does

    def wrote(self, leg: Leg, text: str, *, is_final: bool, item: Any = None) -> bool:
        """Take a leg's text; whether it may pass now. Only the active leg's texts do.

        The finals of a leg that joins are withheld, and let out as it takes over.
        """
        stage = self._stage
        if leg is not stage.active:
            if leg is stage.joining:
                stage.joining_wrote(text, item, is_final=is_final)
            elif is_final and text.strip():
                self._opinions.wrote_late(leg)
            return False
        latency_s = stage.watch.latency_s(stage.now())
        if stage.watch.text(text, stage.now(), is_final=is_final):
            leg.wrote()
            self._found()
            if is_final:
                stage.transcribed(leg, latency_s)
            self._opinions.answered()
        return True

    def dropped(
        self, leg: Leg, seen: Seen, *, is_routine: bool = False, has_given_up: bool = False
    ) -> None:
        """A leg's link is down, and may come back. `is_routine`: it asked to be connected again.

        `has_given_up`: its service tried, and will not again by itself.
        """
        if leg is not self.active:
            self.failed(leg, seen)
        elif self.is_closing or self._moving:
            return
        elif leg.drops.add(self._stage.now(), is_routine=is_routine, has_given_up=has_given_up):
            self.failed(leg, Seen("stream", seen.code) if seen.reason == "connection" else seen)
        elif self._healing:
            self._has_dropped_again = True
            self._stage.stir()
        else:
            self._stage.is_held = True
            self._healing = self._host.spawn(self._heal(leg, seen))

    def failed(self, leg: Leg, seen: Seen) -> None:
        """A leg cannot go on. Reported once in this call, and answered if it is the active one."""
        stage = self._stage
        is_joining = leg is stage.joining
        takes_part = leg is stage.active or is_joining or leg.doubted_since_s is not None
        if self.is_closing or not takes_part:
            return
        kind: Kind = MID_CALL_FAILURE if leg.was_up else INIT_FAILURE
        stage.report(leg, seen, kind)
        self._opinions.forget(leg)
        if is_joining:
            stage.joining_failed(seen)
        if leg is not stage.active or self._moving:
            return
        self._stop_healing()
        self._lose()
        ends = self.call.should_end(kind)
        self._moving = self._host.spawn(self._end() if ends else self._move(seen.reason))

    # --- a drop

    async def _open(self, leg: Leg) -> None:
        try:
            if error := await leg.connect(self.limits.connect_s):
                self.failed(leg, error)
            else:
                await self._resume(leg)
        finally:
            if self._healing is asyncio.current_task():
                self._healing = None

    async def _heal(self, leg: Leg, seen: Seen) -> None:
        """Have the same provider again within the grace, and say to it what it missed."""
        try:
            while True:
                self._has_dropped_again = False
                if error := await leg.heal(self.limits.grace_s):
                    self.failed(leg, seen if error.reason == "timeout" else error)
                    return
                await self._resume(leg)
                if not await self._drops_again_within(self.limits.grace_s):
                    break
            self.call.recovered(leg.provider, reason=seen.reason, code=seen.code)
        finally:
            if self._healing is asyncio.current_task():
                self._healing = None
                self._opinions.look()

    async def _resume(self, leg: Leg) -> None:
        """It is back: say to it what it missed, unless the call has left it meanwhile."""
        stage = self._stage
        leg.came_up()
        await stage.say_rest(leg)
        if leg is stage.active and not self._has_dropped_again:
            stage.watch.begin_again(stage.now())
            stage.is_held = False
            if stage.watch.owed_since_s is not None:
                self._host.replayed(())

    async def _drops_again_within(self, limit_s: float) -> bool:
        deadline_s = self._stage.now() + limit_s
        while not self._has_dropped_again and (left_s := deadline_s - self._stage.now()) > 0:
            await self._stage.news_within(left_s)
        self._stage.is_held |= self._has_dropped_again
        return self._has_dropped_again

    def _stop_healing(self) -> None:
        if self._healing and self._healing is not asyncio.current_task():
            self._healing.cancel()
        self._healing = None

    # --- a failure

    def _lose(self) -> None:
        """Nobody listens from now, unless it was so before."""
        now_s = self._stage.now()
        if self._lost_s is None or now_s - self._stage.since_s >= SETTLED_S:
            self._found()
            self._lost_s = now_s
        self.active.tries = max(1, self.active.tries)
        self._stage.is_held = True

    def _found(self) -> None:
        """Somebody listens for sure: what failed before may be tried again as if new."""
        self._lost_s, self._is_last_told = None, False
        for leg in self._stage.legs:
            leg.tries = 0

    async def _move(self, reason: str) -> None:
        """Try until a provider listens; end the call only when it may."""
        search = Search(self._stage)
        try:
            await self._host.ready()
            await self._opinions.stop()
            while not self._is_given_up:
                leg = await search.step(is_late=self._lost_for_s > self.limits.on_last_s)
                if leg is not None and await self._join(leg, reason):
                    return
                if search.has_tried_all:
                    self._tell_last()
            await self._end()
        finally:
            search.close()
            if self._moving is asyncio.current_task():
                self._moving = None
            self._opinions.look()

    @property
    def _is_given_up(self) -> bool:
        """Whether the call was without a listener for so long that it may end.

        Never where there is nobody to go to in the first place: a framework alone would go on
        trying there, and no call is worse off with us.
        """
        if len(self._stage.legs) < 2 or self.call.mode == "last_resort" or self._lost_s is None:
            return False
        return self._is_last_told and self._lost_for_s >= self.limits.on_last_s

    @property
    def _lost_for_s(self) -> float:
        return 0.0 if self._lost_s is None else self._stage.now() - self._lost_s

    def _tell_last(self) -> None:
        """Everybody was tried: say so once."""
        if not self._is_last_told:
            self._is_last_told = True
            log.error("nobody listens in call %s; all are tried again", self.call.id)
            self._host.tell("on_last", self.call)

    async def _join(self, leg: Leg, reason: str) -> bool:
        """Put a connected leg in the place of the one that failed; whether that was done."""
        stage = self._stage
        self._opinions.forget(leg)
        stage.join(leg)
        try:
            await stage.say_rest(leg)
            if stage.error or self.is_closing:
                return False
            await stage.take_over(leg, reason)
            return True
        except Exception:  # whatever it is, a call that nobody listens to must not go on
            log.exception("the swap in call %s failed", self.call.id)
            return False
        finally:
            stage.part(leg)

    async def _end(self) -> None:
        log.error("call %s ends: nobody can listen, or its route says so", self.call.id)
        await self._host.ready()
        await self._host.end()
