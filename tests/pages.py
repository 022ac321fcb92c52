"""A row of every model that has a page, and people of every role: for tests that open all pages."""

from typing import Any

from django.contrib.auth.models import Group, User
from django.test import Client
from django.utils import timezone

from fallback import catalog, roles, services
from fallback.models import (
    Alert,
    AlertDestination,
    AlertTemplate,
    AlertThread,
    ApiKey,
    ConfigChange,
    DeadLetter,
    Incident,
    Proposal,
    Provider,
    SlackOperator,
    Transition,
)
from fallback.roles import Role
from tests.configuration import make_route

# Least first. A superuser is above them, staff without a role below.
PEOPLE = ["stranger", "staff", *Role, "superuser"]


def one_of_each() -> dict[str, Any]:
    """Save a row of every model that has a page."""
    route = make_route("breeze", "soniox", "deepgram")
    soniox = Provider.objects.get(slug="soniox")
    place = AlertDestination.objects.create(name="on-call", channel="C0123ABC")
    incident = Incident.objects.create(
        key="i", provider="soniox", opened_at=timezone.now(), cause="manual"
    )
    thread = AlertThread.objects.create(
        destination=place, key="i", incident_key="i", opened_at=timezone.now()
    )
    alert = Alert.objects.create(
        event_id="e", event="tripped", destination=place, thread=thread, at=timezone.now(),
        status="dead",
    )  # fmt: skip
    template = AlertTemplate.objects.create(event="tripped", name="T", title="t")
    catalog.reload()
    services.publish_configuration()
    return {
        "provider": soniox,
        "policy": soniox.policy,
        "route": route,
        "alerttemplate": template,
        "alertdestination": place,
        "apikey": ApiKey.objects.create(name="k", role="reader", public="k"),
        "slackoperator": SlackOperator.objects.create(name="ana", slack_user="U0123ABC"),
        "transition": Transition.objects.create(event_id="t", provider="soniox",
                                                before="closed", after="open", at=timezone.now()),
        "incident": incident,
        "configchange": ConfigChange.objects.newest(),
        "deadletter": DeadLetter.objects.create(kind="stt", entry_id="1-1", fields={"a": "b"}),
        "alert": alert,
        "proposal": Proposal.objects.create(author="someone", base_revision=1, summary="s",
                                            expires_at=timezone.now()),
        "user": User.objects.create_user("someone"),
        "group": Group.objects.create(name="ours"),
    }  # fmt: skip


def person(name: str) -> Client:
    """Sign in somebody who is this to us."""
    browser = Client()
    if name == "superuser":
        browser.force_login(User.objects.create_superuser(name))
    elif name != "stranger":
        user = User.objects.create_user(name, is_staff=True)
        if name in list(Role):
            roles.give(user, Role(name))
        browser.force_login(user)
    return browser
