"""The dashboard's first paint, the orders given from it, and what it weighs. The rest of it is in
tests/test_dashboard_browser.py."""

import hashlib
import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.contrib.staticfiles import finders
from django.test import Client
from django.utils import timezone

from fallback import breaker, catalog, services, status
from fallback.domain import Kind, State
from fallback.live import timeline, words
from fallback.models import Incident, Provider, Transition
from tests.configuration import make_provider, make_route
from tests.rest import api, outcome

pytestmark = pytest.mark.django_db(transaction=True)

NOW = words.parsed("2026-11-22T12:00:00.000Z")
HOSTILE = "<script>alert(1)</script>{{ 7 }}\x00\"'&"


def staff(*permissions: str) -> Client:
    """Return a browser of a member of staff who may do this."""
    user = User.objects.create_user("ana", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(user)
    return browser


@pytest.fixture
def viewer():
    make_route()
    catalog.reload()
    services.publish_configuration()
    return staff("view_provider")


@pytest.fixture
def operator(viewer):
    User.objects.get().user_permissions.add(Permission.objects.get(codename="override_breaker"))
    return viewer


def trip() -> None:
    api().report(*(outcome(call_id=call, reason="connection") for call in "12"))


def force(reason: str = "try", state: State = State.FORCED_OPEN) -> None:
    services.set_override(Kind.STT, "soniox", state=state, reason=reason, for_s=60, by="admin:bo")


def text(browser: Client, query: str = "") -> str:
    """Return what the page says, without its markup and data."""
    page = browser.get(f"/{query}").content.decode()
    page = re.sub(r"<(script|template).*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))


# --- who


def test_strangers_are_led_to_the_sign_in():
    answer = Client().get("/")

    assert (answer.status_code, answer["Location"]) == (302, "/admin/login/?next=/")


def test_who_may_not_view_providers_is_refused():
    assert staff().get("/").status_code == 403


def test_who_may_not_give_orders_is_offered_none(viewer):
    page = viewer.get("/").content.decode()

    assert "data-verb" not in page
    assert "<dialog" not in page


# --- the first paint


def test_a_quiet_day_is_said_in_a_sentence(viewer):
    assert "Healthy Every provider gets its calls." in text(viewer)


def test_who_is_out_since_when_why_and_until_when_is_said(viewer):
    trip()
    said = text(viewer)

    assert "Degraded soniox is out: calls go to the next provider." in said
    assert re.search(r"soniox open 29 min \d+ s left since \d\d:\d\d:\d\d UTC for \d+ s", said)
    assert "failures 2 of 2 in 240 s last reasons connection 2" in said
    assert "moved by failure threshold" in said
    assert "breeze-buddy deepgram soniox open" in said


def test_an_override_is_shown_with_who_and_why_and_cannot_bring_markup(viewer):
    force(HOSTILE)
    page = viewer.get("/").content.decode()

    assert "<script>alert(1)" not in page
    assert "admin:bo: “&lt;script&gt;alert(1)" in page


def test_a_route_that_nobody_is_left_on_is_critical(viewer):
    for provider in ("soniox", "deepgram"):
        services.set_override(
            Kind.STT, provider, state=State.FORCED_OPEN, reason="r", for_s=None, by="admin:bo"
        )

    assert "Critical No provider admits calls on breeze-buddy" in text(viewer)


def test_todays_incidents_and_the_last_transitions_are_listed(viewer):
    incident = Incident.objects.create(
        key="e1", provider="soniox", opened_at=timezone.now(), cause="failure_threshold",
        diverted=7, hurt=2, saved=1,
    )  # fmt: skip
    Transition.objects.create(
        event_id="e1", name="tripped", provider="soniox", before="closed", after="open",
        at=timezone.now(), cause="failure_threshold", actor="breaker", reason="refused",
        incident=incident,
    )  # fmt: skip
    said = text(viewer)

    assert re.search(rf"#{incident.pk} soniox .* going on 7 2 1", said)
    assert "soniox open after closed; failure threshold, by breaker: refused" in said


def test_redis_away_is_said_with_the_last_that_is_known(viewer, monkeypatch):
    status.build()
    monkeypatch.setattr(breaker.shared.link, "_misses", 3)
    monkeypatch.setattr(breaker.shared.link, "_look_again_at", float("inf"))

    assert "The shared state cannot be reached: this is the last that is known" in text(viewer)


def test_nothing_configured_is_a_page_too():
    catalog.reload()

    assert "No provider is enabled" in text(staff("view_provider"))


@pytest.mark.parametrize("window", ["15m", "1h", "6h", "24h", "nonsense", ""])
def test_the_timeline_spans_what_was_chosen(viewer, window):
    page = viewer.get(f"/?window={window}").content.decode()
    chosen = window if window in {"15m", "1h", "6h", "24h"} else "24h"

    assert f'data-window="{chosen}" aria-current="true"' in page


# --- words and spans


def test_durations_have_their_two_largest_units():
    said = [words.length(timedelta(seconds=s)) for s in (-1, 0, 59, 61, 3_600, 93_784)]

    assert said == ["0 s", "0 s", "59 s", "1 min 1 s", "1 h", "1 d 2 h"]


def move(at: str, before: str, after: str) -> dict[str, str]:
    return {"at": f"2026-11-22T{at}:00.000Z", "from": before, "to": after}


def test_a_lane_has_a_span_for_each_state_and_says_how_long_it_was_out():
    row = {"provider": "soniox", "kind": "stt", "state": "closed"}
    moves = [move("11:15", "closed", "open"), move("11:45", "open", "closed")]
    lane = timeline.lane(row, moves, NOW - timedelta(hours=1), NOW)

    assert [(span.state, span.x, span.width) for span in lane["spans"]] == [
        ("closed", 0, 250), ("open", 250, 500), ("closed", 750, 250),
    ]  # fmt: skip
    assert lane["label"] == "soniox: out for 30 min"


def test_what_began_just_now_is_wide_enough_to_be_seen_and_within_the_lane():
    row = {"provider": "soniox", "kind": "stt", "state": "open"}
    moves = [move("11:59", "closed", "open")]
    span = timeline.lane(row, moves, NOW - timedelta(days=1), NOW)["spans"][-1]

    assert (span.state, span.x + span.width, span.width) == ("open", 1000, 2)


def test_what_began_before_the_span_is_known_by_the_move_before_it():
    row = {"provider": "soniox", "kind": "stt", "state": "open"}
    moves = [move("09:00", "closed", "open")]
    lane = timeline.lane(row, moves, NOW - timedelta(hours=1), NOW)

    assert [(span.state, span.width) for span in lane["spans"]] == [("open", 1000)]


# --- orders


def give(browser: Client, **fields: str):
    """Post the dialog's form, with the token that the page gave."""
    page = browser.get("/").content.decode()
    token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', page)
    form = {
        "csrfmiddlewaretoken": token[1] if token else "",
        "kind": "stt", "provider": "soniox", "verb": "force-open", "reason": "noise", "end": "900",
    }  # fmt: skip
    return browser.post("/orders", {**form, **fields})


def test_an_order_is_carried_out_and_signed(operator):
    answer = give(operator)
    row = status.provider_status(Kind.STT, "soniox")

    assert answer.status_code == 200
    assert (row["state"], row["override"]["by"]) == ("forced_open", "dashboard:ana")
    assert row["override"]["reason"] == "noise"


@pytest.mark.parametrize(("verb", "state"), [("auto", "half_open"), ("reset", "closed")])
def test_an_override_is_ended_from_the_page(operator, verb, state):
    force()
    answer = give(operator, verb=verb)

    row = status.provider_status(Kind.STT, "soniox")
    assert (answer.status_code, row["state"], row["override"]) == (200, state, None)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"reason": " "}, 400),
        ({"end": "1"}, 400),
        ({"verb": "explode"}, 404),
        ({"kind": "xyz"}, 404),
        ({"provider": "nobody"}, 404),
        ({"csrfmiddlewaretoken": "forged"}, 403),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_and_does_nothing(operator, fields, code):
    answer = give(operator, **fields)

    assert answer.status_code == code
    assert status.provider_status(Kind.STT, "soniox")["state"] == "closed"


def test_an_order_of_somebody_who_may_not_is_refused(viewer):
    assert give(viewer).status_code == 403
    assert status.provider_status(Kind.STT, "soniox")["state"] == "closed"


def test_every_card_leads_to_the_admins_own_page_where_there_is_no_script(operator):
    pk = Provider.objects.get(slug="soniox").pk
    page = operator.get("/").content.decode()

    assert f"/admin/fallback/provider/order/force-open/?ids={pk}&amp;next=/" in page


def test_a_provider_of_another_kind_says_so(operator):
    make_provider("openai", kind="tts")
    catalog.reload()

    assert "openai tts closed" in text(operator)


# --- what it weighs, and whose it is


def test_the_page_with_all_it_loads_weighs_less_than_150_kb(operator):
    trip()
    page = operator.get("/").content
    linked = re.findall(r'(?:href|src)="/static/([^"]+)"', page.decode())
    files = {Path(finders.find(name)) for name in linked}
    files |= set(Path(finders.find("fallback/dashboard/main.js")).parent.iterdir())
    sizes = [file.stat().st_size for file in files]

    assert len(page) + sum(sizes) < 150_000


def test_what_others_wrote_is_as_they_published_it():
    listed = (settings.BASE_DIR / "THIRD_PARTY.md").read_text()
    for digest, name in re.findall(r"^([0-9a-f]{64})  (\S+)$", listed, flags=re.MULTILINE):
        carried = Path(finders.find(f"fallback/vendor/uplot-1.6.32/{name}")).read_bytes()
        assert hashlib.sha256(carried).hexdigest() == digest
    assert "uPlot" in listed
