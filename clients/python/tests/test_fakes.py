"""The fake providers that hear: what they say is what was said to them, and when."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.fakes import FakeDeepgram, FakeProvider, FakeSoniox, fake_of
from tests.fakes.coded import NOISE, Ear, level, value_of

FINALIZE = {"sx": '{"type": "finalize"}', "dg": '{"type": "Finalize"}'}
PAUSE = level(0, 0.5)


def said(*words: int) -> bytes:
    """The audio of these words."""
    return b"".join(level(value_of(word), 0.2) for word in words)


@asynccontextmanager
async def talk(fake: FakeProvider) -> AsyncIterator[ClientConnection]:
    """Connect to the fake as a client does."""
    async with connect(fake.url, proxy=None, close_timeout=0.1) as client:
        if fake.tag == "sx":
            await client.send(json.dumps({"sample_rate": 16_000}))
        yield client


async def hear(client: ClientConnection, limit_s: float = 0.3) -> list[dict[str, Any]]:
    """Return what comes until nothing does for so long, in one shape for both providers."""
    found = []
    try:
        while True:
            found.append(shaped(json.loads(await asyncio.wait_for(client.recv(), limit_s))))
    except TimeoutError:
        return found


def shaped(body: dict[str, Any]) -> dict[str, Any]:
    """Return the text of a result and whether it is final."""
    if "tokens" in body:
        words = [one["text"].strip() for one in body["tokens"] if one["text"][0] != "<"]
        ends = [one["text"] for one in body["tokens"] if one["text"][0] == "<"]
        return {"text": " ".join(words), "final": bool(ends)}
    text = body["channel"]["alternatives"][0]["transcript"]
    return {"text": text, "final": body["is_final"]}


def finals(found: list[dict[str, Any]]) -> list[str]:
    """The texts that are final."""
    return [one["text"] for one in found if one["final"]]


@pytest.fixture(params=["soniox", "deepgram"])
async def fake(request: pytest.FixtureRequest) -> AsyncIterator[FakeProvider]:
    """Each of them, running."""
    async with fake_of(request.param, hears=True).running() as running:
        yield running


def test_an_ear_hears_each_word_once_however_it_is_cut_up():
    audio = level(0, 0.5) + said(0, 1, 2) + level(0, 0.3) + said(7)
    for size in (640, 1280, 1600, 50_000):
        ear = Ear()
        pieces = [audio[at : at + size] for at in range(0, len(audio), size)]

        assert [word for piece in pieces for word in ear.hear(piece)] == [0, 1, 2, 7]


def test_of_a_word_cut_in_two_only_who_gets_most_of_it_hears_it():
    word = said(3)
    for cut in range(0, len(word), 640):
        heard = Ear().hear(word[:cut]) + Ear().hear(word[cut:])

        assert len(heard) <= 1


def test_a_word_that_is_said_twice_in_a_row_is_heard_twice():
    assert Ear().hear(said(4, 4)) == [4, 4]


def test_noise_and_real_sound_hold_no_words():
    real = b"".join((1_000 + at * 7_919 % 9_000).to_bytes(2, "little") for at in range(16_000))

    assert Ear().hear(level(NOISE, 2.0) + level(256, 1.0) + real) == []


async def test_it_says_the_words_it_heard_and_makes_them_final_when_asked(fake):
    async with talk(fake) as client:
        await client.send(said(5, 6, 7))
        before = await hear(client)
        await client.send(FINALIZE[fake.tag])
        after = await hear(client)

    tag = fake.tag
    assert [one["text"] for one in before] == [f"{tag}:5", f"{tag}:5 {tag}:6",
                                               f"{tag}:5 {tag}:6 {tag}:7"]  # fmt: skip
    assert finals(before) == []
    assert finals(after) == [f"{tag}:5 {tag}:6 {tag}:7"]


async def test_deepgram_and_a_soniox_with_endpointing_make_a_pause_final():
    async with FakeDeepgram(hears=True).running() as dg, FakeSoniox(hears=True).running() as sx:
        async with talk(dg) as client:
            await client.send(said(1, 2) + PAUSE + said(3))
            heard = finals(await hear(client))
        async with talk(sx) as client:
            await client.send(said(1, 2) + PAUSE)
            unasked = finals(await hear(client))
        async with connect(sx.url, proxy=None, close_timeout=0.1) as client:
            await client.send('{"enable_endpoint_detection": true}')
            await client.send(said(1, 2) + PAUSE)
            at_endpoint = finals(await hear(client))

    assert (heard, unasked, at_endpoint) == (["dg:1 dg:2"], [], ["sx:1 sx:2"])


async def test_noise_is_answered_with_nothing(fake):
    async with talk(fake) as client:
        await client.send(level(NOISE, 1.0) + PAUSE)
        await client.send(FINALIZE[fake.tag])

        assert {one["text"] for one in await hear(client)} == {""}


async def test_latency_delays_each_result_and_not_the_next_one(fake):
    fake.behaviour.latency_s = 0.3
    async with talk(fake) as client:
        began_s = time.monotonic()
        await client.send(said(*range(10)))
        await client.send(FINALIZE[fake.tag])
        first = await asyncio.wait_for(client.recv(), 1)
        first_s = time.monotonic() - began_s
        rest = await hear(client, 0.25)
        last_s = time.monotonic() - began_s - 0.25

    assert first
    assert finals(rest) == [" ".join(f"{fake.tag}:{word}" for word in range(10))]
    assert 0.28 < first_s < 0.6
    assert last_s < 0.6


async def test_one_that_stalls_answers_nothing_not_even_what_it_knows(fake):
    fake.behaviour.latency_s = 0.2
    async with talk(fake) as client:
        await client.send(said(1))
        await asyncio.sleep(0.05)
        fake.behaviour.stream, fake.behaviour.after_s = "stall", 0.0
        await client.send(said(2))
        await client.send(FINALIZE[fake.tag])
        stalled = await hear(client, 0.4)
        fake.behaviour.stream, fake.behaviour.latency_s = "ok", 0.0
        await client.send(said(3))
        await client.send(FINALIZE[fake.tag])
        after = finals(await hear(client))

    assert stalled == []
    assert after == [f"{fake.tag}:1 {fake.tag}:3"]  # what it had, and nothing of what it swallowed


async def test_finals_may_never_come_come_in_batches_or_twice(fake):
    fake.behaviour.finals = "never"
    async with talk(fake) as client:
        await client.send(said(1) + PAUSE)
        await client.send(FINALIZE[fake.tag])
        never = finals(await hear(client))
    fake.behaviour.finals = "each:1"
    async with talk(fake) as client:
        for word in range(6):
            await client.send(said(word))
        batch = finals(await hear(client))
    fake.behaviour.finals, fake.behaviour.says = "at end", "twice"
    async with talk(fake) as client:
        await client.send(said(1))
        await client.send(FINALIZE[fake.tag])
        twice = finals(await hear(client))

    assert never == []
    assert batch == [" ".join(f"{fake.tag}:{word}" for word in range(4))]
    assert twice == [f"{fake.tag}:1"] * 2


async def test_foreign_words_are_text_without_a_number(fake):
    fake.behaviour.says = "foreign"
    async with talk(fake) as client:
        await client.send(said(1, 2))
        await client.send(FINALIZE[fake.tag])
        (text,) = finals(await hear(client))

    assert len(text.split()) == 2
    assert ":" not in text


async def test_a_connection_may_be_slow_drip_hang_or_flap(fake):
    async def takes_s(limit_s: float) -> float | None:
        began_s = time.monotonic()
        try:
            async with connect(fake.url, proxy=None, open_timeout=limit_s, close_timeout=0.1):
                return time.monotonic() - began_s
        except TimeoutError:
            return None

    fake.behaviour.connect_delay_s = 0.3
    assert 0.28 < (await takes_s(2) or 0) < 1.0
    fake.behaviour.connect_delay_s = 0.0
    for how in ("drip", "hang"):
        fake.behaviour.connect = how
        assert await takes_s(1.3) is None
    fake.behaviour.connect, fake.behaviour.flap_s = "ok", 0.3
    began_s = time.monotonic()
    async with talk(fake) as client:
        with pytest.raises(ConnectionClosed):
            await client.recv()
    assert 0.25 < time.monotonic() - began_s < 1.0


@pytest.mark.parametrize(
    ("how", "code"), [("kill_all", None), ("close_all", 1011), ("complain_all", 503)]
)
async def test_live_connections_are_ended_once_and_the_next_is_well(fake, how, code):
    async with talk(fake) as client:
        await client.send(said(1))
        await hear(client, 0.1)
        ending = getattr(fake, how)(*([code] if code else []))
        if ending:
            await ending
        await asyncio.wait_for(client.wait_closed(), 1)
        ends_with = client.close_code
        left = [json.loads(message) async for message in messages(client)]
    async with talk(fake) as client:
        await client.send(said(2))

        assert await hear(client, 0.1)
    own = {"sx": 1000, "dg": 1011}[fake.tag]
    assert ends_with == {"kill_all": 1006, "close_all": 1011, "complain_all": own}[how]
    assert [str(code) in json.dumps(one) for one in left] == [True] * (how == "complain_all")


async def messages(client: ClientConnection) -> AsyncIterator[str | bytes]:
    """What is left to read of a closed connection."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield await client.recv()


async def test_a_refusal_is_the_status(fake):
    fake.behaviour.connect = "http:503"
    with pytest.raises(InvalidStatus, match="503"):
        await connect(fake.url, proxy=None)
