"""Every page at phone and desk width, light and dark, over jobs in every state."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.async_api import FilePayload, expect

from rolehost.frontend.settings import FrontendSettings
from support.browser import chromium, tab
from support.front_end import FrontEnd, front_end, picture, seed_all, seed_other_kinds
from support.looks import looks_right
from support.seeded_instances import seed_instances

pytestmark = pytest.mark.browser
PAGES = ("/", "/jobs", "/jobs?state=failed", "/poison", "/api")
INSTANCES = (
    "/instances",
    "/instances?state=Ready",
    *(f"/instances/{name}" for name in ("Frontend_IN_1", "Backend_IN_1")),
)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FrontEnd]:
    settings = FrontendSettings(upload_cap=1_000_000, form_cap=1_000_000)
    async with front_end(tmp_path / "data", settings) as running:
        yield running


async def test_every_page_fits_and_can_be_read(site: FrontEnd, tmp_path: Path) -> None:
    jobs = await seed_all(site.stores, tmp_path)
    others = await seed_other_kinds(site.stores, tmp_path)
    paths = [*PAGES, *[f"/jobs/{job.id}" for job in (*jobs.values(), *others.values())]]
    paths += [f"/jobs/{jobs['poisoned'].id}/purge", f"/jobs/{others['failed'].id}/purge"]
    await seed_instances(site.stores)
    paths += INSTANCES
    async with chromium() as browser, tab(browser) as opened:
        for path in paths:
            await opened.page.goto(site.url + path)
            await looks_right(opened.page, path)
        assert opened.faults == []


async def test_hostile_texts_run_nothing(site: FrontEnd, tmp_path: Path) -> None:
    jobs = await seed_all(site.stores, tmp_path)
    async with chromium() as browser, tab(browser) as opened:
        dialogs: list[str] = []
        opened.page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        await opened.page.goto(f"{site.url}/jobs/{jobs['poisoned'].id}")
        await expect(opened.page.locator(".output[open] pre").last).to_contain_text("<script>alert(1)</script>")
        assert (dialogs, opened.faults) == ([], [])


async def test_an_upload_over_the_cap_is_told_to_the_person(site: FrontEnd, tmp_path: Path) -> None:
    """A browser reads the answer only if the connection is not closed under its sending."""
    async with chromium() as browser, tab(browser) as opened:
        await opened.page.goto(site.url)
        big = tmp_path / "big.png"
        big.write_bytes(picture() + b"z" * 30_000_000)
        await opened.page.get_by_label("Pictures").set_input_files(big)
        await opened.page.get_by_role("button", name="Make thumbnails").click()
        await expect(opened.page.get_by_text("The request is larger than")).to_be_visible()
        assert site.spooled() == []


async def test_a_purge_asks_first(site: FrontEnd, tmp_path: Path) -> None:
    jobs = await seed_all(site.stores, tmp_path)
    async with chromium() as browser, tab(browser, javascript=False) as opened:
        page = opened.page
        await page.goto(f"{site.url}/poison")
        await page.get_by_role("link", name="Purge").click()
        await expect(page.get_by_role("heading", name="Remove this job for good?")).to_be_visible()
        await page.get_by_role("link", name="Keep it").click()
        await expect(page).to_have_url(f"{site.url}/jobs/{jobs['poisoned'].id}")
        await page.get_by_role("link", name="Purge").click()
        await page.get_by_role("button", name="Remove for good").click()
        await expect(page.get_by_text("Nothing is poisoned.")).to_be_visible()
        assert opened.faults == []


async def test_a_name_with_quotes_is_shown_as_it_is(site: FrontEnd) -> None:
    async with chromium() as browser, tab(browser) as opened:
        await opened.page.goto(site.url)
        file = FilePayload(name='the "good" one.png', mimeType="image/png", buffer=picture())
        await opened.page.get_by_label("Pictures").set_input_files(file)
        await opened.page.get_by_role("button", name="Make thumbnails").click()
        await expect(opened.page.get_by_role("heading", level=1)).to_have_text('the "good" one.png')


async def test_the_keyboard_is_enough(site: FrontEnd) -> None:
    async with chromium() as browser, tab(browser) as opened:
        page = opened.page
        await page.goto(site.url)
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await expect(page.get_by_label("Pictures")).to_be_focused()
        file = FilePayload(name="a.png", mimeType="image/png", buffer=picture())
        await page.get_by_label("Pictures").set_input_files(file)
        await page.keyboard.press("Tab")
        await page.keyboard.press("ArrowRight")
        await expect(page.get_by_role("radio", name="Large")).to_be_checked()
        for name in ("Format", "Priority"):
            await page.keyboard.press("Tab")
            await expect(page.get_by_label(name)).to_be_focused()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.locator(".pill")).to_have_text("queued")
        await expect(page.get_by_text("Large, PNG")).to_be_visible()


async def test_the_form_of_another_site_changes_nothing(site: FrontEnd) -> None:
    form = f'<form method=post action="{site.url}/jobs" enctype=multipart/form-data><button>x</button></form>'

    class OtherSite(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(form.encode())

        def log_message(self, *_: object) -> None: ...

    other = HTTPServer(("127.0.0.1", 0), OtherSite)
    thread = Thread(target=other.serve_forever, daemon=True)
    thread.start()
    try:
        async with chromium() as browser, tab(browser) as opened:
            await opened.page.goto(f"http://localhost:{other.server_port}/")
            await opened.page.get_by_role("button").click()
            await expect(opened.page.get_by_text("sent by the page of another site")).to_be_visible()
    finally:
        other.shutdown()
        other.server_close()
        thread.join()
