"""What a browser measures of a page: contrast, sizes of controls, and what reaches beyond the screen."""

from __future__ import annotations

import os
import re
from itertools import product
from pathlib import Path

from playwright.async_api import Page

from support.browser import DESK, PHONE, SMALL_PHONE, TABLET

SIZES = (SMALL_PHONE, PHONE, TABLET, DESK)
PICTURES = os.environ.get("ROLEHOST_TEST_PICTURES", "")
"""A folder for pictures of all that is looked at, for people."""

# The contrast of each text with the ground it stands on, as WCAG 2.2 counts it.
FAINT = """() => {
  const parts = colour => (colour.match(/[\\d.]+/g) || []).map(Number)
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0)
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parts(getComputedStyle(e).backgroundColor)
      if (colour.length === 3 || colour[3] === 1) return colour
    }
    return [255, 255, 255]
  }
  const faint = []
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())
    if (!own || element.closest('[aria-hidden], .hidden, .skip') || !element.checkVisibility()) continue
    const [a, b] = [light(parts(getComputedStyle(element).color)), light(ground(element))]
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05)
    if (ratio < 4.5) faint.push(`${element.className || element.tagName}: ${ratio.toFixed(2)}`)
  }
  return faint
}"""
# Controls smaller than 24 by 24 pixels; links within a sentence may be (WCAG 2.2, 2.5.8).
SMALL = """() => [...document.querySelectorAll('a, button, input, select, summary')]
  .filter(e => e.checkVisibility() && e.type !== 'hidden' && !e.closest('p, dd, .skip, .about'))
  .map(e => [e.outerHTML.slice(0, 80), e.getBoundingClientRect()])
  .filter(([, box]) => box.width < 24 || box.height < 24).map(([text]) => text)"""
WIDE = "() => document.documentElement.scrollWidth - innerWidth"

# Controls that reach beyond the screen.
CUT_OFF = """() => [...document.querySelectorAll('a:not(.skip), button, input, select, .pill, .hint')]
  .filter(e => e.checkVisibility() && e.type !== 'hidden')
  .filter(e => e.getBoundingClientRect().right > innerWidth || e.getBoundingClientRect().left < 0)
  .map(e => e.outerHTML.slice(0, 80))"""


async def looks_right(page: Page, where: str) -> None:
    """A page fits the screen and can be read and touched, whatever the screen's size and theme.

    Args:
        page: it is left as it was, on a light desk.
        where: what a failure and the pictures are called.
    """
    for (width, height), theme in product(reversed(SIZES), ("dark", "light")):
        await page.set_viewport_size({"width": width, "height": height})
        await page.emulate_media(color_scheme=theme)  # type: ignore[arg-type] # one of two literals
        if PICTURES:
            name = f"{re.sub(r'[^A-Za-z0-9]+', '-', where).strip('-')}-{width}-{theme}.png"
            await page.screenshot(path=Path(PICTURES) / name, full_page=True)
        seen = f"{where} at {width} pixels, {theme}"
        assert await page.evaluate(WIDE) <= 0, seen
        for fault in (CUT_OFF, FAINT, SMALL):
            assert await page.evaluate(fault) == [], seen
    await page.set_viewport_size({"width": DESK[0], "height": DESK[1]})
