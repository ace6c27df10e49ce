"""Blobs as files: what is left by those who died, what a file system may lack, what is damaged."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rolehost.errors import LimitExceededError, StoreError, StoreFullError
from rolehost.stores.embedded import EmbeddedStores, files
from rolehost.stores.embedded.blobs import FileBlobs


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def blobs(data: Path) -> AsyncIterator[FileBlobs]:
    opened = await EmbeddedStores.open(data)
    yield opened.blobs
    await opened.close()


async def test_what_the_dead_left_is_removed_and_the_living_are_left_alone(data: Path, blobs: FileBlobs) -> None:
    unfinished = data / "blobs" / ".tmp"
    (unfinished / "of-the-dead").write_bytes(b"half")
    with files.unfinished(unfinished) as file:
        os.write(file, b"half")
        second = await EmbeddedStores.open(data)
        await second.close()
        (left,) = unfinished.iterdir()
        assert left.read_bytes() == b"half"
    assert not list(unfinished.iterdir())
    assert not (await blobs.list()).names


async def test_a_failed_put_leaves_nothing(data: Path, blobs: FileBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreFullError):
        await blobs.put("a/b", b"x" * 100_000)
    monkeypatch.undo()
    assert not (await blobs.list()).names
    assert not list((data / "blobs" / ".tmp").iterdir())
    await blobs.put("a/b", b"y")


async def test_a_consumed_file_of_our_own_is_moved(blobs: FileBlobs, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"content")
    inode = source.stat().st_ino
    await blobs.put("a", source, consume=True)
    assert blobs._path("a").stat().st_ino == inode
    assert blobs._path("a").stat().st_nlink == 1
    assert blobs._path("a").stat().st_mode & 0o777 == 0o600


async def test_without_extended_attributes_facts_are_read_from_the_content(
    blobs: FileBlobs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", unsupported)
    stored = await blobs.put("a", b"content")
    assert await blobs.facts("a") == stored
    assert await blobs.download("a", tmp_path / "target") == stored


async def test_a_damaged_blob_is_not_handed_out(blobs: FileBlobs, tmp_path: Path) -> None:
    await blobs.put("a", b"content")
    with blobs._path("a").open("r+b") as file:
        file.write(b"C")
    with pytest.raises(StoreError, match="damaged"):
        await blobs.download("a", tmp_path / "target")
    assert not (tmp_path / "target").exists()


async def test_a_name_too_long_for_a_file_is_refused(blobs: FileBlobs) -> None:
    await blobs.put("a/" + "x" * 238, b"x")
    with pytest.raises(LimitExceededError):
        await blobs.put("a/" + "x" * 239, b"x")


async def test_the_blobs_of_a_job_are_listed_without_looking_at_all_others(data: Path, blobs: FileBlobs) -> None:
    """A listing by job reads one directory; 200 jobs lie in many."""
    for number in range(200):
        await blobs.put(f"results/job{number}/1-token/result", b"x")
    directories = [path for path in (data / "blobs").iterdir() if path.name != ".tmp"]
    assert len(directories) > 50
    for directory in directories:
        if not any(path.name.startswith("results,job7,") for path in directory.iterdir()):
            directory.rename(data / directory.name)
    assert (await blobs.list("results/job7/")).names == ["results/job7/1-token/result"]
