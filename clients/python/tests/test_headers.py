"""What each request says of its sender."""

import platform
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from opentelemetry import trace

from stt_guard import SttGuard, __version__, headers
from tests.conftest import eventually
from tests.plane_double import PlaneDouble

ROOT = Path(__file__).resolve().parents[1]
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_every_request_names_the_versions_at_work():
    double = PlaneDouble()
    async with double.running():
        for feed in ("auto", "poll", "off"):
            async with SttGuard(double.url, key="k", route="r", feed=feed) as guard:
                await guard.start(2)
                (await guard.call("c1", can_use=["soniox", "x"])).end()
                assert await eventually(lambda guard=guard: guard.stats()["waiting"] == 0)

    assert set(double.headers) == {"feed", "status", "decide", "report"}
    told = {one["User-Agent"] for one in double.headers.values()}
    assert told == {
        f"stt-guard/{__version__} (Python {platform.python_version()}; "
        f"aiohttp {metadata.version('aiohttp')}; pipecat-ai {metadata.version('pipecat-ai')}; "
        f"livekit-agents {metadata.version('livekit-agents')})"
    }


def test_a_framework_that_is_not_installed_is_not_named(monkeypatch):
    monkeypatch.setattr(headers, "TOLD", ("aiohttp", "no-such-framework"))
    headers.user_agent.cache_clear()
    try:
        assert headers.user_agent().endswith(f"aiohttp {metadata.version('aiohttp')})")
    finally:
        headers.user_agent.cache_clear()


def test_neither_a_framework_nor_opentelemetry_is_imported():
    script = (
        "import sys, stt_guard; from stt_guard import headers; headers.headers('k');"
        "headers.trace_headers(None);"
        "print([one for one in ('pipecat', 'livekit', 'opentelemetry') if one in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT / "src", capture_output=True, text=True, check=True
    )

    assert ran.stdout.strip() == "[]"


async def test_a_trace_that_is_given_goes_with_the_question():
    double = PlaneDouble()
    async with (
        double.running(),
        SttGuard(double.url, key="k", route="r", can_use=["soniox"], feed="off") as guard,
    ):
        await guard.call("c1", traceparent=TRACE)
        assert double.headers["decide"]["traceparent"] == TRACE
        await guard.call("c2")
        assert "traceparent" not in double.headers["decide"]


async def test_the_current_span_is_taken_where_none_is_given():
    double = PlaneDouble()
    ids = (int(TRACE[3:35], 16), int(TRACE[36:52], 16))
    context = trace.SpanContext(*ids, is_remote=False, trace_flags=trace.TraceFlags(1))
    async with (
        double.running(),
        SttGuard(double.url, key="k", route="r", can_use=["soniox"], feed="off") as guard,
    ):
        with trace.use_span(trace.NonRecordingSpan(context)):
            await guard.call("c1")
            assert double.headers["decide"]["traceparent"] == TRACE
            await guard.call("c2", traceparent="")  # a program that wants none
            assert "traceparent" not in double.headers["decide"]


@pytest.mark.parametrize("text", ["x", "00-1-2-01", f"{TRACE}\r\nX-Other: 1", f"{TRACE}\n", "ü"])
async def test_a_trace_that_is_none_costs_no_decision(text):
    double = PlaneDouble()
    async with (
        double.running(),
        SttGuard(double.url, key="k", route="r", can_use=["soniox"], feed="off") as guard,
    ):
        call = await guard.call("c1", traceparent=text)

    assert (call.source, "traceparent" in double.headers["decide"]) == ("remote", False)


def test_a_version_of_opentelemetry_with_other_words_costs_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", object())

    assert headers.trace_headers(None) == {}


def test_the_version_is_that_of_the_package():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

    assert told["project"]["version"] == __version__
