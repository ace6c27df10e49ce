"""`rolehost cancel`: jobs that need not be done any more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from rolehost.cli.failures import FAILED, complain
from rolehost.cli.opening import opened
from rolehost.cli.options import DATA, Data
from rolehost.cli.printing import one_line
from rolehost.errors import RoleHostError
from rolehost.jobs.cancellation import cancel as cancel_job
from rolehost.jobs.table import TABLE, JobTable


def cancel(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Queued or running jobs.")],
    *,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept with the job.")] = "",
    data: Data = DATA,
) -> None:
    """Cancel jobs: what waits is never run, what runs is stopped."""
    if not asyncio.run(_cancel_all(data, list(dict.fromkeys(ids)), reason)):
        raise typer.Exit(FAILED)


async def _cancel_all(data: Path, ids: list[str], reason: str) -> bool:
    """Cancel each; one that refuses is told on stderr, and the answer is then False."""
    complete = True
    async with opened(data) as stores:
        jobs = JobTable(stores.table(TABLE))
        for job_id in ids:
            try:
                await cancel_job(jobs, job_id, reason=reason)
                print(f"{job_id} is cancelled", flush=True)
            except RoleHostError as error:
                complain(one_line(str(error)))
                complete = False
    return complete
