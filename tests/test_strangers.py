"""What strangers send is answered with what is wrong with it: never with an error of ours."""

import asyncio

import pytest
from django.test import Client

from tests.serving import serving

HOST = b"Host: 127.0.0.1\r\n"
UPGRADE = HOST + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
FORM = b"Content-Length: 5\r\nContent-Type: "
LOGIN = b"POST /admin/login/ HTTP/1.1\r\n" + HOST + FORM
STYLE = b"GET /static/admin/css/base.css HTTP/1.1\r\n" + HOST
GARBAGE = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /ws/v1/status HTTP/1.1\r\n" + UPGRADE + b"\r\n",
    b"GET /ws/v1/status HTTP/1.1\r\n" + UPGRADE + b"Sec-WebSocket-Key: x\r\n\r\n",
    b"GET /ws/nope HTTP/1.1\r\n" + UPGRADE + KEY + b"\r\n",
    b"GET / HTTP/1.1\r\n" + UPGRADE + KEY + b"\r\n",
    b"GET /ws/v1/status HTTP/1.1\r\n" + UPGRADE + KEY + b"Authorization: Bearer \xff\xfe\r\n\r\n",
    b"GET /ws/v1/status HTTP/1.1\r\n" + UPGRADE + KEY + b"Cookie: \xff;=;sessionid=\x80\r\n\r\n",
    b"GET /ws/v1/status HTTP/1.1\r\n" + UPGRADE + KEY + b"Origin: http://[\r\n\r\n",
    b"GET /ws/v1/status HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET / HTTP/1.1\r\n" + HOST + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"GET /\xff\xfe?a=\xff HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /%ff%fe%00?%00=%ff HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: evil\x1b[2J\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"GET /api/nope HTTP/1.1\r\nHost: [::1:]\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"POST /api/v1/outcomes HTTP/1.1\r\n" + HOST + b"Content-Length: -5\r\n\r\nabcde",
    LOGIN + b"multipart/form-data\r\n\r\nabcde",
    LOGIN + b"multipart/form-data; boundary=\xe9\r\n\r\nabcde",
    b"POST /orders HTTP/1.1\r\n" + HOST + FORM + b"text/plain; charset=nope\r\n\r\na=%ff",
    b"GET / HTTP/1.1\r\n" + HOST + b"Cookie: sessionid=\xff; csrftoken=\x80\r\n\r\n",
    b"GET /api/v1/status HTTP/1.1\r\n" + HOST + b"Authorization: Bearer \xe9\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\n" + HOST + b"Authorization: \xe9\r\n\r\n",
    b"GET /static/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n" + HOST + b"\r\n",
    STYLE + b"Range: bytes=" + b"9" * 99 + b"-\r\n\r\n",
    STYLE + b"If-Modified-Since: 99 Jan 99999\r\n\r\n",
    b"GET /api/v1/status HTTP/1.1\r\n" + HOST + b'If-None-Match: """"\xff\r\n\r\n',
    b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET http://[::1 HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET //evil.example/%2f%2e HTTP/1.1\r\n" + HOST + b"\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n",
]  # fmt: skip
METHODS = ["PUT", "PATCH", "DELETE", "TRACE", "OPTIONS", "HEAD", "POST", "GET", "PROPFIND"]
ADDRESSES = [
    "/", "/livez", "/readyz", "/metrics", "/orders", "/slack/events", "/nope", "/static/nope.css",
    "/api/docs/", "/api/docs", "/api/docs/?script", "/api/schema/", "/api/schema/?format=nope",
    "/api/schema/?lang=xx", "/api/schema/?version=9", "/api/v1/decisions", "/api/v1/outcomes",
    "/api/v1/status", "/api/v1/providers/soniox", "/api/v1/providers/soniox/override",
    "/api/v1/providers/soniox/reset", "/api/v1/calls/CA1", "/api/v1/incidents",
    "/api/v1/transitions", "/api/v1/stats", "/admin/", "/admin/login/", "/admin/login/?next=%00",
    "/admin/logout/", "/admin/jsi18n/", "/admin/password_change/", "/admin/autocomplete/",
    "/admin/r/1/1/", "/admin/fallback/provider/1/change/", "/admin/fallback/nope/",
]  # fmt: skip


@pytest.mark.django_db(transaction=True)
async def test_s15_garbage_over_a_socket_is_never_an_error_of_ours():
    answers = {}
    async with serving() as address:
        host, port = address.split(":")
        for sent in GARBAGE:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(sent)
            answers[sent] = await asyncio.wait_for(reader.readline(), 10)
            writer.close()

    assert [(sent, said) for sent, said in answers.items() if said[9:10] not in b"234"] == []
    assert all(said.startswith(b"HTTP/1.1 ") for said in answers.values())


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("method", METHODS)
def test_s15_no_method_at_any_address_is_an_error_of_ours(method):
    stranger = Client(raise_request_exception=False)
    answers = {path: stranger.generic(method, path).status_code for path in ADDRESSES}
    answers.pop("/slack/events")  # 503 while Slack is off, as documented
    answers.pop("/readyz")  # 503 while it is not ready, which is no concern here

    assert {path: status for path, status in answers.items() if status >= 500} == {}
