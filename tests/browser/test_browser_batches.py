"""The pages of batches at phone and desk width, light and dark, and a batch that is watched and cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from rolehost.jobs.batches import BatchTable, NewBatch, Then
from support.batches import Mill, add, driver, settle, step, work_off
from support.browser import chromium, tab
from support.front_end import FrontEnd, front_end
from support.looks import looks_right

pytestmark = pytest.mark.browser
KIND = "shout"
LONG = "Ferien <b>2019</b> mit einem sehr langen Namen, der nirgends hineinpasst"


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FrontEnd]:
    monkeypatch.setattr("rolehost.jobs.batches.turns.FIRST", 12)
    async with front_end(tmp_path / "data") as running:
        yield running


async def seeded(site: FrontEnd, folder: Path) -> list[str]:
    """A batch that is done, one on its way and one that is open."""
    table, then = BatchTable(site.stores), Then(kind="sheet", parameters={"columns": 3})
    names = [f"scan {number}.txt" for number in range(16)]
    ids = []
    for name, follows in ((LONG, then), ("on its way", None), ("open", None)):
        batch = await table.create(NewBatch(name=name, kind=KIND, given={"loudness": "11"}, then=follows))
        await add(site.stores, batch, folder, names)
        ids.append(batch.id)
        if name == "open":
            break
        await table.seal(batch.id)
        driving, mill = driver(site.stores), Mill(site.stores, kind=KIND, bad=frozenset(names[3:5]))
        if follows:
            await work_off(site.stores, batch.id, driving, mill)
            continue
        for _ in range(2):
            await step(driving)
        await mill.grind(7)
        await step(driving)
        await driving._lease.release()
    return ids


async def test_the_pages_fit_and_can_be_read(site: FrontEnd, tmp_path: Path) -> None:
    ids = await seeded(site, tmp_path)
    paths = ["/batches", *(f"/batches/{batch}" for batch in ids), f"/batches/{ids[1]}/items"]
    async with chromium() as browser, tab(browser) as opened:
        for path in paths:
            await opened.page.goto(site.url + path)
            await looks_right(opened.page, path)
        assert opened.faults == []


async def test_a_batch_is_watched_and_cancelled(site: FrontEnd, tmp_path: Path) -> None:
    ids = await seeded(site, tmp_path)
    async with chromium() as browser, tab(browser) as opened:
        await opened.page.goto(f"{site.url}/batches")
        await opened.page.get_by_role("link", name="on its way").click()
        await expect(opened.page.get_by_role("heading", name="7 of 16 ended")).to_be_visible()
        await opened.page.get_by_role("button", name="Cancel all").click()
        await expect(opened.page.get_by_text("cancelling")).to_be_visible()
        driving = driver(site.stores)
        await step(driving)
        await settle(driving)
        await expect(opened.page.get_by_role("heading", name="16 of 16 ended")).to_be_visible()
        await expect(opened.page.get_by_role("button", name="Cancel all")).to_have_count(0)
        async with opened.page.expect_download() as waiting:
            await opened.page.get_by_role("link", name="Download the results so far").click()
        assert (await waiting.value).suggested_filename == "on its way.zip"
        assert opened.faults == []
    assert (await BatchTable(site.stores).get(ids[1])).tally["cancelled"] == 9
