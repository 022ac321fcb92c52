"""The client of a process: one `SttGuard` for all its calls, in whatever event loops they run."""

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from stt_guard import environment
from stt_guard.ask import Asker, Question, clean_call_id, names
from stt_guard.call import Call
from stt_guard.environment import FeedMode
from stt_guard.feed import Feed
from stt_guard.headers import headers, trace_headers
from stt_guard.link import Link
from stt_guard.links import FRESH_S, Links
from stt_guard.memory import Memory
from stt_guard.outcomes import Outbox
from stt_guard.said import Said
from stt_guard.state import Picture
from stt_guard.unknown import Unknown
from stt_guard.words import Decision, Settings, Source, Step

if TYPE_CHECKING:
    from stt_guard.local import LocalGuard

DECISION_S: Final = 0.3
LAST_KNOWN_S: Final = 15 * 60.0

log = logging.getLogger(__name__)


class SttGuard:
    """Decides for each call whom to use, and reports what was seen. Make one per process.

    It may be used from any event loop, and from several at once: each has its own connections.
    `feed="poll"` does without a WebSocket, `feed="off"` asks for each call: for fleets that run
    each call in a process of its own, which should name a `state_file` that their processes share.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        route: str | None = None,
        can_use: Sequence[str] | None = None,
        host: str | None = None,
        feed: FeedMode | None = None,
        state_file: str | Path | None = None,
        decision_timeout_s: float = DECISION_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open nothing yet. `can_use`: whom this agent has code and credentials for, best first.

        What is left out is read from STT_GUARD_URL, STT_GUARD_KEY, STT_GUARD_ROUTE,
        STT_GUARD_FEED and STT_GUARD_STATE_FILE; `can_use` may be given to each `call` instead.
        Raises ValueError for what is missing or cannot be right: at start-up, not in a call.
        """
        told = environment.read(
            url=url, key=key, route=route, can_use=can_use, feed=feed, state_file=state_file
        )
        self.route, self.can_use = told.route, told.can_use
        self.host = (host or socket.gethostname())[:128]
        self._clock = clock
        sent, said = headers(told.key), Said(clock=clock)
        self._asker = Asker(told.url, sent, decision_timeout_s, said)
        self._memory = Memory(told.state_file)
        self._links = Links(told.url, sent, told.feed, self._memory, said, clock)
        self._unknown = Unknown(clock)

    @staticmethod
    def local(
        order: Sequence[str], *, settings: Mapping[str, Settings] | None = None, **options: Any
    ) -> "LocalGuard":
        """Return a guard without a server: every call is decided by this order.

        For work offline, and for tests: `guard.reported` holds what was said of the calls. The
        options are those of `stt_guard.local.LocalGuard`.
        """
        from stt_guard.local import LocalGuard  # here, for it is built on this module

        return LocalGuard(order, settings=settings, **options)

    # --- its life

    async def start(self, wait_s: float = 0.0) -> Self:
        """Start listening and sending; `call` does it by itself. Waits up to `wait_s` for a state.

        A process that takes calls for long gains from `await guard.start(1)` before the first.
        """
        link = self._links.here()
        if wait_s > 0 and self._links.plan.feed != "off" and self._links.sight()[1] >= FRESH_S:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(link.feed.first.wait(), wait_s)
        return self

    async def aclose(self, timeout_s: float = 1.0) -> None:
        """Send what is queued within `timeout_s`, and close what belongs to the running loop.

        While a call that was begun in this loop still goes on, only what is queued is sent: one
        job's end must not be another's. A later `call` starts again.
        """
        await self._close(timeout_s, is_forced=False)

    async def __aenter__(self) -> Self:
        """Start."""
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close what belongs to the running loop, whatever still goes on."""
        await self._close(1.0, is_forced=True)

    async def _close(self, timeout_s: float, *, is_forced: bool) -> None:
        link = self._links.alive.get(asyncio.get_running_loop())
        if link is None:
            return
        await link.outbox.flush(timeout_s)
        if link.is_busy and not is_forced:
            return
        await link.close()
        if self._links.unsent:
            log.warning("%d outcomes could not be sent before the end", self._links.unsent)

    def stats(self) -> dict[str, Any]:
        """What became of this process's outcomes, how fresh its state is, and unknown names.

        `unsent` are those that the last loop left when it was closed; they go out if another call
        begins. `unknown` is `{"routes": […], "providers": […]}`.
        """
        picture, age_s = self._links.sight()
        unknown = self._unknown.report(picture if age_s < FRESH_S else None)
        return {**self._links.totals(), "state_age_s": age_s, "unknown": unknown}

    @property
    def picture(self) -> Picture:
        """The server's state as this process heard it last, in whatever loop. Read it only."""
        return self._links.sight()[0]

    @property
    def feed(self) -> Feed:
        """The running loop's feed."""
        return self._links.here().feed

    @property
    def outbox(self) -> Outbox:
        """The running loop's queue of outcomes."""
        return self._links.here().outbox

    # --- decisions

    async def call(
        self,
        call_id: str,
        *,
        language: str = "",
        route: str | None = None,
        can_use: Sequence[str] | None = None,
        probe: bool = True,
        traceparent: str | None = None,
    ) -> Call:
        """Return whom this call should use, in 300 ms at most.

        `language` as BCP 47, empty when it is not known. `probe=False` keeps the call from being a
        probe. `traceparent` (W3C) goes to the server if it is asked; OpenTelemetry's current span
        is taken where none is given. Fresh pushed state answers with no request.

        Without a `can_use`, here or in the guard, all that the route is known to have may be used.
        Only then can it raise: ValueError when nothing at all is known.
        """
        question = Question(
            clean_call_id(call_id),
            route or self.route,
            names(can_use) or self.can_use,
            language or "",
            probe,
            self.host,
        )
        try:
            link = self._links.here()
            link.deciding += 1  # or a job that ends now would close it
            try:
                decision = await self._decide(link, question, traceparent)
            finally:
                link.deciding -= 1
        except Exception:  # a fault of ours must cost no call its provider
            log.exception("the decision failed; the local chain is used")
            decision = None
        return self._begin(question, decision or self._local_chain(question))

    def _begin(self, question: Question, decision: Decision) -> Call:
        link = self._links.here()
        call = Call(
            question.call_id, question.route, self.host, decision, link.put, question.language
        )
        link.calls[question.call_id] = call
        return call

    async def _decide(
        self, link: Link, question: Question, traceparent: str | None
    ) -> Decision | None:
        pushed: Decision | None = None
        picture, age_s = self._links.sight(link)
        if age_s < FRESH_S:
            pushed, is_probe_due = self._from_picture(picture, question, "pushed")
            is_new = self._unknown.is_worth_asking(question.route, question.can_use, picture)
            if pushed and not (is_probe_due and question.probe) and not is_new:
                return pushed
        remote = await self._ask(link, question, traceparent)
        return remote or pushed or self._last_known(question)

    def _from_picture(
        self, picture: Picture, question: Question, source: Source
    ) -> tuple[Decision | None, bool]:
        known = picture.routes.get(question.route)
        if known is None:
            return None, False
        return picture.decide(
            known,
            can_use=question.can_use or [place.step.provider for place in known.places],
            language=question.language,
            now_s=self._clock(),
            source=source,
        )

    async def _ask(
        self, link: Link, question: Question, traceparent: str | None
    ) -> Decision | None:
        answer = await self._asker.ask(link.http(), question, trace_headers(traceparent))
        if answer is None:
            return None
        picture, age_s = self._links.sight(link)
        fresh = picture if age_s < FRESH_S else None
        self._unknown.answered(question.route, question.can_use, answer, fresh)
        return answer.decision

    def _last_known(self, question: Question) -> Decision | None:
        """Decide from what was told within LAST_KNOWN_S, to this process or to its siblings."""
        picture, age_s = self._links.sight()
        if age_s <= LAST_KNOWN_S and picture.is_known:
            return self._from_picture(picture, question, "last_known")[0]
        kept = self._memory.load(LAST_KNOWN_S, self._clock())
        return self._from_picture(kept, question, "last_known")[0] if kept else None

    def _local_chain(self, question: Question) -> Decision:
        """Decide by what this agent can use, or else by whom the route was ever known to have."""
        steps = tuple(Step(name) for name in question.can_use)
        if not steps:
            kept = self._links.sight()[0].routes.get(question.route)
            if kept is None:
                raise ValueError(f"nobody is known on route {question.route!r}: give can_use")
            steps = tuple(place.step for place in kept.places)
        return Decision(steps, "primary", "local_chain")


def default_guard() -> SttGuard:
    """Return the process's own guard, made from the environment when it is first asked for.

    Raises ValueError that says which variable is missing.
    """
    global _default
    with _default_lock:
        if _default is None:
            _default = SttGuard()
        return _default


_default: SttGuard | None = None
_default_lock = threading.Lock()
