"""WHICH EVENTS DESERVE AN ALERT, TO WHOM, AND HOW EACH IS DELIVERED ONCE.

    outbox       events -> rows, in the transaction of the pump; unique by event and destination
    threads      which message of a channel an alert belongs to
    cards        what an incident's message shows, from history and the status
    claims       whose a thread is, for how long, and the times that all this rests on
    outages      Slack away: one message tries it, the others wait
    delivery     one thread brought up to date in Slack: message, replies, reminder
    sender       the worker that claims threads which are due; any number of them may run
    door         the only place that talks to Slack, and what its refusals mean

A message is sent only after its key was stored, and the key travels in Slack's message metadata:
where an answer is lost, the sender looks for the key before it sends anything again.
"""

from django.conf import settings

from fallback.alerts.outbox import acknowledge, notify, send_again, send_test

__all__ = ["acknowledge", "is_configured", "missing", "notify", "send_again", "send_test"]


def is_configured() -> bool:
    """Whether alerts can be sent at all."""
    return bool(settings.SLACK_BOT_TOKEN)


def missing() -> list[str]:
    """Return what is not set of Slack's side, each with what it would do."""
    wanted = {
        "SLACK_BOT_TOKEN": "without it no alert is sent, and none is kept to be sent",
        "SLACK_SIGNING_SECRET": "without it /stt-status and the buttons are refused over HTTP",
    }
    return [f"{name} is not set: {why}." for name, why in wanted.items() if not _is_set(name)]


def _is_set(name: str) -> bool:
    by_socket = name == "SLACK_SIGNING_SECRET" and bool(settings.SLACK_APP_TOKEN)
    return bool(getattr(settings, name)) or by_socket
