"""What a log line looks like: JSON for machines or plain text for people, both through structlog.

No tracebacks by `rich`, even where it happens to be installed: it walks every local variable of
every frame, and one failing request can occupy a core for minutes.

What strangers and operators wrote is in log lines too, so every line is cleaned here, whoever wrote
it: no control character and no escape sequence reaches a terminal, and no text begins a new line.
"""

import logging
import re
from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import structlog

FORMATS: Final = ("console", "json")
LEVELS: Final = ("debug", "info", "warning", "error")
INDENT: Final = "\n    "  # of a traceback: its messages must not look like lines of the log

QUERY: Final = re.compile(r"\?[^\s)]*")

# What every line carries, whether it was logged through structlog or the standard library.
SHARED: Final[list[structlog.typing.Processor]] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure_structlog() -> None:
    """Send structlog's events through the standard library's handlers, where Django's go too."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *SHARED,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def logging_config(log_format: str, level: str) -> dict[str, Any]:
    """Return Django's LOGGING: one handler, standard error; uvicorn's own are removed."""
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": [*SHARED, structlog.stdlib.ExtraAdder()],
        "processors": [
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            clean,
            *_renderers(log_format),
        ],
    }
    inherit = {"handlers": [], "level": "NOTSET", "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"structured": formatter},
        "filters": {"ours": {"()": OneLineARequest}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "structured",
                "filters": ["ours"],
            }
        },
        "root": {"handlers": ["stderr"], "level": level.upper()},
        "loggers": {
            "django": inherit,
            "django.server": inherit,
            "uvicorn": inherit,
            # controlplane.request_log has one line a request, without the query string.
            "uvicorn.access": {"handlers": [], "propagate": False},
            "uvicorn.error": inherit,
        },
    }


# What uvicorn says of sockets and of what is no HTTP: the product says it with address and id.
UVICORN_SAYS: Final = (
    '%s - "WebSocket',
    "connection open",
    "connection closed",
    "connection rejected",
    "Invalid HTTP request",
)


class OneLineARequest(logging.Filter):
    """Drop what others log beside the request log: Django's lines of refused requests with their
    tracebacks, and uvicorn's of sockets, whose addresses have the query string."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether the line is written; what it must not show is taken from it."""
        record.__dict__.pop("color_message", None)  # uvicorn's message again, for terminals
        if record.name == "uvicorn.error":
            return not str(record.msg).startswith(UVICORN_SAYS)
        if not record.name.startswith("django"):
            return True
        record.__dict__.pop("request", None)  # shown, it has the query string
        if getattr(record, "status_code", 500) >= 500:
            return record.name != "django.request" or record.exc_info is not None
        record.exc_info = None
        record.msg, record.args = QUERY.sub("?…", record.getMessage()), None  # of a Referer
        if record.levelno > logging.WARNING:  # that a stranger is refused is no error of ours
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return record.name != "django.request"


def clean(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Write what a reader cannot see as escapes, as in `\\x1b`; the last before the renderer."""
    for name, value in event.items():
        if name in {"exception", "stack"}:
            event[name] = INDENT.join(_visible(line) for line in str(value).split("\n"))
        else:
            event[name] = _cleaned(value)
    return event


def _cleaned(value: Any) -> Any:
    """Clean a text, and the texts within a value; what is no text is shown as Python writes it."""
    if isinstance(value, str):
        return _visible(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {_visible(str(name)): _cleaned(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_cleaned(inner) for inner in value]
    return _visible(repr(value))


def _visible(text: str) -> str:
    if text.isprintable():
        return str(text)
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


def _renderers(log_format: str) -> list[structlog.typing.Processor]:
    """Return what turns an event into a line."""
    if log_format == "json":
        return [structlog.processors.JSONRenderer()]
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=plain)]
