"""The schema: valid, complete, the one that is committed, true to the API, and readable offline."""

import io
import itertools
import re

import pytest
import schemathesis
import yaml
from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.test import Client
from django.urls import get_resolver
from hypothesis import HealthCheck, Phase, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis.strategies import just

from fallback.api import throttling
from fallback.api.texts import clean
from tests.configuration import make_provider, make_route
from tests.rest import api, make_key, outcome

KEYS = itertools.count()
EXAMPLES = 15  # for each operation, of valid and of invalid input together


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
            if status >= "400":
                assert list(response["content"]) == ["application/problem+json"]


def test_decisions_document_no_503(generated):
    schema = yaml.safe_load(generated)

    assert "503" not in schema["paths"]["/api/v1/decisions"]["post"]["responses"]
    assert "503" in schema["paths"]["/api/v1/outcomes"]["post"]["responses"]


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
def api_key():
    """Return an operator's key, with something to be found at every address."""
    make_route()
    make_provider("elevenlabs", kind="tts")
    throttling.buckets.cache_clear()
    client = api("operator")
    client.report(outcome(reason="connection", call_id="CA1"))
    return make_key("operator", name="schemathesis")


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_the_api_does_what_its_schema_says(api_key, generated):
    schema = schemathesis.openapi.from_wsgi("/api/schema/", get_wsgi_application())
    headers = {"Authorization": f"Bearer {api_key}"}
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


def hold(case, headers):
    """Send one case and hold the answer against the schema, but for what no schema can say."""
    case.query.pop("cursor", None)  # which cursors are right ones
    if isinstance(case.body, dict) and isinstance(case.body.get("reason"), str):
        assume(clean(case.body["reason"], 500))  # which characters can be seen
    if case.headers and "Idempotency-Key" in case.headers:  # which keys came with another body
        case.headers["Idempotency-Key"] = str(next(KEYS))
    case.call_and_validate(headers=headers)
