"""One scenario in one arm: the caller's script, what is done to the providers, what came of it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

from stt_guard import Call, Step
from stt_guard.words import FAILURES, Decision
from tests.fakes import FakeProvider, fake_of
from tests.rig.account import Account, Heard, account
from tests.rig.lines import Arm, Line, play
from tests.rig.livekit_line import LiveKitLine
from tests.rig.pipecat_line import PipecatLine
from tests.rig.script import Script

Framework = Literal["pipecat", "livekit"]
Do = Callable[["Scene"], Awaitable[object] | None]


@dataclass(frozen=True, slots=True)
class Scenario:
    """`before` is done to the providers before the call begins, `steps` at times of the script.

    `chain` is how many providers the call may use. `against` are the arms without the client: what
    is better in any of them is what the client must not be worse than. What chance has a part in is
    to be run several `times` in each.
    """

    name: str
    primary: str
    script: Script
    steps: tuple[tuple[float, Do], ...] = ()
    before: tuple[Do, ...] = ()
    chain: int = 2
    framework: Framework = "pipecat"
    against: tuple[Arm, ...] = ("framework",)
    times: int = 1

    @property
    def id(self) -> str:
        """Its name among all."""
        return f"{self.framework}, {self.primary}: {self.name}"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it. `moves`: whom the call was put on after its first provider."""

    account: Account
    heard: tuple[Heard, ...]
    said: tuple[dict[str, Any], ...]
    moves: tuple[str, ...]
    tags: frozenset[str]

    @property
    def failures(self) -> list[tuple[str, str, str]]:
        """What was reported as a failure."""
        return [
            (one["provider"], one["kind"], one["reason"])
            for one in self.said
            if one["kind"] in FAILURES
        ]


class WatchedCall(Call):
    """A call that remembers whom it was put on."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.moves: list[str] = []

    def use(self, provider: str) -> None:
        """Note a change."""
        if provider != self.provider:
            self.moves.append(provider)
        super().use(provider)


@dataclass(slots=True)
class Scene:
    """A scenario that is played: what its steps work on."""

    scenario: Scenario
    primary: FakeProvider
    other: FakeProvider
    said: list[dict[str, Any]] = field(default_factory=list)
    call: WatchedCall = field(init=False)
    line: Line = field(init=False)

    def __post_init__(self) -> None:
        """Decide the call, as a control plane would."""
        names = list(self.chain)
        decision = Decision(tuple(Step(name) for name in names), "primary", "remote")
        self.call = WatchedCall("call", "r", "pod", decision, self.said.append)

    @property
    def chain(self) -> dict[str, FakeProvider]:
        """Whom the call may use."""
        first = self.scenario.primary
        both = {first: self.primary, other_than(first): self.other}
        return dict(list(both.items())[: self.scenario.chain])

    def open(self, arm: Arm) -> None:
        """Make the line."""
        call = self.call if arm == "ours" else None
        if self.scenario.framework == "livekit":
            self.line = LiveKitLine(arm, self.chain, call)
        else:
            self.line = PipecatLine(arm, self.chain, call)

    async def do(self, began_s: float) -> None:
        """Take the steps, each at its time."""
        for at_s, step in self.scenario.steps:
            await asyncio.sleep(max(0.0, began_s + at_s - time.monotonic()))
            await done(step, self)


async def done(step: Do, scene: Scene) -> None:
    """Take a step."""
    if waiting := step(scene):
        await waiting


def other_than(provider: str) -> str:
    """The other provider."""
    return "deepgram" if provider == "soniox" else "soniox"


async def run_scenario(scenario: Scenario, arm: Arm) -> Result:
    """Play a scenario in one arm."""
    primary = fake_of(scenario.primary, hears=True)
    other = fake_of(other_than(scenario.primary), hears=True)
    scene = Scene(scenario, primary, other)
    async with AsyncExitStack() as stack:
        for fake in (primary, other):
            await stack.enter_async_context(fake.running())
        for step in scenario.before:
            await done(step, scene)
        scene.open(arm)
        try:
            await scene.line.begin()
            await scene.line.ready()
            began_s = time.monotonic()
            async with asyncio.TaskGroup() as group:
                group.create_task(play(scenario.script, scene.line, began_s))
                group.create_task(scene.do(began_s))
            return result_of(scene, began_s)
        finally:
            await scene.line.stop()


def result_of(scene: Scene, began_s: float) -> Result:
    """Take down what came of it by the end of the script."""
    line = scene.line
    heard = line.heard_since(began_s)
    ended_s = None if line.ended_s is None else line.ended_s - began_s
    return Result(
        account=account(scene.scenario.script, heard, ended_s),
        heard=tuple(heard),
        said=tuple(scene.said),
        moves=tuple(scene.call.moves),
        tags=frozenset(tag for final in heard for tag in final.tags),
    )
