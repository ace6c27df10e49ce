"""Instances of a service in every state, as they tell of themselves in the stores."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from rolehost import clock
from rolehost.host.directory.instance_metadata import InstanceMetadata
from rolehost.host.directory.rows import TABLE, InstanceRows
from rolehost.stores import Stores

MACHINE = InstanceMetadata(
    vm_id="02aab8a4-74ef-476e-8182-f6d2ba4166a6",
    name="pool-7",
    location="westeurope",
    size="Standard_D2s_v3",
    zone="2",
    fault_domain=1,
    update_domain=3,
    scale_set="pool",
    address="10.1.0.7",
)
STDERR = (
    "Traceback (most recent call last):\n  File \"worker.py\", line 7, in on_start\n\x1b[31mKeyError: '<b>Queue</b>'\n"
)
LOOP: Mapping[str, Any] = {
    "state": "Recycling",
    "status": "FailedStartingRole",
    "detail": "Role has encountered an error and has stopped. on_start raised KeyError. The next start is in 22.5 s.",
    "recycles": 3,
    "pid": None,
    "ready_at": None,
    "last_crash": {
        "at": clock.iso(clock.now() - timedelta(seconds=12)),
        "reason": "on_start raised KeyError: 'Queue'",
        "stage": "start",
        "exit_code": 1,
        "signal": None,
        "stderr": STDERR,
    },
}
RECOVERED: Mapping[str, Any] = {
    "recycles": 1,
    "last_crash": {
        "at": clock.iso(clock.now() - timedelta(hours=3)),
        "reason": "the role process was killed",
        "stage": "run",
        "exit_code": None,
        "signal": 9,
        "stderr": "",
    },
}


async def seed_instances(stores: Stores) -> None:
    """Two roles, and one of another that left nothing but its name."""
    await instance(stores, "Frontend", 0)
    await instance(stores, "Frontend", 1, machine=MACHINE)
    await instance(stores, "Backend", 0, RECOVERED)
    await instance(stores, "Backend", 1, LOOP)
    busy = {"state": "Busy", "status": "BusyRole", "detail": "The role is busy.", "ready_at": None}
    await instance(stores, "Backend", 2, busy)
    await instance(stores, "Backend", 3, lease=0.0)
    stopping = {"state": "Stopping", "status": "StoppingRole", "detail": "The role is stopping."}
    await instance(stores, "Backend", 4, stopping)
    rows = InstanceRows(stores.table(TABLE), lease=60)
    await rows.take("Reports", wanted=0, token="Reports0")  # noqa: S106 - no secret: it tells holders apart


async def instance(
    stores: Stores,
    role: str,
    number: int,
    told: Mapping[str, Any] | None = None,
    *,
    lease: float = 60.0,
    machine: InstanceMetadata | None = None,
) -> None:
    """An instance that told of itself just now; a lease of 0 seconds has run out."""
    rows = InstanceRows(stores.table(TABLE), lease=lease)
    holding = await rows.take(role, wanted=number, token=f"{role}{number}")
    metadata = "" if machine is None else json.dumps(machine.to_json())
    await rows.renew(holding, facts(role, number) | dict(told or {}), metadata)


def facts(role: str, number: int) -> dict[str, Any]:
    """Those of an instance that is ready."""
    started = clock.now() - timedelta(minutes=5 + number)
    address = f"127.77.{0 if role == 'Frontend' else 10}.{number + 1}"
    return {
        "instance": f"{role}_IN_{number}",
        "role": role,
        "state": "Ready",
        "status": "ReadyRole",
        "detail": "The role is ready.",
        "generation": 2,
        "recycles": 0,
        "fault_domain": number % 2,
        "update_domain": number % 5,
        "pid": 4000 + number,
        "started_at": clock.iso(started),
        "ready_at": clock.iso(started + timedelta(seconds=2)),
        "heartbeat_at": clock.iso(clock.now()),
        "endpoints": {"Http": {"protocol": "http", "address": address, "port": 8080}} if role == "Frontend" else {},
        "last_crash": None,
    }
