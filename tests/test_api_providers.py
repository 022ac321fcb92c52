"""providers/{slug}: one breaker, overrides and resets, and orders that are sent again."""

from datetime import timedelta

import pytest
from django.utils import timezone

from fallback import catalog
from fallback.api import idempotency
from fallback.models import IdempotentRequest
from tests.configuration import make_provider, make_route
from tests.rest import api, assert_problem, outcome

pytestmark = pytest.mark.django_db(transaction=True)

OVERRIDE = "providers/soniox/override"
ORDER = {"state": "forced_open", "for_s": 1800, "reason": "their status page"}


@pytest.fixture
def operator():
    make_route()
    return api("operator")


def state_of(client, provider: str = "soniox") -> str:
    """Return the state that the API shows for a breaker."""
    return client.get(f"/api/v1/providers/{provider}").json()["state"]


def test_one_provider_is_shown_as_in_the_status(operator):
    shown = operator.get("/api/v1/providers/soniox").json()

    assert shown in operator.get("/api/v1/status").json()["breakers"]
    assert shown["state"] == "closed"


def test_an_unknown_provider_is_not_found(operator):
    assert_problem(operator.get("/api/v1/providers/nobody"), 404, "not_found")
    assert_problem(operator.send("PUT", "providers/nobody/override", ORDER), 404, "not_found")


def test_a_slug_of_another_kind_needs_its_kind(operator):
    make_provider("elevenlabs", kind="tts")
    catalog.reload()

    assert_problem(operator.get("/api/v1/providers/elevenlabs"), 404)
    assert operator.get("/api/v1/providers/elevenlabs?kind=tts").json()["kind"] == "tts"


def test_a_kind_that_is_none_is_refused(operator):
    problem = assert_problem(operator.get("/api/v1/providers/soniox?kind=ttts"), 400)

    assert problem["errors"][0]["field"] == "kind"


def test_a_disabled_provider_can_be_looked_at(operator):
    make_provider("google", enabled=False)
    reader = api("reader")

    assert state_of(reader, "google") == "closed"


def test_an_override_names_its_author_reason_and_end(operator):
    shown = operator.send("PUT", OVERRIDE, ORDER).json()

    assert shown["state"] == "forced_open"
    assert shown["override"]["by"] == "api:operator-key"
    assert shown["override"]["reason"] == "their status page"
    assert shown["override"]["until"] is not None


def test_an_override_without_an_end_stands_until_it_is_cleared(operator):
    shown = operator.send("PUT", OVERRIDE, {"state": "shadow", "reason": "trying it out"}).json()

    assert shown["override"]["until"] is None


def test_what_was_ordered_is_seen_by_the_next_reader(operator):
    state_of(operator)  # held from here on

    operator.send("PUT", OVERRIDE, ORDER)

    assert state_of(operator) == "forced_open"


def test_clearing_gives_the_breaker_back_to_itself(operator):
    operator.send("PUT", OVERRIDE, ORDER)

    shown = operator.send("DELETE", f"{OVERRIDE}?reason=healed").json()

    assert (shown["state"], shown["override"]) == ("half_open", None)


def test_clearing_what_is_not_there_changes_nothing(operator):
    assert operator.send("DELETE", OVERRIDE).json()["state"] == "closed"


def test_a_reset_closes_and_forgets(operator):
    operator.report(*(outcome(call_id=call, reason="connection") for call in ("CA1", "CA2")))

    shown = operator.send("POST", "providers/soniox/reset", {"reason": "their fix is out"}).json()

    assert (shown["state"], shown["failures"]) == ("closed", 0)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"reason": None}, "reason"),
        ({"reason": ""}, "reason"),
        ({"reason": " \t "}, "reason"),
        ({"state": "open"}, "state"),
        ({"state": "forced-open"}, "state"),
        ({"for_s": 0}, "for_s"),
        ({"for_s": -5}, "for_s"),
        ({"for_s": 1.5}, "for_s"),
        ({"for_s": "1800"}, "for_s"),
        ({"for_s": 10**30}, "for_s"),
        ({"until": "tomorrow"}, "until"),
    ],
)
def test_an_order_that_is_wrong_says_which_field(operator, change, field):
    problem = assert_problem(operator.send("PUT", OVERRIDE, {**ORDER, **change}), 400)

    assert [error["field"] for error in problem["errors"]] == [field]
    assert state_of(operator) == "closed"


def test_an_order_sent_again_under_its_key_is_answered_and_not_repeated(operator):
    headers = {"idempotency-key": "k1"}
    first = operator.send("PUT", OVERRIDE, ORDER, **headers)
    operator.send("DELETE", OVERRIDE)

    again = operator.send("PUT", OVERRIDE, ORDER, **headers)

    assert again.json() == first.json()
    assert again["Idempotent-Replayed"] == "true"
    assert state_of(operator) == "half_open"


def test_a_key_with_another_order_is_refused(operator):
    operator.send("PUT", OVERRIDE, ORDER, **{"idempotency-key": "k1"})

    other = operator.send("PUT", OVERRIDE, {**ORDER, "for_s": 60}, **{"idempotency-key": "k1"})

    assert_problem(other, 422, "idempotency_key_reused")


def test_two_callers_may_choose_the_same_key(operator):
    operator.send("PUT", OVERRIDE, ORDER, **{"idempotency-key": "k1"})
    other = api("operator", name="another")

    response = other.send(
        "POST", "providers/soniox/reset", {"reason": "x"}, **{"idempotency-key": "k1"}
    )

    assert response.status_code == 200


def test_an_order_under_way_is_a_conflict(operator):
    operator.send("PUT", OVERRIDE, ORDER, **{"idempotency-key": "k1"})
    IdempotentRequest.objects.update(body=None)

    again = operator.send("PUT", OVERRIDE, ORDER, **{"idempotency-key": "k1"})

    assert_problem(again, 409, "under_way")


def test_an_order_whose_server_died_is_carried_out_again(operator):
    operator.send("PUT", OVERRIDE, ORDER, **{"idempotency-key": "k1"})
    long_ago = timezone.now() - idempotency.UNDER_WAY - timedelta(seconds=1)
    IdempotentRequest.objects.update(body=None, created_at=long_ago)

    assert operator.send("PUT", OVERRIDE, ORDER, **{"idempotency-key": "k1"}).status_code == 200


def test_an_order_that_failed_may_be_tried_again_under_its_key(operator):
    path = "providers/soniox2/override"
    assert_problem(operator.send("PUT", path, ORDER, **{"idempotency-key": "k1"}), 404)

    assert_problem(operator.send("PUT", path, ORDER, **{"idempotency-key": "k1"}), 404)
    assert not IdempotentRequest.objects.exists()


def test_keys_are_forgotten_after_a_day(operator):
    operator.send("PUT", OVERRIDE, ORDER, **{"idempotency-key": "old"})
    IdempotentRequest.objects.update(created_at=timezone.now() - idempotency.KEPT)

    operator.send("PUT", OVERRIDE, ORDER, **{"idempotency-key": "new"})

    assert [row.key for row in IdempotentRequest.objects.all()] == ["new"]


@pytest.mark.parametrize("key", ["", "a" * 256, "a b", "ü"])
def test_a_key_that_cannot_be_kept_is_refused(operator, key):
    response = operator.send("PUT", OVERRIDE, ORDER, **{"idempotency-key": key})

    assert_problem(response, 400, "invalid")
