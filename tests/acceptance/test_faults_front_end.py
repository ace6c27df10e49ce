"""Faults at exact points of a real front end: what its client may do then."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from rolehost.jobs.job import Job, new_id
from rolehost.jobs.table import TABLE, JobTable
from support.fault_site import Site, gone, opened, striking_service
from support.jobs import until
from support.pictures import photograph
from support.service import Service

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with striking_service(tmp_path_factory.mktemp("faults")) as service:
        yield service


@pytest.fixture
async def site(service: Service) -> AsyncIterator[Site]:
    async with opened(service) as site:
        yield site


@pytest.mark.parametrize(
    ("call", "moment", "accepted"),
    [
        pytest.param("blobs.put", "before", 0, id="spooled"),
        pytest.param("blobs.put", "after", 0, id="the input is stored"),
        pytest.param("submit", "after", 1, id="row and message are written"),
    ],
)
async def test_a_request_that_its_front_end_did_not_survive_can_be_repeated(
    site: Site, tmp_path: Path, call: str, moment: str, accepted: int
) -> None:
    photograph(tmp_path / "photo.jpg", megapixels=0.1)
    name, key = f"{new_id()}.jpg", {"Idempotency-Key": new_id()}
    files = {"file": (name, (tmp_path / "photo.jpg").read_bytes(), "image/jpeg")}
    site.order("FrontEnd", call, moment, signal.SIGKILL)
    async with httpx2.AsyncClient(base_url=site.service.url, timeout=30) as client:
        with pytest.raises(httpx2.TransportError):
            await client.post("/api/v1/jobs", files=files, headers=key)
        died = await site.struck()
        assert len(await _called(site, name)) == accepted

        async def answered() -> bool:
            with suppress(httpx2.TransportError):
                answer = await client.post("/api/v1/jobs", files=files, headers=key)
                assert answer.status_code in {202, 409, 503}, answer.text
                return answer.status_code == 202
            return False

        await until(answered, within=30)
    await until(lambda: gone(died), within=5)
    (job,) = await _called(site, name)
    assert [attempt.end for attempt in (await site.over(job)).attempts] == ["ok"]
    await until(lambda: _spool_is_empty(site), within=10)
    assert len(await _called(site, name)) == 1


async def _called(site: Site, name: str) -> list[Job]:
    """Jobs on a file of this name."""
    page = await JobTable(site.stores.table(TABLE)).list(limit=500)
    return [job for job in page.jobs if job.spec.source.name == name]


async def _spool_is_empty(site: Site) -> bool:
    """Whether the spool has the folder of one process, with nothing in it."""
    spool = site.service.data / "spool"
    return len(list(spool.glob("*.lock"))) == 1 and len(list(spool.rglob("*"))) == 2
