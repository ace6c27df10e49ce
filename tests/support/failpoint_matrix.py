"""Every failpoint crossed with every strike, in real role processes; each combination is judged by its history.

A point is one run: a role process that is struck at it, job by job (error, lost answer, delay, at last a kill), and
another one that goes on where the first was killed. Runs work side by side, each on stores of its own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rolehost.environment import LocalResource
from rolehost.errors import KeyInFlightError
from rolehost.jobs.job import Job, new_id
from rolehost.jobs.kinds import kind_named
from rolehost.jobs.submission import Submission, Submitter
from rolehost.jobs.table import TABLE, JobTable
from rolehost.jobs.wake_up import WakeUp
from rolehost.stores import Stores
from rolehost.stores.connect import connect
from support.failpoints import DELAY, LEASE, STRUCK, VARIABLE
from support.history import Figures, check
from support.jobs import until
from support.role_process import ROOT, HostedRole, a_snapshot
from support.service import command_line

KIND = "strike"
ACTIONS = ("error", "lost", "delay", "kill")
INSTANCE = "Worker_IN_0"
PATIENCE = 60.0
SETTINGS = {
    "Worker.Slots": "4",
    "Worker.LeaseSeconds": f"{LEASE:g}",
    "Worker.RetryBaseSeconds": "0.1",
    "Worker.RetryMaxSeconds": "0.2",
    "Worker.TermGraceSeconds": "0.5",
    "Worker.DiskFloorBytes": "0",
    "Recovery.IntervalSeconds": "0.5",
}
ROLE = f"""
from rolehost import ConsoleApp, ConsoleAppWorker
from support import failpoints

failpoints.load()


class Worker(ConsoleAppWorker):
    kind = "{KIND}"
    app = ConsoleApp(("sh", "-c", 'read -r s < "$0"; sleep "$s"; exec cp "$0" "$1"', "{{source}}", "{{target}}"))
"""


@dataclass(frozen=True, slots=True)
class Point:
    """A failpoint, and how a job gets there.

    Args:
        name: in the code.
        way: `work`, `submit`, `forgotten` (a dead lease without a message) or `garbage` (a result that no row names).
        seconds: how long the application runs.
        actions: what it is struck with, the kill last.
        engines: those that cross it; empty for all.
    """

    name: str
    way: str = "work"
    seconds: float = 0.0
    actions: tuple[str, ...] = ACTIONS
    engines: tuple[str, ...] = ()


POINTS: Sequence[Point] = (
    Point("after-receive"),
    Point("before-claim"),
    Point("after-claim"),
    Point("mid-download", engines=("embedded",)),
    Point("before-spawn"),
    Point("before-renew", seconds=1.2),
    Point("after-renew", seconds=1.2),
    Point("after-exit"),
    Point("before-upload"),
    Point("mid-upload", engines=("embedded",)),
    Point("after-upload"),
    Point("before-commit"),
    Point("after-commit"),
    Point("before-settle"),
    Point("after-settle"),
    Point("before-cleanup", actions=("error", "delay", "kill")),  # no store is called: no answer can be lost
    Point("after-input", way="submit"),
    Point("after-row", way="submit", engines=("embedded",)),
    Point("before-put", way="submit"),
    Point("after-put", way="submit"),
    Point("after-submit", way="submit"),
    Point("before-wake", way="forgotten"),
    Point("after-wake", way="forgotten"),
    Point("before-collect", way="garbage"),
)


def points(engine: str, *, actions_each: int = len(ACTIONS)) -> list[Point]:
    """The points that an engine crosses.

    Args:
        engine: its name.
        actions_each: with how many actions, of those that a point has; one: another one at each point in turn.
    """
    chosen = []
    for number, point in enumerate(each for each in POINTS if not each.engines or engine in each.engines):
        turned = point.actions[number % len(point.actions) :] + point.actions[: number % len(point.actions)]
        kept = [action for action in point.actions if action in turned[:actions_each]]
        chosen.append(Point(point.name, point.way, point.seconds, tuple(kept)))
    return chosen


@dataclass(eq=False)
class Run:
    """A point's run."""

    point: Point
    folder: Path
    environ: Mapping[str, str]
    stores: Stores
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def queue(self) -> Any:
        return self.stores.queue(kind_named(KIND).queue)

    @property
    def jobs(self) -> JobTable:
        return JobTable(self.stores.table(TABLE))

    @property
    def scratch(self) -> Path:
        return self.folder / "scratch"

    def note(self, event: str, **facts: Any) -> None:
        self.events.append({"event": event, "at": time.time(), **facts})

    def struck(self) -> dict[str, str]:
        """The action that each job met."""
        path = self.folder / "struck"
        lines = path.read_text().splitlines() if path.exists() else []
        return {line.split()[2]: line.split()[1] for line in lines}

    def role(self, orders: str) -> HostedRole:
        """A role process, on a scratch directory that is prepared as its host prepares it."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        resources = {"Scratch": LocalResource("Scratch", str(self.scratch), 100)}
        return HostedRole(
            self.folder,
            ROLE,
            snapshot=a_snapshot(settings=SETTINGS, local_resources=resources),
            environ={**self.environ, **self.variables(orders)},
        )

    def variables(self, orders: str) -> dict[str, str]:
        paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
        return {"PYTHONPATH": paths, STRUCK: str(self.folder / "struck"), VARIABLE: orders}

    def orders(self, actions: Sequence[str]) -> str:
        return ",".join(f"{self.point.name}:{action}" for action in actions)

    def asset(self) -> Path:
        path = self.folder / f"asset-{new_id()}"
        path.write_text(f"{self.point.seconds:g}\n{path.name}\n")
        return path

    async def submit(self) -> Job:
        job_id = new_id()
        self.note("asked", job=job_id)
        asked = Submission(path=self.asset(), name="asset.txt", kind=KIND)
        job = await Submitter(self.stores).place(asked, job_id, {}, "text/plain")
        self.note("accepted", job=job_id)
        return job

    async def row(self, job_id: str) -> Job | None:
        job = await self.jobs.read(job_id)
        if job is not None:
            self.note("row", job=job.to_json(), blob=job.result.blob if job.result else None)
        return job

    async def over(self, *jobs: str) -> None:
        async def are_over() -> bool:
            rows = [await self.row(job) for job in jobs]
            return all(row is not None and row.state.terminal for row in rows)

        await until(are_over, within=PATIENCE)

    async def met(self, count: int) -> None:
        async def enough() -> bool:
            return len(self.struck()) >= count

        await until(enough, within=PATIENCE)

    async def settled(self) -> None:
        """Wait until nothing is left that goes by itself: messages, scratch directories, unnamed results."""

        async def quiet() -> bool:
            counted = await self.queue.counts()
            waits = counted.visible or counted.hidden or (counted.visible is None and await self.queue.peek(1))
            return not (waits or any(self.scratch.iterdir()) or await self.unnamed())

        await until(quiet, within=PATIENCE / 2)

    async def unnamed(self) -> list[str]:
        names = (await self.stores.blobs.list("results/")).names
        rows = [(name, await self.jobs.read(name.split("/")[1])) for name in names]
        return [name for name, job in rows if not (job and job.result and job.result.blob == name)]

    async def look_around(self) -> None:
        """Write down what is left."""
        names = (await self.stores.blobs.list("results/")).names
        dead = await self.queue.peek(1000, dead=True)
        self.note(
            "left",
            results={name: (await self.stores.blobs.facts(name)).sha256 for name in names},
            dead=[WakeUp.decode(message.body).job for message in dead],
            scratch=[str(path) for path in self.scratch.iterdir()],
            processes=[str(pid) for pid in _processes_of(self.folder)],
        )


def _processes_of(folder: Path) -> list[int]:
    """Applications that still run on something of this folder."""
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if f"{folder}/scratch/" in command_line(pid)]


async def _work(run: Run) -> None:
    """Jobs are struck one after the other; the one that is killed, last."""
    jobs: list[str] = []
    async with run.role(run.orders(run.point.actions)) as role:
        for action in run.point.actions:
            if action == "kill":
                await run.over(*jobs)
            jobs.append((await run.submit()).id)
            await run.met(len(jobs))
        await _end(run, role, jobs)
    await run.look_around()


async def _end(run: Run, role: HostedRole, jobs: Sequence[str]) -> None:
    """Wait for the end of all; where the role was killed, another one takes its place."""
    if "kill" not in run.point.actions:
        await _finish(run, role, jobs)
        return
    assert await role.end() == -signal.SIGKILL
    run.note("killed", instance=INSTANCE, what="role")
    async with run.role("") as other:
        await _finish(run, other, jobs)


async def _finish(run: Run, role: HostedRole, jobs: Sequence[str]) -> None:
    try:
        await run.over(*jobs)
        if run.point.actions[-1] == "delay":  # who stands still longer than the job lasts still leaves something
            await asyncio.sleep(DELAY)
        await run.settled()
    except AssertionError:
        run.note("stderr", text=role.stderr)
    assert await role.stop() == 0, role.stderr
    for job in jobs:  # what is over has stayed as it was
        await run.row(job)


async def _submit(run: Run) -> None:
    """A client's process is struck at the point; the client repeats its request with the same key."""
    jobs: set[str] = set()
    for action in run.point.actions:
        asset, key = run.asset(), new_id()
        environ = {**os.environ, **run.environ, **run.variables(run.orders([action]))}
        argv = [sys.executable, "-m", "support.failpoint_client", str(asset), KIND, key]
        client = await asyncio.create_subprocess_exec(*argv, env=environ, stderr=asyncio.subprocess.DEVNULL)
        await client.wait()
        asked = Submission(path=asset, name="asset.txt", kind=KIND, key=key)
        accepted = await _repeated(run, asked)
        jobs.add(accepted.id)
        run.note("asked", job=accepted.id)
        run.note("accepted", job=accepted.id)
    async with run.role("") as role:
        await _finish(run, role, sorted(jobs))
    for job in (await run.jobs.list(limit=500)).jobs:
        await run.row(job.id)
    await run.look_around()


async def _repeated(run: Run, asked: Submission) -> Job:
    accepted: list[Job] = []

    async def answered() -> bool:
        try:
            accepted.append(await Submitter(run.stores).submit(asked))
        except KeyInFlightError:
            return False
        return True

    await until(answered, within=PATIENCE)
    return accepted[0]


async def _forgotten(run: Run) -> None:
    """Leases that are dead, and whose messages are lost: only recovery finds them.

    One more than actions: the answer that a strike loses may be that of the next one's wake-up, which so never comes
    past the point.
    """
    jobs = [await run.submit() for _ in range(len(run.point.actions) + 1)]
    for job in jobs:
        await _abandon(run, job)
    async with run.role(run.orders(run.point.actions)) as role:
        await run.met(len(run.point.actions))
        await _end(run, role, [job.id for job in jobs])
    await run.look_around()


async def _abandon(run: Run, job: Job) -> None:
    (message,) = await run.queue.receive(1, hide=30, wait=5)
    await run.jobs.claim(
        job.spec,
        job.version,
        number=1,
        charges=job.charges,
        instance="Gone_IN_9",
        lease=LEASE,
        token=os.urandom(8).hex(),
    )
    await run.queue.complete(message)


async def _garbage(run: Run) -> None:
    """Results that no row names, of jobs that are over."""
    jobs: list[str] = []
    async with run.role(run.orders(run.point.actions)) as role:
        for _ in run.point.actions:
            jobs.append((await run.submit()).id)
            await run.over(*jobs)
            await run.stores.blobs.put(f"results/{jobs[-1]}/9-gone/result", b"of an attempt that lost")
            await run.met(len(jobs))
        await _end(run, role, jobs)
    await run.look_around()


WAYS: Mapping[str, Callable[[Run], Awaitable[None]]] = {
    "work": _work,
    "submit": _submit,
    "forgotten": _forgotten,
    "garbage": _garbage,
}


async def run_point(point: Point, folder: Path, environ: Mapping[str, str]) -> list[str]:
    """One point with its actions; what was wrong, each with the name of its combination."""
    folder.mkdir()  # noqa: ASYNC240 - once
    async with connect(environ) as stores:
        run = Run(point, folder, environ, stores)
        try:
            await WAYS[point.way](run)
        except (AssertionError, ValueError) as error:
            return [f"{point.name}: {error} {run.struck()} {[e for e in run.events if e['event'] == 'stderr']}"]
    struck = run.struck()
    missing = set(point.actions) - set(struck.values())
    wrong = [f"{point.name}:{action}: it was never struck" for action in sorted(missing)]
    wrong += [f"{point.name}:{_named(struck, what)}: {what}" for what in _judged(check(run.events))]
    return wrong + [f"{point.name}:{struck.get(job, '?')}: it cost {cost}" for job, cost in _overpaid(run, struck)]


def _overpaid(run: Run, struck: Mapping[str, str]) -> list[tuple[str, Mapping[str, int]]]:
    """Jobs that were charged more than their strike may cost: stores that fail cost nothing, a lost worker one."""
    last = {event["job"]["id"]: event["job"]["charges"] for event in run.events if event["event"] == "row"}
    before = 2 if run.point.way == "forgotten" else 0  # the attempt that was abandoned, and one beside the kill
    most = {job: before + (0 if struck.get(job) in {"error", "lost"} else 1) for job in last}
    return [(job, cost) for job, cost in last.items() if cost["app"] or cost["resource"] or cost["lost"] > most[job]]


def _judged(figures: Figures) -> list[str]:
    return [line for line in figures.lines() if not line.startswith(("ran", "recovery")) and ": 0" not in line]


def _named(struck: Mapping[str, str], what: str) -> str:
    """The actions whose jobs a figure names."""
    named = [action for job, action in struck.items() if job in what]
    return "+".join(named) or "?"


async def run_matrix(chosen: Sequence[Point], folder: Path, environ: Callable[[Path], Mapping[str, str]]) -> list[str]:
    """All points, as many at once as two processors bear; what was wrong."""
    room = asyncio.Semaphore(8)

    async def one(point: Point) -> list[str]:
        async with room:
            place = folder / point.name
            return await run_point(point, place, environ(place))

    found = await asyncio.gather(*(one(point) for point in chosen))
    return [what for each in found for what in each]
