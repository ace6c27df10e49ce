"""Watching a batch until it is over, writing its results, telling of it."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from contextlib import aclosing, suppress
from pathlib import Path

import typer

from rolehost import clock
from rolehost.cli.display import Display
from rolehost.cli.printing import one_line, print_table, shown_duration, shown_time
from rolehost.errors import RoleHostError
from rolehost.jobs.batches import Batch, BatchState, BatchTable
from rolehost.jobs.batches.archive import results_zip
from rolehost.stores import Stores

_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.1, 1.0, 1.3
BEGINS_WITHIN = 10.0
"""Seconds that a command which does not wait gives a batch to begin: then any service goes on with it."""


async def watched(table: BatchTable, batch: str, display: Display, *, longest: float | None, wait: bool) -> Batch:
    """Look at a batch until it is over; or, without `wait`, until it has begun.

    Args:
        table: where it is.
        batch: its id.
        display: shows how far it has come.
        longest: seconds; None for as long as it takes.
        wait: until it is over.
    """
    longest = longest if wait else BEGINS_WITHIN
    deadline = None if longest is None else clock.monotonic() + longest
    pause = _FIRST_PAUSE
    while True:
        now = await table.get(batch)
        if now.items and wait:
            display.show("ended", now.ended, now.items)
        begun = now.begun > 0 and now.state is BatchState.RUNNING
        if now.state.over or (begun and not wait):
            return now
        if deadline is not None and clock.monotonic() >= deadline:
            return now
        await clock.sleep(pause)
        pause = min(pause * _GROWTH, _LONGEST_PAUSE)


def check_results(path: Path | None) -> None:
    """Refuse a file for the results that can't be made, before anybody waits for them.

    Raises:
        BadParameter: its folder isn't there, nothing can be made in it, or something else than a file has the name.
    """
    if path is None:
        return
    if not os.access(path.parent, os.W_OK | os.X_OK):
        why = "nothing can be written into" if path.parent.is_dir() else "there is no folder"
        raise typer.BadParameter(f"{why} {path.parent}", param_hint="--results")
    if path.exists() and not path.is_file():  # the whole ZIP takes the place of what has its name, be it a device
        raise typer.BadParameter(f"{path} is no regular file", param_hint="--results")


async def write_results(stores: Stores, batch: Batch, path: Path) -> None:
    """Write the ZIP; it has its name once it is whole.

    Raises:
        RoleHostError: the file can't be written.
        StoreError: a result broke off.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        async with aclosing(results_zip(stores, batch)) as pieces:
            async for piece in pieces:
                await asyncio.to_thread(_append, partial, piece)
        partial.replace(path)
    except OSError as error:
        raise RoleHostError(f"the results can't be written into {path}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _append(path: Path, piece: bytes) -> None:
    with path.open("ab") as file:
        file.write(piece)


def outcome_of(batch: Batch) -> str:
    """`998 completed, 2 failed`."""
    return ", ".join(f"{count} {state}" for state, count in batch.tally.items() if count) or "no items"


def print_batch(batch: Batch) -> None:
    """All that there is to know of it."""
    then = batch.asked.then
    told = (
        ("batch", one_line(batch.name)),
        ("id", batch.id),
        ("kind", batch.asked.kind),
        ("state", batch.state),
        ("items", "" if batch.items is None else f"{batch.items}: {outcome_of(batch)}"),
        ("as of", shown_time(batch.as_of)),
        ("sealed", shown_time(batch.sealed_at)),
        ("ended", shown_time(batch.ended_at)),
        ("took", shown_duration(batch.sealed_at, batch.ended_at)),
        ("then", f"{then.kind}, job {batch.then_id}" if then else ""),
    )
    for name, value in told:
        if value:
            print(f"{name:<12}{value}")
    troubles = (*batch.troubles, *batch.seen_troubles)
    if troubles:
        print()
        print_table(
            ("ID", "FILE", "STATE", "REASON"), [(each.id, each.name, each.state, each.reason) for each in troubles]
        )
    sys.stdout.flush()
