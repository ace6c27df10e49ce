"""`rolehost poison list|replay|purge`: the jobs that were set aside."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from rolehost.cli.failures import FAILED, complain
from rolehost.cli.jobs import print_page
from rolehost.cli.opening import opened
from rolehost.cli.options import DATA, AsJson, Cursor, Data, Limit
from rolehost.cli.printing import one_line, print_json
from rolehost.errors import RoleHostError
from rolehost.jobs.job import Job
from rolehost.jobs.poison import PoisonDesk
from rolehost.jobs.table import JobPage

app = typer.Typer(no_args_is_help=True, help="List, replay or purge poisoned jobs.", rich_markup_mode=None)

Ids: TypeAlias = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Poisoned or failed jobs.")]
All: TypeAlias = Annotated[bool, typer.Option("--all", help="Take all poisoned jobs.")]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]

_PAGE = 500


@app.command("list")
def list_poisoned(
    *,
    data: Data = DATA,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """List poisoned jobs, the newest first."""

    async def page() -> JobPage:
        async with opened(data) as stores:
            return await PoisonDesk(stores).list(limit=limit, cursor=cursor)

    print_page(asyncio.run(page()), as_json=as_json)


@app.command()
def replay(
    ids: Ids = None,
    *,
    everything: All = False,
    data: Data = DATA,
    as_json: AsJson = False,
) -> None:
    """Submit jobs again, each as a new job that names its origin; the old ones stay as they are."""
    new: list[Job] = []

    async def one(desk: PoisonDesk, job_id: str) -> None:
        new.append(await desk.replay(job_id))
        if not as_json:
            print(f"{job_id} is replayed as {new[-1].id}", flush=True)

    wanted = _chosen(data, ids, everything=everything)
    complete = asyncio.run(_for_each(data, wanted, one))
    if as_json:
        print_json({"jobs": [job.to_json() for job in new]})
    if not complete:
        raise typer.Exit(FAILED)


@app.command()
def purge(
    ids: Ids = None,
    *,
    everything: All = False,
    yes: Yes = False,
    data: Data = DATA,
) -> None:
    """Remove jobs for good, with their files."""

    async def one(desk: PoisonDesk, job_id: str) -> None:
        await desk.purge(job_id)
        print(f"{job_id} is purged", flush=True)

    wanted = _chosen(data, ids, everything=everything)
    if wanted and not yes:
        number = "1 job" if len(wanted) == 1 else f"{len(wanted)} jobs"
        if not _agreed(f"Remove {number} for good?"):
            complain("nothing was purged")
            raise typer.Exit(FAILED)
    if not asyncio.run(_for_each(data, wanted, one)):
        raise typer.Exit(FAILED)


def _agreed(question: str) -> bool:
    """Ask on stderr; whatever isn't yes is no, also the end of the input."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _chosen(data: Path, ids: list[str] | None, *, everything: bool) -> list[str]:
    """The ids that are meant, the oldest job first where all are."""
    if bool(ids) == everything:
        raise typer.BadParameter("name the jobs by their ids, or all poisoned ones by --all")
    return list(dict.fromkeys(ids)) if ids else asyncio.run(_all_ids(data))


async def _all_ids(data: Path) -> list[str]:
    ids: list[str] = []
    async with opened(data) as stores:
        desk, cursor = PoisonDesk(stores), None
        while True:
            page = await desk.list(limit=_PAGE, cursor=cursor)
            ids += [job.id for job in page.jobs]
            if (cursor := page.cursor) is None:
                return sorted(ids)


async def _for_each(data: Path, ids: list[str], act: Callable[[PoisonDesk, str], Awaitable[None]]) -> bool:
    """Act on every job; one that refuses is told on stderr, and the answer is then False."""
    if not ids:
        print("no job is poisoned", file=sys.stderr)
        return True
    complete = True
    async with opened(data) as stores:
        desk = PoisonDesk(stores)
        for job_id in ids:
            try:
                await act(desk, job_id)
            except RoleHostError as error:
                complain(one_line(str(error)))
                complete = False
    return complete
