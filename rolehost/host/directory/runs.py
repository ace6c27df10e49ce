"""Runs of startup tasks and roles: a row for each in the table `runs`, and its output in a blob that outlives both.

Blobs are written once and never change, so each refresh puts another one, has the row name it, and drops the last.
"""

from __future__ import annotations

import asyncio
import os
import re
from binascii import crc32
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from rolehost import clock
from rolehost.errors import AlreadyExistsError, NotFoundError, VersionMismatchError
from rolehost.host.directory.events import sorted_key
from rolehost.stores import Row, Scalar, Stores

TABLE: Final = "runs"
PREFIX: Final = "runs"
# As Kudu keeps runs of WebJobs, and Batch a task's files.
MOST_KEPT: Final = 50
KEPT: Final = timedelta(days=7)
LARGEST: Final = 4 * 1024 * 1024
_FACTS: Final = ("run", "kind", "name", "started_at", "ended_at", "exit_code", "signal")
_PAGE: Final = 200
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_SEGMENT: Final = 80


class RunRecords:
    """The runs of instances that are ours.

    Args:
        stores: where they are kept.
    """

    def __init__(self, stores: Stores) -> None:
        self._table = stores.table(TABLE)
        self._blobs = stores.blobs
        self._stored: dict[str, tuple[int, int]] = {}
        self._keys: dict[str, str] = {}

    async def keep(self, run: Mapping[str, Any], token: str) -> None:
        """Write what is known of a run, and its output if there is more of it; harmless when repeated.

        Args:
            run: `run`, `instance`, `kind`, `name`, `path`, `started_at`, `ended_at`, `exit_code`, `signal`; and
                `lost`, if its host was gone by then: how and when it ended nobody knows.
            token: of the number under which it runs; one that is lost keeps none, as its instance goes on with the next
                host, under the same number.

        Raises:
            StoreError: the store said no, or nothing; to be called again.
        """
        name = f"{run['instance']}.{run['run']}"
        key = self._keys.setdefault(name, _key(run, name))
        facts: dict[str, Scalar] = {each: run.get(each) for each in _FACTS}
        facts |= {"token": None, "ended_at": None} if run.get("lost") else {"token": token or None}
        await self._refresh(await self._written(key, str(run["instance"]), facts), run)
        if run.get("ended_at") is not None:
            self._stored.pop(key, None)
            del self._keys[name]

    async def prune(self, instances: set[str]) -> None:
        """Remove old runs, and those beyond the newest of each of our instances.

        Args:
            instances: ours.

        Raises:
            StoreError: the store said no, or nothing.
        """
        page = await self._table.list(limit=_PAGE, newest_first=False)
        before = sorted_key(clock.iso(clock.now() - KEPT), "", 0)
        for row in page.rows:
            if row.key < before:
                await self._remove(row)
        for instance in instances:
            newest = await self._table.list(tag=instance, limit=MOST_KEPT)
            if newest.cursor is not None:
                older = await self._table.list(tag=instance, limit=_PAGE, cursor=newest.cursor)
                for row in older.rows:
                    await self._remove(row)

    async def _written(self, key: str, instance: str, facts: dict[str, Scalar]) -> Row:
        row = await self._table.read(key)
        if row is None:
            version = await self._table.insert(key, facts, tag=instance)
            return Row(key=key, version=version, tag=instance, fields=facts)
        if all(row.fields.get(name) == value for name, value in facts.items()):
            return row
        version = await self._table.write(key, row.version, facts)
        return replace(row, version=version, fields={**row.fields, **facts})

    async def _refresh(self, row: Row, run: Mapping[str, Any]) -> None:
        """Put the output if it has changed since it was put last, as far as we know."""
        path = Path(str(run.get("path") or ""))
        state = await asyncio.to_thread(_state, path)
        if not state[0] or self._stored.get(row.key) == state:
            return
        last = str(row.fields.get("blob") or "")
        number = int(last.rpartition("/")[2].partition(".")[0]) + 1 if last else 1
        try:
            blob, size = await self._put(row, number, path, state[0])
        except OSError:
            return
        await self._table.write(row.key, row.version, {"blob": blob, "size": size})
        self._stored[row.key] = state
        if last:
            await self._blobs.delete(last)

    async def _put(self, row: Row, number: int, path: Path, size: int) -> tuple[str, int]:
        while True:
            blob = f"{_folder(row)}/{number:06}.txt"
            content = await asyncio.to_thread(_content, path, size)
            try:
                return blob, (await self._blobs.put(blob, content)).size
            except AlreadyExistsError:  # by a write of ours whose answer was lost, or that no row came to name
                await self._blobs.delete(blob)
                number += 1

    async def _remove(self, row: Row) -> None:
        """First what the row leads to."""
        page = await self._blobs.list(f"{_folder(row)}/")
        for name in page.names:
            with suppress(NotFoundError):
                await self._blobs.delete(name)
        with suppress(VersionMismatchError):
            await self._table.delete(row.key, row.version)


def run_status(row: Row, *, alive: bool) -> str:
    """The word of the WebJobs dashboard: from the end, the exit code and the heartbeat.

    Args:
        row: the run's.
        alive: whether the instance has a heartbeat, under the token that the run began with and has kept.
    """
    if row.fields.get("ended_at") is not None:
        return "CompletedSuccess" if row.fields.get("exit_code") == 0 else "CompletedFailed"
    if not alive:
        return "NeverFinished"
    return "Queued" if row.fields.get("started_at") is None else "Running"


def _key(run: Mapping[str, Any], name: str) -> str:
    return sorted_key(str(run.get("started_at") or clock.iso(clock.now())), segment(name), 0)


def _folder(row: Row) -> str:
    return f"{PREFIX}/{segment(row.tag)}/{segment(str(row.fields.get('run') or ''))}"


def segment(text: str) -> str:
    """A text as one segment of a name, told apart by a checksum where characters had to go."""
    plain = _NOT_IN_A_NAME.sub("_", text)[:_LONGEST_SEGMENT]
    return plain if plain == text else f"{plain}-{crc32(text.encode(errors='replace')):08x}"


def _state(path: Path) -> tuple[int, int]:
    """Its size, and when it was written last; no size if there is nothing (any more): then what was stored stays."""
    try:
        seen = path.stat()
    except OSError:
        return 0, 0
    return seen.st_size, seen.st_mtime_ns


def _content(path: Path, size: int) -> bytes:
    """The file; of a larger one its head and its tail."""
    with path.open("rb") as file:
        if size <= LARGEST:
            return file.read(LARGEST)
        head = file.read(LARGEST // 2)
        file.seek(-(LARGEST // 2), os.SEEK_END)
        left_out = size - LARGEST
        return head + f"\n[... {left_out} bytes left out ...]\n".encode() + file.read(LARGEST // 2)
