"""Pages of jobs that are no thumbnails: a worker of the user's takes and makes anything."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rolehost.jobs.job import Job
from support.front_end import FrontEnd, Seed, front_end, seed_other_kinds


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FrontEnd]:
    async with front_end(tmp_path / "data") as running:
        yield running


@pytest.fixture
async def jobs(site: FrontEnd, tmp_path: Path) -> dict[str, Job]:
    return await seed_other_kinds(site.stores, tmp_path)


async def test_lists_show_files_and_no_broken_pictures(site: FrontEnd, jobs: dict[str, Job]) -> None:
    for path in ("/", "/jobs", "/jobs?state=completed"):
        text = (await site.client.get(path)).text
        assert "/picture" not in text
        assert '<span class="blank completed file"' in text
        assert "shout: loudness 11, language en" in text
    assert jobs["running"].id in (await site.client.get("/jobs")).text


async def test_the_page_of_a_completed_job(site: FrontEnd, jobs: dict[str, Job]) -> None:
    for name, kind in (("plain", "text/plain"), ("unknown", "application/octet-stream")):
        text = (await site.client.get(f"/jobs/{jobs[name].id}")).text
        for image in re.findall("<img[^>]*>", text):
            assert "favicon" in image
        assert "<dt>Kind</dt><dd>shout</dd>" in text
        assert "<dt>loudness</dt><dd>11</dd>" in text
        assert "<b>Result</b>" in text
        assert f"{name}-made.txt" in text
        assert kind in text
        assert "SHA-256 of the result" in text
        assert f'href="/jobs/{jobs[name].id}/result" download' in text
        for word in ("thumbnail", "Thumbnail<", "Thumbnail ", "Asked for", "shown by browsers", "shown here"):
            assert word not in text


async def test_the_pages_of_other_states(site: FrontEnd, jobs: dict[str, Job]) -> None:
    running = (await site.client.get(f"/jobs/{jobs['running'].id}")).text
    assert "Being made" in running
    assert "<dt>greeting</dt><dd>Hello, &lt;b&gt;world" in running
    poisoned = (await site.client.get(f"/jobs/{jobs['poisoned'].id}")).text
    assert "There is no result: the job is poisoned." in poisoned
    assert "<dt>Parameters</dt><dd>none</dd>" in poisoned


async def test_the_poison_desk_begins_with_what_it_is(site: FrontEnd, jobs: dict[str, Job]) -> None:
    text = (await site.client.get("/poison")).text
    assert re.search(r'<span class="muted">shout · 2 attempts · <time', text)
    assert jobs["poisoned"].spec.source.name in text


async def test_a_picture_of_another_kind_is_shown(site: FrontEnd, tmp_path: Path) -> None:
    seed = Seed(site.stores, tmp_path)
    job = await seed.completed(await seed.queued("a.png", kind="mirror"))
    text = (await site.client.get(f"/jobs/{job.id}")).text
    assert f'src="/jobs/{job.id}/source"' in text
    assert f'src="/jobs/{job.id}/picture" alt="The result"' in text
    assert "/picture" in (await site.client.get("/jobs")).text


async def test_thumbnails_have_a_kind_too(site: FrontEnd, tmp_path: Path) -> None:
    seed = Seed(site.stores, tmp_path)
    job = await seed.completed(await seed.queued("a.png"))
    text = (await site.client.get(f"/jobs/{job.id}")).text
    assert '<dt>Kind</dt><dd>Thumbnails <span class="muted">thumbnail</span></dd>' in text
    assert "<dt>Asked for</dt><dd>Medium, PNG, inside 512 \N{MULTIPLICATION SIGN} 512 px</dd>" in text
    assert "SHA-256 of the thumbnail" in text
