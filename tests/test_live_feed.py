"""The live feed over real sockets: who may listen, what they hear, and that nobody waits."""

import asyncio
import json
import time

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Permission, User
from django.db import OperationalError
from django.test import Client as Browser
from prometheus_client import REGISTRY
from websockets.exceptions import ConnectionClosed, InvalidStatus

from fallback import breaker, catalog, services, status
from fallback.domain import Kind, State
from fallback.live import hub
from fallback.live.hub import Client, Hub, begin
from fallback.live.reader import Reader
from fallback.models import ApiKey, Provider
from tests.configuration import make_route
from tests.rest import api, make_key, outcome
from tests.serving import heard, listen, serving

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def key():
    make_route()
    made = make_key("reader")
    catalog.reload()
    services.publish_configuration()
    return made


@pytest.fixture
def cookie():
    """Return the cookie of a signed-in member of staff who may see providers."""
    make_route()
    user = User.objects.create_user("ana", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_provider"))
    browser = Browser()
    browser.force_login(user)
    return f"sessionid={browser.cookies['sessionid'].value}"


@sync_to_async
def trip(*, provider: str = "soniox") -> None:
    """Have two calls fail on a provider."""
    reports = [
        outcome(call_id=f"{provider}{call}", provider=provider, reason="connection")
        for call in "12"
    ]
    api().report(*reports)


@sync_to_async
def force(state: State = State.FORCED_OPEN) -> None:
    services.set_override(Kind.STT, "soniox", state=state, reason="try", for_s=60, by="admin:ana")


# --- what is heard


async def test_the_first_message_is_the_body_of_get_status(key):
    async with serving() as address, listen(address, key) as feed:
        first = await heard(feed, "snapshot")

    body = json.loads(json.dumps(status.build()))
    assert {name: first[name] for name in body if name not in status.VOLATILE} == {
        name: value for name, value in body.items() if name not in status.VOLATILE
    }


async def test_a_trip_is_told_with_its_transition(key):
    async with serving() as address, listen(address, key) as feed:
        first = await heard(feed, "snapshot")
        await trip()
        moved = None
        while moved is None:
            change = await heard(feed, "change")
            moved = change["transition"]

    assert [row["state"] for row in change["breakers"] if row["provider"] == "soniox"] == ["open"]
    assert (moved["from"], moved["to"]) == ("closed", "open")
    assert moved["cause"] == "failure_threshold"
    assert change["version"] >= change["previous"] >= first["version"]


class LateReader(Reader):
    """Sees no event until it has looked at the status: one that is written just then."""

    def _wait(self):
        return []


def test_what_moves_during_a_look_is_told_with_the_state_it_led_to(key):
    told = []
    reader = LateReader(lambda now, events: told.append((now, events)))
    reader._read_all(block_ms=0)
    before = status.current()
    services.set_override(
        Kind.STT, "soniox", state=State.FORCED_OPEN, reason="try", for_s=60, by="admin:ana"
    )
    reader._look()
    now, events = told[0]

    assert [event.after for event in events] == ["forced_open"]
    assert now.etag != before.etag
    assert [it["state"] for it in now.body["breakers"] if it["provider"] == "soniox"] == [
        "forced_open"
    ]


async def test_only_breakers_that_changed_are_told(key):
    async with serving() as address, listen(address, key) as feed:
        await heard(feed, "snapshot")
        await force()
        change = await heard(feed, "change")

    assert [row["provider"] for row in change["breakers"]] == ["soniox"]
    assert change["breakers"][0]["override"]["by"] == "admin:ana"


async def test_every_change_starts_from_the_version_of_the_message_before(key):
    async with serving() as address, listen(address, key) as feed:
        versions = [(await heard(feed, "snapshot"))["version"]]
        for state in (State.FORCED_OPEN, State.SHADOW, State.FORCED_CLOSED):
            await force(state)
            change = await heard(feed, "change")
            assert change["previous"] == versions[-1]
            versions.append(change["version"])

    assert versions == sorted(set(versions))


async def test_a_resync_is_answered_with_a_snapshot_of_now(key):
    async with serving() as address, listen(address, key) as feed:
        await heard(feed, "snapshot")
        await force()
        change = await heard(feed, "change")
        await feed.send('{"type": "resync"}')
        again = await heard(feed, "snapshot")

    assert again["version"] == change["version"]
    assert again["verdict"] == "degraded"


async def test_a_beat_tells_the_version_and_the_time(key, monkeypatch):
    monkeypatch.setattr(hub, "BEAT_S", 0.1)
    monkeypatch.setattr(Hub.__init__, "__kwdefaults__", {"beat_s": 0.1, "slow_s": 10.0})
    async with serving() as address, listen(address, key) as feed:
        first = await heard(feed, "snapshot")
        beat = await heard(feed, "beat")

    assert (beat["version"], beat["at"][-1]) == (first["version"], "Z")


async def test_a_burst_of_events_becomes_few_messages(key):
    async with serving() as address, listen(address, key) as feed:
        await heard(feed, "snapshot")
        for state in (State.FORCED_OPEN, State.FORCED_CLOSED) * 20:
            await force(state)
        last = await force(State.SHADOW)
        count, moved = 0, []
        while not moved or moved[-1]["to"] != "shadow":
            last = await heard(feed, "change")
            count, moved = count + 1, moved + last["transitions"]

    assert len(moved) == 41
    assert count < 41
    assert last["breakers"][0]["state"] == "shadow"


async def test_a_provider_that_is_switched_off_is_told_as_gone(key):
    async with serving() as address, listen(address, key) as feed:
        await heard(feed, "snapshot")

        @sync_to_async
        def switch_off():
            Provider.objects.filter(slug="deepgram").update(enabled=False)
            catalog.reload()

        await switch_off()
        change = await heard(feed, "change")

    assert change["gone"] == [{"kind": "stt", "provider": "deepgram"}]


async def test_redis_going_and_coming_back_is_told(key, monkeypatch, redis_client):
    async with serving() as address, listen(address, key) as feed:
        await heard(feed, "snapshot")
        monkeypatch.setattr(breaker.shared.link, "_misses", 3)
        monkeypatch.setattr(breaker.shared.link, "_look_again_at", time.monotonic() + 1)
        gone = await heard(feed, "change")
        back = await heard(feed, "change")

    assert (gone["degraded"], back["degraded"]) == (True, False)


# --- who may listen


async def refused(address: str, **options) -> int:
    """Return the HTTP status that a client is refused with, 0 if it is let in."""
    try:
        async with listen(address, **options):
            return 0
    except InvalidStatus as error:
        return error.response.status_code


async def test_a_stranger_and_a_wrong_key_are_refused(key):
    async with serving() as address:
        assert await refused(address) == 403
        assert await refused(address, key="stt_abc.def") == 403
        assert await refused(address, key=key) == 0


async def test_staff_are_let_in_from_our_own_pages_only(cookie):
    async with serving() as address:

        async def answer(origin: str | None, cookies: str = cookie) -> int:
            return await refused(address, origin=origin, headers={"Cookie": cookies})

        assert await answer(f"http://{address}") == 0
        assert await answer("https://evil.example") == 403
        assert await answer("http://127.0.0.1:1") == 403
        assert await answer("null") == 403
        assert await answer(None) == 403
        assert await answer(f"http://{address}", "sessionid=made-up") == 403
        assert await answer(f"http://{address}", 'a="; sessionid;=;,') == 403


async def test_a_user_who_is_not_of_staff_is_refused(cookie):
    await sync_to_async(User.objects.update)(is_staff=False)
    async with serving() as address:
        found = await refused(address, origin=f"http://{address}", headers={"Cookie": cookie})

    assert found == 403


async def test_a_key_that_is_switched_off_is_dropped(key, monkeypatch):
    monkeypatch.setattr(hub, "RECHECK_S", 0.0)
    monkeypatch.setattr(Hub.__init__, "__kwdefaults__", {"beat_s": 0.1, "slow_s": 10.0})

    @sync_to_async
    def switch_off():
        ApiKey.objects.update(enabled=False)
        catalog.reload()

    async with serving() as address, listen(address, key) as feed:
        await heard(feed, "snapshot")
        await switch_off()
        with pytest.raises(ConnectionClosed):
            await heard(feed, "never")


# --- what strangers send


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"type": 1}', "[" * 900, '{"type": ["resync"]}', "\x00"]
)
async def test_nonsense_is_not_answered_and_costs_nothing(key, text):
    async with serving() as address, listen(address, key) as feed:
        await heard(feed, "snapshot")
        await feed.send(text)
        await feed.send(b"\xff\x00")
        await feed.send('{"type": "resync"}')

        assert (await heard(feed, "snapshot"))["type"] == "snapshot"


async def test_whoever_sends_too_much_is_closed(key):
    async with serving() as address:
        async with listen(address, key) as feed:
            await feed.send("x" * 2_000)
            with pytest.raises(ConnectionClosed) as closed:
                await heard(feed, "never")
        assert closed.value.rcvd.code == 1009
        async with listen(address, key) as feed:
            for _ in range(40):
                await feed.send('{"type": "resync"}')
            with pytest.raises(ConnectionClosed) as closed:
                await heard(feed, "never")
        assert closed.value.rcvd.code == 1008


# --- nobody waits


class Socket:
    """A socket that takes messages only while it is open for them."""

    def __init__(self) -> None:
        self.taken: list[dict] = []
        self.writable = asyncio.Event()
        self.writable.set()
        self.dropped = False

    async def send(self, message: dict) -> None:
        await self.writable.wait()
        self.taken.append(json.loads(message["text"]))

    def drop(self) -> None:
        self.dropped = True

    async def recheck(self) -> bool:
        return True


def join(of: Hub, socket: Socket) -> Client:
    client = Client(socket.send, socket.drop, socket.recheck)
    of.join(client)
    return client


async def until(claim, within_s: float = 5.0) -> None:
    """Return once the claim is true."""
    async with asyncio.timeout(within_s):
        while not claim():
            await asyncio.sleep(0.01)


async def test_a_client_that_takes_nothing_costs_the_others_no_time_and_gets_a_snapshot_later(key):
    feed, slow, quick = Hub(), Socket(), Socket()
    join(feed, slow), join(feed, quick)
    await until(lambda: slow.taken and quick.taken)
    slow.writable.clear()
    for state in (State.FORCED_OPEN, State.FORCED_CLOSED):
        await force(state)
        await until(lambda state=state: quick.taken[-1]["breakers"][0]["state"] == state)
    slow.writable.set()
    await until(lambda: slow.taken[-1]["type"] == "snapshot" and len(slow.taken) > 1)

    states = {row["provider"]: row["state"] for row in slow.taken[-1]["breakers"]}
    assert states["soniox"] == "forced_closed"
    assert len(slow.taken) == 3  # the snapshot, the change it was stuck in, the snapshot after


async def test_a_client_that_takes_nothing_for_too_long_is_dropped(key):
    feed, slow = Hub(beat_s=0.05, slow_s=0.1), Socket()
    join(feed, slow)
    await until(lambda: slow.taken)
    slow.writable.clear()
    await until(lambda: slow.dropped)

    assert REGISTRY.get_sample_value("stt_degraded_total", {"what": "feed_slow_client"}) >= 1


async def test_clients_are_counted_while_they_listen(key):
    def clients() -> float:
        return REGISTRY.get_sample_value("stt_feed_clients") or 0

    before = clients()
    async with serving() as address:
        async with listen(address, key) as feed:
            await heard(feed, "snapshot")
            assert clients() == before + 1
        await until(lambda: clients() == before)


async def test_a_send_goes_as_far_as_it_can_at_once_and_the_rest_is_a_task():
    written, go = [], asyncio.Event()

    async def send(*, waits: bool) -> None:
        written.append("begun")
        if waits:
            async with asyncio.timeout(5):  # belongs to one task from its beginning to its end
                await go.wait()
        written.append("done")

    at_once, later = begin(send(waits=False)), begin(send(waits=True))
    assert (at_once, written) == (None, ["begun", "done", "begun"])
    go.set()
    await later

    assert written == ["begun", "done", "begun", "done"]


async def test_a_send_that_fails_at_once_says_so_to_whoever_began_it():
    async def send() -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        begin(send())


async def test_a_send_that_is_cancelled_while_it_waits_hears_of_it():
    ended = []

    async def send() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    task = begin(send())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert ended == [True]


async def test_the_reader_ends_with_the_last_client(key):
    feed, socket = Hub(beat_s=0.05), Socket()
    client = join(feed, socket)
    reader = feed._reader
    await until(lambda: socket.taken)
    feed.leave(client)
    await until(lambda: not reader.is_alive())

    assert feed._reader is None


async def test_the_last_look_of_a_reader_is_not_the_first_snapshot_of_whoever_comes_next(
    key, monkeypatch
):
    looked = asyncio.Event()
    loop = asyncio.get_running_loop()

    def look(reader: Reader) -> None:
        """Look once, and tell what was seen long after the last client has left."""
        now = status.current()
        loop.call_soon_threadsafe(looked.set)
        reader._over.wait(5)
        reader._tell(now, [])

    feed, first, later = Hub(beat_s=0.05), Socket(), Socket()
    with monkeypatch.context() as slow:
        slow.setattr(Reader, "_look", look)
        client = join(feed, first)
        reader = feed._reader
        await looked.wait()
        feed.leave(client)
        await until(lambda: not reader.is_alive())
    await force()
    join(feed, later)
    await until(lambda: later.taken)

    states = {row["provider"]: row["state"] for row in later.taken[0]["breakers"]}
    assert states["soniox"] == "forced_open"


async def test_a3_a_key_that_cannot_be_checked_now_is_told_to_come_back(monkeypatch):
    def away(held):
        raise OperationalError("no route to host")

    monkeypatch.setattr(catalog, "_cache", catalog.Cache(away))
    async with serving() as address, listen(address, "stt_abc.def") as feed:
        with pytest.raises(ConnectionClosed) as closed:
            await heard(feed, "never")

    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
        1013, "this API key cannot be checked now",
    )  # fmt: skip
