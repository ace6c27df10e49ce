"""The command line under test: called in this process, or as a process of its own; and jobs in every state."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image
from typer.testing import CliRunner, Result

from rolehost import clock
from rolehost.cli.application import app
from rolehost.host.paths import DataDirectory
from rolehost.jobs import job as jobs
from rolehost.jobs.job import End, Job
from rolehost.jobs.submission import Submission, Submitter
from rolehost.jobs.table import TABLE, JobTable, new_token
from rolehost.stores import Stores
from rolehost.stores.connect import connect

ROOT = Path(__file__).resolve().parents[2]

_Value = TypeVar("_Value")


def invoke(*arguments: str | Path, answer: str | None = None) -> Result:
    """Call the command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=answer, prog_name="rolehost")


def environ(**variables: str) -> dict[str, str]:
    """The environment of a process of the command's own: nothing of rolehost's but what is named."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ROLEHOST_")}
    return inherited | {"PYTHONPATH": str(ROOT)} | variables


def start(*arguments: str | Path, cwd: Path, **variables: str) -> subprocess.Popen[str]:
    """Start the command as a process."""
    command = [sys.executable, "-m", "rolehost", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, env=environ(**variables), stdout=pipe, stderr=pipe, text=True)


def picture(path: Path, size: tuple[int, int] = (64, 48)) -> Path:
    """Write a small picture; its extension says the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 30, 30)).save(path)
    return path


def with_stores(data: Path, act: Callable[[Stores], Awaitable[_Value]]) -> _Value:
    """Do something with the stores of a data directory."""

    async def opened() -> _Value:
        DataDirectory.at(data)
        async with connect({"ROLEHOST_DATA": str(data)}) as stores:
            return await act(stores)

    return asyncio.run(opened())


async def submitted(stores: Stores, folder: Path, name: str = "photo.png", **asked: Any) -> Job:
    """A queued job."""
    return await Submitter(stores).submit(Submission(path=picture(folder / name), name=name, **asked))


async def ended(stores: Stores, job: Job, *ends: End, final: str = "", **facts: Any) -> Job:
    """The job once it has gone through attempts that ended so.

    Args:
        stores: where it is.
        job: a queued job.
        ends: how the attempts end; `ok` completes it.
        final: `fail` or `poison` after the last attempt.
        facts: of each attempt: exit_code, detail, stdout, stderr; and `result`, the name of what it made.
    """
    table = JobTable(stores.table(TABLE))
    name = facts.pop("result", "thumbnail.png")
    for end in ends:
        number = job.attempt + 1
        claim = await table.claim(
            job.spec,
            job.version,
            number=number,
            charges=job.charges,
            instance="ThumbnailBackend_IN_0",
            lease=60,
            token=new_token(),
        )
        attempt = replace(claim.attempt, end=end, ended_at=clock.now(), **facts)
        if end is End.OK:
            blob = await stores.blobs.put(f"results/{job.id}/{number}-{claim.token}/result", b"the result")
            made = jobs.Result(name=name, size=blob.size, sha256=blob.sha256, type="image/png", blob=blob.name)
            await table.complete(claim, attempt, made)
        elif final and number == len(ends):
            reason = attempt.detail or f"ended by {end}"
            if final == "fail":
                await table.fail(claim, attempt, reason=reason)
            else:
                await table.poison(job.id, claim.version, attempt, reason=reason)
        else:
            await table.retry(claim, attempt, retries_at=None)
        now = await table.read(job.id)
        assert now is not None
        job = now
    return job


async def poisoned(stores: Stores, folder: Path, name: str = "photo.png", **facts: Any) -> Job:
    """A job that spent its budget."""
    facts = {"exit_code": 3, "detail": "exit code 3: no such font", "stderr": "no such font\n"} | facts
    return await ended(stores, await submitted(stores, folder, name), *[End.APP_ERROR] * 5, final="poison", **facts)
