"""`rolehost job ID`: one job's story."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from rolehost.cli.opening import opened
from rolehost.cli.options import DATA, AsJson, Data
from rolehost.cli.printing import one_line, print_json, printable, shown_duration, shown_size, shown_time
from rolehost.errors import UnknownJobError
from rolehost.jobs.job import CAPS, Attempt, Job
from rolehost.jobs.table import TABLE, JobTable


def job(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The job's id.")],
    *,
    data: Data = DATA,
    as_json: AsJson = False,
) -> None:
    """Tell a job's story: its attempts, how they ended, and what the console application printed."""
    found = asyncio.run(_read(data, job_id))
    if as_json:
        print_json(found.to_json())
        return
    for line in _story(found):
        print(line)


async def _read(data: Path, job_id: str) -> Job:
    async with opened(data) as stores:
        found = await JobTable(stores.table(TABLE)).read(job_id)
    if found is None:
        raise UnknownJobError(f"no job has the id {one_line(job_id)}")
    return found


def _story(job: Job) -> Iterator[str]:
    facts = [(name, value) for name, value in _facts(job) if value]
    for name, value in facts:
        yield f"{name:<12}{one_line(value)}"
    for attempt in job.attempts:
        yield ""
        yield from _attempt(attempt)


def _facts(job: Job) -> Iterator[tuple[str, str]]:
    spec, source, result = job.spec, job.spec.source, job.result
    charges = job.charges.to_json()
    yield "job", job.id
    yield "kind", spec.kind
    yield "state", job.state
    yield "reason", job.reason
    yield "source", f"{source.name}, {source.type}, {shown_size(source.size)}"
    yield "parameters", ", ".join(f"{name}={value}" for name, value in spec.parameters.items())
    yield "submitted", shown_time(spec.submitted_at)
    yield "started", shown_time(job.started_at)
    yield "finished", shown_time(job.finished_at)
    yield "next try", shown_time(job.retries_at)
    yield "charges", ", ".join(f"{name} {count} of {CAPS[name]}" for name, count in charges.items() if count)
    yield (
        "result",
        f"{result.name}, {result.type}, {shown_size(result.size)}, SHA-256 {result.sha256}" if result else "",
    )
    yield "replays", spec.origin or ""
    yield "batch", spec.batch or ""


def _attempt(attempt: Attempt) -> Iterator[str]:
    words = [attempt.end or "running"]
    if attempt.exit_code is not None:
        words.append(f"signal {-attempt.exit_code}" if attempt.exit_code < 0 else f"exit code {attempt.exit_code}")
    if lasted := shown_duration(attempt.started_at, attempt.ended_at):
        words.append(f"after {lasted}")
    if attempt.end and attempt.end.charged_to:
        words.append(f"charged to {attempt.end.charged_to}")
    yield f"attempt {attempt.number}: {', '.join(words)}"
    yield f"  {shown_time(attempt.started_at)} on {one_line(attempt.instance) or 'an unnamed instance'}"
    if attempt.detail:
        yield f"  {one_line(attempt.detail)}"
    for name, text in (("stdout", attempt.stdout), ("stderr", attempt.stderr)):
        if text.strip():
            yield f"  {name}:"
            yield from (f"    {line}" for line in printable(text).rstrip().splitlines())
