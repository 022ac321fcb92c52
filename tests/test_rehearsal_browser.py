"""An operator's story in a real Chromium, on a real `manage.py up` with its pump: thresholds tried
on the past, and on now, before they are saved.

With SCREENSHOTS set to a directory it leaves a picture of each step there.
"""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.browsing import PASSWORD, accessibility_errors, chromium, needs_chromium, signed_in
from tests.processes import alive_with, clean_environment, eventually, free_port, manage
from tests.server import running

pytestmark = [pytest.mark.browser, pytest.mark.slow, needs_chromium]

WIDE = {"width": 1280, "height": 960}
NARROW = {"width": 390, "height": 844}
SOON_MS = 20_000


class Served(NamedTuple):
    """A running product: where, and a client that may do everything."""

    url: str
    var_dir: Path
    client: httpx.Client

    def begin(self, call: str) -> str:
        """Have a call begin; return the provider that it is given."""
        body = {"route": "breeze-buddy", "call_id": call, "host": f"pod-{len(call) % 5}"}
        answer = self.client.post("/api/v1/decisions", json=body).raise_for_status()
        return str(answer.json()["provider"])

    def report(self, call: str, provider: str, kind: str, **seen: Any) -> None:
        """Report what an agent saw."""
        outcome = {"id": f"{call}:{provider}:{kind}", "call_id": call, "provider": provider,
                   "kind": kind, "route": "breeze-buddy", **seen}  # fmt: skip
        self.client.post("/api/v1/outcomes", json={"outcomes": [outcome]}).raise_for_status()

    def hear(self, *calls: str) -> None:
        """Have these calls begin and be heard, wherever they are sent."""
        for call in calls:
            self.report(call, self.begin(call), "first_transcript", latency_ms=300)

    def fail(self, *calls: str) -> None:
        """Have these calls begin on soniox and fail, all of them on one bad pod."""
        for call in calls:
            assert self.begin(call) == "soniox"
            self.report(call, "soniox", "init_failure", reason="connection", host="pod-7")

    def incidents(self) -> list[dict[str, Any]]:
        """Return the incidents that the pump has stored."""
        found: list[dict[str, Any]] = self.client.get("/api/v1/incidents").json()["results"]
        return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: Any) -> Iterator[Served]:
    """Run the product, and let a false trip happen on it, for all of these tests."""
    var_dir = tmp_path_factory.mktemp("up")
    with running(var_dir, port := free_port(), DJANGO_SUPERUSER_PASSWORD=PASSWORD):
        made = manage(
            "api_key", "browser", "--role", "operator", environment=clean_environment(var_dir)
        )
        url = f"http://127.0.0.1:{port}"
        headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
        with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=10) as client:
            product = Served(url, var_dir, client)
            false_trip(product)
            yield product


def false_trip(product: Served) -> None:
    """One pod's network fails twice while soniox is well: it trips, calls leave it for nothing,
    and somebody who sees that brings it back."""
    product.hear(*(f"before-{number}" for number in range(8)))
    product.fail("bad-1")
    product.hear("between-1", "between-2")
    product.fail("bad-2")
    product.hear(*(f"moved-{number}" for number in range(6)))
    reason = {"reason": "false alarm: one pod's network"}
    product.client.post("/api/v1/providers/soniox/reset", json=reason).raise_for_status()
    product.hear(*(f"after-{number}" for number in range(8)))
    assert eventually(lambda: product.incidents() and product.incidents()[0]["closed_at"])


async def picture(page: Any, name: str, part: str = "") -> None:
    """Leave a picture, if somebody wants to look."""
    if folder := os.environ.get("SCREENSHOTS"):
        target = page.locator(part) if part else page
        options = {} if part else {"full_page": True}
        await target.screenshot(path=f"{folder}/{name}.png", **options)


async def faults(page: Any) -> list[str]:
    """Return what the console and the content security policy complained of."""
    return list(page.complaints + await page.evaluate("window.violations"))


async def answered(page: Any, button: str) -> None:
    """Press a button of the panel and return once the answer stands."""
    await page.click(button)
    await page.get_by_role("progressbar").wait_for(timeout=SOON_MS)
    await page.locator("#work-said", has_text="done.").wait_for(timeout=SOON_MS)


async def figure(page: Any, label: str) -> list[str]:
    """Return the cells of one line of the comparison."""
    line = page.locator('#answer [aria-label="soniox"] tr', has_text=label).first
    return [text.strip() for text in await line.locator("td").all_text_contents()]


async def now_says(page: Any, words: str) -> None:
    """Return once the preview of now says the words."""
    await page.locator("#now-said", has_text=words).wait_for(timeout=SOON_MS)


async def test_a_false_trip_is_rehearsed_away_and_the_change_undone(served: Served) -> None:
    async with chromium() as browser:
        page = await signed_in(browser, served.url, viewport=WIDE)
        number = served.incidents()[0]["id"]

        await opens_the_policy_from(page, served, number)
        await sees_what_it_would_do_now(page, served)
        await rehearses_another_threshold(page, number)
        threshold = await picks_a_point_by_keyboard(page)
        await saves_it(page, served, threshold, f"incident #{number} was one pod's network")
        await undoes_it(page, served, "one pod's network")

        assert await faults(page) == []


async def opens_the_policy_from(page: Any, served: Served, number: int) -> None:
    await page.goto(f"{served.url}/admin/fallback/incident/{number}/change/")
    await picture(page, "1-incident")
    await page.click("text=Rehearse other thresholds on it")
    await page.wait_for_selector("#now-said li")
    assert await page.is_checked('[name="rehearsal_span"][value="incident"]')


async def sees_what_it_would_do_now(page: Any, served: Served) -> None:
    """A failure just now, on a threshold of one."""
    await asyncio.to_thread(served.fail, "bad-3")
    await page.fill("#id_failure_threshold", "1")
    await now_says(page, "soniox would be open now, until")
    await now_says(page, "breeze-buddy: new calls would start on deepgram instead of soniox")
    await page.locator("#id_failure_threshold").scroll_into_view_if_needed()
    assert "soniox would be open now" in await page.inner_text("#now-strip")
    await picture(page, "2-now", "#rehearsal")


async def rehearses_another_threshold(page: Any, number: int) -> None:
    await page.fill("#id_failure_threshold", "4")
    await answered(page, "#rehearse")
    assert await figure(page, "Trips") == ["1", "0", "1 less"]
    assert (await figure(page, "in fact healthy"))[2].startswith("✓ better")
    assert "would have missed an incident" in await page.inner_text("#answer")
    assert f"incident #{number}" in await page.inner_text("#answer .missed a")
    await picture(page, "3-rehearsed", "#rehearsal")
    await page.fill("#id_failure_threshold", "2")


async def picks_a_point_by_keyboard(page: Any) -> str:
    await answered(page, "#suggest")
    point = page.locator('#answer .point.best[aria-label*=", 0 moved"]').first
    await point.focus()
    await page.keyboard.press("Enter")
    assert "Nothing is saved yet" in await page.inner_text("#chosen")
    threshold = str(await page.input_value("#id_failure_threshold"))
    assert threshold != "2"
    await now_says(page, f"1 of {threshold} failures")
    await picture(page, "4-suggested", "#rehearsal")
    return threshold


async def saves_it(page: Any, served: Served, threshold: str, reason: str) -> None:
    """It holds at once."""
    await page.fill("#id_change_reason", reason)
    await picture(page, "5-before-saving")
    await page.locator('[name="_save"]').last.click()
    await page.wait_for_selector(".messagelist .success")
    assert await threshold_of(page, served) == threshold
    status = served.client.get("/api/v1/status").json()
    soniox = next(row for row in status["breakers"] if row["provider"] == "soniox")
    assert soniox["failure_threshold"] == int(threshold)


async def undoes_it(page: Any, served: Served, reason: str) -> None:
    await page.goto(f"{served.url}/admin/fallback/policy/1/history/")
    await page.click(".live table tbody tr:first-child a")
    await page.wait_for_selector(f"text={reason}")
    await picture(page, "6-the-change")
    await page.click("text=Undo")
    await page.fill("#id_change_reason", "to be talked over first")
    await picture(page, "7-undoing")
    await page.click('input[type="submit"].default')
    await page.wait_for_selector(".messagelist .success")
    assert await threshold_of(page, served) == "2"
    await picture(page, "8-undone")


async def threshold_of(page: Any, served: Served) -> str:
    """Return the threshold that the policy's page shows."""
    await page.goto(f"{served.url}/admin/fallback/policy/1/change/")
    return str(await page.input_value("#id_failure_threshold"))


@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
async def test_the_panel_is_for_everybody(served: Served, look: Any, viewport: Any) -> None:
    async with chromium() as browser:
        page = await signed_in(browser, served.url, viewport=viewport, color_scheme=look)
        await page.goto(f"{served.url}/admin/fallback/policy/1/change/?rehearse=24h")
        await page.fill("#id_failure_window_s", "")
        await page.locator("#now-said a").wait_for()
        await page.click("#rehearse")
        await page.locator("#rehearsal-problems a").wait_for()
        complaints = await accessibility_errors(page, "#rehearsal")
        await page.fill("#id_failure_window_s", "60")
        for button in ("#rehearse", "#suggest"):
            await answered(page, button)
            complaints += await accessibility_errors(page, "#rehearsal")
            await picture(page, f"panel-{button[1:]}-{look}-{viewport['width']}", "#rehearsal")

        assert complaints == []
        assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


async def test_one_that_is_going_on_is_found_after_a_reload_and_stopped(served: Served) -> None:
    with held(served.var_dir, "pump"):
        async with chromium() as browser:
            page = await signed_in(browser, served.url, viewport=WIDE)
            await page.goto(f"{served.url}/admin/fallback/policy/1/change/")
            await page.click("#suggest")
            bar = page.get_by_role("progressbar")
            await bar.wait_for(timeout=SOON_MS)
            await page.reload()
            await bar.wait_for(timeout=SOON_MS)
            assert await page.is_disabled("#rehearse")
            await page.click("#work-stop")
            await page.locator("#work-said", has_text="stopped").wait_for(timeout=SOON_MS)

            assert await page.is_enabled("#rehearse")
            assert not await bar.is_visible()


@contextmanager
def held(var_dir: Path, word: str) -> Iterator[None]:
    """Have the processes of this product whose command line has the word stand still."""
    pids = [
        pid
        for pid in alive_with(str(var_dir))
        if word in Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    ]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    yield
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
