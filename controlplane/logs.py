"""What a log line looks like: JSON for machines or plain text for people, both through structlog.

No tracebacks by `rich`, even where it happens to be installed: it walks every local variable of
every frame, and one failing request can occupy a core for minutes.
"""

from typing import Any, Final

import structlog
from django.dispatch import receiver
from django.http import HttpRequest
from django_structlog.signals import bind_extra_request_metadata

FORMATS: Final = ("console", "json")
LEVELS: Final = ("debug", "info", "warning", "error")

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
            *_renderers(log_format),
        ],
    }
    inherit = {"handlers": [], "level": "NOTSET", "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"structured": formatter},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
        "root": {"handlers": ["stderr"], "level": level.upper()},
        "loggers": {
            "django": inherit,
            "django.server": inherit,
            "uvicorn": inherit,
            "uvicorn.access": inherit,
            "uvicorn.error": inherit,
        },
    }


@receiver(bind_extra_request_metadata)
def bind_address(request: HttpRequest, **_signal: Any) -> None:
    """Name in every line of a request who sent it: as the web server says, which knows which
    proxies to believe."""
    structlog.contextvars.bind_contextvars(ip=request.META.get("REMOTE_ADDR"))


def _renderers(log_format: str) -> list[structlog.typing.Processor]:
    """Return what turns an event into a line."""
    if log_format == "json":
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=plain)]
