"""Fifty drains of real role processes in the middle of their jobs cost nobody anything."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from rolehost.environment import LocalResource
from rolehost.jobs.job import End, Job, JobState, new_id
from rolehost.jobs.kinds import kind_named
from rolehost.jobs.submission import Submission, Submitter
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores import Stores
from rolehost.stores.connect import connect
from support.jobs import until
from support.role_process import HostedRole, a_snapshot

pytestmark = pytest.mark.acceptance
KIND = "drained"
AT_ONCE = 5
ROUNDS = 10
SETTINGS = {
    "Worker.Slots": "1",
    "Worker.LeaseSeconds": "30",  # far longer than the test: what a drain did not give back would be missed
    "Worker.TermGraceSeconds": "0.2",
    "Worker.DiskFloorBytes": "0",
}
# It runs until the file beside its asset is there.
ROLE = f"""
from rolehost import ConsoleApp, ConsoleAppWorker

RUN = 'read -r go < "$0"; while [ ! -e "$go" ]; do sleep 0.05; done; exec cp "$0" "$1"'


class Worker(ConsoleAppWorker):
    kind = "{KIND}"
    app = ConsoleApp(("sh", "-c", RUN, "{{source}}", "{{target}}"))
"""


def a_role(folder: Path, environ: dict[str, str]) -> HostedRole:
    scratch = folder / f"scratch-{new_id()}"
    scratch.mkdir(parents=True)
    resources = {"Scratch": LocalResource("Scratch", str(scratch), 10)}
    return HostedRole(folder, ROLE, snapshot=a_snapshot(settings=SETTINGS, local_resources=resources), environ=environ)


async def rows(stores: Stores) -> list[Job]:
    return list((await JobTable(stores.table(TABLE)).list(limit=500)).jobs)


async def all_are(stores: Stores, state: JobState) -> bool:
    return {job.state for job in await rows(stores)} == {state}


async def test_fifty_drains_cost_no_charges(tmp_path: Path) -> None:
    go = tmp_path / "go"
    environ = {"ROLEHOST_DATA": str(tmp_path / "data"), "ROLEHOST_DRAIN_SECONDS": "1"}
    async with connect(environ) as stores:
        for _ in range(AT_ONCE):
            asset = tmp_path / f"asset-{new_id()}"
            asset.write_text(f"{go}\n")
            await Submitter(stores).submit(Submission(path=asset, name="asset.txt", kind=KIND))
        for number in range(ROUNDS):
            await drain_all(stores, tmp_path / f"round-{number}", environ)
        go.touch()
        async with a_role(tmp_path / "last", environ) as role:
            await until(lambda: all_are(stores, JobState.COMPLETED), within=30)
            assert await role.stop() == 0
        for job in await rows(stores):
            assert job.charges.to_json() == {"app": 0, "resource": 0, "lost": 0}
            assert job.attempt == ROUNDS + 1
            assert {attempt.end for attempt in job.attempts} == {End.DRAINED, End.OK}


async def drain_all(stores: Stores, folder: Path, environ: dict[str, str]) -> None:
    """Every job runs in a process of its own; each process is told to stop, and gives its job back at once."""
    async with AsyncExitStack() as stack:
        roles = [a_role(folder / str(number), environ) for number in range(AT_ONCE)]
        await asyncio.gather(*(stack.enter_async_context(role) for role in roles))
        await until(lambda: all_are(stores, JobState.RUNNING), within=30)
        for role in roles:
            assert role.process is not None
            role.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*(role.stop() for role in roles))  # what a host answers to its request
    for job in await rows(stores):
        assert (job.state, job.attempts[-1].end, job.retries_at) == (JobState.QUEUED, End.DRAINED, None)
    counted = await stores.queue(kind_named(KIND).queue).counts()
    assert (counted.visible, counted.hidden) == (AT_ONCE, 0)
    assert not list(folder.glob("*/scratch-*/*"))  # noqa: ASYNC240 - a look
