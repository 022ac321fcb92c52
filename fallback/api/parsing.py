"""From a body to checked values, or to what is wrong, where, and what would be right."""

import json
import math
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from rest_framework import serializers
from rest_framework.request import Request

from controlplane.bodies import API_MAX
from fallback.api.fields import Checked
from fallback.api.problems import TooLarge, WrongMediaType
from fallback.api.texts import shown
from fallback.errors import Invalid, Problem

MAX_DEPTH: Final = 20  # nothing that we take is nested deeper than three
MAX_ERRORS: Final = 20  # named in one answer


def checked(serializer: Checked, value: object, where: str = "") -> dict[str, Any]:
    """Return the checked fields of `value`. Raises Invalid with all that is wrong, at `where`."""
    try:
        return dict(serializer.run_validation(value))
    except serializers.ValidationError as error:
        problems = tuple(_flat(error.detail, where))[:MAX_ERRORS]
        raise Invalid(_summary(problems), problems) from None


def read_json(request: Request) -> object:
    """Read the body as JSON. Raises TooLarge, WrongMediaType, or Invalid with the position."""
    _check_media_type(request.content_type or "")
    body = _read(request)
    try:
        value = json.loads(
            body.decode("utf-8-sig"), parse_constant=_no_such_number, parse_float=_finite
        )
    except UnicodeDecodeError as error:
        raise Invalid(f"The body is not UTF-8: byte {error.start} is wrong.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Invalid(f"The body is not JSON: {error.msg} at {where}.") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # also a whole number of thousands of digits
        raise Invalid(f"The body is not JSON that can be read: {error}.") from None
    # Quoting a deep value in an error text would recurse; few bodies have enough brackets for it.
    if body.count(b"[") + body.count(b"{") > 200 and _depth_exceeds(value, MAX_DEPTH):
        raise _too_deep()
    return value


def _check_media_type(content_type: str) -> None:
    media_type, _, parameters = content_type.lower().partition(";")
    if media_type.strip() != "application/json":
        got = shown(content_type) if content_type else "nothing"
        raise WrongMediaType(f"Send JSON with `Content-Type: application/json`, not {got}.")
    charset = parameters.partition("charset=")[2].strip(' "')
    if charset not in {"", "utf-8", "utf8"}:
        raise WrongMediaType("JSON is UTF-8: leave the charset out.")


def _read(request: Request) -> bytes:
    """Return the raw body; one that says it is too large is not read at all."""
    too_large = TooLarge(f"A body may have at most {API_MAX // 1024} kB.")
    declared = request.META.get("CONTENT_LENGTH") or "0"
    if declared.isdecimal() and int(declared[:12]) > API_MAX:
        raise too_large
    # Not `request.data`: it takes a body that came in chunks, with no length, for an empty one.
    body: bytes = request._request.read(API_MAX + 1)
    if len(body) > API_MAX:
        raise too_large
    return body


def _no_such_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number in JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits[:20]} is too large")
    return number


def _too_deep() -> Invalid:
    return Invalid(f"The body is nested deeper than {MAX_DEPTH} levels.")


def _depth_exceeds(value: object, limit: int) -> bool:
    """Walk level by level, since the value may be too deep to recurse into."""
    level = [value]
    for _ in range(limit):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return False
    return True


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _flat(detail: object, path: str) -> Iterator[Problem]:
    """Turn REST framework's nested errors into one line each: `outcomes.3.kind`."""
    if isinstance(detail, dict):
        for name, inner in detail.items():
            own = name != "non_field_errors"
            yield from _flat(inner, ".".join(filter(None, (path, str(name) if own else ""))))
    elif isinstance(detail, list):
        for inner in detail:
            yield from _flat(inner, path)
    else:
        yield Problem(path, str(detail), getattr(detail, "code", "invalid"))


def _summary(problems: tuple[Problem, ...]) -> str:
    """Say it in one sentence: the first error whole, and how many more there are."""
    first, more = problems[0], len(problems) - 1
    text = f"{first.field or 'The body'} {first.detail}"
    return f"{text} (and {more} more, in `errors`)." if more else f"{text}."
