"""`FailoverSTT`: a Pipecat STT that outlives its provider.

Builds every provider of the call's order, connects the first, and when that one fails (an error,
a drop that does not heal, a stall) connects the next, says to it again what the caller said since
the last transcript, and puts it in its place. Everything seen is reported on the call.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    EndWorkerFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    StartFrame,
    STTMuteFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.service_switcher import ServiceSwitcher, ServiceSwitcherStrategyManual
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.stt_service import STTService
from pipecat.utils.errors import ErrorCategory

from stt_guard.call import Call
from stt_guard.pipecat.member import Member
from stt_guard.pipecat.tail import Tail
from stt_guard.pipecat.words import MAY_HEAL, seen_in
from stt_guard.stall import StallWatch
from stt_guard.words import INIT_FAILURE, MID_CALL_FAILURE, STALL, Kind, Seen

log = logging.getLogger(__name__)

Factory = Callable[[dict[str, Any]], STTService]
SETTLE_S = 0.05  # a drop follows its error frame by some milliseconds


@dataclass(frozen=True, slots=True)
class Budgets:
    """How long to wait, in seconds: for a connection, a drop to heal, a demoted one to close."""

    connect_s: float = 3.0
    grace_s: float = 1.0
    disconnect_s: float = 2.0


class ByDecision(ServiceSwitcherStrategyManual):
    """Leaves the choice to FailoverSTT, which answers for its services' errors."""

    async def handle_error(self, error: ErrorFrame) -> FrameProcessor | None:
        """Answer for an error, unless it is the application's."""
        return None if error.category is ErrorCategory.APPLICATION else self.active_service

    async def activate(self, service: FrameProcessor) -> None:
        """Send everything to this service from now."""
        await self._set_active_if_available(service)


class FailoverSTT(ServiceSwitcher[ByDecision]):
    """Put it where your STT service sat. `factories` build a service from the decision's settings.

    A factory that raises, or one that is missing, is that provider's failure to start, and the
    next one is used. Raises RuntimeError when none can be built.
    """

    def __init__(
        self,
        call: Call,
        factories: Mapping[str, Factory],
        *,
        budgets: Budgets | None = None,
        stall: StallWatch | None = None,
    ) -> None:
        self.call = call
        self._budgets = budgets or Budgets()
        self._members: dict[str, Member] = {}
        for provider in call.order:
            self._build(provider, factories.get(provider))
        if not self._members:
            raise RuntimeError(f"none of {', '.join(call.order)} could be built; see the log")
        members = list(self._members.values())
        super().__init__([one.service for one in members], ByDecision)
        self._by_service = {one.service: one for one in members}
        self._active = members[0]
        self._active.is_wanted = True
        call.use(self._active.provider)
        self._stall, self._tail = stall or StallWatch(), Tail()
        self._has_started = asyncio.Event()
        self._is_closing = False
        self._swallowed: set[int] = set()  # frames that must not leave this switcher
        self._work: set[asyncio.Task[Any]] = set()
        self._graces: dict[str, asyncio.Task[Any]] = {}
        self._swapping: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def _build(self, provider: str, factory: Factory | None) -> None:
        if factory is None:
            log.error("no factory for %s, which the guard says this agent can use", provider)
            return
        try:
            service = factory(dict(self.call.settings_of(provider)))
        except Exception as error:  # a wrong setting must not cost the call its other providers
            log.exception("%s cannot be built; the next provider is used", provider)
            name = type(error).__name__
            self.call.failed(provider, INIT_FAILURE, reason="bad_request", message=name)
            return
        self._members[provider] = Member(
            provider,
            service,
            connect_s=self._budgets.connect_s,
            disconnect_s=self._budgets.disconnect_s,
            refused=self._on_refused,
        )
        service.add_event_handler("on_error", self._on_error)
        service.add_event_handler("on_disconnected", self._on_disconnected)
        service.add_event_handler("on_before_push_frame", self._on_push)

    @property
    def provider(self) -> str:
        """Who listens now."""
        return self._active.provider

    # --- what passes

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Look at what passes, then let it pass."""
        self._look_at(frame)
        await super().process_frame(frame, direction)

    async def push_frame(
        self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM
    ) -> None:
        """Let out what is not to stay inside: what was replayed, and who is no more listened to."""
        if frame.id in self._swallowed:
            self._swallowed.discard(frame.id)
            return
        await super().push_frame(frame, direction)
        if isinstance(frame, StartFrame):
            self._has_started.set()

    async def cleanup(self) -> None:
        """End the call, however the pipeline ended."""
        self._close()
        for task in [*self._work]:
            await self.cancel_task(task)
        await super().cleanup()

    def _look_at(self, frame: Frame) -> None:
        if isinstance(frame, InputAudioRawFrame):
            if not self._stall.is_muted:
                self._tail.add(frame)
        elif isinstance(frame, VADUserStartedSpeakingFrame):
            self._tail.add(frame)
            self._stall.started(self._now() - frame.start_secs)
        elif isinstance(frame, VADUserStoppedSpeakingFrame):
            self._tail.add(frame)
            self._on_silence(frame)
        elif isinstance(frame, STTMuteFrame):
            self._stall.mute(frame.mute)
        elif isinstance(frame, EndFrame | CancelFrame):
            self._close()

    def _on_push(self, service: FrameProcessor, frame: Frame) -> None:
        """Hear what a service says; a demoted one's words are not said to anybody."""
        if not isinstance(frame, TranscriptionFrame | InterimTranscriptionFrame):
            return
        member = self._by_service[service]
        if member is not self._active and not member.is_joining:
            self._swallowed.add(frame.id)
            return
        is_final = isinstance(frame, TranscriptionFrame)
        if self._stall.text(frame.text, is_final=is_final) and is_final:
            self._on_final(member)

    def _on_final(self, member: Member) -> None:
        latency_s = None if member.spoke_s is None else self._now() - member.spoke_s
        self.call.transcript(member.provider, latency_s=latency_s)
        if not member.is_joining:
            self._tail.answered(is_speaking=self._stall.is_speaking)

    # --- what goes wrong

    def _on_refused(self, member: Member) -> None:
        """A connection could not be had."""
        if member.error:
            self._fail(member, member.error)

    async def _on_error(self, service: FrameProcessor, frame: ErrorFrame) -> None:
        member = self._by_service[service]
        seen = seen_in(frame, member.provider)
        if seen is None or member.refuse(seen) or member is not self._active:
            return
        may_heal = (
            self._has_started.is_set()
            and member.shows_link
            and service.is_usable
            and frame.exception is None
            and seen.reason in MAY_HEAL
        )
        if may_heal:
            self._give_grace(member, seen, SETTLE_S)
        else:
            self._fail(member, seen)

    async def _on_disconnected(self, service: FrameProcessor) -> None:
        member = self._by_service[service]
        if member is self._active and member.drops:
            self._give_grace(member, Seen("connection"), 0.0)

    def _give_grace(self, member: Member, seen: Seen, settle_s: float) -> None:
        if self._is_closing or member.provider in self._graces:
            return
        task = self._spawn(self._see_whether_it_heals(member, seen, settle_s, member.drops))
        self._graces[member.provider] = task
        task.add_done_callback(lambda _: self._graces.pop(member.provider, None))

    async def _see_whether_it_heals(
        self, member: Member, seen: Seen, settle_s: float, drops_before: int
    ) -> None:
        await asyncio.sleep(settle_s)
        if settle_s and member.up.is_set() and member.drops == drops_before:
            return  # an error that cost it nothing
        try:
            await asyncio.wait_for(member.up.wait(), self._budgets.grace_s)
        except TimeoutError:
            self._fail(member, seen)
        else:
            if not self._is_closing:
                self.call.recovered(member.provider, reason=seen.reason, code=seen.code)

    def _on_silence(self, frame: VADUserStoppedSpeakingFrame) -> None:
        """The caller stopped speaking: from here an answer is due."""
        now_s = self._now()
        self._stall.stopped(now_s - frame.stop_secs)
        if self._active.spoke_s is None:
            self._active.spoke_s = now_s - frame.stop_secs
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
        due_s = self._stall.due_s()
        if due_s is not None and not self._is_closing:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(max(due_s, loop.time()), self._on_due)

    def _on_due(self) -> None:
        is_busy = self._swapping is not None or self._active.provider in self._graces
        if not is_busy and self._stall.is_stalled(self._now()):
            self._fail(self._active, Seen("stall"), STALL)

    def _fail(self, member: Member, seen: Seen, kind: Kind | None = None) -> None:
        """Report a failure, once, and do what follows from it."""
        if self._is_closing:
            return
        at_once = member.is_new(self._now())
        kind = kind or (INIT_FAILURE if at_once else MID_CALL_FAILURE)
        is_first = self.call.failed(
            member.provider,
            kind,
            reason=seen.reason,
            code=seen.code,
            retry_after_s=seen.retry_after_s,
        )
        if not is_first or member is not self._active:
            return
        log.warning("%s failed in call %s: %s %s", member.provider, self.call.id, kind, seen.reason)
        if grace := self._graces.pop(member.provider, None):
            grace.cancel()
        if self._swapping is None:
            ends = self.call.should_end(kind)
            self._swapping = self._spawn(self._end_call() if ends else self._swap())

    # --- what is done about it

    async def _swap(self) -> None:
        """Put the next provider that can be had in the place of the one that failed."""
        await self._has_started.wait()
        try:
            while member := self._next_member():
                if await self._take_over(member):
                    return
                self._spawn(member.let_go())
        except Exception:  # whatever it is, a call that nobody listens to must not go on
            log.exception("the swap in call %s failed", self.call.id)
        finally:
            self._swapping = None
        if not self._is_closing:
            await self._end_call()

    def _next_member(self) -> Member | None:
        for provider in self.call.remaining():
            if provider in self._members and not self._is_closing:
                return self._members[provider]
        return None

    async def _take_over(self, member: Member) -> bool:
        """Connect it, tell it what was said, and make it the active one; False if it failed too."""
        member.is_joining = True
        try:
            if not await member.join():
                return False
            if self._stall.is_waiting:
                member.spoke_s = self._now()
            await self._replay(member)
            if member.error or self._is_closing:
                self._on_refused(member)
                return False
            demoted, self._active = self._active, member
            self.call.use(member.provider)
            await self.strategy.activate(member.service)
        finally:
            member.is_joining = False
        self._stall.forget()
        self._spawn(demoted.let_go())
        if member.error:  # in the last moment
            self._on_refused(member)
            return False
        log.warning("%s listens from now in call %s", member.provider, self.call.id)
        return True

    async def _replay(self, member: Member) -> None:
        """Say again what has no transcript, until nothing newer is left.

        The ends of speech go with it: they make a provider finish the sentence.
        """
        if self._stall.is_muted:
            await member.service.process_frame(STTMuteFrame(mute=True), FrameDirection.DOWNSTREAM)
        number = -1
        while found := self._tail.after(number):
            number, frame = found
            if isinstance(frame, InputAudioRawFrame):
                await member.service.process_audio_frame(frame, FrameDirection.DOWNSTREAM)
            else:
                again = replace(frame)
                self._swallowed.add(again.id)
                await member.service.process_frame(again, FrameDirection.DOWNSTREAM)

    async def _end_call(self) -> None:
        """End the pipeline: nobody is left, or the route says so."""
        log.error("call %s ends: %s failed", self.call.id, self._active.provider)
        await self._has_started.wait()
        await self._active.let_go()
        await self.push_frame(EndWorkerFrame(reason="no speech provider"), FrameDirection.UPSTREAM)

    def _close(self) -> None:
        """Nothing that is seen from now on counts."""
        if self._is_closing:
            return
        self._is_closing = True
        if self._timer:
            self._timer.cancel()
        for task in [*self._graces.values()]:
            task.cancel()
        self.call.end()

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = self.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
