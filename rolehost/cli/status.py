"""`rolehost status`: the instances of a service and how they are."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from rolehost import clock
from rolehost.cli.costs import cost_lines, costs
from rolehost.cli.options import DATA, AsJson, Data
from rolehost.cli.printing import fitted, one_line, print_json, print_table, printable, shown_time
from rolehost.errors import NoServiceError, RoleHostError

_CLEAR = "\x1b[H\x1b[2J"
_COLUMNS = ("INSTANCE", "STATE", "STATUS", "DOMAIN", "UPTIME", "HEARTBEAT", "RECYCLES", "DETAIL")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def status(
    *,
    data: Data = DATA,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, and write the status again at each change.")] = False,
) -> None:
    """List the instances with their state, since when they run, their last heartbeat and their last crash.

    Where no `rolehost up` runs, what the instances have left in the stores is shown.
    """
    asyncio.run(_watch(data, as_json=as_json) if watch else _status(data, as_json=as_json))


async def _status(data: Path, *, as_json: bool) -> None:
    try:
        document = await _asked(data)
    except NoServiceError as error:
        document = await _stored(data, error)
        print(f"rolehost: {error}; what its instances have left:", file=sys.stderr)
    document["storage"] = await costs(data)
    if as_json:
        print_json(document)
    else:
        _print(document)


async def _asked(data: Path) -> dict[str, Any]:
    from rolehost.host.fabric.control import ask  # noqa: PLC0415 - `--help` needs none of it

    async for line in ask(data, {"do": "status"}):
        if "status" in line:
            return dict(line["status"])
    raise RoleHostError("the service gave no answer: has it stopped?")


async def _stored(data: Path, error: NoServiceError) -> dict[str, Any]:
    """What is in the stores; where nothing is, the error."""
    from rolehost.cli.opening import opened  # noqa: PLC0415 - heavy, and only needed where no service runs
    from rolehost.host.directory.status import stored_status  # noqa: PLC0415 - the same

    try:
        async with opened(data) as stores:
            instances = await stored_status(stores)
    except RoleHostError:
        instances = []
    if not instances:
        raise error
    at = clock.iso(clock.now())
    nothing = dict.fromkeys(("service", "deployment", "generation", "walk", "refused"))
    return {**nothing, "at": at, "instances": instances}


async def _watch(data: Path, *, as_json: bool) -> None:
    from rolehost.host.fabric.control import ask  # noqa: PLC0415 - `--help` needs none of it

    async for line in ask(data, {"do": "watch"}):
        document = line.get("status")
        if document is None:
            continue
        if as_json:
            print(json.dumps(document, ensure_ascii=False), flush=True)
        else:
            print(_CLEAR if sys.stdout.isatty() else "", end="")
            _print(document)
            print(flush=True)
    print("rolehost: the service has stopped", file=sys.stderr)


def _print(document: Mapping[str, Any]) -> None:
    """For people: a line of its own for the service, what was refused, the table, then the crashes."""
    print(one_line(_heading(document)))
    for line in _refused(document):
        print(line)
    columns: Sequence[str] = _COLUMNS
    rows: Sequence[Sequence[str]] = [_row(facts, document["at"]) for facts in document["instances"]]
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        columns, rows = fitted(columns, rows, width, spare=("DOMAIN", "HEARTBEAT", "STATUS"), shorten=("DETAIL",))
    print_table(columns, rows)
    for facts in document["instances"]:
        for line in _crash(facts):
            print(line)
    for line in cost_lines(document.get("storage")):
        print(printable(line))


def _heading(document: Mapping[str, Any]) -> str:
    if document["service"] is None:
        return shown_time(clock.from_iso(document["at"]))
    told = f"{document['service']}, generation {document['generation']}, {shown_time(clock.from_iso(document['at']))}"
    if walk := document["walk"]:
        domain = "between two domains" if walk["domain"] is None else f"in domain {walk['domain']}"
        told += f"; update ({walk['mode']}) {domain}, {walk['updated']} of {walk['of']} instances updated"
    return told


def _refused(document: Mapping[str, Any]) -> Iterator[str]:
    """The definition that came last, as long as it can't be taken."""
    if not (refused := document.get("refused")):
        return
    told = f"refused {shown_time(_time(refused['at']))}: {refused['file']}; the service goes on as it was"
    yield one_line(told)
    for problem in refused["problems"]:
        yield f"    {one_line(problem)}"


def _row(facts: Mapping[str, Any], at: str) -> tuple[str, ...]:
    return (
        str(facts["instance"]),
        str(facts["state"]),
        str(facts.get("status", "")),
        str(facts.get("update_domain", "")),
        _since(facts.get("ready_at") or facts.get("started_at"), at) if facts.get("pid") is not None else "",
        f"{ago} ago" if (ago := _since(facts.get("heartbeat_at"), at)) else "",
        str(facts.get("recycles", "")),
        str(facts.get("detail", "")),
    )


def _since(moment: str | None, at: str) -> str:
    """`4 s`, `3 min`, `5 h 12 min`, `2 d 3 h`."""
    if not moment:
        return ""
    seconds = max(0, int((_time(at) - _time(moment)).total_seconds()))
    if seconds < _MINUTE:
        return f"{seconds} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min"
    if seconds < _DAY:
        return f"{seconds // _HOUR} h {seconds % _HOUR // _MINUTE} min"
    return f"{seconds // _DAY} d {seconds % _DAY // _HOUR} h"


def _time(text: str) -> datetime:
    return clock.from_iso(text)


def _crash(facts: Mapping[str, Any]) -> Iterator[str]:
    crash = facts.get("last_crash")
    if not crash:
        return
    ending = [
        f"{name.replace('_', ' ')} {crash[name]}" for name in ("exit_code", "signal") if crash.get(name) is not None
    ]
    stage = crash.get("stage", "")  # the reason of a host's end has the signal in it
    told = "" if stage == "host" else f" ({stage}{''.join(f', {each}' for each in ending)})"
    when = shown_time(_time(crash["at"]))
    yield printable(f"\n{one_line(facts['instance'])}: last crash {when}{told}: {one_line(crash['reason'])}")
    for line in printable(crash.get("stderr") or "").splitlines():
        yield f"    {line}"
