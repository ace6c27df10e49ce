"""Pages of docs/ are true: what they say is done, from top to bottom, in an empty folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.doc_blocks import Reader, blocks_of
from support.programs import needs
from support.service import ROOT

pytestmark = pytest.mark.acceptance

# Each page with the programs of the system that it needs.
PAGES: dict[str, tuple[str, ...]] = {
    "batches": (),
    "hooks": (),
    "priorities": (),
    "progress": (),
    "quickstart": ("curl",),
    "sources": (),
    "testing": (),
    "transcode": ("ffmpeg",),
    "tutorial": (),
    "workers-by-configuration": ("pandoc",),
    "writing-workers": (),
}


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    reader.close()


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(*programs)) for name, programs in PAGES.items()])
def test_a_page_is_followed(reader: Reader, name: str) -> None:
    reader.follow(ROOT / "docs" / f"{name}.md")


def test_a_skipped_block_says_why() -> None:
    for name in PAGES:
        page = ROOT / "docs" / f"{name}.md"
        lines = page.read_text().splitlines()
        for block in blocks_of(page):
            assert block.note in {"", "skip", "append", "fails"}, f"{page.name}, line {block.line}"
            if block.note == "skip":
                assert len(lines[block.line - 2].split()) > 4, f"{page.name}, line {block.line}: why?"
