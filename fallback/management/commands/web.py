"""`manage.py web`: one web process, with the server's options that the product relies on.

`up` starts the same command, so these options have one home. Any number may run.
"""

from typing import Any, Final

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

# Requests in flight have this long to end, and open sockets are told to come back (1012).
DRAIN_S: Final = 10


class Command(BaseCommand):
    """Serve HTTP and WebSocket until told to stop."""

    help = "Run one web process: REST, dashboard, admin and the live feed."
    requires_system_checks = []  # decisions go on whatever they find; `check` is a command

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on [127.0.0.1]")
        parser.add_argument("--port", type=int, default=settings.PORT, help="port [%(default)s]")

    def handle(self, *_args: Any, host: str, port: int, **_options: Any) -> None:
        uvicorn.run("controlplane.asgi:application", host=host, port=port, **options())


def options() -> dict[str, Any]:
    """Return uvicorn's options.

    Whose `X-Forwarded-For` is believed must be said: uvicorn by itself believes every client on
    this machine, and any of them could choose the address that logs and throttles see.
    """
    proxies = settings.FORWARDED_ALLOW_IPS
    return {
        "lifespan": "off",  # Django has none
        "log_config": None,  # controlplane.logs has it
        "access_log": False,  # controlplane.request_log has one line a request
        "http": "controlplane.connections:Connection",  # which bounds how long we are kept waiting
        "ws_max_size": 16 * 1024,  # there is one thing to say to the feed, and it is short
        "proxy_headers": bool(proxies),
        "forwarded_allow_ips": proxies,
        "timeout_graceful_shutdown": DRAIN_S,
        "ws_ping_interval": 20.0,
    }
