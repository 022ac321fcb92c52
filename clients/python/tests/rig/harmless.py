"""What is no failure of a provider, however much it looks like one."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    InterruptionFrame,
)

from tests.rig.faults import behaves, complains, resets
from tests.rig.pipecat_line import PipecatLine
from tests.rig.scenarios import BRISK, NOISES, PROVIDERS
from tests.rig.scene import Do, Framework, Scenario, Scene
from tests.rig.script import Part, Script, noise, nothing, quiet, say, turns

FRAMEWORKS: Final[tuple[Framework, ...]] = ("pipecat", "livekit")
BLOCKS: Final = ((5.0, 2.0), (9.0, 2.0), (14.0, 4.0))  # when the loop stands still, and how long
TALK: Final = Script(quiet(1.0), *turns(6), quiet(1.0))


@dataclass(frozen=True, slots=True)
class Harmless:
    """A scenario in which nothing may be counted. Nor may the call be moved or ended, unless said.

    `is_heard`: most words must be heard all the same, or nothing was tried. `is_blocked`: the loop
    stands still in it, so it is run apart from the others.
    """

    scenario: Scenario
    may_move: bool = False
    ends: bool = False
    is_heard: bool = True
    is_blocked: bool = False

    @property
    def id(self) -> str:
        """The scenario's."""
        return self.scenario.id


def everything() -> list[Harmless]:
    """All of it, in both frameworks where it can be done in both."""
    found: list[Harmless] = []
    for primary in PROVIDERS:
        found += ends_of_calls(primary)
        for framework in FRAMEWORKS:
            for family in (callers, noises, odd_results, rotations, latencies, blocked):
                found += family(primary, framework)
    return sorted(found, key=lambda one: -one.scenario.script.length_s)


# --- what callers do


def callers(primary: str, framework: Framework) -> Iterator[Harmless]:
    """Silence, mutes, long speech, a bad line."""
    mute = ((3.1, mutes(True)), (8.1, mutes(False)))
    half = ((3.1, mutes(True)), (6.0, mutes(False)))  # in the middle of the third utterance
    scripts: dict[str, Script] = {
        "20 s of silence": talk_around(quiet(20.0)),
        "no audio for 6 s": talk_around(nothing(6.0)),
        "a VAD that does not stop for 12 s": talk_around(say(1.2), noise(12.0)),
        "two utterances of 9 s": Script(quiet(1.0), say(9.0), quiet(1.5), say(9.0), quiet(2.0)),
        "audio late by up to 0.4 s": Script(quiet(1.0), *turns(6), quiet(2.0), jitter_s=0.4),
    }
    for name, script in scripts.items():
        yield Harmless(Scenario(name, primary, script, framework=framework))
    yield Harmless(Scenario("muted for 5 s", primary, TALK, mute, framework=framework))
    yield Harmless(Scenario("unmuted in mid-utterance", primary, TALK, half, framework=framework))
    if framework == "pipecat":
        over = ((2.5, bot_speaks), (3.5, is_interrupted), (6.0, bot_speaks), (8.0, bot_stops))
        yield Harmless(Scenario("the caller speaks over the bot", primary, TALK, over))


def talk_around(*parts: Part) -> Script:
    """Speak, do this, and speak again."""
    return Script(quiet(1.0), *turns(2), *parts, quiet(1.5), *turns(2), quiet(1.0))


def noises(primary: str, framework: Framework) -> Iterator[Harmless]:
    """Speech to a VAD, and no words."""
    more: dict[str, tuple[Part, ...]] = {
        **NOISES,
        "one cough": (noise(0.4),),
        "two coughs": (noise(0.7), quiet(1.5), noise(0.7)),
        "one noise of 1.5 s": (noise(1.5),),
    }
    for name, parts in more.items():
        before, after = (quiet(1.0), *turns(1), quiet(2.0)), (quiet(5.0), *turns(1), quiet(1.0))
        script = Script(*before, *parts, *after)
        yield Harmless(Scenario(name, primary, script, framework=framework))


# --- what providers do


def odd_results(primary: str, framework: Framework) -> Iterator[Harmless]:
    """Results that are not as one would wish, and are results."""
    odd: dict[str, dict[str, object]] = {
        "interim results only": {"finals": "never"},
        "finals in batches of 4 s": {"finals": "each:4"},
        "each final twice": {"says": "twice"},
        "words of another language": {"says": "foreign"},
    }
    for name, values in odd.items():
        before = (behaves("primary", **values),)
        scenario = Scenario(name, primary, TALK, before=before, framework=framework)
        numbers = values.get("finals") != "never" and values.get("says") != "foreign"
        yield Harmless(scenario, is_heard=numbers)


def rotations(primary: str, framework: Framework) -> Iterator[Harmless]:
    """Sessions that a provider ends by an error, and begins again at once."""
    steps = tuple((3.0 + 2.2 * number, complains("primary", 503)) for number in range(5))
    script = Script(quiet(1.0), *turns(7), quiet(1.0))
    for name, taken in {"five sessions rotated, 2.2 s apart": steps,
                        "one session rotated": steps[:1]}.items():  # fmt: skip
        yield Harmless(Scenario(name, primary, script, taken, framework=framework))


def latencies(primary: str, framework: Framework) -> Iterator[Harmless]:
    """One is late, or both are. Of one the call may leave: the other was shown to be faster."""
    for late_s in (2.0, 3.0, 4.0, 6.0):
        script = Script(quiet(1.0), *BRISK, quiet(late_s + 2.0))
        one = behaves("primary", latency_s=late_s)
        both = (one, behaves("other", latency_s=late_s))
        yield Harmless(Scenario(f"results of both {late_s:.0f} s late", primary, script,
                                before=both, framework=framework))  # fmt: skip
        yield Harmless(Scenario(f"results of one {late_s:.0f} s late", primary, script,
                                before=(one,), framework=framework), may_move=True)  # fmt: skip


# --- what the machine and the end of a call do


def blocked(primary: str, framework: Framework) -> Iterator[Harmless]:
    """The loop stands still for 2 s, 2 s and 4 s."""
    script = Script(quiet(1.0), *turns(9), quiet(4.0))
    for late_s in (0.0, 1.0, 2.0):
        name = "a blocked loop" + (f", results {late_s:.0f} s late" if late_s else "")
        before = (behaves("primary", latency_s=late_s), behaves("other", latency_s=late_s))
        scenario = Scenario(name, primary, script, before=before, framework=framework)
        yield Harmless(scenario, is_blocked=True)
    steps = tuple((at_s - 0.05, resets("primary")) for at_s, _ in BLOCKS[1:])
    scenario = Scenario("a blocked loop as a drop heals", primary, script, steps,
                        framework=framework)  # fmt: skip
    yield Harmless(scenario, is_blocked=True)


def ends_of_calls(primary: str) -> Iterator[Harmless]:
    """Calls that end, and what goes wrong meanwhile."""
    for framework in FRAMEWORKS:
        script = Script(quiet(3.0))
        yield Harmless(
            Scenario("hung up after 0.5 s", primary, script, ((0.5, hangs_up),),
                     framework=framework), ends=True)  # fmt: skip
    script = Script(quiet(1.0), *turns(4), quiet(1.0))
    endings: dict[str, tuple[tuple[float, Do], ...]] = {
        "cancelled after 0.5 s": ((0.5, is_cancelled),),
        "an end, then a drop": ((3.6, hangs_up_and_drops),),
        "a drop, then an end": ((3.6, resets("primary")), (3.65, hangs_up)),
        "a cancel and a drop": ((3.6, is_cancelled_and_drops),),
    }
    for name, steps in endings.items():
        yield Harmless(Scenario(name, primary, script, steps), ends=True)


def mutes(is_muted: bool) -> Do:
    """Mute the caller, or listen again."""
    return lambda scene: scene.line.mute(is_muted)


async def bot_speaks(scene: Scene) -> None:
    """Let the bot begin to speak."""
    await pipe_of(scene).put(BotStartedSpeakingFrame())


async def bot_stops(scene: Scene) -> None:
    """Let the bot stop."""
    await pipe_of(scene).put(BotStoppedSpeakingFrame())


async def is_interrupted(scene: Scene) -> None:
    """Interrupt the bot."""
    await pipe_of(scene).put(InterruptionFrame())
    await bot_stops(scene)


def pipe_of(scene: Scene) -> PipecatLine:
    """Its line, which is one of Pipecat's."""
    assert isinstance(scene.line, PipecatLine)
    return scene.line


def hangs_up(scene: Scene) -> object:
    """End the call in order."""
    return scene.line.hang_up()


def is_cancelled(scene: Scene) -> object:
    """Cancel the call."""
    return scene.line.stop()


async def hangs_up_and_drops(scene: Scene) -> None:
    """End the call, and reset the connection in the same moment."""
    await with_a_drop(scene, scene.line.hang_up())


async def is_cancelled_and_drops(scene: Scene) -> None:
    """Cancel the call, and reset the connection in the same moment."""
    await with_a_drop(scene, scene.line.stop())


async def with_a_drop(scene: Scene, ending: object) -> None:
    """Let the call end, and its connection too."""
    task = asyncio.ensure_future(ending)
    await asyncio.sleep(0)
    scene.primary.kill_all()
    await task


HARMLESS: Final = everything()
