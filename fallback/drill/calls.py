"""One simulated call, as an agent makes it: it asks, fails or is heard, obeys, and hangs up."""

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

import httpx

from fallback.drill.client import ControlPlane
from fallback.drill.plan import Plan
from fallback.drill.tally import Tally

ATTEMPTS: Final = 4  # providers that a call tries before its caller gives up
SLICE_S: Final = 0.1  # how soon a call notices that its provider died under it
INIT_REASONS: Final = ("connection", "timeout", "server_error")


class Call:
    """A call on the drilled route. `now_s` tells the drill's time."""

    def __init__(
        self, name: str, *, plan: Plan, api: ControlPlane, tally: Tally, now_s: Callable[[], float]
    ) -> None:
        self.name, self.plan, self.api, self.tally, self.now_s = name, plan, api, tally, now_s
        self.chance = random.Random(f"{plan.seed}:{name.rpartition('-')[2]}")
        self.host = self.chance.choice(plan.hosts)
        self.provider = self.lease = ""

    async def run(self) -> None:
        """Live from the first question to the hang-up; an error of the server is counted."""
        try:
            await self._ask()
            is_heard = await self._connect()
            if is_heard and not await self._talk():
                is_heard = await self._connect()  # it swapped in the middle, and says the rest
            (self.tally.heard if is_heard else self.tally.unheard).add(self.name)
            await self._report("call_end")
        except httpx.HTTPError as error:
            self.tally.errors[_name(error)] += 1
        finally:
            self._end_probe()

    async def _ask(self) -> None:
        asked_s = self.now_s()
        answer = await self.api.decide(
            route=self.plan.route, call_id=self.name, host=self.host, language="en"
        )
        self.tally.decided(self.name, answer, asked_s, self.now_s())
        self.provider = answer["provider"]
        if answer["probe"]:
            self.lease = answer["probe"]["lease"]
            self.tally.probing(1)

    async def _connect(self) -> bool:
        """Set up with the provider at hand, or where it is told to; True when it is heard."""
        for _ in range(ATTEMPTS):
            await self._pause(self.plan.connect_s)
            if not self._is_broken():
                latency_s = await self._pause(self.plan.first_transcript_s)
                if not self._is_broken():
                    await self._report("first_transcript", latency_ms=int(latency_s * 1000))
                    return True
            if not await self._fail("init_failure", self.chance.choice(INIT_REASONS)):
                return False
        return False

    async def _talk(self) -> bool:
        """Talk for a while; False when the provider died and the call has swapped."""
        until_s = self.now_s() + self.chance.uniform(*self.plan.talk_s)
        while self.now_s() < until_s:
            await asyncio.sleep(SLICE_S)
            if self._is_broken():
                return not await self._fail("mid_call_failure", "stream")
        return True

    async def _fail(self, kind: str, reason: str) -> bool:
        """Report a failure and do as told; False when that is to stop."""
        self.tally.hurt.add(self.name)
        self.tally.failures += 1
        told = await self._report(kind, reason=reason, message="drill: simulated")
        self._end_probe()
        if told["action"] == "swap":
            self.provider = told["provider"]
        return bool(told["action"] != "end")

    async def _report(self, kind: str, **details: Any) -> dict[str, Any]:
        outcome = {
            "id": f"{self.name}:{self.provider}:{kind}",
            "call_id": self.name,
            "provider": self.provider,
            "kind": kind,
            "route": self.plan.route,
            "host": self.host,
            "lease": self.lease or None,
            **details,
        }
        sent_s = self.now_s()
        result = await self.api.report(outcome)
        if result["status"] == "invalid":
            self.tally.errors[result.get("detail", "invalid outcome")] += 1
        self.tally.took_effect(result["effect"], sent_s, self.now_s())
        if kind == "first_transcript":
            self._end_probe()
        return result["next"] or {"action": "continue"}

    async def _pause(self, between_s: tuple[float, float]) -> float:
        pause_s = self.chance.uniform(*between_s)
        await asyncio.sleep(pause_s)
        return pause_s

    def _is_broken(self) -> bool:
        return self.plan.is_failing(self.provider, self.now_s())

    def _end_probe(self) -> None:
        if self.lease:
            self.lease = ""
            self.tally.probing(-1)


def _name(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code}"
    return type(error).__name__
