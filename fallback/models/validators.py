"""What a value must look like: slugs, language tags, variable names, settings, ranges.

Every message says what was wrong and what would be right. Nothing here reads the database.
"""

import json
import re
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models

from fallback.models.secrets import secret_paths

SETTINGS_MAX_BYTES = 16_384
SETTINGS_MAX_DEPTH = 8

validate_slug = RegexValidator(
    r"\A[a-z0-9][a-z0-9_-]{0,62}\Z",
    "Use 1 to 63 lowercase letters, digits, “-” or “_”, beginning with a letter or digit,"
    " such as “deepgram” or “breeze-buddy”.",
    code="slug",
)

validate_variable_name = RegexValidator(
    r"\A[A-Z][A-Z0-9_]{1,127}\Z",
    "This is the name of an environment variable, such as SONIOX_API_KEY: capital letters,"
    " digits and “_”. Never put the secret itself here.",
    code="variable_name",
)

_LANGUAGE = re.compile(
    r"\A(?P<language>[A-Za-z]{2,3})"
    r"(?:-(?P<script>[A-Za-z]{4}))?"
    r"(?:-(?P<region>[A-Za-z]{2}|[0-9]{3}))?"
    r"(?P<variants>(?:-(?:[A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*)\Z"
)


def normalized_language(tag: str) -> str:
    """Return a BCP-47 tag in its usual spelling: `HI-in` becomes `hi-IN`.

    Raises ValidationError for what is no language tag.
    """
    match = _LANGUAGE.match(tag)
    if match is None:
        raise ValidationError(
            "“%(tag)s” is no BCP-47 language tag: write tags such as hi-IN, en or zh-Hant-TW.",
            code="language",
            params={"tag": tag},
        )
    parts = [match["language"].lower()]
    parts += [match["script"].title()] if match["script"] else []
    parts += [match["region"].upper()] if match["region"] else []
    return "-".join(parts) + match["variants"].lower()


def validate_languages(value: Any) -> None:
    """Refuse anything but a list of different BCP-47 tags."""
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise ValidationError(
            'Give a list of language tags such as ["hi-IN", "en"]; an empty list means any.',
            code="languages",
        )
    tags = [normalized_language(tag) for tag in value]
    doubled = sorted({tag for tag in tags if tags.count(tag) > 1})
    if doubled:
        raise ValidationError(
            "%(tags)s is listed twice: name each language once.",
            code="languages",
            params={"tags": ", ".join(doubled)},
        )


def validate_settings(value: Any) -> None:
    """Refuse settings that are no JSON object, are too large, or seem to hold a secret.

    Agents are handed these as they are, so a secret would be readable by every key holder and
    kept in the history of changes.
    """
    if not isinstance(value, dict):
        raise ValidationError(
            'Settings must be a JSON object such as {"model": "nova-3"}, not %(type)s.',
            code="settings_type",
            params={"type": _JSON_TYPES.get(type(value), "this value")},
        )
    _check_size(value)
    secrets = sorted(set(secret_paths(value)))
    if secrets:
        raise ValidationError(
            "%(paths)s looks like a secret. Secrets never enter this system: take it out, and"
            " name the variable that agents read it from in the provider's credential hint.",
            code="settings_secret",
            params={"paths": ", ".join(secrets)},
        )


def settings_or_empty(value: Any) -> Any:
    """Return `value`, or an empty object for nothing; refuse other empty values such as `[]`.

    Django runs no validator of a blank field on what it takes to be empty.
    """
    if value is None or value == "":
        return {}
    if value in ([], ()):
        raise ValidationError({"settings": "Settings must be a JSON object, not a list."})
    return value


_JSON_TYPES = {
    list: "a list",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def _check_size(value: dict[str, Any]) -> None:
    if _is_deeper(value, SETTINGS_MAX_DEPTH):  # first: what follows walks all of it
        raise ValidationError(
            "Settings are nested more than %(limit)d levels deep: flatten them.",
            code="settings_depth",
            params={"limit": SETTINGS_MAX_DEPTH},
        )
    try:
        text = json.dumps(value, allow_nan=False)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValidationError(
            "Settings hold half a character, %(half)s: write the whole character.",
            code="settings_json",
            params={"half": ascii(error.object[error.start])},
        ) from error
    except (TypeError, ValueError) as error:
        raise ValidationError(
            "Settings must be plain JSON (no NaN or Infinity, no number of thousands of digits).",
            code="settings_json",
        ) from error
    if "\\u0000" in text:  # PostgreSQL cannot store it in jsonb
        raise ValidationError("Settings must not contain the NUL character.", code="settings_json")
    if len(text) > SETTINGS_MAX_BYTES:
        raise ValidationError(
            "Settings take %(size)d bytes; at most %(limit)d are allowed, because every"
            " decision carries them.",
            code="settings_size",
            params={"size": len(text), "limit": SETTINGS_MAX_BYTES},
        )


def _is_deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    items = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(item, levels - 1) for item in items)


def within(field: str, low: float, high: float, *, prefix: str) -> models.CheckConstraint:
    """Return a constraint that keeps a column in its range, whoever writes it."""
    return models.CheckConstraint(
        condition=models.Q(**{f"{field}__gte": low, f"{field}__lte": high}),
        name=f"{prefix}_{field}_range",
        violation_error_message=f"{field} must be from {low} to {high}.",
    )


def one_of(field: str, values: type[Any], *, prefix: str) -> models.CheckConstraint:
    """Return a constraint that keeps a column to the members of an enum."""
    names = [str(value) for value in values]
    return models.CheckConstraint(
        condition=models.Q(**{f"{field}__in": names}),
        name=f"{prefix}_{field}_known",
        violation_error_message=f"{field} must be one of {', '.join(names)}.",
    )
