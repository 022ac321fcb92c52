"""`manage.py slack_socket`: Slack over Socket Mode, where no public URL is to be had."""

import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from slack_bolt.adapter.socket_mode import SocketModeHandler
from slack_sdk import WebClient

from fallback.slack import listening


class Command(BaseCommand):
    """Answer /stt-status and buttons over a WebSocket to Slack until told to stop."""

    help = "Slack over Socket Mode: takes SLACK_APP_TOKEN (xapp-…) and SLACK_BOT_TOKEN."

    def handle(self, *_args: Any, **_options: Any) -> None:
        if not settings.SLACK_APP_TOKEN:
            raise CommandError(
                "SLACK_APP_TOKEN is not set: make an app-level token with the scope"
                " connections:write, and switch Socket Mode on."
            )
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        client = WebClient(token=settings.SLACK_APP_TOKEN, base_url=settings.SLACK_API_URL)
        handler = SocketModeHandler(listening.app(), settings.SLACK_APP_TOKEN, web_client=client)
        handler.connect()  # type: ignore[no-untyped-call]
        self.stdout.write("Connected to Slack by Socket Mode.")
        stop.wait()
        handler.close()  # type: ignore[no-untyped-call]
