"""The rules of a call over legs that do as they are told, in tenths of the real times."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from stt_guard import Call, Step
from stt_guard.failover import Failover, Leg, Limits
from stt_guard.words import Decision, Seen
from tests.conftest import eventually

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


@pytest.fixture
async def scene():
    """A call over two providers."""
    made = Scene("a", "b")
    yield made
    await made.close()


# --- a doubt


async def test_noise_that_nobody_finds_words_in_changes_nothing(scene):
    for _ in range(3):
        scene.speak()
        await asyncio.sleep(0.7)

    assert scene.said() == []
    assert scene.rules.active is scene.first
    assert not scene.host.ended
    left = scene.legs["b"]
    assert await eventually(lambda: left.let_gos == left.connects > 0, 1)


async def test_the_next_provider_takes_over_when_it_alone_finds_words(scene):
    scene.finds("b", "hello")
    scene.speak("x", "y")

    assert await eventually(lambda: scene.rules.active is scene.legs["b"], 0.7)
    assert scene.legs["b"].said == ["[", "x", "y", "]"]
    assert scene.host.finals == ["hello"]
    assert scene.said() == []  # it may be slow
    assert await eventually(lambda: scene.said() == [("a", "stall", "stall")], 2)
    assert scene.first.let_gos == 1
    assert [name for name, _ in scene.host.events] == ["on_swap"]


async def test_its_words_are_not_believed_before_the_first_one_had_its_time(scene):
    scene.finds("b")
    scene.speak()
    await asyncio.sleep(0.15)
    assert scene.legs["b"].connects == 1
    assert scene.final("a")
    await asyncio.sleep(0.4)

    assert scene.rules.active is scene.first
    assert scene.host.finals == []
    assert scene.legs["b"].let_gos == 1


async def test_a_provider_that_writes_late_was_slow_and_is_no_stall(scene):
    scene.finds("b")
    scene.speak()
    assert await eventually(lambda: scene.rules.active is scene.legs["b"], 0.7)
    assert not scene.final("a", "late words")
    await asyncio.sleep(1.0)

    assert scene.said() == []
    proof = next(one for one in scene.reported if one["provider"] == "a")
    assert proof["kind"] == "first_transcript"
    assert proof["latency_ms"] >= 200


async def test_a_provider_that_was_heard_before_tells_its_latency_as_healed(scene):
    scene.final("a")
    await asyncio.sleep(0.6)
    scene.finds("b")
    scene.speak()
    assert await eventually(lambda: scene.rules.active is scene.legs["b"], 0.7)
    scene.final("a", "late words")

    assert scene.said("recovered") == [("a", "recovered", "timeout")]


async def test_opinions_are_bounded_in_a_call_and_never_two_at_once(scene):
    for _ in range(12):
        scene.speak()
        await asyncio.sleep(0.25)

    assert scene.legs["b"].connects <= LIMITS.checks
    assert scene.said() == []


async def test_a_hang_up_before_the_truth_is_known_reports_no_stall(scene):
    scene.finds("b")
    scene.speak()
    assert await eventually(lambda: scene.rules.active is scene.legs["b"], 0.7)
    scene.rules.close()
    await asyncio.sleep(1.0)

    assert scene.said() == []


async def test_the_opinion_of_one_that_cannot_be_had_costs_the_call_nothing(scene):
    scene.legs["b"].answers = [REFUSED]
    scene.speak()
    await asyncio.sleep(0.3)

    assert scene.said() == [("b", "init_failure", "server_error")]
    assert scene.rules.active is scene.first
    assert not scene.rules.is_held


async def test_a_stall_on_a_route_that_ends_calls_ends_none():
    scene = Scene("a", "b", on_mid_call_failure="end")
    scene.finds("b")
    scene.speak()

    assert await eventually(lambda: scene.rules.active is scene.legs["b"], 0.7)
    assert not scene.host.ended
    await scene.close()


async def test_a_mute_in_a_doubt_withdraws_it(scene):
    scene.speak()
    assert await eventually(lambda: scene.legs["b"].connects, 0.5)
    scene.rules.muted(True)
    await asyncio.sleep(0.2)

    assert scene.legs["b"].let_gos == 1
    assert scene.rules.active is scene.first


async def test_a_provider_that_fails_for_good_in_a_doubt_is_left_at_once(scene):
    scene.speak()
    assert await eventually(lambda: scene.legs["b"].connects, 0.5)
    scene.rules.failed(scene.first, REFUSED)

    assert await eventually(lambda: scene.host.active is scene.legs["b"], 0.3)
    assert len(scene.said()) == 1


# --- a drop


async def test_a_drop_that_heals_is_told_and_what_was_said_is_said_again(scene):
    scene.final("a")
    scene.rules.hears("one", 0.02)
    scene.rules.dropped(scene.first, Seen("connection"))
    assert scene.rules.is_held
    scene.rules.hears("two", 0.02)

    assert await eventually(lambda: not scene.rules.is_held, 0.5)
    assert scene.first.said == ["one", "two"]
    assert await eventually(lambda: scene.said("recovered"), 0.5)
    assert scene.said() == []


async def test_a_drop_that_does_not_heal_is_a_failure_with_its_first_reason(scene):
    scene.final("a")
    scene.first.heals = [Seen("timeout")]
    scene.rules.dropped(scene.first, Seen("connection", "1006"))

    assert await eventually(lambda: scene.host.active is scene.legs["b"], 0.5)
    assert scene.said() == [("a", "mid_call_failure", "connection")]


async def test_flapping_is_a_failure_in_the_end(scene):
    scene.final("a")
    for _ in range(LIMITS.drops):
        scene.rules.dropped(scene.first, Seen("connection"))
        await asyncio.sleep(0.05)
        scene.final("a")

    assert await eventually(lambda: scene.said() == [("a", "mid_call_failure", "stream")], 0.5)
    assert scene.rules.active is scene.legs["b"]


async def test_a_drop_in_a_chain_of_one_never_ends_the_call():
    scene = Scene("a")
    scene.first.heals = [REFUSED]
    scene.first.answers = [REFUSED, REFUSED, None]
    scene.rules.dropped(scene.first, Seen("connection"))

    assert await eventually(lambda: not scene.rules.is_held, 4)
    assert not scene.host.ended
    assert len(scene.said()) == 1
    await scene.close()


# --- a failure


async def test_a_failed_provider_is_tried_again_when_nobody_is_left(scene):
    scene.final("a")
    scene.legs["b"].answers = [REFUSED]
    scene.first.answers = [REFUSED, None]
    scene.rules.failed(scene.first, REFUSED)

    assert await eventually(lambda: scene.host.active is scene.first, 2)
    assert not scene.host.ended
    assert ("on_last", scene.call) in scene.host.events
    assert scene.final("a")


async def test_the_call_ends_only_when_nobody_could_be_had_for_so_long(scene):
    for leg in scene.legs.values():
        leg.answers = [REFUSED]
    began_s = scene.now_s
    scene.rules.failed(scene.first, REFUSED)

    assert await eventually(lambda: scene.host.ended, 3)
    assert scene.now_s - began_s >= LIMITS.on_last_s
    assert min(leg.connects for leg in scene.legs.values()) >= 1
    assert len(scene.said()) == 2


async def test_on_last_resort_it_never_ends():
    scene = Scene("a", "b", mode="last_resort")
    for leg in scene.legs.values():
        leg.answers = [REFUSED]
    scene.rules.failed(scene.first, REFUSED)
    await asyncio.sleep(1.2)

    assert not scene.host.ended
    await scene.close()


@pytest.mark.parametrize("reason", ["auth", "quota", "bad_request"])
async def test_what_does_not_heal_is_not_tried_again(scene, reason):
    scene.legs["b"].answers = [REFUSED, REFUSED, None]
    scene.rules.failed(scene.first, Seen(reason))

    assert await eventually(lambda: scene.host.active is scene.legs["b"], 2)
    assert scene.first.connects == 0


async def test_a_target_that_hangs_gets_a_second_try_and_a_longer_one(scene):
    scene.first.answers = [REFUSED]
    scene.legs["b"].answers = [9.0, 0.2]
    scene.rules.failed(scene.first, REFUSED)

    assert await eventually(lambda: scene.host.active is scene.legs["b"], 2)
    assert not scene.host.ended


async def test_those_after_a_target_that_fails_get_their_try():
    scene = Scene("a", "b", "c")
    scene.legs["b"].answers = [REFUSED]
    scene.rules.failed(scene.first, REFUSED)

    assert await eventually(lambda: scene.host.active is scene.legs["c"], 0.5)
    assert scene.first.connects == 0
    await scene.close()


async def test_a_target_that_breaks_as_it_is_told_what_was_said_is_left(scene):
    scene.rules.hears("one", 0.02)
    target = scene.legs["b"]
    target.on_say = lambda _: scene.rules.failed(target, Seen("connection"))
    scene.rules.failed(scene.first, REFUSED)

    assert await eventually(lambda: scene.host.active is scene.first, 1)
    assert not scene.host.ended


async def test_a_route_that_ends_calls_ends_one_in_its_middle_and_not_at_its_beginning():
    scene = Scene("a", "b", on_mid_call_failure="end")
    scene.rules.failed(scene.first, REFUSED)
    assert await eventually(lambda: scene.host.active is scene.legs["b"], 0.5)

    scene.final("b")
    scene.rules.failed(scene.legs["b"], REFUSED)
    assert await eventually(lambda: scene.host.ended, 0.5)
    await scene.close()


async def test_what_a_provider_says_that_was_let_go_counts_for_nothing(scene):
    scene.rules.failed(scene.first, REFUSED)
    assert await eventually(lambda: scene.host.active is scene.legs["b"], 0.5)
    scene.rules.dropped(scene.first, Seen("connection"))
    scene.rules.failed(scene.first, Seen("auth"))

    assert not scene.final("a", "late words")
    assert len(scene.said()) == 1
    assert not scene.first.is_out


# --- two things at once


async def test_a_provider_that_is_used_again_is_not_called_dead_for_its_old_silence(scene):
    scene.finds("b")
    scene.speak()
    assert await eventually(lambda: scene.rules.active is scene.legs["b"], 0.7)
    scene.rules.failed(scene.legs["b"], REFUSED)
    assert await eventually(lambda: scene.host.active is scene.first, 0.5)
    let_gos = scene.first.let_gos
    await asyncio.sleep(1.1)

    assert scene.said("stall") == []
    assert scene.first.let_gos == let_gos


async def test_two_that_were_left_for_their_silence_are_each_judged_in_their_own_time():
    scene = Scene("a", "b", "c")
    scene.finds("b")
    scene.speak()
    assert await eventually(lambda: scene.rules.active is scene.legs["b"], 0.7)
    scene.legs["b"].on_say = None
    scene.finds("c")
    await asyncio.sleep(0.51)  # what is said now began after b wrote
    scene.speak()

    assert await eventually(lambda: scene.rules.active is scene.legs["c"], 1)
    assert await eventually(lambda: ("b", "stall", "stall") in scene.said(), 2)
    assert sorted(scene.said()) == sorted(set(scene.said()))
    await scene.close()


async def test_a_pause_of_the_framework_raises_no_doubt_and_judges_nobody(scene):
    scene.finds("b")
    scene.speak()
    assert await eventually(lambda: scene.rules.active is scene.legs["b"], 0.7)
    await asyncio.sleep(0.51)
    scene.speak()
    await scene.rules.leave()
    connects = sum(leg.connects for leg in scene.legs.values())
    await asyncio.sleep(1.0)

    assert sum(leg.connects for leg in scene.legs.values()) == connects
    assert scene.said() == []
    scene.rules.open()
    assert await eventually(lambda: not scene.rules.is_held, 0.5)


async def test_a_noise_before_the_first_words_is_no_latency_of_theirs():
    scene = Scene("a")
    scene.speak()
    await asyncio.sleep(1.1)
    scene.speak()
    scene.final("a")

    proof = next(one for one in scene.reported if one["kind"] == "first_transcript")
    assert proof["latency_ms"] < 300
    await scene.close()
