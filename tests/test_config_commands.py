"""`config_export` and `config_apply`: a round trip changes nothing, nor does a bad file."""

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from fallback import configuration
from fallback.configuration import from_yaml, to_yaml
from fallback.errors import Invalid
from fallback.models import ConfigChange, ConfigRevision, Policy, Provider, Route, RouteStep

pytestmark = pytest.mark.django_db


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Export the starter configuration to a file."""
    call_command("seed", stdout=io.StringIO())
    target = tmp_path / "config.yaml"
    call_command("config_export", str(target), stderr=io.StringIO())
    return target


def apply(file: Path | str, *options: str) -> tuple[str, str]:
    """Return what config_apply prints to standard output and to standard error."""
    out, err = io.StringIO(), io.StringIO()
    call_command("config_apply", str(file), *options, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def everything() -> list[Any]:
    histories = [model.history.count() for model in (Policy, Provider, Route, RouteStep)]
    counts = [ConfigRevision.current(), ConfigChange.objects.count()]
    return [configuration.build(), histories, counts]


@pytest.mark.parametrize("options", [[], ["--prune"], ["--dry-run"]])
def test_a_round_trip_changes_nothing(file: Path, options: list[str]) -> None:
    before = everything()
    said = apply(file, *options)

    assert said == ("", "Nothing to change.\n")
    assert everything() == before


def test_a_round_trip_before_anything_was_recorded_writes_nothing(file: Path) -> None:
    ConfigChange.objects.all().delete()
    apply(file)

    assert not ConfigChange.objects.exists()


def test_an_export_to_standard_output_is_the_file(file: Path) -> None:
    out = io.StringIO()
    call_command("config_export", stdout=out)

    assert out.getvalue() == file.read_text()


def test_apply_shows_what_it_changes_and_records_who_and_why(file: Path) -> None:
    text = file.read_text().replace("failure_threshold: 2", "failure_threshold: 5")
    file.write_text(text)
    out, err = apply(file, "--reason", "too jumpy")
    change = ConfigChange.objects.newest()

    assert "-    failure_threshold: 2\n+    failure_threshold: 5\n" in out
    assert err == "1 change: applied.\n"
    assert (change.author, change.reason) == ("command:config_apply", "too jumpy")
    assert Policy.objects.get().failure_threshold == 5


def test_a_dry_run_shows_and_checks_and_writes_nothing(file: Path) -> None:
    before = everything()
    file.write_text(file.read_text().replace("failure_threshold: 2", "failure_threshold: 5"))
    out, err = apply(file, "--dry-run")

    assert "+    failure_threshold: 5" in out
    assert "nothing was written" in err
    assert everything() == before


@pytest.mark.parametrize("options", [["--dry-run"], []])
def test_what_a_file_brings_is_said_as_the_admin_says_it(file: Path, options: list[str]) -> None:
    text = file.read_text().replace("fallback_enabled: true", "fallback_enabled: false")
    file.write_text(text)
    _, err = apply(file, *options)

    assert "Warning: Route breeze-buddy: its fallback is switched off" in err


def test_a_dry_run_can_say_by_its_exit_code_that_there_are_changes(file: Path) -> None:
    file.write_text(file.read_text().replace("failure_threshold: 2", "failure_threshold: 5"))
    with pytest.raises(SystemExit) as end:
        apply(file, "--dry-run", "--exit-code")

    assert end.value.code == 3


def test_every_problem_is_told_with_its_line_and_nothing_is_written(file: Path) -> None:
    before = everything()
    text = file.read_text().replace("- provider: deepgram", "- provider: deepgrm")
    text = text.replace("failure_window_s: 240", "failure_window_s: many")
    file.write_text(text)
    with pytest.raises(CommandError) as first:
        apply(file)
    file.write_text(text.replace("many", "240"))
    with pytest.raises(CommandError) as second:
        apply(file)
    lines = text.splitlines()

    at = lines.index("    failure_window_s: many") + 1
    assert f"line {at}: policies.default.failure_window_s: This is text" in str(first.value)
    at = lines.index("      - provider: deepgrm") + 1
    assert f"line {at}: routes.breeze-buddy.steps[1].provider: There is no" in str(second.value)
    assert "did you mean “deepgram”?" in str(second.value)
    assert everything() == before


BILLION = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BILLION, "Line 2: “*a” is an alias"),
        ("routes:\n  x: !!python/object:os.system {}", "Line 2: “tag:yaml.org,2002:python"),
        ("routes: {}\npolicies: {}\nroutes: {}", "Line 3: “routes” is there already, on line 1"),
        ("routes:\n\tx: 1", "Line 2: this is no YAML"),
        ("routes: [1, 2", "this is no YAML"),
        ("[" * 100_000, "Line 1: this is nested more than"),
        ("{a: " * 1000, "Line 1: this is nested more than"),
        ("a: 1\n---\nb: 2", "Line 2: a second document begins here"),
        ("? [a, b]\n: 1", "Line 1: a name must be plain text"),
        ("notes: \x07", "this is no YAML"),
        ("x" * (8 * 1024 * 1024 + 1), "larger than 8 MiB"),
    ],
    ids=range(11),
)
def test_hostile_yaml_is_refused_with_its_line(text: str, told: str) -> None:
    with pytest.raises(Invalid) as refused:
        from_yaml(text)

    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("true", True), ("~", None), ("", None), ("2026-11-22",) * 2,
        ("12:30", "12:30"), ("012", "012"), ("12", 12), ("1.5", 1.5), ("1e3", 1000.0),
        ("'1e3'", "1e3"), ("<<", "<<"), ("0x1f", "0x1f"), ("1_000", "1_000"),
    ],
)  # fmt: skip
def test_a_word_means_what_it_looks_like(text: str, value: Any) -> None:
    found = from_yaml(f"x: {text}").document["x"]

    assert (found, type(found)) == (value, type(value))


def test_an_empty_file_asks_for_nothing() -> None:
    assert from_yaml("# nothing\n").document == {}


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"routes: {}\n# \xe9\n")

    with pytest.raises(CommandError, match="No such file"):
        apply(tmp_path / "none.yaml")
    with pytest.raises(CommandError, match="line 2: this is not UTF-8"):
        apply(tmp_path / "latin.yaml")


def test_texts_of_many_lines_are_readable_and_come_back(file: Path) -> None:
    document = {"policies": {"x": {"notes": "first\n  second: {a}\n\nlast\n"}}}
    text = to_yaml(document)

    assert "notes: |\n" in text
    assert from_yaml(text).document == document
