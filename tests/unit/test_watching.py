"""Watched files: what counts as a change, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

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


async def test_a_file_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("begin")
    async with watched(file) as changes:
        assert await following(changes) == "begin"
        with file.open("w") as writing:
            for number in range(20):
                writing.write(f"{number} ")
                writing.flush()
                await asyncio.sleep(LOOK / 2)
            writing.write("end")
        text = await following(changes)
        while not text.endswith("end"):  # on a machine so slow that two looks fell between two writes
            text = await following(changes)
