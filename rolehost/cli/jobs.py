"""`rolehost jobs`: the list of jobs."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from rolehost.cli.display import shown_progress
from rolehost.cli.opening import opened
from rolehost.cli.options import DATA, AsJson, Cursor, Data, Limit
from rolehost.cli.printing import fitted, one_line, print_json, print_table, shortened, shown_size, shown_time
from rolehost.jobs.job import Job, JobState
from rolehost.jobs.table import TABLE, JobPage, JobTable

# In a list; `--json` and `rolehost job` have the whole name.
_LONGEST_NAME = 60


def jobs(
    *,
    data: Data = DATA,
    state: Annotated[JobState | None, typer.Option("--state", help="Only the jobs in this state.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, the newest first."""
    print_page(asyncio.run(_page(data, state, limit, cursor)), as_json=as_json)


async def _page(data: Path, state: JobState | None, limit: int, cursor: str | None) -> JobPage:
    async with opened(data) as stores:
        return await JobTable(stores.table(TABLE)).list(state=state, limit=limit, cursor=cursor)


def print_page(page: JobPage, *, as_json: bool) -> None:
    """Write a page of jobs: as JSON `{"jobs": [...], "cursor": ...}`, else as a table; the way on goes to stderr."""
    if as_json:
        print_json({"jobs": [job.to_json() for job in page.jobs], "cursor": page.cursor})
        return
    if not page.jobs:
        print("no jobs", file=sys.stderr)
        return
    columns: Sequence[str] = ("ID", "STATE", "KIND", "SUBMITTED", "TRIES", "SOURCE", "OUTCOME")
    rows: Sequence[Sequence[str]] = [_row(job) for job in page.jobs]
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        spare = ("SUBMITTED", "TRIES", "KIND")
        columns, rows = fitted(columns, rows, width, spare=spare, shorten=("SOURCE", "OUTCOME"))
    print_table(columns, rows)
    if page.cursor:
        print(f"there are more: --cursor {page.cursor}", file=sys.stderr)


def _row(job: Job) -> tuple[str, ...]:
    submitted = shown_time(job.spec.submitted_at)
    source = shortened(one_line(job.spec.source.name), _LONGEST_NAME)
    return (job.id, job.state, job.spec.kind, submitted, str(job.attempt), source, outcome(job))


def outcome(job: Job) -> str:
    """What came of a job, or why nothing did."""
    if job.result:
        return f"{shortened(one_line(job.result.name), _LONGEST_NAME)} ({shown_size(job.result.size)})"
    if job.progress:
        return shown_progress(job)
    if job.reason:
        return job.reason
    return f"tried again at {shown_time(job.retries_at)}" if job.retries_at else ""
