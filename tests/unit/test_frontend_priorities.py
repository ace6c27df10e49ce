"""Priority and group in the API, the form and the pages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from rolehost.jobs.job import Priority
from support.front_end import FrontEnd, front_end, picture


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FrontEnd]:
    async with front_end(tmp_path) as site:
        yield site


async def sent(site: FrontEnd, path: str = "/api/v1/jobs", **fields: str) -> httpx2.Response:
    files = {"file": ("a.png", picture(), "image/png")}
    return await site.client.post(path, files=files, data={"size": "Small", **fields})


async def test_a_priority_is_kept_and_shown_where_it_is_not_the_usual_one(site: FrontEnd) -> None:
    high, usual = await sent(site, priority="high"), await sent(site, priority="normal")
    assert (high.status_code, high.json()["priority"]) == (202, "high")
    assert "priority" not in usual.json()
    assert "priority" not in high.json()["parameters"]
    job = await site.jobs.read(high.json()["id"])
    assert job is not None
    assert job.spec.priority is Priority.HIGH
    assert (await site.client.get(f"/api/v1/jobs/{job.id}")).json()["priority"] == "high"
    assert "<dt>Priority</dt><dd>high</dd>" in (await site.client.get(f"/jobs/{job.id}")).text
    assert "<dt>Priority</dt>" not in (await site.client.get(f"/jobs/{usual.json()['id']}")).text
    assert 'name="priority"' in (await site.client.get("/")).text
    assert 'name="group"' not in (await site.client.get("/")).text  # the queues have no sessions


@pytest.mark.parametrize("path", ["/api/v1/jobs", "/jobs"])
@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("priority", "urgent", "priority must be one of high, normal, low"),
        ("group", "red", "needs queues on Azure Service Bus"),
        ("group", "x" * 129, "a name of up to 128 characters"),
    ],
)
async def test_what_is_wrong_is_refused_at_once(site: FrontEnd, path: str, field: str, value: str, why: str) -> None:
    answer = await sent(site, path, **{field: value})
    assert answer.status_code == 422
    assert why in answer.text
    if path != "/jobs":
        assert [each["field"] for each in answer.json()["errors"]] == [field]
    assert (await site.jobs.list()).jobs == []
