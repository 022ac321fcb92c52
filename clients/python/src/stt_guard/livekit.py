"""The adapter for LiveKit Agents: an ordered `FallbackAdapter` per call, as the guard decided.

LiveKit's own recovery is off, since finding out who is well is the control plane's work and would
bill the caller's audio twice; so are its retries, with which a provider that never answers the
handshake is tried for ever. Needs `livekit-agents`.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from livekit import rtc
from livekit.agents import AgentSession, APIConnectionError, APIConnectOptions
from livekit.agents.stt import STT, FallbackAdapter, SpeechEvent, SpeechEventType
from livekit.agents.stt.fallback_adapter import (
    DEFAULT_FALLBACK_API_CONNECT_OPTIONS,
    FallbackRecognizeStream,
)
from livekit.agents.types import NOT_GIVEN, NotGivenOr

from stt_guard.call import Call
from stt_guard.classify import classify
from stt_guard.words import INIT_FAILURE, MID_CALL_FAILURE, STALL, Kind, Seen

ATTEMPT_S: Final = 2.5
TAIL_S: Final = 8.0
STALL_SPEECH_S: Final = 1.2
_TEXTS: Final = frozenset({SpeechEventType.FINAL_TRANSCRIPT})

log = logging.getLogger(__name__)
Factory = Callable[[dict[str, Any]], STT]


def failover_stt(call: Call, factories: Mapping[str, Factory]) -> "FailoverAdapter":
    """Return the STT for this call. `factories` build a plugin from the decision's settings.

    A factory that raises or is missing is left out. Raises RuntimeError when none can be built.
    """
    children: dict[str, STT] = {}
    for provider in call.order:
        try:
            children[provider] = factories[provider](dict(call.settings_of(provider)))
        except Exception as error:  # a wrong setting must not cost the call its other providers
            log.exception("%s cannot be built; the next provider is used", provider)
            name = type(error).__name__
            call.failed(provider, INIT_FAILURE, reason="bad_request", message=name)
    if not children:
        raise RuntimeError(f"none of {', '.join(call.order)} could be built; see the log")
    return FailoverAdapter(call, children)


def watch(session: AgentSession[Any], call: Call, adapter: "FailoverAdapter") -> None:
    """Have the session's stalls and end reported. It needs `transcription_timeout` and a VAD."""

    def on_timeout(event: Any) -> None:
        if event.speech_duration >= STALL_SPEECH_S:
            adapter.stalled()

    def on_user(event: Any) -> None:
        if event.old_state == "speaking":
            adapter.silence()

    def on_close(_: Any) -> None:
        call.end()

    session.on("user_transcription_timeout", on_timeout)
    session.on("user_state_changed", on_user)
    session.on("close", on_close)

    def on_end() -> None:
        session.shutdown(drain=False)

    adapter.on_end = on_end


class FailoverAdapter(FallbackAdapter):
    """LiveKit's adapter, told by each child's stream what becomes of it."""

    def __init__(self, call: Call, children: Mapping[str, STT]) -> None:
        super().__init__(list(children.values()), attempt_timeout=ATTEMPT_S, max_retry_per_stt=0)
        self.call = call
        self.on_end: Callable[[], None] | None = None  # what ends the call where the route says so
        self._provider_of = {id(child): provider for provider, child in children.items()}
        self._watched: Watched | None = None
        self._heard: set[str] = set()
        self._seen: dict[str, Seen] = {}
        self._is_ended = False
        self._tail: deque[rtc.AudioFrame] = deque()
        self._tail_s = 0.0
        self._silent_s: float | None = None
        call.use(next(iter(children)))
        for child in children.values():
            self._watch_streams_of(child)

    @property
    def provider_now(self) -> str:
        """Who listens now."""
        return self.call.provider

    def stalled(self) -> None:
        """Say that the caller speaks and nobody transcribes: the active provider is left."""
        if self._watched is not None and not self.call.is_over:
            self._fail(self._watched.provider, STALL, Seen("stall"))
            self._watched.leave()

    def silence(self) -> None:
        """Say that the caller stopped speaking: the latency is counted from here."""
        if self._silent_s is None:
            self._silent_s = asyncio.get_running_loop().time()

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_FALLBACK_API_CONNECT_OPTIONS,
    ) -> "FailoverStream":
        """Return a stream over the call's order."""
        return FailoverStream(stt=self, language=language, conn_options=conn_options)

    # --- for its children's streams

    def _watch_streams_of(self, child: STT) -> None:
        real = child.stream
        provider = self._provider_of[id(child)]

        def stream(**options: Any) -> Watched:
            if self._is_ended or self.call.has_failed(provider):
                raise APIConnectionError(f"{provider} is not used again in this call")
            watched = Watched(real(**options), provider, self)
            self._watched = watched
            self.call.use(provider)
            for frame in self._tail:  # what was said since the last transcript
                watched.inner.push_frame(frame)
            return watched

        def on_error(event: Any) -> None:
            # Read here and not where it is raised again: on its way it loses what caused it.
            self._seen[provider] = classify(event.error, provider)

        child.on("error", on_error)
        child.stream = stream

    def keep(self, frame: rtc.AudioFrame) -> None:
        """Keep the last audio, to say it again to the next provider."""
        self._tail.append(frame)
        self._tail_s += frame.duration
        while self._tail_s > TAIL_S:
            self._tail_s -= self._tail.popleft().duration

    def heard(self, provider: str, event: SpeechEvent) -> None:
        """Take an event of the active provider."""
        if event.type not in _TEXTS or not event.alternatives or not event.alternatives[0].text:
            return
        self._heard.add(provider)
        self._tail.clear()
        self._tail_s = 0.0
        now_s = asyncio.get_running_loop().time()
        latency_s = None if self._silent_s is None else now_s - self._silent_s
        self.call.transcript(provider, latency_s=latency_s)

    def broke(self, provider: str, error: Exception) -> None:
        """Take a failure of the active provider."""
        if not self.call.has_failed(provider):
            kind: Kind = MID_CALL_FAILURE if provider in self._heard else INIT_FAILURE
            self._fail(provider, kind, self._seen.get(provider) or classify(error, provider))

    def _fail(self, provider: str, kind: Kind, seen: Seen) -> None:
        self.call.failed(
            provider, kind, reason=seen.reason, code=seen.code, retry_after_s=seen.retry_after_s
        )
        log.warning("%s failed in call %s: %s %s", provider, self.call.id, kind, seen.reason)
        if self.call.should_end(kind) or not self._remaining():
            self._is_ended = True
            if self.on_end:
                self.on_end()

    def _remaining(self) -> list[str]:
        built = set(self._provider_of.values())
        return [one for one in built if not self.call.has_failed(one)]


class FailoverStream(FallbackRecognizeStream):
    """LiveKit's stream without the shadow stream that bills a failed provider."""

    def _try_recovery(self, stt: STT) -> None:
        """Do nothing: the control plane finds out who is well."""


class Watched:
    """A child's stream, with its provider's name on all that it says; it can be made to fail."""

    def __init__(self, inner: Any, provider: str, adapter: FailoverAdapter) -> None:
        self.inner, self.provider, self._adapter = inner, provider, adapter
        self._left: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's own."""
        return getattr(self.inner, name)

    @property
    def start_time_offset(self) -> float:
        """As the stream's."""
        return float(self.inner.start_time_offset)

    @start_time_offset.setter
    def start_time_offset(self, value: float) -> None:
        self.inner.start_time_offset = value

    def push_frame(self, frame: rtc.AudioFrame) -> None:
        """Keep it for the next provider, and pass it on."""
        self._adapter.keep(frame)
        self.inner.push_frame(frame)

    def leave(self) -> None:
        """Make whoever reads this stream go to the next provider."""
        if not self._left.done():
            self._left.set_result(None)

    async def __aenter__(self) -> "Watched":
        """Return itself."""
        await self.inner.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        """Close the stream; a peer that does not answer is not waited for long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.inner.aclose(), 2.0)

    def __aiter__(self) -> "Watched":
        return self

    async def __anext__(self) -> SpeechEvent:
        """Return the next event; raise what the stream raises, or that it was left."""
        following = asyncio.ensure_future(self.inner.__anext__())
        try:
            await asyncio.wait({following, self._left}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                raise APIConnectionError(f"{self.provider} was left")
            event: SpeechEvent = following.result()
        except Exception as error:
            if not isinstance(error, StopAsyncIteration) and not self._left.done():
                self._adapter.broke(self.provider, error)
            raise
        finally:
            following.cancel()
        self._adapter.heard(self.provider, event)
        return event
