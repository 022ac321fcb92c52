"""Is the database's schema the one that this version's migrations make?

Django believes the list of applied migrations. A database made by an unreleased version, whose
migrations were edited afterwards, has the list and lacks the columns: then every event fails.
"""

from collections.abc import Iterable
from typing import Final

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.exceptions import InconsistentMigrationHistory
from django.db.migrations.executor import MigrationExecutor

from fallback.fitness import Newer, NotFit

REMEDY: Final = (
    "Restore a backup that a released version made, or start with an empty database: config_export"
    " by the version that made this one, and config_apply here, carry the configuration over."
)


def require() -> None:
    """Raise NotFit with one sentence unless the schema is exactly this version's."""
    connection = connections[DEFAULT_DB_ALIAS]
    executor = require_known(connection)
    if waiting := executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise NotFit(f"{len(waiting)} migrations are not applied: run manage.py migrate")
    require_columns(connection)


def require_known(connection: BaseDatabaseWrapper | None = None) -> MigrationExecutor:
    """Raise NotFit unless this version's migrations lead on from those that are applied."""
    connection = connection or connections[DEFAULT_DB_ALIAS]
    executor = MigrationExecutor(connection)
    loader = executor.loader
    try:
        loader.check_consistent_history(connection)
    except InconsistentMigrationHistory as error:
        raise NotFit(f"The database is of an unreleased version: {error} {REMEDY}") from error
    known = {*loader.disk_migrations}
    known |= {one for migration in loader.disk_migrations.values() for one in migration.replaces}
    unknown = sorted(
        f"{app}.{name}"
        for app, name in set(loader.applied_migrations) - known
        if app in loader.migrated_apps
    )
    if unknown:
        raise Newer(
            f"The database has migrations that this version does not know ({_some(unknown)}): it"
            " is of a newer version. Run that one, or restore a backup that was made before."
        )
    return executor


def require_columns(connection: BaseDatabaseWrapper | None = None) -> None:
    """Raise NotFit unless every table has every column that the models read."""
    connection = connection or connections[DEFAULT_DB_ALIAS]
    if missing := sorted(_missing_columns(connection)):
        raise NotFit(
            f"The database has no {_some(missing)}, though its migrations should have made that:"
            f" it is of an unreleased version. {REMEDY}"
        )


def _missing_columns(connection: BaseDatabaseWrapper) -> Iterable[str]:
    with connection.cursor() as cursor:
        tables = set(connection.introspection.table_names(cursor))
        for model in apps.get_models(include_auto_created=True):
            if not model._meta.managed or model._meta.proxy:
                continue
            table = model._meta.db_table
            if table not in tables:
                yield f"table {table}"
                continue
            # Django's own description of a table costs 30 times as much: it parses SQL.
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)} LIMIT 0")
            found = {column[0] for column in cursor.description}
            wanted = {field.column for field in model._meta.local_concrete_fields}
            yield from (f"column {table}.{column}" for column in wanted - found)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
