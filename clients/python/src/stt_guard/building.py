"""Build a provider's service, whatever operators have set for it.

A wrong setting must not cost a call its provider: it is tried once more with the engineer's own.
"""

import inspect
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from stt_guard.call import Call
from stt_guard.classify import wrong_setting
from stt_guard.words import INIT_FAILURE

Service = TypeVar("Service")
log = logging.getLogger(__name__)


def build_all(
    call: Call,
    factories: Mapping[str, Any],
    make: Callable[[str, Any, dict[str, Any], str], Service],
) -> dict[str, Service]:
    """Return the services of the call's order that can be built, best first.

    `make(provider, factory, settings, language)` builds one, and may raise. Reports each setting
    and each provider that cannot be used. Raises RuntimeError when none can be built.
    """
    built: dict[str, Service] = {}
    for provider in call.order:
        if provider not in factories:
            log.error("no factory for %s, which the guard says this agent can use", provider)
        elif (service := _build(call, provider, factories[provider], make)) is not None:
            built[provider] = service
    if not built:
        raise RuntimeError(f"none of {', '.join(call.order)} could be built; see the log")
    return built


def _build(
    call: Call,
    provider: str,
    factory: Any,
    make: Callable[[str, Any, dict[str, Any], str], Service],
) -> Service | None:
    settings = dict(call.settings_of(provider))
    try:
        return make(provider, factory, dict(settings), call.language)
    except Exception as error:
        refused = error
    if settings:
        try:
            service = make(provider, factory, {}, call.language)
        except Exception as error:
            refused = error
        else:
            setting = wrong_setting(refused, settings)
            named = f"setting {setting!r}" if setting else "settings"
            log.error(
                "operators' %s of %s cannot be used: %s", named, provider, type(refused).__name__
            )
            call.misconfigured(provider, setting, refused)
            return service
    log.error("%s cannot be built; the next provider is used", provider, exc_info=refused)
    name = type(refused).__name__
    call.failed(provider, INIT_FAILURE, reason="bad_request", message=name)
    return None


def call_factory(factory: Callable[..., Any], settings: dict[str, Any], language: str) -> Any:
    """Call an engineer's factory with the settings, and with the language if it takes one."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return factory(settings)
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    if takes_any or "language" in parameters:
        return factory(settings, language=language)
    return factory(settings)


def may_be_set(name: str) -> bool:
    """Whether operators may set a constructor's option of this name.

    Not where the key goes, and not the key: a setting must never send it somewhere else.
    """
    return not set(name.split("_")) & {"url", "uri", "host", "key", "token", "secret", "session"}


def key_of(provider: str) -> str:
    """Return the provider's key from its usual variable: `DEEPGRAM_API_KEY` for `deepgram-eu`.

    `DEEPGRAM_EU_API_KEY` wins where it is set. Raises LookupError naming the variables.
    """
    names = [f"{part.upper().replace('-', '_')}_API_KEY"
             for part in dict.fromkeys((provider, provider.partition("-")[0]))]  # fmt: skip
    for name in names:
        if key := os.environ.get(name):
            return key
    raise LookupError(f"{provider} needs its key in {' or '.join(names)}, or a factory")
