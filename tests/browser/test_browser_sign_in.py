"""The sign-in page in a real Chromium: in, back to where one was, out; at phone and desk width, light and dark."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from rolehost.frontend.authentication.identity import Permission
from rolehost.frontend.authentication.keys import make_key
from support.authentication import ANY_HOST, guard_of, key_of_each_role, remove_key
from support.browser import PHONE, chromium, tab
from support.front_end import FrontEnd, front_end, seed_all
from support.looks import looks_right

pytestmark = pytest.mark.browser
READ, OPERATE = Permission.READ, Permission.OPERATE


@pytest.fixture
def keys(tmp_path: Path) -> dict[Permission, str]:
    return key_of_each_role(tmp_path / "data")


@pytest.fixture
async def site(tmp_path: Path, keys: dict[Permission, str]) -> AsyncIterator[FrontEnd]:
    assert keys
    async with front_end(tmp_path / "data", ANY_HOST, guard=guard_of(tmp_path / "data")) as running:
        yield running


async def sign_in(page: Page, key: str) -> None:
    await page.get_by_label("API key").fill(key)
    await page.get_by_role("button", name="Sign in").click()


async def test_a_person_signs_in_works_and_signs_out(
    site: FrontEnd, tmp_path: Path, keys: dict[Permission, str]
) -> None:
    jobs = await seed_all(site.stores, tmp_path)
    async with chromium() as browser, tab(browser, javascript=False) as opened:
        page = opened.page
        await page.goto(f"{site.url}/jobs/{jobs['poisoned'].id}")
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        await expect(page.get_by_label("API key")).to_be_focused()
        await page.keyboard.type(keys[OPERATE])
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(f"{site.url}/jobs/{jobs['poisoned'].id}")
        await page.get_by_role("button", name="Replay").first.click()
        await expect(page.locator(".pill").first).to_have_text("queued")
        cookies = await page.context.cookies()
        assert [(each["httpOnly"], each["sameSite"]) for each in cookies] == [(True, "Lax")]
        assert keys[OPERATE] not in str(cookies)
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        await page.goto(f"{site.url}/jobs")
        await expect(page.get_by_label("API key")).to_be_visible()
        assert await page.context.cookies() == []
        left = [fault for fault in opened.faults if "ERR_ABORTED" not in fault]  # pictures of pages that were left
        assert left == []


async def test_who_may_look_is_shown_no_more(site: FrontEnd, tmp_path: Path, keys: dict[Permission, str]) -> None:
    jobs = await seed_all(site.stores, tmp_path)
    async with chromium() as browser, tab(browser, size=PHONE) as opened:
        page = opened.page
        await page.goto(site.url)
        await sign_in(page, keys[READ])
        await expect(page).to_have_url(f"{site.url}/jobs")
        await expect(page.get_by_role("link", name="Submit")).to_have_count(0)
        for path in (f"/jobs/{jobs['poisoned'].id}", f"/jobs/{jobs['running'].id}", "/poison"):
            await page.goto(site.url + path)
            buttons = await page.get_by_role("main").get_by_role("button").all_text_contents()
            wanted = [each.split()[0] for each in buttons if each.split()[0] in {"Replay", "Purge", "Cancel"}]
            assert wanted == [], path
        remove_key(tmp_path / "data", str(READ))
        await page.goto(f"{site.url}/poison")
        await expect(page.get_by_label("API key")).to_be_visible()


async def test_the_page_fits_and_can_be_read(site: FrontEnd, keys: dict[Permission, str]) -> None:
    async with chromium() as browser, tab(browser) as opened:
        page = opened.page
        await page.goto(f"{site.url}/jobs")
        await looks_right(page, "sign-in")
        await sign_in(page, make_key())
        await expect(page.get_by_role("alert")).to_contain_text("not known here")
        await expect(page.get_by_label("API key")).to_have_attribute("aria-invalid", "true")
        await looks_right(page, "wrong")
        assert len(opened.faults) == 1, "the browser tells of the 401 alone"
        await sign_in(page, keys[OPERATE])
        await expect(page).to_have_url(f"{site.url}/jobs")
        await looks_right(page, "signed-in")
        await page.goto(f"{site.url}/api")
        await looks_right(page, "api")
        await page.get_by_role("button", name="Sign out").click()
        await page.goto(f"{site.url}/sign-in?next=https://evil.example/")
        await sign_in(page, keys[OPERATE])
        await expect(page).to_have_url(f"{site.url}/")
        await looks_right(page, "home")
