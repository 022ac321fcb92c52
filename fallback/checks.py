"""System checks: what is wrong with this deployment, before anybody notices.

Those that read the configuration or reach out are run where a database is named, as in
`manage.py check --database default` and by `migrate`; they keep still until migrations are
applied. Redis being away is a warning: decisions go on without it.
"""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.core import checks
from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Q

from fallback import breaker, cautions, proposals
from fallback.domain import Kind
from fallback.errors import BreakerUnavailable
from fallback.fitness import NotFit, redis_server, schema
from fallback.models import Policy, Provider, Route, chain_problems

SECRET_KEY_MIN = 32
Messages = list[checks.CheckMessage]


def register() -> None:
    """Have Django run these checks; called once, when the app is ready."""
    checks.register(check_secret_key, checks.Tags.security)
    checks.register(check_public_url, checks.Tags.security, deploy=True)
    checks.register(check_proxies, checks.Tags.security, deploy=True)
    checks.register(check_slack, checks.Tags.compatibility)
    checks.register(check_schema, checks.Tags.database)
    checks.register(check_migrations, checks.Tags.database, deploy=True)
    checks.register(check_configuration, checks.Tags.database)
    checks.register(check_redis, checks.Tags.database)


def check_secret_key(**_: Any) -> Messages:
    """API keys are hashed with it, and sessions signed: it must not be guessable."""
    key = str(settings.SECRET_KEY)
    if len(key) >= SECRET_KEY_MIN and len(set(key)) >= 8 and "insecure" not in key:
        return []
    return [
        checks.Error(
            f"SECRET_KEY is shorter than {SECRET_KEY_MIN} characters, or easy to guess.",
            hint="Set 50 random characters, the same for every process. With SECRET_KEY_FALLBACKS"
            " keys and sessions outlive the change.",
            id="fallback.E001",
        )
    ]


def check_public_url(**_: Any) -> Messages:
    """Behind a proxy that ends TLS only PUBLIC_URL tells by which address people reach us."""
    if settings.PUBLIC_URL:
        return []
    return [
        checks.Warning(
            "PUBLIC_URL is not set.",
            hint="Set it to where people reach this, as https://stt.example.com. Without it sign-in"
            " is refused behind a proxy that ends TLS and over plain HTTP, there is no HSTS, and"
            " messages in Slack have no links.",
            id="fallback.W012",
        )
    ]


def check_proxies(**_: Any) -> Messages:
    """An address that anybody can claim is good for no log and no throttle."""
    if "*" not in settings.FORWARDED_ALLOW_IPS:
        return []
    return [
        checks.Warning(
            "FORWARDED_ALLOW_IPS is *: every client can choose the address that it is known by.",
            hint="Name the proxies, as 10.0.0.7 or 10.1.0.0/16, unless nothing else can connect.",
            id="fallback.W013",
        )
    ]


def check_slack(**_: Any) -> Messages:
    """Slack is on or off: by halves, alerts or orders are missed and nobody knows why."""
    has_token = bool(settings.SLACK_BOT_TOKEN)
    listens = bool(settings.SLACK_SIGNING_SECRET or settings.SLACK_APP_TOKEN)
    others = ("SLACK_SIGNING_SECRET", "SLACK_APP_TOKEN", "SLACK_CHANNEL")
    given = [name for name in others if getattr(settings, name)]
    if has_token and not listens:
        problem = "SLACK_BOT_TOKEN is set, and neither SLACK_SIGNING_SECRET nor SLACK_APP_TOKEN is."
        hint = (
            "Alerts are sent, and /stt-status and the buttons under them are refused. Set the"
            " signing secret (HTTP) or the app token (Socket Mode)."
        )
    elif given and not has_token:
        problem = f"{given[0]} is set, and SLACK_BOT_TOKEN is not."
        hint = "No alert is sent. Set the bot token, or unset the rest to have Slack off."
    else:
        return []
    return [checks.Warning(problem, hint=hint, id="fallback.W006")]


def check_schema(databases: Sequence[str] | None = None, **_: Any) -> Messages:
    """Refuse a database that this version's migrations cannot have made, or cannot go on from."""
    if DEFAULT_DB_ALIAS not in (databases or ()):
        return []
    try:
        schema.require_known()
        if _is_migrated():
            schema.require_columns()
    except DatabaseError:
        return []  # whoever needs it will say so
    except NotFit as problem:
        return [checks.Error(str(problem), id="fallback.E010")]
    return []


def check_migrations(databases: Sequence[str] | None = None, **_: Any) -> Messages:
    """Say what waits to be migrated; with --deploy alone, for `migrate` runs the other checks."""
    if DEFAULT_DB_ALIAS not in (databases or ()):
        return []
    try:
        schema.require()
    except DatabaseError as error:
        problem = f"The database cannot be asked: {' '.join(str(error).split())}"
        return [checks.Warning(problem, id="fallback.W014")]
    except NotFit as found:
        is_new = not check_schema(databases)  # else it is told already
        return [checks.Warning(f"{found}.", id="fallback.W014")] if is_new else []
    return []


def check_configuration(databases: Sequence[str] | None = None, **_: Any) -> Messages:
    """Report every route, provider and policy that could not do its work."""
    if DEFAULT_DB_ALIAS not in (databases or ()) or not _is_migrated():
        return []
    return [*_routes(), *_providers(), *_policies(), *_cautions(), *_people()]


def check_redis(databases: Sequence[str] | None = None, **_: Any) -> Messages:
    """Ask Redis as a decision would, write as an outcome would, and look at its settings."""
    if not databases:
        return []
    try:
        breaker.snapshot(Kind.STT, [])
        return _redis_refusals() or _redis_settings()
    except BreakerUnavailable as error:
        return [
            checks.Warning(
                f"Redis cannot be reached: {error}",
                hint="Decisions go on with the last known state; outcomes are refused until it is"
                " back. Check REDIS_URL.",
                id="fallback.W001",
            )
        ]


def _redis_refusals() -> Messages:
    try:
        redis_server.require_writes()
    except NotFit as problem:
        hint = "Most outcomes are refused, and decisions degraded. Make room, or raise maxmemory."
        return [checks.Warning(f"{problem}.", hint=hint, id="fallback.W010")]
    return []


def _redis_settings() -> Messages:
    wrong, _unknown = redis_server.remarks()
    return [checks.Warning(text, id="fallback.W011") for text in wrong]


def _routes() -> Messages:
    return [
        checks.Warning(f"Route {route.slug}: {problem}", obj=route, id="fallback.W002")
        for route in Route.objects.prefetch_related("steps__provider")
        for problem in chain_problems(route.kind, [step.provider for step in route.steps.all()])
    ]


def _providers() -> Messages:
    return _invalid(Provider.objects.select_related("policy").prefetch_related("steps"), "W003")


def _policies() -> Messages:
    return _invalid(Policy.objects.prefetch_related("reasons"), "W004")


def _cautions() -> Messages:
    """Report what is allowed and seldom meant; what a chain lacks altogether, W002 has said."""
    return [
        checks.Warning(caution.text, id="fallback.W005")
        for caution in cautions.present(cautions.read())
        if caution.is_grave and caution.code != "none_left"
    ]


def _people() -> Messages:
    """Where a second person is asked for, there has to be one."""
    if not proposals.is_on():
        return []
    may = {"content_type__app_label": "fallback", "codename": "approve_proposal"}
    given = Permission.objects.filter(**may)
    who = Q(is_superuser=True) | Q(groups__permissions__in=given) | Q(user_permissions__in=given)
    count = User.objects.filter(who, is_active=True).distinct().count()
    if count >= 2:
        return []
    return [
        checks.Warning(
            f"CHANGES_NEED_APPROVAL is on, and {count or 'nobody'} may approve.",
            hint="Nobody approves their own: give a second person the role owner, with"
            " `manage.py role NAME owner`.",
            id="fallback.W007",
        )
    ]


def _invalid(rows: Any, number: str) -> Messages:
    found: Messages = []
    for row in rows:
        try:
            row.clean()
        except ValidationError as error:
            text = f"The {row._meta.verbose_name} {row}: {' '.join(error.messages)}"
            found.append(checks.Warning(text, obj=row, id=f"fallback.{number}"))
    return found


def _is_migrated() -> bool:
    """Whether the database can be asked about our tables at all."""
    try:
        executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    except DatabaseError:
        return False
    wanted = [key for key in executor.loader.graph.leaf_nodes() if key[0] == "fallback"]
    return not executor.migration_plan(wanted)
