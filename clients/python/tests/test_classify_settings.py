"""Which setting a constructor's error is about."""

import dataclasses
from typing import Any

import pydantic
import pytest

from stt_guard.classify import wrong_setting


@dataclasses.dataclass
class Settings:
    """A service's settings, as Pipecat's."""

    model: str = "x"
    language: str = "en"


class Model(pydantic.BaseModel):
    """A service's settings that are checked."""

    model_config = pydantic.ConfigDict(extra="forbid")
    delay_ms: int = pydantic.Field(0, ge=0)


class Strict:
    """A service that checks by itself."""

    def __init__(self, **settings: Any) -> None:
        if settings.get("endpoint_ms", 0) < 0:
            raise ValueError("endpoint_ms must not be negative (model, language are fine)")
        if "lang" in settings:
            raise KeyError("lang")
        settings["self"].modle  # noqa: B018


def error_of(build: Any, **settings: Any) -> Exception:
    """Return what building with these settings raises."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is what is tested
        build(**settings)
    return caught.value


@pytest.mark.parametrize(
    ("build", "settings", "name"),
    [
        (Settings, {"model": "y", "modle": "nova"}, "modle"),
        (Model, {"delay_ms": "soon"}, "delay_ms"),
        (Model, {"delay_ms": -1}, "delay_ms"),
        (Model, {"delay": 1}, "delay"),
        (Strict, {"language": "en", "model": "x", "endpoint_ms": -1}, "endpoint_ms"),
        (Strict, {"lang": "en"}, "lang"),
        (Strict, {"modle": "x", "self": object()}, "modle"),
    ],
)
def test_the_setting_that_an_error_is_about(build, settings, name):
    if "self" in settings:
        error: Exception = AttributeError("no attribute", name="modle")
    else:
        error = error_of(build, **settings)

    assert wrong_setting(error, settings) == name


def test_pythons_own_guess_of_what_was_meant_is_not_the_setting():
    error = TypeError(
        "Settings.__init__() got an unexpected keyword argument 'modle'. Did you mean 'model'?"
    )

    assert wrong_setting(error, {"model": "x", "modle": "y"}) == "modle"


def test_a_wrapper_hides_nothing():
    outer = RuntimeError("deepgram could not be built")
    outer.__cause__ = TypeError("got an unexpected keyword argument 'modle'")

    assert wrong_setting(outer, {"modle": "x"}) == "modle"


@pytest.mark.parametrize(
    ("error", "settings"),
    [
        (TypeError("got an unexpected keyword argument 'api_kye'"), {"model": "x"}),
        (ValueError("the remodelled thing is wrong"), {"model": "x"}),
        (ValueError("go to a place"), {"to": "x", "a": 1}),
        (ValueError("sk-secret"), {}),
        (ValueError(), {"model": "x"}),
        (KeyError(("model",)), {"other": 1}),
    ],
)
def test_an_error_of_none_of_the_settings(error, settings):
    assert wrong_setting(error, settings) is None


def test_nothing_but_a_key_of_the_settings_is_returned():
    settings = {"model": "sk-secret", "language": "en"}
    error = ValueError("sk-secret is no language, sk-secret is no model")

    assert wrong_setting(error, settings) == "language"
    assert wrong_setting(ValueError("sk-secret"), settings) is None


def test_of_two_names_at_one_place_it_is_the_longer():
    assert wrong_setting(ValueError("vad-ms is bad"), {"vad": 1, "vad-ms": 2}) == "vad-ms"


def test_an_error_of_which_nothing_can_be_read_is_about_none():
    class HostileError(TypeError):
        def __str__(self) -> str:
            raise RuntimeError

    class ValidationError(Exception):
        def errors(self) -> object:
            raise RuntimeError

    assert wrong_setting(HostileError(), {"model": "x"}) is None
    assert wrong_setting(ValidationError("model"), {"model": "x"}) == "model"
