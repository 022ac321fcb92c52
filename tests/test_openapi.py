"""The schema: valid, complete, the one that is committed, true to the API, and readable offline."""

import io
import itertools
import os
import re
from urllib.parse import quote

import pytest
import schemathesis
import yaml
from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.test import Client
from django.urls import get_resolver
from hypothesis import HealthCheck, Phase, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis.strategies import just
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

from controlplane.handler import Handler
from fallback.api import throttling
from fallback.api.texts import clean
from tests.configuration import make_provider, make_route
from tests.rest import api, make_key, outcome

KEYS = itertools.count()
# For each operation, of valid and of invalid input together.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "15"))


@pytest.fixture(scope="module")
def generated() -> str:
    """Return the schema as the command writes it; a warning fails it."""
    written = io.StringIO()
    call_command("spectacular", validate=True, fail_on_warn=True, stdout=written)
    return written.getvalue()


def operations(schema: dict):
    """Yield every operation, with its path and method."""
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def test_the_committed_schema_is_the_one_that_is_served(generated):
    """To mend: manage.py spectacular --file openapi.yaml."""
    committed = (settings.BASE_DIR / "openapi.yaml").read_text(encoding="utf-8")

    assert committed.strip() == generated.strip()


def test_every_address_of_the_api_is_in_the_schema(generated):
    described = set(yaml.safe_load(generated)["paths"])

    served = {
        "/" + re.sub(r"<\w+:(\w+)>", r"{\1}", str(pattern.pattern))
        for resolver in get_resolver().url_patterns
        for pattern in getattr(resolver, "url_patterns", [])
        if str(pattern.pattern).startswith("api/v1/")
    }
    assert described == served


def test_every_operation_documents_its_problems(generated):
    for path, method, operation in operations(yaml.safe_load(generated)):
        responses = operation["responses"]

        assert {"400", "401", "403", "405", "429"} <= responses.keys(), (path, method)
        for status, response in responses.items():
            assert response["description"]
            assert "X-Request-Id" in response["headers"]
            if status >= "400":
                assert list(response["content"]) == ["application/problem+json"]


def test_every_operation_says_what_it_is_and_who_may(generated):
    """What redocly and spectral find: they are run by hand, for a bare Debian has no Node."""
    schema = yaml.safe_load(generated)
    tags = {tag["name"] for tag in schema["tags"]}

    assert schema["servers"]
    assert schema["info"]["license"]
    assert schema["info"]["contact"]
    for path, method, operation in operations(schema):
        assert operation["operationId"].isidentifier()
        assert 0 < len(operation["summary"]) <= 100, (path, method)
        assert not operation["summary"].endswith(".")
        assert operation["description"], (path, method)
        assert set(operation["tags"]) <= tags
        assert {"key": []} in operation["security"]
        assert {} not in operation["security"]
        assert ({"session": []} in operation["security"]) == (method == "get")
    ids = [operation["operationId"] for _, _, operation in operations(schema)]
    assert len(set(ids)) == len(ids)


@pytest.mark.django_db(transaction=True)
def test_clearing_an_override_answers_as_the_schema_says(generated):
    make_route()
    schema = yaml.safe_load(generated)["paths"]["/api/v1/providers/{slug}/override"]["delete"]
    answer = api("operator").send("DELETE", "providers/soniox/override")

    assert [status for status in schema["responses"] if status < "300"] == ["200"]
    assert answer.status_code == 200
    assert answer.json()["provider"] == "soniox"


NASTY = [
    "", "0", "-1", "1", "99999999999999999999", "1e400", "NaN", "null", "true", "\x00", "\ud800",
    "é", "a" * 5_000, "stt", "soniox", "[]", "{}", "%", "'", '"', "1 or 1=1", "../..", "*", ".*",
    "0000-00-00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00Z", "2026-11-22T12:00:00.999999999Z", "-0001-01-01", "12345-01-01",
    "2026-W01-1", "20261122T120000Z", "24:00", "cD0=", "cD05OTk5LTEyLTMxVDIzOjU5OjU5LTE0OjAw",
    "cj0xJnA9MjAyNi0xMS0yMg==",
    "bz05OTk5OTk5OTk5OTk5OTk5OTk5OTk=", "bz0tMQ==", "cj0xJm89MTAwMCZwPTk5OTktMTItMzE=",
]  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_s17_no_name_in_an_address_breaks_it(api_key):
    client = Client(raise_request_exception=False, headers={"authorization": f"Bearer {api_key}"})
    broken = [
        (where, value[:40], answer.status_code)
        for where in ("providers/{}", "providers/{}/override", "calls/{}", "{}")
        for value in NASTY
        if (
            answer := client.get(
                f"/api/v1/{where.format(quote(value, safe='', errors='surrogatepass'))}"
            )
        ).status_code
        not in {200, 400, 404, 405}
    ]

    assert broken == []


READS = ["status", "stats", "incidents", "transitions", "providers/soniox", "calls/CA1"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", READS)
def test_s17_no_parameter_of_a_read_breaks_it(api_key, generated, path):
    """Each with each, and names that are no parameters but look like Django's lookups."""
    client = Client(raise_request_exception=False, headers={"authorization": f"Bearer {api_key}"})
    described = yaml.safe_load(generated)["paths"]
    template = re.sub(r"(?<=providers/)\w+", "{slug}", re.sub(r"CA1", "{call_id}", path))
    names = [
        parameter["name"]
        for parameter in described[f"/api/v1/{template}"]["get"]["parameters"]
        if parameter.get("in") == "query"
    ]
    names += ["pk__range", "at__year", "provider__regex", "x__regex", "id", "format", ""]
    broken = [
        (name, value[:40], answer.status_code)
        for name in names
        for value in NASTY
        if (
            answer := client.get(
                f"/api/v1/{path}?{quote(name)}={quote(value, errors='surrogatepass')}"
            )
        ).status_code
        not in {200, 304, 400, 404}
    ]

    assert broken == []


def test_decisions_document_a_503_for_what_is_not_known_here_alone(generated):
    paths = yaml.safe_load(generated)["paths"]
    said = [
        paths[f"/api/v1/{path}"]["post"]["responses"]["503"]["description"]
        for path in ("decisions", "outcomes")
    ]

    assert said[0].startswith("Never for a key and a route that this process knows.")
    assert said[1].startswith("Redis or the database is away")


def test_the_schema_is_served_to_anybody(generated):
    response = Client().get("/api/schema/", headers={"accept": "application/json"})

    assert response.status_code == 200
    assert response.json()["paths"].keys() == yaml.safe_load(generated)["paths"].keys()


@pytest.mark.parametrize("path", ["/api/docs/", "/api/docs"])
def test_the_page_has_all_it_needs_on_this_server(path):
    page = Client().get(path)
    script = Client().get(f"{path}?script")

    sources = re.findall(r'(?:src|href)="([^"]+)"', page.content.decode())
    static = [source for source in sources if source.startswith("/static/")]
    assert page.status_code == script.status_code == 200
    assert len(static) >= 3
    assert all(finders.find(source.removeprefix("/static/")) for source in static)
    assert [source for source in sources if source.startswith(("http:", "https:", "//"))] == []


@pytest.mark.parametrize("path", ["/api/docs/", "/api/docs", "/api/schema/", "/api/docs/?script"])
def test_s15_strangers_may_ask_which_methods_the_pages_have(path):
    answer = Client().options(path)

    assert (answer.status_code, answer["Allow"], answer.content) == (204, "GET, HEAD, OPTIONS", b"")
    assert Client(raise_request_exception=False).post(path).status_code == 405


def test_the_page_runs_no_script_of_its_own_and_says_so():
    page = Client().get("/api/docs/")

    assert "script-src 'self'" in page["Content-Security-Policy"]
    assert re.findall(r"<script(?![^>]*src=)[^>]*>", page.content.decode()) == []


@pytest.fixture
def api_key(settings):
    """Return an operator's key, with something to be found at every address."""
    settings.API_THROTTLE = {"caller": (1e9, 1e9), "stranger": (1e9, 1e9)}
    make_route()
    make_provider("elevenlabs", kind="tts")
    throttling.buckets.cache_clear()
    client = api("operator")
    client.report(outcome(reason="connection", call_id="CA1"))
    return make_key("operator", name="schemathesis")


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("names", ["made up", "known"])
def test_s17_the_api_does_what_its_schema_says_and_nothing_breaks_it(api_key, generated, names):
    """With names of the schema's own making, and with those that exist, which reach further."""
    schema = schemathesis.openapi.from_asgi("/api/schema/", Handler())
    headers = {"Authorization": f"Bearer {api_key}"}
    hold = hold_known if names == "known" else hold_made_up
    for result in schema.get_all_operations():
        check = given(case=result.ok().as_strategy(), headers=just(headers))(hold)
        hypothesis_settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(check)()


def hold_made_up(case, headers):
    """Send one case and hold the answer against the schema, but for what no schema can say."""
    case.query.pop("cursor", None)  # which cursors are right ones
    if isinstance(case.body, dict) and isinstance(case.body.get("reason"), str):
        assume(clean(case.body["reason"], 500))  # which characters can be seen
    if case.headers and "Idempotency-Key" in case.headers:  # which keys came with another body
        case.headers["Idempotency-Key"] = str(next(KEYS))
    case.call_and_validate(headers=headers)


def hold_known(case, headers):
    """Send one case about what exists; only that nothing breaks, and that the answer is one of the
    schema's: whether it should have been taken was said of the names it had before."""
    if "slug" in case.path_parameters:
        case.path_parameters["slug"] = "soniox"
    if "call_id" in case.path_parameters:
        case.path_parameters["call_id"] = "CA1"
    if isinstance(case.body, dict):
        case.body = known(case.body)
    case.call_and_validate(
        headers=headers, checks=[not_a_server_error, response_schema_conformance]
    )


def known(value):
    """Return a body in which every route and provider is one that exists."""
    if isinstance(value, list):
        return [known(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    names = {"route": "breeze-buddy", "provider": "soniox"}
    return {
        name: names[name] if name in names and isinstance(inner, str) else known(inner)
        for name, inner in value.items()
    }
