"""The poison desk below `/api/v1/poison`: look (read), replay and purge (operate)."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BeforeValidator
from starlette.responses import JSONResponse, Response

from rolehost.frontend import openapi
from rolehost.frontend.authentication.identity import Permission
from rolehost.frontend.authentication.permissions import needs
from rolehost.frontend.poison_entries import entry_of, send_input
from rolehost.frontend.poison_query import MOST, check_narrowed, check_pace, filter_in_query
from rolehost.jobs.poison import DeskPage, Pace, Provenance, Wanted, parse_rate
from rolehost.jobs.poison.scan import LOOK_AT, SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from rolehost.frontend.services import Services
    from rolehost.jobs.poison import Step

USUAL = 50
router = APIRouter(prefix="/poison", tags=["poison"])
Filter = Annotated[Wanted, Depends(filter_in_query)]
EMPTY_IS_NONE = BeforeValidator(lambda text: None if text == "" else text)
Limit = Annotated[
    int,
    Query(ge=1, le=MOST, description="At most so many."),
    BeforeValidator(lambda text: USUAL if text == "" else text),
]
Cursor = Annotated[
    str | None,
    Query(max_length=2048, description="Where to go on: the `cursor` of the answer before."),
    EMPTY_IS_NONE,
]
All = Annotated[bool, Query(alias="all", description="Without a filter: yes, everything is meant.")]
DryRun = Annotated[bool, Query(description="Say what would happen, and change nothing.")]


@router.get("", operation_id="listPoison", summary="List and search what was set aside", **openapi.POISON_LIST)
@needs(Permission.READ)
async def list_poison(request: Request, wanted: Filter, limit: Limit = USUAL, cursor: Cursor = None) -> Response:
    """Jobs the newest first, then messages without a job. A page looks at a bounded number: go on with `cursor`."""
    desk = _services(request).desk
    return _json((await desk.list(wanted, limit=limit, cursor=cursor, look_at=LOOK_AT, seconds=SECONDS)).to_json())


@router.get("/{entry_id}", operation_id="getPoison", summary="One entry, with all that is known", **openapi.POISON)
@needs(Permission.READ)
async def get_poison(request: Request, entry_id: str) -> Response:
    """A job with what its attempts printed, or a message with its body; and where the job comes from."""
    entry = await entry_of(_services(request), entry_id)
    kin = await _services(request).desk.provenance(entry.job) if entry.job else Provenance()
    return _json(entry.to_detailed_json(kin))


@router.get("/{entry_id}/input", operation_id="getPoisonInput", summary="The original input", **openapi.POISON_INPUT)
@needs(Permission.READ)
async def get_input(request: Request, entry_id: str) -> Response:
    """The bytes that were submitted; of a message its body."""
    return await send_input(request, await entry_of(_services(request), entry_id))


@router.post("/replay", operation_id="replayPoison", summary="Replay what a filter finds", **openapi.POISON_REPLAY)
@needs(Permission.OPERATE)
async def replay_many(
    request: Request,
    wanted: Filter,
    limit: Limit = USUAL,
    cursor: Cursor = None,
    rate: Annotated[str, Query(max_length=20, description="Not faster than this: 5/s, 30/min.")] = "",
    *,
    everything: All = False,
    dry_run: DryRun = False,
) -> Response:
    """The oldest first. What was replayed is not replayed again, so that a request that was cut off can be repeated."""
    check_narrowed(wanted, everything=everything)
    paced = parse_rate(rate) if rate else None
    check_pace(limit, paced)
    desk = _services(request).desk
    found = await _found(request, replace(wanted, jobs_only=True), limit, cursor)
    ids = [entry.id for entry in found.entries]
    steps = desk.replay_each(ids, pace=Pace(None if dry_run else paced), dry_run=dry_run)
    return _json(await _told(steps, found, dry_run=dry_run))


@router.post("/purge", operation_id="purgePoison", summary="Purge what a filter finds", **openapi.POISON_PURGE)
@needs(Permission.OPERATE)
async def purge_many(
    request: Request,
    wanted: Filter,
    limit: Limit = USUAL,
    cursor: Cursor = None,
    *,
    everything: All = False,
    dry_run: DryRun = False,
) -> Response:
    """Remove for good: jobs with their files and messages, and messages that are no job's; the oldest first."""
    check_narrowed(wanted, everything=everything)
    found = await _found(request, wanted, limit, cursor)
    steps = _services(request).desk.purge_each([entry.id for entry in found.entries], dry_run=dry_run)
    return _json(await _told(steps, found, dry_run=dry_run))


@router.post("/{entry_id}/purge", operation_id="purgeOne", summary="Purge one entry", **openapi.POISON_PURGE_ONE)
@needs(Permission.OPERATE)
async def purge_one(request: Request, entry_id: str) -> Response:
    """Remove a job with its files and messages, or a message, for good."""
    entry = await entry_of(_services(request), entry_id)
    await _services(request).desk.purge(entry.id)
    return _json({"purged": entry.id})


async def _found(request: Request, wanted: Wanted, limit: int, cursor: str | None) -> DeskPage:
    return await _services(request).desk.list(
        wanted, limit=limit, cursor=cursor, look_at=LOOK_AT, seconds=SECONDS, newest_first=False
    )


async def _told(steps: AsyncGenerator[Step, None], found: DeskPage, *, dry_run: bool) -> dict[str, Any]:
    """What was done, what was refused, and where to go on."""
    done: list[dict[str, Any]] = []
    refused: list[dict[str, str]] = []
    async with aclosing(steps):
        async for step in steps:
            if step.refused:
                refused.append({"id": step.id, "why": step.refused})
            else:
                done.append({"id": step.id, "job": step.job.to_json() if step.job else None})
    facts = {"cursor": found.cursor, "looked_at": found.looked_at, "total": found.total}
    return {"dry_run": dry_run, "done": done, "refused": refused} | facts


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _json(told: dict[str, Any]) -> Response:
    return JSONResponse(told, headers={"Cache-Control": "no-store"})
