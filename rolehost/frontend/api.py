"""The JSON API below `/api/v1`: one job a request, every error a problem (RFC 9457)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BeforeValidator
from starlette.responses import JSONResponse, Response, StreamingResponse

from rolehost import clock
from rolehost.errors import InvalidParameterError
from rolehost.frontend import batch_api, openapi, poison_api
from rolehost.frontend.authentication.identity import Permission
from rolehost.frontend.authentication.permissions import needs
from rolehost.frontend.cancelling import cancelled
from rolehost.frontend.common_fields import common_values
from rolehost.frontend.downloads import Asset, send_asset
from rolehost.frontend.forms import Form, FormRules, read_form
from rolehost.frontend.headers import SANDBOX
from rolehost.frontend.idempotency import key_of
from rolehost.frontend.instances import instances
from rolehost.frontend.joblog import job_log
from rolehost.frontend.json_body import is_json, parsed
from rolehost.frontend.json_submission import resources_of, submit_json
from rolehost.frontend.kinds import FILE, kind_json, parameters_given
from rolehost.frontend.poison_entries import replayed
from rolehost.frontend.problems import refusal
from rolehost.frontend.scale import backlog
from rolehost.frontend.services import Services
from rolehost.jobs.job import JobState
from rolehost.jobs.kinds import offered_kinds
from rolehost.jobs.resources import FIELD as RESOURCES
from rolehost.jobs.resources import LONGEST_FIELD as LONGEST_RESOURCES
from rolehost.jobs.submission import Submission
from rolehost.jobs.webhook_deliveries import delivery_of

if TYPE_CHECKING:
    from rolehost.jobs.job import Job, Resource

PREFIX = "/api/v1"
LONGEST_LIST = 200
USUAL_LIST = 50
EMPTY_IS_NONE = BeforeValidator(lambda text: None if text == "" else text)
EMPTY_IS_USUAL = BeforeValidator(lambda text: USUAL_LIST if text == "" else text)

router = APIRouter(prefix=PREFIX)
router.include_router(poison_api.router)
router.include_router(batch_api.router)


@router.post(
    "/jobs", status_code=202, operation_id="submitJob", tags=["jobs"], summary="Submit a job", **openapi.SUBMIT
)
@needs(Permission.SUBMIT)
async def submit(request: Request) -> Response:
    """Accept one job. The answer comes as soon as the job is durable; the result follows.

    A file comes as a form; a source that is elsewhere is named in JSON.
    """
    services: Services = request.app.state.services
    key = key_of(request)
    if is_json(request.headers):
        return accepted(await submit_json(request, services, key))
    async with services.spool.folder() as folder:
        form = await read_form(request, folder, _form_rules(services))
        resources = _resources(request, services, form)
        job = await services.submitter.submit(replace(_submission(services, form, key), resources=resources))
    return accepted(job)


def _form_rules(services: Services) -> FormRules:
    return FormRules(others={RESOURCES: LONGEST_RESOURCES}, largest_file=services.settings.upload_cap)


def _resources(request: Request, services: Services, form: Form) -> tuple[Resource, ...]:
    """The resource files beside an upload: the same JSON, as a field."""
    text = form.fields.pop(RESOURCES, "").strip()
    return resources_of(request, services, parsed(text.encode(), f"The field {RESOURCES}")) if text else ()


def _submission(services: Services, form: Form, key: str | None) -> Submission:
    common = common_values(services, form.fields)
    if not form.files:
        raise refusal(422, "missing-file", "The file is missing: send it in the field file.", wrong=FILE)
    upload = form.files[0]
    if not upload.size:
        raise refusal(422, "empty-file", f"{upload.name or 'the file'} is empty.", wrong=FILE)
    given = parameters_given(form.kind, form.fields)
    return Submission(
        path=upload.path, name=upload.name, kind=form.kind.name, given=given, key=key, consume=True, **common
    )


def accepted(job: Job) -> Response:
    """202: the job, and where to look for it."""
    headers = {"Location": f"{PREFIX}/jobs/{job.id}", "Retry-After": "1", "Cache-Control": "no-store"}
    return JSONResponse(job.to_json(), 202, headers=headers)


@router.get("/kinds", operation_id="listKinds", tags=["jobs"], summary="The kinds of jobs", **openapi.KINDS)
@needs(Permission.READ)
async def list_kinds() -> Response:
    """What each kind accepts, and its parameters as a JSON schema. `default` is the one of a job that names none."""
    return _json({"kinds": [kind_json(kind) for kind in offered_kinds()]})


@router.get("/jobs", operation_id="listJobs", tags=["jobs"], summary="List jobs, the newest first", **openapi.LIST)
@needs(Permission.READ)
async def list_jobs(
    request: Request,
    state: Annotated[JobState | None, Query(description="Only jobs in this state."), EMPTY_IS_NONE] = None,
    limit: Annotated[int, Query(ge=1, le=LONGEST_LIST, description="At most so many."), EMPTY_IS_USUAL] = USUAL_LIST,
    cursor: Annotated[
        str | None,
        Query(max_length=1024, description="Where to go on: the `cursor` of the page before."),
        EMPTY_IS_NONE,
    ] = None,
) -> Response:
    """List jobs. `cursor` in the answer is null on the last page. An empty parameter is as none."""
    services: Services = request.app.state.services
    try:
        page = await services.jobs.list(state=state, limit=limit, cursor=cursor)
    except InvalidParameterError as error:
        raise InvalidParameterError(str(error), error.field or "cursor") from error
    return _json({"jobs": [job.to_json() for job in page.jobs], "cursor": page.cursor})


@router.get("/jobs/{job_id}", operation_id="getJob", tags=["jobs"], summary="One job", **openapi.JOB)
@needs(Permission.READ)
async def get_job(request: Request, job_id: str) -> Response:
    """A job as it is now."""
    return _json((await _services(request).job(job_id)).to_json())


@router.get(
    "/jobs/{job_id}/result", operation_id="getResult", tags=["jobs"], summary="A job's result", **openapi.RESULT
)
@needs(Permission.READ)
async def get_result(request: Request, job_id: str) -> Response:
    """The bytes of the result. 409 while there is none yet, 404 when there will be none."""
    job = await _services(request).job(job_id)
    if job.result is not None:
        return await send_asset(request, _services(request).stores.blobs, Asset(job.result, tag=job.result.sha256))
    if job.state.terminal:
        raise refusal(404, "no-result", f"The job is {job.state}: it has no result.")
    raise refusal(409, "no-result-yet", f"The job is {job.state}: it has no result yet.")


@router.get(
    "/jobs/{job_id}/log",
    operation_id="getLog",
    tags=["jobs"],
    summary="What the console application printed",
    **openapi.LOG,
)
@needs(Permission.READ)
async def get_log(request: Request, job_id: str) -> Response:
    """Each attempt: a line with its number, end, exit code and times, then its stdout and stderr."""
    job = await _services(request).job(job_id)
    headers = {"Content-Security-Policy": SANDBOX, "Cache-Control": "no-store"}
    pieces = job_log(job, _services(request).stores.blobs)
    return StreamingResponse(pieces, headers=headers, media_type="text/plain")


@router.post(
    "/jobs/{job_id}/replay",
    status_code=202,
    operation_id="replayJob",
    tags=["jobs"],
    summary="Run a job that ended badly again",
    **openapi.REPLAY,
)
@needs(Permission.OPERATE)
async def replay(
    request: Request,
    job_id: str,
    *,
    again: Annotated[bool, Query(description="Also if it was replayed before.")] = False,
) -> Response:
    """Submit a poisoned or failed job again, as a new job that names this one as its origin; once, unless `again`."""
    return accepted(await replayed(_services(request), job_id, again=again))


@router.get(
    "/jobs/{job_id}/provenance",
    operation_id="getProvenance",
    tags=["jobs"],
    summary="Where a job comes from, and what it was replayed as",
    **openapi.PROVENANCE,
)
@needs(Permission.READ)
async def get_provenance(request: Request, job_id: str) -> Response:
    """The chain of origins, the nearest first, and the job's own replays, the oldest first."""
    services = _services(request)
    return _json((await services.desk.provenance(await services.job(job_id))).to_json())


@router.get(
    "/jobs/{job_id}/webhook",
    operation_id="getWebhook",
    tags=["jobs"],
    summary="Whether a job's webhook was delivered",
    **openapi.WEBHOOK,
)
@needs(Permission.READ)
async def get_webhook(request: Request, job_id: str) -> Response:
    """Delivered, or owed and why. 404 where the job names no webhook."""
    services = _services(request)
    found = await delivery_of(services.stores, await services.job(job_id))
    if found is None:
        raise refusal(404, "no-webhook", "The job names no webhook.")
    return _json(found.to_json())


@router.post("/jobs/{job_id}/cancel", operation_id="cancelJob", tags=["jobs"], summary="Cancel a job", **openapi.CANCEL)
@needs(Permission.OPERATE)
async def cancel_job(request: Request, job_id: str) -> Response:
    """What waits is never run, what runs is stopped. Cancelling again changes nothing."""
    return _json((await cancelled(_services(request), job_id)).to_json())


@router.get(
    "/instances",
    operation_id="listInstances",
    summary="The service's instances",
    tags=["instances"],
    **openapi.INSTANCES,
)
@needs(Permission.READ)
async def list_instances(request: Request) -> Response:
    """Every instance, by role and number: how it is, since when, where it listens, and why it crashed last."""
    found = await instances(_services(request).stores)
    return _json({"at": clock.iso(clock.now()), "instances": found})


@router.get("/scale", operation_id="getScale", summary="What waits and what runs", tags=["service"], **openapi.SCALE)
@needs(Permission.READ)
async def get_scale(request: Request) -> Response:
    """For whoever decides how many workers there are. A job that waits for its next attempt is not runnable."""
    return _json(await backlog(_services(request).jobs))


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _json(told: dict[str, Any]) -> Response:
    return JSONResponse(told, headers={"Cache-Control": "no-store"})
