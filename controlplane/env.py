"""The environment: the only reader of it, and the list of every variable that is read.

Each variable can also be given as a file: `NAME_FILE=/run/secrets/name`, which wins over `NAME`.
Empty counts as not set. A wrong value stops the start with what is wrong and what would be right.
"""

import ipaddress
import os
import re
from collections.abc import Iterable
from typing import Final

from django.core.exceptions import ImproperlyConfigured
from environ import FileAwareEnv

VARIABLES: Final = frozenset(
    {
        "ALLOWED_HOSTS",
        "CALL_MEMORY_MB",
        "CHANGES_NEED_APPROVAL",
        "DATABASE_POOL_MAX",
        "DATABASE_STATEMENT_TIMEOUT_S",
        "DATABASE_URL",
        "DEBUG",
        "DJANGO_SUPERUSER_EMAIL",
        "DJANGO_SUPERUSER_PASSWORD",
        "DJANGO_SUPERUSER_USERNAME",
        "EMBEDDED_REDIS_BIN",
        "FALLBACK_NAMESPACE",
        "FORWARDED_ALLOW_IPS",
        "HISTORY_DAYS",
        "LOG_FORMAT",
        "LOG_LEVEL",
        "METRICS_OPEN",
        "METRICS_TOKEN",
        "PAST_DAYS",
        "PORT",
        "PROPOSAL_HOURS",
        "PUBLIC_URL",
        "REDIS_MODE",
        "REDIS_SENTINELS",
        "REDIS_SENTINEL_PASSWORD",
        "REDIS_URL",
        "SECOND_FACTOR",
        "SECRET_KEY",
        "SECRET_KEY_FALLBACKS",
        "SESSION_DAYS",
        "SESSION_IDLE_HOURS",
        "SLACK_API_URL",
        "SLACK_APP_TOKEN",
        "SLACK_BOT_TOKEN",
        "SLACK_CHANNEL",
        "SLACK_SIGNING_SECRET",
        "SLACK_TEAM_ID",
        "VAR_DIR",
    }
)

TRUE: Final = frozenset({"1", "true", "yes", "on"})
FALSE: Final = frozenset({"0", "false", "no", "off"})


def text(name: str, default: str = "", *, pattern: str = "", like: str = "") -> str:
    """Read a text; `pattern` must match the whole of it, and `like` is an example that does."""
    value = _read(name) or default
    if value and pattern and not re.fullmatch(pattern, value):
        raise _wrong(name, f"something like {like}")
    return value


def flag(name: str, *, default: bool) -> bool:
    """Read a yes or no. A word that is neither is refused: `DEBUG=flase` must not mean anything."""
    value = _read(name).lower()
    if value and value not in TRUE | FALSE:
        raise _wrong(name, "1 or 0 (or true/false, yes/no, on/off)")
    return value in TRUE if value else default


def number(name: str, default: int, *, lowest: int, highest: int) -> int:
    """Read a whole number between `lowest` and `highest`, both allowed."""
    value = _read(name) or str(default)
    if not re.fullmatch(r"\d{1,9}", value) or not lowest <= int(value) <= highest:
        raise _wrong(name, f"a whole number from {lowest} to {highest}")
    return int(value)


def choice(name: str, default: str, choices: Iterable[str]) -> str:
    """Read one of a few words, in whatever case it was written."""
    choices = tuple(choices)
    value = (_read(name) or default).lower()
    if value not in choices:
        raise _wrong(name, "one of " + ", ".join(choices))
    return value


def words(name: str, default: Iterable[str] = ()) -> list[str]:
    """Read a comma-separated list; spaces around the words do not count."""
    found = [word.strip() for word in _read(name).split(",") if word.strip()]
    return found or list(default)


def addresses(name: str) -> list[tuple[str, int]]:
    """Read a comma-separated list of `host:port`."""
    found = words(name)
    if not all(re.fullmatch(r"[^\s:]+:\d{1,5}", address) for address in found):
        raise _wrong(name, "host:port,host:port,…")
    return [(host, int(port)) for host, port in (address.split(":") for address in found)]


def networks(name: str) -> list[str]:
    """Read a comma-separated list of IP addresses and networks, or `*` for all."""
    found = words(name)
    try:
        for word in found:
            if word != "*":
                ipaddress.ip_network(word)
    except ValueError as error:
        raise _wrong(name, "addresses or networks, as 10.0.0.7,10.1.0.0/16, or *") from error
    return found


def _read(name: str) -> str:
    """Return the variable without the spaces and line end that files bring along."""
    if name not in VARIABLES:
        raise LookupError(f"{name} is not in controlplane.env.VARIABLES")
    try:
        return str(FileAwareEnv().str(name, default="")).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(
            f"{name}_FILE names {os.environ.get(name + '_FILE')!r}, which cannot be read: {error}"
        ) from error


def _wrong(name: str, right: str) -> ImproperlyConfigured:
    """Build the error without the value: it may be a secret, or hold one."""
    return ImproperlyConfigured(f"{name} is set to something that cannot be used; expected {right}")
