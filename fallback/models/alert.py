"""Alerts as operators set them: templates, destinations, and who may give orders in Slack."""

import re
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, RegexValidator
from django.db import models
from simple_history.models import HistoricalRecords

from fallback.messages import mentions, template
from fallback.messages.events import AlertEvent, Severity
from fallback.models.configured import Configured, choices
from fallback.models.provider import Provider
from fallback.models.route import Route
from fallback.models.validators import one_of

validate_channel = RegexValidator(
    r"\A(?:[CGD][A-Z0-9]{2,20}|#[a-z0-9_\-\u00c0-\uffff]{1,80})\Z",
    "Give the channel's id, such as C0123ABC (in Slack: the channel's name, at the bottom), or its"
    " name with “#”, such as #stt-alerts.",
    code="channel",
)
validate_slack_user = RegexValidator(
    r"\A[UW][A-Z0-9]{2,20}\Z",
    "This is a Slack member id, such as U0123ABC (in Slack: the profile, ⋮, Copy member ID).",
    code="slack_user",
)


def validate_mentions(value: Any) -> None:
    """Refuse anything but a list of different mentions: `here`, `U…`, `W…`, `S…`."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValidationError('Give a list such as ["here", "U0123ABC"].', code="mentions")
    wrong = [mentions.problem(one) for one in value if mentions.parsed(one) is None]
    if wrong:
        raise ValidationError(wrong, code="mentions")
    if len(value) > mentions.MOST:
        raise ValidationError(f"At most {mentions.MOST} mentions.", code="mentions")


class AlertDestination(Configured):
    """Where alerts go: a Slack channel, with whom to mention in it."""

    name = models.CharField(max_length=63, unique=True, help_text="Such as “on-call”.")
    kind = models.CharField(
        max_length=8, choices=[("slack", "Slack channel")], default="slack", help_text="What it is."
    )
    channel = models.CharField(
        max_length=90,
        validators=[validate_channel],
        help_text="The channel's id (C0123ABC), or #name. Invite the app to it: /invite.",
    )
    enabled = models.BooleanField(default=True, help_text="Off: no alert goes there.")
    mentions = models.JSONField(
        default=list,
        blank=True,
        validators=[validate_mentions],
        help_text="Whom critical alerts mention, unless their template says otherwise: here, ids"
        " of people (U…) and of groups (S…), separated by commas.",
    )
    remind_every_min = models.PositiveIntegerField(
        "remind every (min)",
        default=30,
        validators=[MaxValueValidator(1440)],
        help_text="Minutes after which an open incident that nobody acknowledged is told again."
        " 0: never. Sane: 15 to 60.",
    )
    providers = models.ManyToManyField(
        Provider,
        blank=True,
        related_name="alert_destinations",
        help_text="Alerts about these go here instead of to the general destinations.",
    )
    routes = models.ManyToManyField(
        Route,
        blank=True,
        related_name="alert_destinations",
        help_text="Alerts about calls of these routes go here instead of to the general"
        " destinations. Neither provider nor route: this is a general destination.",
    )
    notes = models.TextField(blank=True, help_text="Who reads it. Operators only.")
    channel_id = models.CharField(max_length=30, blank=True, editable=False)
    held_until = models.DateTimeField(null=True, editable=False)
    problem = models.TextField(blank=True, editable=False)

    history = HistoricalRecords(excluded_fields=["channel_id", "held_until", "problem"])

    class Meta(Configured.Meta):
        ordering = ["name"]

    def __str__(self) -> str:
        return f"{self.name} ({self.channel})"

    def clean(self) -> None:
        super().clean()
        self.mentions = normalized(self.mentions)
        before = type(self).objects.filter(pk=self.pk).values_list("channel", flat=True).first()
        if before != self.channel:
            self.channel_id, self.held_until, self.problem = "", None, ""


class AlertTemplate(Configured):
    """What is said about one event."""

    event = models.CharField(
        max_length=32, choices=choices(AlertEvent), unique=True, help_text="What it tells."
    )
    name = models.CharField(max_length=100, help_text="What operators call it.")
    enabled = models.BooleanField(
        default=True, help_text="Off: never sent; the others do without it."
    )
    severity = models.CharField(
        max_length=8,
        choices=choices(Severity),
        default=Severity.INFO.value,
        help_text="Critical alerts mention whom their destination says.",
    )
    title = models.CharField(
        max_length=200, help_text="One line, at most 150 characters once filled."
    )
    body = models.TextField(
        blank=True,
        help_text="*bold*, `code` and {values}. A line of which every value is missing is left"
        " out. At most 3,000 characters once filled.",
    )
    destination = models.ForeignKey(
        AlertDestination,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="templates",
        help_text="Only there. Empty: wherever alerts about the provider and the route go.",
    )
    mentions = models.JSONField(
        default=list,
        blank=True,
        validators=[validate_mentions],
        help_text="Whom it mentions, separated by commas. Empty: nobody, or if it is critical,"
        " whom the destination says.",
    )

    history = HistoricalRecords()

    class Meta(Configured.Meta):
        ordering = ["event"]
        constraints = [
            one_of("event", AlertEvent, prefix="alerttemplate"),
            one_of("severity", Severity, prefix="alerttemplate"),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        super().clean()
        self.mentions = normalized(self.mentions)
        if self.event not in list(AlertEvent):
            return  # told by the field's own check
        self.body = self.body.replace("\r\n", "\n")
        wrong = template.problems(self.title, self.body, AlertEvent(self.event))
        if wrong:
            raise ValidationError(wrong)


class SlackOperator(Configured):
    """Somebody in Slack who may give orders. Everybody else only reads."""

    slack_user = models.CharField(
        max_length=21,
        unique=True,
        validators=[validate_slack_user],
        help_text="The member id, such as U0123ABC.",
    )
    name = models.CharField(
        max_length=100,
        unique=True,
        validators=[
            RegexValidator(re.compile(r"\A[\w.@ +-]{1,100}\Z"), "Letters, digits and . @ + - only.")
        ],
        help_text="As history names its orders: slack:ana.",
    )
    enabled = models.BooleanField(default=True, help_text="Off: may only read, at once.")
    notes = models.TextField(blank=True, help_text="Operators only.")

    history = HistoricalRecords()

    class Meta(Configured.Meta):
        ordering = ["name"]
        verbose_name = "Slack operator"

    def __str__(self) -> str:
        return self.name


def normalized(value: Any) -> Any:
    """Return mentions as they are kept, each once; what is none stays, for the check to tell."""
    if not isinstance(value, list):
        return value
    return list(dict.fromkeys(mentions.parsed(str(one)) or one for one in value))
