"""Every URL there is, for everybody, by every method: who is let in is who the table says.

The URLs come from the resolver, so a new one is in the matrix from its first day: it fails here, by
its name, until the table says who may open it.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
from django.contrib.contenttypes.models import ContentType
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from fallback.roles import Role
from fallback.urls import websocket_urlpatterns
from tests.pages import PEOPLE, one_of_each, person
from tests.rest import Api, api

pytestmark = pytest.mark.django_db

KEYS: Final = ["agent", "operator", "reader"]
VISITORS: Final = [*PEOPLE, *(f"key:{role}" for role in KEYS)]
RARE_METHODS: Final = ["HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
EVERY_METHOD: Final = bool(os.environ.get("MATRIX_EVERY_METHOD"))  # three times as long
NEVER: Final = "nobody"
ANYBODY: Final = "stranger"

SETTINGS = ["provider", "policy", "route", "alerttemplate", "alertdestination"]
SECRETS = ["apikey", "slackoperator"]
HISTORY = ["transition", "incident", "deadletter", "alert", "proposal", "configchange"]


@dataclass(frozen=True)
class Access:
    """The least person and the keys that may use a method; `get` stands for all but the named."""

    get: str = NEVER
    post: str = NEVER
    get_keys: tuple[str, ...] = ()
    post_keys: tuple[str, ...] = ()
    put_keys: tuple[str, ...] = ()
    is_found: bool = True  # the address that is tried exists

    def admits(self, visitor: str, method: str) -> bool:
        kind, _, role = visitor.partition(":")
        is_rest = bool(self.get_keys or self.post_keys or self.put_keys)
        if is_rest and kind == "key":
            keys = {"POST": self.post_keys, "PUT": self.put_keys, "DELETE": self.put_keys}
            return role in keys.get(method, self.get_keys)
        if is_rest and method not in {"GET", "HEAD"}:
            return False  # no cookie orders anything over REST
        least = self.post if method == "POST" else self.get
        held = "stranger" if kind == "key" else visitor
        return least != NEVER and PEOPLE.index(held) >= PEOPLE.index(least)


def of_model(
    name: str, read: str, write: str, delete: str = "", add: str = ""
) -> dict[str, Access]:
    """Return who may open the pages that Django's admin makes for a model."""
    return {
        f"{name}_changelist": Access(read, read),
        f"{name}_add": Access(add or write, add or write),
        f"{name}_change": Access(read, write),
        f"{name}_delete": Access(delete or write, delete or write),
        f"{name}_history": Access(read, read),
    }


FOR_VIEWERS = Access("viewer", "viewer")
FOR_STAFF = Access("staff", "staff")
FOR_EDITORS = Access("editor", "editor")
FOR_ALL = Access(ANYBODY, ANYBODY)
STATUS = Access("viewer", get_keys=("agent", "operator", "reader"))
READ = Access("viewer", get_keys=("operator", "reader"))

TABLE: Final[dict[str, Access]] = {
    # the admin: Django's own pages, and one set for each model
    "index": FOR_STAFF,
    "app_list": Access("staff", "staff", is_found=False),  # nothing for who may see nothing
    "login": FOR_ALL,
    "logout": FOR_ALL,
    "jsi18n": FOR_STAFF,
    "second_factor": FOR_STAFF,
    "password_change": FOR_STAFF,
    "password_change_done": FOR_STAFF,
    "autocomplete": FOR_VIEWERS,
    "view_on_site": Access("staff", "staff", is_found=False),
    "admin/(?P<url>.*)$": Access("staff", "staff", is_found=False),
    **{
        key: access
        for names, write in [(SETTINGS, "editor"), (SECRETS, "owner"), (HISTORY, NEVER)]
        for name in names
        for key, access in of_model(f"fallback_{name}", "viewer", write).items()
    },
    **of_model("auth_user", "owner", "owner", delete=NEVER),
    **of_model("auth_group", "owner", "owner"),
    "auth_user_password_change": Access("owner", "owner"),
    **{f"fallback_{name}_simple_history": FOR_VIEWERS for name in SETTINGS + SECRETS},
    # the admin: our own
    "fallback_provider_order": Access("operator", "operator"),
    "fallback_provider_failures": FOR_VIEWERS,
    "fallback_configchange_way": FOR_VIEWERS,  # to look; doing it takes what it changes
    "fallback_proposal_decide": Access("staff", "owner", is_found=False),  # GET finds nothing
    "fallback_alerttemplate_preview": Access(NEVER, "viewer"),
    "fallback_policy_now": FOR_EDITORS,
    "fallback_policy_rehearse": FOR_EDITORS,
    "fallback_policy_rehearsal": Access("editor", "editor", is_found=False),
    "fallback_policy_stop": Access("editor", "editor", is_found=False),
    # the dashboard
    "dashboard": FOR_VIEWERS,
    "give_order": Access(NEVER, "operator", is_found=False),
    # REST
    "api/v1/decisions": Access(post_keys=("agent", "operator")),
    "api/v1/outcomes": Access(post_keys=("agent", "operator")),
    "api/v1/status": STATUS,
    "api/v1/providers/<str:slug>": STATUS,
    "api/v1/providers/<str:slug>/override": Access(put_keys=("operator",)),
    "api/v1/providers/<str:slug>/reset": Access(post_keys=("operator",)),
    "api/v1/calls/<path:call_id>": Access("viewer", get_keys=STATUS.get_keys, is_found=False),
    "api/v1/incidents": READ,
    "api/v1/transitions": READ,
    "api/v1/stats": READ,
    "schema": FOR_ALL,
    "docs": FOR_ALL,
    # others
    "slack/events": Access(ANYBODY, NEVER, is_found=False),  # signed by Slack, or refused
    "metrics": FOR_ALL,
}
BARE: Final = re.compile(
    r"admin/(auth|fallback)/\w+/<path:object_id>/\Z"
)  # leads to the change page
BESIDE: Final = ["/livez", "/readyz?role=web", "/static/fallback/admin.css"]  # of no resolver


def patterns(found: Any = None, before: str = "") -> Iterator[tuple[str, str]]:
    """Yield (key in the table, route) of every URL."""
    for one in found or get_resolver().url_patterns:
        route = f"{before}{one.pattern}"
        if isinstance(one, URLResolver):
            yield from patterns(one.url_patterns, route)
        elif isinstance(one, URLPattern):
            yield one.name or route, route


def access_to(key: str) -> Access:
    return FOR_STAFF if BARE.match(key) else TABLE[key]


def address(key: str, route: str, rows: dict[str, Any]) -> str:
    """Return the address of a route for a row that is there."""
    named = re.match(r"admin/(?:auth|fallback)/(\w+)/", route)
    pk = str(rows[named[1]].pk) if named and named[1] in rows else "0"
    if key.endswith("simple_history"):
        version = rows[named[1]].history.earliest().pk if named else 0
        return f"/admin/fallback/{named[1] if named else ''}/{pk}/history/{version}/"
    given = {
        "verb": "reset", "decision": "reject", "way": "undo", "slug": "soniox", "call_id": "CA1",
        "url": "none/", "app_label": "fallback", "pk": pk, "object_id": pk, "id": pk,
        "content_type_id": str(ContentType.objects.first().pk),  # type: ignore[union-attr]
        "number": pk if named and named[1] in {"proposal", "configchange"} else "0",
    }  # fmt: skip
    path = re.sub(r"\(\?P<(\w+)>[^)]*\)|<(?:\w+:)?(\w+)>",
                  lambda found: given[found[1] or found[2]], route)  # fmt: skip
    path = re.sub(r"\^|\$|/\?", "", path)
    if key == "fallback_provider_order":
        path += f"?ids={pk}"
    if key == "autocomplete":
        path += "?app_label=fallback&model_name=provider&field_name=policy&term="
    return f"/{path}"


def rare_methods(number: int) -> list[str]:
    """Return one for every third address, another third for each visitor; or all, if asked for."""
    if EVERY_METHOD:
        return RARE_METHODS
    return [RARE_METHODS[number // 3 % len(RARE_METHODS)]] if number % 3 == 0 else []


def visitor(name: str) -> Client:
    kind, _, role = name.partition(":")
    found = api(role) if kind == "key" else person(kind)
    found.raise_request_exception = False
    return found


def is_refused(answer: Any) -> bool:
    leads_to_login = answer.status_code == 302 and answer.headers["Location"].startswith(
        "/admin/login/"
    )
    return answer.status_code in {401, 403} or leads_to_login


def verdict(key: str, name: str, method: str, answer: Any) -> str:
    """Return what is wrong about an answer; empty if nothing is."""
    access, code = access_to(key), answer.status_code
    cell = f"{method} {key} by {name}: {code}"
    if code >= 500:
        return cell
    if method == "OPTIONS" and not getattr(answer, "content", b"?"):
        return ""  # which methods there are is no secret
    if access.admits(name, method):
        is_missing = code == 404 and access.is_found and method in {"GET", "POST"}
        return f"{cell}, but may" if is_refused(answer) or is_missing else ""
    return "" if is_refused(answer) or code in {404, 405} else f"{cell}, but may not"


def test_the_table_says_who_may_open_every_url() -> None:
    keys = {key for key, _ in patterns() if not BARE.match(key)}

    assert keys - TABLE.keys() == set(), "say in TABLE who may open these"
    assert TABLE.keys() - keys == set(), "these are gone"
    sockets = [str(one.pattern) for one in websocket_urlpatterns if str(one.pattern)]
    assert sockets == ["ws/v1/status"], (  # the empty one refuses every other path
        "say who may open it in fallback/live/door.py, and test it in test_live_feed.py"
    )


@pytest.mark.parametrize("name", VISITORS)
def test_every_url_lets_in_who_may_and_nobody_else(name: str, settings: Any) -> None:
    settings.SLACK_BOT_TOKEN, settings.SLACK_SIGNING_SECRET = "xoxb-x", "secret"
    settings.API_THROTTLE = {"caller": (1e6, 1e6), "stranger": (1e6, 1e6)}
    rows = one_of_each()
    browser = visitor(name)
    wrong, count = [], 0
    urls = sorted(set(patterns()), key=lambda one: (one[0] == "logout", one))  # it ends the session
    for number, (key, route) in enumerate(urls):
        target = address(key, route, rows)
        for method in ["GET", "POST", *rare_methods(number + VISITORS.index(name))]:
            headers = {} if isinstance(browser, Api) else {"Accept": "text/html"}
            answer = browser.generic(method, target, headers=headers)
            wrong.append(verdict(key, name, method, answer))
            count += 1

    wrong = [cell for cell in wrong if cell]
    assert not wrong, "\n".join(wrong)
    assert count > 280


@pytest.mark.parametrize("path", BESIDE)
def test_what_no_resolver_knows_is_open_to_all(path: str) -> None:
    assert Client().get(path).status_code in {200, 503}


def test_a_forbidden_page_would_be_found() -> None:
    """The matrix itself: an answer that lets in the wrong one is told."""
    let_in = type("Answer", (), {"status_code": 200, "headers": {}})()

    assert "may not" in verdict("auth_user_changelist", "viewer", "GET", let_in)
    assert "may not" in verdict("auth_user_changelist", "key:operator", "GET", let_in)
    assert verdict("auth_user_changelist", "owner", "GET", let_in) == ""
    assert [str(role) for role in Role] == PEOPLE[2:-1]
