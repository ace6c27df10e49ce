"""The pages: lists, a job. All of it works without JavaScript."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from rolehost.errors import InvalidParameterError
from rolehost.frontend import batch_pages, poison_pages
from rolehost.frontend.authentication.identity import Permission
from rolehost.frontend.authentication.permissions import needs
from rolehost.frontend.cancelling import cancelled
from rolehost.frontend.downloads import Asset, send_asset
from rolehost.frontend.hosts import name_of
from rolehost.frontend.instances import STATES, instances
from rolehost.frontend.kinds import example_of, is_thumbnail
from rolehost.frontend.problems import refusal
from rolehost.frontend.submit_form import show_form, submit_form
from rolehost.frontend.views import page
from rolehost.jobs.job import JobState
from rolehost.jobs.kinds import offered_kinds
from rolehost.jobs.poison import REPLAYABLE
from rolehost.jobs.webhook_deliveries import delivery_of

if TYPE_CHECKING:
    from rolehost.frontend.services import Services
    from rolehost.jobs.job import Job
    from rolehost.jobs.table import JobPage

Endpoint = Callable[[Request], Awaitable[Response]]

PER_PAGE = 40
REFRESH_LIST = 3
REFRESH_JOB = 2
REFRESH_RUNNING = 1
"""Seconds, where something runs: its progress is to be seen."""
REFRESH_INSTANCES = 5


@needs(Permission.READ)
async def list_jobs(request: Request) -> Response:
    """The jobs, the newest first, by state."""
    services = _services(request)
    state = _state(request.query_params.get("state"))
    found = await _page_of_jobs(request, state)
    counts = await services.jobs.counts()
    return page(
        "jobs.html",
        jobs=found.jobs,
        state=state,
        counts=counts,
        first=not request.query_params.get("cursor"),
        older=_older("/jobs", found, state),
        refresh=_refresh(found.jobs, REFRESH_LIST),
    )


@needs(Permission.READ)
async def show_job(request: Request) -> Response:
    """All that there is to know of a job."""
    job = await _job(request)
    return page(
        "job.html",
        job=job,
        kin=await _services(request).desk.provenance(job),
        webhook=await delivery_of(_services(request).stores, job),
        replayable=job.state in REPLAYABLE,
        refresh=_refresh([job], REFRESH_JOB),
    )


@needs(Permission.READ)
async def list_instances(request: Request) -> Response:
    """The service's instances by role, how they are, and why those that crashed did."""
    state = request.query_params.get("state") or None
    if state is not None and state not in STATES:
        raise refusal(404, "not-found", "Instances have no such state.")
    found = await instances(_services(request).stores)
    return page(
        "instances.html",
        instances=found,
        shown=[each for each in found if state in {None, each["state"]}],
        counts={name: sum(each["state"] == name for each in found) for name in STATES},
        state=state,
        this=_services(request).instance,
        refresh=REFRESH_INSTANCES,
    )


@needs(Permission.READ)
async def show_instance(request: Request) -> Response:
    """All that there is to know of an instance, and where its peers are."""
    found = {each["instance"]: each for each in await instances(_services(request).stores)}
    chosen = found.pop(request.path_params["instance"], None)
    if chosen is None:
        raise refusal(404, "unknown-instance", "No instance has this name.")
    return page("instance.html", instance=chosen, peers=[*found.values()], refresh=REFRESH_INSTANCES)


@needs(Permission.READ)
async def show_api(request: Request) -> Response:
    """How to use the API, in a few lines, at the address that the page was asked for."""
    host = request.headers.get("host", "")
    kinds = [(kind, example_of(kind)) for kind in offered_kinds()]
    thumbnails = any(is_thumbnail(kind) for kind, _ in kinds)
    base = f"{request.url.scheme}://{host}" if name_of(host) else ""
    return page("api.html", base=base, kinds=kinds, thumbnails=thumbnails)


@needs(Permission.READ)
async def result_inline(request: Request) -> Response:
    """The result, to be shown or played in a page."""
    return await _result(request, inline=True)


@needs(Permission.READ)
async def download(request: Request) -> Response:
    """The result, to be saved."""
    return await _result(request, inline=False)


@needs(Permission.READ)
async def source(request: Request) -> Response:
    """What was submitted, to be shown or played where browsers can."""
    job = await _job(request)
    if not job.spec.source.kept:
        raise refusal(404, "no-source", "The source of this job is not kept here.")
    return await send_asset(request, _services(request).stores.blobs, Asset(job.source, inline=True, tag=job.id))


@needs(Permission.OPERATE)
async def cancel(request: Request) -> Response:
    """Cancel a job; its page is shown."""
    job = await cancelled(_services(request), request.path_params["job_id"])
    return RedirectResponse(f"/jobs/{job.id}", 303)


async def _result(request: Request, *, inline: bool) -> Response:
    job = await _job(request)
    if job.result is None:
        raise refusal(404, "no-result", f"The job is {job.state}: it has no result.")
    asset = Asset(job.result, inline=inline, tag=job.result.sha256)
    return await send_asset(request, _services(request).stores.blobs, asset)


def _refresh(jobs: Sequence[Job], usual: int) -> int | None:
    if any(job.progress for job in jobs if job.state is JobState.RUNNING):
        return REFRESH_RUNNING
    return usual if any(not job.state.terminal for job in jobs) else None


async def _page_of_jobs(request: Request, state: JobState | None) -> JobPage:
    cursor = request.query_params.get("cursor") or None
    try:
        return await _services(request).jobs.list(state=state, limit=PER_PAGE, cursor=cursor)
    except InvalidParameterError as error:
        raise refusal(404, "not-found", "There is no such page of this list.") from error


def _state(text: str | None) -> JobState | None:
    try:
        return JobState(text) if text else None
    except ValueError:
        raise refusal(404, "not-found", "Jobs have no such state.") from None


def _older(path: str, found: JobPage, state: JobState | None) -> str | None:
    if found.cursor is None:
        return None
    query: dict[str, Any] = {"state": state} if state else {}
    return f"{path}?{urlencode(query | {'cursor': found.cursor})}"


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _job(request: Request) -> Job:
    return await _services(request).job(request.path_params["job_id"])


ROUTES: tuple[tuple[str, str, Endpoint], ...] = (
    ("/", "GET", show_form),
    ("/submit/{kind}", "GET", show_form),
    ("/jobs", "GET", list_jobs),
    ("/jobs", "POST", submit_form),
    ("/jobs/{job_id}", "GET", show_job),
    ("/jobs/{job_id}/picture", "GET", result_inline),
    ("/jobs/{job_id}/media", "GET", result_inline),
    ("/jobs/{job_id}/result", "GET", download),
    ("/jobs/{job_id}/source", "GET", source),
    ("/jobs/{job_id}/cancel", "POST", cancel),
    *batch_pages.ROUTES,
    *poison_pages.ROUTES,
    ("/instances", "GET", list_instances),
    ("/instances/{instance}", "GET", show_instance),
    ("/api", "GET", show_api),
)
