"""`bin/fleet` on a small scale: a fleet through one outage, and what its figures mean."""

import asyncio
from contextlib import nullcontext

import pytest

from tests.control_plane import ControlPlane
from tests.rig import fleet
from tests.rig.fleet_figures import COUNTED, Found, Spell, rows, spells_of, total
from tests.rig.fleet_providers import Providers, UnavailableError, words_of
from tests.rig.fleet_worker import Talk
from tests.rig.load import Lateness
from tests.routes import ROUTES

SLUG = "fleet-outage"
CHAIN = next(one["chain"] for one in ROUTES if one["slug"] == SLUG)
OUT_S, HEALED_S = 1_000.0, 1_016.0


def talk(call: str, begun_s: float, mode: str, **values: object) -> Talk:
    """A call that was decided at once, and heard to its end."""
    primary = mode in {"primary", "probe"}
    usual = {"source": "pushed", "provider": CHAIN[not primary], "is_whole": True}
    return Talk(call, begun_s, begun_s + 0.01, mode, **{**usual, **values})


def found(talks: list[Talk], spells: list[Spell], **counts: int) -> Found:
    """What was seen of an outage from OUT_S to HEALED_S."""
    return Found(
        OUT_S, HEALED_S, frozenset({"a"}), talks, {**dict.fromkeys(COUNTED, 0), **counts}, spells,
        {"diverted": 1, "hurt": 4, "saved": 3}, Lateness(),
    )  # fmt: skip


@pytest.mark.timeout(150)
async def test_a_fleet_goes_through_an_outage_with_one_probe_at_each_half_open(
    plane: ControlPlane,
):
    plan = fleet.Plan(2, 10, outage_s=8.0, open_s=3, route=SLUG, can_use=CHAIN)
    seen = await fleet.measure(plan, plane)
    closed_s = seen.spells[-1].over_s
    on_primary = [one for one in seen.talks if one.provider == CHAIN[0]]

    # Those in progress moved, and nobody was cut off.
    assert len(seen.in_progress) > 10
    assert seen.in_progress <= {one.id for one in seen.cut_off}
    assert seen.moved == seen.cut_off
    assert [one for one in seen.talks if not one.is_whole] == []

    # Two seconds into the outage nobody begins on the provider that is out, but for the probes:
    # one in each half-open spell, the one that the server says ended it.
    during = [one.mode for one in on_primary if seen.out_s + 2 < one.begun_s < seen.healed_s]
    assert len(seen.diverted) > 20
    assert set(during) == {"probe"}
    assert [[one.id for one in seen.probes_in(spell)] for spell in seen.spells] == [
        [spell.proof] for spell in seen.spells
    ]
    assert len(seen.probes) == len(seen.spells) >= 3
    assert {spell.result for spell in seen.spells[:-1]} == {"open"}

    # Well again, all of them go back.
    assert seen.spells[-1].result == "closed"
    assert 0 < closed_s - seen.healed_s < plan.open_s + 2
    assert {one.mode for one in seen.talks if one.begun_s > closed_s + 1} == {"primary"}

    # And the server knows of all that was seen.
    assert seen.counts["queued"] > 2 * len(seen.talks)
    assert seen.counts["accepted"] + seen.counts["duplicate"] == seen.counts["queued"]
    assert (seen.lost, seen.counts["refused"]) == (0, 0)


def test_a_second_probe_in_a_spell_and_one_in_none_are_seen():
    spells = [Spell(1_006.0, 1_006.2, "open", "p1"), Spell(1_012.2, 1_012.4, "closed", "p2")]
    first, second = talk("p1", 1_005.99, "probe"), talk("p2", 1_012.3, "probe")
    twice, stray = talk("p3", 1_012.35, "probe"), talk("p4", 1_009.0, "probe")
    seen = found([first, second, twice, stray], spells)

    assert seen.probes_in(spells[0]) == [first]
    assert seen.probes_in(spells[1]) == [second, twice]
    assert len(seen.probes) == 4
    assert ["probes in each, and then", "1, 2 (open, closed)"] in rows(seen)


def test_who_was_in_progress_hurt_diverted_and_back_is_told_by_when_the_call_began():
    before = talk("a", 999.0, "primary", failed_s=1_000.1, late_s=0.2)
    cut = talk("b", 999.5, "primary", failed_s=1_000.1, is_whole=False)
    over = talk("c", 990.0, "primary")
    hurt = talk("d", 1_000.1, "primary", failed_s=1_000.2, late_s=0.0)
    probe = talk("e", 1_006.0, "probe", failed_s=1_006.1, late_s=0.0)
    asked = talk("f", 1_006.1, "fallback", source="remote")
    diverted = talk("g", 1_000.3, "fallback")
    back = talk("h", 1_018.5, "primary")
    seen = found([before, cut, over, asked, probe, diverted, hurt, back], [])

    assert (seen.cut_off, seen.moved) == ([before, cut], [before])
    assert (seen.hurt, seen.diverted, seen.back) == ([hurt], [diverted, asked], [back])
    printed = dict(rows(seen))
    assert printed["calls in all / not heard to their end"] == "8 / 1"
    assert printed["new calls hurt: begun on the provider that was out"] == (
        "1, the last 0.10 s after the outage"
    )
    assert printed["the first diverted call began"] == "0.30 s after the outage"
    assert printed["diverted"] == "2, 1 of them by a request"
    assert printed["back on the primary"] == "2.50 s after the heal"


def test_spells_are_read_from_the_servers_transitions_newest_first():
    def move(to: str, at: str, **evidence: object) -> dict[str, object]:
        return {"to": to, "at": f"2026-01-01T00:00:{at}Z", "evidence": evidence}

    spells = spells_of([
        move("closed", "12.500", call="p2"), move("half_open", "12.250"),
        move("open", "06.125", call="p1"), move("half_open", "06.000"),
        move("open", "00.000", call="x"),
    ])  # fmt: skip

    assert [(one.result, one.proof) for one in spells] == [("open", "p1"), ("closed", "p2")]
    assert [one.over_s - one.begun_s for one in spells] == [0.125, 0.25]


def test_what_the_server_never_had_is_lost_whatever_became_of_it():
    ways = {"shed": 1, "stale": 2, "invalid": 4, "waiting": 8, "unsent": 16}
    stats = {**dict.fromkeys(COUNTED, 0), "queued": 40, "refused": 32}
    counts = total([{**stats, **ways, "state_age_s": 0.1}, {**stats, "accepted": 5}])

    assert found([], [], **counts).lost == 31
    assert (counts["queued"], counts["refused"], counts["accepted"]) == (80, 64, 5)


@pytest.mark.parametrize(("late_s", "is_written"), [(0.0, True), (0.3, False)])
def test_figures_of_a_starved_machine_are_not_written(monkeypatch, late_s, is_written):
    written: list[str] = []

    async def measured(*_: object) -> Found:
        seen = found([talk("a", 999.0, "primary")], [])
        seen.lateness.late_s = [late_s] * 100
        return seen

    monkeypatch.setenv("UPDATE_README", "1")
    monkeypatch.setattr(fleet, "plane_for", lambda _: nullcontext())
    monkeypatch.setattr(fleet, "measure", measured)
    monkeypatch.setattr(fleet, "write", lambda text: bool(written.append(text)))

    assert fleet.main([]) == (not is_written)
    assert bool(written) is is_written


async def test_a_provider_that_is_out_resets_its_calls_and_refuses_new_ones():
    providers = Providers(CHAIN[0])
    async with providers.running():
        calls = {
            name: asyncio.ensure_future(hear(providers.port, CHAIN[place], name))
            for place, name in enumerate(("a", "b"))
        }
        await providers.busy(1)
        _, in_progress = providers.go_out()
        refused = await hear(providers.port, CHAIN[0], "c")
        providers.heal()
        healed = await hear(providers.port, CHAIN[0], "d")
        ended = {name: await call for name, call in calls.items()}

    assert in_progress == {"a"}
    assert ended == {"a": (0, "ConnectionResetError"), "b": (2, "")}
    assert (refused, healed) == ((0, "UnavailableError"), (2, ""))
    assert providers.in_progress == set()


async def hear(port: int, provider: str, call: str) -> tuple[int, str]:
    """Return how many words of two a provider told, and what ended it before the last."""
    heard = 0
    try:
        async for _ in words_of(port, provider, call, 2, 0.1):
            heard += 1
    except (UnavailableError, OSError) as error:
        return heard, type(error).__name__
    return heard, ""
