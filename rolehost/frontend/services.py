"""What the handlers of requests work with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from rolehost.errors import UnknownJobError
from rolehost.jobs.batches import BatchTable
from rolehost.jobs.batches.driver import BatchDriver
from rolehost.jobs.poison import PoisonDesk
from rolehost.jobs.submission import Submitter
from rolehost.jobs.table import TABLE, JobTable

if TYPE_CHECKING:
    from rolehost.frontend.settings import FrontendSettings
    from rolehost.frontend.spool import Spool
    from rolehost.jobs.job import Job
    from rolehost.jobs.webhooks import Webhooks
    from rolehost.stores import Stores

KIND = "thumbnail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The stores and what stands on them; one for a process.

    Args:
        stores: the stores.
        settings: the front end's settings.
        spool: where uploads wait until they are submitted.
        probe: host:port of the bootstrapper's probes; None where there is no bootstrapper.
        instance: the id of the instance that this process is; empty where it is none.
        webhooks: tells others of the jobs that are cancelled here; None: recovery does.
        batches: the batches.
        driver: drives them, while the role runs it.
    """

    stores: Stores
    settings: FrontendSettings
    spool: Spool
    jobs: JobTable
    submitter: Submitter
    desk: PoisonDesk
    probe: str | None = None
    instance: str = ""
    webhooks: Webhooks | None = None
    batches: BatchTable
    driver: BatchDriver

    @classmethod
    def over(
        cls,
        stores: Stores,
        settings: FrontendSettings,
        spool: Spool,
        probe: str | None,
        instance: str = "",
        *,
        webhooks: Webhooks | None = None,
        driver: BatchDriver | None = None,
    ) -> Services:
        """Services over stores."""
        submitter = Submitter(stores)
        return cls(
            stores=stores,
            settings=settings,
            spool=spool,
            jobs=JobTable(stores.table(TABLE)),
            submitter=submitter,
            desk=PoisonDesk(stores, submitter),
            probe=probe,
            instance=instance,
            webhooks=webhooks,
            batches=BatchTable(stores),
            driver=driver or BatchDriver(stores, instance),
        )

    def tell(self, job: Job) -> None:
        """A terminal state was written here: its webhook goes out, if there is one; recovery knows of it, too."""
        if job.spec.webhook and self.webhooks is not None and self.settings.webhooks.configured:
            self.webhooks.soon(job.id)

    async def job(self, job_id: str) -> Job:
        """A job by an id that a client gave.

        Raises:
            UnknownJobError: there is none; an id that can't be one is unknown too.
        """
        job = await self.jobs.read(job_id) if is_job_id(job_id) else None
        if job is None:
            raise UnknownJobError("no job has this id")
        return job


def is_job_id(text: str) -> bool:
    """Whether a text is written like the id of a job: a UUID in lower case, with hyphens."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
