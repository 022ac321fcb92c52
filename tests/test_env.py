"""The reader of the environment: defaults, files, and wrong values that stop the start."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from controlplane import env


def test_an_unset_variable_has_its_default(monkeypatch):
    monkeypatch.delenv("PORT", raising=False)

    assert env.number("PORT", 8000, lowest=1, highest=65535) == 8000


def test_an_empty_variable_counts_as_unset(monkeypatch):
    monkeypatch.setenv("DEBUG", "")

    assert env.flag("DEBUG", default=True) is True


def test_a_file_wins_over_the_variable_and_loses_its_line_end(monkeypatch, tmp_path):
    (tmp_path / "token").write_text("from-the-file\n")
    monkeypatch.setenv("SLACK_BOT_TOKEN", "from-the-variable")
    monkeypatch.setenv("SLACK_BOT_TOKEN_FILE", str(tmp_path / "token"))

    assert env.text("SLACK_BOT_TOKEN") == "from-the-file"


def test_a_file_that_cannot_be_read_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET_KEY_FILE", str(tmp_path / "missing"))

    with pytest.raises(ImproperlyConfigured, match=r"SECRET_KEY_FILE names .*missing"):
        env.text("SECRET_KEY")


@pytest.mark.parametrize(
    ("word", "meaning"), [("1", True), ("Yes", True), ("on", True), ("0", False), ("FALSE", False)]
)
def test_a_flag_understands_the_usual_words(monkeypatch, word: str, meaning: bool):
    monkeypatch.setenv("DEBUG", word)

    assert env.flag("DEBUG", default=not meaning) is meaning


@pytest.mark.parametrize(
    ("name", "value", "read", "right"),
    [
        ("DEBUG", "flase", lambda: env.flag("DEBUG", default=False), "1 or 0"),
        ("PORT", "http", lambda: env.number("PORT", 1, lowest=1, highest=9), "from 1 to 9"),
        ("PORT", "10", lambda: env.number("PORT", 1, lowest=1, highest=9), "from 1 to 9"),
        ("LOG_FORMAT", "xml", lambda: env.choice("LOG_FORMAT", "a", ["a", "b"]), "one of a, b"),
        ("REDIS_SENTINELS", "host", lambda: env.addresses("REDIS_SENTINELS"), "host:port"),
        ("PUBLIC_URL", "x", lambda: env.text("PUBLIC_URL", pattern="h.*", like="http"), "http"),
    ],
)
def test_a_wrong_value_is_refused_with_what_would_be_right(monkeypatch, name, value, read, right):
    monkeypatch.setenv(name, value)

    with pytest.raises(ImproperlyConfigured, match=f"{name} .*{right}"):
        read()


def test_a_wrong_value_is_not_repeated_because_it_may_hold_a_secret(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "http://:hunter2@host")

    with pytest.raises(ImproperlyConfigured) as refusal:
        env.text("REDIS_URL", pattern="redis://.*", like="redis://host")

    assert "hunter2" not in str(refusal.value)


def test_a_list_is_cut_at_commas(monkeypatch):
    monkeypatch.setenv("ALLOWED_HOSTS", "a.example, b.example,")

    assert env.words("ALLOWED_HOSTS") == ["a.example", "b.example"]


def test_addresses_are_hosts_with_their_ports(monkeypatch):
    monkeypatch.setenv("REDIS_SENTINELS", "one:26379, two:26380")

    assert env.addresses("REDIS_SENTINELS") == [("one", 26379), ("two", 26380)]


def test_a_variable_that_is_not_in_the_list_cannot_be_read():
    with pytest.raises(LookupError, match="HOME is not in"):
        env.text("HOME")


def test_s19_proxies_are_addresses_and_networks(monkeypatch):
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "10.0.0.7, 10.1.0.0/16,::1")

    assert env.networks("FORWARDED_ALLOW_IPS") == ["10.0.0.7", "10.1.0.0/16", "::1"]


@pytest.mark.parametrize("word", ["localhost", "10.0.0.0/33", "10.0.0.1/8", "**"])
def test_s19_a_proxy_that_is_no_address_is_refused(monkeypatch, word: str):
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", word)

    with pytest.raises(ImproperlyConfigured, match=r"FORWARDED_ALLOW_IPS is .*10\.0\.0\.7"):
        env.networks("FORWARDED_ALLOW_IPS")
