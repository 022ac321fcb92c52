"""Make a provider's LiveKit plugin from its class; its key comes from its usual variable."""

import inspect
import sys
from dataclasses import fields, is_dataclass
from typing import Any

from livekit.agents.stt import STT

from stt_guard.building import call_factory, may_be_set


def make(provider: str, factory: Any, settings: dict[str, Any], language: str) -> STT:
    """Return the plugin. `factory`: a plugin's class, or what returns one from the settings.

    Raises what the factory raises, and TypeError for a setting that the class does not know.
    """
    if isinstance(factory, type) and issubclass(factory, STT):
        return _from_class(factory, settings, language)
    plugin: STT = call_factory(factory, settings, language)
    return plugin


def _from_class(cls: type[STT], settings: dict[str, Any], language: str) -> STT:
    """Give each setting to the constructor, or to the options that it takes as `params`."""
    parameters = inspect.signature(vars(cls)["__init__"]).parameters
    own = {name for name in parameters if name != "self" and may_be_set(name)}
    options = {name: value for name, value in settings.items() if name in own}
    rest = {name: value for name, value in settings.items() if name not in own}
    known: Any = getattr(sys.modules[cls.__module__], "STTOptions", None)
    takes_params = "params" in own and is_dataclass(known)
    if language and "language" in own:
        options.setdefault("language", language)
    elif language and takes_params and "language_hints" in {one.name for one in fields(known)}:
        rest.setdefault("language_hints", [language.partition("-")[0]])
    if takes_params and rest:
        return cls(**options, params=known(**rest))
    if rest:
        raise TypeError(f"got an unexpected keyword argument {next(iter(rest))!r}")
    return cls(**options)
