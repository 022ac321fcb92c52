"""`FailoverSTT` and `guarded_session` as the README shows them: classes, and the environment."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from livekit import rtc
from livekit.agents import Agent, AgentSession
from livekit.plugins import deepgram as livekit_deepgram
from livekit.plugins import soniox as livekit_soniox
from pipecat.services.deepgram.stt import DeepgramSTTService
from pipecat.services.soniox.stt import SonioxSTTService

from stt_guard import Call, SttGuard, guard
from stt_guard.failover import Swap
from stt_guard.livekit import FailoverAdapter, guarded_session
from stt_guard.livekit.making import make as make_plugin
from stt_guard.pipecat import FailoverSTT
from stt_guard.pipecat.making import make as make_service
from tests.conftest import eventually
from tests.control_plane import ControlPlane
from tests.fakes import FakeProvider, fake_of
from tests.fakes.coded import level, value_of
from tests.headless import RATE
from tests.rig.lines import play
from tests.rig.pipecat_line import PipecatLine
from tests.rig.script import Script, quiet, turns
from tests.test_livekit import LevelVad, Microphone

CHAIN = ("soniox-short", "deepgram-short")


@pytest.fixture
def environment(plane: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment of an agent says, and no guard made from another."""
    monkeypatch.setenv("STT_GUARD_URL", plane.url)
    monkeypatch.setenv("STT_GUARD_KEY", plane.keys["agent"])
    monkeypatch.setenv("STT_GUARD_ROUTE", "short")
    for name in ("SONIOX", "DEEPGRAM"):
        monkeypatch.setenv(f"{name}_API_KEY", f"{name.lower()}-key")
    monkeypatch.setattr(guard, "_default", None)


@asynccontextmanager
async def two() -> AsyncIterator[tuple[FakeProvider, FakeProvider]]:
    """Soniox and Deepgram, both hearing."""
    soniox, deepgram = fake_of("soniox", hears=True), fake_of("deepgram", hears=True)
    async with soniox.running(), deepgram.running():
        yield soniox, deepgram


def pipecat_classes(soniox: FakeProvider, deepgram: FakeProvider) -> dict[str, Any]:
    """The services' classes, at local addresses."""

    class Soniox(SonioxSTTService):
        def __init__(self, **values: Any) -> None:
            url = f"{soniox.url}/transcribe-websocket"
            super().__init__(url=url, sample_rate=RATE, **values)

    class Deepgram(DeepgramSTTService):
        def __init__(self, *, api_key: str, **values: Any) -> None:
            super().__init__(api_key=api_key, base_url=deepgram.url, sample_rate=RATE, **values)

    return {"soniox-short": Soniox, "deepgram-short": Deepgram}


class Bot(PipecatLine):
    """A line with an STT of our own."""

    def __init__(self, stt: FailoverSTT) -> None:
        super().__init__("none", {"soniox-short": fake_of("soniox")})
        self.stt = stt


async def test_a_pipecat_bot_decides_by_itself_and_hears_on_when_its_provider_is_down(environment):
    decided: list[Call] = []
    swaps: list[Swap] = []
    async with two() as (soniox, deepgram):
        soniox.behaviour.connect = "http:503"
        stt = FailoverSTT(pipecat_classes(soniox, deepgram), call_id="short-1", language="hi")
        stt.add_event_handler("on_decision", lambda _, call: decided.append(call))
        stt.add_event_handler("on_swap", lambda _, swap: swaps.append(swap))
        line = Bot(stt)
        await line.begin()
        await line.ready()
        script = Script(quiet(0.4), *turns(2), quiet(1.0))

        await play(script, line, asyncio.get_running_loop().time())
        await line.hang_up()
        await guard.default_guard().aclose()

    assert [call.id for call in decided] == ["short-1"]
    assert [(one.left, one.joined, one.reason) for one in swaps] == [(*CHAIN, "server_error")]
    words = " ".join(text for _, text in line.finals).split()
    assert words == [f"dg:{number}" for number in range(script.words)]
    assert set(soniox.counters.keys) == {"soniox-key"}
    assert "language=hi" in deepgram.counters.paths[0]


async def test_a_livekit_session_is_one_call(environment, monkeypatch):
    async with two() as (soniox, deepgram):
        soniox.behaviour.connect = "http:503"

        async with aiohttp.ClientSession() as http:
            factories = {
                "soniox-short": lambda settings: livekit_soniox.STT(
                    base_url=f"{soniox.url}/any", http_session=http
                ),
                "deepgram-short": lambda settings, language: livekit_deepgram.STT(
                    base_url=f"{deepgram.url}/v1/listen", http_session=http, language=language
                ),
            }
            session = await guarded_session(
                factories, call_id="short-lk", language="hi", vad=LevelVad()
            )
            microphone, finals = Microphone(), list[str]()
            session.on("user_input_transcribed", lambda event: finals.append(event.transcript))
            session.input.audio = microphone
            await session.start(Agent(instructions=""))

            for word in (1, 2, 3, None, None, None):
                audio = level(0 if word is None else value_of(word), 0.2)
                microphone.frames.put_nowait(rtc.AudioFrame(audio, RATE, 1, len(audio) // 2))

                await asyncio.sleep(0.2)
            assert await eventually(lambda: any("dg:3" in text for text in finals), 4)
            await session.aclose()
            await guard.default_guard().aclose()

    assert isinstance(session, AgentSession)
    assert isinstance(session.stt, FailoverAdapter)
    assert "language=hi" in deepgram.counters.paths[0]


# --- settings that cannot hurt


def local(settings: dict[str, dict[str, Any]]) -> Any:
    """A guard whose operators have set this."""
    return SttGuard.local(["soniox", "deepgram"], settings=settings)


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The providers' keys."""
    for name in ("SONIOX", "DEEPGRAM"):
        monkeypatch.setenv(f"{name}_API_KEY", "k")


CLASSES = {"soniox": SonioxSTTService, "deepgram": DeepgramSTTService}


async def test_a_typo_in_both_steps_costs_no_call_its_provider(keys):
    guarded = local({"soniox": {"modle": "v5"}, "deepgram": {"modle": "nova-3"}})
    call = await guarded.call("c")
    stt = FailoverSTT(call, CLASSES)

    told = [(one["provider"], one["kind"], one["reason"], one["code"]) for one in guarded.reported
            if one["kind"] == "recovered"]  # fmt: skip
    assert len(stt.services) == 2
    assert call.provider == "soniox"
    assert told == [
        ("soniox", "recovered", "bad_request", "modle"),
        ("deepgram", "recovered", "bad_request", "modle"),
    ]
    assert not call.has_failed("soniox")


async def test_a_right_setting_reaches_its_provider_and_is_not_reported(keys):
    guarded = local({"soniox": {"language_hints_strict": True}, "deepgram": {"endpointing": 300}})
    stt = FailoverSTT(await guarded.call("c"), CLASSES)

    assert stt.services[0]._settings.language_hints_strict is True
    assert stt.services[1]._settings.endpointing == 300
    assert not [one for one in guarded.reported if one["kind"] == "recovered"]


@pytest.mark.parametrize("name", ["url", "api_key", "base_url"])
def test_operators_cannot_send_a_key_somewhere_else(keys, name):
    settings = {name: "wss://elsewhere.example"}

    with pytest.raises(TypeError):
        make_service("soniox", SonioxSTTService, dict(settings), "")
    with pytest.raises(TypeError):
        make_plugin("deepgram", livekit_deepgram.STT, dict(settings), "")


def test_a_missing_key_is_named(monkeypatch):
    monkeypatch.delenv("DEEPGRAM_API_KEY", raising=False)

    with pytest.raises(LookupError, match="DEEPGRAM_EU_API_KEY or DEEPGRAM_API_KEY"):
        make_service("deepgram-eu", DeepgramSTTService, {}, "")


def test_a_livekit_plugin_gets_its_settings_and_language(keys):
    soniox = make_plugin("soniox", livekit_soniox.STT, {"max_endpoint_delay_ms": 900}, "hi-IN")
    deepgram = make_plugin("deepgram", livekit_deepgram.STT, {"model": "nova-2"}, "hi")

    assert soniox._params.max_endpoint_delay_ms == 900
    assert soniox._params.language_hints == ["hi"]
    assert (deepgram._opts.model, deepgram._opts.language) == ("nova-2", "hi")
