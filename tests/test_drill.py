"""The drill: what it promises, what it leaves behind, and one outage drilled for real."""

import pytest
from django.core.management import CommandError, call_command

from fallback import catalog, keys
from fallback.drill import Plan, Tally, staged
from fallback.drill.plan import BACKUP, PRIMARY, ROUTE
from fallback.models import ApiKey, Policy, Provider, Route, RouteStep
from tests.configuration import make_route
from tests.processes import clean_environment, free_port, manage
from tests.test_up import running

ANSWER = {"mode": "primary", "provider": PRIMARY, "degraded": False}


def kept(**changes) -> Tally:
    """Return the tally of a drill that kept every promise, but for these changes."""
    tally = Tally(Plan(fail_after_s=3, fail_for_s=8))
    tally.tripped_at_s, tally.recovered_at_s = 3.5, 14.0
    tally.waits_ms = [10.0] * 100
    for name, value in changes.items():
        setattr(tally, name, value)
    return tally


def test_a_provider_fails_from_its_hour_until_it_is_well():
    plan = Plan(provider="a", fail_after_s=3, fail_for_s=8)

    assert [plan.is_failing("a", at_s) for at_s in (2.99, 3, 10.99, 11)] == [
        False, True, True, False,
    ]  # fmt: skip
    assert not plan.is_failing("b", 5)


def test_a_drill_that_kept_every_promise_passes():
    assert list(kept().broken()) == []
    assert kept().report().endswith("PASS")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tripped_at_s": None}, "it never tripped"),
        ({"tripped_at_s": 5.5}, "it tripped only after 2.5 s"),
        ({"recovered_at_s": None}, "it did not recover"),
        ({"recovered_at_s": 20.0}, "it recovered only after 9.0 s"),
        ({"admitted": [(5.0, 5.1)]}, "1 calls were sent to a provider that was out"),
        ({"probes_at_once": 2}, "2 probes at once; one is allowed"),
        ({"unheard": {"a"}}, "1 calls were never heard"),
        ({"waits_ms": [10.0] * 90 + [400.0] * 10}, "1 decision in 20 took over 300 ms"),
    ],
)
def test_a_broken_promise_is_named_and_fails_the_drill(changes, says):
    tally = kept(**changes)

    assert list(tally.broken()) == [says]
    assert tally.report().endswith("FAIL")


def test_errors_fail_the_drill():
    tally = kept()
    tally.errors["HTTP 500"] += 3

    assert list(tally.broken()) == ["errors: 3 HTTP 500"]


def test_a_decision_that_crossed_with_the_trip_or_the_recovery_is_nobodys_mistake():
    tally = kept(tripped_at_s=3.5, recovered_at_s=14.0)
    for asked_s, answered_s in ((3.4, 3.6), (13.9, 14.1), (1.0, 1.1), (15.0, 15.1)):
        tally.decided("a", ANSWER, asked_s, answered_s)

    assert tally.strays == 0


def test_a_probe_and_a_fallback_are_no_strays():
    tally = kept()
    tally.decided("a", {**ANSWER, "mode": "probe"}, 9, 9.1)
    tally.decided("b", {**ANSWER, "mode": "fallback", "provider": BACKUP}, 9, 9.1)

    assert tally.strays == 0
    assert tally.diverted == {"b"}


def test_the_failures_before_the_trip_are_the_ones_that_are_told():
    tally = Tally(Plan())
    tally.failures = 3
    tally.took_effect("tripped", 3.1, 3.2)
    tally.failures = 9

    assert (tally.tripped_at_s, tally.failures_to_trip) == (3.2, 3)


def rows() -> tuple[int, ...]:
    """Count everything that a drill makes."""
    return tuple(model.objects.count() for model in (Route, RouteStep, Provider, Policy, ApiKey))


@pytest.mark.django_db(transaction=True)
def test_the_stage_is_a_route_of_its_own_with_a_key_that_works():
    make_route()

    with staged() as key:
        config = catalog.reload()
        holder = keys.authenticate(f"Bearer {key}")

        chain = [step.provider.slug for step in config.routes[ROUTE].steps]
        assert chain == [PRIMARY, BACKUP]
        assert (holder.role, holder.expires_at is not None) == ("operator", True)


@pytest.mark.django_db(transaction=True)
def test_the_stage_leaves_everything_as_it_was():
    make_route()
    before = rows()

    with pytest.raises(KeyboardInterrupt), staged():
        raise KeyboardInterrupt

    assert rows() == before


@pytest.mark.django_db(transaction=True)
def test_what_a_killed_drill_left_behind_is_taken_over():
    staging = staged()
    staging.__enter__()  # and killed here
    Provider.objects.filter(slug=BACKUP).update(enabled=False)

    with staged():
        assert Provider.objects.get(slug=BACKUP).enabled

    assert (Route.objects.count(), Provider.objects.count(), Policy.objects.count()) == (0, 0, 0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"url": "https://stt.example.com"}, "is another machine"),
        ({"key": "k", "route": "breeze-buddy", "provider": "soniox"}, "failures of soniox"),
        ({"route": "breeze-buddy"}, "--route needs --key and --provider"),
        ({"rate": "0"}, "rate"),
        ({"duration": "-1"}, "duration"),
        ({"fail_for": "nan"}, "fail-for"),
    ],
)
def test_what_could_hurt_production_or_makes_no_sense_is_refused(options, says):
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]

    with pytest.raises(CommandError, match=says):
        call_command("drill", *arguments)


@pytest.mark.django_db(transaction=True)
def test_a_server_that_is_not_there_is_said_and_nothing_is_left():
    before = rows()

    with pytest.raises(CommandError, match="Nobody answers"):
        call_command("drill", f"--url=http://127.0.0.1:{free_port()}")

    assert rows() == before


@pytest.mark.slow
def test_an_outage_is_drilled_on_a_running_server(tmp_path):
    port = free_port()
    environment = clean_environment(tmp_path)
    with running(tmp_path, port):
        drill = manage(
            "drill", f"--url=http://127.0.0.1:{port}", "--rate=10", "--fail-after=1",
            "--fail-for=3", "--duration=20", environment=environment,
        )  # fmt: skip
        left = manage("shell", "-c", "print(Route.objects.count())", environment=environment)

    assert (drill.returncode, drill.stdout.splitlines()[-1]) == (0, "PASS"), drill.stdout
    assert "recovered    " in drill.stdout
    assert left.stdout.split()[-1] == "1"  # the seed's own
