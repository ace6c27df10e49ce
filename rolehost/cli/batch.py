"""`rolehost batch NAME`: how a batch stands; cancel it, wait for it, fetch its results."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from rolehost.cli.batch_watching import check_results, outcome_of, print_batch, watched, write_results
from rolehost.cli.display import new_display
from rolehost.cli.failures import FAILED, complain
from rolehost.cli.opening import opened
from rolehost.cli.options import DATA, AsJson, Cursor, Data, Limit
from rolehost.cli.printing import one_line, print_json, print_table, shown_time
from rolehost.errors import BatchStateError, UnknownBatchError
from rolehost.jobs.batches import Batch, BatchTable
from rolehost.jobs.batches.driver import BatchDriver
from rolehost.jobs.batches.table import BatchPage
from rolehost.stores import Stores

CANCELLED_WITHIN = 60.0


def batch(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The batch's name, or its id; without it, all are listed.")
    ] = None,
    *,
    data: Data = DATA,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the batch is over.")] = False,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", min=0, help="Wait, but for so long at most.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option("--results", metavar="FILE.zip", dir_okay=False, help="Write the results that there are as ZIP."),
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Cancel all of it that has not ended.")] = False,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """Tell how a batch stands.

    Having waited, exits with 1 unless all of its jobs completed.
    """
    wait = wait or timeout is not None
    if name is None:
        if wait or results is not None or cancel:
            raise typer.BadParameter("--wait, --timeout, --results and --cancel need the name of a batch")
        _print_page(asyncio.run(_page(data, limit, cursor)), as_json=as_json)
        return
    if cancel and wait:
        raise typer.BadParameter("--cancel waits by itself: --wait and --timeout do not go with it")
    check_results(results)
    longest = CANCELLED_WITHIN if cancel else timeout
    found = asyncio.run(_look(data, name, _Wanted(results, longest, wait=wait, cancel=cancel)))
    print_json(found.to_json()) if as_json else print_batch(found)
    if wait and not found.all_completed:
        raise typer.Exit(FAILED)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is to be done with a batch: where its results go, for how long it is waited for, what for."""

    results: Path | None
    longest: float | None
    wait: bool
    cancel: bool


async def _look(data: Path, name: str, wanted: _Wanted) -> Batch:
    async with opened(data) as stores:
        table = BatchTable(stores)
        try:
            found = await table.named(name)
        except UnknownBatchError:
            raise UnknownBatchError(f"there is no batch {one_line(name)}") from None
        if wanted.cancel:
            await table.cancel(found.id)
        if wanted.wait or wanted.cancel:
            found = await _until_over(stores, found, wanted.longest)
        if wanted.results is not None:
            if found.items is None:
                raise BatchStateError(f"the batch {found.name} is {found.state}: it has no results yet")
            await write_results(stores, found, wanted.results)
        return found


async def _until_over(stores: Stores, batch: Batch, longest: float | None) -> Batch:
    with new_display() as display:
        async with BatchDriver(stores, f"command {os.getpid()}") as driver:
            driver.kick()
            found = await watched(BatchTable(stores), batch.id, display, longest=longest, wait=True)
    if not found.state.over:
        complain(f"the batch is still {found.state} after {longest:g} seconds ({outcome_of(found)})")
    return found


async def _page(data: Path, limit: int, cursor: str | None) -> BatchPage:
    async with opened(data) as stores:
        return await BatchTable(stores).list(limit=limit, cursor=cursor)


def _print_page(page: BatchPage, *, as_json: bool) -> None:
    if as_json:
        print_json({"batches": [each.to_json() for each in page.batches], "cursor": page.cursor})
        return
    if not page.batches:
        complain("no batches")
        return
    rows = [
        (each.name, each.state, each.asked.kind, shown_time(each.made_at), outcome_of(each)) for each in page.batches
    ]
    print_table(("NAME", "STATE", "KIND", "MADE", "ITEMS"), rows)
    if page.cursor:
        complain(f"there are more: --cursor {page.cursor}")
