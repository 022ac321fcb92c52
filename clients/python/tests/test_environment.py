"""What a guard is told: by arguments, by the environment, or not at all."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from stt_guard import SttGuard, default_guard, guard
from tests.conftest import eventually
from tests.control_plane import free_port
from tests.plane_double import PlaneDouble

ALL = {"STT_GUARD_URL": "http://cp/", "STT_GUARD_KEY": "k1", "STT_GUARD_ROUTE": "r"}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Give a test an environment of its own, with nothing of the client in it."""
    for name in (*ALL, "STT_GUARD_FEED", "STT_GUARD_STATE_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(guard, "_default", None)
    return lambda **values: [monkeypatch.setenv(name, text) for name, text in values.items()]


def test_everything_may_come_from_the_environment(environment, tmp_path):
    environment(**ALL, STT_GUARD_FEED="off", STT_GUARD_STATE_FILE=str(tmp_path / "s"))
    made = SttGuard()

    assert (made.route, made.can_use, made._links.plan.url) == ("r", (), "http://cp")
    assert (made._links.plan.feed, made._memory._path) == ("off", tmp_path / "s")
    assert made._links.plan.headers["Authorization"] == "Bearer k1"


def test_an_argument_goes_before_its_variable(environment):
    environment(**ALL, STT_GUARD_FEED="off")
    made = SttGuard("https://other", key="k2", route="r2", feed="poll")

    plan = made._links.plan
    assert (made.route, plan.url, plan.feed) == ("r2", "https://other", "poll")
    assert plan.headers["Authorization"] == "Bearer k2"


@pytest.mark.parametrize("missing", ALL)
@pytest.mark.parametrize("is_empty", [True, False])
def test_what_is_missing_is_named(environment, missing, is_empty):
    environment(**{name: text for name, text in ALL.items() if name != missing})
    if is_empty:
        environment(**{missing: ""})
    with pytest.raises(ValueError, match=missing) as raised:
        SttGuard()

    assert not [name for name in ALL if name != missing and name in str(raised.value)]


def test_all_that_is_missing_is_named_at_once():
    with pytest.raises(ValueError, match=r"url .*STT_GUARD_URL.*key .*KEY.*route .*ROUTE"):
        SttGuard()


def test_a_word_for_the_feed_that_is_none_is_refused(environment):
    environment(**ALL, STT_GUARD_FEED="on")
    with pytest.raises(ValueError, match="must be auto, poll or off, not 'on'"):
        SttGuard()


def test_the_processs_own_guard_is_made_once_whoever_asks_first(environment):
    environment(**ALL)
    gate = threading.Barrier(8)

    def ask(_: int) -> SttGuard:
        gate.wait()
        return default_guard()

    with ThreadPoolExecutor(8) as pool:
        assert len({id(one) for one in pool.map(ask, range(8))}) == 1
    assert default_guard().route == "r"


def test_the_processs_own_guard_says_what_it_misses_and_is_made_when_it_is_there(environment):
    with pytest.raises(ValueError, match="STT_GUARD_KEY"):
        default_guard()
    environment(**ALL)

    assert default_guard() is default_guard()


# --- can_use left out


@pytest.mark.parametrize("feed", ["auto", "off"])
async def test_without_can_use_all_of_the_route_may_be_used(feed):
    double = PlaneDouble()
    double.breakers["soniox"]["state"] = "open"
    async with double.running(), SttGuard(double.url, key="k", route="r", feed=feed) as made:
        await made.start(2)
        call = await made.call("c1")
        alone = await made.call("c2", can_use=["soniox"])
        word = await made.call("c3", can_use="deepgram")

    assert call.source == ("pushed" if feed == "auto" else "remote")
    assert (call.order, alone.order) == (("deepgram", "soniox"), ("soniox",))
    assert word.order == ("deepgram",)


async def test_without_can_use_the_last_known_state_names_them(state_file):
    double = PlaneDouble()
    fixed = {"key": "k", "route": "r", "feed": "off", "state_file": state_file}
    async with double.running(), SttGuard(double.url, **fixed) as made:
        await made.start()
        assert await eventually(state_file.exists)
    async with SttGuard(f"http://127.0.0.1:{free_port()}", **fixed) as alone:
        call = await alone.call("c1")

    assert (call.source, call.order) == ("last_known", ("soniox", "deepgram"))


async def test_without_can_use_and_with_no_speaker_of_the_language_the_route_is_used_all_the_same():
    double = PlaneDouble()
    async with double.running(), SttGuard(double.url, key="k", route="r") as made:
        await made.start(2)
        body = double.status()
        for step in body["routes"][0]["order"]:
            step["languages"] = ["en"]
        await double.send({"type": "snapshot", **body})
        assert await eventually(lambda: made.picture.routes["r"].places[0].languages)
        double.fault = "500"
        call = await made.call("c1", language="fr")

    assert (call.source, call.order) == ("local_chain", ("soniox", "deepgram"))
    assert call.settings == {"model": "s"}


async def test_where_nothing_at_all_is_known_a_call_says_so():
    async with SttGuard(f"http://127.0.0.1:{free_port()}", key="k", route="r") as made:
        with pytest.raises(ValueError, match="nobody is known on route 'r': give can_use"):
            await made.call("c1")
        call = await made.call("c1", can_use=["a", "b"], language="hi-IN")

    assert (call.source, call.order, call.language) == ("local_chain", ("a", "b"), "hi-IN")
