"""`manage.py seed`: the starter configuration, for a first look and as a pattern for one's own.

Idempotent, and only ever adds: a row that is there stays as operators made it, and one that they
deleted stays away unless `--restore` asks for it.
"""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand
from django.db import models

from fallback import changes
from fallback.domain import DEFAULT_WHAT_COUNTS, Kind
from fallback.messages.defaults import DEFAULTS
from fallback.models import (
    AlertDestination,
    AlertTemplate,
    Policy,
    PolicyReason,
    Provider,
    Route,
    RouteStep,
)

SARVAM_LANGUAGES = ["hi-IN", "bn-IN", "gu-IN", "kn-IN", "ml-IN", "mr-IN"]
SARVAM_LANGUAGES += ["or-IN", "pa-IN", "ta-IN", "te-IN", "en-IN"]
PROVIDERS: dict[str, dict[str, Any]] = {
    "soniox": {
        "name": "Soniox",
        "settings": {"model": "stt-rt-v5"},
        "credential_hint": "SONIOX_API_KEY",
    },
    "deepgram": {
        "name": "Deepgram",
        "settings": {"model": "nova-3"},
        "credential_hint": "DEEPGRAM_API_KEY",
    },
    "sarvam": {
        "name": "Sarvam",
        "settings": {"model": "saarika:v2.5"},
        "languages": SARVAM_LANGUAGES,
        "credential_hint": "SARVAM_API_KEY",
    },
    "openai": {
        "name": "OpenAI",
        "settings": {"model": "gpt-4o-transcribe"},
        "credential_hint": "OPENAI_API_KEY",
    },
    "google": {
        "name": "Google Cloud Speech-to-Text",
        "settings": {"model": "latest_long"},
        "credential_hint": "GOOGLE_APPLICATION_CREDENTIALS",
    },
}
ROUTE, CHAIN = "breeze-buddy", ("soniox", "deepgram")


class Command(BaseCommand):
    """Writes the starter configuration."""

    help = "Adds the starter configuration: providers, policy, route, alerts. Idempotent."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--restore", action="store_true", help="also bring back what an operator deleted"
        )

    def handle(self, *args: Any, restore: bool, **options: Any) -> None:
        self.restore = restore
        with changes.made_by("command:seed", "the starter configuration"):
            policy = self._seed_policy()
            for slug, columns in PROVIDERS.items():
                self._seed_provider(policy, slug, columns)
            self._seed_route()
            self._seed_templates()
            self._seed_destination()

    def _seed_policy(self) -> Policy:
        """Providers cannot be without a policy, so this one comes back even if deleted."""
        policy, is_new = Policy.objects.get_or_create(name="default")
        if is_new:
            for reason, rule in DEFAULT_WHAT_COUNTS.items():
                PolicyReason.objects.create(
                    policy=policy,
                    reason=reason,
                    weight=rule.weight,
                    trips_at_once=rule.trips_at_once,
                    open_duration_s=rule.open_duration_s,
                )
        self._say("policy", "default", "added" if is_new else "there already")
        return policy

    def _seed_provider(self, policy: Policy, slug: str, columns: dict[str, Any]) -> None:
        if Provider.objects.filter(kind=Kind.STT, slug=slug).exists():
            return self._say("provider", slug, "there already")
        if self._was_deleted(Provider, kind=Kind.STT, slug=slug):
            return self._say("provider", slug, "deleted by an operator, left out")
        provider = Provider(kind=Kind.STT, slug=slug, policy=policy, **columns)
        provider.full_clean()
        provider.save()
        return self._say("provider", slug, "added")

    def _seed_route(self) -> None:
        if Route.objects.filter(slug=ROUTE).exists():
            return self._say("route", ROUTE, "there already")
        if self._was_deleted(Route, slug=ROUTE):
            return self._say("route", ROUTE, "deleted by an operator, left out")
        found = Provider.objects.filter(kind=Kind.STT, slug__in=CHAIN, enabled=True)
        chain = sorted(found, key=lambda provider: CHAIN.index(provider.slug))
        if not chain:
            return self._say("route", ROUTE, f"left out: it needs {' or '.join(CHAIN)}")
        route = Route.objects.create(slug=ROUTE, name="Breeze Buddy")
        for position, provider in enumerate(chain, start=1):
            RouteStep.objects.create(route=route, position=position, provider=provider)
        return self._say("route", ROUTE, "added: " + ", then ".join(map(str, chain)))

    def _seed_templates(self) -> None:
        """One for each event. The default of a deleted one is not sent either."""
        known = set(AlertTemplate.objects.values_list("event", flat=True))
        for event, default in DEFAULTS.items():
            if event in known:
                self._say("template", event, "there already")
            elif self._was_deleted(AlertTemplate, event=event):
                self._say("template", event, "deleted by an operator, left out")
            else:
                row = AlertTemplate(
                    event=event.value,
                    name=default.name,
                    title=default.title,
                    body=default.body,
                    severity=default.severity.value,
                )
                row.full_clean()
                row.save()
                self._say("template", event, "added")

    def _seed_destination(self) -> None:
        """The channel of SLACK_CHANNEL, as long as no destination was ever made."""
        channel = settings.SLACK_CHANNEL
        if not channel:
            return self._say("destination", "slack", "left out: SLACK_CHANNEL is not set")
        if AlertDestination.objects.exists():
            return self._say("destination", "slack", "there is one already")
        if self._was_deleted(AlertDestination, name="slack"):
            return self._say("destination", "slack", "deleted by an operator, left out")
        row = AlertDestination(name="slack", channel=channel)
        try:
            row.full_clean()
        except ValidationError as error:
            wrong = " ".join(error.messages)
            return self._say("destination", "slack", f"left out: SLACK_CHANNEL: {wrong}")
        row.save()
        return self._say("destination", "slack", f"added: {channel}")

    def _was_deleted(self, model: Any, **key: str) -> bool:
        history: models.Manager[Any] = model.history
        return not self.restore and history.filter(history_type="-", **key).exists()

    def _say(self, noun: str, name: str, what: str) -> None:
        self.stdout.write(f"{noun} {name}: {what}")
