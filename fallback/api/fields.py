"""The fields that bodies and queries are made of.

Stricter than REST framework's own, which turn numbers into texts and "yes" into true: here a
JSON type is what it is, and a name nobody knows is refused rather than ignored. `null` is the
same as leaving an optional field out. Errors read on from the field's name: "route is required".
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from django.core.validators import RegexValidator
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.fields import empty

from fallback.api.texts import clean, did_you_mean, shown

OPTIONAL: Final[dict[str, Any]] = {"required": False, "allow_null": True}
SLUG_MAX: Final = 63
CALL_ID_MAX: Final = 128

_NO_CONTROLS: Final = r"^[^\x00-\x1f\x7f-\x9f]*\Z"
_LANGUAGE: Final = r"^([A-Za-z0-9]{1,8}([-_][A-Za-z0-9]{1,8})*)?\Z"
_REQUIRED: Final = {"required": "is required", "null": "is required"}


class Checked(serializers.Serializer[Any]):
    """Fields checked together; every wrong one is told, unknown ones too.

    An instance keeps nothing of what it checks: one is made per view, not one per request.
    """

    default_error_messages = {"invalid": "must be an object, not {datatype}"}

    def run_validation(self, data: Any = empty) -> dict[str, Any]:
        """Check every field; raises ValidationError with all that is wrong at once."""
        if not isinstance(data, Mapping):
            self.fail("invalid", datatype=shown(data))
        unknown = [name for name in data if name not in self.fields]
        if unknown:
            raise serializers.ValidationError(
                {clean(name, 64) or "(unreadable)": self._unknown(name) for name in unknown[:10]}
            )
        given = {name: value for name, value in data.items() if value is not None}
        checked: dict[str, Any] = super().run_validation(given)
        return checked

    def _unknown(self, name: str) -> str:
        near = did_you_mean(name, self.fields)
        return f"is not a field here{near or '; there are ' + ', '.join(self.fields)}"


class Text(serializers.CharField):
    """A text that is taken as it is, 1 to `max_length` characters, none of them a control."""

    default_error_messages = {
        **_REQUIRED,
        "invalid": "must be a text, not {value}",
        "blank": "may not be empty",
        "max_length": "may have at most {max_length} characters",
    }

    def __init__(self, max_length: int = SLUG_MAX, **kwargs: Any) -> None:
        super().__init__(max_length=max_length, trim_whitespace=False, **kwargs)
        self.validators.append(RegexValidator(_NO_CONTROLS, "has a control character in it"))

    def run_validation(self, data: Any = empty) -> Any:
        """Refuse another type."""
        if data is not empty and not isinstance(data, str):
            self.fail("invalid", value=shown(data))
        return super().run_validation(data)


class Language(Text):
    """A language tag such as `hi-IN`, or `hi_IN`; empty is "not known"."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=35, allow_blank=True, **kwargs)
        self.validators[-1] = RegexValidator(_LANGUAGE, "must be a language tag such as hi-IN")


class FreeText(serializers.CharField):
    """What a provider or a person wrote: made harmless and cut to `limit`, never refused."""

    default_error_messages = {**_REQUIRED, "invalid": "must be a text, not {value}"}

    def __init__(self, limit: int, **kwargs: Any) -> None:
        self.limit = limit
        kwargs.setdefault("help_text", f"Cut to {limit} characters, controls dropped.")
        super().__init__(allow_blank=True, trim_whitespace=False, **kwargs)
        self.validators = []  # the ones that CharField brings would refuse what is dropped here

    def run_validation(self, data: Any = empty) -> Any:
        """Refuse another type."""
        if data is not empty and not isinstance(data, str):
            self.fail("invalid", value=shown(data))
        return super().run_validation(data)

    def to_internal_value(self, data: str) -> str:
        """Clean and cut."""
        return clean(data, self.limit)


class Sentence(FreeText):
    """Why a person does something: cleaned like FreeText, and not empty after that."""

    default_error_messages = {"blank": "may not be empty: say why"}

    def to_internal_value(self, data: str) -> str:
        """Clean, then insist that something is left."""
        return super().to_internal_value(data) or self.fail("blank")

    def run_validation(self, data: Any = empty) -> Any:
        """Refuse an empty text here too: CharField returns it before any cleaning."""
        if data == "":
            self.fail("blank")
        return super().run_validation(data)


class Whole(serializers.IntegerField):
    """A whole number from `min_value` to `max_value`; 5.0 is one, "5" and true are not."""

    default_error_messages = {
        **_REQUIRED,
        "invalid": "must be a whole number, not {value}",
        "min_value": "must be at least {min_value}",
        "max_value": "must be at most {max_value}",
    }

    def to_internal_value(self, data: Any) -> int:
        """Refuse other types, and fractions."""
        is_number = isinstance(data, int | float) and not isinstance(data, bool)
        if not is_number or (isinstance(data, float) and not data.is_integer()):
            self.fail("invalid", value=shown(data))
        return int(data)


class Seconds(serializers.FloatField):
    """A number of seconds, fractions allowed."""

    default_error_messages = {
        **_REQUIRED,
        "invalid": "must be a number of seconds, not {value}",
        "min_value": "must be at least {min_value}",
        "max_value": "must be at most {max_value}",
    }

    def to_internal_value(self, data: Any) -> float:
        """Refuse other types, and whole numbers that no float can hold."""
        if not isinstance(data, int | float) or isinstance(data, bool) or abs(data) > 1e18:
            self.fail("invalid", value=shown(data))
        return float(data) if math.isfinite(data) else self.fail("invalid", value=shown(data))


class Flag(serializers.BooleanField):
    """true or false, and nothing that looks like it."""

    default_error_messages = {**_REQUIRED, "invalid": "must be true or false, not {value}"}

    def to_internal_value(self, data: Any) -> bool:
        """Refuse everything else."""
        return data if isinstance(data, bool) else self.fail("invalid", value=shown(data))


class Word(serializers.ChoiceField):
    """One of the words of an enumeration."""

    default_error_messages = {**_REQUIRED, "invalid": "must be one of {words}, not {value}{near}"}

    def __init__(self, words: type[StrEnum], only: frozenset[Any] | None = None, **kwargs: Any):
        self.words = {word.value: word for word in words if only is None or word in only}
        super().__init__(choices=list(self.words), **kwargs)

    def to_internal_value(self, data: Any) -> StrEnum:
        """Return the enumeration's own value."""
        word = self.words.get(data) if isinstance(data, str) else None
        if word is None:
            near = did_you_mean(data, self.words)
            self.fail("invalid", words=", ".join(self.words), value=shown(data), near=near)
        return word


class Names(serializers.ListField):
    """A list of provider slugs; twice is once."""

    default_error_messages = {
        **_REQUIRED,
        "not_a_list": "must be a list, not {input_type}",
        "max_length": "may have at most {max_length} entries",
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(child=Text(SLUG_MAX), max_length=100, **kwargs)

    def to_internal_value(self, data: Any) -> Any:
        """Check each name and keep their order."""
        return tuple(dict.fromkeys(super().to_internal_value(data)))


@extend_schema_field({"type": "string", "format": "date-time"})
class Moment(serializers.CharField):
    """A time for people and programs to read: RFC 3339, UTC, milliseconds, `Z`."""


class Instant(serializers.DateTimeField):
    """A time in a query: RFC 3339; without a zone it is UTC."""

    default_error_messages = {
        "time": "must be a time such as 2026-11-22T12:01:04Z (write + as %2B), not {value}"
    }

    def to_internal_value(self, value: Any) -> datetime:
        """Return the time in UTC."""
        try:
            at = datetime.fromisoformat(value)
            return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        except (ValueError, TypeError, OverflowError):
            self.fail("time", value=shown(value))


class QueryNumber(Whole):
    """A whole number in a query, where everything is a text."""

    def to_internal_value(self, data: Any) -> int:
        """Take decimal digits."""
        is_number = isinstance(data, str) and re.fullmatch(r"[0-9]{1,9}", data)
        return int(data) if is_number else self.fail("invalid", value=shown(data))
