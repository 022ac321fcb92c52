"""Who is at work during a soak: agents, status pollers, feeds, a person at the admin, an operator.

Each counts what it did, and each thing that went wrong by its name; nobody stops for an error.
"""

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, cycle
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from fallback.drill.calls import Call
from fallback.drill.client import ControlPlane
from fallback.drill.plan import Plan
from fallback.drill.tally import Tally
from tests.soak.topology import manage

ROUTE: Final = "breeze-buddy"
CHAIN: Final = ("soniox", "deepgram")
DECIDED_WITHIN_S: Final = 0.3
SILENT_S: Final = 5.5  # the feed's beat comes each second
POLICY: Final = """
format: 1
policies:
  default: {{failure_threshold: {}, open_duration_s: 5, open_duration_max_s: 10}}
"""
PAGES: Final = (
    "/",
    "/admin/",
    "/admin/fallback/policy/",
    "/admin/fallback/provider/",
    "/admin/fallback/route/",
    "/admin/fallback/transition/",
    "/admin/fallback/incident/",
    "/admin/fallback/alert/",
    "/admin/fallback/configchange/",
)
READS: Final = ("transitions", "incidents", "stats?last_s=3600", "calls/soak-none")


class Waves(Plan):
    """Both providers fail in turn, and for a moment together, each minute anew."""

    def is_failing(self, provider: str, at_s: float) -> bool:
        """Whether a provider is broken at this time of the soak."""
        second = at_s % 60
        return (10 <= second < 25) if provider == CHAIN[0] else (22 <= second < 30)


@dataclass(slots=True)
class Counts:
    """What was done, and what went wrong, by name."""

    done: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)

    async def note(self, name: str, doing: Awaitable[Any]) -> Any:
        """Count one thing as done, or as what went wrong with it, which is None."""
        try:
            answer = await doing
        except (httpx.HTTPError, ConnectionClosed, InvalidHandshake, OSError, RuntimeError) as why:
            self.wrong[f"{name}: {type(why).__name__} {str(why)[:120]}"] += 1
            return None
        self.done[name] += 1
        return answer


@dataclass(frozen=True, slots=True)
class Traffic:
    """All of it, for `seconds`. `rate`: calls a second, over all web processes."""

    urls: tuple[str, ...]
    key: str
    password: str
    environment: Mapping[str, str]
    seconds: float
    rate: float
    counts: Counts
    tally: Tally

    async def run(self) -> None:
        """Have everybody at work until the time is over."""
        began_s = time.monotonic()

        def now_s() -> float:
            return time.monotonic() - began_s

        async with asyncio.TaskGroup() as group:
            group.create_task(self._agents(now_s))
            group.create_task(self._saves(now_s))
            for number, url in enumerate(self.urls):
                group.create_task(self._polls(url, now_s))
                group.create_task(self._pages(url, now_s))
                for _ in range(3):
                    group.create_task(self._feeds(url, now_s, random.Random(number)))

    async def _agents(self, now_s: Callable[[], float]) -> None:
        """Place calls at a steady rate, whatever becomes of those before."""
        numbers, calls = count(1), set[asyncio.Task[None]]()
        async with (
            ControlPlane(self.urls[0], self.key) as one,
            ControlPlane(self.urls[-1], self.key) as other,
        ):
            apis = cycle((one, other))
            while now_s() < self.seconds:
                self.tally.calls += 1
                call = Call(
                    f"soak-{next(numbers)}",
                    plan=self.tally.plan, api=next(apis), tally=self.tally, now_s=now_s,
                )  # fmt: skip
                task = asyncio.create_task(call.run())
                calls.add(task)
                task.add_done_callback(calls.discard)
                await asyncio.sleep(max(0.0, self.tally.calls / self.rate - now_s()))
            await asyncio.wait_for(asyncio.gather(*calls), 30)

    async def _polls(self, url: str, now_s: Callable[[], float]) -> None:
        """Read the status and the history as dashboards of other people do."""
        head = {"Authorization": f"Bearer {self.key}"}
        async with httpx.AsyncClient(base_url=url, headers=head, trust_env=False) as http:
            reads, etag, version = cycle(READS), "", 0
            while now_s() < self.seconds:
                asked = http.get("/api/v1/status", headers={"If-None-Match": etag} if etag else {})
                answer = await self.counts.note("status", _right(asked, 200, 304))
                if answer is not None and answer.status_code == 200:
                    etag, said = answer.headers.get("ETag", ""), answer.json()["version"]
                    if said < version:
                        self.counts.wrong[f"status: version fell from {version} to {said}"] += 1
                    version = max(version, said)
                await self.counts.note("read", _right(http.get(f"/api/v1/{next(reads)}"), 200, 404))
                await asyncio.sleep(1.0)

    async def _pages(self, url: str, now_s: Callable[[], float]) -> None:
        """Look at the pages as a person does who is signed in."""
        async with httpx.AsyncClient(
            base_url=url, follow_redirects=True, timeout=20, trust_env=False
        ) as http:
            if await self.counts.note("sign-in", self._sign_in(http)) is None:
                return
            pages = cycle(PAGES)
            while now_s() < self.seconds:
                await self.counts.note("page", _right(http.get(next(pages)), 200))
                await asyncio.sleep(2.0)

    async def _sign_in(self, http: httpx.AsyncClient) -> httpx.Response:
        form = (await http.get("/admin/login/?next=/")).text
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
        if token is None:
            raise RuntimeError("the page to sign in has no form")
        answer = await http.post(
            "/admin/login/?next=/",
            data={
                "username": "admin", "password": self.password, "next": "/",
                "csrfmiddlewaretoken": token[1],
            },
        )  # fmt: skip
        if answer.status_code != 200 or answer.url.path != "/":
            raise RuntimeError(f"signed in to {answer.url} with {answer.status_code}")
        return answer

    async def _feeds(self, url: str, now_s: Callable[[], float], luck: random.Random) -> None:
        """Open the feed, listen for a while, leave, and come again."""
        while now_s() < self.seconds:
            until_s = min(self.seconds, now_s() + luck.uniform(5, 40))
            await self.counts.note("feed", self._listen(url, until_s, now_s))

    async def _listen(self, url: str, until_s: float, now_s: Callable[[], float]) -> bool:
        head = {"Authorization": f"Bearer {self.key}"}
        address = f"ws://{urlsplit(url).netloc}/ws/v1/status"
        version = 0
        async with connect(address, additional_headers=head, proxy=None) as feed:
            while now_s() < until_s:
                try:
                    message = json.loads(await asyncio.wait_for(feed.recv(), SILENT_S))
                except TimeoutError:
                    self.counts.wrong[f"feed: silent for {SILENT_S} s"] += 1
                    continue
                self.counts.done["feed message"] += 1
                said = message.get("version", version)
                if said < version:
                    self.counts.wrong["feed: version fell"] += 1
                version = max(version, said)
        return True

    async def _saves(self, now_s: Callable[[], float]) -> None:
        """Change a threshold through the document, back and forth; what is out is probed soon, so
        that breakers go through all of their states."""
        thresholds = cycle((4, 5))
        while now_s() < self.seconds:
            document = POLICY.format(next(thresholds))
            await self.counts.note("policy saved", self._apply(document))
            with suppress(TimeoutError):
                await asyncio.sleep(min(20.0, max(0.0, self.seconds - now_s())))

    async def _apply(self, document: str) -> str:
        return await asyncio.to_thread(
            manage, "config_apply", "-", environment=self.environment, said=document
        )


async def _right(asking: Awaitable[httpx.Response], *statuses: int) -> httpx.Response:
    answer = await asking
    if answer.status_code not in statuses:
        raise RuntimeError(f"{answer.request.url.path} answered {answer.status_code}")
    return answer
