"""What the REST tests share: a key of each role, a client that carries one, and problems."""

import json
from typing import Any

from django.http import HttpResponse
from django.test import Client

from fallback import catalog, keys
from fallback.models import ApiKey

PROBLEM_FIELDS = {"type", "title", "status", "detail", "instance", "code", "errors", "request_id"}


def make_key(role: str = "agent", **values: Any) -> str:
    """Save a key of this role and return what its holder sends."""
    row = ApiKey(**{"name": f"{role}-key", "role": role, **values})
    key = keys.issue(row)
    row.save()
    return key


class Api(Client):
    """A client that sends JSON with a key, and reads it; errors come back as responses."""

    def __init__(self, key: str) -> None:
        super().__init__(raise_request_exception=False, headers={"authorization": f"Bearer {key}"})

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> HttpResponse:
        """Send a body as JSON; bytes and texts as they are."""
        raw = body if isinstance(body, bytes | str) else json.dumps(body)
        return self.generic(
            method, f"/api/v1/{path}", raw, headers=headers, CONTENT_TYPE="application/json"
        )

    def decide(self, **asked: Any) -> HttpResponse:
        """Ask for a call on the usual route."""
        return self.send("POST", "decisions", {"route": "breeze-buddy", "call_id": "CA1", **asked})

    def report(self, *outcomes: Any) -> HttpResponse:
        """Report outcomes."""
        return self.send("POST", "outcomes", {"outcomes": list(outcomes)})


def api(role: str = "agent", **values: Any) -> Api:
    """Return a client with a new key of this role, and the configuration as it is now."""
    client = Api(make_key(role, **values))
    catalog.reload()
    return client


def outcome(kind: str = "init_failure", **values: Any) -> dict[str, Any]:
    """Return an outcome as an agent reports it; its id says what it is about."""
    seen = {"call_id": "CA1", "provider": "soniox", "kind": kind, "route": "breeze-buddy", **values}
    return {"id": f"{seen['call_id']}:{seen['provider']}:{kind}", **seen}


def flaw(response: HttpResponse, status: int) -> str:
    """Return why a response is no problem document of this status; empty if it is one."""
    if response["Content-Type"] != "application/problem+json":
        return f"{response.status_code} {response['Content-Type']} {response.content[:200]!r}"
    body = json.loads(response.content)
    fields = PROBLEM_FIELDS | ({"why"} if body.get("code") == "no_usable_provider" else set())
    is_right = set(body) == fields and body["status"] == response.status_code == status
    return "" if is_right else str(body)


def assert_problem(response: HttpResponse, status: int, code: str = "") -> dict[str, Any]:
    """Insist on a problem document of this status, and return it."""
    assert flaw(response, status) == ""
    body: dict[str, Any] = json.loads(response.content)
    assert body["code"] == code or not code, body
    return body
