"""What the stores tell of a service: its instances, their runs, what happened. For people, whether it runs or not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rolehost.host.directory import events as directory_events
from rolehost.host.directory import rows as directory_rows
from rolehost.host.directory import runs as directory_runs
from rolehost.host.directory.rows import all_rows, facts_of, heartbeat_age, holder_is_gone, is_held, lease_of
from rolehost.host.instance.status import Crash, Stage
from rolehost.stores import Row, Stores

UNKNOWN = {"state": "Unknown", "status": "RoleStateUnknown", "pid": None}


async def stored_status(stores: Stores) -> list[dict[str, Any]]:
    """The facts of every instance that the stores know, by role and number.

    One whose lease ran out is `Unknown`, with its last heartbeat; one that stopped in order is `Stopped`. Whether a
    lease ran out is judged by the wall clock here: nothing but the display depends on it.

    Raises:
        StoreError: the store said no, or nothing.
    """
    rows = await all_rows(stores.table(directory_rows.TABLE))
    return [_shown(row) for row in sorted(rows, key=_place)]


async def stored_runs(stores: Stores, instance: str | None = None, *, limit: int = 50) -> Sequence[dict[str, Any]]:
    """Runs of startup tasks and roles, the newest first.

    Args:
        stores: where they are.
        instance: of this instance only.
        limit: so many at most.

    Returns:
        `run`, `instance`, `kind`, `name`, `started_at`, `ended_at`, `exit_code`, `signal`, `blob` and `size` of its
        output, and `status`: `Queued`, `Running`, `CompletedSuccess`, `CompletedFailed`, or `NeverFinished` for one
        whose instance lost its heartbeat first (the words of the WebJobs dashboard).

    Raises:
        StoreError: the store said no, or nothing.
    """
    alive = {
        row.key: row.fields.get("token") for row in await all_rows(stores.table(directory_rows.TABLE)) if is_alive(row)
    }
    page = await stores.table(directory_runs.TABLE).list(tag=instance, limit=limit)
    return [_run(row, alive=row.tag in alive and alive[row.tag] == row.fields.get("token")) for row in page.rows]


async def stored_events(stores: Stores, instance: str | None = None, *, limit: int = 50) -> Sequence[dict[str, Any]]:
    """Role events, the newest first: `at`, `name`, `instance`, `facts`.

    Args:
        stores: where they are.
        instance: of this instance only.
        limit: so many at most.

    Raises:
        StoreError: the store said no, or nothing.
    """
    page = await stores.table(directory_events.TABLE).list(tag=instance, limit=limit)
    return [directory_events.event_of(row) for row in page.rows]


def is_alive(row: Row) -> bool:
    """Whether an instance seems to have a heartbeat."""
    return is_held(row) and heartbeat_age(row) < lease_of(row) and not holder_is_gone(row)


def _shown(row: Row) -> dict[str, Any]:
    facts = facts_of(row) | {"heartbeat_at": row.fields.get("heartbeat_at")}
    facts["last_crash"] = facts["last_crash"] or _lost(row)
    facts["metadata"] = json.loads(str(row.fields.get("metadata") or "null"))
    if not is_held(row):
        return facts | directory_rows.STOPPED
    if is_alive(row):
        return facts
    last = str(facts["heartbeat_at"] or "")
    since = f"{last[:10]} {last[11:19]}Z" if last else "it began"
    return facts | UNKNOWN | {"detail": f"No heartbeat since {since}; it was {facts['state']} then."}


def _lost(row: Row) -> dict[str, Any] | None:
    """The end of the host that had the number before, if it was killed: it could tell nobody."""
    if not (at := row.fields.get("lost_at")):
        return None
    reason = "The host that had this number before ended without a word, and with it the role."
    return asdict(Crash(reason=reason, stage=Stage.HOST, at=str(at)))


def _run(row: Row, *, alive: bool) -> dict[str, Any]:
    names = ("run", "kind", "name", "started_at", "ended_at", "exit_code", "signal", "blob", "size")
    facts = {name: row.fields.get(name) for name in names}
    return {"instance": row.tag, "status": directory_runs.run_status(row, alive=alive), **facts}


def _place(row: Row) -> tuple[str, int]:
    role, _, number = row.key.rpartition("_IN_")
    return role, int(number) if number.isdecimal() else 0
