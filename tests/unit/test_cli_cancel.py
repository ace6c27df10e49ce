"""`rolehost cancel` against real stores."""

from __future__ import annotations

from pathlib import Path

from rolehost.jobs.job import Job, JobState
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores import Stores
from support.commands import invoke, submitted, with_stores


def test_jobs_are_cancelled_and_what_is_over_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"

    async def two(stores: Stores) -> list[Job]:
        return [await submitted(stores, tmp_path, name) for name in ("first.png", "second.png")]

    first, second = with_stores(data, two)
    told = invoke("cancel", first.id, "nobody", second.id, "--reason", "wrong folder", "--data", data)
    assert told.exit_code == 1
    assert told.stdout.splitlines() == [f"{first.id} is cancelled", f"{second.id} is cancelled"]
    assert "no job has the id nobody" in told.stderr

    async def found(stores: Stores) -> Job | None:
        return await JobTable(stores.table(TABLE)).read(first.id)

    job = with_stores(data, found)
    assert job is not None
    assert (job.state, job.reason) == (JobState.CANCELLED, "wrong folder")
