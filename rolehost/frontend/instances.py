"""The service's instances as they told of themselves: what the pages and the API show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rolehost import clock
from rolehost.host.directory.status import stored_status
from rolehost.host.instance.status import InstanceState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from rolehost.stores import Stores

UNKNOWN = "Unknown"
STATES = (*map(str, InstanceState), UNKNOWN)
"""Where an instance can be in its life; `Unknown`: it was not heard of for too long."""

_FACTS = (
    *("instance", "role", "state", "status", "detail", "generation", "recycles", "fault_domain", "update_domain"),
    *("pid", "started_at", "ready_at", "heartbeat_at", "endpoints", "last_crash", "metadata"),
)
_CRASH = ("at", "reason", "stage", "exit_code", "signal", "stderr")
MACHINE = ("vm_id", "name", "location", "size", "zone", "fault_domain", "update_domain", "scale_set", "address")
"""What the metadata service of the cloud tells of an instance's machine."""


async def instances(stores: Stores) -> list[dict[str, Any]]:
    """Every instance that the stores know, by role and number, as JSON can hold it.

    Raises:
        StoreError: the store said no, or nothing.
    """
    now = clock.now()
    return [_shown(facts, now) for facts in await stored_status(stores)]


def _shown(facts: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    shown = {name: facts.get(name) for name in _FACTS}
    lives = shown["pid"] is not None
    return shown | {
        "state": shown["state"] if shown["state"] in STATES else UNKNOWN,
        "last_crash": _only(shown["last_crash"], _CRASH),
        "metadata": _only(shown["metadata"], MACHINE),
        "heartbeat_seconds": _seconds(shown["heartbeat_at"], now),
        "up_seconds": _seconds(shown["ready_at"] or shown["started_at"], now) if lives else None,
    }


def _only(facts: Mapping[str, Any] | None, names: tuple[str, ...]) -> dict[str, Any] | None:
    return None if facts is None else {name: facts.get(name) for name in names}


def _seconds(moment: str | None, now: datetime) -> float | None:
    """Since then; two machines' clocks may make it a little less than nothing."""
    return None if moment is None else round(max(0.0, (now - clock.from_iso(moment)).total_seconds()), 3)
