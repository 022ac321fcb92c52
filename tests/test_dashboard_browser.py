"""The dashboard in a real Chromium, on a real `manage.py up`: it stays true, and says when not.

With SCREENSHOTS set to a directory it leaves a picture of each look there.
"""

import asyncio
import os
import re
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from fallback.live.places import PER_PERSON
from tests.browsing import PASSWORD, accessibility_errors, chromium, needs_chromium, signed_in
from tests.processes import alive_with, clean_environment, free_port, manage
from tests.server import redis_of, running

pytestmark = [pytest.mark.browser, pytest.mark.slow, needs_chromium]

WIDE = {"width": 1440, "height": 900}
NARROW = {"width": 390, "height": 844}
SOON_MS = 15_000


class Served(NamedTuple):
    """A running product: where, and a client that may do everything."""

    url: str
    var_dir: Path
    client: httpx.Client

    def fail(self, *calls: str, provider: str = "soniox") -> None:
        """Have these calls fail on a provider."""
        outcomes = [
            {"id": f"{call}:{provider}:f", "call_id": call, "provider": provider,
             "kind": "init_failure", "reason": "connection", "route": "breeze-buddy"}
            for call in calls
        ]  # fmt: skip
        self.client.post("/api/v1/outcomes", json={"outcomes": outcomes}).raise_for_status()

    def reset(self, provider: str = "soniox") -> None:
        """Begin anew."""
        answer = self.client.post(f"/api/v1/providers/{provider}/reset", json={"reason": "test"})
        answer.raise_for_status()


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    """Run the product for all of these tests."""
    var_dir = tmp_path_factory.mktemp("up")
    with running(var_dir, port := free_port(), DJANGO_SUPERUSER_PASSWORD=PASSWORD):
        made = manage(
            "api_key", "browser", "--role", "operator", environment=clean_environment(var_dir)
        )
        url = f"http://127.0.0.1:{port}"
        headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
        with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=10) as client:
            yield Served(url, var_dir, client)


@pytest.fixture
def product(served) -> Iterator[Served]:
    """Give a product on which all is well."""
    yield served
    served.reset()


def card(page, provider: str = "soniox"):
    """Return the card of a provider."""
    return page.locator(f'.card[data-provider="{provider}"]')


async def says(part, claim, within_s: float = 15.0) -> bool:
    """Say whether the claim about a part's text came true in time."""
    deadline = time.monotonic() + within_s
    while not claim(await part.text_content()):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


async def live(page) -> None:
    """Return once the page hears the feed."""
    await page.wait_for_selector("body.is-live", timeout=SOON_MS)


async def in_state(page, state: str, within_ms: int = SOON_MS) -> None:
    """Return once soniox's card is in this state."""
    selector = f'.card.state-{state}[data-provider="soniox"]'
    await page.wait_for_selector(selector, timeout=within_ms)


async def picture(page, name: str) -> None:
    """Leave a picture, if somebody wants to look."""
    if folder := os.environ.get("SCREENSHOTS"):
        await page.screenshot(path=f"{folder}/{name}.png", full_page=True)


async def faults(page) -> list[str]:
    """Return what the console and the content security policy complained of."""
    return page.complaints + await page.evaluate("window.violations")


async def test_a_trip_turns_the_card_within_a_second_and_recovery_shows(product):
    async with chromium() as browser:
        page = await signed_in(browser, product.url, viewport=WIDE)
        await live(page)
        lane = page.locator('.lane[data-provider="soniox"] .span.state-open')
        before = await lane.count()
        await asyncio.to_thread(product.fail, "A1")
        began = time.monotonic()
        await asyncio.to_thread(product.fail, "A2")
        await in_state(page, "open")
        took_s = time.monotonic() - began

        assert took_s < 1.0
        assert await lane.count() == before + 1
        assert await page.text_content("#verdict") == "Degraded"
        assert "soniox is out" in await page.text_content("#summary")
        assert "soniox open" in await page.text_content("#moves li:first-child")
        await page.wait_for_selector("#incidents a")
        assert "2 of 2" in await card(page).text_content()
        left = await card(page).locator(".left").text_content()
        assert await says(card(page).locator(".left"), lambda text: text not in {left, ""})
        await picture(page, "open")
        await asyncio.to_thread(product.reset)
        await in_state(page, "closed")
        assert await page.text_content("#verdict") == "Healthy"
        assert await faults(page) == []


async def test_s13_whoever_has_all_their_places_is_told_so_and_comes_back(product):
    async with chromium() as browser:
        page = await signed_in(browser, product.url, viewport=WIDE)
        await live(page)
        other = await page.context.new_page()
        await other.goto(f"{product.url}/api/docs/")
        await other.evaluate(
            """count => Promise.all([...Array(count)].map(() => new Promise((opened) => {
                const socket = new WebSocket(`ws://${location.host}/ws/v1/status`);
                socket.onmessage = opened;
                (window.held ??= []).push(socket);
            })))""",
            PER_PERSON - 1,
        )
        late = await page.context.new_page()
        await late.goto(f"{product.url}/")
        words = f"No live updates: your account has all {PER_PERSON} places it may have here"
        assert await says(late.locator("#lost"), lambda text: words in text)
        await other.close()
        await live(late)


async def test_a_drill_is_seen_from_the_trip_to_the_recovery(product):
    environment = clean_environment(product.var_dir)
    async with chromium() as browser:
        page = await signed_in(browser, product.url, viewport=WIDE)
        await live(page)
        work = asyncio.to_thread(
            manage, "drill", "--url", product.url, "--rate", "10", environment=environment
        )
        drill = asyncio.create_task(work)
        primary = '[data-provider="drill-primary"]'
        await page.wait_for_selector(f".card.state-open{primary}", timeout=2 * SOON_MS)
        seen_s = time.time()
        query = "/api/v1/transitions?provider=drill-primary"
        while not (rows := trips(product.client.get(query).json())):
            await asyncio.sleep(0.05)
        await page.wait_for_selector(f".card.state-closed{primary}", timeout=2 * SOON_MS)
        moves = await page.text_content("#moves")
        done = await drill

        assert "half open after open; time up" in moves
        assert "closed after half open; probe success" in moves
        assert done.returncode == 0, done.stdout
        assert seen_s - datetime.fromisoformat(rows[-1]["at"]).timestamp() < 1.0
        assert await faults(page) == []


def trips(page: dict) -> list[dict]:
    """Return the transitions to open."""
    return [row for row in page["results"] if row["to"] == "open"]


async def test_the_script_changes_nothing_that_the_server_painted(product):
    await asyncio.to_thread(product.fail, "B1", "B2")
    await asyncio.sleep(1)  # the pump stores the incident
    async with chromium() as browser:
        plain = await signed_in(browser, product.url, java_script_enabled=False, viewport=WIDE)
        scripted = await signed_in(browser, product.url, viewport=WIDE)
        await live(scripted)

        for part in ("#summary", "#cards", "#routes", "#moves", "#incidents"):
            assert await words(scripted, part) == await words(plain, part), part
        await picture(plain, "without-script")


async def test_names_that_nobody_configured_are_shown_at_once_and_in_the_same_words(product):
    asked = {"route": "breeze-buddy", "call_id": "N1", "can_use": ["deepgram", "soniox2"]}
    async with chromium() as browser:
        page = await signed_in(browser, product.url, viewport=WIDE)
        await live(page)
        is_hidden = await page.locator("#unknown-names").is_hidden()
        await asyncio.to_thread(
            product.client.post, "/api/v1/decisions", json={**asked, "host": "pod-7"}
        )
        await page.wait_for_selector("#unknown-names:not([hidden])", timeout=SOON_MS)
        said = await page.text_content("#unknown-names")
        plain = await signed_in(browser, product.url, java_script_enabled=False, viewport=WIDE)

        assert is_hidden
        assert "soniox2 (from pod-7)" in said
        assert await plain.text_content("#unknown-names") == said
        assert await faults(page) == []


async def words(page, part: str) -> str:
    """Return what a part of the page says, but for numbers that time changes."""
    said = re.sub(r"\s+", " ", await page.locator(part).inner_text())
    return re.sub(r"\d+ (min|s)\b", "N", said).strip()


@pytest.mark.parametrize(
    ("name", "look"),
    [
        ("light", {"viewport": WIDE, "color_scheme": "light"}),
        ("dark", {"viewport": WIDE, "color_scheme": "dark"}),
        ("narrow", {"viewport": NARROW, "reduced_motion": "reduce"}),
    ],
)
async def test_axe_finds_nothing_and_nothing_sticks_out(product, name, look):
    await asyncio.to_thread(product.fail, f"{name}1", f"{name}2")
    async with chromium() as browser:
        page = await signed_in(browser, product.url, **look)
        await live(page)
        await in_state(page, "open")
        await page.wait_for_timeout(500)  # colours fade for 0.4 s
        await picture(page, name)

        assert await accessibility_errors(page) == []
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert await faults(page) == []


async def test_an_order_is_given_with_the_keyboard_alone(product):
    async with chromium() as browser:
        page = await signed_in(browser, product.url, viewport=WIDE)
        await live(page)
        await card(page).locator("summary").focus()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("dialog[open]")
        await page.wait_for_timeout(100)
        await picture(page, "order")
        assert await accessibility_errors(page) == []
        await page.keyboard.type("the provider asked for it")
        await page.keyboard.press("Enter")
        await in_state(page, "forced_open")

        assert "dashboard:admin: “the provider asked for it”" in await card(page).text_content()
        assert await page.evaluate("document.activeElement.dataset.verb") == "force-open"
        assert await faults(page) == []


async def test_without_a_script_an_order_is_given_on_the_admins_page(product):
    async with chromium() as browser:
        page = await signed_in(browser, product.url, java_script_enabled=False, viewport=WIDE)
        await card(page).locator("summary").click()
        await card(page).locator('a[data-verb="shadow"]').click()
        await page.fill("[name=reason]", "to watch it")
        await page.click("[type=submit].danger, .submit-row [type=submit]")
        await page.wait_for_url(f"{product.url}/")

        assert "shadow" in await card(page).locator(".state").text_content()


async def test_the_page_and_the_admin_lead_to_each_other(product):
    async with chromium() as browser:
        page = await signed_in(browser, product.url, viewport=WIDE)
        await page.click("header nav >> text=Admin")
        await page.wait_for_url("**/admin/")
        await page.click("#header >> text=Dashboard")
        await page.wait_for_url(f"{product.url}/")


async def test_the_window_of_the_timeline_changes_without_a_reload(product):
    async with chromium() as browser:
        page = await signed_in(browser, product.url, viewport=WIDE)
        await live(page)
        await page.evaluate("window.isSame = true")
        await page.click('[data-window="15m"]')
        await page.wait_for_selector('[data-window="15m"][aria-current]')

        assert await page.evaluate("window.isSame && location.search") == "?window=15m"
        assert await faults(page) == []


async def test_a_web_process_killed_and_started_again_is_survived_without_a_reload(product):
    async with chromium() as browser:
        page = await signed_in(browser, product.url, viewport=WIDE)
        await live(page)
        await page.evaluate("window.isSame = true")
        kill(product.var_dir, "manage.py\0web\0")
        await page.wait_for_selector("body.is-stale", timeout=SOON_MS)
        assert "as of" in await page.text_content("#as-of")
        assert "The connection is lost" in await page.text_content("#summary")
        await picture(page, "disconnected")
        await live(page)
        await asyncio.to_thread(product.fail, "D1", "D2")
        await in_state(page, "open")

        assert await page.evaluate("window.isSame")
        assert "lost" not in await page.text_content("#summary")


async def test_a_redis_killed_and_started_again_is_survived_with_the_right_state(product):
    await asyncio.to_thread(product.fail, "E1", "E2")
    await asyncio.sleep(1.5)  # its file is written to once a second
    async with chromium() as browser:
        page = await signed_in(browser, product.url, viewport=WIDE)
        await live(page)
        await in_state(page, "open")
        pid = redis_of(product.var_dir).info("server")["process_id"]
        os.kill(pid, 9)
        sentence = page.locator("#sentence")
        assert await says(sentence, lambda text: "cannot be reached" in text)
        assert await says(sentence, lambda text: "cannot be reached" not in text)
        assert "open" in await card(page).locator(".state").text_content()
        await asyncio.to_thread(product.reset)
        await in_state(page, "closed")


def kill(var_dir: Path, word: str) -> None:
    """Kill the processes of this product whose command line has the word."""
    for pid in alive_with(str(var_dir)):
        if word in Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace"):
            os.kill(pid, 9)
