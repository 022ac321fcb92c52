"""What an exception carries besides its text: numbers, names, and a body that is a mapping.

Nothing here raises, whatever the exception: an attribute that cannot be read is absent.
"""

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Final

DEEPEST: Final = 12  # of the exceptions that one was raised from
_OLD_CODES: Final = frozenset({"ConnectionClosed", "ClientResponseError"})  # deprecated there
# LiveKit 1.8.9, plugins/{deepgram,assemblyai,elevenlabs,openai}/stt.py: the body of a close.
_CLOSE_REASON: Final = re.compile(r"msg\.data=\d{1,5} msg\.extra='([^']{0,123})'")


def read(holder: object, name: str) -> Any:
    """Return an attribute, or None; a property that raises is as good as absent."""
    try:
        return getattr(holder, name, None)
    except Exception:
        return None


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, and what it was raised from, outermost first.

    What a wrapper suppresses (`from None`) is looked at too: it is often there to keep a text
    with a key from being printed, and no text is read here.
    """
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen and len(seen) < DEEPEST:
        seen.add(id(one))
        yield one
        if isinstance(one, BaseExceptionGroup):
            one = one.exceptions[0]
        else:
            one = one.__cause__ or one.__context__


def type_names(error: BaseException) -> set[str]:
    """Return the names of the exception's classes, so that no library must be imported."""
    return {base.__name__ for base in type(error).__mro__}


def first_text(error: BaseException) -> str:
    """Return the first argument if it is a text. Not `str(error)`: an SDK's may print headers."""
    first = error.args[0] if error.args else None
    return first if isinstance(first, str) else ""


def body_of(error: BaseException) -> Mapping[Any, Any]:
    """Return what the provider answered or sent in-band, where a library keeps it as a mapping."""
    first = error.args[0] if error.args else None  # as Pipecat's xAI: Exception(message)
    for body in (read(error, "body"), first):
        if isinstance(body, Mapping):
            return body
    return {}


def words_of(error: BaseException) -> Iterator[str]:
    """Yield the provider's own names and numbers for the error, lower case, best first.

    Numbers only from a body: they are in-band. A handshake's status is not one of them.
    """
    body = body_of(error)
    code = _code(error)
    found: list[Any] = [_grpc_name(error), code if isinstance(code, str | Enum) else None]
    found += [body.get(key) for key in ("err_code", "error_type", "error_code", "code")]
    for inner in _inner(body):
        found += [inner.get("code"), inner.get("status")]
    found.append(_boto(error, "Error", "Code"))
    found += [name for name in (type(error).__name__,) if name.endswith("Exception")]
    yield from filter(None, map(_word, found))


def kinds_of(error: BaseException) -> Iterator[str]:
    """Yield the provider's kinds of errors, which say less than a status does, lower case."""
    body = body_of(error)
    found = [body.get("type"), *(inner.get("type") for inner in _inner(body)), read(error, "type")]
    yield from filter(None, map(_word, found))


def in_band_of(error: BaseException) -> int | None:
    """Return the number that a body gives for the error: a status or a close code, as it may be."""
    body = body_of(error)
    found = [body.get(key) for key in ("error_code", "status_code", "close_code", "code")]
    for value in [*found, *(inner.get("code") for inner in _inner(body))]:
        word = _word(value)
        if word and word.isdecimal() and len(word) <= 4:
            return int(word)
    return None


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that the usual clients keep in these places (httpx, aiohttp, SDKs)."""
    response = read(error, "response")
    for value in (
        read(response, "status_code"),
        read(response, "status"),
        read(error, "status_code"),
        read(error, "status"),
        _code(error),
        _boto(error, "ResponseMetadata", "HTTPStatusCode"),
    ):
        if _is_number(value) and 400 <= value < 600:
            return int(value)
    return None


def close_of(error: BaseException) -> tuple[int, str] | None:
    """Return the close code, and its reason, that LiveKit's plugins put in place of a status."""
    code = read(error, "status_code")
    if not (_is_number(code) and 1000 <= code < 5000):
        return None
    body = read(error, "body")
    if isinstance(body, str):
        match = _CLOSE_REASON.match(body)
        return int(code), match[1] if match else ""
    return int(code), str(body_of(error).get("close_reason") or "")


def _code(error: BaseException) -> Any:
    """Return the error's `code`, unless it is an old name for what is read elsewhere."""
    return None if _OLD_CODES & type_names(error) else read(error, "code")


def _inner(body: Mapping[Any, Any]) -> list[Mapping[Any, Any]]:
    """Return the mappings within a body that describe its error."""
    inner = (body.get(key) for key in ("error", "data", "detail"))
    return [one for one in inner if isinstance(one, Mapping)]


def _word(value: object) -> str | None:
    if isinstance(value, Enum):
        value = value.name
    if _is_number(value):
        value = str(value)
    return value.lower() if isinstance(value, str) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _grpc_name(error: BaseException) -> Any:
    """Return the name of a gRPC status: google-api-core keeps it, gRPC's own has a method."""
    status = read(error, "grpc_status_code")
    if status is None and "RpcError" in type_names(error):
        try:
            status = read(error, "code")()
        except Exception:
            return None
    return read(status, "name")


def _boto(error: BaseException, part: str, name: str) -> Any:
    """Return a field of the response that botocore keeps as a mapping."""
    response = read(error, "response")
    inner = response.get(part) if isinstance(response, Mapping) else None
    return inner.get(name) if isinstance(inner, Mapping) else None
