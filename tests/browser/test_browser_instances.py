"""A person looks after a service: the list of instances, one that crashes, its page, a peer's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from support.browser import PHONE, chromium, tab
from support.front_end import FrontEnd, front_end
from support.seeded_instances import instance, seed_instances

pytestmark = pytest.mark.browser


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FrontEnd]:
    async with front_end(tmp_path / "data", instance="Frontend_IN_0") as running:
        await seed_instances(running.stores)
        yield running


async def test_from_the_list_to_the_reason_of_a_recycle_loop(site: FrontEnd) -> None:
    async with chromium() as browser, tab(browser, javascript=False) as opened:
        page = opened.page
        await page.goto(site.url)
        await page.get_by_role("navigation", name="Main").get_by_role("link", name="Instances").click()
        row = page.get_by_role("row", name="Backend_IN_1")
        await expect(row).to_contain_text("Recycling FailedStartingRole")
        await expect(row).to_contain_text("The next start is in 22.5 s.")
        await expect(page.locator("details[open] pre")).to_contain_text("KeyError: '<b>Queue</b>'")
        await expect(page.get_by_role("row", name="Frontend_IN_0")).to_contain_text("answers you")
        await row.get_by_role("link").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Backend_IN_1")
        await expect(page.get_by_text("on_start raised KeyError: 'Queue'")).to_be_visible()
        await expect(page.get_by_text("During the start, exit code 1")).to_be_visible()
        await page.get_by_role("link", name="Frontend_IN_1").click()
        await expect(page.get_by_text("Standard_D2s_v3")).to_be_visible()
        await expect(page.get_by_role("row", name="Http")).to_contain_text("127.77.0.2:8080")
        assert opened.faults == []


async def test_the_list_follows_the_instances_by_itself(site: FrontEnd) -> None:
    async with chromium() as browser, tab(browser, size=PHONE, javascript=False) as opened:
        await opened.page.goto(f"{site.url}/instances?state=Busy")
        await expect(opened.page.get_by_role("link", name="Backend_IN_2")).to_be_visible()
        await instance(site.stores, "Backend", 2)
        await expect(opened.page.get_by_text("No instance is Busy.")).to_be_visible(timeout=20_000)
        assert opened.faults == []
