"""Places in the feed: so many for each key and each person, some for people, and why not."""

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client as Browser
from websockets.exceptions import ConnectionClosed, InvalidStatus

from fallback import catalog, services
from fallback.live import consumer, door, places
from fallback.live.places import Listener, Places
from tests.configuration import make_route
from tests.rest import make_key
from tests.serving import heard, listen, serving

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def keys() -> list[str]:
    """Return two readers' keys."""
    make_route()
    made = [make_key("reader", name=name) for name in ("fleet", "other")]
    catalog.reload()
    services.publish_configuration()
    return made


@pytest.fixture
def cookie() -> str:
    """Return the cookie of a signed-in member of staff who may see providers."""
    user = User.objects.create_user("ana", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_provider"))
    browser = Browser()
    browser.force_login(user)
    return f"sessionid={browser.cookies['sessionid'].value}"


@pytest.fixture
def few(monkeypatch) -> None:
    """Have ten places: two for people, four for each key, two for each person."""
    monkeypatch.setattr(places, "CLIENTS_MAX", 10)
    monkeypatch.setattr(places, "PEOPLE_SHARE", 5)
    monkeypatch.setattr(places, "PER_KEY_SHARE", 2.5)
    monkeypatch.setattr(places, "PER_PERSON", 2)
    monkeypatch.setattr(consumer, "_explained", consumer.Buckets(0.001, 100))


async def why_closed(feed) -> tuple[int, str]:
    """Return the close code and reason of a socket that was let in and closed."""
    with pytest.raises(ConnectionClosed) as closed:
        await heard(feed, "never")
    return closed.value.rcvd.code, closed.value.rcvd.reason


async def test_s13_one_key_has_its_share_and_no_more(keys, cookie, few):
    async with serving() as address, AsyncExitStack() as held:
        for _ in range(4):
            feed = await held.enter_async_context(listen(address, keys[0]))
            await heard(feed, "snapshot")
        code, why = await why_closed(await held.enter_async_context(listen(address, keys[0])))
        assert (code, "all 4 places" in why) == (1013, True)

        for _ in range(4):
            await heard(await held.enter_async_context(listen(address, keys[1])), "snapshot")
        code, why = await why_closed(await held.enter_async_context(listen(address, keys[1])))
        assert (code, "all 4 places" in why) == (1013, True)

        own = {"origin": f"http://{address}", "headers": {"Cookie": cookie}}
        for _ in range(2):
            await heard(await held.enter_async_context(listen(address, **own)), "snapshot")
        code, why = await why_closed(await held.enter_async_context(listen(address, **own)))
        assert (code, "all 2 places" in why) == (1013, True)


async def test_s13_whoever_leaves_makes_room(keys, few):
    async with serving() as address, AsyncExitStack() as held:
        feeds = [await held.enter_async_context(listen(address, keys[0])) for _ in range(4)]
        for feed in feeds:
            await heard(feed, "snapshot")
        await feeds[0].close()
        await asyncio.sleep(0.2)
        await heard(await held.enter_async_context(listen(address, keys[0])), "snapshot")


def test_s13_a_fleet_of_a_thousand_pods_with_one_key_has_its_places():
    taken = Places(room=64_512)
    fleet, person = Listener("key", "fleet"), Listener("person", "1")

    assert [taken.take(fleet) for _ in range(1_000)] == [""] * 1_000
    assert [taken.take(fleet) for _ in range(1_500)] == [""] * 1_500
    assert "all 2500 places" in taken.take(fleet)
    assert [taken.take(Listener("key", "b")) for _ in range(2_300)] == [""] * 2_300
    assert taken.take(Listener("key", "c"))  # what is left is for people
    assert taken.take(person) == ""


def test_s13_places_fit_into_the_descriptors():
    small = Places(room=768)

    assert small.most == 576
    assert [small.take(Listener("key", str(n))) for n in range(553)] == [""] * 553
    assert small.take(Listener("key", "x"))
    assert [small.take(Listener("person", str(n))) for n in range(23)] == [""] * 23
    assert small.take(Listener("person", "x"))


def test_every_place_that_was_taken_is_given_back():
    taken = Places(room=5_000)
    who = [Listener("key", "a"), Listener("key", "a"), Listener("person", "1")]
    for one in who:
        taken.take(one)
    for one in who:
        taken.leave(one)

    assert (taken.count, dict(taken.held)) == (0, {})


# --- handshakes


async def test_s13_handshakes_with_a_session_are_throttled_by_address(keys, cookie, monkeypatch):
    monkeypatch.setattr(door, "_sessions", door.Buckets(0.001, 3))
    async with serving() as address:
        own = {"origin": f"http://{address}", "headers": {"Cookie": "sessionid=made-up"}}
        for _ in range(3):
            with pytest.raises(InvalidStatus):
                await listen(address, **own)
        async with listen(address, **own) as feed:
            code, why = await why_closed(feed)
        async with listen(address, keys[0]) as feed:
            await heard(feed, "snapshot")

    assert (code, "address" in why) == (1013, True)


async def test_s13_a_key_that_connects_too_often_is_told_to_wait(keys, monkeypatch):
    monkeypatch.setattr(door, "_keys", door.Buckets(0.001, 2))
    async with serving() as address:
        for _ in range(2):
            async with listen(address, keys[0]) as feed:
                await heard(feed, "snapshot")
        async with listen(address, keys[0]) as feed:
            code, why = await why_closed(feed)
        async with listen(address, keys[1]) as feed:
            await heard(feed, "snapshot")

    assert (code, "key" in why) == (1013, True)


async def test_s13_a_flood_of_refusals_leaves_no_sockets_open(keys, few, monkeypatch):
    monkeypatch.setattr(consumer, "_explained", consumer.Buckets(0.001, 3))
    codes = []
    async with serving() as address, AsyncExitStack() as held:
        for _ in range(4):
            await held.enter_async_context(listen(address, keys[0]))
        for _ in range(6):
            try:
                async with listen(address, keys[0]) as feed:
                    codes.append((await why_closed(feed))[0])
            except InvalidStatus as error:
                codes.append(error.response.status_code)

    assert codes == [1013] * 3 + [403] * 3


async def test_sessions_that_hang_in_the_database_keep_no_key_out(keys, cookie, monkeypatch):
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang(_cookies: str) -> None:
        asyncio.run_coroutine_threadsafe(release.wait(), loop).result(20)

    monkeypatch.setattr(door, "_staff", hang)
    async with serving() as address:
        own = {"origin": f"http://{address}", "headers": {"Cookie": cookie}}
        hanging = [asyncio.ensure_future(listen(address, **own).__aenter__()) for _ in range(12)]
        await asyncio.sleep(0.2)
        async with listen(address, keys[0]) as feed:
            snapshot = await heard(feed, "snapshot")
        release.set()
        await asyncio.gather(*hanging, return_exceptions=True)

    assert json.dumps(snapshot)


# --- origins


@pytest.mark.parametrize(
    ("scheme", "origin", "host", "is_ours"),
    [
        ("ws", "http://testserver", "testserver", True),
        ("ws", "https://testserver", "testserver", False),
        ("wss", "https://testserver", "testserver", True),
        ("wss", "http://testserver", "testserver", False),
        ("ws", "http://testserver:8000", "testserver:8000", True),
        ("ws", "http://testserver:8000", "testserver", False),
        ("wss", "https://elsewhere", "testserver", False),
        ("ws", "", "testserver", False),
        ("ws", "null", "testserver", False),
        ("ws", "http://testserver/", "testserver", False),
    ],
)
def test_s28_a_page_of_another_scheme_is_not_ours(scheme, origin, host, is_ours, settings):
    settings.ALLOWED_HOSTS = ["testserver"]
    settings.CSRF_TRUSTED_ORIGINS = []

    assert door.is_ours(origin, host, scheme) is is_ours


def test_s28_the_public_url_is_ours_whatever_the_proxy_says(settings):
    settings.CSRF_TRUSTED_ORIGINS = ["https://stt.example.com"]

    assert door.is_ours("https://stt.example.com", "10.0.0.7:8000", "ws")


async def test_s28_over_a_socket_and_behind_a_proxy_that_ends_tls(keys, cookie):
    async def status_of(address: str, origin: str, **headers: str) -> int:
        own = {"origin": origin, "headers": {"Cookie": cookie, **headers}}
        try:
            async with listen(address, **own):
                return 0
        except InvalidStatus as error:
            return error.response.status_code

    async with serving() as address:  # the server believes proxies on this machine, as is usual
        assert await status_of(address, f"http://{address}") == 0
        assert await status_of(address, f"https://{address}") == 403
        forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.7"}
        assert await status_of(address, f"https://{address}", **forwarded) == 0
        assert await status_of(address, f"http://{address}", **forwarded) == 403
