"""`manage.py rehearse POLICY`: what other values would have done to the recorded past.

Changes nothing. The admin's rehearsals run here too, as children of the pumps (`--job`).
"""

import argparse
import copy
import json
import sys
import time
from argparse import ArgumentParser
from dataclasses import fields
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from fallback import domain
from fallback.backtest import Progress
from fallback.errors import FallbackError
from fallback.models import Policy, Rehearsal, rules_of
from fallback.rehearsals import SPANS, work
from fallback.rehearsals.table import points_table, report_table

SETTABLE = [field.name for field in fields(domain.Policy) if field.name != "what_counts"]
EVERY_S = 0.5


class Command(BaseCommand):
    """Replays the recorded past through other thresholds."""

    help = "Says what other thresholds would have done to the recorded past; saves nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("policy", nargs="?", help="the policy's name")
        parser.add_argument(
            "--set", action="append", default=[], metavar="NAME=VALUE", dest="values",
            help=f"a value to try, as often as you like: {', '.join(SETTABLE)}",
        )  # fmt: skip
        parser.add_argument("--span", choices=list(SPANS), default="7d", help="[%(default)s]")
        parser.add_argument("--suggest", action="store_true", help="search for better values")
        parser.add_argument("--json", action="store_true", help="print the whole answer as JSON")
        for internal in ("--job", "--parent"):  # how a pump starts it
            parser.add_argument(internal, type=int, help=argparse.SUPPRESS)

    def handle(self, *_: Any, job: int | None, parent: int | None, **options: Any) -> None:
        if job is not None:
            work.be_a_child(parent or 0)
            sys.exit(0 if work.run(job) else 1)
        try:
            found = work.answer(self.question(**options), self.progress())
        except FallbackError as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError("Stopped.", returncode=130) from None
        self.show(found, **options)

    def question(
        self, *, policy: str | None, values: list[str], span: str, suggest: bool, **_: Any
    ) -> work.Question:
        """Return what is asked. Raises CommandError for what makes no sense."""
        row = Policy.objects.filter(name=policy).first()
        if row is None:
            known = ", ".join(Policy.objects.values_list("name", flat=True)) or "none yet"
            raise CommandError(f"There is no policy {policy!r}; there are: {known}.")
        what = Rehearsal.What.SUGGEST if suggest else Rehearsal.What.REHEARSE
        now = timezone.now()
        return work.question(row, what=what, span=span, proposed=proposed(row, values), now=now)

    def progress(self) -> Progress:
        """Return what shows how far it is, on a terminal alone."""
        shown_at_s = float("-inf")

        def show(done: float) -> bool:
            nonlocal shown_at_s
            if self.stderr.isatty() and time.monotonic() - shown_at_s >= EVERY_S:
                shown_at_s = time.monotonic()
                self.stderr.write(f"\r{done:4.0%} ", ending="")
            return True

        return show

    def show(self, found: dict[str, Any], *, suggest: bool, **options: Any) -> None:
        """Print the answer."""
        if self.stderr.isatty():
            self.stderr.write("\r     \r", ending="")
        if options["json"]:
            self.stdout.write(json.dumps(found, indent=2))
        else:
            self.stdout.write(points_table(found) if suggest else report_table(found))


def proposed(saved: Policy, values: list[str]) -> domain.Policy:
    """Return the policy with other values, judged as the admin would on save."""
    row = copy.copy(saved)
    rules = rules_of(row.reasons.all())
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or name not in SETTABLE:
            raise CommandError(f"--set {text}: write NAME=VALUE, NAME one of {', '.join(SETTABLE)}")
        setattr(row, name, value)
    try:
        row.full_clean()
    except ValidationError as error:
        lines = [f"{name}: {' '.join(said)}" for name, said in error.message_dict.items()]
        raise CommandError("; ".join(lines)) from error
    return row.as_value(rules)
