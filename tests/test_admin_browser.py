"""The admin in a real Chromium, on a real `manage.py up`: its scripts, and who can read it."""

from collections.abc import Iterator

import pytest

from tests.browsing import PASSWORD, accessibility_errors, chromium, needs_chromium, signed_in
from tests.processes import free_port
from tests.server import running

pytestmark = [pytest.mark.browser, pytest.mark.slow, needs_chromium]

PAGES = [
    "",
    "fallback/provider/1/failures/",
    "fallback/incident/",
    "fallback/proposal/",
    "auth/user/",
]
ROWS = "#steps-group tr.form-row:not(.empty-form)"
CHAIN = "rows => rows.map((row) => row.querySelector('select').selectedOptions[0].text)"


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    """Run the product for all of these tests; return where."""
    var_dir = tmp_path_factory.mktemp("up")
    with running(var_dir, port := free_port(), DJANGO_SUPERUSER_PASSWORD=PASSWORD):
        yield f"http://127.0.0.1:{port}"


async def faults(page) -> list[str]:
    """Return what the console and the content security policy complained of."""
    return page.complaints + await page.evaluate("window.violations")


async def test_a_dragged_chain_that_is_asked_about_comes_back_as_it_was_dragged(url):
    async with chromium() as browser:
        page = await signed_in(browser, url)
        await page.goto(f"{url}/admin/fallback/route/1/change/")
        stored = await page.eval_on_selector_all(ROWS, CHAIN)
        await page.click(f"{ROWS}:nth-child(2) .move-begin")
        await page.uncheck("#id_fallback_enabled")
        await page.fill("#id_change_reason", "a drill")
        await page.click("[name=_save] >> nth=0")
        await page.wait_for_selector("#id_confirmed")
        asked = await page.eval_on_selector_all(ROWS, CHAIN)
        is_ticked = await page.is_checked("#id_confirmed")
        found = await faults(page)
        await page.check("#id_confirmed")
        await page.click("[name=_save] >> nth=0")
        await page.wait_for_url(f"{url}/admin/fallback/route/")
        await page.goto(f"{url}/admin/fallback/route/1/change/")
        saved = await page.eval_on_selector_all(ROWS, CHAIN)

    assert stored == ["soniox", "deepgram"]
    assert asked == saved == ["deepgram", "soniox"]
    assert not is_ticked
    assert found == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_pages_are_accessible_and_break_no_policy(url, scheme):
    wrong = {}
    async with chromium() as browser:
        page = await signed_in(browser, url, color_scheme=scheme)
        for where in PAGES:
            await page.goto(f"{url}/admin/{where}")
            found = await faults(page) + await accessibility_errors(page)
            page.complaints.clear()  # axe measures with inline styles, which our policy blocks
            if found:
                wrong[where] = found

    assert wrong == {}
