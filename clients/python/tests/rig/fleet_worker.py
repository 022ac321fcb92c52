"""One process of a fleet: many callers at a time, each call decided and reported by one guard.

Its job comes as a line of JSON on standard input; at the end of that the callers finish, and what
they saw goes to standard output. An end that nobody meant (a killed parent) stops it too.
"""

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any, Final

from stt_guard import Call, SttGuard
from tests.rig.fleet_providers import STEP_S, UnavailableError, words_of
from tests.rig.load import measured

WORDS: Final = (3, 10)  # a call of 0.9 to 3 s
SPREAD_S: Final = 2.0  # within which the first calls begin
LAST_S: Final = 10.0  # for the outcomes that are queued at the end


@dataclass(frozen=True, slots=True)
class Job:
    """What a process is to do."""

    host: str
    callers: int
    url: str
    key: str
    route: str
    can_use: list[str]
    port: int  # of the providers


@dataclass(slots=True)
class Talk:
    """What one call saw. Times are in Unix seconds: the server's transitions have no other."""

    id: str
    begun_s: float
    decided_s: float = 0.0
    mode: str = ""
    source: str = ""
    provider: str = ""  # the decision's
    failed_s: float | None = None  # its first provider failed
    late_s: float | None = None  # the first word on another one, after it was said
    is_whole: bool = False  # heard to its end


class Worker:
    """The callers of one process."""

    def __init__(self, job: Job, guard: SttGuard) -> None:
        self.talks: list[Talk] = []
        self._job, self._guard = job, guard
        self._numbers = count(1)
        self._random = random.Random(job.host)

    async def run(self, stop: asyncio.Event) -> None:
        """Have callers talk, each followed by the next, until it is time to stop."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._job.callers):
                group.create_task(self._callers(group, stop))

    async def _callers(self, group: asyncio.TaskGroup, stop: asyncio.Event) -> None:
        """One caller after the other.

        The next one calls when the last has said all, heard or not: a fleet whose calls wait for a
        provider has new ones all the same.
        """
        due_s = time.monotonic() + self._random.uniform(0, SPREAD_S)
        while True:
            await asyncio.sleep(due_s - time.monotonic())
            if stop.is_set():
                return
            words = self._random.randint(*WORDS)
            due_s += words * STEP_S
            group.create_task(self._one(words))

    async def _one(self, words: int) -> None:
        """One call, from its decision to its end."""
        first_s = time.monotonic() + STEP_S
        talk = Talk(f"{self._job.route}-{self._job.host}-{next(self._numbers)}", time.time())
        self.talks.append(talk)
        async with await self._guard.call(talk.id) as call:
            talk.decided_s = time.time()
            talk.mode, talk.source, talk.provider = call.mode, call.source, call.provider
            await self._talk(talk, call, words, first_s)

    async def _talk(self, talk: Talk, call: Call, left: int, due_s: float) -> None:
        """Say all there is to say, the next word at `due_s`; on the next provider if one fails."""
        following = [call.provider]
        while following:
            provider = following[0]
            try:
                async with call.attempt(provider):
                    after_s = due_s - time.monotonic()
                    async for _ in words_of(self._job.port, provider, talk.id, left, after_s):
                        late_s = max(0.0, time.monotonic() - due_s)
                        left, due_s = left - 1, due_s + STEP_S
                        call.transcript(provider, latency_s=late_s)
                        if talk.failed_s and talk.late_s is None:
                            talk.late_s = late_s
                talk.is_whole = True
                return
            except (UnavailableError, OSError):  # OSError: a reset and a timeout too
                talk.failed_s = talk.failed_s or time.time()
                following = list(call.remaining())


async def work(job: Job, stop: asyncio.Event) -> dict[str, Any]:
    """Run a process's callers until they are told to stop; return what they saw."""
    guard = SttGuard(job.url, key=job.key, route=job.route, can_use=job.can_use, host=job.host)
    async with measured() as lateness:
        await guard.start(5)
        worker = Worker(job, guard)
        await worker.run(stop)
        await guard.aclose(LAST_S)
    talks = [asdict(talk) for talk in worker.talks]
    return {"talks": talks, "stats": guard.stats(), "late_s": lateness.late_s}


async def main() -> None:
    """Read the job, do it, and print what was seen."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    job = Job(**json.loads(await reader.readline()))
    stop = asyncio.Event()
    watch = loop.create_task(reader.read())
    watch.add_done_callback(lambda _: stop.set())
    print(json.dumps(await work(job, stop)))


if __name__ == "__main__":
    asyncio.run(main())
