"""From an exception, a status, a code, a close or a framework's text to a `Seen`.

A `code` in a Seen is a number, or one of a table's own words: never anything else of an error.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from enum import IntEnum
from typing import Final

from stt_guard.classify.reading import (
    chain,
    close_of,
    first_text,
    in_band_of,
    kinds_of,
    read,
    status_of,
    type_names,
    words_of,
)
from stt_guard.classify.tables import BY_CLOSE_CODE, BY_STATUS, table_of
from stt_guard.classify.waiting import bounded, retry_after_s
from stt_guard.words import Reason, Seen

LONGEST_TEXT: Final = 2_000  # characters of a framework's message that are looked at
_TIMEOUTS: Final = frozenset(
    {"APITimeoutError", "ConnectTimeout", "ReadTimeout", "DeadlineExceeded", "TimeoutError"}
)
_CONNECTIONS: Final = frozenset(
    {"ConnectionClosed", "ClientConnectionError", "APIConnectionError", "ConnectError",
     "ConnectionError", "NetworkError", "RemoteProtocolError"}
)  # fmt: skip


class _Rank(IntEnum):
    """How much is to be said for a finding: the highest wins, then the outermost."""

    NOTHING = 0
    TYPE = 1  # a library's class
    SYSTEM = 2  # the operating system's own error, beneath the wrappers
    NUMBER = 3  # a status or a close code
    OWN = 4  # the provider's own word


def classify(error: BaseException | None, provider: str = "") -> Seen:
    """Return what an exception means, by the provider's table first; `unknown` for None.

    Looks through what it was raised from, so that a library's own wrapper hides nothing. Never
    raises.
    """
    if error is None:
        return Seen()
    if isinstance(error, asyncio.CancelledError):  # deeper down it is how a timeout works
        return Seen("cancelled")
    rank, seen = _Rank.NOTHING, Seen()
    for one in chain(error):
        found_rank, found = _judge(one, provider)
        if found_rank > rank:
            rank, seen = found_rank, found
        if isinstance(one, OSError):  # TimeoutError is one; beneath it is only how it came about
            break
    if seen.reason == "rate_limit":
        return replace(seen, retry_after_s=retry_after_s(error))
    return seen


def from_status(status: int, provider: str = "", retry_after_s: float | None = None) -> Seen:
    """Return what the HTTP status of a refused request or handshake means.

    `retry_after_s` (seconds) is kept for a rate limit, at most 300.
    """
    reason = table_of(provider).statuses.get(status) or BY_STATUS.get(status)
    if reason is None:
        reason = "server_error" if 500 <= status < 600 else "unknown"
    waits = reason == "rate_limit" and retry_after_s is not None
    return Seen(reason, str(status), bounded(retry_after_s or 0.0) if waits else None)


def from_code(code: str | int, provider: str = "") -> Seen:
    """Return what a name or number means that the provider sent in-band; `unknown` if none knows.

    A number that the table does not have is a status (400 to 599) or a close code (1000 to 4999).
    """
    word = str(code).lower()
    reason = table_of(provider).codes.get(word)
    if reason is not None:
        return Seen(reason, word)
    if word.isdecimal() and len(word) == 3 and word[0] in "45":
        return from_status(int(word), provider)
    if word.isdecimal() and len(word) == 4 and word[0] in "1234":
        return from_close(int(word), "", provider)
    return Seen()


def from_close(code: int, text: str = "", provider: str = "") -> Seen:
    """Return what a received WebSocket close code means, with the reason that came with it.

    The reason is only compared with the table's: whole, then its first word.
    """
    closes = table_of(provider).closes
    for word in (text, text.partition(" ")[0].rstrip(".:;,")):
        own = closes.get(f"{code}:{word}") if word else None
        if own is not None:
            return Seen(own, str(code) if " " in word else f"{code} {word}")
    return Seen(closes.get(str(code)) or BY_CLOSE_CODE.get(code, "unknown"), str(code))


def from_text(text: str, provider: str = "") -> Seen:
    """Return what a framework's own message means, by the fixed patterns of the provider's table.

    For errors of which nothing else is given. `unknown` where none of the patterns matches.
    """
    for pattern in table_of(provider).texts:
        match = pattern.match(text[:LONGEST_TEXT])
        if match:
            return from_code(match[1], provider)
    return Seen()


def _judge(error: BaseException, provider: str) -> tuple[_Rank, Seen]:
    """Judge one exception by itself."""
    if "ConnectionClosed" in type_names(error):
        return _Rank.NUMBER, _closed(error, provider)
    codes = table_of(provider).codes
    own = next((word for word in words_of(error) if word in codes), None)
    if own is not None:
        return _Rank.OWN, Seen(codes[own], own)
    for seen in _by_number(error, provider):
        if seen.code or seen.reason != "unknown":
            return _Rank.NUMBER, seen
    kind = next((kind for kind in kinds_of(error) if kind in codes), None)
    if kind is not None:  # after the status: an "invalid request" may be one without a key
        return _Rank.OWN, Seen(codes[kind], kind)
    reason = _by_type(error)
    if reason == "unknown":
        return _Rank.NOTHING, Seen()
    return _Rank.SYSTEM if isinstance(error, OSError) else _Rank.TYPE, Seen(reason)


def _by_number(error: BaseException, provider: str) -> Iterator[Seen]:
    """Yield what its numbers mean: a close, an in-band code, a status, one within a text."""
    close = close_of(error)
    if close is not None:
        yield from_close(*close, provider)
    in_band = in_band_of(error)
    if in_band is not None:
        yield from_code(in_band, provider)
    status = status_of(error)
    if status is not None:
        yield from_status(status, provider)
    yield from_text(first_text(error), provider)


def _closed(error: BaseException, provider: str) -> Seen:
    """Judge websockets' ConnectionClosed: by what was received, unless the close was ours."""
    received, sent = read(error, "rcvd"), read(error, "sent")
    was_ours = sent is not None and (received is None or read(error, "rcvd_then_sent") is False)
    if was_ours and sent.code in (1000, 1001):
        return Seen("cancelled")
    if was_ours or received is None:  # as for a ping that nobody answered
        return from_close(1006)
    return from_close(received.code, str(received.reason), provider)


def _by_type(error: BaseException) -> Reason:
    names = type_names(error)
    if names & _TIMEOUTS:
        return "timeout"
    if isinstance(error, OSError | EOFError) or names & _CONNECTIONS:
        return "connection"
    return "unknown"
