"""The queue of outcomes: bounded, batched, sent again until taken, dropped knowingly.

Ids make a resend safe. What is dropped is counted in `Counts` and logged, once a minute at most.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from stt_guard.words import FAILURES

QUEUE_MAX: Final = 1_000
BATCH_MAX: Final = 50
POST_TIMEOUT_S: Final = 2.0
STALE_S: Final = 300.0  # what is older says nothing about now, and would count as if it did
BACKOFF_FIRST_S: Final = 0.1
BACKOFF_LAST_S: Final = 5.0
LOG_EVERY_S: Final = 60.0
SHED_FIRST: Final = ("call_end", "started", "recovered")  # what the fleet needs least

log = logging.getLogger(__name__)
Answered = Callable[[Mapping[str, Any], Mapping[str, Any]], None]


@dataclass(slots=True)
class Counts:
    """What became of the outcomes of this process, since it began."""

    queued: int = 0
    accepted: int = 0
    duplicate: int = 0
    invalid: int = 0  # the server says why in the log
    refused: int = 0  # by a 4xx for all of a request
    shed: int = 0  # the queue was full
    stale: int = 0  # older than STALE_S
    unsent: int = 0  # at the end of the process
    retries: int = 0


@dataclass(slots=True)
class Entry:
    """An outcome, and when it was seen (monotonic seconds): its age is told when it is sent."""

    body: dict[str, Any]
    seen_s: float


@dataclass(slots=True)
class Outbox:
    """Sends outcomes from the running loop's own task; `put` never waits and never raises."""

    url: str
    headers: Mapping[str, str]
    session: Callable[[], aiohttp.ClientSession]
    answered: Answered
    clock: Callable[[], float] = time.monotonic
    counts: Counts = field(default_factory=Counts)
    _queue: deque[Entry] = field(default_factory=deque)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _in_flight: list[Entry] = field(default_factory=list)
    _logged_s: float = float("-inf")

    def put(self, body: dict[str, Any]) -> None:
        """Queue an outcome. A full queue sheds what the fleet needs least, then the oldest."""
        if len(self._queue) >= QUEUE_MAX:
            self._shed(body)
        self._queue.append(Entry(body, self.clock()))
        self.counts.queued += 1
        self._wake.set()

    @property
    def waiting(self) -> int:
        """How many are not taken by the server yet."""
        return len(self._queue) + len(self._in_flight)

    async def run(self) -> None:
        """Send for ever, oldest first."""
        backoff_s = BACKOFF_FIRST_S
        while True:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
            if await self._send_some():
                backoff_s = BACKOFF_FIRST_S
                continue
            self.counts.retries += 1
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.5))
            backoff_s = min(backoff_s * 2, BACKOFF_LAST_S)

    async def flush(self, timeout_s: float) -> None:
        """Send what is left, within `timeout_s`; what stays is counted as unsent and logged."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._queue and await self._send_some():
                    pass
        self.counts.unsent += self.waiting
        if self.waiting:
            log.warning("%d outcomes could not be sent before the end", self.waiting)

    async def _send_some(self) -> bool:
        """Send one batch; False when it is to be sent again later."""
        self._drop_stale()
        self._in_flight = [self._queue.popleft() for _ in range(min(BATCH_MAX, len(self._queue)))]
        is_done = False
        try:
            is_done = not self._in_flight or await self._deliver(self._in_flight)
        finally:
            if not is_done:
                self._queue.extendleft(reversed(self._in_flight))
            self._in_flight = []
        return is_done

    async def _deliver(self, batch: Sequence[Entry]) -> bool:
        status, answer = await self._post(batch)
        if status is None or status == 429 or status >= 500:
            self._tell("outcomes wait: the control plane answers %s", status or "nothing")
            return False
        if status == 200 and isinstance(answer, Mapping):
            self._read(batch, answer)
            return True
        if status in {400, 413, 422} and len(batch) > 1:  # one of them spoils it: find it
            for entry in batch:
                if not await self._deliver([entry]):
                    return False  # ids make it safe to send the others twice
            return True
        self.counts.refused += len(batch)
        self._tell("%d outcomes dropped: the control plane refused them with %s",
                   len(batch), status)  # fmt: skip
        return True

    async def _post(self, batch: Sequence[Entry]) -> tuple[int | None, Any]:
        now_s = self.clock()
        sent = [
            {**entry.body, "age_ms": max(0, round((now_s - entry.seen_s) * 1000))}
            for entry in batch
        ]
        try:
            async with (
                asyncio.timeout(POST_TIMEOUT_S),
                self.session().post(
                    self.url, json={"outcomes": sent}, headers=self.headers
                ) as response,
            ):
                answer = await response.json() if response.status == 200 else None
                return response.status, answer
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
            return None, None

    def _read(self, batch: Sequence[Entry], answer: Mapping[str, Any]) -> None:
        """Count what became of each; a result that makes no sense costs no other."""
        results = answer.get("results")
        results = results if isinstance(results, list) else []
        for entry, result in zip(batch, results, strict=False):
            result = result if isinstance(result, Mapping) else {}
            status = result.get("status")
            if status == "duplicate":
                self.counts.duplicate += 1
            elif status == "invalid":
                self.counts.invalid += 1
                self._tell("an outcome is invalid: %s", result.get("detail"))
            else:
                self.counts.accepted += 1
            self.answered(entry.body, result)

    def _shed(self, coming: Mapping[str, Any]) -> None:
        self.counts.shed += 1
        self._tell("the queue of outcomes is full (%d): some are dropped", QUEUE_MAX)
        for kind in SHED_FIRST:
            for entry in self._queue:
                if entry.body["kind"] == kind:
                    self._queue.remove(entry)
                    return
        if coming["kind"] in FAILURES:
            self._queue.popleft()
            return
        oldest = next((one for one in self._queue if one.body["kind"] not in FAILURES), None)
        self._queue.remove(oldest) if oldest else self._queue.popleft()

    def _drop_stale(self) -> None:
        oldest_s = self.clock() - STALE_S
        while self._queue and self._queue[0].seen_s < oldest_s:
            self._queue.popleft()
            self.counts.stale += 1
            self._tell("outcomes older than %d s are dropped", STALE_S)

    def _tell(self, text: str, *values: object) -> None:
        """Log a warning, once a minute at most; the counts have the rest."""
        if self.clock() - self._logged_s >= LOG_EVERY_S:
            self._logged_s = self.clock()
            log.warning(text, *values)
