"""A film of real length: its progress in a real browser and in the API while it runs, and what a cancel leaves."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from support.browser import DESK, chromium, tab
from support.films import ffmpeg, film, open_folder
from support.programs import needs
from support.service import ROOT, Service, command_line, marked

pytestmark = [pytest.mark.browser, needs("ffmpeg")]

VALUES = 8
LONG_ENOUGH = 20.0
"""Seconds that the whole run would take, by its pace."""
PATIENCE = 120.0
GONE_AFTER = 5.0
SEEN = """() => {
  window.seen = []
  const look = () => {
    const bar = document.querySelector('main progress')
    if (bar && bar.hasAttribute('value') && bar.value !== window.seen.at(-1)) window.seen.push(bar.value)
  }
  look()
  new MutationObserver(look).observe(document.querySelector('main'), {subtree: true, childList: true, attributes: true})
}"""


@pytest.fixture
def service() -> Iterator[Service]:
    with open_folder() as folder:
        shutil.copy(ROOT / "examples" / "transcode" / "service.toml", folder)
        started = Service(folder)
        try:
            started.start()
            yield started
        finally:
            started.close()


def long_film(folder: Path) -> Path:
    """A minute in 1080p: two seconds of it are encoded, and then repeated."""
    quick = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "38", "-c:a", "aac")
    part = film(folder / "part.mp4", *quick, size="1920x1080", rate=30, seconds=2)
    ffmpeg("-stream_loop", "29", "-i", part, "-c", "copy", folder / "Wedding.mp4")
    return folder / "Wedding.mp4"


def encoders(service: Service) -> list[int]:
    """The ffmpeg processes of this service, and of no other."""
    return [pid for pid in marked(service.data) if "ffmpeg" in command_line(pid)]


async def submit(page: Page, path: Path) -> str:
    """Fill in the form; the job's id."""
    await page.get_by_label("Files").set_input_files(path)
    await page.get_by_label("Preset").select_option("web-video")
    await page.get_by_label("Height").fill("1080")
    await page.get_by_label("Quality").select_option("high")
    await page.locator("main form button[type=submit]").click()
    await expect(page.get_by_role("heading", name=path.name)).to_be_visible(timeout=60_000)
    return page.url.rpartition("/")[2]


async def progress_of(page: Page, service: Service, job: str) -> tuple[list[float], list[float], float]:
    """Values that the page showed, values that the API told, and how long the whole run would take."""
    told: list[float] = []
    shown: list[float] = []
    began, first = time.monotonic(), 0.0
    while len(shown) < VALUES or len(set(told)) < VALUES:
        assert time.monotonic() - began < PATIENCE, f"shown {shown}, told {told}"
        answer = await asyncio.to_thread(service.job, job)
        assert answer["state"] in {"queued", "running"}, answer
        if answer["progress"] is not None and answer["progress"]["percent"] is not None:
            first = first or time.monotonic()
            told.append(answer["progress"]["percent"])
        shown = await page.evaluate("window.seen")
        await asyncio.sleep(0.25)
    pace = (told[-1] - told[0]) / (time.monotonic() - first)
    return shown, told, 100 / pace


async def test_a_film_shows_its_progress_and_a_cancel_leaves_nothing_running(service: Service, tmp_path: Path) -> None:
    path = long_film(tmp_path)
    async with chromium() as browser, tab(browser, size=DESK) as opened:
        page = opened.page
        await page.goto(f"{service.url}/submit/transcode")
        job = await submit(page, path)
        await page.evaluate(SEEN)
        shown, told, whole = await progress_of(page, service, job)
        assert len(encoders(service)) == 1
        await page.get_by_role("button", name="Cancel").first.click()
        asked = time.monotonic()
        while encoders(service):
            assert time.monotonic() - asked < GONE_AFTER, "ffmpeg goes on after the cancel"
            await asyncio.sleep(0.05)
        await expect(page.locator(".pill").first).to_have_text("cancelled")
        await page.screenshot(path=tmp_path / "cancelled.png", full_page=True)
        assert opened.faults == []
    assert shown == sorted(set(shown)), "the page's bar only rises"
    assert len(shown) >= VALUES
    assert told == sorted(told), "and so does the API's figure"
    assert max(told) < 100
    assert whole >= LONG_ENOUGH
    answer = service.job(job)
    assert (answer["state"], answer["progress"], answer["result"]) == ("cancelled", None, None)
