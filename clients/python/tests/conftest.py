"""One control plane for all tests; each test that moves a breaker has a route of its own."""

import asyncio
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stt_guard import SttGuard
from tests.control_plane import ControlPlane
from tests.readme import OWN, write_between
from tests.routes import ROUTES

_numbers = itertools.count(1)
PRINTED = MATRIX, BENCH, NEVER_WORSE, FALSE_POSITIVES = [pytest.StashKey[str]() for _ in range(4)]


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A running control plane with all of ROUTES."""
    plane = ControlPlane(tmp_path_factory.mktemp("plane"), ROUTES)
    yield plane
    plane.stop()


@pytest.fixture
def new_id(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Return what gives a call id that no other test has."""
    return lambda: f"{request.node.name[:60]}-{next(_numbers)}"


@pytest.fixture
def guard_of(plane: ControlPlane) -> Callable[..., SttGuard]:
    """Return what makes a client of a route; close it in the test."""

    def make(route: str, **options: object) -> SttGuard:
        fixed = {"key": plane.keys["agent"], "route": route, "host": "pod-1"}
        chain = next(one["chain"] for one in ROUTES if one["slug"] == route)
        return SttGuard(plane.url, **{"can_use": chain, **fixed, **options})

    return make


@pytest.fixture
def state_file(tmp_path: Path) -> Path:
    """Return a path for a state file."""
    return tmp_path / "state.json"


async def eventually(claim: Callable[[], object], within_s: float = 5.0) -> bool:
    """Say whether the claim came true in time."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not claim():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


def write_to_readme(mark: str, text: str) -> None:
    """Keep a measured table in the README, when UPDATE_README is set."""
    if os.environ.get("UPDATE_README"):
        assert write_between(OWN, mark, text), f"the README has no markers for {mark}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the run measured."""
    for key in PRINTED:
        if text := terminalreporter.config.stash.get(key, ""):
            terminalreporter.write_line(text)
