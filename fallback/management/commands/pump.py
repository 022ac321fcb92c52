"""`manage.py pump`: the event worker alone. Any number may run, and each may be killed."""

import os
import signal
import socket
import threading
from argparse import ArgumentParser
from typing import Any

import structlog
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections

from controlplane import complaints
from fallback import alerts, exporter
from fallback.alerts.sender import Sender
from fallback.fitness import Newer, NotFit, schema
from fallback.pump import Pump

log = structlog.get_logger(__name__)

# A turn that hangs on a dead host is left: what it did is stored, or will be done again.
PATIENCE_S = 2.0


class Command(BaseCommand):
    """Carry events from Redis to the database, and alerts to Slack, until told to stop."""

    help = "Carry events from Redis to the database, alerts and the live feed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--name",
            default=f"{socket.gethostname()}-{os.getpid()}",
            help="This pump among the others; one that comes back by its name goes on at once.",
        )

        parser.add_argument(
            "--metrics",
            metavar="[HOST:]PORT",
            default="",
            help="Serve this pump's /metrics there: transitions and alerts are counted here.",
        )

    def handle(self, *_args: Any, name: str, metrics: str, **_options: Any) -> None:
        require_schema()
        if metrics:
            host, _, port = metrics.rpartition(":")
            if not port.isdecimal() or not 0 < int(port) < 65_536:
                raise CommandError(f"--metrics {metrics}: expected a port, or host:port")
            exporter.serve(host, int(port))
        stop = threading.Event()

        def leave(*_: Any) -> None:
            stop.set()
            hard = threading.Timer(PATIENCE_S, os._exit, [0])
            hard.daemon = True
            hard.start()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, leave)
        if alerts.is_configured():
            sender = Sender(name=name)
            threading.Thread(target=sender.run, args=[stop], name="sender", daemon=True).start()
        Pump(name).run(stop)


def require_schema() -> None:
    """Refuse a database that events cannot be written to, for each would become a dead letter.

    One that is away is waited for; one that a newer version has just migrated is used.
    """
    try:
        schema.require()
    except Newer as problem:
        log.warning("database_newer", problem=str(problem))
    except NotFit as problem:
        raise CommandError(str(problem)) from problem
    except DatabaseError as error:
        if text := complaints.lasting(error):
            raise CommandError(text) from error
    finally:
        connections.close_all()
