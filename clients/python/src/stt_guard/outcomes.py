"""Sends outcomes: in batches, again until they are taken, and dropped knowingly.

Ids make a resend safe. A key that is being changed or a balancer that has lost its servers answers
401, 403 or 404 for a while: what it refuses waits as it does for a 500, and grows stale in the end.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import aiohttp

from stt_guard.said import Said, advice
from stt_guard.waiting import Counts, Entry, Waiting

BATCH_MAX: Final = 50
POST_TIMEOUT_S: Final = 2.0
BACKOFF_FIRST_S: Final = 0.1
BACKOFF_LAST_S: Final = 5.0
NOT_OURS: Final = frozenset({401, 403, 404})  # says nothing of the outcomes themselves
LATER: Final = NOT_OURS | {408, 429}
SPOILT: Final = frozenset({400, 413, 422})

Answered = Callable[[Mapping[str, Any], Mapping[str, Any]], None]


class Outbox:
    """Sends in the loop it was made in. `put` never waits, never raises, and takes any thread."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        session: Callable[[], aiohttp.ClientSession],
        answered: Answered,
        said: Said,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = Counts()
        self._url, self._headers, self._session = url, headers, session
        self._answered, self._said, self._clock = answered, said, clock
        self._loop = asyncio.get_running_loop()
        self._waiting = Waiting(self.counts, said, clock)
        self._wake = asyncio.Event()
        self._sending = asyncio.Lock()  # `run` and `flush` must not send the same ones
        self._in_flight: list[Entry] = []

    def put(self, body: dict[str, Any]) -> bool:
        """Queue an outcome; False when this outbox is closed."""
        is_in = self._waiting.put(body)
        if is_in and not self._wake.is_set():
            self._rouse()
        return is_in

    def adopt(self, entries: Iterable[Entry]) -> bool:
        """Take over what another outbox could not send; False when this one is closed."""
        is_in = self._waiting.adopt(entries)
        if is_in:
            self._rouse()
        return is_in

    @property
    def waiting(self) -> int:
        """How many are not taken by the server yet."""
        return len(self._waiting) + len(self._in_flight)

    async def run(self) -> None:
        """Send for ever, oldest first."""
        backoff_s = BACKOFF_FIRST_S
        while True:
            self._wake.clear()  # before the look: another thread may put one in between
            if not self._waiting:
                await self._wake.wait()
            if await self._send_some():
                backoff_s = BACKOFF_FIRST_S
                continue
            self.counts.retries += 1
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.5))
            backoff_s = min(backoff_s * 2, BACKOFF_LAST_S)

    async def flush(self, timeout_s: float) -> None:
        """Send what waits, within `timeout_s`; also while `run` does."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.waiting and await self._send_some():
                    pass

    def close(self) -> list[Entry]:
        """Return what is not sent, and take in no more."""
        in_flight, self._in_flight = self._in_flight, []
        return in_flight + self._waiting.close()

    def _rouse(self) -> None:
        try:
            is_here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            is_here = False
        if is_here:
            self._wake.set()
            return
        with contextlib.suppress(RuntimeError):  # that loop is over: the guard looks after the rest
            self._loop.call_soon_threadsafe(self._wake.set)

    async def _send_some(self) -> bool:
        """Send one batch; False when it is to be sent again later."""
        async with self._sending:
            batch = self._in_flight = self._waiting.take(BATCH_MAX)
            try:
                return not batch or await self._deliver(batch)
            finally:
                self._waiting.give_back(batch)
                self._in_flight = []

    async def _deliver(self, batch: list[Entry]) -> bool:
        """Send these, and take out of `batch` what is done with; False when some of it waits."""
        status, answer = await self._post(batch)
        if status == 200 and self._read(batch, answer):
            return True
        if not 400 <= status < 500 or status in LATER:
            self._say_they_wait(status)
            return False
        if status in SPOILT and len(batch) > 1:  # one of them spoils it: find it
            return await self._deliver_each(batch)
        self.counts.refused += len(batch)
        self._said.warn("%d outcomes dropped: the control plane refused them with %d",
                        len(batch), status)  # fmt: skip
        batch.clear()
        return True

    async def _deliver_each(self, batch: list[Entry]) -> bool:
        while batch:
            alone = batch[:1]
            if not await self._deliver(alone):
                return False
            del batch[0]
        return True

    async def _post(self, batch: list[Entry]) -> tuple[int, Any]:
        """Return the status and the answer; a status of 0 where there is none."""
        now_s = self._clock()
        sent = [
            {**entry.body, "age_ms": max(0, round((now_s - entry.seen_s) * 1000))}
            for entry in batch
        ]
        try:
            async with (
                asyncio.timeout(POST_TIMEOUT_S),
                self._session().post(
                    self._url, json={"outcomes": sent}, headers=self._headers
                ) as response,
            ):
                answer = await response.json() if response.status == 200 else None
                return response.status, answer
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
            return 0, None

    def _read(self, batch: list[Entry], answer: object) -> bool:
        """Count what became of each; False when this is not the answer to these."""
        results = answer.get("results") if isinstance(answer, Mapping) else None
        if not isinstance(results, list) or len(results) != len(batch):
            return False
        for entry, result in zip(batch, results, strict=True):
            self._count(entry, result if isinstance(result, Mapping) else {})
        batch.clear()
        return True

    def _count(self, entry: Entry, result: Mapping[str, Any]) -> None:
        status = result.get("status")
        if status == "duplicate":
            self.counts.duplicate += 1
        elif status == "invalid":
            self.counts.invalid += 1
            self._said.warn("an outcome is invalid: %s", result.get("detail"))
        else:
            self.counts.accepted += 1
        self._answered(entry.body, result)

    def _say_they_wait(self, status: int) -> None:
        if status in NOT_OURS:
            self.counts.held += 1
            self._said.warn("outcomes wait: %s answers %d%s", self._url, status, advice(status))
            return
        answer = {0: "nothing", 200: "what makes no sense"}.get(status, str(status))
        self._said.warn("outcomes wait: the control plane answers %s", answer)
