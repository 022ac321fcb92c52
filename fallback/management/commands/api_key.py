"""`manage.py api_key NAME --role …`: creates an API key and prints it, the only time it is shown.

Standard output holds the key alone, so that a script can take it: `KEY=$(manage.py api_key …)`.
"""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from fallback import changes, keys
from fallback.models import ApiKey, Role


class Command(BaseCommand):
    """Creates an API key."""

    help = "Creates an API key and prints it, alone, on standard output: the only time."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="who holds it, such as pipecat-pods-prod; unique")
        parser.add_argument("--role", required=True, choices=Role.values, help="what it may do")
        parser.add_argument(
            "--expires-days", type=int, metavar="N", help="refused after N days (default: never)"
        )

        parser.add_argument(
            "--route",
            action="append",
            default=[],
            metavar="SLUG",
            help="bind it to this route; may be given several times (default: all routes)",
        )

    def handle(
        self,
        *args: Any,
        name: str,
        role: str,
        expires_days: int | None,
        route: list[str],
        **options: Any,
    ) -> None:
        if expires_days is not None and not 1 <= expires_days <= 36_500:
            raise CommandError("--expires-days takes a number of days from 1 to 36500.")
        expires_at = timezone.now() + timedelta(days=expires_days) if expires_days else None
        row = ApiKey(name=name, role=role, expires_at=expires_at, routes=route)
        text = keys.issue(row)
        try:
            row.full_clean()
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        with changes.made_by("command:api_key", f"a new key for {name}"):
            row.save()
        self.stdout.write(text)
