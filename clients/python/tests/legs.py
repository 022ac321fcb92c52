"""Legs and a host that do as they are told, for the rules of a call; a tenth of the real times."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from stt_guard import Call, Step
from stt_guard.failover import Failover, Leg, Limits
from stt_guard.words import Decision, Seen

LIMITS = Limits(
    connect_s=0.15,
    grace_s=0.1,
    drops=4,
    suspect_s=0.1,
    believe_s=0.2,
    speaking_s=0.3,
    confirm_s=0.3,
    late_s=1.0,
    on_last_s=1.5,
    checks=3,
)
REFUSED = Seen("server_error", "503")


class FakeLeg(Leg):
    """Answers from lists: `answers` to connect, `heals` to heal; the last one again and again."""

    def __init__(self, provider: str) -> None:
        super().__init__(provider, LIMITS)
        self.answers: list[Seen | float | None] = [None]
        self.heals: list[Seen | None] = [None]
        self.said: list[Any] = []
        self.connects = self.let_gos = 0
        self.on_say: Any = None

    async def connect(self, limit_s: float) -> Seen | None:
        """Answer; a number is how long it takes, and hangs where the limit is shorter."""
        self.connects += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, float):
            await asyncio.sleep(min(answer, limit_s))
            return Seen("timeout") if answer > limit_s else self._up()
        return answer or self._up()

    def _up(self) -> None:
        self.came_up()

    async def heal(self, limit_s: float) -> Seen | None:
        """Answer after a moment."""
        await asyncio.sleep(0.02)
        return self.heals.pop(0) if len(self.heals) > 1 else self.heals[0]

    async def say(self, item: Any) -> None:
        """Keep it."""
        self.said.append(item)
        if self.on_say:
            self.on_say(item)

    async def let_go(self) -> None:
        """Count it."""
        self.let_gos += 1


@dataclass
class FakeHost:
    """A pipeline that runs, and remembers what it was told."""

    events: list[tuple[str, Any]] = field(default_factory=list)
    active: Leg | None = None
    finals: list[Any] = field(default_factory=list)
    ended: bool = False
    work: set[asyncio.Task[Any]] = field(default_factory=set)

    async def ready(self) -> None:
        """It is."""

    async def activate(self, leg: Any) -> None:
        """Remember it."""
        self.active = leg

    def replayed(self, finals: Sequence[Any]) -> None:
        """Remember them."""
        self.finals.extend(finals)

    async def end(self) -> None:
        """Remember it."""
        self.ended = True

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run it."""
        task = asyncio.ensure_future(work)
        self.work.add(task)
        return task

    def tell(self, event: str, value: Any) -> None:
        """Remember it."""
        self.events.append((event, value))


class Scene:
    """A call over fake legs."""

    def __init__(self, *providers: str, **decision: Any) -> None:
        self.reported: list[dict[str, Any]] = []
        values = {"mode": "primary", "source": "remote", **decision}
        steps = tuple(Step(one) for one in providers)
        self.call = Call("c", "r", "h", Decision(steps, **values), self.reported.append)
        self.legs = {one: FakeLeg(one) for one in providers}
        self.host = FakeHost()
        self.rules = Failover(self.call, list(self.legs.values()), self.host, LIMITS)
        self.first.came_up()

    @property
    def first(self) -> FakeLeg:
        """The first of the order."""
        return next(iter(self.legs.values()))

    @property
    def now_s(self) -> float:
        """The loop's clock."""
        return asyncio.get_running_loop().time()

    def said(self, *kinds: str) -> list[tuple[str, str, str]]:
        """What was reported of these kinds, all failures if none is named."""
        wanted = kinds or ("init_failure", "mid_call_failure", "stall")
        return [
            (one["provider"], one["kind"], one.get("reason", ""))
            for one in self.reported
            if one["kind"] in wanted
        ]

    def speak(self, *pieces: Any) -> None:
        """Say something, just now, and stop."""
        self.rules.speech_began(self.now_s - 0.5, "[")
        for piece in pieces or ("a", "b"):
            self.rules.hears(piece, 0.02)
        self.rules.speech_ended(self.now_s, "]")

    def final(self, provider: str, text: str = "words") -> bool:
        """The provider writes a final."""
        return self.rules.wrote(self.legs[provider], text, is_final=True, item=text)

    def finds(self, provider: str, text: str = "words") -> None:
        """Have the provider write as soon as it is said that speech ended."""
        leg = self.legs[provider]
        leg.on_say = lambda item: self.final(provider, text) if item == "]" else None

    async def close(self) -> None:
        """End it."""
        self.rules.close()
        await asyncio.gather(*self.host.work, return_exceptions=True)
