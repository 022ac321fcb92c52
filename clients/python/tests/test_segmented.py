"""A service that asks once for each utterance loses a request, not the call."""

import asyncio
import io
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from pipecat.services.openai.stt import OpenAISTTService

from stt_guard import Call, Step
from stt_guard.pipecat import FailoverSTT
from stt_guard.words import FAILURES, Decision
from tests.fakes import FakeProvider, fake_of
from tests.fakes.coded import Ear, slices
from tests.headless import factory_of
from tests.rig.lines import play
from tests.rig.pipecat_line import PipecatLine
from tests.rig.script import Script, quiet, turns

SCRIPT = Script(quiet(0.4), *turns(4), quiet(1.0))


@dataclass
class Transcriptions:
    """OpenAI's endpoint: answers the next requests with these statuses, then with words."""

    statuses: list[int] = field(default_factory=list)
    asked: int = 0
    url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        """Say what is in the audio."""
        form = await request.post()
        self.asked += 1
        status = self.statuses.pop(0) if self.statuses else 200
        if status != 200:
            return web.json_response({"error": {"message": "as told"}}, status=status)
        with wave.open(io.BytesIO(form["file"].file.read())) as recorded:
            audio, ear = recorded.readframes(recorded.getnframes()), Ear()
        words = [word for piece in slices(audio) for word in ear.hear(piece)]
        return web.json_response({"text": " ".join(f"oa:{word}" for word in words)})

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Transcriptions"]:
        """Serve in the block."""
        app = web.Application()
        app.router.add_post("/v1/audio/transcriptions", self.answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            yield self
        finally:
            await runner.cleanup()


class Bot(PipecatLine):
    """A call that begins on OpenAI and could go to Deepgram."""

    def __init__(self, openai: Transcriptions, deepgram: FakeProvider) -> None:
        super().__init__("none", {"deepgram": deepgram})
        self.said: list[dict[str, Any]] = []
        steps = Step("openai"), Step("deepgram")
        call = Call("c", "r", "h", Decision(steps, "primary", "remote"), self.said.append)
        factories = {
            "openai": lambda _: OpenAISTTService(
                api_key="k", base_url=openai.url, settings=OpenAISTTService.Settings(model="m")
            ),
            "deepgram": factory_of(deepgram),
        }
        self.stt = FailoverSTT(call, factories)

    @property
    def failures(self) -> list[tuple[str, str]]:
        """What was reported as one."""
        return [(one["provider"], one["reason"]) for one in self.said if one["kind"] in FAILURES]

    @property
    def words(self) -> list[str]:
        """What came out."""
        return " ".join(text for _, text in self.finals).split()


async def converse(openai: Transcriptions) -> Bot:
    """Play the script."""
    deepgram = fake_of("deepgram", hears=True)
    async with openai.running(), deepgram.running():
        bot = Bot(openai, deepgram)
        await bot.begin()
        await bot.ready()
        await play(SCRIPT, bot, asyncio.get_running_loop().time())
        await bot.stop()
    return bot


async def test_one_request_that_fails_is_asked_again_and_costs_nothing():
    openai = Transcriptions(statuses=[200, 500, 500, 500])  # its client itself repeats it twice
    bot = await converse(openai)

    assert bot.failures == []
    assert bot.words == [f"oa:{number}" for number in range(SCRIPT.words)]
    assert openai.asked == 3 + 4


async def test_requests_that_go_on_failing_move_the_call_with_its_words():
    bot = await converse(Transcriptions(statuses=[200, *[500] * 99]))

    assert [provider for provider, _ in bot.failures] == ["openai"]
    assert [word.partition(":")[2] for word in bot.words] == list(map(str, range(SCRIPT.words)))


async def test_a_key_that_is_refused_is_not_asked_with_again():
    openai = Transcriptions(statuses=[401] * 99)
    bot = await converse(openai)

    assert bot.failures == [("openai", "auth")]
    assert openai.asked == 1
    assert bot.words == [f"dg:{number}" for number in range(SCRIPT.words)]
