"""What every engine's blobs do."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from rolehost.errors import AlreadyExistsError, InvalidParameterError, NotFoundError
from rolehost.stores import BlobFacts, Blobs
from support.stores import Engine, unused

LARGE = os.urandom(1024) * 3000  # more than a piece, no multiple of one


def facts(name: str, content: bytes) -> BlobFacts:
    return BlobFacts(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())


async def content(blobs: Blobs, name: str) -> bytes:
    return b"".join([piece async for piece in blobs.stream(name)])


@pytest.fixture
def name() -> str:
    return f"inputs/{unused('job')}/1-a_b/picture.jpg"


@pytest.mark.parametrize("data", [b"", b"x", LARGE], ids=["empty", "byte", "large"])
async def test_bytes_come_back(blobs: Blobs, name: str, tmp_path: Path, data: bytes) -> None:
    assert await blobs.put(name, data) == facts(name, data)
    assert await blobs.facts(name) == facts(name, data)
    assert await blobs.download(name, tmp_path / "target") == facts(name, data)
    assert (tmp_path / "target").read_bytes() == data
    assert await content(blobs, name) == data


@pytest.mark.parametrize("data", [b"", LARGE], ids=["empty", "large"])
async def test_a_file_comes_back_and_stays(blobs: Blobs, name: str, tmp_path: Path, data: bytes) -> None:
    source = tmp_path / "source"
    source.write_bytes(data)
    assert await blobs.put(name, source) == facts(name, data)
    assert source.read_bytes() == data
    source.write_bytes(b"changed afterwards")
    assert await content(blobs, name) == data


async def test_a_consumed_file_is_gone(blobs: Blobs, name: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(LARGE)
    assert await blobs.put(name, source, consume=True) == facts(name, LARGE)
    assert not source.exists()
    assert await blobs.facts(name) == facts(name, LARGE)
    assert await content(blobs, name) == LARGE


async def test_a_consumed_file_with_another_name_can_not_change_the_blob(
    blobs: Blobs, name: str, tmp_path: Path
) -> None:
    source, second = tmp_path / "source", tmp_path / "second"
    source.write_bytes(b"content")
    second.hardlink_to(source)
    await blobs.put(name, source, consume=True)
    assert not source.exists()
    second.write_bytes(b"changed")
    assert await content(blobs, name) == b"content"


async def test_a_taken_name_is_refused_and_nothing_changes(blobs: Blobs, name: str, tmp_path: Path) -> None:
    await blobs.put(name, b"first")
    source = tmp_path / "source"
    source.write_bytes(b"second")
    for consume in (False, True):
        with pytest.raises(AlreadyExistsError):
            await blobs.put(name, source, consume=consume)
    with pytest.raises(AlreadyExistsError):
        await blobs.put(name, b"first")
    assert source.read_bytes() == b"second"
    assert await content(blobs, name) == b"first"


async def test_of_many_puts_of_one_name_one_wins(blobs: Blobs, name: str) -> None:
    outcomes = await asyncio.gather(
        *(blobs.put(name, str(number).encode() * 100_000) for number in range(10, 26)), return_exceptions=True
    )
    won = [outcome for outcome in outcomes if isinstance(outcome, BlobFacts)]
    assert len(won) == 1
    assert all(isinstance(outcome, BlobFacts | AlreadyExistsError) for outcome in outcomes)
    assert hashlib.sha256(await content(blobs, name)).hexdigest() == won[0].sha256


async def test_a_download_is_a_file_of_its_own(blobs: Blobs, name: str, tmp_path: Path) -> None:
    await blobs.put(name, b"content")
    target = tmp_path / "target"
    await blobs.download(name, target)
    assert target.stat().st_nlink == 1
    target.write_bytes(b"the application writes over its input")
    assert await content(blobs, name) == b"content"


async def test_a_download_writes_over_nothing(blobs: Blobs, name: str, tmp_path: Path) -> None:
    await blobs.put(name, b"content")
    elsewhere = tmp_path / "elsewhere"
    link = tmp_path / "link"
    link.symlink_to(elsewhere)
    there = tmp_path / "there"
    there.write_bytes(b"mine")
    for target in (link, there):
        with pytest.raises(AlreadyExistsError):
            await blobs.download(name, target)
    assert not elsewhere.exists()
    assert there.read_bytes() == b"mine"


async def test_a_blob_that_is_not_there(blobs: Blobs, name: str, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        await blobs.facts(name)
    with pytest.raises(NotFoundError):
        await blobs.download(name, tmp_path / "target")
    with pytest.raises(NotFoundError):
        await content(blobs, name)
    assert not (tmp_path / "target").exists()
    await blobs.delete(name)


async def test_a_deleted_name_is_free_again(blobs: Blobs, name: str) -> None:
    await blobs.put(name, b"first")
    await blobs.delete(name)
    with pytest.raises(NotFoundError):
        await blobs.facts(name)
    assert await blobs.put(name, b"second") == facts(name, b"second")
    assert await blobs.facts(name) == facts(name, b"second")


async def test_a_stream_may_be_left_early(blobs: Blobs, name: str) -> None:
    await blobs.put(name, LARGE)
    pieces = blobs.stream(name)
    first = await anext(pieces)
    assert 0 < len(first) <= 256 * 1024
    assert LARGE.startswith(first)
    await blobs.delete(name)


@pytest.mark.parametrize(
    ("start", "length"), [(0, 1), (5, 300_000), (1_000_001, None), (3_071_999, 1), (3_071_000, 99_999), (0, None)]
)
async def test_a_part_of_a_blob(blobs: Blobs, name: str, start: int, length: int | None) -> None:
    await blobs.put(name, LARGE)
    pieces = [piece async for piece in blobs.stream(name, start=start, length=length)]
    assert b"".join(pieces) == LARGE[start:][:length]
    assert max(map(len, pieces)) <= 256 * 1024


@pytest.mark.parametrize("content", [b"", b"short"])
async def test_a_part_beyond_the_end_is_empty(blobs: Blobs, name: str, content: bytes) -> None:
    await blobs.put(name, content)
    assert [piece async for piece in blobs.stream(name, start=len(content), length=100)] == []
    assert [piece async for piece in blobs.stream(name, start=1000)] == []
    assert b"".join([piece async for piece in blobs.stream(name, length=100)]) == content


def _symlink(path: Path) -> None:
    target = path.with_name("elsewhere")
    target.write_bytes(b"secret")
    path.symlink_to(target)


SOURCES: dict[str, Callable[[Path], object]] = {
    "symlink": _symlink,
    "fifo": os.mkfifo,
    "directory": Path.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "missing": lambda _: None,
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("consume", [False, True])
async def test_only_regular_files_are_taken(
    blobs: Blobs, name: str, tmp_path: Path, kind: str, *, consume: bool
) -> None:
    source = tmp_path / "source"
    SOURCES[kind](source)
    with pytest.raises(InvalidParameterError):
        await asyncio.wait_for(blobs.put(name, source, consume=consume), 5)
    with pytest.raises(NotFoundError):
        await blobs.facts(name)


async def test_a_device_is_not_taken(blobs: Blobs, name: str) -> None:
    with pytest.raises(InvalidParameterError):
        await blobs.put(name, Path("/dev/zero"))


NO_NAMES = [
    "",
    "/",
    "a/",
    "/a",
    "a//b",
    "..",
    "a/../b",
    "a/..",
    ".",
    ".tmp/a",
    "a/.b",
    "a,b",
    "a b",
    "a\\b",
    "a\x00b",
    "ä",
]


@pytest.mark.parametrize("bad", NO_NAMES)
async def test_names_that_no_blob_has(blobs: Blobs, tmp_path: Path, bad: str) -> None:
    with pytest.raises(InvalidParameterError):
        await blobs.put(bad, b"x")
    with pytest.raises(InvalidParameterError):
        await blobs.facts(bad)
    with pytest.raises(InvalidParameterError):
        await blobs.delete(bad)
    with pytest.raises(InvalidParameterError):
        await blobs.download(bad, tmp_path / "target")
    with pytest.raises(InvalidParameterError):
        await content(blobs, bad)


async def test_a_list_goes_through_a_prefix_in_order(blobs: Blobs) -> None:
    top = unused("top")
    blob_names = [f"{top}/{rest}" for rest in ("a", "a-b", "a.b", "a/b", "a/b/c", "a0", "aA", "a_", "b/x")]
    for blob in [*blob_names[::-1], f"{top}x/a"]:
        await blobs.put(blob, b"x")
    found: list[str] = []
    cursor = None
    while True:
        page = await blobs.list(f"{top}/", limit=2, cursor=cursor)
        assert len(page.names) <= 2
        found += page.names
        if (cursor := page.cursor) is None:
            break
    assert found == sorted(blob_names)
    assert list((await blobs.list(f"{top}/a/")).names) == [f"{top}/a/b", f"{top}/a/b/c"]
    assert list((await blobs.list(f"{top}/b/x")).names) == [f"{top}/b/x"]
    assert list((await blobs.list(unused("nothing"))).names) == []


async def test_a_cursor_stays_good_while_blobs_come_and_go(blobs: Blobs) -> None:
    top = unused("top")
    for number in range(6):
        await blobs.put(f"{top}/{number}", b"x")
    page = await blobs.list(top, limit=2)
    await blobs.delete(f"{top}/1")
    await blobs.delete(f"{top}/2")
    await blobs.put(f"{top}/0a", b"x")
    assert list((await blobs.list(top, cursor=page.cursor)).names) == [f"{top}/{number}" for number in (3, 4, 5)]


@pytest.mark.parametrize("cursor", ["", "x", "!!", "ÿ"])
async def test_a_made_up_cursor_is_refused(blobs: Blobs, cursor: str) -> None:
    with pytest.raises(InvalidParameterError):
        await blobs.list(cursor=cursor)


@pytest.mark.parametrize("prefix", ["../", "/etc/../", "a b", "ä"])
async def test_no_prefix_leads_out(blobs: Blobs, prefix: str) -> None:
    with suppress(InvalidParameterError):
        assert not (await blobs.list(prefix)).names


async def test_blobs_are_there_after_reopening(engine: Engine, tmp_path: Path, name: str) -> None:
    async with engine.open(tmp_path) as stores:
        await stores.blobs.put(name, LARGE)
    async with engine.open(tmp_path) as stores:
        assert await stores.blobs.facts(name) == facts(name, LARGE)
        assert await content(stores.blobs, name) == LARGE
