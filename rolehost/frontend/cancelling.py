"""Cancelling a job, for the pages and for the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolehost.errors import InvalidParameterError
from rolehost.frontend.problems import refusal
from rolehost.jobs.cancellation import cancel

if TYPE_CHECKING:
    from rolehost.frontend.services import Services
    from rolehost.jobs.job import Job


async def cancelled(services: Services, job_id: str) -> Job:
    """Cancel a job.

    Raises:
        UnknownJobError: there is none.
        Refusal: 409, it is over already.
    """
    job = await services.job(job_id)
    try:
        over = await cancel(services.jobs, job.id)
    except InvalidParameterError as error:
        raise refusal(409, "not-cancellable", str(error)) from error
    services.tell(over)
    return over
