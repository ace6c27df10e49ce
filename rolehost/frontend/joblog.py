"""A job's log as text: each attempt with what the console application printed."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from rolehost import clock
from rolehost.errors import NotFoundError
from rolehost.frontend.views import plain, took

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rolehost.jobs.job import Attempt, Job
    from rolehost.stores import Blobs


async def job_log(job: Job, blobs: Blobs) -> AsyncIterator[str]:
    """The log in pieces; control characters are shown as pictures of themselves, so that it moves no terminal."""
    if not job.attempts:
        yield f"job {job.id} is {job.state}; no attempt has been made yet\n"
    for number, attempt in enumerate(job.attempts):
        if number:
            yield "\n"
        yield heading(attempt) + "\n"
        if attempt.detail:
            yield plain(attempt.detail) + "\n"
        if attempt.log:
            async for piece in _archived(attempt, blobs):
                yield piece
        else:
            yield _sections(attempt)


def heading(attempt: Attempt) -> str:
    """`== attempt 2: app_error, exit code 3, 0.4 s, 2026-11-20T12:00:00.000Z to ..., ThumbnailBackend_IN_0`."""
    facts = [attempt.end or "running"]
    if attempt.exit_code is not None:
        facts.append(f"exit code {attempt.exit_code}")
    if attempt.ended_at:
        facts.append(took(attempt))
        facts.append(f"{clock.iso(attempt.started_at)} to {clock.iso(attempt.ended_at)}")
    else:
        facts.append(f"since {clock.iso(attempt.started_at)}")
    if attempt.instance:
        facts.append(plain(attempt.instance))
    return f"== attempt {attempt.number}: {', '.join(facts)}"


def _sections(attempt: Attempt) -> str:
    """Both streams; the archived output has the same form."""
    told = ""
    for name, text in (("stdout", plain(attempt.stdout)), ("stderr", plain(attempt.stderr))):
        if text:
            told += f"--- {name}\n{text}" + ("" if text.endswith("\n") else "\n")
    return told


async def _archived(attempt: Attempt, blobs: Blobs) -> AsyncIterator[str]:
    """All that was kept of an attempt's output, where the row holds head and tail only."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    last = "\n"
    try:
        async for piece in blobs.stream(attempt.log):
            if text := plain(decoder.decode(piece)):
                last = text
                yield text
    except NotFoundError:
        yield _sections(attempt)
    if not last.endswith("\n"):
        yield "\n"
