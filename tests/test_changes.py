"""A change of the configuration is announced once, when it is committed and not before."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from fallback import breaker, catalog
from fallback.domain import Kind
from fallback.models import ApiKey, ConfigRevision, Policy, Provider, Route
from tests.configuration import make_policy, make_provider, make_route

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin with nothing held, and see no change unless it was announced."""
    monkeypatch.setattr(catalog, "_cache", catalog.Cache())
    monkeypatch.setattr(catalog.cache, "LOOK_EVERY_S", 3600.0)
    return


def published() -> int | None:
    return breaker.snapshot(Kind.STT, ["soniox"]).revision


def test_saving_a_row_raises_the_revision() -> None:
    make_policy()
    before = ConfigRevision.current()
    make_provider()

    assert ConfigRevision.current() > before > 0


def test_deleting_a_row_raises_the_revision() -> None:
    provider = make_provider()
    before = ConfigRevision.current()
    provider.delete()

    assert ConfigRevision.current() > before


def test_one_transaction_raises_the_revision_once(time_machine: Any) -> None:
    time_machine.move_to("2026-11-22T12:00:00Z", tick=False)
    make_policy()
    before = ConfigRevision.current()
    with transaction.atomic():
        make_route("breeze", "soniox", "deepgram")

    assert ConfigRevision.current() == before + 1


def test_a_change_is_in_this_process_as_soon_as_it_is_committed() -> None:
    catalog.refresh(5)
    make_route("breeze", "soniox")

    assert list(catalog.current().routes) == ["breeze"]


def test_a_change_is_given_to_the_breakers_as_soon_as_it_is_committed() -> None:
    make_provider("soniox")

    assert published() == ConfigRevision.current()


def test_a_transaction_that_is_rolled_back_announces_nothing() -> None:
    make_provider("soniox")
    before = published()
    with transaction.atomic():
        make_provider("deepgram")
        transaction.set_rollback(True)

    assert published() == before == ConfigRevision.current()


def test_a_change_after_a_savepoint_that_was_rolled_back_is_announced() -> None:
    make_policy()
    before = ConfigRevision.current()
    with transaction.atomic():
        with transaction.atomic():
            make_provider("soniox")
            transaction.set_rollback(True)
        make_provider("deepgram")

    assert ConfigRevision.current() > before
    assert [slug for _, slug in catalog.current().providers] == ["deepgram"]


def test_a_change_is_saved_though_redis_does_not_answer(redis_client: Any) -> None:
    make_policy()
    redis_client.execute_command("CLIENT", "PAUSE", 3_000, "ALL")
    make_provider("soniox")
    redis_client.ping()  # until it answers again

    assert Provider.objects.exists()
    assert (Kind.STT, "soniox") in catalog.current().providers


def test_a_row_and_its_history_are_saved_together_or_not_at_all() -> None:
    make_route("breeze", "soniox")
    before = Route.history.count()
    route = Route.objects.get()
    route.kind = "xxx"  # refused by the database
    with pytest.raises(Exception, match=r"(?i)constraint"):
        route.save()

    assert Route.history.count() == before


def test_noting_the_use_of_a_key_is_no_change() -> None:
    row = ApiKey.objects.create(name="pods", public="a", secret_hash="b")
    before = ConfigRevision.current()
    ApiKey.objects.filter(pk=row.pk).update(last_used_at="2026-11-22T12:00:00Z")

    assert ConfigRevision.current() == before


def test_the_revision_rises_by_one_for_each_of_many_writers_at_once(time_machine: Any) -> None:
    time_machine.move_to("2026-11-22T12:00:00Z", tick=False)
    make_policy()
    before = ConfigRevision.current()
    writers = [threading.Thread(target=rename_policy, args=[number]) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert ConfigRevision.current() == before + 8


def rename_policy(number: int) -> None:
    try:
        policy = Policy.objects.get()
        policy.notes = f"by writer {number}"
        policy.save()
    finally:
        connection.close()
