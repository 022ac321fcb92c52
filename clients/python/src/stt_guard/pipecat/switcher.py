"""`FailoverSTT`: a Pipecat STT that outlives its provider.

Builds every provider of the call's order, connects the first, and tells the rules of `failover`
what it sees of them; they say who listens. Everything seen is reported on the call.
"""

import asyncio
import logging
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Final, cast

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
from pipecat.pipeline.pipeline import Pipeline, PipelineSink, PipelineSource
from pipecat.pipeline.service_switcher import ServiceSwitcher, ServiceSwitcherStrategyManual
from pipecat.processors.frame_processor import (
    FrameDirection,
    FrameProcessor,
    FrameProcessorSetup,
)

from stt_guard.building import build_all
from stt_guard.call import Call
from stt_guard.failover import Failover, Limits
from stt_guard.guard import SttGuard, default_guard
from stt_guard.pipecat.gathering import Gathering
from stt_guard.pipecat.making import make
from stt_guard.pipecat.member import Member
from stt_guard.pipecat.words import MAY_HEAL, seen_in
from stt_guard.words import LASTING, Seen

EVENTS: Final = ("on_decision", "on_swap", "on_last")
log = logging.getLogger(__name__)


class ByDecision(ServiceSwitcherStrategyManual):
    """Leaves the choice to FailoverSTT, which answers for its services' errors."""

    async def handle_error(self, error: ErrorFrame) -> FrameProcessor | None:
        """Answer for an error, unless it is the application's."""
        return None if seen_in(error, "") is None else self.active_service

    async def activate(self, service: FrameProcessor) -> None:
        """Send everything to this service from now."""
        await self._set_active_if_available(service)


class Undecided(FrameProcessor):
    """Stands where the services will be until the call is decided, as the pipeline is set up."""


class FailoverSTT(ServiceSwitcher[ByDecision]):
    """Put it where your STT service sat.

        FailoverSTT({"soniox": SonioxSTTService, "deepgram": DeepgramSTTService})

    decides by itself as the pipeline starts, by `guard` (left out: the process's own, from the
    environment), under `call_id` (left out: a new one) and `language` (BCP 47). A factory is a
    service's class, whose key comes from its usual variable (`SONIOX_API_KEY`), or a callable that
    gets the decision's settings, and the language if it has a parameter of that name.
    `FailoverSTT(call, factories)` takes a call that was decided before.

    Operators' settings that cannot be used are left out, and reported. A factory that raises all
    the same, or is missing, is that provider's failure to start. Raises RuntimeError when none can
    be built: here, or in `setup` where it decides by itself.

    Event handlers: `on_decision` (the call), `on_swap` (a `Swap`), `on_last` (the call: nobody
    listens just now, and all are tried again).
    """

    def __init__(
        self,
        call: Call | Mapping[str, Any],
        factories: Mapping[str, Any] | None = None,
        *,
        guard: SttGuard | None = None,
        call_id: str = "",
        language: str = "",
        limits: Limits | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self._guard, self._call_id, self._language = guard, call_id, language
        self._swallowed: set[int] = set()  # frames that must not leave this switcher
        self._work: set[asyncio.Task[Any]] = set()
        self._has_started = asyncio.Event()
        self._rules: Failover | None = None
        self._members: list[Member] = []
        self._gathering = Gathering(self._let_out)
        if isinstance(call, Call):
            self.call: Call | None = call
            self._factories = dict(factories or {})
            self._build(call)
            super().__init__([one.service for one in self._members], ByDecision)
        else:
            self.call, self._factories = None, dict(call)
            super().__init__([Undecided()], ByDecision)
        for event in EVENTS:
            self._register_event_handler(event)

    @property
    def provider(self) -> str:
        """Who listens now; empty before the call is decided."""
        return self.call.provider if self.call else ""

    # --- its life

    async def setup(self, setup: FrameProcessorSetup) -> None:
        """Decide, where that is not done yet, and set up the services."""
        if self.call is None:
            guard = self._guard or default_guard()
            call_id = self._call_id or uuid.uuid4().hex
            self.call = await guard.call(
                call_id, language=self._language, can_use=list(self._factories)
            )
            self._build(self.call)
            self._install([one.service for one in self._members])
        self._rules = Failover(self.call, self._members, self, self.limits)
        self._members[0].is_wanted = True
        await self._call_event_handler("on_decision", self.call)
        await super().setup(setup)

    async def cleanup(self) -> None:
        """End the call, however the pipeline ended."""
        self._close()
        for task in [*self._work]:
            await self.cancel_task(task)
        await super().cleanup()

    def _build(self, call: Call) -> None:
        services = build_all(call, self._factories, make)
        call.use(next(iter(services)))
        self._members = [
            Member(
                provider,
                service,
                self.limits,
                refused=lambda member, seen: self._of_call.failed(member, seen),
                swallow=lambda frame: self._swallowed.add(frame.id),
            )
            for provider, service in services.items()
        ]
        self._by_service = {one.service: one for one in self._members}
        for service in services.values():
            service.add_event_handler("on_error", self._on_error)
            service.add_event_handler("on_disconnected", self._on_disconnected)
            service.add_event_handler("on_before_push_frame", self._on_push)

    def _install(self, services: list[FrameProcessor]) -> None:
        """Make the branches, as the constructors of the base classes do with services at hand."""
        self._services = services
        self._strategy = ByDecision(services)
        self._pipelines = [
            Pipeline(
                self._make_pipeline_definition(service, self._strategy),
                source=PipelineSource(self._parallel_push_frame, name=f"{self}::Source{number}"),
                sink=PipelineSink(self._pipeline_sink_push_frame, name=f"{self}::Sink{number}"),
            )
            for number, service in enumerate(services)
        ]
        if announce := getattr(self, "_on_service_usable_changed", None):  # from Pipecat 1.8
            for service in services:
                service.add_event_handler("on_usable_changed", announce)

    @property
    def _of_call(self) -> Failover:
        assert self._rules, "the services are set up after the call is decided"
        return self._rules

    # --- what passes

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Look at what passes, then let it pass.

        Audio that nobody can take now passes by the services: what comes after them, such as the
        VAD of an aggregator, needs it all the same.
        """
        if self._rules:
            self._look_at(frame)
        if isinstance(frame, InputAudioRawFrame) and self._rules and self._rules.is_held:
            await self.push_frame(frame, direction)
        else:
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

    def _look_at(self, frame: Frame) -> None:
        rules = self._of_call
        if isinstance(frame, InputAudioRawFrame):
            rules.hears(frame, frame.num_frames / frame.sample_rate if frame.sample_rate else 0.0)
            active = cast(Member, rules.active)
            if not rules.is_held and active.lost_silently():
                rules.dropped(active, Seen("connection"))
        elif isinstance(frame, VADUserStartedSpeakingFrame):
            rules.speech_began(self._now() - frame.start_secs, frame)
        elif isinstance(frame, VADUserStoppedSpeakingFrame):
            rules.speech_ended(self._now() - frame.stop_secs, frame)
        elif isinstance(frame, STTMuteFrame):
            rules.muted(frame.mute)
        elif isinstance(frame, EndFrame | CancelFrame):
            self._close()

    def _on_push(self, service: FrameProcessor, frame: Frame) -> None:
        """Hear what a service says; only the active one's words are said to anybody."""
        if not isinstance(frame, TranscriptionFrame | InterimTranscriptionFrame):
            return
        is_final = isinstance(frame, TranscriptionFrame)
        member = self._by_service[service]
        passes = self._of_call.wrote(member, frame.text, is_final=is_final, item=frame)
        if passes and self._gathering.is_on:  # interim text would begin a turn before its time
            passes = False
            if isinstance(frame, TranscriptionFrame):
                self._gathering.add(frame)
        if not passes:
            self._swallowed.add(frame.id)

    def _let_out(self, frame: TranscriptionFrame) -> None:
        self.spawn(self.push_frame(frame))

    # --- what goes wrong

    async def _on_error(self, service: FrameProcessor, frame: ErrorFrame) -> None:
        member = self._by_service[service]
        seen = seen_in(frame, member.provider)
        if seen is None or member.took(seen):
            return
        if not self._may_heal(member, frame, seen):
            self._of_call.failed(member, seen)
            return
        member.error = seen
        if not member.is_usable:
            member.gave_up()
            self._of_call.dropped(member, seen, has_given_up=True)
        elif not member.shows_link:
            self._of_call.dropped(member, seen)

    def _may_heal(self, member: Member, frame: ErrorFrame, seen: Seen) -> bool:
        """Whether the provider may be back in a moment: not where a reconnect was refused."""
        if not self._has_started.is_set():
            return False
        if not member.has_link:  # one request of many: it is asked again with what was said
            return seen.reason not in LASTING
        is_lasting = seen.reason in LASTING and not member.is_usable
        return frame.exception is None and seen.reason in MAY_HEAL and not is_lasting

    def _on_disconnected(self, service: FrameProcessor, *_: object) -> None:
        member = self._by_service[service]
        if not member.shows_link or member.is_leaving:
            return
        said, member.error = member.error, None
        is_routine = said is not None and said.reason == "server_error"  # it asked for it
        self._of_call.dropped(member, said or Seen("connection"), is_routine=is_routine)

    def _close(self) -> None:
        """Nothing that is seen from now on counts."""
        self._gathering.finish()
        if self._rules:
            self._rules.close()
        elif self.call:
            self.call.end()

    # --- for the rules

    async def ready(self) -> None:
        """Wait until the pipeline has started."""
        await self._has_started.wait()

    async def activate(self, leg: Any) -> None:
        """Send everything to this provider's service from now."""
        if self._rules and self._rules.is_muted:
            mute = STTMuteFrame(mute=True)
            await leg.service.process_frame(mute, FrameDirection.DOWNSTREAM)
        await self.strategy.activate(leg.service)

    def replayed(self, finals: Sequence[Any]) -> None:
        """Have the answers to what was said again as one, unless the caller speaks on."""
        self._gathering.begin(finals)
        if self._of_call.is_speaking:
            self._gathering.finish()

    async def end(self) -> None:
        """End the pipeline: nobody is left, or the route says so."""
        await cast(Member, self._of_call.active).let_go()
        await self.push_frame(EndWorkerFrame(reason="no speech provider"), FrameDirection.UPSTREAM)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run this within the call."""
        task: asyncio.Task[Any] = self.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    def tell(self, event: str, value: Any) -> None:
        """Tell the bot."""
        self.spawn(self._call_event_handler(event, value))

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
