"""The whole service, used by a person: a real Chromium in front of `rolehost up`."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from PIL import Image
from playwright.async_api import FilePayload, Page, expect

from support.browser import DESK, PHONE, chromium, loaded_width, tab
from support.front_end import picture
from support.service import Service, running

pytestmark = pytest.mark.browser
PATIENCE = 60_000


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running(tmp_path) as started:
        yield started


def photograph() -> bytes:
    """12 megapixels, as a telephone takes them."""
    image = Image.effect_noise((4000, 3000), 60).convert("RGB")
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return file.getvalue()


async def choose(page: Page, *files: tuple[str, bytes]) -> None:
    payload = [FilePayload(name=name, mimeType="application/octet-stream", buffer=content) for name, content in files]
    await page.get_by_label("Pictures").set_input_files(payload)


async def test_a_photograph_becomes_a_thumbnail_that_the_page_shows(service: Service, tmp_path: Path) -> None:
    async with chromium() as browser, tab(browser, size=DESK) as opened:
        page = opened.page
        await page.goto(service.url)
        await choose(page, ("Bergsee.jpg", photograph()))
        await page.get_by_role("button", name="Make thumbnails").click()
        await expect(page.get_by_role("heading", name="Bergsee.jpg")).to_be_visible()
        await expect(page.locator(".pill")).to_have_text("completed", timeout=PATIENCE)
        thumbnail = page.get_by_alt_text("The thumbnail")
        assert await loaded_width(thumbnail) == 512
        assert await loaded_width(page.get_by_alt_text("The picture that was submitted")) == 4000
        await page.screenshot(path=tmp_path / "completed.png", full_page=True)
        async with page.expect_download() as saving:
            await page.get_by_role("link", name="Download").click()
        download = await saving.value
        assert download.suggested_filename == "Bergsee-medium.jpg"
        with Image.open(await download.path()) as saved:
            assert (saved.format, saved.size) == ("JPEG", (512, 384))
        assert opened.faults == []


async def test_everything_works_without_javascript(service: Service, tmp_path: Path) -> None:
    files = [(f"{number}.png", picture(400 + number, 300)) for number in range(3)]
    async with chromium() as browser, tab(browser, size=PHONE, theme="dark", javascript=False) as opened:
        page = opened.page
        await page.goto(service.url)
        await choose(page, *files, ("note.jpg", b"I am no picture"))
        await page.get_by_label("Custom").check()
        await page.get_by_label("Width").fill("100")
        await page.get_by_label("Height").fill("90")
        await page.get_by_label("Format").select_option("webp")
        await page.get_by_role("button", name="Make thumbnails").click()
        await expect(page.get_by_role("alert")).to_contain_text("note.jpg is not a picture of a known type")
        await page.get_by_role("link", name="see the jobs").click()
        await expect(page.locator(".pill.completed")).to_have_count(3, timeout=PATIENCE)
        widths = [await loaded_width(image) for image in await page.locator(".thumb img").all()]
        assert widths == [100, 100, 100]
        await page.screenshot(path=tmp_path / "list.png", full_page=True)
        await page.get_by_role("link", name="2.png").click()
        await expect(page.get_by_text("100 \N{MULTIPLICATION SIGN} 90 px, WebP")).to_be_visible()
        assert opened.faults == []


async def test_a_damaged_picture_is_told_and_can_be_replayed(service: Service) -> None:
    async with chromium() as browser, tab(browser, javascript=False) as opened:
        page = opened.page
        await page.goto(service.url)
        await choose(page, ("torn.jpg", photograph()[:200_000]))
        await page.get_by_role("button", name="Make thumbnails").click()
        await expect(page.locator(".pill")).to_have_text("failed", timeout=PATIENCE)
        await expect(page.locator(".notice")).to_contain_text("torn.jpg")
        first = page.url
        await page.get_by_role("button", name="Replay").click()
        await expect(page.locator(".pill")).to_have_text("failed", timeout=PATIENCE)
        assert page.url != first
        await page.get_by_role("link", name=first.rpartition("/")[2]).click()
        await expect(page).to_have_url(first)


def test_probes_of_the_whole_service(service: Service) -> None:
    for path in ("/healthz", "/readyz"):
        with urlopen(f"{service.url}{path}", timeout=10) as answer:  # noqa: S310 - a loopback address
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "application/json"
