"""Bad input of every sort: a problem that says what is wrong, and never a 500."""

import io
import json

import pytest
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponseNotFound
from django.test import Client
from rest_framework.request import Request

from fallback.api import parsing, throttling
from fallback.api.problems import problem_middleware
from tests.configuration import make_route
from tests.rest import api, assert_problem, flaw

pytestmark = pytest.mark.django_db(transaction=True)

DEEP = "[" * 800 + "]" * 800
ASKED = '{"route": "breeze-buddy", "call_id": "CA1"'

MALFORMED = {
    "nothing": "",
    "spaces": "   ",
    "a word": "hello",
    "half an object": '{"route": ',
    "a trailing comma": '{"route": "a",}',
    "single quotes": "{'route': 'a'}",
    "two values": "{} {}",
    "a comment": "/* a */ {}",
    "a form": "route=breeze-buddy&call_id=1",
    "markup": "<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]>",
    "a raw control": '{"route": "a\x01"}',
    "a raw NUL": '{"route": "a\x00"}',
    "only NULs": b"\x00" * 100,
    "no UTF-8": b'{"route": "\xff\xfe"}',
    "UTF-16": '{"route": "a"}'.encode("utf-16"),
    "half a character": b'{"route": "\xe2\x82"}',
    "NaN": ASKED + ', "host": NaN}',
    "Infinity": ASKED + ', "host": Infinity}',
    "minus Infinity": ASKED + ', "host": -Infinity}',
    "a float beyond floats": ASKED + ', "host": 1e999}',
    "a number of 5000 digits": ASKED + ', "host": ' + "9" * 5000 + "}",
    "a bad escape": '{"route": "\\x41"}',
    "half an escape": '{"route": "\\u12"}',
    "800 levels": DEEP,
    "100,000 levels": "[" * 100_000,
    "100,000 objects deep": '{"a":' * 40_000,
    "800 levels in a field": ASKED + ', "can_use": ' + DEEP + "}",
    "800 levels in a text's place": '{"route": ' + DEEP + ', "call_id": "CA1"}',
    "800 levels in an unknown field": ASKED + ', "x": ' + DEEP + "}",
}

WRONG = {
    "a list": [],
    "null": None,
    "true": True,
    "a number": 5,
    "a text": "breeze-buddy",
    "nothing in it": {},
    "no call": {"route": "breeze-buddy"},
    "no route": {"call_id": "CA1"},
    "null for a route": {"route": None, "call_id": "CA1"},
    "a number for a route": {"route": 1, "call_id": "CA1"},
    "a list for a route": {"route": ["breeze-buddy"], "call_id": "CA1"},
    "an object for a route": {"route": {"slug": "a"}, "call_id": "CA1"},
    "true for a route": {"route": True, "call_id": "CA1"},
    "an empty route": {"route": "", "call_id": "CA1"},
    "a long route": {"route": "a" * 64, "call_id": "CA1"},
    "an empty call": {"call_id": ""},
    "a call of 129": {"call_id": "a" * 129},
    "a call of 200,000": {"call_id": "a" * 200_000},
    "a NUL in a call": {"call_id": "a\x00b"},
    "a line end in a call": {"call_id": "a\nb"},
    "a line end at its end": {"call_id": "a\n"},
    "an escape in a call": {"call_id": "a\x1b[31m"},
    "a C1 control in a call": {"call_id": "a\x85"},
    "a delete in a call": {"call_id": "a\x7f"},
    "half a surrogate in a call": {"call_id": "a\ud800"},
    "the other half": {"call_id": "\udc00"},
    "a huge whole number for a call": {"call_id": 10**4000},
    "a float for a call": {"call_id": 1.5},
    "a text for can_use": {"can_use": "soniox"},
    "an object for can_use": {"can_use": {"soniox": True}},
    "numbers in can_use": {"can_use": [1, 2]},
    "lists in can_use": {"can_use": [["soniox"]]},
    "null in can_use": {"can_use": [None]},
    "101 in can_use": {"can_use": [f"a{number}" for number in range(101)]},
    "a surrogate in failed": {"failed": ["\ud800"]},
    "a NUL in failed": {"failed": ["a\x00"]},
    "a number for failed": {"failed": 1},
    "a text for probe": {"probe": "true"},
    "a number for probe": {"probe": 1},
    "a list for probe": {"probe": []},
    "a sentence for a language": {"language": "hindi, mostly"},
    "a number for a language": {"language": 5},
    "a path for a language": {"language": "../../etc/passwd"},
    "a long language": {"language": "a" * 36},
    "a number for a host": {"host": 7},
    "an object for a host": {"host": {}},
    "a field that is not there": {"colour": "red"},
    "a field with a hostile name": {"\x1b[31m\ud800": 1},
    "an empty field name": {"": 1},
    "a field name of 100,000": {"a" * 100_000: 1},
    "1,000 unknown fields": {f"field{number}": 1 for number in range(1000)},
    "a field of the class": {"__class__": "x"},
}

WRONG_ADDRESSES = [
    ("GET", "/api/v1/decisions", 405),
    ("PUT", "/api/v1/decisions", 405),
    ("TRACE", "/api/v1/status", 405),
    ("BREW", "/api/v1/status", 405),
    ("GET", "/api/v1/nothing", 404),
    ("GET", "/api/v2/status", 404),
    ("GET", "/api/", 404),
    ("GET", "/api/v1/status/", 404),
    ("POST", "/api/v1/decisions/", 404),
    ("GET", "/api/v1/providers/", 404),
    ("GET", "/api/v1/providers/nobody", 404),
    ("GET", "/api/v1/calls/CA404", 404),
    ("GET", "/api/v1/calls/" + "a" * 129, 404),
    ("GET", "/api/v1/calls/%00", 404),
    ("GET", "/api/v1/calls/%FF%FE", 404),
    ("GET", "/api/v1/%E0%A4%A", 404),
    ("DELETE", "/api/schema/", 405),
]


@pytest.fixture
def agent():
    make_route()
    throttling.buckets.cache_clear()
    yield api("agent")
    throttling.buckets.cache_clear()


def whole(wrong: object) -> str:
    """Return a body that is right but for what is wrong in it."""
    is_part = isinstance(wrong, dict) and wrong and not {"route", "call_id"} >= wrong.keys()
    right = {"route": "breeze-buddy", "call_id": "CA1"}
    return json.dumps({**right, **wrong} if is_part else wrong)


def flaws(bodies: dict, send) -> dict[str, str]:
    """Send every body of a table; return what was not answered with a 400 problem, and how."""
    found = {name: flaw(send(body), 400) for name, body in bodies.items()}
    return {name: text for name, text in found.items() if text}


def test_a_body_that_is_no_json_is_a_problem(agent):
    assert flaws(MALFORMED, lambda body: agent.send("POST", "decisions", body)) == {}


def test_wrong_values_are_a_problem(agent):
    bodies = {name: whole(wrong) for name, wrong in WRONG.items()}

    assert flaws(bodies, lambda body: agent.send("POST", "decisions", body)) == {}


def test_outcomes_take_none_of_it_either(agent):
    bodies = MALFORMED | {name: whole(wrong) for name, wrong in WRONG.items()}

    assert flaws(bodies, lambda body: agent.send("POST", "outcomes", body)) == {}


def test_overrides_take_none_of_it_either(agent):
    operator = api("operator")
    bodies = MALFORMED | {name: whole(wrong) for name, wrong in WRONG.items()}

    assert flaws(bodies, lambda b: operator.send("PUT", "providers/soniox/override", b)) == {}


def test_a_problem_names_each_wrong_field_in_few_and_harmless_words(agent):
    for wrong in WRONG.values():
        problem = json.loads(agent.send("POST", "decisions", whole(wrong)).content)

        assert 1 <= len(problem["errors"]) <= 20, problem
        assert len(json.dumps(problem)) < 6_000, problem
        assert all(error["detail"].isprintable() for error in problem["errors"]), problem


def test_malformed_json_is_located(agent):
    problem = assert_problem(agent.send("POST", "decisions", '{"route":\n  oops}'), 400)

    assert problem["detail"] == "The body is not JSON: Expecting value at line 2, column 3."


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "", "x",
     "application/json; charset=utf-16"],
)  # fmt: skip
def test_another_media_type_is_refused(agent, content_type):
    response = agent.generic("POST", "/api/v1/decisions", b"{}", content_type=content_type)

    assert_problem(response, 415, "unsupported_media_type")


def test_json_may_say_that_it_is_utf8(agent):
    body = json.dumps({"route": "breeze-buddy", "call_id": "CA1"})

    response = agent.generic(
        "POST", "/api/v1/decisions", body, content_type="Application/JSON; charset=UTF-8"
    )

    assert response.status_code == 200


def test_a_body_that_came_in_chunks_is_read_without_a_length():
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/v1/decisions",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")],
    }

    read = parsing.read_json(Request(ASGIRequest(scope, io.BytesIO(b'{"route": "a"}'))))

    assert read == {"route": "a"}


def test_wrong_addresses_and_methods_are_problems(agent):
    found = {
        f"{method} {path}": flaw(agent.generic(method, path), status)
        for method, path, status in WRONG_ADDRESSES
    }

    assert {name: text for name, text in found.items() if text} == {}


def test_a_slash_too_many_is_pointed_out(agent):
    problem = assert_problem(agent.get("/api/v1/status/"), 404)

    assert "no slash at the end" in problem["detail"]


def test_405_names_what_is_allowed(agent):
    response = agent.get("/api/v1/decisions")

    assert response["Allow"] == "POST, OPTIONS"


def test_options_and_head_are_answered_without_a_body(agent):
    options, head = agent.options("/api/v1/status"), agent.head("/api/v1/status")

    assert (options.status_code, options["Allow"]) == (204, "GET, HEAD, OPTIONS")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("debug", [True, False])
def test_djangos_own_errors_under_api_have_the_same_shape(agent, settings, debug):
    settings.DEBUG = debug
    wrong_host = agent.get("/api/v1/status", headers={"host": "evil.example"})
    nowhere = agent.get("/api/nowhere")

    assert_problem(wrong_host, 400)
    assert_problem(nowhere, 404)


def test_errors_elsewhere_are_left_as_they_are():
    response = Client().get("/nowhere")

    assert response.status_code == 404
    assert "problem" not in response["Content-Type"]


def test_an_error_of_ours_is_a_problem_that_tells_no_secrets(agent, settings, caplog):
    settings.API_THROTTLE = {}  # nothing in the API can do without it
    throttling.buckets.cache_clear()

    problem = assert_problem(agent.get("/api/v1/status"), 500, "internal_error")

    assert "KeyError" not in json.dumps(problem)
    assert "KeyError" in caplog.text


async def test_the_middleware_serves_asynchronous_handlers_too(rf):
    async def missing(request):
        return HttpResponseNotFound()

    response = await problem_middleware(missing)(rf.get("/api/nowhere"))

    assert_problem(response, 404, "not_found")
