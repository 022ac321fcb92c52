"""How long one statement may take in a web process; migrations and the pump may take their time."""

from typing import Final

from django.db import connections

from controlplane import env

DEFAULT_S: Final = 15


def limit_statements() -> None:
    """Have PostgreSQL end each statement of this process that takes too long.

    Called before the first connection is made: it is said with each of them. SQLite has no such
    limit, and needs none: it takes no regular expressions (fallback/admin/asking.py).
    """
    limit_s = env.number("DATABASE_STATEMENT_TIMEOUT_S", DEFAULT_S, lowest=0, highest=3_600)
    database = connections.settings["default"]
    if limit_s and database["ENGINE"] == "django.db.backends.postgresql":
        options = database["OPTIONS"]
        before = options.get("options", "")
        options["options"] = f"{before} -c statement_timeout={limit_s * 1000}".strip()
