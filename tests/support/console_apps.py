"""Workers around console applications of the tests' own, which know nothing of rolehost."""

from __future__ import annotations

from typing import Any

from rolehost.environment import RoleEnvironment
from rolehost.jobs.job import Job
from rolehost.processes import ChildIdentity
from rolehost.workers.console_app import ConsoleApp
from rolehost.workers.console_worker import ConsoleAppWorker
from support.jobs import KIND, Bench


def worker(bench: Bench, *argv: str, identity: ChildIdentity | None = None, **more: Any) -> ConsoleAppWorker:
    """A worker for an application, prepared as the role would."""

    class Worker(ConsoleAppWorker):
        kind = KIND
        app = ConsoleApp(argv, **more)

    made = Worker()
    made.role_environment = RoleEnvironment.for_testing()
    made._settings = bench.desk.settings
    made.identity = identity
    return made


def shell(bench: Bench, script: str, **more: Any) -> ConsoleAppWorker:
    """A worker whose application is a script with the arguments SOURCE and TARGET."""
    path = bench.folder / "application"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return worker(bench, str(path), "{source}", "{target}", **more)


async def outcome(bench: Bench, worker: ConsoleAppWorker, **more: Any) -> Job:
    """The row after one attempt on a job."""
    job = await bench.submit(**more)
    await bench.process(worker.attempt)
    return await bench.row(job.id)
