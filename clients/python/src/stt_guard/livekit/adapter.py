"""`FailoverAdapter`: a LiveKit STT that outlives its provider.

The order, the swap and the doubt are those of `failover`. LiveKit's own recovery is not used:
finding out who is well is the control plane's work, and would bill the caller's audio twice.
"""

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, cast

from livekit import rtc
from livekit.agents import APIConnectionError, APIConnectOptions
from livekit.agents.stt import STT, FallbackAdapter, RecognizeStream, SpeechEvent, SpeechEventType
from livekit.agents.stt.fallback_adapter import DEFAULT_FALLBACK_API_CONNECT_OPTIONS
from livekit.agents.types import NOT_GIVEN, NotGivenOr
from livekit.agents.vad import VAD

from stt_guard.building import build_all
from stt_guard.call import Call
from stt_guard.failover import Failover, Limits
from stt_guard.livekit.child import FLUSH, Child
from stt_guard.livekit.making import make
from stt_guard.words import LASTING, Seen

FINAL: Final = SpeechEventType.FINAL_TRANSCRIPT
TEXTS: Final = frozenset({FINAL, SpeechEventType.INTERIM_TRANSCRIPT})


def failover_stt(
    call: Call,
    factories: Mapping[str, Any],
    *,
    limits: Limits | None = None,
    vad: VAD | None = None,
) -> "FailoverAdapter":
    """Return the STT for this call.

    A factory is a plugin's class, whose key comes from its usual variable, or a callable that gets
    the decision's settings, and the language if it has a parameter of that name. `vad` is for
    plugins that do not stream. Operators' settings that cannot be used are left out, and reported.
    A factory that raises all the same, or is missing, is that provider's failure to start. Raises
    RuntimeError when none can be built.
    """
    return FailoverAdapter(call, build_all(call, factories, make), limits=limits, vad=vad)


class FailoverAdapter(FallbackAdapter):
    """LiveKit's adapter with our rules.

    Events: `on_decision` (the call), `on_swap` (a `Swap`), `on_last` (the call: nobody listens
    just now, and all are tried again), `on_end` (the call, which is to be ended).
    """

    def __init__(
        self,
        call: Call,
        children: Mapping[str, STT],
        *,
        limits: Limits | None = None,
        vad: VAD | None = None,
    ) -> None:
        super().__init__(list(children.values()), vad=vad, max_retry_per_stt=0)
        self.call, self.limits = call, limits or Limits()
        self._plugins = dict(zip(children, self._stt_instances, strict=True))
        self._rules: Failover | None = None
        self._stream: FailoverStream | None = None
        self._work: set[asyncio.Task[Any]] = set()
        self._has_ended = asyncio.Event()
        call.use(next(iter(children)))

    @property
    def provider_now(self) -> str:
        """Who listens now."""
        return self.call.provider

    @property
    def rules(self) -> Failover:
        """The rules of this call, from its first stream on."""
        if self._rules is None:
            children = [
                Child(
                    provider,
                    stt,
                    self.limits,
                    open_stream=self._open,
                    on_event=self._said,
                    on_broken=self._broke,
                )
                for provider, stt in self._plugins.items()
            ]
            self._rules = Failover(self.call, children, self, self.limits)
            self.tell("on_decision", self.call)
        return self._rules

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_FALLBACK_API_CONNECT_OPTIONS,
    ) -> "FailoverStream":
        """Return a stream over the call's order. One at a time: a later one goes on from there."""
        return FailoverStream(self, language, replace(conn_options, max_retry=0))

    async def aclose(self) -> None:
        """End what is under way."""
        if self._rules:
            self._rules.close()
        for task in [*self._work]:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        await super().aclose()

    # --- for its streams

    async def serve(self, stream: "FailoverStream") -> None:
        """Listen with this stream until its input ends. Raises APIConnectionError at the end."""
        self._stream = stream
        self.rules.open()
        taking = asyncio.ensure_future(self._take_all(stream))
        ended = asyncio.ensure_future(self._has_ended.wait())
        try:
            await asyncio.wait({taking, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not taking.done():
                raise APIConnectionError("no speech provider, or the route ends the call")
            taking.result()
        finally:
            taking.cancel()
            ended.cancel()
            if self._stream is stream:
                self._stream = None
                await self.rules.leave()

    async def _take_all(self, stream: "FailoverStream") -> None:
        rules = self.rules
        async for item in stream.items():
            piece = item if isinstance(item, rtc.AudioFrame) else FLUSH
            if piece is FLUSH:
                rules.hears(FLUSH, 0.0)
            else:
                rules.hears(piece, item.duration)
            self._pass_on(piece)
        active = cast(Child, rules.active)
        active.push(None)
        await active.finished()

    def _pass_on(self, piece: Any) -> None:
        active = cast(Child, self.rules.active)
        if not self.rules.is_held and active.lost_silently():
            self.rules.dropped(active, Seen("connection"))
        if not self.rules.is_held:
            active.push(piece)

    def _open(self, stt: STT, options: APIConnectOptions) -> Any:
        assert self._stream, "a leg is opened for a stream"
        stream = stt.stream(language=self._stream.language, conn_options=options)
        stream.start_time_offset = self._stream.offset_s
        return stream

    def _said(self, child: Child, event: SpeechEvent) -> None:
        passes = child is self.rules.active
        if event.type in TEXTS and event.alternatives:
            text = event.alternatives[0].text
            is_final = event.type is FINAL
            passes = self.rules.wrote(child, text, is_final=is_final, item=event)
        if passes and self._stream:
            self._active_instance = child.stt
            self._stream.send(event)

    def _broke(self, child: Child, seen: Seen) -> None:
        if seen.reason in LASTING:
            self.rules.failed(child, seen)
        else:
            self.rules.dropped(child, seen)

    # --- for the rules

    async def ready(self) -> None:
        """Everything is: the rules begin with a stream."""

    async def activate(self, leg: Any) -> None:
        """Send everything to this plugin from now."""
        self._active_instance = leg.stt

    def replayed(self, finals: Sequence[Any]) -> None:
        """Let out what it found in what was said again; a session takes pieces as one turn."""
        for event in finals:
            if self._stream:
                self._stream.send(event)

    async def end(self) -> None:
        """End the call: nobody is left, or the route says so."""
        self.tell("on_end", self.call)
        self._has_ended.set()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run this within the call."""
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    def tell(self, event: str, value: Any) -> None:
        """Tell the bot."""
        self.emit(cast(Any, event), value)


class FailoverStream(RecognizeStream):
    """What a session reads: the texts of whoever listens."""

    def __init__(
        self,
        adapter: FailoverAdapter,
        language: NotGivenOr[str],
        conn_options: APIConnectOptions,
    ) -> None:
        super().__init__(stt=adapter, conn_options=conn_options)
        self._adapter, self.language = adapter, language

    @property
    def offset_s(self) -> float:
        """How far into the session a stream that begins now begins."""
        return float(self.start_time_offset + (time.time() - self._start_time))

    def items(self) -> Any:
        """What the session pushes: audio, and ends of segments."""
        return self._input_ch

    def send(self, event: SpeechEvent) -> None:
        """Say this to the session."""
        if not self._event_ch.closed:
            self._event_ch.send_nowait(event)

    async def _run(self) -> None:
        await self._adapter.serve(self)
