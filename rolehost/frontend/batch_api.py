"""Batches in the JSON API: made, filled, sealed, watched, cancelled, fetched."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BeforeValidator
from starlette.responses import JSONResponse, Response, StreamingResponse

from rolehost.errors import InvalidParameterError
from rolehost.frontend import batch_openapi as openapi
from rolehost.frontend.authentication.identity import Permission
from rolehost.frontend.authentication.permissions import needs
from rolehost.frontend.batch_requests import add, added_before, asked_for, batch_of
from rolehost.frontend.downloads import disposition
from rolehost.frontend.forms import FormRules, read_form
from rolehost.frontend.headers import SANDBOX
from rolehost.frontend.idempotency import key_of
from rolehost.frontend.kinds import FILE
from rolehost.frontend.problems import refusal
from rolehost.jobs.batches.adding import LARGEST_SLICE, safe_name
from rolehost.jobs.batches.archive import items_of, results_zip, state_of
from rolehost.jobs.kinds import kind_named

if TYPE_CHECKING:
    from rolehost.frontend.services import Services
    from rolehost.jobs.batches import Batch

PATH = "/api/v1/batches"
LONGEST_LIST = 200
USUAL_LIST = 50
LONGEST_CURSOR = 9
EMPTY_IS_NONE = BeforeValidator(lambda text: None if text == "" else text)
EMPTY_IS_USUAL = BeforeValidator(lambda text: USUAL_LIST if text == "" else text)
Limit = Annotated[int, Query(ge=1, le=LONGEST_LIST, description="At most so many."), EMPTY_IS_USUAL]
Cursor = Annotated[
    str | None,
    Query(max_length=1024, description="Where to go on: the `cursor` of the page before."),
    EMPTY_IS_NONE,
]

router = APIRouter(prefix="/batches", tags=["batches"])


@router.post("", status_code=201, operation_id="createBatch", summary="Begin a batch", **openapi.CREATE)
@needs(Permission.SUBMIT)
async def create(request: Request) -> Response:
    """Begin a batch: then add files to it, and seal it. An open batch of this name, for the same, is answered again."""
    services = _services(request)
    before = await services.batches.create(await asked_for(request, services))
    told = await _told(services, before)
    headers = {"Location": f"{PATH}/{before.id}", "Cache-Control": "no-store"}
    return JSONResponse(told, 200 if told["added"] else 201, headers=headers)


@router.post(
    "/{batch_id}/jobs", status_code=202, operation_id="addToBatch", summary="Add files to a batch", **openapi.ADD
)
@needs(Permission.SUBMIT)
async def add_jobs(request: Request, batch_id: str) -> Response:
    """Add files to an open batch; each becomes a job once the batch is sealed. Nothing of them runs before."""
    services, key = _services(request), key_of(request)
    batch = await batch_of(services, batch_id)
    before = await added_before(services, batch, key)
    async with services.spool.folder() as folder:
        rules = FormRules(
            largest_file=services.settings.upload_cap,
            most_files=LARGEST_SLICE,
            lenient=True,
            kind=kind_named(batch.asked.kind),
        )
        form = await read_form(request, folder, rules)
        if form.fields:
            name = min(form.fields)
            raise refusal(422, "unknown-field", f"Files alone are added: {name!r} is the batch's own.", wrong=name)
        if not form.files:
            raise refusal(422, "missing-file", "The files are missing: send them in the field file.", wrong=FILE)
        told = await add(services, batch, form, key, before)
    return _json(told, 202)


@router.post("/{batch_id}/seal", status_code=202, operation_id="sealBatch", summary="Let a batch begin", **openapi.SEAL)
@needs(Permission.SUBMIT)
async def seal(request: Request, batch_id: str) -> Response:
    """Nothing more is added; the jobs begin, some at a time. Sealing again changes nothing."""
    services = _services(request)
    batch = await services.batches.seal((await batch_of(services, batch_id)).id)
    services.driver.kick()
    return _json(await _told(services, batch), 202)


@router.get("", operation_id="listBatches", summary="List batches, the newest first", **openapi.LIST)
@needs(Permission.READ)
async def list_batches(
    request: Request,
    name: Annotated[str | None, Query(description="Only the latest of this name."), EMPTY_IS_NONE] = None,
    limit: Limit = USUAL_LIST,
    cursor: Cursor = None,
) -> Response:
    """List batches. `cursor` in the answer is null on the last page. An empty parameter is as none."""
    services = _services(request)
    if name is not None:
        return _json({"batches": [await _told(services, await services.batches.named(name))], "cursor": None})
    try:
        page = await services.batches.list(limit=limit, cursor=cursor)
    except InvalidParameterError as error:
        raise InvalidParameterError(str(error), error.field or "cursor") from error
    return _json({"batches": [await _told(services, batch) for batch in page.batches], "cursor": page.cursor})


@router.get("/{batch_id}", operation_id="getBatch", summary="One batch", **openapi.BATCH)
@needs(Permission.READ)
async def get_batch(request: Request, batch_id: str) -> Response:
    """A batch, and how its items stood at `as_of`. The cost does not follow their number."""
    services = _services(request)
    return _json(await _told(services, await batch_of(services, batch_id)))


@router.get("/{batch_id}/jobs", operation_id="listBatchItems", summary="A batch's items", **openapi.ITEMS)
@needs(Permission.READ)
async def list_items(request: Request, batch_id: str, limit: Limit = USUAL_LIST, cursor: Cursor = None) -> Response:
    """The items in their order, each with its job as soon as it has one."""
    services = _services(request)
    batch = await batch_of(services, batch_id)
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) <= LONGEST_CURSOR):
        raise InvalidParameterError("cursor is not one that a list gave", field="cursor")
    start = int(cursor or 0)
    told = await items_told(services, batch, start, limit)
    after = start + len(told)
    return _json({"items": told, "cursor": str(after) if after < (batch.items or 0) else None})


async def items_told(services: Services, batch: Batch, start: int, limit: int) -> list[dict[str, Any]]:
    """Some of a batch's items, from a position on."""
    told: list[dict[str, Any]] = []
    async with aclosing(items_of(services.stores, batch, start)) as found:
        async for item, job in found:
            if len(told) == limit:
                break
            at = start + len(told)
            facts = {"position": at, "id": item.id, "name": item.name, "folder": item.folder}
            told.append(facts | {"state": state_of(batch, job, at), "job": job.to_json() if job else None})
    return told


@router.post(
    "/{batch_id}/cancel",
    status_code=202,
    operation_id="cancelBatch",
    summary="Cancel all of a batch",
    **openapi.CANCEL,
)
@needs(Permission.OPERATE)
async def cancel(request: Request, batch_id: str) -> Response:
    """What waits is never run, what runs is stopped. Cancelling again changes nothing."""
    services = _services(request)
    batch = await services.batches.cancel((await batch_of(services, batch_id)).id)
    services.driver.kick()
    return _json(await _told(services, batch), 202)


@router.get("/{batch_id}/results.zip", operation_id="getBatchResults", summary="All results", **openapi.RESULTS)
@needs(Permission.READ)
async def get_results(request: Request, batch_id: str) -> Response:
    """The results that there are by now, in one ZIP which is made while it is sent."""
    services = _services(request)
    return results_answer(services, await batch_of(services, batch_id))


def results_answer(services: Services, batch: Batch) -> Response:
    """The ZIP as an answer.

    Raises:
        HTTPException: 409, there are none yet.
    """
    if batch.items is None:
        raise refusal(409, "no-result-yet", f"The batch is {batch.state}: it has no results yet.")
    headers = {
        "Content-Security-Policy": SANDBOX,
        "Cache-Control": "no-store",
        "Content-Disposition": disposition(f"{safe_name(batch.name)}.zip", inline=False),
    }
    return StreamingResponse(results_zip(services.stores, batch), headers=headers, media_type="application/zip")


async def _told(services: Services, batch: Batch) -> dict[str, Any]:
    added = batch.items if batch.items is not None else await services.batches.manifest(batch.id).added()
    return batch.to_json() | {"added": added}


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _json(told: dict[str, Any], status: int = 200) -> Response:
    return JSONResponse(told, status, headers={"Cache-Control": "no-store"})
