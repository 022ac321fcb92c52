"""Names that the server does not know are said once, told to it, and taken back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from stt_guard import SttGuard, unknown
from stt_guard.ask import Answer
from stt_guard.state import Picture
from stt_guard.unknown import NAMES_MAX, Unknown
from tests.conftest import eventually
from tests.control_plane import ControlPlane
from tests.plane_double import PlaneDouble

NOBODY = {"routes": [], "providers": []}


@asynccontextmanager
async def client(double: PlaneDouble, *can_use: str, **options: object) -> AsyncIterator[SttGuard]:
    """Run a double and a client of it; one with a feed has heard it."""
    async with double.running():
        fixed = {"key": "k", "route": "r", "can_use": can_use or ("soniox", "deepgram")}
        async with SttGuard(double.url, **{**fixed, **options}) as guard:
            yield await guard.start(2)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was said loudly."""
    return [
        one.getMessage()
        for one in caplog.records
        if one.levelname == "ERROR" and one.name.startswith("stt_guard")
    ]


@pytest.mark.parametrize("feed", ["auto", "off"])
async def test_names_that_the_server_knows_are_not_asked_about(feed, caplog):
    double = PlaneDouble()
    async with client(double, feed=feed) as guard:
        for number in range(3):
            await guard.call(f"c{number}")
        assert double.asked.count("decide") == (0 if feed == "auto" else 3)
        assert guard.stats()["unknown"] == NOBODY

    assert not errors(caplog)


@pytest.mark.parametrize("feed", ["auto", "off"])
async def test_one_wrong_name_is_said_once_with_what_to_do(feed, caplog):
    double = PlaneDouble()
    async with client(double, "soniox", "deepgramm", feed=feed) as guard:
        calls = [await guard.call(f"c{number}") for number in range(5)]
        assert double.asked.count("decide") == (1 if feed == "auto" else 5)
        assert guard.stats()["unknown"] == {"routes": [], "providers": ["deepgramm"]}

    assert {call.provider for call in calls} == {"soniox"}
    assert errors(caplog) == [
        "the control plane has no provider 'deepgramm' on route 'r': can_use, the factories' keys "
        "and the server's slugs must be the same word; it knows soniox, deepgram, disabled"
    ]


@pytest.mark.parametrize("says_why", [True, False])
@pytest.mark.parametrize("feed", ["auto", "off"])
async def test_where_every_name_is_wrong_the_chain_is_used_and_it_is_said(feed, says_why, caplog):
    double = PlaneDouble()
    double.says_why = says_why
    async with client(double, "deepgram-eu", "sonix", feed=feed) as guard:
        calls = [await guard.call(f"c{number}") for number in range(3)]
        assert guard.stats()["unknown"]["providers"] == ["deepgram-eu", "sonix"]

    assert {call.source for call in calls} == {"local_chain"}
    assert len(errors(caplog)) == 2
    assert "it knows soniox, deepgram, disabled" in errors(caplog)[0]


@pytest.mark.parametrize("feed", ["auto", "off"])
async def test_a_wrong_route_is_said_once(feed, caplog):
    double = PlaneDouble()
    async with client(double, feed=feed, route="breezy") as guard:
        calls = [await guard.call(f"c{number}") for number in range(3)]
        assert guard.stats()["unknown"] == {"routes": ["breezy"], "providers": []}

    assert {call.source for call in calls} == {"local_chain"}
    assert len(errors(caplog)) == 1
    assert "no route 'breezy'" in errors(caplog)[0]
    assert errors(caplog)[0].endswith("it knows r")


@pytest.mark.parametrize("says_why", [True, False])
async def test_a_provider_that_is_switched_off_is_known(says_why, caplog):
    double = PlaneDouble()  # the status names no step that is disabled; the decision does
    double.says_why = says_why
    async with client(double, "soniox", "disabled") as guard:
        for number in range(3):
            await guard.call(f"c{number}")
        assert double.asked.count("decide") == 1
        assert guard.stats()["unknown"] == NOBODY
    async with client(double, "disabled", feed="off") as guard:
        await guard.call("c9")
        assert guard.stats()["unknown"] == NOBODY

    assert not errors(caplog)


async def test_a_picture_older_than_the_configuration_accuses_nobody(caplog):
    double = PlaneDouble()
    async with client(double, "soniox", "sarvam") as guard:
        double.extra.append("sarvam")  # the feed has not told it yet
        await guard.call("c1")
        assert guard.stats()["unknown"] == NOBODY

    assert not errors(caplog)


async def test_a_name_is_taken_back_when_a_later_picture_knows_it(caplog):
    double = PlaneDouble()
    async with client(double, "soniox", "sarvam") as guard:
        await guard.call("c1")
        assert guard.stats()["unknown"]["providers"] == ["sarvam"]
        double.extra.append("sarvam")
        await double.send({"type": "snapshot", **double.status()})
        assert await eventually(lambda: guard.stats()["unknown"] == NOBODY)
        call = await guard.call("c2")

    assert "sarvam" in call.order
    assert len(errors(caplog)) == 1


async def test_a_name_is_taken_back_by_a_later_answer_too():
    double = PlaneDouble()
    async with client(double, "soniox", "sarvam", feed="off") as guard:
        await guard.call("c1")
        assert guard.stats()["unknown"]["providers"] == ["sarvam"]
        double.extra.append("sarvam")
        await guard.call("c2")
        assert guard.stats()["unknown"] == NOBODY


async def test_a_route_that_the_picture_lacks_and_the_server_has_is_known(caplog):
    double = PlaneDouble()
    async with client(double) as guard:
        await double.send({"type": "snapshot", **double.status(), "routes": []})
        assert await eventually(lambda: not guard.picture.routes)
        call = await guard.call("c1")
        assert (call.source, guard.stats()["unknown"]) == ("remote", NOBODY)

    assert not errors(caplog)


@pytest.mark.parametrize("fault", ["404", "401", "500", "garbage", "foreign", "reset"])
async def test_what_a_balancer_answers_accuses_nobody(fault, caplog):
    double = PlaneDouble()
    double.fault = fault
    async with client(double, "soniox", "deepgramm", feed="off") as guard:
        for number in range(3):
            await guard.call(f"c{number}")
        assert guard.stats()["unknown"] == NOBODY

    assert not errors(caplog)


async def test_a_question_that_nobody_answered_is_asked_again_after_a_while(monkeypatch):
    monkeypatch.setattr(unknown, "ASK_AGAIN_S", 0.3)
    double = PlaneDouble()
    async with client(double, "soniox", "deepgramm") as guard:
        double.fault = "500"
        calls = [await guard.call(f"c{number}") for number in range(3)]
        assert double.asked.count("decide") == 1
        assert guard.stats()["unknown"] == NOBODY
        double.fault = None
        await asyncio.sleep(0.3)
        await guard.call("c4")
        assert guard.stats()["unknown"]["providers"] == ["deepgramm"]

    assert {call.source for call in calls} == {"pushed"}


def test_an_answer_from_before_the_picture_accuses_nobody(caplog):
    one, picture = Unknown(), Picture()
    picture.replace(PlaneDouble().status(), 0.0)
    one.answered("r", ("soniox",), Answer(strangers=("soniox",)), picture)
    one.answered("r", ("soniox",), Answer(is_route_known=False), picture)

    assert one.report(None) == NOBODY
    assert not errors(caplog)


def test_what_is_remembered_and_shown_is_bounded(caplog):
    names = tuple(f"n{number}" for number in range(3_000))
    one, picture = Unknown(), Picture()
    picture.replace(PlaneDouble().status(), 0.0)
    asked = sum(one.is_worth_asking("r", (name,), picture) for name in names)
    one.answered("r", names, Answer(strangers=names), None)
    for number in range(3_000):
        one.answered(f"r{number}", (), Answer(is_route_known=False), None)

    assert asked == unknown.ASKED_MAX
    assert {len(shown) for shown in one.report(None).values()} <= {0, NAMES_MAX}
    assert len(errors(caplog)) == unknown.ASKED_MAX


async def test_the_real_control_plane_says_which_names_it_does_not_know(
    guard_of, plane: ControlPlane, new_id, caplog
):
    wrong, right = ["soniox", "deepgram-plain"], ["soniox-plain", "deepgram-plain"]
    async with guard_of("plain", can_use=wrong) as guard:
        await guard.start(3)
        await guard.call(new_id())
        assert guard.stats()["unknown"] == {"routes": [], "providers": ["soniox"]}
    async with guard_of("plain", can_use=["x", "y"], feed="off") as guard:
        await guard.call(new_id())
        assert guard.stats()["unknown"] == {"routes": [], "providers": ["x", "y"]}
        await guard.call(new_id(), route="nowhere")
        assert guard.stats()["unknown"]["routes"] == ["nowhere"]
    said = errors(caplog)
    async with guard_of("plain", can_use=right) as guard:
        await guard.start(3)
        await guard.call(new_id())
        assert guard.stats()["unknown"] == NOBODY
    async with guard_of("plain", can_use=right, feed="off") as guard:
        await guard.call(new_id(), language="hi")
        assert guard.stats()["unknown"] == NOBODY

    assert len(said) == 4
    assert "it knows soniox-plain, deepgram-plain" in said[0]
    assert "it knows soniox-plain, deepgram-plain" in said[1]
    assert errors(caplog) == said
