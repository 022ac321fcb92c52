"""The client of a process: one `SttGuard` for all its calls."""

import asyncio
import contextlib
import logging
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, cast, get_args
from weakref import WeakValueDictionary

import aiohttp

from stt_guard.call import Call
from stt_guard.feed import Feed, FeedMode
from stt_guard.memory import Memory
from stt_guard.outcomes import Outbox
from stt_guard.state import Picture
from stt_guard.words import CALL_ID_MAX, Decision, Mode, Step

DECISION_S: Final = 0.3
FRESH_S: Final = 15.0
LAST_KNOWN_S: Final = 15 * 60.0

log = logging.getLogger(__name__)


class SttGuard:
    """Decides for each call whom to use, and reports what was seen. Make one per process.

    It belongs to the event loop that first uses it. `feed="poll"` does without a WebSocket,
    `feed="off"` asks for each call: for fleets that run each call in a process of its own, which
    should name a `state_file` that its processes share.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str,
        route: str,
        can_use: Sequence[str],
        host: str | None = None,
        feed: FeedMode = "auto",
        state_file: str | Path | None = None,
        decision_timeout_s: float = DECISION_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open nothing yet. `can_use`: whom this agent has code and credentials for, best first.

        Raises ValueError for an address or chain that cannot be right: at start-up, not in a call.
        """
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"url must begin with http:// or https://, not {url!r}")
        if isinstance(can_use, str) or not can_use:
            raise ValueError("can_use must be a list of at least one provider")
        self.route, self.can_use = route, tuple(dict.fromkeys(can_use))
        self.host = (host or socket.gethostname())[:128]
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}"}
        self._timeout_s, self._clock = decision_timeout_s, clock
        self._session: aiohttp.ClientSession | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._calls: WeakValueDictionary[str, Call] = WeakValueDictionary()
        self._is_closed = False
        self.picture = Picture()
        self._memory = Memory(Path(state_file) if state_file else None)
        self._mode = feed
        self.feed = Feed(
            self._url, self._headers, self._http, self.picture, self._memory, feed, clock
        )
        outcomes_url = f"{self._url}/api/v1/outcomes"
        self.outbox = Outbox(outcomes_url, self._headers, self._http, self._answered, clock)

    # --- its life

    async def start(self, wait_s: float = 0.0) -> Self:
        """Start listening and sending; `call` does it by itself. Waits up to `wait_s` for a state.

        A process that takes calls for long gains from `await guard.start(1)` before the first.
        """
        if not self._tasks and not self._is_closed:
            self._http()
            if self._mode != "off":
                self._tasks.append(asyncio.create_task(self.feed.run(), name="stt_guard feed"))
            self._tasks.append(asyncio.create_task(self.outbox.run(), name="stt_guard outcomes"))
        if wait_s > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.feed.first.wait(), wait_s)
        return self

    async def aclose(self, timeout_s: float = 1.0) -> None:
        """Stop listening, send what is queued within `timeout_s`, and close. Safe to repeat."""
        self._is_closed = True
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self.outbox.flush(timeout_s)
            await self._session.close()
            self._session = None

    async def __aenter__(self) -> Self:
        """Start."""
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        await self.aclose()

    def stats(self) -> dict[str, Any]:
        """What became of this process's outcomes, and how fresh its state is."""
        counts = asdict(self.outbox.counts)
        return {**counts, "waiting": self.outbox.waiting, "state_age_s": self.feed.age_s}

    # --- decisions

    async def call(
        self,
        call_id: str,
        *,
        language: str = "",
        route: str | None = None,
        can_use: Sequence[str] | None = None,
        probe: bool = True,
    ) -> Call:
        """Return whom this call should use, in 300 ms at most. Never raises.

        `language` as BCP 47, empty when it is not known. `probe=False` keeps the call from being a
        probe. Fresh pushed state answers with no request.
        """
        clean_id = _clean(call_id)
        route, usable = route or self.route, tuple(can_use or self.can_use)
        try:
            await self.start()
            decision = await self._decide(clean_id, route, usable, language, probe)
        except Exception:  # a fault of ours must cost no call its provider
            log.exception("the decision failed; the local chain is used")
            decision = _local_chain(usable)
        call = Call(clean_id, route, self.host, decision, self._put)
        self._calls[clean_id] = call
        return call

    async def _decide(
        self, call_id: str, route: str, usable: tuple[str, ...], language: str, probe: bool
    ) -> Decision:
        pushed: Decision | None = None
        if self.feed.age_s < FRESH_S:
            pushed, is_probe_due = self._from_picture(self.picture, route, usable, language)
            if pushed and not (is_probe_due and probe):
                return pushed
        asked: dict[str, Any] = {"route": route, "call_id": call_id, "can_use": usable}
        asked |= {"host": self.host, "probe": probe, "language": language}
        remote = await self._ask(asked)
        return remote or pushed or self._last_known(route, usable, language) or _local_chain(usable)

    def _from_picture(
        self, picture: Picture, route: str, usable: tuple[str, ...], language: str,
        source: Any = "pushed",
    ) -> tuple[Decision | None, bool]:  # fmt: skip
        known = picture.routes.get(route)
        if known is None:
            return None, False
        return picture.decide(
            known, can_use=usable, language=language, now_s=self._clock(), source=source
        )

    async def _ask(self, asked: Mapping[str, Any]) -> Decision | None:
        """Ask the server within the budget; None when it does not answer, or makes no sense."""
        if self._is_closed:
            return None
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._http().post(
                    f"{self._url}/api/v1/decisions", json=asked, headers=self._headers
                ) as response,
            ):
                if response.status == 200:
                    return _parsed(await response.json())
                log.warning("the control plane refused a decision: %s", response.status)
        except (TimeoutError, aiohttp.ClientError, OSError):
            log.info("the control plane does not answer in %g s", self._timeout_s)
        except (ValueError, TypeError, KeyError, IndexError):
            log.warning("the control plane's decision makes no sense")
        return None

    def _last_known(self, route: str, usable: tuple[str, ...], language: str) -> Decision | None:
        """Decide from what was told within LAST_KNOWN_S, to this process or to its siblings."""
        picture = self.picture
        if self.feed.age_s > LAST_KNOWN_S or not picture.is_known:
            body = self._memory.load(LAST_KNOWN_S)
            if body is None:
                return None
            picture = Picture()
            try:
                picture.replace(body, self._clock())
            except (ValueError, TypeError, KeyError):
                return None
        return self._from_picture(picture, route, usable, language, "last_known")[0]

    # --- for its parts

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None)  # each wait has its own limit
            self._session = aiohttp.ClientSession(timeout=timeout)
        return self._session

    def _put(self, body: dict[str, Any]) -> None:
        self.outbox.put(body)

    def _answered(self, body: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Hand the server's advice to the call, if it is still there."""
        advice = result.get("next")
        provider = advice.get("provider") if isinstance(advice, Mapping) else None
        call = self._calls.get(body["call_id"])
        if call is not None and isinstance(provider, str):
            call.advise(provider)


def _local_chain(usable: tuple[str, ...]) -> Decision:
    return Decision(tuple(Step(provider) for provider in usable), "primary", "local_chain")


def _parsed(body: Mapping[str, Any]) -> Decision:
    """Read a decision. Raises ValueError, TypeError or KeyError where it is none."""
    steps = tuple(
        Step(str(step["provider"]), dict(step.get("settings") or {})) for step in body["order"]
    )
    if not steps or body["mode"] not in get_args(Mode):
        raise ValueError("no usable decision")
    probe = body.get("probe") or {}
    return Decision(
        order=steps,
        mode=cast(Mode, body["mode"]),
        source="remote",
        lease=probe.get("lease"),
        on_mid_call_failure="end" if body.get("on_mid_call_failure") == "end" else "swap",
    )


def _clean(call_id: str) -> str:
    """Make a call id the server takes: 1 to 128 characters, none of them a control."""
    text = "".join(character for character in str(call_id) if character.isprintable())
    return text[:CALL_ID_MAX] or uuid.uuid4().hex
