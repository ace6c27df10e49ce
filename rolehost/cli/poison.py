"""`rolehost poison list|show|input|replay|purge`: what was set aside."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from rolehost.cli.job import story
from rolehost.cli.opening import opened
from rolehost.cli.options import DATA, AsJson, Cursor, Data, Limit
from rolehost.cli.poison_many import purge, replay
from rolehost.cli.poison_options import (
    BadState,
    Cause,
    Kind,
    Newer,
    Older,
    Reason,
    State,
    Text,
    WasReplayed,
    YesOrNo,
    filter_of,
)
from rolehost.cli.printing import (
    fitted,
    one_line,
    print_json,
    print_table,
    printable,
    shortened,
    shown_size,
    shown_time,
)
from rolehost.errors import RoleHostError
from rolehost.jobs.poison import DeskPage, Entry, PoisonDesk, Provenance, Wanted

app = typer.Typer(
    no_args_is_help=True, help="List, search, inspect, replay or purge poisoned jobs.", rich_markup_mode=None
)
app.command("replay")(replay)
app.command("purge")(purge)

_LONGEST_NAME = 60
Id = Annotated[str, typer.Argument(metavar="ID", help="A poisoned or failed job, or a message (m-...).")]


@app.command("list")
def list_poisoned(
    *,
    text: Text = "",
    reason: Reason = "",
    cause: Cause = "",
    kind: Kind = "",
    state: State = BadState.POISONED,
    older: Older = None,
    newer: Newer = None,
    replayed: WasReplayed = YesOrNo.NO,
    data: Data = DATA,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """List the desk: poisoned jobs that were not replayed, the newest first, then messages without a job."""
    wanted = filter_of(
        text=text, reason=reason, cause=cause, kind=kind, state=state, older=older, newer=newer, replayed=replayed
    )
    page = asyncio.run(_page(data, wanted, limit, cursor))
    if as_json:
        print_json(page.to_json())
        return
    _print_page(page)


async def _page(data: Path, wanted: Wanted, limit: int, cursor: str | None) -> DeskPage:
    async with opened(data) as stores:
        return await PoisonDesk(stores).list(wanted, limit=limit, cursor=cursor)


def _print_page(page: DeskPage) -> None:
    """A table on stdout; where to go on, and what was looked at, on stderr."""
    if not page.entries:
        print("nothing is poisoned" if not page.looked_at else "nothing of it is on the desk", file=sys.stderr)
    else:
        columns: Sequence[str] = ("ID", "CAUSE", "KIND", "SINCE", "TRIES", "REPLAYED", "SOURCE", "REASON")
        rows: Sequence[Sequence[str]] = [_row(entry) for entry in page.entries]
        if sys.stdout.isatty():
            width = shutil.get_terminal_size().columns
            spare = ("REPLAYED", "SINCE", "TRIES", "KIND", "CAUSE")
            columns, rows = fitted(columns, rows, width, spare=spare, shorten=("SOURCE", "REASON"))
        print_table(columns, rows)
    if page.cut:
        print("the queue shows no more messages until some of these are purged", file=sys.stderr)
    if page.cursor:
        of = "" if page.total is None else f" of {page.total}"
        print(f"looked at {page.looked_at}{of}; go on with --cursor {page.cursor}", file=sys.stderr)


def _row(entry: Entry) -> tuple[str, ...]:
    job = entry.job
    source = shortened(one_line(job.spec.source.name), _LONGEST_NAME) if job else ""
    tries = str(job.attempt) if job else ""
    replayed = str(len(entry.replays)) if entry.replays else ""
    return (entry.id, entry.cause, entry.kind, shown_time(entry.since), tries, replayed, source, entry.reason)


@app.command()
def show(entry_id: Id, *, data: Data = DATA, as_json: AsJson = False) -> None:
    """Tell all of one entry: a job's attempts with their ends and output, or a message with its body."""
    entry, kin = asyncio.run(_read(data, entry_id))
    if as_json:
        print_json(entry.to_detailed_json(kin))
        return
    if entry.job:
        for line in story(entry.job, kin):
            print(line)
    else:
        for line in _letter(entry):
            print(line)


async def _read(data: Path, entry_id: str) -> tuple[Entry, Provenance]:
    async with opened(data) as stores:
        desk = PoisonDesk(stores)
        entry = await desk.entry(entry_id)
        return entry, await desk.provenance(entry.job) if entry.job else Provenance()


def _letter(entry: Entry) -> Iterator[str]:
    if entry.letter is None:
        return
    message = entry.letter.message
    facts = {
        "message": message.id,
        "called": entry.id,
        "is": entry.sort,
        "queue": f"{entry.letter.queue}-poison",
        "names job": entry.letter.job and f"{entry.letter.job} ({entry.letter.state or 'not there'})",
        "reason": message.reason,
        "description": message.description,
        "no replay": entry.why_not,
        "body": shown_size(len(message.body.encode())),
    }
    for name, value in facts.items():
        if value:
            yield f"{name:<12}{one_line(value)}"
    yield from (f"  {line}" for line in printable(entry.letter.body).splitlines())


@app.command("input")
def download_input(
    entry_id: Id,
    *,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="Write it into this new file; without it, to stdout."),
    ] = None,
    data: Data = DATA,
) -> None:
    """Fetch the original input of a job, as it was submitted; of a message its body."""
    if to is None and sys.stdout.isatty():
        raise typer.BadParameter("name a file with --to, or send it into another program: it may steer a terminal")
    asyncio.run(_fetch(data, entry_id, to))


async def _fetch(data: Path, entry_id: str, to: Path | None) -> None:
    async with opened(data) as stores:
        entry = await PoisonDesk(stores).entry(entry_id)
        with _target(to) as file:
            if entry.letter:
                file.write(entry.letter.message.body.encode(errors="replace"))
            elif entry.job and not entry.job.spec.source.kept:
                raise RoleHostError("the source of this job is not kept here: it was fetched, or lent from elsewhere")
            elif entry.job:
                async for piece in stores.blobs.stream(entry.job.spec.source.blob):
                    file.write(piece)
    if to:
        print(f"{to} is written", file=sys.stderr)


@contextmanager
def _target(to: Path | None) -> Iterator[BinaryIO]:
    """Where the bytes go; a new file is whole, or it isn't there."""
    if to is None:
        yield sys.stdout.buffer
        return
    try:
        file = to.open("xb")
    except FileExistsError:
        raise RoleHostError(f"{to} is there already") from None
    try:
        with file:
            yield file
    except BaseException:
        to.unlink(missing_ok=True)
        raise
