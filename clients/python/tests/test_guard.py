"""The client against a real control plane."""

import asyncio
import json

import pytest

from stt_guard import Call, SttGuard
from tests.conftest import eventually
from tests.control_plane import ControlPlane, free_port


async def report(guard: SttGuard, call_id: str, provider: str, **values: object) -> None:
    """Report a failure and wait until it is taken."""
    async with await guard.call(call_id, probe=False) as call:
        call.failed(provider, **values)
    assert await eventually(lambda: guard.outbox.waiting == 0)


async def test_a_call_is_decided_from_pushed_state_with_no_request(guard_of, new_id):
    async with guard_of("plain") as guard:
        await guard.start(3)
        call = await guard.call(new_id())

    assert (call.source, call.mode, call.provider) == ("pushed", "primary", "soniox-plain")
    assert call.order == ("soniox-plain", "deepgram-plain")


async def test_without_pushed_state_the_server_is_asked(guard_of, new_id):
    async with guard_of("settings", feed="off") as guard:
        call = await guard.call(new_id(), language="hi-IN")

    assert (call.source, call.mode) == ("remote", "primary")
    assert call.settings == {"model": "stt-rt-v5", "language_hints": ["hi"]}
    assert call.settings_of("deepgram-settings") == {"model": "nova-3", "endpointing": 300}


async def test_a_pushed_decision_carries_the_same_settings(guard_of, new_id):
    async with guard_of("settings") as guard:
        await guard.start(3)
        call = await guard.call(new_id())

    assert call.source == "pushed"
    assert call.settings == {"model": "stt-rt-v5", "language_hints": ["hi"]}


async def test_a_provider_that_this_agent_cannot_use_is_in_no_order(guard_of, new_id):
    async with guard_of("plain", can_use=["deepgram-plain"]) as guard:
        await guard.start(3)
        call = await guard.call(new_id())

    assert (call.order, call.mode) == (("deepgram-plain",), "fallback")


async def test_two_failing_calls_divert_the_next_and_the_proof_brings_them_back(
    guard_of, plane: ControlPlane, new_id
):
    async with guard_of("trip") as guard:
        await guard.start(3)
        for _ in range(2):
            await report(guard, new_id(), "soniox-trip", reason="connection")
        assert await eventually(lambda: guard.picture.breakers[
            ("stt", "soniox-trip")].state == "open")  # fmt: skip
        diverted = await guard.call(new_id())
        await asyncio.sleep(3.2)  # the breaker's own open time
        probe = await guard.call(new_id())
        probe.transcript("soniox-trip", latency_s=0.4)
        assert await eventually(lambda: plane.breaker("soniox-trip")["state"] == "closed")

    assert (diverted.source, diverted.mode, diverted.provider) == (
        "pushed", "fallback", "deepgram-trip",
    )  # fmt: skip
    assert (probe.source, probe.mode, probe.provider) == ("remote", "probe", "soniox-trip")
    assert probe.lease


async def test_it_never_makes_itself_a_probe(guard_of, plane: ControlPlane, new_id):
    async with guard_of("probe") as guard:
        await guard.start(3)
        for _ in range(2):
            await report(guard, new_id(), "soniox-probe", reason="connection")
        key = ("stt", "soniox-probe")
        assert await eventually(lambda: guard.picture.breakers[key].state == "open")
        await asyncio.sleep(3.2)
        calls = [await guard.call(new_id()) for _ in range(3)]
        refused = await guard.call(new_id(), probe=False)

    assert [call.mode for call in calls].count("probe") == 1
    assert {call.mode for call in calls} == {"probe", "fallback"}
    assert (refused.mode, refused.lease) == ("fallback", None)


async def test_a_resend_is_counted_once(guard_of, plane: ControlPlane, new_id):
    async with guard_of("resend") as guard:
        call_id = new_id()
        call = await guard.call(call_id)
        call.failed("soniox-resend", reason="connection")
        assert await eventually(lambda: guard.outbox.waiting == 0)
        again = Call(call_id, call.route, call.host, call._decision, guard.outbox.put)
        again.failed("soniox-resend", reason="connection")
        assert await eventually(lambda: guard.outbox.waiting == 0)

    assert guard.stats()["duplicate"] == 1
    assert await eventually(lambda: plane.breaker("soniox-resend")["failures"] == 1)


async def test_what_was_seen_arrives_with_its_words(guard_of, plane: ControlPlane, new_id):
    call_id = new_id()
    async with guard_of("plain") as guard, await guard.call(call_id) as call:
        with pytest.raises(TimeoutError):
            async with call.attempt("soniox-plain"):
                raise TimeoutError
        async with call.attempt("deepgram-plain"):
            call.transcript("deepgram-plain", latency_s=0.25)
        call.recovered("deepgram-plain")
        call.recovered("deepgram-plain")

    seen = [
        (one["provider"].split("-")[0], one["kind"], one.get("reason"), one.get("latency_ms"))
        for one in plane.calls_outcomes(call_id)
        if one["kind"] != "started"
    ]
    assert seen == [
        ("soniox", "init_failure", "timeout", None),
        ("deepgram", "first_transcript", None, 250),
        ("deepgram", "recovered", None, None),
        ("deepgram", "recovered", None, None),
        ("deepgram", "call_end", None, None),
    ]


async def test_a_cancelled_attempt_is_a_hang_up(guard_of, plane: ControlPlane, new_id):
    call_id = new_id()
    async with guard_of("plain") as guard:
        call = await guard.call(call_id)

        async def use() -> None:
            async with call.attempt("soniox-plain"):
                await asyncio.sleep(60)

        task = asyncio.create_task(use())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        call.end()
        call.failed("soniox-plain")

    kinds = {one["kind"] for one in plane.calls_outcomes(call_id)}
    assert kinds <= {"started", "call_end"}


async def test_the_servers_advice_is_followed_only_where_this_agent_can(guard_of, new_id):
    async with guard_of("plain") as guard:
        call = await guard.call(new_id(), can_use=["soniox-plain", "deepgram-plain"])
        call.advise("openai")
        before = call.remaining()
        call.advise("deepgram-plain")

    assert before == call.remaining() == ("deepgram-plain",)


async def test_a_state_file_lets_a_new_process_decide_while_nothing_answers(
    guard_of, state_file, new_id
):
    async with guard_of("settings", state_file=state_file) as guard:
        await guard.start(3)
    nobody = f"http://127.0.0.1:{free_port()}"
    chain = ["deepgram-settings", "soniox-settings"]
    async with SttGuard(
        nobody, key="k", route="settings", can_use=chain, feed="off", state_file=state_file
    ) as alone:
        call = await alone.call(new_id())

    assert (call.source, call.provider) == ("last_known", "soniox-settings")
    assert call.settings == {"model": "stt-rt-v5", "language_hints": ["hi"]}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"saved_at": 1}', "null"])
async def test_a_broken_state_file_costs_nothing_but_itself(state_file, new_id, text):
    state_file.write_text(text)
    nobody = f"http://127.0.0.1:{free_port()}"
    async with SttGuard(
        nobody, key="k", route="r", can_use=["a", "b"], feed="off", state_file=state_file
    ) as guard:
        call = await guard.call(new_id())

    assert (call.source, call.order) == ("local_chain", ("a", "b"))


async def test_a_wrong_key_costs_no_call_its_provider(plane: ControlPlane, new_id):
    async with SttGuard(plane.url, key="wrong", route="plain", can_use=["a"]) as guard:
        call = await guard.call(new_id())
        call.failed("a")
        assert await eventually(lambda: guard.stats()["held"] > 0)
        stats = guard.stats()

    assert (call.source, stats["waiting"], stats["refused"]) == ("local_chain", 2, 0)


@pytest.mark.parametrize(
    "call_id", ["", "x" * 500, "line\nbreak\x00", "{braces} <b>", "हिन्दी", json.dumps({"a": 1})]
)
async def test_any_call_id_gets_a_decision_and_an_outcome(guard_of, plane, call_id):
    async with guard_of("plain", feed="off") as guard:
        call = await guard.call(call_id)
        call.recovered(call.provider)
        assert await eventually(lambda: guard.outbox.waiting == 0)

    stats = guard.stats()
    assert call.source == "remote"
    assert (stats["accepted"] + stats["duplicate"], stats["invalid"]) == (1, 0)


@pytest.mark.parametrize("options", [{"url": "ftp://x"}, {"can_use": []}, {"can_use": "soniox"}])
def test_what_cannot_be_right_is_refused_at_start_up(options):
    fixed = {"url": "http://x", "can_use": ["a"]}
    with pytest.raises(ValueError, match="must be"):
        SttGuard(key="k", route="r", **{**fixed, **options})


async def test_it_can_be_closed_twice_and_a_call_after_it_starts_again(guard_of, new_id):
    guard = guard_of("plain")
    await guard.start(3)
    await guard.aclose()
    await guard.aclose()
    call = await guard.call(new_id())
    call.failed(call.provider)
    call.end()
    assert await eventually(lambda: guard.outbox.waiting == 0)
    await guard.aclose()

    assert call.source == "pushed"  # what was heard a moment ago holds
    assert guard.stats()["accepted"] == 3


async def test_the_server_takes_a_wrong_setting_and_a_late_text_and_counts_neither(
    plane: ControlPlane, guard_of, new_id
):
    async with guard_of("quiet") as guard:
        call = await guard.call(new_id())
        call.transcript(call.provider)
        call.misconfigured(call.provider, "modle", TypeError())
        call.slow(call.provider, latency_s=6.2)
        call.failed(call.provider)
        assert await eventually(lambda: guard.stats()["accepted"] >= 4)

    taken = [
        (one["kind"], one.get("code"), one["counted"]) for one in plane.calls_outcomes(call.id)
    ]
    assert ("recovered", "modle", False) in taken
    assert ("recovered", "", False) in taken
    assert ("mid_call_failure", "", True) in taken
