"""Settings that agents are handed: no secret among them, and nothing that could not be kept."""

import time
from typing import Any

import pytest
from django.test import Client

from fallback.models import Provider
from fallback.models.secrets import secret_paths
from tests.admin_forms import posted, text_of, url
from tests.configuration import make_policy, make_route
from tests.test_models import errors_of

pytestmark = pytest.mark.django_db


S25 = [
    {"pwd": "hunter22"}, {"bearer": "abc123"}, {"auth": "abc123"}, {"sas": "sv=2024&sig=x"},
    {"url": "https://user:pass@host/v1"}, {"headers": {"X-Key": "abc123"}}, {"key": "abc123"},
    {"secrets": ["abc123"]}, {"secrets[]": "abc123"}, {"header": "Token abc123"},
    {"apiKeys": ["abc123"]}, {"xi_api": "abc123"}, {"password": "x"}, {"api_key": "x"},
    {"apikey": "x"}, {"XAPIKey": "x"}, {"clientSecret": "x"}, {"deepgram_key": "x"},
    {"accessToken": "x"}, {"secrets": {"soniox": "abc"}}, {"\uff50wd": "fullwidth"},
    {"url": "wss://api.example/v1?model=a&api_key=abc"}, {"url": "https://token@host"},
    {"h": "bearer abc"}, {"h": "Basic dXNlcjpwYXNz"}, {"h": "Token 0123456789abcdef"},
    {"a": "eyJhbGciOiJIUzI1NiJ9.e30.x"}, {"a": "-----BEGIN PRIVATE KEY-----"},
    {"a": "gsk_0123456789abcdefghij"}, {"a": " AKIA0123456789ABCDEF"}, {"cookie": "a=b"},
    {"dsn": "DefaultEndpointsProtocol=https;AccountKey=abc=="},
]  # fmt: skip


@pytest.mark.parametrize("settings", S25, ids=str)
def test_s25_a_secret_is_refused_and_its_path_is_told(settings: dict[str, Any]) -> None:
    nested = {"options": [settings]}
    provider = Provider(slug="soniox", name="x", policy=make_policy(), settings=nested)
    told = str(errors_of(provider)["settings"])

    assert f"options[0].{next(iter(settings))}" in told
    assert "credential hint" in told


S25_INNOCENT = [
    {"keyterms": ["Bearer", "basic", "token", "auth key"]}, {"keywords": ["password:2", "key:5"]},
    {"monkey": "x"}, {"authoritative_model": "x"}, {"token_limit": "100"}, {"author": "x"},
    {"language": "sk-SK"}, {"end_token": "<eos>"}, {"stop_tokens": ["</s>"]}, {"key_phrase": "x"},
    {"max_tokens": "100"}, {"auth": {"mode": "none"}}, {"auth_mode": "header"}, {"passive": "x"},
    {"url": "https://eu.api.example/v1?model=nova-3&language=en"}, {"public_key": "x"},
    {"voice": "21m00Tcm4TlvDq8ikWAM"}, {"voice_id": "a0e99841-438c-4a64-b679-ae501e7d6091"},
    {"prompt": "Basic English. Ask for the key, never for a password."}, {"bypass": "no"},
    {"prompt": "Token economy", "topic": "basic hygiene", "key": ""}, {"compass": "north"},
    {"model": "hf_small", "email": "a@b.example", "keys": 3, "signature_help": "yes"},
    {"turn_detection": {"end_of_turn_confidence": "0.7"}, "tokenizer": "bpe", "sass": "x"},
]  # fmt: skip


@pytest.mark.parametrize("settings", S25_INNOCENT, ids=lambda one: str(one)[:40])
def test_s25_what_only_sounds_alike_is_accepted(settings: dict[str, Any]) -> None:
    Provider(slug="soniox", name="x", policy=make_policy(), settings=settings).full_clean()


LONG = ["a", "A", "key_", "token ", "?a&", "aA", "AccountKey ", "https://a:", "-", "sk-", "é"]


@pytest.mark.parametrize("part", LONG)
def test_s1_no_settings_keep_this_process_busy(part: str) -> None:
    """All that fits into settings, of the shapes that make a careless pattern backtrack."""
    text = (part * 16_000)[:16_000]
    began = time.process_time()
    list(secret_paths({text: text}))
    list(secret_paths({f"{text}!": f" {text}~"}))

    assert time.process_time() - began < 0.5


UNSTORABLE = {
    "9" * 5_000: "a number that is too long",
    r'"\ud800"': "half a character",
    r'{"\ud800": 1}': "half a character",
    "[" * 900 + "]" * 900: "too deep",
    "[" * 2_000 + "]" * 2_000: "too deep",
    "[" * 12 + "]" * 12: "more than 8 levels deep",
    "[" * 100_000: "too deep",
    "1e999": "NaN or Infinity",
}


@pytest.mark.parametrize("value", UNSTORABLE, ids=lambda text: text[:10])
@pytest.mark.parametrize("of", ["provider", "step"])
def test_s17_settings_that_cannot_be_kept_are_an_error_of_the_form(
    admin_client: Client, value: str, of: str
) -> None:
    route = make_route("breeze", "soniox")
    row = Provider.objects.get() if of == "provider" else route
    page = url("provider" if of == "provider" else "route", "change", row.pk)
    field = "settings" if of == "provider" else "steps-0-settings"
    answer = admin_client.post(page, posted(admin_client.get(page)) | {field: f'{{"a": {value}}}'})

    assert answer.status_code == 200
    assert UNSTORABLE[value] in text_of(answer)


@pytest.mark.parametrize("value", ["\ud800", {"\udfff": 1}], ids=["text", "name"])
def test_s17_what_cannot_be_kept_is_refused_whoever_saves_it(value: Any) -> None:
    settings = {"a": value}
    provider = Provider(slug="soniox", name="x", policy=make_policy(), settings=settings)

    assert "settings" in errors_of(provider)
