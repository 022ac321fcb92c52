"""All of it together: calls at a steady rate, one provider failing, until it is well again."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable
from typing import Final

import httpx

from fallback.drill.calls import Call
from fallback.drill.client import ControlPlane
from fallback.drill.plan import DrillError, Plan
from fallback.drill.tally import Tally

LOOK_EVERY_S: Final = 0.25
KNOWN_WITHIN_S: Final = 8.0  # a server looks for a new configuration every 2 s
AFTERMATH_S: Final = 2.0  # calls after the recovery, to see that all is as before
LAST_CALLS_S: Final = 10.0  # what the calls in progress get to end

Show = Callable[[str], None]


async def run(plan: Plan, *, url: str, key: str, show: Show) -> Tally:
    """Drill on the server at `url`, and leave its breakers closed. Raises DrillError."""
    async with ControlPlane(url, key) as api:
        await _prepare(api, plan, url)
        try:
            return await play(api, plan, show)
        finally:
            with contextlib.suppress(httpx.HTTPError):  # the server may be what failed
                await api.reset(plan.provider)


async def _prepare(api: ControlPlane, plan: Plan, url: str) -> None:
    """Wait until the server knows the route, and have the drill begin with nothing counted."""
    deadline_s = time.monotonic() + KNOWN_WITHIN_S
    while plan.provider not in await _chain(api, plan.route, url):
        if time.monotonic() > deadline_s:
            raise DrillError(
                f"The server at {url} does not know the route {plan.route} with the provider"
                f" {plan.provider}: it reads another database than this command. Run the drill"
                " where the server runs, with the same environment."
            )
        await asyncio.sleep(LOOK_EVERY_S)
    await api.reset(plan.provider)


async def _chain(api: ControlPlane, route: str, url: str) -> list[str]:
    """Return the route's providers; none while the server does not know it, or the key, yet."""
    try:
        routes = (await api.status())["routes"]
    except httpx.HTTPStatusError as error:
        status = error.response.status_code
        if status != 401:
            raise DrillError(f"The server at {url} answers {status}.") from error
        return []
    except httpx.HTTPError as error:
        raise DrillError(f"Nobody answers at {url}: start one with `manage.py up`.") from error
    orders = [entry["order"] for entry in routes if entry["route"] == route]
    return [step["provider"] for step in orders[0]] if orders else []


async def play(api: ControlPlane, plan: Plan, show: Show) -> Tally:
    """Run the plan and return what happened. `show` is given a line four times a second.

    Ends `AFTERMATH_S` after the recovery, or after `duration_s`, plus the calls in progress.
    """
    tally = Tally(plan)
    began_s = time.monotonic()

    def now_s() -> float:
        return time.monotonic() - began_s

    watching = asyncio.create_task(_watch(api, tally, now_s, show))
    try:
        calls = await _place_calls(api, tally, now_s)
        await asyncio.wait_for(asyncio.gather(*calls), LAST_CALLS_S)
    except TimeoutError:
        tally.errors["calls that did not end"] += 1
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    return tally


async def _place_calls(
    api: ControlPlane, tally: Tally, now_s: Callable[[], float]
) -> list[asyncio.Task[None]]:
    """Begin calls at the plan's rate, whatever becomes of those before."""
    plan, run = tally.plan, uuid.uuid4().hex[:8]
    calls: list[asyncio.Task[None]] = []
    while not _is_over(tally, now_s()):
        tally.calls += 1
        call = Call(f"drill-{run}-{tally.calls}", plan=plan, api=api, tally=tally, now_s=now_s)
        calls.append(asyncio.create_task(call.run()))
        await asyncio.sleep(max(0.0, tally.calls / plan.rate - now_s()))
    return calls


def _is_over(tally: Tally, at_s: float) -> bool:
    recovered_at_s = tally.recovered_at_s
    is_settled = recovered_at_s is not None and at_s > recovered_at_s + AFTERMATH_S
    return at_s >= tally.plan.duration_s or (is_settled and at_s > tally.plan.healed_at_s)


async def _watch(api: ControlPlane, tally: Tally, now_s: Callable[[], float], show: Show) -> None:
    """Show the progress, and the breaker's state as anybody can see it."""
    while True:
        with contextlib.suppress(httpx.HTTPError):  # shown as it was last known
            breakers = (await api.status())["breakers"]
            states = {breaker["provider"]: breaker["state"] for breaker in breakers}
            tally.state = states.get(tally.plan.provider, "?")
        show(tally.line(now_s()))
        await asyncio.sleep(LOOK_EVERY_S)
