"""A real Chromium for tests: signed in at a real `manage.py up`, with every complaint kept."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
PASSWORD = "as-you-like-it-42"
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium on this machine")
VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run Chromium in the block."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


async def signed_in(browser: Browser, url: str, **look: Any) -> Page:
    """Return the dashboard as the first admin sees it; `page.complaints` has what went wrong."""
    context = await browser.new_context(**look)
    await context.add_init_script(VIOLATIONS)
    page = await context.new_page()
    page.complaints = []  # type: ignore[attr-defined] # a note of our own
    page.on("console", lambda said: said.type == "error" and page.complaints.append(said.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    await page.goto(f"{url}/")
    await page.fill("#id_username", "admin")
    await page.fill("#id_password", PASSWORD)
    await page.click("[type=submit]")
    await page.wait_for_url(f"{url}/")
    return page


async def accessibility_errors(page: Page, part: str = "html") -> list[str]:
    """Return what axe finds on the page, or on a part of it, a line each."""
    script = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    await page.evaluate(script)
    found = await page.evaluate("part => axe.run(part)", part)
    return [
        f"{rule['id']}: {node['target']} {node['failureSummary'][:200]}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
