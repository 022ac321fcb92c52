"""A database whose schema is not what this version's migrations make is refused in one sentence."""

import pytest
from django.db import connection

from fallback import checks
from fallback.fitness import NotFit, schema

pytestmark = [pytest.mark.django_db, pytest.mark.postgres]


def execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def refused() -> str:
    """Return the sentence with which the database is refused."""
    with pytest.raises(NotFit) as refusal:
        schema.require()
    assert [str(one.msg) for one in checks.check_schema(databases=["default"])] == [
        str(refusal.value)
    ]
    return str(refusal.value)


def test_the_schema_that_the_migrations_make_is_accepted():
    schema.require()

    assert checks.check_schema(databases=["default"]) == []


def test_a6_a_column_that_a_migration_edited_later_would_have_made_is_missed():
    execute("ALTER TABLE fallback_alert DROP COLUMN sending_key")
    text = refused()

    assert "no column fallback_alert.sending_key" in text
    assert "config_export" in text
    assert "\n" not in text


def test_a6_a_table_that_is_not_there_is_missed():
    execute("DROP TABLE fallback_providerminute")

    assert "no table fallback_providerminute" in refused()


def test_a6_a_migration_applied_before_what_it_builds_on_is_told():
    execute("DELETE FROM django_migrations WHERE app = 'fallback' AND name = '0008_rehearsals'")

    assert "0009_roles is applied before its dependency fallback.0008_rehearsals" in refused()


def test_a6_a_database_of_a_newer_version_is_told():
    execute(
        "INSERT INTO django_migrations (app, name, applied)"
        " VALUES ('fallback', '9999_later', CURRENT_TIMESTAMP)"
    )

    assert "does not know (fallback.9999_later)" in refused()


def test_what_an_app_that_is_gone_left_behind_is_no_matter():
    execute(
        "INSERT INTO django_migrations (app, name, applied)"
        " VALUES ('uninstalled', '0001_initial', CURRENT_TIMESTAMP)"
    )

    schema.require()


def test_migrations_that_wait_are_told_and_no_error_of_check_which_migrate_runs():
    execute("DELETE FROM django_migrations WHERE app = 'sessions'")

    with pytest.raises(NotFit, match=r"1 migrations are not applied: run manage\.py migrate"):
        schema.require()
    assert checks.check_schema(databases=["default"]) == []
