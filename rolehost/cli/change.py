"""Asking a running service for a change, and telling how it goes; for the commands that do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from rolehost.cli.failures import FAILED, complain
from rolehost.cli.printing import print_json, printable

Wait: TypeAlias = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Whether to wait until the instances have the change.")
]


def change(data: Path, request: Mapping[str, Any], *, as_json: bool) -> None:
    """Send the request, and leave with its exit code.

    Args:
        data: the service's data directory.
        request: as the control socket takes it.
        as_json: write one document in the end, and no lines.
    """
    raise typer.Exit(asyncio.run(_change(data, request, as_json=as_json)))


async def _change(data: Path, request: Mapping[str, Any], *, as_json: bool) -> int:
    from rolehost.host.fabric.control import ask  # noqa: PLC0415 - `--help` needs none of it

    told: dict[str, Any] = {}
    async for line in ask(data, request):
        match line:
            case {"refused": reasons} if not as_json:
                for reason in reasons:
                    complain(printable(reason))
                return FAILED
            case {"accepted": _} | {"ended": _} | {"refused": _}:
                told |= line
        if not as_json:
            for sentence in _sentences(line, request):
                print(printable(sentence))
    if as_json:
        print_json(told)
    return _code(told, waits=request.get("wait", False), as_json=as_json)


def _code(told: Mapping[str, Any], *, waits: bool, as_json: bool) -> int:
    if "refused" in told or not told:
        if not told:
            complain("the service gave no answer: has it stopped?")
        return FAILED
    accepted = told["accepted"]
    open_end = waits and "ended" not in told and accepted.get("mode") != "manual" and _is_change(accepted)
    if open_end and not as_json:
        complain("the service has stopped meanwhile")
    return FAILED if open_end or told.get("ended") == "replaced" or told.get("late") else 0


def _is_change(accepted: Mapping[str, Any]) -> bool:
    return "changes" not in accepted or any(value for key, value in accepted["changes"].items() if key != "masked")


def _sentences(line: Mapping[str, Any], request: Mapping[str, Any]) -> Iterator[str]:
    match line:
        case {"accepted": accepted}:
            yield from _accepted(accepted, request)
        case {"progress": {"update": "domain", "domain": domain, "instances": instances}}:
            yield f"domain {domain}: {', '.join(instances)}"
        case {"progress": {"update": "arrival", "domain": domain, "instances": instances}}:
            yield f"new in domain {domain}: {', '.join(instances)}"
        case {"progress": {"update": "departure", "domain": domain, "instances": instances}}:
            yield f"leaving domain {domain}: {', '.join(instances)}"
        case {"progress": {"update": "late", "instances": instances}}:
            yield f"going on without {', '.join(instances)}: not ready"
        case {"ended": "finished", "late": []}:
            yield "every instance that was concerned is ready"
        case {"ended": "finished", "late": late}:
            yield f"done, but not ready: {', '.join(late)} (see `rolehost status`)"
        case {"ended": "walked", "domain": domain}:
            yield f"domain {domain} is done"
        case {"ended": "replaced", "generation": generation}:
            yield f"another change has taken the place of this one: generation {generation}"


def _accepted(accepted: Mapping[str, Any], request: Mapping[str, Any]) -> Iterator[str]:
    if "changes" in accepted:
        if not _is_change(accepted):
            yield "nothing changes"
        else:
            yield f"generation {accepted['generation']}:"
        yield from _changes(accepted["changes"])
    elif request["do"] == "rollback":
        yield f"rolling back, as generation {accepted['generation']}"
    for role in accepted.get("instances_masked", ()):
        yield f"the environment decides on the number of instances of {role}"
    if path := accepted.get("next_up_reads"):
        yield f"the next `rolehost up` reads {path} again"
    if accepted.get("mode") == "manual" and _is_change(accepted):
        yield "walk each domain with `rolehost update --walk DOMAIN`"


def _changes(changes: Mapping[str, Any]) -> Iterator[str]:
    for role, names in changes["settings"].items():
        yield f"  {role}: {_named('setting', names)} {', '.join(names)}"
    for role, names in changes["certificates"].items():
        yield f"  {role}: {_named('certificate', names)} {', '.join(names)}"
    for role, names in changes["definition"].items():
        yield f"  {role}: {', '.join(names)} (its instances start again)"
    for role, (before, after) in changes["instances"].items():
        yield f"  {role}: from {before} to {after} instances"
    if changes["service"]:
        yield f"  service: {', '.join(changes['service'])}"
    for role, names in changes["masked"].items():
        yield f"  {role}: the environment hides {_named('setting', names)} {', '.join(names)}: nothing happens"


def _named(noun: str, names: Sequence[str]) -> str:
    return noun if len(names) == 1 else f"{noun}s"
