"""A database ready to serve: migrations, the starter configuration, and a first admin.

Every step may run again at each start; none undoes what an operator changed.
"""

import secrets
from dataclasses import dataclass

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection

from controlplane import env
from fallback.fitness import schema


@dataclass(frozen=True, kw_only=True)
class Admin:
    """Who can sign in; `password` only if it was made up just now, for it is shown this once."""

    username: str
    password: str | None


def prepare_database() -> Admin:
    """Migrate, seed and see to an admin; hold no connection afterwards.

    Raises NotFit for a database that this version's migrations cannot have made.
    """
    schema.require_known()
    call_command("migrate", interactive=False, verbosity=0)
    schema.require_columns()
    call_command("seed", verbosity=0)
    admin = ensure_admin()
    connection.close()
    if hasattr(connection, "close_pool"):  # PostgreSQL only
        connection.close_pool()
    return admin


def ensure_admin() -> Admin:
    """Return the first admin; make one if there is none.

    Named by DJANGO_SUPERUSER_USERNAME or `admin`, with DJANGO_SUPERUSER_PASSWORD or a random one.
    """
    users = get_user_model()._default_manager
    existing = users.filter(is_superuser=True, is_active=True).order_by("pk").first()
    if existing is not None:
        return Admin(username=existing.get_username(), password=None)
    username = env.text("DJANGO_SUPERUSER_USERNAME", "admin")
    given = env.text("DJANGO_SUPERUSER_PASSWORD")
    made_up = None if given else secrets.token_urlsafe(12)
    email = env.text("DJANGO_SUPERUSER_EMAIL")
    users.create_superuser(username, email=email, password=given or made_up)
    return Admin(username=username, password=made_up)
