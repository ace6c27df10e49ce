"""Work in progress on the pages and in the API: shown while it runs, and kept up to date by one script or by none."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped] # it has no stubs, and three calls need none
import pytest

from rolehost.jobs.codec import dumps
from rolehost.jobs.job import Job
from rolehost.jobs.table import TABLE
from support.front_end import FrontEnd, Seed, front_end


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FrontEnd]:
    async with front_end(tmp_path / "data") as running:
        yield running


async def running_job(site: FrontEnd, folder: Path, progress: dict[str, Any] | None) -> Job:
    """A job that runs, and what its worker has told of it."""
    seed = Seed(site.stores, folder)
    job = await seed.queued("film.txt", b"words", kind="shout")
    await seed.running(job)
    if progress is not None:
        table = site.stores.table(TABLE)
        row = await table.read(job.id)
        assert row
        await table.write(job.id, row.version, {"progress": dumps(progress)})
    return job


async def test_progress_is_shown_on_the_page_in_the_list_and_by_the_api(site: FrontEnd, tmp_path: Path) -> None:
    job = await running_job(site, tmp_path, {"percent": 41.3, "eta_seconds": 12})
    for path in (f"/jobs/{job.id}", "/jobs", "/"):
        text = (await site.client.get(path)).text
        assert '<progress max="100" value="41.3" aria-label="Progress of film.txt">' in text
        assert '41 %<span class="muted">, about 12 s left</span>' in text
    page = (await site.client.get(f"/jobs/{job.id}")).text
    assert '<p class="hidden" role="status">running, 40 percent</p>' in page
    assert f'action="/jobs/{job.id}/cancel"' in page
    told = (await site.client.get(f"/api/v1/jobs/{job.id}")).json()
    assert told["progress"] == {"percent": 41.3, "eta_seconds": 12}
    document = (await site.client.get("/api/v1/openapi.json")).json()
    schema = {"$ref": "#/components/schemas/Job", "components": document["components"]}
    jsonschema.validate(told, schema)


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        ({"percent": 0, "eta_seconds": None}, ("0.0", "0 %")),
        ({"percent": 99.96, "eta_seconds": 0.2}, ("100.0", "99 %, about 1 s left")),
        ({"percent": 130}, ("100.0", "100 %")),
        ({"percent": -3}, ("0.0", "0 %")),
        ({"percent": 12.5, "eta_seconds": 7500}, ("12.5", "12 %, about 2 h 5 min left")),
        ({"percent": None, "eta_seconds": None}, None),
        ({"percent": "half"}, None),
        ({"frames": 17}, None),
    ],
)
async def test_whatever_a_worker_tells_the_page_is_sound(
    site: FrontEnd, tmp_path: Path, progress: dict[str, Any], shown: tuple[str, str] | None
) -> None:
    job = await running_job(site, tmp_path, progress)
    text = (await site.client.get(f"/jobs/{job.id}")).text
    bar = re.search(r"<progress ([^>]*)>", text)
    assert bar
    if shown is None:
        assert "value" not in bar[1]
        assert " %" not in text
    else:
        assert f'value="{shown[0]}"' in bar[1]
        assert shown[1] in re.sub(r"</?span[^>]*>", "", text)


async def test_progress_is_of_jobs_that_run(site: FrontEnd, tmp_path: Path) -> None:
    waiting = await running_job(site, tmp_path, None)
    assert "<progress" not in (await site.client.get(f"/jobs/{waiting.id}")).text
    seed = Seed(site.stores, tmp_path)
    job = await running_job(site, tmp_path, {"percent": 41.3, "eta_seconds": 12})
    await seed.cancelled(job)
    for path in (f"/jobs/{job.id}", "/jobs"):
        assert "<progress" not in (await site.client.get(path)).text


async def test_a_page_in_progress_has_one_script_and_the_policy_names_it(site: FrontEnd, tmp_path: Path) -> None:
    job = await running_job(site, tmp_path, {"percent": 41.3})
    for path in (f"/jobs/{job.id}", "/jobs"):
        response = await site.client.get(path)
        scripts = re.findall(r"<script([^>]*)>(.*?)</script>", response.text, re.DOTALL)
        ((attributes, script),) = scripts
        digest = b64encode(sha256(script.encode()).digest()).decode()
        policy = [part.strip() for part in response.headers["content-security-policy"].split(";")]
        assert attributes == ""
        assert f"script-src 'sha256-{digest}'" in policy
        assert "connect-src 'self'" in policy
        assert "default-src 'none'" in policy
        assert 'data-refresh="1"' in response.text
        assert '<noscript><meta http-equiv="refresh" content="2"></noscript>' in response.text


async def test_other_pages_may_run_no_script(site: FrontEnd, tmp_path: Path) -> None:
    seed = Seed(site.stores, tmp_path)
    done = await seed.completed(await seed.queued("a.txt", b"words", kind="shout"), b"WORDS", kind="text/plain")
    for path in ("/", "/jobs", f"/jobs/{done.id}", "/poison", "/api", "/nothing"):
        response = await site.client.get(path)
        assert "<script" not in response.text
        assert "data-refresh" not in response.text
        assert "script-src" not in response.headers["content-security-policy"]
        assert "connect-src" not in response.headers["content-security-policy"]
