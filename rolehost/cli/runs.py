"""`rolehost runs`: what ran on the instances, startup tasks and roles, and what it printed."""

from __future__ import annotations

import asyncio
import codecs
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from rolehost import clock
from rolehost.cli.opening import opened
from rolehost.cli.options import DATA, AsJson, Data, Limit
from rolehost.cli.printing import one_line, print_json, print_table, printable, shown_duration, shown_time
from rolehost.errors import NotFoundError, RoleHostError
from rolehost.stores import Blobs

_MOST_SEARCHED = 500


def runs(
    instance: Annotated[
        str | None, typer.Argument(metavar="[INSTANCE]", help="Only the runs of this instance.")
    ] = None,
    *,
    data: Data = DATA,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="RUN", help="Print what this run has printed.")
    ] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List runs of startup tasks and roles, the newest first; their output outlives the instance."""
    if output is not None:
        asyncio.run(_print_output(data, instance, output))
        return
    found = asyncio.run(_runs(data, instance, limit))
    if as_json:
        print_json({"runs": found})
    elif found:
        print_table(
            ("RUN", "INSTANCE", "KIND", "STATUS", "STARTED", "TOOK", "EXIT", "NAME"), [_row(run) for run in found]
        )
    else:
        print("no runs", file=sys.stderr)


async def _runs(data: Path, instance: str | None, limit: int) -> Sequence[dict[str, Any]]:
    from rolehost.host.directory.status import stored_runs  # noqa: PLC0415 - heavy, and `--help` needs none of it

    async with opened(data) as stores:
        return await stored_runs(stores, instance, limit=limit)


async def _print_output(data: Path, instance: str | None, wanted: str) -> None:
    from rolehost.host.directory.status import stored_runs  # noqa: PLC0415 - heavy, and `--help` needs none of it

    async with opened(data) as stores:
        found = [run for run in await stored_runs(stores, instance, limit=_MOST_SEARCHED) if run["run"] == wanted]
        if not found:
            raise RoleHostError(f"no run has the id {one_line(wanted)}; `rolehost runs` lists them")
        if instance is None and len({run["instance"] for run in found}) > 1:
            raise RoleHostError(f"several instances have a run {one_line(wanted)}: name the instance, too")
        if blob := found[0]["blob"]:
            async for text in blob_text(stores.blobs, blob):
                sys.stdout.write(text)


async def blob_text(blobs: Blobs, name: str) -> AsyncIterator[str]:
    """A blob as text that can't steer a terminal; nothing of one that has gone."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    try:
        async for piece in blobs.stream(name):
            yield printable(decoder.decode(piece))
        yield decoder.decode(b"", final=True)
    except NotFoundError:
        print("the output has been removed", file=sys.stderr)


def _row(run: dict[str, Any]) -> Sequence[str]:
    began, ended = (clock.from_iso(run[name]) if run[name] else None for name in ("started_at", "ended_at"))
    code = f"signal {run['signal']}" if run["signal"] is not None else run["exit_code"]
    return (
        run["run"],
        run["instance"],
        run["kind"] or "",
        run["status"],
        shown_time(began),
        shown_duration(began, ended),
        "" if code is None else str(code),
        run["name"] or "",
    )
