"""A person and a kind of job that was only declared: its form, its faults, its progress, its films."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import FilePayload, Page, expect

from rolehost.frontend.settings import FrontendSettings
from rolehost.jobs.codec import dumps
from rolehost.jobs.job import Job
from rolehost.jobs.kinds import KINDS
from rolehost.jobs.table import TABLE
from support.browser import DESK, SMALL_PHONE, chromium, tab
from support.front_end import FrontEnd, Seed, front_end, picture
from support.kinds import ANY, JPEG, NOTES, told
from support.looks import CUT_OFF, FAINT, SMALL, WIDE

pytestmark = pytest.mark.browser
NARROW = (360, 740)
PNG = FilePayload(name="a.png", mimeType="image/png", buffer=picture())
SEEN = """() => {
  window.seen = []
  const look = () => {
    const bar = document.querySelector('main progress')
    if (bar && bar.value !== window.seen.at(-1)) window.seen.push(bar.value)
  }
  look()
  new MutationObserver(look).observe(document.querySelector('main'), {subtree: true, childList: true, attributes: true})
}"""


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FrontEnd]:
    monkeypatch.setenv(KINDS, told(JPEG, "thumbnail", NOTES, ANY))
    settings = FrontendSettings(upload_cap=1_000_000, form_cap=1_000_000)
    async with front_end(tmp_path / "data", settings) as running:
        yield running


async def tell(site: FrontEnd, job: Job, percent: float, left: float | None) -> None:
    table = site.stores.table(TABLE)
    row = await table.read(job.id)
    assert row
    await table.write(job.id, row.version, {"progress": dumps({"percent": percent, "eta_seconds": left})})


async def fits(page: Page) -> None:
    """Nothing is cut off, faint, or too small to hit."""
    assert await page.evaluate(WIDE) <= 0
    for measure in (CUT_OFF, FAINT, SMALL):
        assert await page.evaluate(measure) == []


@pytest.mark.parametrize(("theme", "size"), [("light", DESK), ("dark", NARROW)])
async def test_a_declared_form_is_filled_in_wrongly_and_then_right(
    site: FrontEnd, tmp_path: Path, theme: Literal["light", "dark"], size: tuple[int, int]
) -> None:
    async with chromium() as browser, tab(browser, size=size, theme=theme, javascript=False) as opened:
        page = opened.page
        await page.goto(site.url)
        await page.get_by_role("navigation", name="Kinds of jobs").get_by_role("link", name="Thumbnails").click()
        await expect(page.get_by_role("radio", name="Medium")).to_be_checked()
        await page.get_by_role("link", name="JPEG from bitmaps").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("JPEG from bitmaps")
        await fits(page)
        await page.screenshot(path=tmp_path / f"form-{theme}-{size[0]}.png", full_page=True)

        await page.get_by_label("Files").set_input_files(PNG)
        await expect(page.get_by_label("Quality")).to_have_value("75")
        await page.get_by_label("Quality").fill("40")
        await page.get_by_label("Progressive").uncheck()
        await page.get_by_label("Shades of grey").check()
        await page.get_by_label("Sampling").select_option("4:4:4")
        await page.get_by_label("Profile").select_option("print")
        await page.get_by_label("Comment").fill("-v")
        await page.get_by_label("Order code").fill("twelve")
        await page.get_by_role("button", name="Submit").click()

        await expect(page.get_by_role("alert")).to_contain_text("Nothing was submitted yet")
        code = page.get_by_label("Order code")
        await expect(code).to_have_accessible_description("code must match [A-Z]{3}-[0-9]+, which 'twelve' does not")
        await expect(page.get_by_label("Comment")).to_have_accessible_description(
            "comment must not begin with - Stands in the file."
        )
        await expect(code).to_have_value("twelve")
        await expect(page.get_by_label("Quality")).to_have_value("40")
        await expect(page.get_by_label("Progressive")).not_to_be_checked()
        await expect(page.get_by_label("Shades of grey")).to_be_checked()
        await expect(page.get_by_label("Sampling")).to_have_value("4:4:4")
        await fits(page)
        await page.screenshot(path=tmp_path / f"faults-{theme}-{size[0]}.png", full_page=True)

        await page.get_by_label("Files").set_input_files(PNG)
        await page.get_by_label("Comment").fill("v")
        await code.fill("ABC-12")
        await page.get_by_role("button", name="Submit").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("a.png")
        await fits(page)
        assert [fault for fault in opened.faults if "422" not in fault] == [], "that the form was wrong is told there"
    (job,) = (await site.client.get("/api/v1/jobs")).json()["jobs"]
    assert job["parameters"] == {
        "quality": 40,
        "gamma": 1.5,
        "progressive": False,
        "grey": True,
        "sampling": "4:4:4",
        "profile": "print",
        "comment": "v",
        "code": "ABC-12",
    }


async def test_long_words_of_a_declaration_stay_on_the_screen(site: FrontEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    word = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
    facts = {"label": word, "help": f"See https://example.org/{word}"}
    ends = {"name": "b", "choices": [f"{word}{end}" for end in "xy"], "default": f"{word}y", **facts}
    switch = {"name": "c", "type": "boolean", **facts}
    parameters = [{"name": "a" * 50, "pattern": f"{word}+"}, ends, switch]
    monkeypatch.setenv(KINDS, told({"name": "k", "title": word, "parameters": parameters}, NOTES))
    async with chromium() as browser, tab(browser, size=SMALL_PHONE, javascript=False) as opened:
        page = opened.page
        await page.goto(f"{site.url}/submit/k")
        await fits(page)
        await page.get_by_label("Files").set_input_files(PNG)
        await page.get_by_label("a" * 50).fill("x" * 80)
        await page.get_by_role("button", name="Submit").click()
        await expect(page.get_by_role("alert")).to_contain_text("Nothing was submitted yet")
        await fits(page)


async def test_numbers_beyond_their_bounds_are_not_even_sent(site: FrontEnd) -> None:
    async with chromium() as browser, tab(browser) as opened:
        page = opened.page
        await page.goto(f"{site.url}/submit/jpeg")
        await page.get_by_label("Files").set_input_files(PNG)
        await page.get_by_label("Profile").select_option("web")
        await page.get_by_label("Order code").fill("ABC-1")
        await page.get_by_label("Quality").fill("101")
        await page.get_by_role("button", name="Submit").click()
        assert await page.get_by_label("Quality").evaluate("input => input.validity.rangeOverflow")
        await expect(page.get_by_label("Quality")).to_be_focused()
        await page.get_by_label("Quality").fill("100")
        await page.get_by_role("button", name="Submit").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("a.png")
        assert opened.faults == []


async def test_progress_rises_on_the_page_without_loading_it_anew(site: FrontEnd, tmp_path: Path) -> None:
    seed = Seed(site.stores, tmp_path)
    job = await seed.queued("a.png", kind="jpeg", profile="web", code="ABC-1")
    claim = await seed.running(job)
    assert claim.attempt.number == 1
    await tell(site, job, 1, None)
    async with chromium() as browser, tab(browser, size=NARROW) as opened:
        page = opened.page
        await page.goto(f"{site.url}/jobs/{job.id}")
        await page.evaluate(SEEN)
        await page.get_by_role("button", name="Cancel").focus()
        await page.evaluate("() => scrollTo(0, 200)")
        bar = page.get_by_role("progressbar", name="Progress of a.png")
        for percent in (12.5, 25, 50, 99):
            await tell(site, job, percent, 100 - percent)
            await expect(bar).to_have_attribute("value", f"{percent:.1f}")
            await expect(page.get_by_text(f"{int(percent)} %")).to_be_visible()
        await expect(page.get_by_role("status")).to_have_text("running, 90 percent")
        await expect(page.get_by_role("button", name="Cancel")).to_be_focused()
        assert await page.evaluate("() => scrollY") == 200
        assert await page.evaluate("() => window.seen") == [1, 12.5, 25, 50, 99], "it was never loaded anew"
        await page.screenshot(path=tmp_path / "running.png", full_page=True)
        await page.keyboard.press("Enter")
        await expect(page.locator(".pill")).to_have_text("cancelled")
        await expect(page.locator("script")).to_have_count(0)
        assert opened.faults == []


async def test_the_list_follows_what_runs_and_what_comes(site: FrontEnd, tmp_path: Path) -> None:
    seed = Seed(site.stores, tmp_path)
    first = await seed.queued("first.png", kind="jpeg", profile="web", code="ABC-1")
    await seed.running(first)
    await tell(site, first, 5, 60)
    async with chromium() as browser, tab(browser) as opened:
        page = opened.page
        await page.goto(f"{site.url}/jobs")
        await page.evaluate("() => { window.mine = true }")
        await page.get_by_role("link", name="first.png").focus()
        await seed.queued("second.md", b"words", kind="notes")
        await tell(site, first, 70, 20)
        await expect(page.get_by_role("link", name="second.md")).to_be_visible()
        await expect(page.get_by_text("70 %, about 20 s left")).to_be_visible()
        await expect(page.get_by_role("link", name="first.png")).to_be_focused()
        assert await page.evaluate("() => window.mine")
        assert opened.faults == []


async def test_without_scripts_the_page_is_loaded_anew(site: FrontEnd, tmp_path: Path) -> None:
    seed = Seed(site.stores, tmp_path)
    job = await seed.queued("a.png", kind="jpeg", profile="web", code="ABC-1")
    await seed.running(job)
    await tell(site, job, 1, None)
    async with chromium() as browser, tab(browser, javascript=False) as opened:
        await opened.page.goto(f"{site.url}/jobs/{job.id}")
        for percent in (20, 40):
            await tell(site, job, percent, None)
            await expect(opened.page.get_by_text(f"{percent} %")).to_be_visible()
        assert opened.faults == []


async def test_the_page_goes_on_when_the_service_was_away(site: FrontEnd, tmp_path: Path) -> None:
    seed = Seed(site.stores, tmp_path)
    job = await seed.queued("a.png", kind="jpeg", profile="web", code="ABC-1")
    async with chromium() as browser, tab(browser) as opened:
        page = opened.page
        await page.goto(f"{site.url}/jobs/{job.id}")
        tried = asyncio.Event()

        async def fail(route: object) -> None:
            tried.set()
            await route.abort()  # type: ignore[attr-defined] # playwright's Route

        await page.route("**/jobs/*", fail)
        await tried.wait()
        await page.unroute("**/jobs/*")
        await seed.completed(job)
        await expect(page.locator(".pill")).to_have_text("completed")
        await expect(page.get_by_alt_text("The result")).to_be_visible()


async def test_sound_is_played_in_the_page(site: FrontEnd, tmp_path: Path) -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as made:
        made.setnchannels(1)
        made.setsampwidth(2)
        made.setframerate(8000)
        made.writeframes(bytes(16_000 * 10))
    seed = Seed(site.stores, tmp_path)
    job = await seed.completed(await seed.queued("words.txt", b"words", kind="shout"), file.getvalue(), "audio/wav")
    async with chromium() as browser, tab(browser, size=NARROW) as opened:
        page = opened.page
        await page.goto(f"{site.url}/jobs/{job.id}")
        sound = page.locator("audio")
        await sound.evaluate("sound => new Promise(done => sound.readyState ? done() : sound.onloadedmetadata = done)")
        assert await sound.evaluate("sound => sound.duration") == 10
        await sound.evaluate("sound => new Promise(done => { sound.onseeked = done; sound.currentTime = 9 })")
        assert await sound.evaluate("sound => sound.currentTime") == 9
        await fits(page)
        assert opened.faults == []
