"""Queries of the list: what is empty counts as not given, and faults are told in plain sentences."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.front_end import FrontEnd, Seed, front_end

JOBS = "/api/v1/jobs"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FrontEnd]:
    async with front_end(tmp_path / "data") as running:
        yield running


@pytest.mark.parametrize("query", ["state=&cursor=", "limit=", "state=&limit=&cursor=", "state=queued&limit=&cursor="])
async def test_empty_is_as_not_given(site: FrontEnd, tmp_path: Path, query: str) -> None:
    seed = Seed(site.stores, tmp_path)
    for number in range(51):
        await seed.queued(f"{number}.png")
    response = await site.client.get(f"{JOBS}?{query}")
    assert response.status_code == 200
    assert len(response.json()["jobs"]) == 50
    page = await site.client.get("/jobs?state=&cursor=")
    assert page.text.count('class="row"') == 40
    assert ">Newest</a>" not in page.text, "it is the first page"


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        (
            "state=bogus",
            "state must be queued, running, completed, failed, poisoned or cancelled, not 'bogus'",
        ),
        ("limit=x", "limit must be a whole number, not 'x'"),
        ("limit=1.5", "limit must be a whole number, not '1.5'"),
        ("limit=0", "limit must be at least 1, not '0'"),
        ("limit=999", "limit must be at most 200, not '999'"),
        ("limit=" + "9" * 5000, "limit must be a whole number of fewer digits"),
        ("cursor=" + "a" * 2000, "cursor must have at most 1024 characters"),
    ],
)
async def test_faults_are_told_in_plain_sentences(site: FrontEnd, query: str, detail: str) -> None:
    response = await site.client.get(f"{JOBS}?{query}")
    field = query.partition("=")[0]
    assert response.status_code == 422
    assert response.json()["detail"] == detail
    assert response.json()["errors"] == [{"field": field, "detail": detail}]
    both = (await site.client.get(f"{JOBS}?state=bogus&limit=x")).json()["detail"]
    assert both.endswith("not 'bogus'; limit must be a whole number, not 'x'")
