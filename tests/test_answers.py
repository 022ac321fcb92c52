"""What every answer carries: headers for browsers, and the request's id."""

import json

import pytest
from django.contrib.auth.models import User
from django.test import Client

from controlplane.handler import Handler
from tests.asking import ask
from tests.rest import api

pytestmark = pytest.mark.django_db(transaction=True)

EVERYWHERE = [
    "/",
    "/livez",
    "/readyz?role=nope",
    "/static/admin/css/base.css",
    "/static/nope.css",
    "/nope",
    "/api/nope",
    "/api/v1/status",
    "/api/schema/",
    "/api/docs/",
    "/admin/login/",
    "/admin/nope/",
    "/orders",
    "/metrics",
    "/slack/events",
]


@pytest.mark.parametrize("path", EVERYWHERE)
def test_s24_every_answer_has_the_headers_that_browsers_obey(path):
    headers = Client(raise_request_exception=False).get(path).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["Cache-Control"]
    assert headers["X-Request-Id"]


@pytest.mark.parametrize("path", ["transitions", "incidents", "stats", "calls/CA1"])
def test_s24_no_cache_keeps_what_the_api_answers(path):
    assert api("operator").get(f"/api/v1/{path}").headers["Cache-Control"] == "no-store"


def test_s24_no_cache_keeps_the_script_of_the_admin():
    browser = Client()
    browser.force_login(User.objects.create_superuser("root"))

    assert browser.get("/admin/jsi18n/").headers["Cache-Control"] == "no-store"


def test_s24_status_and_static_files_may_be_kept_as_they_say():
    assert api("reader").get("/api/v1/status").headers["Cache-Control"] == "private, no-cache"
    assert "max-age" in Client().get("/static/admin/css/base.css").headers["Cache-Control"]


@pytest.mark.parametrize("path", ["/livez", "/api/nope", "/api/v1/status", "/admin/login/"])
def test_an_id_that_is_well_formed_comes_back_and_is_in_the_problem(path):
    answer = Client().get(path, headers={"x-request-id": "trace-1:2.3_A"})

    assert answer.headers["X-Request-Id"] == "trace-1:2.3_A"
    if answer.headers["Content-Type"] == "application/problem+json":
        assert json.loads(answer.content)["request_id"] == "trace-1:2.3_A"


@pytest.mark.parametrize("sent", ["", " ", "a b", "x" * 65, "é", "-a", "a\x1b[2J", "<script>"])
def test_any_other_id_is_replaced(sent):
    answer = Client().get("/api/nope", headers={"x-request-id": sent})

    assert answer.headers["X-Request-Id"] != sent
    assert len(answer.headers["X-Request-Id"]) == 32
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]


async def test_the_handler_passes_the_id_on_and_makes_one_for_each_request():
    handler = Handler()
    given = await ask(handler, "/api/nope", headers={"x-request-id": "mine-1"})
    ids = [(await ask(handler, "/livez")).headers["x-request-id"] for _ in range(2)]

    assert given.headers["x-request-id"] == given.problem["request_id"] == "mine-1"
    assert len({*ids, "mine-1"}) == 3


@pytest.mark.parametrize("target", ["https://evil.example/x", "//evil.example", "javascript:x"])
def test_s29_a_sign_in_whose_next_leads_nowhere_ends_on_a_page_that_exists(target):
    User.objects.create_superuser("root", password="as-you-like-it-42")
    browser = Client()
    given = {"username": "root", "password": "as-you-like-it-42", "next": target}
    answer = browser.post("/admin/login/", given, follow=True)

    assert answer.redirect_chain == [("/admin/", 302)]
    assert answer.status_code == 200


def test_a_sign_in_goes_on_to_where_it_was_asked_for():
    User.objects.create_superuser("root", password="as-you-like-it-42")
    given = {"username": "root", "password": "as-you-like-it-42", "next": "/"}

    assert Client().post("/admin/login/", given).headers["Location"] == "/"
