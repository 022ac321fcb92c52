"""`manage.py drill`: an outage drilled through the REST API of a running server.

On a route of its own, made for it and deleted after; no production route is touched. Ends with a
verdict, and with exit code 0 only if every promise was kept. Ctrl-C and SIGTERM clear all away.
"""

import asyncio
import logging
import signal
import time
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import httpx
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from fallback.drill import ROUTE, DrillError, Plan, is_local, run, staged

EVERY_S = 1.0  # a line, where nobody can rewrite it


class Command(BaseCommand):
    """Drills an outage."""

    help = "Drills an outage: simulated calls over HTTP, one provider failing for a while."

    def add_arguments(self, parser: ArgumentParser) -> None:
        plan = Plan()
        url = f"http://127.0.0.1:{settings.PORT}"
        parser.add_argument("--url", default=url, help="the server [%(default)s]")
        parser.add_argument("--key", help="an operator's API key [a temporary one is made]")
        parser.add_argument("--route", help="with --key: drill on this route of the server")
        parser.add_argument("--provider", help="with --route: the provider that fails")
        for name, default, what in (
            ("rate", plan.rate, "calls a second"),
            ("fail-after", plan.fail_after_s, "seconds before the provider fails"),
            ("fail-for", plan.fail_for_s, "seconds for which it fails"),
            ("duration", plan.duration_s, "seconds that it may take at most"),
        ):
            what = f"{what} [{default:g}]"
            parser.add_argument(f"--{name}", type=positive, default=default, help=what)
        parser.add_argument("--seed", type=int, default=plan.seed, help="of chance [%(default)s]")
        parser.add_argument("--yes", action="store_true", help="also on another machine's server")

    def handle(self, *_: Any, **options: Any) -> None:
        refuse(options)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        logging.getLogger("httpx").setLevel(logging.WARNING)  # else a line for each request
        stage: AbstractContextManager[str] = nullcontext(options["key"])
        try:
            with stage if options["key"] else staged() as key:
                work = run(plan_of(options), url=options["url"], key=key, show=self.progress())
                tally = asyncio.run(work)
        except KeyboardInterrupt:
            raise CommandError("Stopped; everything was cleared away.", returncode=130) from None
        except DatabaseError as error:
            raise CommandError(
                f"The database is not ready ({error}): manage.py migrate."
            ) from error
        except (DrillError, httpx.HTTPError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"\n{tally.report()}")
        if any(tally.broken()):
            raise CommandError("The drill failed.")

    def progress(self) -> Callable[[str], None]:
        """Return what shows a line: in place on a terminal, else one a second."""
        if self.stdout.isatty():
            return lambda line: self._write(f"\r{line:<110}")
        shown_at_s = float("-inf")

        def show(line: str) -> None:
            nonlocal shown_at_s
            if time.monotonic() - shown_at_s >= EVERY_S:
                shown_at_s = time.monotonic()
                self._write(f"{line}\n")

        return show

    def _write(self, text: str) -> None:
        self.stdout.write(text, ending="")
        self.stdout.flush()


def positive(text: str) -> float:
    """Read a number above 0, for argparse."""
    number = float(text)
    if not 0 < number <= 3600:
        raise ValueError(text)
    return number


def refuse(options: dict[str, Any]) -> None:
    """Raise CommandError for what could hurt somebody's production, or makes no sense."""
    if options["route"] and not (options["key"] and options["provider"]):
        raise CommandError("--route needs --key and --provider: the server's own, and who fails.")
    if options["yes"]:
        return
    if options["route"] not in {None, ROUTE}:
        raise CommandError(
            f"This reports failures of {options['provider']} that are none: its breaker opens for"
            f" every route, for as long as its policy says. If that is what you want: --yes."
        )
    if not is_local(options["url"]):
        raise CommandError(
            f"{options['url']} is another machine: its alerts will go off. If that is what you"
            " want: --yes."
        )


def plan_of(options: dict[str, Any]) -> Plan:
    """Return the plan that was asked for."""
    plan = Plan(
        rate=options["rate"],
        fail_after_s=options["fail_after"],
        fail_for_s=options["fail_for"],
        duration_s=options["duration"],
        seed=options["seed"],
    )
    if options["route"]:
        return replace(plan, route=options["route"], provider=options["provider"])
    return plan
