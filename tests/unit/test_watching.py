"""Watched files: what counts as a change, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rolehost import clock
from rolehost.host.watching import WatchedFiles

LOOK = 0.01


@asynccontextmanager
async def watched(*paths: Path) -> AsyncIterator[asyncio.Queue[str]]:
    """What the files held at each change, from the first look on."""
    changes: asyncio.Queue[str] = asyncio.Queue()

    async def changed() -> None:
        changes.put_nowait("".join(path.read_text() for path in paths))

    watching = asyncio.create_task(WatchedFiles(paths, LOOK).run(changed))
    try:
        yield changes
    finally:
        watching.cancel()


async def following(changes: asyncio.Queue[str]) -> str:
    async with asyncio.timeout(10):
        return await changes.get()


async def test_the_content_counts_however_it_comes(tmp_path: Path) -> None:
    file, other = tmp_path / "a", tmp_path / "b"
    file.write_text("one")
    async with watched(file) as changes:
        assert await following(changes) == "one"
        file.write_text("two")
        assert await following(changes) == "two"
        other.write_text("three")
        other.rename(file)
        assert await following(changes) == "three"
        other.write_text("four")
        file.unlink()
        await asyncio.sleep(5 * LOOK)
        assert changes.empty()  # away is no change
        file.symlink_to(other)
        assert await following(changes) == "four"


async def test_the_same_content_is_no_change(tmp_path: Path) -> None:
    file, marker = tmp_path / "a", tmp_path / "b"
    for path in (file, marker):
        path.write_text("same ")
    async with watched(file, marker) as changes:
        assert await following(changes) == "same same "
        file.write_text("same ")
        file.touch()
        await asyncio.sleep(5 * LOOK)
        marker.write_text("other")
        assert await following(changes) == "same other"
        assert changes.empty()


async def test_a_file_that_is_being_written_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a"
    contents = iter(["begin", "begin", "0", "0 1", "0 1 2", "0 1 2 end", "0 1 2 end"])
    over = asyncio.Event()

    async def sleep(_: float) -> None:
        if (content := next(contents, None)) is None:
            over.set()
            await asyncio.Event().wait()
        file.write_text(str(content))  # between two looks

    monkeypatch.setattr(clock, "sleep", sleep)
    async with watched(file) as changes:
        async with asyncio.timeout(10):
            await over.wait()
        assert [changes.get_nowait() for _ in range(changes.qsize())] == ["begin", "0 1 2 end"]
