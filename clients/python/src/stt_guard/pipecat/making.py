"""Make a provider's Pipecat service from its class, with the key from the usual variable."""

import inspect
from dataclasses import fields
from typing import Any

from pipecat.services.stt_service import STTService
from pipecat.transcriptions.language import Language

from stt_guard.building import call_factory, key_of, may_be_set


def make(provider: str, factory: Any, settings: dict[str, Any], language: str) -> STTService:
    """Return the service. `factory`: a service's class, or what returns one from the settings.

    Raises what the factory raises, TypeError for a setting that the class does not know, and
    LookupError for a missing key.
    """
    if isinstance(factory, type) and issubclass(factory, STTService):
        return _from_class(provider, factory, settings, language)
    service: STTService = call_factory(factory, settings, language)
    return service


def _from_class(
    provider: str, cls: type[STTService], settings: dict[str, Any], language: str
) -> STTService:
    taken = _options_of(cls)
    known: Any = getattr(cls, "Settings", None)
    own_names = {one.name for one in fields(known)} if known else set()
    beside = {name for name in taken - own_names if may_be_set(name)}
    options = {name: value for name, value in settings.items() if name in beside}
    own = {name: value for name, value in settings.items() if name not in beside}
    if "api_key" in taken:
        options["api_key"] = key_of(provider)
    if known is not None:
        options["settings"] = known(**_with_language(known, own, language))
    elif own:
        raise TypeError(f"got an unexpected keyword argument {next(iter(own))!r}")
    return cls(**options)


def _options_of(cls: type[STTService]) -> set[str]:
    """The names that its constructors take, its own and those it hands on to."""
    makers = [vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)]
    names = {name for maker in makers for name in inspect.signature(maker).parameters}
    return names - {"self", "settings", "args", "kwargs"}


def _with_language(known: Any, settings: dict[str, Any], language: str) -> dict[str, Any]:
    """Add the caller's language, unless the operators' settings say one."""
    names = {one.name for one in fields(known)}
    if not language or settings.keys() & {"language", "language_hints"}:
        return settings
    try:
        spoken = Language(language)
    except ValueError:
        return {**settings, "language": language} if "language" in names else settings
    if "language_hints" in names:
        return {**settings, "language_hints": [spoken]}
    return {**settings, "language": spoken} if "language" in names else settings
