"""A service whose roles strike themselves at a named call of their stores, and what is left then.

Its stores are real; its roles open them inside a wrapper that reads the order of a test (role, call, moment, signal)
and carries it out once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rolehost.jobs.job import Job, JobState, new_id
from rolehost.jobs.kinds import kind_named
from rolehost.jobs.submission import Submission, Submitter
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores import Stores
from support.engines import EMBEDDED, Engine
from support.jobs import until
from support.service import Service, marked

LEASE = 2.0
KIND = "script"
ROLES = """
import asyncio, os, resource, signal
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from rolehost import ConsoleApp, ConsoleAppWorker
from rolehost.frontend import role
from rolehost.stores.combined import transactions
from rolehost.stores.connect import connect
from rolehost.testing import Faults, FaultyStores
from rolehost.workers import queue_worker

HERE = Path(__file__).parent
held = []
opened = []


class Points(Faults):
    async def around(self, call, work):
        strike(call, "before")
        answer = await (watched(call, work()) if call in {"blobs.put", "blobs.download"} else work())
        if answer or call != "queue.receive":
            strike(call, "after")
        return answer


async def watched(call, work):
    sent = requests()
    working = asyncio.ensure_future(work)
    try:
        while not working.done():
            if begun() or requests() > sent + 1:
                strike(call, "during")
            await asyncio.sleep(0)
        return await working
    finally:
        working.cancel()


def requests():
    # A blob of some size goes to a server in several.
    return transactions(opened[0]).get("blob", 0) if opened else 0


def begun():
    # Whether a file is being written by a blob store, here or into a scratch directory.
    if held:
        return False
    for pattern in ("blobs/.tmp/*", "resources/*/Scratch/*/source*"):
        for path in (HERE / "data").glob(pattern):
            with suppress(OSError):
                if path.is_file() and path.stat().st_size:
                    return True
    return False


def strike(call, moment):
    if held:
        release_descriptors()
        return
    with suppress(FileNotFoundError):
        wanted = (HERE / "order").read_text().split()
        if wanted[:3] == [os.environ["RoleName"], call, moment]:
            (HERE / "order").rename(HERE / f"struck.{os.getpid()}")
            take_descriptors() if wanted[3] == "descriptors" else os.kill(os.getpid(), int(wanted[3]))


def take_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    with suppress(OSError):
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))


def release_descriptors():
    if not (HERE / "hold").exists():
        while held:
            os.close(held.pop())


@asynccontextmanager
async def connected(environ):
    async with connect(environ) as stores:
        opened.append(stores)
        yield FaultyStores(stores, Points())


role.connect = queue_worker.connect = connected
FrontEnd = role.ThumbnailFrontend


class Worker(ConsoleAppWorker):
    kind = "script"
    app = ConsoleApp(("sh", "{source}", "{target}"))
"""
SERVICE = f"""
[service]
name = "faults"
drain_seconds = 5
recycle_seconds = 0.2
heartbeat_seconds = 300  # a role that a test stops must be there when it wakes, however slow the machine is

[roles.FrontEnd]
entry_point = "roles:FrontEnd"
[roles.FrontEnd.endpoints.Http]
protocol = "http"
port = 8080

[roles.Worker]
entry_point = "roles:Worker"
instances = 2
[roles.Worker.settings]
"Worker.Slots" = 1
"Worker.LeaseSeconds" = {LEASE:g}
"Worker.RetryBaseSeconds" = 0.2
"Worker.RetryMaxSeconds" = 0.3
"Worker.TermGraceSeconds" = 0.5
"Worker.PollSeconds" = 0.5
"Recovery.IntervalSeconds" = 0.5
[roles.Worker.local_resources.Scratch]
size_in_mb = 200

[roles.Thumbnails]
entry_point = "rolehost.workers.thumbnail:ThumbnailWorker"
"""
GOOD = 'cp "$0" "$1"; exit 0\n'


@dataclass(frozen=True)
class Site:
    """A service whose roles strike themselves, and its stores."""

    service: Service
    stores: Stores

    def order(self, role: str, call: str, moment: str, strike: int | str) -> None:
        """Strike once, where the role comes to this moment of this call."""
        made = self.service.directory / "order.new"
        made.write_text(f"{role} {call} {moment} {strike}")
        made.rename(self.service.directory / "order")

    async def struck(self) -> int:
        """Wait until the order was carried out; by which process."""

        async def found() -> bool:
            return any(self.service.directory.glob("struck.*"))

        await until(found, within=30)
        (path,) = self.service.directory.glob("struck.*")
        path.unlink()
        return int(path.suffix[1:])

    async def submit(self, script: str = GOOD, padding: int = 0) -> Job:
        """A job whose console application is the asset itself, a script that is called with the target."""
        asset = self.service.directory / f"asset-{new_id()}"
        asset.write_text(script + "#" * padding)
        return await Submitter(self.stores).place(
            Submission(path=asset, name="asset.sh", kind=KIND, consume=True), new_id(), {}, "text/plain"
        )

    async def row(self, job: Job) -> Job:
        """The job as it is now."""
        found = await JobTable(self.stores.table(TABLE)).read(job.id)
        assert found is not None
        return found

    async def over(self, job: Job, state: JobState = JobState.COMPLETED) -> Job:
        """Wait until a job is over; how it is then."""

        async def is_over() -> bool:
            return (await self.row(job)).state.terminal

        await until(is_over, within=60)
        found = await self.row(job)
        assert (found.state, found.reason if state is JobState.COMPLETED else "") == (state, "")
        return found

    async def left(self, job: Job) -> list[str]:
        """Result blobs of a job."""
        return list((await self.stores.blobs.list(f"results/{job.id}/")).names)

    async def dead(self) -> list[Any]:
        """What was set aside, oldest first."""
        return list(await self.stores.queue(kind_named(KIND).queue).peek(1000, dead=True))

    async def settles(self) -> None:
        """Wait until no message and no scratch directory is left."""

        async def settled() -> bool:
            queue = self.stores.queue(kind_named(KIND).queue)
            counted = await queue.counts()
            waits = counted.visible or counted.hidden or (counted.visible is None and await queue.peek(1))
            return not (waits or self.service.scratch())

        await until(settled, within=30)


@contextmanager
def striking_service(folder: Path, engine: Engine = EMBEDDED) -> Iterator[Service]:
    """The service, from the block's beginning to its end; it leaves nothing behind."""
    (folder / "roles.py").write_text(ROLES)
    service = Service(folder, engine.environ(folder))
    service.define(SERVICE)
    try:
        service.start()
        yield service
        assert service.stop() == 0
        assert service.scratch() == []
        assert marked(service.data) == []
    finally:
        service.close()


@asynccontextmanager
async def opened(service: Service, engine: Engine = EMBEDDED) -> AsyncIterator[Site]:
    """The service with its stores; an order that was not carried out is taken back."""
    async with engine.open(service.directory) as stores:
        yield Site(service, stores)
        with suppress(FileNotFoundError):
            (service.directory / "order").unlink()


async def gone(pid: int) -> bool:
    """Whether a process is no more, or only its remains."""
    return state_of(pid) in "XZ"


def state_of(pid: int) -> str:
    """A process's state as the system has it; X where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"
