"""A real Chromium for tests: the system's own, driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playwright.async_api import Browser, BrowserContext, Locator, Page, Request, async_playwright

SMALL_PHONE = (320, 640)
PHONE = (390, 844)
TABLET = (600, 800)
DESK = (1280, 800)
QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium_path() -> str:
    """Where Chromium is (Debian's package `chromium`); `CHROMIUM` names another."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
    assert Path(path).exists(), "the browser tests need the package chromium: apt-get install chromium"
    return path


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A headless Chromium."""
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium_path(), args=[*QUIET, *sandbox])
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Tab:
    """A page of a browser, and what went wrong in it."""

    page: Page
    faults: list[str]


@asynccontextmanager
async def tab(
    browser: Browser,
    *,
    size: tuple[int, int] = DESK,
    theme: Literal["light", "dark"] = "light",
    javascript: bool = True,
) -> AsyncIterator[Tab]:
    """A tab in a profile of its own; console errors, reports of the content policy and failed requests are faults."""
    width, height = size
    context: BrowserContext = await browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme, java_script_enabled=javascript
    )
    page = await context.new_page()
    page.set_default_timeout(20_000)
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda request: faults.extend(_fault(request)))
    try:
        yield Tab(page, faults)
    finally:
        await context.close()


def _fault(request: Request) -> list[str]:
    """Why a request failed; a player, and a page that is left, break off what they don't need any more."""
    broken_off = request.failure == "net::ERR_ABORTED" and request.resource_type in {"media", "fetch"}
    return [] if broken_off else [f"{request.url}: {request.failure}"]


async def loaded_width(image: Locator) -> int:
    """The natural width of a picture once it is loaded; it fails if the picture never is."""
    await image.scroll_into_view_if_needed()
    await image.evaluate("image => image.decode()")
    return int(await image.evaluate("image => image.naturalWidth"))
