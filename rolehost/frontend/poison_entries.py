"""One entry of the desk, for the API and for the pages: found by its id, and its input as a download."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.responses import Response

from rolehost.errors import AlreadyReplayedError, InvalidParameterError, UnknownJobError
from rolehost.frontend.downloads import Asset, disposition, send_asset
from rolehost.frontend.headers import SANDBOX
from rolehost.frontend.problems import refusal
from rolehost.frontend.services import is_job_id
from rolehost.jobs.poison.entries import from_letter_id
from rolehost.jobs.sniffing import UNKNOWN

if TYPE_CHECKING:
    from starlette.requests import Request

    from rolehost.frontend.services import Services
    from rolehost.jobs.job import Job
    from rolehost.jobs.poison import Entry


async def entry_of(services: Services, entry_id: str) -> Entry:
    """An entry by an id that a client gave.

    Raises:
        UnknownJobError: nothing has this id.
        HTTPException: 409, the job did not end badly.
    """
    if not is_job_id(entry_id) and from_letter_id(entry_id) is None:
        raise UnknownJobError("nothing on the poison desk has this id")
    try:
        return await services.desk.entry(entry_id)
    except InvalidParameterError as error:
        raise refusal(409, "not-on-the-desk", str(error)) from error


async def replayed(services: Services, job_id: str, *, again: bool) -> Job:
    """Replay one job.

    Raises:
        UnknownJobError: there is none.
        AlreadyReplayedError: it was replayed before.
        HTTPException: 409, it did not end badly.
    """
    job = await services.job(job_id)
    try:
        return await services.desk.replay(job.id, again=again)
    except AlreadyReplayedError:
        raise
    except InvalidParameterError as error:
        raise refusal(409, "not-replayable", str(error)) from error


async def send_input(request: Request, entry: Entry) -> Response:
    """The original input as a download: bytes, whatever they are; a message's body."""
    if entry.job:
        if not entry.job.spec.source.kept:
            raise refusal(404, "no-source", "The source of this job is not kept here.")
        services: Services = request.app.state.services
        source = replace(entry.job.spec.source, type=UNKNOWN)
        return await send_asset(request, services.stores.blobs, Asset(source))
    body = entry.letter.body if entry.letter else ""
    headers = {
        "Content-Disposition": disposition("message.txt", inline=False),
        "Content-Security-Policy": SANDBOX,
        "Cache-Control": "no-store",
    }
    return Response(body.encode(errors="replace"), headers=headers, media_type=UNKNOWN)
