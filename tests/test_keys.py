"""A key is told by its hash alone, as soon as it exists and no longer than it is valid."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from fallback import catalog, keys
from fallback.keys import Refusal
from fallback.models import ApiKey, Role

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
WRITTEN_WITHIN_S = 5.0


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, transactional_db: None) -> Iterator[None]:
    """Begin with nothing held and nothing noted, as a new process does."""
    monkeypatch.setattr(catalog, "_cache", catalog.Cache())
    monkeypatch.setattr(keys, "_usage", keys.Usage())
    yield
    keys._usage.join(WRITTEN_WITHIN_S)


def new_key(name: str = "pods", **columns: Any) -> tuple[ApiKey, str]:
    row = ApiKey(name=name, **columns)
    text = keys.issue(row)
    row.save()
    catalog.reload()
    return row, f"Bearer {text}"


def last_used_at(row: ApiKey) -> datetime | None:
    keys._usage.join(WRITTEN_WITHIN_S)
    row.refresh_from_db()
    return row.last_used_at


def test_a_key_is_known_by_its_name_and_role() -> None:
    _, header = new_key("pods", role=Role.OPERATOR)

    found = keys.authenticate(header, NOW)

    assert isinstance(found, catalog.Key)
    assert (found.name, found.role) == ("pods", "operator")


def test_nothing_that_is_stored_holds_the_secret() -> None:
    row, header = new_key()
    secret = header.split(".")[1]

    stored = " ".join(str(value) for value in ApiKey.objects.values().get(pk=row.pk).values())

    assert len(secret) == 43  # 256 bits
    assert secret not in stored


def test_two_keys_never_share_anything() -> None:
    assert len({keys.issue(ApiKey()) for _ in range(100)}) == 100


@pytest.mark.parametrize("header", [None, ""])
def test_no_header_is_told_apart_from_a_bad_key(header: str | None) -> None:
    assert keys.authenticate(header, NOW) is Refusal.MISSING


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "Basic dXNlcjpwYXNz",
        "Bearer stt_",
        "Bearer stt_abc.",
        "Bearer stt_abc." + "x" * 5000,
        "Bearer stt_abc.déf",
        "Bearer stt_abc.def ghi",
        "\x00",
    ],
)
def test_a_header_that_is_no_key_is_refused(header: str) -> None:
    assert keys.authenticate(header, NOW) is Refusal.INVALID


def test_a_wrong_secret_is_refused() -> None:
    _, header = new_key()
    _, other = new_key("other")
    forged = header.split(".")[0] + "." + other.split(".")[1]

    assert keys.authenticate(forged, NOW) is Refusal.INVALID


def test_the_scheme_is_read_in_any_case() -> None:
    _, header = new_key()

    assert keys.authenticate(header.replace("Bearer", "bearer"), NOW) is not Refusal.INVALID


def test_a_key_that_is_switched_off_is_refused() -> None:
    _, header = new_key(enabled=False)

    assert keys.authenticate(header, NOW) is Refusal.DISABLED


def test_a_key_is_refused_from_the_moment_it_expires() -> None:
    _, header = new_key(expires_at=NOW)

    assert isinstance(keys.authenticate(header, NOW - timedelta(seconds=1)), catalog.Key)
    assert keys.authenticate(header, NOW) is Refusal.EXPIRED


def test_a_wrong_secret_learns_nothing_about_a_key_that_is_switched_off() -> None:
    _, header = new_key(enabled=False)

    assert keys.authenticate(header + "x", NOW) is Refusal.INVALID


def test_a_key_works_as_soon_as_it_is_made() -> None:
    catalog.reload()
    row = ApiKey(name="new")
    text = keys.issue(row)
    row.save()

    assert isinstance(keys.authenticate(f"Bearer {text}", NOW), catalog.Key)


@pytest.mark.parametrize("name", ["unknown{}", "unknown"])
def test_s10_unknown_keys_have_the_database_read_a_bounded_number_of_times(name: str) -> None:
    looks = []
    catalog._cache = catalog.Cache(lambda held: looks.append(1) or catalog.Catalog(revision=1))
    catalog.refresh(WRITTEN_WITHIN_S)
    over = time.monotonic() + 0.5

    def knock(stranger: int) -> None:
        number = 0
        while time.monotonic() < over:
            number += 1
            keys.authenticate(f"Bearer stt_{name.format(f'{stranger}x{number}')}.secret", NOW)

    strangers = [threading.Thread(target=knock, args=(number,)) for number in range(8)]
    for stranger in strangers:
        stranger.start()
    for stranger in strangers:
        stranger.join()
    pauses = (time.monotonic() - over + 0.5) / catalog.CHASE_PACE_S

    assert 2 <= len(looks) <= pauses + 2


def test_a3_while_nothing_was_ever_read_no_key_is_said_to_be_wrong() -> None:
    def away(held: Any) -> Any:
        raise OperationalError("no route to host")

    catalog._cache = catalog.Cache(away)

    assert keys.authenticate("Bearer stt_abc.secret", NOW) is Refusal.UNCERTAIN


def test_s9_while_the_database_is_away_an_order_goes_by_what_was_last_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, header = new_key("night", role=Role.OPERATOR)
    _, off = new_key("gone", role=Role.OPERATOR, enabled=False)

    def away(held: Any) -> Any:
        raise OperationalError("no route to host")

    monkeypatch.setattr(catalog._cache, "_load", away)
    began = time.monotonic()
    found = [keys.authenticate(one, NOW, for_order=True) for one in (header, off)]

    assert isinstance(found[0], catalog.Key)
    assert found[1] is Refusal.DISABLED
    assert time.monotonic() - began < catalog.CONFIRM_WAIT_S


def test_s9_a_call_does_not_wait_for_a_database_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, header = new_key()
    hangs = threading.Event()
    monkeypatch.setattr(catalog._cache, "_load", lambda held: hangs.wait(WRITTEN_WITHIN_S) and held)
    monkeypatch.setattr(catalog.cache, "CONFIRMED_S", -1.0)  # as if nobody had asked for long
    took = []
    for _ in range(3):
        began = time.monotonic()
        assert isinstance(keys.authenticate(header, NOW), catalog.Key)
        took.append(time.monotonic() - began)
    hangs.set()

    assert took[0] < 0.25
    assert max(took[1:]) < 0.05


def test_a_known_key_is_checked_without_a_query_in_the_callers_thread() -> None:
    _, header = new_key()
    with CaptureQueriesContext(connection) as queries:
        keys.authenticate(header, NOW)

    assert len(queries) == 0


def test_the_use_of_a_key_is_written_at_most_once_a_minute() -> None:
    row, header = new_key()
    keys.authenticate(header, NOW)
    first = last_used_at(row)
    keys.authenticate(header, NOW + timedelta(seconds=59))
    second = last_used_at(row)
    keys.authenticate(header, NOW + timedelta(seconds=61))

    assert (first, second) == (NOW, NOW)
    assert last_used_at(row) == NOW + timedelta(seconds=61)


def test_a_use_is_written_after_writing_another_failed_in_whatever_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row, header = new_key()
    with monkeypatch.context() as broken:
        broken.setattr(keys.ApiKey.objects, "filter", lambda **_: 1 / 0)
        keys.authenticate(header, NOW)
        keys._usage.join(WRITTEN_WITHIN_S)
    later = NOW + timedelta(seconds=61)
    keys.authenticate(header, later)

    assert last_used_at(row) == later


def test_a_refused_key_is_not_written_down_as_used() -> None:
    row, header = new_key()
    keys.authenticate(header + "x", NOW)

    assert last_used_at(row) is None


def test_keys_outlive_a_rotation_of_the_secret_key(settings: Any) -> None:
    _, header = new_key()
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another one"
    while_rotating = keys.authenticate(header, NOW)
    keys._usage.join(WRITTEN_WITHIN_S)
    settings.SECRET_KEY_FALLBACKS = []
    catalog.reload()

    assert isinstance(while_rotating, catalog.Key)
    assert isinstance(keys.authenticate(header, NOW), catalog.Key)


def test_a_key_is_refused_under_another_secret_key(settings: Any) -> None:
    _, header = new_key()
    settings.SECRET_KEY = "another one"

    assert keys.authenticate(header, NOW) is Refusal.INVALID


def test_the_history_of_a_key_holds_no_hash() -> None:
    row, _ = new_key()

    assert not hasattr(row.history.first(), "secret_hash")
