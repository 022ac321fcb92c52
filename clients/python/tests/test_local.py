"""A guard without a server."""

import asyncio

import pytest

from stt_guard import SttGuard
from stt_guard.local import REPORTED_MAX


async def test_every_call_is_decided_by_the_order_and_its_settings():
    guard = SttGuard.local(["soniox", "deepgram"], settings={"deepgram": {"model": "nova-3"}})
    async with guard, await guard.call("c1", language="hi") as call:
        pass

    assert (call.source, call.mode, call.order) == (
        "local_chain",
        "primary",
        ("soniox", "deepgram"),
    )
    assert (call.settings, call.settings_of("deepgram")) == ({}, {"model": "nova-3"})
    assert (call.language, call.on_mid_call_failure) == ("hi", "swap")


async def test_what_was_reported_is_kept_for_assertions():
    guard = SttGuard.local(["soniox", "deepgram"])
    async with await guard.call("c1") as call:
        call.failed("soniox", reason="connection")
        call.use("deepgram")
        call.transcript("deepgram", latency_s=0.2)

    assert [(one["provider"], one["kind"]) for one in guard.reported] == [
        ("soniox", "started"),
        ("soniox", "mid_call_failure"),
        ("deepgram", "first_transcript"),
        ("deepgram", "call_end"),
    ]
    assert guard.stats()["accepted"] == guard.stats()["queued"] == 4


async def test_what_is_kept_is_bounded_and_the_newest_stays():
    guard = SttGuard.local(["a"])
    for number in range(REPORTED_MAX + 10):
        await guard.call(f"c{number}")

    assert len(guard.reported) == REPORTED_MAX
    assert guard.reported[-1]["call_id"] == f"c{REPORTED_MAX + 9}"


async def test_it_opens_nothing_starts_nothing_and_closes():
    before = asyncio.all_tasks()
    guard = SttGuard.local(["a"])
    await guard.start(5)
    await guard.call("c1")
    assert (asyncio.all_tasks(), guard._links.alive) == (before, {})
    await guard.aclose()
    await guard.aclose()

    assert (await guard.call("c2")).provider == "a"
    assert guard.stats()["unknown"] == {"routes": [], "providers": []}


async def test_a_call_may_use_less_and_be_on_another_route():
    guard = SttGuard.local(["a", "b", "c"])
    less = await guard.call("c1", can_use=["c", "b"], route="other")
    strange = await guard.call("c2", can_use=["z"])

    assert (less.order, less.route) == (("b", "c"), "other")
    assert strange.order == ("z",)


async def test_it_can_stand_in_for_any_decision():
    guard = SttGuard.local(["a", "b"], mode="last_resort", on_mid_call_failure="end", route="r")
    call = await guard.call("c1")

    assert (call.mode, call.on_mid_call_failure, call.route) == ("last_resort", "end", "r")
    assert call.should_end("mid_call_failure")


@pytest.mark.parametrize("order", [[], "soniox"])
def test_an_order_that_is_none_is_refused(order):
    with pytest.raises(ValueError, match="must be a list"):
        SttGuard.local(order)


def test_it_reads_nothing_from_the_environment(monkeypatch):
    monkeypatch.setenv("STT_GUARD_FEED", "nonsense")
    monkeypatch.setenv("STT_GUARD_URL", "nonsense")

    assert SttGuard.local(["a"]).route == "local"
