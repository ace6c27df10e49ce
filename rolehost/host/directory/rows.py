"""The numbers of a role's instances: leased rows, which are heartbeats and the directory of peers, too.

Who holds a number renews its row. A row is dead only when its version stood still for a whole lease on the clock of
the one who wants it (no clocks of two machines are compared), or when its holder was a process of this very machine
that is gone. Taking one is a conditional write with a fresh token; only the row proves that a number is lost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rolehost import clock
from rolehost.errors import AlreadyExistsError, InstanceLostError, StoreUnavailableError, VersionMismatchError
from rolehost.processes import procfs
from rolehost.stores import Row, Scalar, Table
from rolehost.telemetry import emit

TABLE: Final = "instances"
HELD: Final = "held"
FREE: Final = "free"
STOPPED: Final = {
    "state": "Stopped",
    "status": "StoppedVM",
    "detail": "The instance was stopped.",
    **dict.fromkeys(("pid", "started_at", "ready_at")),
}
_PAGE: Final = 500
_POLL_SECONDS: Final = 1.0
# A field of a table may have 64 KiB in UTF-16.
_LONGEST_FACTS: Final = 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A number that is ours.

    Args:
        role: the role's name.
        number: counts from 0.
        token: proves that the row is ours.
        version: the row's, as last written.
    """

    role: str
    number: int
    token: str
    version: str

    @property
    def instance(self) -> str:
        """`<role>_IN_<n>`, the row's key."""
        return key_of(self.role, self.number)


class StillRows:
    """How long rows have stood still, on our own clock."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, float]] = {}
        self._moved: set[str] = set()
        self._asked = 0.0

    def note(self, rows: Collection[Row], asked: float) -> None:
        """Look at all rows.

        Args:
            rows: as just read.
            asked: our monotonic clock before they were asked for: they may be as old as that.
        """
        now = clock.monotonic()
        before, self._seen = self._seen, {}
        for row in rows:
            version, since = before.get(row.key, ("", now))
            if version and version != row.version:
                self._moved.add(row.key)
            self._seen[row.key] = (row.version, since if version == row.version else now)
        self._asked = asked

    def seconds(self, row: Row) -> float:
        """Since when, at least, the row has had this version; 0: a look since then found another, or none."""
        version, since = self._seen.get(row.key, ("", self._asked))
        return max(0.0, self._asked - since) if version == row.version else 0.0

    def has_moved(self, row: Row) -> bool:
        """Whether we saw it being written."""
        return row.key in self._moved


class InstanceRows:
    """The table of instances.

    Args:
        table: it.
        lease: seconds.
        holder: who we are, see `process_name`.
    """

    def __init__(self, table: Table, *, lease: float, holder: str = "") -> None:
        self._table = table
        self._lease = lease
        self._holder = holder
        self._still = StillRows()
        self._told_of: object = None

    async def take(self, role: str, *, wanted: int | None = None, count: int | None = None, token: str) -> Holding:
        """Take a number of a role, as soon as one is free.

        Args:
            role: its name.
            wanted: this number and no other; by default the lowest that is free.
            count: numbers below it only.
            token: fresh and random; a row that has it already is ours, whatever answer was lost.

        Raises:
            StoreError: the store said no, or nothing; to be called again.
        """
        while True:
            rows = {row.key: row for row in await self._looked()}
            for number in _candidates(role, wanted, count, rows, token):
                row = rows.get(key_of(role, number))
                if row is None or self._is_takeable(row, token):
                    holding = await self._taken(role, number, token, row)
                    if holding is not None:
                        return holding
                elif wanted is not None:
                    self._tell_who_holds(row)
            await clock.sleep(min(_POLL_SECONDS, self._lease / 10))

    async def resume(self, role: str, number: int, token: str) -> Holding:
        """Go on with a number that was ours when a helper died.

        Raises:
            InstanceLostError: it is another's.
            StoreError: the store said no, or nothing; to be called again.
        """
        row = await self._table.read(key_of(role, number))
        if row is not None and row.fields.get("token") == token:
            return Holding(role=role, number=number, token=token, version=row.version)
        if (row is None or not is_held(row)) and (holding := await self._taken(role, number, token, row)):
            return holding
        raise InstanceLostError(f"another holder has taken {key_of(role, number)}: our lease had run out")

    async def renew(self, holding: Holding, facts: Mapping[str, Any], metadata: str = "") -> Holding:
        """Write the heartbeat, with the instance's facts.

        Raises:
            InstanceLostError: the row is another's.
            StoreError: the store said no, or nothing; the number may still be ours.
        """
        changes = self._changes(holding.token, facts) | {"metadata": metadata or None}
        try:
            return replace(holding, version=await self._table.write(holding.instance, holding.version, changes))
        except VersionMismatchError:
            return await self._renewed_as_read(holding, changes)

    async def release(self, holding: Holding, facts: Mapping[str, Any]) -> None:
        """Give the number back; the row stays for a while, to tell how it ended. It may be another's already.

        Raises:
            StoreError: the store said no, or nothing.
        """
        changes = self._changes("", {**facts, **STOPPED})
        try:
            await self._table.write(holding.instance, holding.version, changes, tag=FREE)
        except VersionMismatchError:
            row = await self._table.read(holding.instance)
            if row is not None and row.fields.get("token") == holding.token:
                await self._table.write(holding.instance, row.version, changes, tag=FREE)

    async def live(self) -> list[Row]:
        """The rows that are held and whose holders may be alive.

        One that we have not yet seen being written is believed if its time looks recent.

        Raises:
            StoreError: the store said no, or nothing.
        """
        found = [row for row in await self._looked() if not self._is_takeable(row)]
        return [row for row in found if self._still.has_moved(row) or heartbeat_age(row) < self._lease]

    async def prune(self, older_than: float) -> None:
        """Remove rows that nobody holds and that had their last heartbeat so many seconds ago.

        Raises:
            StoreError: the store said no, or nothing.
        """
        for row in await self._looked():
            if self._is_takeable(row) and heartbeat_age(row) > older_than:
                try:
                    await self._table.delete(row.key, row.version)
                except VersionMismatchError:
                    continue  # somebody took it

    async def _looked(self) -> list[Row]:
        asked = clock.monotonic()
        rows = await all_rows(self._table)
        self._still.note(rows, asked)
        return rows

    def _tell_who_holds(self, row: Row) -> None:
        """Once for each holder: a number that is waited for may be given twice by mistake."""
        if row.fields.get("token") != self._told_of:
            self._told_of = row.fields.get("token")
            at = facts_of(row)["endpoints"]
            seen = {"holder": row.fields.get("holder"), "heartbeat_at": row.fields.get("heartbeat_at")}
            emit("directory.number_held", instance=row.key, endpoints=at, **seen)

    def _is_takeable(self, row: Row, token: str = "") -> bool:
        if not is_held(row) or row.fields.get("token") == token:
            return True
        return self._still.seconds(row) >= max(lease_of(row), self._lease) or holder_is_gone(row)

    async def _taken(self, role: str, number: int, token: str, row: Row | None) -> Holding | None:
        changes: dict[str, Scalar] = {**self._changes(token, {}), "role": role, "number": number}
        changes |= {"facts": None, "metadata": None, "taken_at": clock.iso(clock.now())}
        lost = row is not None and is_held(row) and row.fields.get("token") != token
        changes["lost_at"] = row.fields.get("heartbeat_at") if row and lost else None
        key = key_of(role, number)
        try:
            if row is None:
                version = await self._table.insert(key, changes, tag=HELD)
            else:
                version = await self._table.write(key, row.version, changes, tag=HELD)
        except (AlreadyExistsError, VersionMismatchError):
            return None  # somebody was faster
        return Holding(role=role, number=number, token=token, version=version)

    async def _renewed_as_read(self, holding: Holding, changes: dict[str, Scalar]) -> Holding:
        """The row isn't as we wrote it: by a write of ours whose answer was lost, or somebody has it now."""
        key = holding.instance
        row = await self._table.read(key)
        try:
            if row is None:  # removed by hand: nobody has it
                version = await self._table.insert(
                    key, {**changes, "role": holding.role, "number": holding.number}, tag=HELD
                )
            elif row.fields.get("token") == holding.token:
                version = await self._table.write(key, row.version, changes)
            else:
                raise InstanceLostError(f"another holder has taken {key}: our lease had run out")
        except (AlreadyExistsError, VersionMismatchError) as error:
            raise StoreUnavailableError(f"{key} is being written by somebody else") from error
        return replace(holding, version=version)

    def _changes(self, token: str, facts: Mapping[str, Any]) -> dict[str, Scalar]:
        return {
            "token": token or None,
            "holder": self._holder if token else None,
            "lease": self._lease,
            "heartbeat_at": clock.iso(clock.now()),
            "facts": facts_text(facts) if facts else None,
        }


def key_of(role: str, number: int) -> str:
    """`<role>_IN_<n>`."""
    return f"{role}_IN_{number}"


def is_held(row: Row) -> bool:
    """Whether somebody has the number, dead or alive."""
    return bool(row.fields.get("token"))


def lease_of(row: Row) -> float:
    """The seconds that its holder promised to renew it within; 0: it said nothing that is a number."""
    try:
        return float(row.fields.get("lease") or 0)
    except ValueError:
        return 0.0


def heartbeat_age(row: Row) -> float:
    """Seconds since its last heartbeat, on two wall clocks: for display and for what lasts long."""
    return seconds_since(str(row.fields.get("heartbeat_at") or ""))


def seconds_since(moment: str) -> float:
    """Seconds since a time of a row, on two wall clocks; infinite if it is none."""
    try:
        return (clock.now() - clock.from_iso(moment)).total_seconds()
    except ValueError:
        return float("inf")


def holder_is_gone(row: Row) -> bool:
    """Whether its holder was a process of this machine that has ended."""
    return is_gone(str(row.fields.get("holder") or ""))


async def all_rows(table: Table) -> list[Row]:
    """Every row of a small table.

    Raises:
        StoreError: the store said no, or nothing.
    """
    rows: list[Row] = []
    cursor: str | None = None
    while True:
        page = await table.list(limit=_PAGE, cursor=cursor, newest_first=False)
        rows += page.rows
        cursor = page.cursor
        if cursor is None:
            return rows


def facts_text(facts: Mapping[str, Any]) -> str:
    """Facts as a field holds them; of a crash too long for it only the reason is kept."""
    text = json.dumps(facts)
    if len(text) > _LONGEST_FACTS and isinstance(crash := facts.get("last_crash"), Mapping):
        text = json.dumps({**facts, "last_crash": {**crash, "stderr": str(crash.get("stderr", ""))[-1000:]}})
    if len(text) > _LONGEST_FACTS:
        text = json.dumps({**facts, "detail": str(facts.get("detail", ""))[:1000], "last_crash": None})
    return text


def facts_of(row: Row) -> dict[str, Any]:
    """The facts that a row holds; of one that was just taken, or that can't be read, those that are certain."""
    role, _, number = row.key.rpartition("_IN_")
    certain: dict[str, Any] = {
        "instance": row.key,
        "role": role,
        "state": "Starting",
        "status": "StartingRole",
        "detail": "",
        "generation": 0,
        "recycles": 0,
        "fault_domain": 0,
        "update_domain": int(number) if number.isdecimal() else 0,
        "pid": None,
        "started_at": None,
        "ready_at": None,
        "endpoints": {},
        "last_crash": None,
    }
    try:
        told = json.loads(str(row.fields.get("facts") or "{}"))
    except ValueError:
        return certain
    return certain | told if isinstance(told, dict) else certain


def process_name(pid: int) -> str:
    """A process as no other of this machine was ever called: `<boot>/<namespace>/<pid>/<start>`; empty: unknown."""
    seen = procfs.process(pid)
    place = _place()
    return f"{place}/{pid}/{seen.started}" if seen is not None and place else ""


def is_gone(name: str) -> bool:
    """Whether a process is known to have ended: one that we would see, and don't."""
    place, _, rest = name.rpartition("/")
    place, _, pid = place.rpartition("/")
    if not (place and pid.isdecimal() and place == _place()):
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass  # another user's: it is there, and perhaps hidden from us
    seen = procfs.process(int(pid))
    return seen is not None and (seen.zombie or str(seen.started) != rest)


def _place() -> str:
    """This boot of this machine, and what we see of its processes; empty where the kernel doesn't say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _candidates(role: str, wanted: int | None, count: int | None, rows: Mapping[str, Row], token: str) -> Iterator[int]:
    """The numbers to try, in order; one that is ours already comes first."""
    if wanted is not None:
        yield wanted
        return
    mine: Sequence[int] = [
        int(row.fields.get("number") or 0)
        for row in rows.values()
        if row.fields.get("token") == token and row.fields.get("role") == role
    ]
    yield from mine
    most = len(rows) + 1 if count is None else count  # among one number more than there are rows one is free
    yield from range(most)
