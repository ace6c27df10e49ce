"""Webhooks of a whole service: by form, API and command line; a worker killed between the commit and the telling."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from rolehost.jobs.job import new_id
from rolehost.jobs.submission import Submission, Submitter
from support.fault_site import GOOD, KIND, ROLES, SERVICE, Site, opened
from support.front_end import picture
from support.jobs import until
from support.receiver import KEY, Receiver, receiver
from support.service import Service

pytestmark = pytest.mark.acceptance


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    async with receiver() as there:
        yield there


@pytest.fixture
async def site(tmp_path: Path, there: Receiver) -> AsyncIterator[Site]:
    (tmp_path / "roles.py").write_text(ROLES)
    service = Service(tmp_path, there.variables())
    service.define(SERVICE)
    try:
        await asyncio.to_thread(service.start)
        async with opened(service) as site:
            yield site
        assert await asyncio.to_thread(service.stop) == 0
    finally:
        await asyncio.to_thread(service.close)


async def test_a_worker_killed_right_after_its_commit_still_owes_its_webhook(site: Site, there: Receiver) -> None:
    """Recovery of another instance delivers it, under the id that the dead one would have used."""
    site.order("Worker", "queue.complete", "before", signal.SIGKILL)
    asset = site.service.directory / "asset"
    asset.write_text(GOOD)
    asked = Submission(path=asset, name="asset.sh", kind=KIND, webhook=there.url)
    job = await Submitter(site.stores).place(asked, new_id(), {}, "text/plain")
    await site.struck()
    (told,) = await there.receives(within=40)
    row = await site.over(job)
    assert told.id == f"{job.id}:completed"
    assert told.is_signed_by(KEY)
    assert told.event["data"] == row.to_json()
    assert len(row.attempts) == 1
    await site.settles()
    assert len(there.told) == 1


async def test_who_asked_is_told_however_they_asked(site: Site, there: Receiver) -> None:
    url = there.url
    async with httpx2.AsyncClient(base_url=site.service.url, timeout=30) as client:

        async def post(path: str, webhook: str, **headers: str) -> httpx2.Response:
            files = {"file": ("a.png", picture(), "image/png")}
            return await client.post(path, files=files, data={"size": "Small", "webhook": webhook}, headers=headers)

        by_api = await post("/api/v1/jobs", url)
        assert by_api.status_code == 202, by_api.text
        job_id = by_api.json()["id"]
        assert by_api.json()["webhook"] == f"http://127.0.0.1:{there.port}"
        by_form = await post("/jobs", url)
        assert by_form.status_code == 303, by_form.text
        asset = site.service.directory / "b.png"
        asset.write_bytes(picture())
        by_command = await asyncio.to_thread(site.service.command, "submit", asset, "--webhook", url, "--json")
        assert by_command.returncode == 0, by_command.stderr
        sleeper = site.service.directory / "sleeper"
        sleeper.write_text("exec sleep 60")
        asked = Submission(path=sleeper, name="sleeper", kind=KIND, webhook=url)
        slow = await Submitter(site.stores).place(asked, new_id(), {}, "text/plain")
        assert (await client.post(f"/api/v1/jobs/{slow.id}/cancel")).status_code == 200

        told = await there.receives(4, within=40)
        ids = {job_id, by_form.headers["location"].rpartition("/")[2], _only(json.loads(by_command.stdout))["id"]}
        assert {each.id for each in told} == {f"{each}:completed" for each in ids} | {f"{slow.id}:cancelled"}

        async def standing() -> dict[str, Any]:
            found: dict[str, Any] = (await client.get(f"/api/v1/jobs/{job_id}/webhook")).json()
            return found

        async def delivered() -> bool:
            return bool((await standing())["state"] == "delivered")

        await until(delivered, within=20)
        assert "of-ours" not in json.dumps(await standing())
        page = (await client.get(f"/jobs/{job_id}")).text
        assert f"http://127.0.0.1:{there.port}, told" in page
        assert "of-ours" not in page
        story = await asyncio.to_thread(site.service.command, "job", job_id)
        assert f"http://127.0.0.1:{there.port}, delivered, the receiver answered 200" in story.stdout

        for path in ("/api/v1/jobs", "/jobs"):
            refused = await post(path, "http://169.254.169.254/latest")
            assert refused.status_code == 422
            assert "the address is not a public one" in refused.text
        refused_too = await asyncio.to_thread(site.service.command, "submit", asset, "--webhook", "ftp://x.example/")
        assert refused_too.returncode == 2
        assert "begin with http://" in refused_too.stderr
    assert len(there.told) == 4


def _only(told: dict[str, Any]) -> dict[str, Any]:
    (job,) = told["jobs"]
    found: dict[str, Any] = job
    return found
