"""`rolehost job ID`: one job's story."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rolehost.cli.display import bar, new_display, show_job, shown_progress
from rolehost.cli.opening import opened
from rolehost.cli.options import DATA, AsJson, Data
from rolehost.cli.printing import one_line, print_json, printable, shown_duration, shown_size, shown_time
from rolehost.cli.runs import blob_text
from rolehost.cli.waiting import Waiting
from rolehost.errors import RoleHostError, UnknownJobError
from rolehost.jobs.job import CAPS, Attempt, Job, Priority
from rolehost.jobs.parameters import text_of
from rolehost.jobs.poison.provenance import Provenance, provenance
from rolehost.jobs.table import TABLE, JobTable
from rolehost.jobs.webhook_deliveries import Delivery, delivery_of
from rolehost.stores import Stores
from rolehost.workers.output import archive

_BAR = 30


def job(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The job's id.")],
    attempt: Annotated[
        int | None,
        typer.Argument(metavar="[ATTEMPT]", help="With --output: which attempt's; by default the last one's."),
    ] = None,
    *,
    data: Data = DATA,
    output: Annotated[
        bool, typer.Option("--output", "-o", help="Print all that was kept of what an attempt has printed.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Wait until the job has ended; show how far it comes.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Tell a job's story: its attempts, how they ended, and what the console application printed."""
    if watch:
        asyncio.run(_watch(data, job_id))
    if output:
        asyncio.run(_print_output(data, job_id, attempt))
        return
    if attempt is not None:
        raise typer.BadParameter("a number of an attempt goes with --output")
    found, kin, delivery = asyncio.run(_read(data, job_id))
    if as_json:
        print_json(found.to_json())
        return
    for line in story(found, kin, delivery):
        print(line)


async def _watch(data: Path, job_id: str) -> None:
    """Until the job has ended."""
    async with opened(data) as stores:
        await _found(stores, job_id)
        with new_display() as display:
            await Waiting(JobTable(stores.table(TABLE)), [job_id], lambda _: None, partial(show_job, display)).run(None)


async def _read(data: Path, job_id: str) -> tuple[Job, Provenance, Delivery | None]:
    async with opened(data) as stores:
        found = await _found(stores, job_id)
        return found, await provenance(stores, found), await delivery_of(stores, found)


async def _found(stores: Stores, job_id: str) -> Job:
    found = await JobTable(stores.table(TABLE)).read(job_id)
    if found is None:
        raise UnknownJobError(f"no job has the id {one_line(job_id)}")
    return found


async def _print_output(data: Path, job_id: str, number: int | None) -> None:
    """Both streams: from the archive, or from the row where that holds all there is."""
    async with opened(data) as stores:
        attempts = (await _found(stores, job_id)).attempts
        chosen = [each for each in attempts if number is None or each.number == number]
        if not chosen:
            raise RoleHostError("the job has no attempt yet" if number is None else f"the job has no attempt {number}")
        attempt = chosen[-1]
        if attempt.log:
            async for text in blob_text(stores.blobs, attempt.log):
                sys.stdout.write(text)
        else:
            sys.stdout.write(printable(archive(attempt.stdout, attempt.stderr)))


def story(job: Job, kin: Provenance, delivery: Delivery | None = None) -> Iterator[str]:
    """All that there is to know of a job, line by line."""
    facts = [(name, value) for name, value in (*_facts(job), *_kin(kin), *_webhook(delivery)) if value]
    for name, value in facts:
        yield f"{name:<12}{one_line(value)}"
    for attempt in job.attempts:
        yield ""
        yield from _attempt(attempt)


def _facts(job: Job) -> Iterator[tuple[str, str]]:
    spec, source, result = job.spec, job.source, job.result
    charges = job.charges.to_json()
    yield "job", job.id
    yield "kind", spec.kind
    yield "group", spec.group
    yield "priority", "" if spec.priority is Priority.NORMAL else spec.priority
    yield "state", job.state
    yield "reason", job.reason
    yield "progress", _progress(job)
    known = (source.name, source.type, shown_size(source.size) if source.size else "")
    yield "source", ", ".join(text for text in known if text)
    yield "from", source.shown_url or ("" if source.kept else source.blob)
    yield "resources", ", ".join(f"{each.name} from {each.shown_url or each.blob}" for each in spec.resources)
    yield "parameters", ", ".join(f"{name}={text_of(value)}" for name, value in spec.parameters.items())
    yield "submitted", shown_time(spec.submitted_at)
    yield "started", shown_time(job.started_at)
    yield "finished", shown_time(job.finished_at)
    yield "next try", shown_time(job.retries_at)
    yield "charges", ", ".join(f"{name} {count} of {CAPS[name]}" for name, count in charges.items() if count)
    yield (
        "result",
        f"{result.name}, {result.type}, {shown_size(result.size)}, SHA-256 {result.sha256}" if result else "",
    )
    yield "batch", spec.batch or ""


def _progress(job: Job) -> str:
    return f"{bar(float(job.progress['percent']), _BAR)} {shown_progress(job)}" if job.progress else ""


def _kin(kin: Provenance) -> Iterator[tuple[str, str]]:
    for name, chain in (("replays", kin.origins), ("replayed as", kin.replays)):
        yield name, ", ".join(f"{each.id} ({each.state or 'removed'})" for each in chain)


def _webhook(delivery: Delivery | None) -> Iterator[tuple[str, str]]:
    if delivery is not None:
        again = f"tried again at {shown_time(delivery.next_at)}" if delivery.next_at else ""
        words = (delivery.to, delivery.state.replace("_", " "), delivery.why, again)
        yield "webhook", ", ".join(word for word in words if word)


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
