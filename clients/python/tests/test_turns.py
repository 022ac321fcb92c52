"""What reaches the LLM of a bot with Pipecat's own aggregators, with the client and without it.

The caller says one sentence and waits. Without a fault and without the client that is one turn with
all of its words; so it must be when the provider that should have heard them never did.
"""

import asyncio
import itertools
import time
from dataclasses import dataclass

import pytest
from pipecat.frames.frames import (
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from stt_guard import Call, Step
from stt_guard.pipecat import FailoverSTT
from stt_guard.words import Decision
from tests.fakes import FakeProvider, fake_of
from tests.headless import Pipe, factory_of
from tests.rig.pipecat_line import frame_of
from tests.rig.scenarios import PROVIDERS
from tests.rig.scene import other_than
from tests.rig.script import Script, quiet, say


class Llm(FrameProcessor):
    """Answers each turn, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: list[str] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Answer a context."""
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        asked = [one for one in frame.context.messages if one["role"] == "user"]
        self.turns.append(str(asked[-1]["content"]))
        for answer in (
            LLMFullResponseStartFrame(),
            LLMTextFrame("Yes."),
            LLMFullResponseEndFrame(),
        ):
            await self.push_frame(answer)


@dataclass(frozen=True, slots=True)
class Turns:
    """What the LLM was asked, and how many words were in it and were said."""

    turns: list[str]
    said: int

    @property
    def words(self) -> int:
        """How many different words reached it."""
        return len({word for turn in self.turns for word in turn.split()})


async def converse(stt: FrameProcessor, script: Script) -> Turns:
    """Play a script to a bot with the default aggregators."""
    llm, pair = Llm(), LLMContextAggregatorPair(LLMContext())
    pipe = Pipe(stt, pair.user(), llm, pair.assistant())
    await asyncio.wait_for(pipe.started.wait(), 10)
    began_s = time.monotonic()
    for cue in script.cues:
        await asyncio.sleep(max(0.0, began_s + cue.at_s - time.monotonic()))
        await pipe.queue(frame_of(cue))
    await pipe.stop()
    return Turns(llm.turns, script.words)


def guarded(primary: FakeProvider, other: FakeProvider) -> FailoverSTT:
    """The client over two providers."""
    decision = Decision((Step("primary"), Step("other")), "primary", "remote")
    call = Call("call", "r", "pod", decision, lambda _: None)
    return FailoverSTT(call, {"primary": factory_of(primary), "other": factory_of(other)})


SCRIPTS = {
    "one sentence": Script(quiet(0.4), say(2.4), quiet(6.0)),
    "three breaths": Script(
        quiet(0.4), say(1.0), quiet(0.35), say(1.0), quiet(0.35), say(1.0), quiet(6.0)
    ),
}
FINALS = ("at end", "each:0.4")  # the second in pieces, as a provider works through what it is told
Case = tuple[str, str, str]
CASES: list[Case] = list(itertools.product(PROVIDERS, FINALS, SCRIPTS))


async def compare(case: Case) -> tuple[Turns, Turns]:
    """Return what reaches the LLM of a bot without the client, and with it when one stalls."""
    provider, finals, name = case
    primary = fake_of(provider, hears=True)
    other = fake_of(other_than(provider), hears=True)
    other.behaviour.finals, other.behaviour.speed = finals, 4.0
    async with primary.running(), other.running():
        plain = await converse(factory_of(other)({}), SCRIPTS[name])
        primary.behaviour.stream, primary.behaviour.after_s = "stall", 0.0
        return plain, await converse(guarded(primary, other), SCRIPTS[name])


@pytest.fixture(scope="module")
def compared() -> dict[Case, tuple[Turns, Turns]]:
    """All of it at once."""

    async def run() -> list[tuple[Turns, Turns]]:
        return await asyncio.gather(*map(compare, CASES))

    return dict(zip(CASES, asyncio.run(run()), strict=True))


@pytest.mark.parametrize("case", CASES, ids=": ".join)
def test_replayed_words_reach_the_llm_as_the_turn_that_they_are(compared, case):
    plain, ours = compared[case]

    assert plain.words == plain.said
    assert ours.words == ours.said
    assert len(ours.turns) <= len(plain.turns)
