"""The poison desk in a real browser: search, look, replay and purge, one and several, without JavaScript."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from rolehost.jobs.job import Job
from rolehost.jobs.poison.entries import letter_id
from rolehost.stores import Stores
from support.browser import chromium, tab
from support.front_end import FrontEnd, Seed, front_end, seed_all, seed_other_kinds
from support.looks import looks_right

pytestmark = pytest.mark.browser
EVIL = '<script>alert(1)</script> "\u202e\x1b[31m'


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FrontEnd]:
    async with front_end(tmp_path / "data") as running:
        yield running


async def some(stores: Stores, folder: Path, number: int = 3) -> list[Job]:
    """Poisoned jobs, the oldest first."""
    seed = Seed(stores, folder)
    return [
        await seed.poisoned(
            await seed.queued(f"scan {index}.png"),
            f"app: the console application failed 5 times; at last exit code 3: no such font number {index}",
            2,
            stderr="no such font\n",
        )
        for index in range(number)
    ]


async def message(stores: Stores, message_id: str = "from-elsewhere", body: str = f"no json at all {EVIL}") -> str:
    """A message that no worker can read; the answer is its entry's id."""
    queue = stores.queue("thumbnail-jobs")
    await queue.put(body, message_id=message_id)
    for each in await queue.receive(32, hide=1):
        if each.id == message_id:
            await queue.dead_letter(each, reason="malformed", description="not a wake-up message: it is no JSON")
    return letter_id("thumbnail-jobs", message_id)


async def test_every_page_of_the_desk_fits_and_can_be_read(site: FrontEnd, tmp_path: Path) -> None:
    jobs = await seed_all(site.stores, tmp_path)
    await seed_other_kinds(site.stores, tmp_path)
    entry = await message(site.stores, "from-elsewhere-" + "x" * 60)
    others = await some(site.stores, tmp_path)
    new = await site.client.post(f"/jobs/{others[0].id}/replay")
    paths = [
        "/poison",
        "/poison?text=nowhere",
        "/poison?older=soon&text=font",
        "/poison?replayed=yes&state=any",
        f"/poison/{entry}",
        f"/poison/{entry}/purge",
        f"/jobs/{others[0].id}",
        f"/jobs/{jobs['poisoned'].id}",
        new.headers["location"],
        "/poison/several?do=replay",
        "/poison/several?do=purge&limit=20",
        "/poison/several?do=purge&text=nowhere",
    ]
    async with chromium() as browser, tab(browser) as opened:
        page = opened.page
        for path in paths:
            await page.goto(site.url + path)
            await looks_right(opened.page, path)
        opened.faults = [fault for fault in opened.faults if "422" not in fault]  # what is searched for is no age
        await page.goto(f"{site.url}/poison/several?do=replay")
        async with page.expect_navigation():
            await page.get_by_role("button", name="Replay").click()
        await looks_right(page, "several are replayed")
        assert opened.faults == []


async def test_search_look_and_replay_one(site: FrontEnd, tmp_path: Path) -> None:
    jobs = await some(site.stores, tmp_path)
    async with chromium() as browser, tab(browser, javascript=False) as opened:
        page = opened.page
        await page.goto(f"{site.url}/poison")
        await expect(page.get_by_role("listitem")).to_have_count(3)
        await page.get_by_label("Text").fill("FONT NUMBER 1")
        await page.get_by_role("button", name="Search").click()
        await expect(page.get_by_role("listitem")).to_have_count(1)
        await expect(page.get_by_label("Text")).to_have_value("FONT NUMBER 1")
        await page.get_by_role("link", name="scan 1.png", exact=True).click()
        await expect(page.locator(".output[open] pre").last).to_have_text("no such font\n")
        async with page.expect_download() as started:
            await page.get_by_role("link", name="Download").click()
        download = await started.value
        assert download.suggested_filename == "scan 1.png"
        source = b"".join([piece async for piece in site.stores.blobs.stream(jobs[1].spec.source.blob)])
        assert Path(await download.path()).read_bytes() == source  # noqa: ASYNC240 - a test's own file
        await page.get_by_role("button", name="Replay").click()
        await expect(page.locator(".pill")).to_have_text("queued")
        await page.get_by_role("link", name=jobs[1].id).click()
        await expect(page.get_by_text("Replayed as")).to_be_visible()
        await expect(page.get_by_role("button", name="Replay again")).to_be_visible()
        await page.get_by_role("link", name="Poison", exact=True).click()
        await expect(page.get_by_role("listitem")).to_have_count(2)
        assert opened.faults == []


async def test_several_are_replayed_after_they_were_shown_and_once(site: FrontEnd, tmp_path: Path) -> None:
    await some(site.stores, tmp_path, 6)
    async with chromium() as browser, tab(browser, javascript=False) as opened:
        page = opened.page
        await page.goto(f"{site.url}/poison?text=font")
        await page.get_by_role("button", name="Replay several …").click()
        await expect(page.get_by_role("heading", name="Replay 5?")).to_be_visible()
        assert (await site.jobs.counts())["queued"] == 0, "to look is not to replay"
        await page.get_by_label("Pace").select_option("5 a second")
        await page.get_by_role("button", name="Replay 5").click()
        await expect(page.get_by_role("heading", name="5 replayed")).to_be_visible()
        await page.reload()  # the browser sends the form once more
        await expect(page.get_by_role("heading", name="0 replayed, 5 left as they are")).to_be_visible()
        assert (await site.jobs.counts())["queued"] == 5
        await page.get_by_role("link", name="Go on with the next ones …").click()
        await page.get_by_role("button", name="Replay 1").click()
        await page.get_by_role("link", name="Back to the desk").click()
        await expect(page.get_by_text("Nothing of this is on the desk.")).to_be_visible()
        assert opened.faults == []


async def test_several_are_purged_after_they_were_shown(site: FrontEnd, tmp_path: Path) -> None:
    jobs = await some(site.stores, tmp_path)
    await message(site.stores)
    async with chromium() as browser, tab(browser, javascript=False) as opened:
        page = opened.page
        await page.goto(f"{site.url}/poison")
        await page.get_by_role("button", name="Purge several …").click()
        await expect(page.get_by_role("heading", name="Remove 4 for good?")).to_be_visible()
        await page.get_by_role("link", name="Leave them").click()
        assert (await site.jobs.counts())["poisoned"] == 3
        await page.get_by_label("Text").fill("scan 2")
        await page.get_by_role("button", name="Search").click()
        await page.get_by_role("button", name="Purge several …").click()
        await page.get_by_role("button", name="Remove for good 1").click()
        await expect(page.get_by_text(jobs[2].id)).to_be_visible()
        await expect(page.get_by_text("is gone")).to_be_visible()
        assert (await site.jobs.counts())["poisoned"] == 2
        assert opened.faults == []


async def test_a_message_without_a_job_is_looked_at_and_purged(site: FrontEnd) -> None:
    await message(site.stores)
    async with chromium() as browser, tab(browser, javascript=False) as opened:
        page = opened.page
        await page.goto(f"{site.url}/poison")
        await page.get_by_role("link", name="Look at it").click()
        await expect(page.get_by_text("It can't be replayed: the message can't be read")).to_be_visible()
        await expect(page.locator("pre")).to_contain_text("no json at all <script>alert(1)</script>")
        await page.get_by_role("link", name="Purge …").click()
        await page.get_by_role("link", name="Keep it").click()
        await page.get_by_role("link", name="Purge …").click()
        await page.get_by_role("button", name="Remove for good").click()
        await expect(page.get_by_text("Nothing is poisoned.")).to_be_visible()
        assert opened.faults == []
