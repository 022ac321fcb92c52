"""`manage.py role NAME ROLE`: what a person may do in the admin and on the dashboard."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from fallback import changes, roles
from fallback.roles import MEANINGS, Role

NONE = "none"


class Command(BaseCommand):
    """Gives a role to a user, takes it away, or says which it is."""

    help = f"Gives a user a role ({', '.join(Role)}), takes it away with `none`, or prints it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="whose: the name with which they sign in")
        meanings = "; ".join(f"{role}: {meaning}" for role, meaning in MEANINGS.items())
        parser.add_argument("role", nargs="?", choices=[*Role, NONE], help=meanings)

    def handle(self, *args: Any, name: str, role: str | None, **options: Any) -> None:
        user = User.objects.filter(username=name).first()
        if user is None:
            raise CommandError(
                f"There is no user {name}: make one in the admin under Users, or with"
                " `manage.py createsuperuser`."
            )
        if role is not None:
            with changes.made_by("command:role"):
                roles.give(user, None if role == NONE else Role(role))
        self.stdout.write(f"{name}: {self._described(user)}")

    def _described(self, user: User) -> str:
        if user.is_superuser:
            return "a superuser, who may do everything whatever the role"
        role = roles.of(user)
        return f"{role}: {MEANINGS[role]}" if role else "no role"
