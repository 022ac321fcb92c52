"""Every fault, both providers as primary, at set-up and mid-call, on the real Pipecat services."""

import asyncio

import pytest

from tests.cases import CASES, Case
from tests.conftest import MATRIX, write_to_readme
from tests.control_plane import ControlPlane
from tests.matrix import Row, run_matrix, table

IDS = [case.route for case in CASES]

# What must be reported of the primary first; mid-call: of Soniox, then of Deepgram.
AT_SET_UP = {
    "refused": "connection",
    "http:401": "auth",
    "http:402": "quota",
    "http:429": "rate_limit",
    "http:503": "server_error",
    "hang": "timeout",
    "immediate_close:1008": "unknown",
    "both down": "server_error",
}
MID_CALL = {
    "drop, heals": (("recovered", "connection"), ("recovered", "unknown")),
    "drop, refused": (("mid_call_failure", "connection"), ("mid_call_failure", "connection")),
    "drop, http:503": (("mid_call_failure", "server_error"), ("mid_call_failure", "server_error")),
    "drop, hang": (("mid_call_failure", "connection"), ("mid_call_failure", "unknown")),
    "close:1000": (("recovered", "connection"), ("recovered", "connection")),
    "error:503": (("recovered", "server_error"), ("recovered", "unknown")),
    "error:402": (("mid_call_failure", "quota"), ("mid_call_failure", "unknown")),
    "error:402, no tokens": (("mid_call_failure", "unknown"), ("mid_call_failure", "unknown")),
    "stall": (("stall", "stall"), ("stall", "stall")),
    "empty": (("stall", "stall"), ("stall", "stall")),
    "garbage": (("stall", "stall"), ("mid_call_failure", "unknown")),
    "freeze": (("stall", "stall"), ("stall", "stall")),
    "both down": (("mid_call_failure", "server_error"), ("mid_call_failure", "server_error")),
    "end": (("mid_call_failure", "server_error"), ("mid_call_failure", "server_error")),
}


@pytest.fixture(scope="module")
def rows(plane: ControlPlane, request: pytest.FixtureRequest) -> dict[str, Row]:
    """Run the whole matrix once, print it, and keep it in the README when UPDATE_README is set."""
    rows = asyncio.run(run_matrix(plane))
    printed = table(rows)
    request.config.stash[MATRIX] = printed
    write_to_readme("matrix", printed)
    return rows


def expected(case: Case) -> tuple[str, str]:
    """What must be reported of the primary first."""
    if case.when == "set-up":
        return "init_failure", AT_SET_UP[case.fault]
    return MID_CALL[case.fault][case.primary == "deepgram"]


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_what_is_reported_of_the_primary_is_right_and_said_once(rows, case):
    said = [(one["kind"], one["reason"]) for one in rows[case.route].of(case.primary)]
    failures = [one for one in said if one[0] != "recovered"]

    assert said[0] == expected(case)
    assert len(failures) <= 1


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_caller_is_heard_again_or_the_call_ends(rows, case):
    row = rows[case.route]
    kinds = {one["kind"] for one in row.of(case.primary)}
    is_blackhole = case.fault == "hang"

    if case.fault == "both down":
        assert 15 <= row.ended_s < 18
    elif case.fault == "end":
        assert row.ended_s < 3
    elif kinds == {"recovered"}:
        assert row.fallback_s is None
    elif "stall" in kinds:
        assert row.fallback_s < 4
    else:
        assert row.fallback_s < (7 if is_blackhole else 4)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_the_server_took_each_failure_once_and_counted_it(rows, case):
    row = rows[case.route]
    taken = [
        one["counted"]
        for one in row.taken
        if one["provider"].startswith(case.primary)
        and one["kind"] in {"init_failure", "mid_call_failure", "stall"}
    ]
    failures = [one for one in row.of(case.primary) if one["kind"] != "recovered"]

    assert taken == [True] * len(failures)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_standby_opens_no_socket_before_it_is_needed(rows, case):
    assert rows[case.route].standby_handshakes_before == 0


@pytest.mark.parametrize("case", [case for case in CASES if case.fault == "both down"])
def test_both_are_reported_once_when_both_are_down(rows, case):
    said = rows[case.route].of(case.standby)

    assert [(one["kind"], one["reason"]) for one in said] == [("init_failure", "server_error")]
