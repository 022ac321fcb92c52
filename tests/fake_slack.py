"""A Slack that speaks the real Web API over HTTP, with the faults that the real one has.

Faults are queued by method and each strikes once: "429" (Retry-After 7), "500" and "502" (nothing
taken), "500_after" and "502_after" (taken), "drop_before", "drop_after" (the connection is cut), or
any error code. `visible_after_s`: a message that was taken shows in the history only then.
`is_away`: every request is answered 500, and nothing is taken.
"""

import json
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

TOKEN = "xoxb-test"  # no secret: the fake's own
RETRY_AFTER_S = 7
STATUS_OF = {"500": 500, "502": 502, "drop_before": 0}
ELEMENTS = {"text", "date", "link", "emoji"}


class FakeSlack:
    """One workspace: channels by id, messages by channel, and every request that came."""

    def __init__(self) -> None:
        self.channels = {"C0ALERTS": "stt-alerts", "C0OTHER": "other"}
        self.messages: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.faults: dict[str, deque[str]] = defaultdict(deque)
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.responses: list[dict[str, Any]] = []  # what was sent to a response_url
        self.socket_url = ""
        self.delay_s = 0.0
        self.visible_after_s = 0.0
        self.is_away = False
        self.now: Callable[[], float] = time.time
        self._lock = threading.Lock()
        self._number = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/api/"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def roots(self, channel: str = "C0ALERTS") -> list[dict[str, Any]]:
        return [one for one in self.messages[channel] if "thread_ts" not in one]

    def replies(self, channel: str = "C0ALERTS") -> list[dict[str, Any]]:
        return [one for one in self.messages[channel] if "thread_ts" in one]

    def count(self, method: str) -> int:
        return sum(asked == method for asked, _ in self.requests)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        slack = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                if self.path.startswith("/response/"):
                    slack.responses.append(json.loads(body))
                    return self._answer(200, b"ok", {})
                method = self.path.rsplit("/", 1)[-1]
                asked = _parsed(body, self.headers.get("Content-Type", ""))
                status, answer, headers = slack.handle(method, asked, self.headers)
                if status == 0:
                    return self.connection.close()
                return self._answer(status, json.dumps(answer).encode(), headers)

            do_GET = do_POST  # noqa: N815 - named by http.server

            def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                with suppress(BrokenPipeError, ConnectionResetError):  # whoever asked was killed
                    self._write(status, body, headers)

            def _write(self, status: int, body: bytes, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def handle(self, method: str, asked: dict[str, Any], headers: Any) -> tuple[int, Any, dict]:
        """Answer one request: status (0: the connection is cut), body, headers."""
        if self.delay_s:
            time.sleep(self.delay_s)
        with self._lock:
            self.requests.append((method, asked))
            fault = self.faults[method].popleft() if self.faults[method] else ""
            if method != "apps.connections.open" and headers["Authorization"] != f"Bearer {TOKEN}":
                return 200, {"ok": False, "error": "invalid_auth"}, {}
            if fault == "429":
                head = {"Retry-After": str(RETRY_AFTER_S)}
                return 429, {"ok": False, "error": "ratelimited"}, head
            if self.is_away or fault in STATUS_OF:
                return (500 if self.is_away else STATUS_OF[fault]), {}, {}
            if fault and fault.removesuffix("_after") not in {"500", "502", "drop"}:
                return 200, {"ok": False, "error": fault}, {}
            answer = getattr(self, "_" + method.replace(".", "_"))(asked)
            if fault:
                return {"500_after": 500, "502_after": 502}.get(fault, 0), {}, {}
            return 200, answer, {}

    def _auth_test(self, _asked: dict[str, Any]) -> Any:
        return {"ok": True, "user_id": "U0BOT", "team_id": "T1", "bot_id": "B1"}

    def _apps_connections_open(self, _asked: dict[str, Any]) -> Any:
        return {"ok": True, "url": self.socket_url}

    def _conversations_list(self, _asked: dict[str, Any]) -> Any:
        rows = [{"id": one, "name": name} for one, name in self.channels.items()]
        return {"ok": True, "channels": rows}

    def _chat_postMessage(self, asked: dict[str, Any]) -> Any:  # noqa: N802 - Slack's name
        channel = self._channel(asked)
        if channel is None:
            return {"ok": False, "error": "channel_not_found"}
        thread = asked.get("thread_ts")
        if thread and not self._find(channel, thread):
            return {"ok": False, "error": "thread_not_found"}
        if problem := _wrong_blocks(asked.get("blocks") or []):
            return {"ok": False, "error": "invalid_blocks", "detail": problem}
        self._number += 1
        ts = f"{self.now():.4f}{self._number % 100:02d}"
        message = {name: asked[name] for name in ("text", "blocks", "metadata") if name in asked}
        message |= {"ts": ts, **({"thread_ts": thread} if thread else {})}
        self.messages[channel].append(message)
        return {"ok": True, "channel": channel, "ts": ts}

    def _chat_update(self, asked: dict[str, Any]) -> Any:
        found = self._find(asked["channel"], asked["ts"])
        if asked["channel"] not in self.channels:
            return {"ok": False, "error": "channel_not_found"}
        if not found:
            return {"ok": False, "error": "message_not_found"}
        if problem := _wrong_blocks(asked.get("blocks") or []):
            return {"ok": False, "error": "invalid_blocks", "detail": problem}
        found |= {"text": asked["text"], "blocks": asked["blocks"]}
        return {"ok": True, "channel": asked["channel"], "ts": asked["ts"]}

    def _conversations_history(self, asked: dict[str, Any]) -> Any:
        return self._listed(asked, self.roots(asked["channel"]))

    def _conversations_replies(self, asked: dict[str, Any]) -> Any:
        parent = self._find(asked["channel"], asked["ts"])
        if not parent:
            return {"ok": False, "error": "thread_not_found"}
        rows = [one for one in self.replies(asked["channel"]) if one["thread_ts"] == asked["ts"]]
        return self._listed(asked, [parent, *rows])

    def _listed(self, asked: dict[str, Any], rows: list[dict[str, Any]]) -> Any:
        if asked["channel"] not in self.channels:
            return {"ok": False, "error": "channel_not_found"}
        shown_until = self.now() - self.visible_after_s
        oldest = float(asked.get("oldest", 0))
        rows = [one for one in rows if oldest <= float(one["ts"]) <= shown_until + 0.001]
        start = int(asked.get("cursor") or 0)
        page = rows[start : start + 50]
        if str(asked.get("include_all_metadata")).lower() not in {"1", "true"}:
            page = [{k: v for k, v in one.items() if k != "metadata"} for one in page]
        more = str(start + 50) if start + 50 < len(rows) else ""
        return {"ok": True, "messages": page, "response_metadata": {"next_cursor": more}}

    def _channel(self, asked: dict[str, Any]) -> str | None:
        wanted = str(asked["channel"])
        if wanted in self.channels:
            return wanted
        return next((k for k, name in self.channels.items() if wanted == f"#{name}"), None)

    def _find(self, channel: str, ts: str) -> dict[str, Any] | None:
        return next((one for one in self.messages[channel] if one["ts"] == ts), None)


def shown(message: dict[str, Any]) -> str:
    """Return all that a person reads in a message."""
    return "\n".join(_shown(block) for block in message["blocks"])


def _shown(block: dict[str, Any]) -> str:
    if block["type"] == "section":
        return str(block["text"]["text"])
    if block["type"] == "actions":
        return " ".join(f"[{one['text']['text']}]" for one in block["elements"])
    return "".join(
        one.get("text") or one.get("fallback") or f":{one.get('name')}:"
        for section in block["elements"]
        for one in section["elements"]
    )


def _parsed(body: str, content_type: str) -> dict[str, Any]:
    if "json" in content_type:
        found: dict[str, Any] = json.loads(body or "{}")
        return found
    asked: dict[str, Any] = {name: values[0] for name, values in parse_qs(body).items()}
    for name in ("blocks", "metadata"):
        if isinstance(asked.get(name), str):
            asked[name] = json.loads(asked[name])
    return asked


def _wrong_blocks(blocks: list[dict[str, Any]]) -> str:
    """Return what Slack would not take of these blocks."""
    if not blocks or len(blocks) > 50 or len(json.dumps(blocks)) > 40_000:
        return "none, or too many"
    return next((block["type"] for block in blocks if not _is_right(block)), "")


def _is_right(block: dict[str, Any]) -> bool:
    if block["type"] == "section":
        return 1 <= len(block["text"]["text"]) <= 3000
    if block["type"] == "actions":
        rows = block["elements"]
        return all(
            len(one["text"]["text"]) <= 75 and len(one.get("value", "")) <= 2000 for one in rows
        )
    return block["type"] == "rich_text" and all(
        one["type"] in ELEMENTS and one.get("text", "x") != ""
        for section in block["elements"]
        for one in section["elements"]
    )
