"""Webhooks in the form, the API and the pages: what is checked, what is shown, what is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from rolehost.frontend.settings import FrontendSettings
from rolehost.jobs.webhook_settings import WebhookSettings
from support.front_end import FrontEnd, front_end, picture
from support.receiver import KEY

URL = "https://hooks.example.org/of-ours?token=1"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FrontEnd]:
    settings = FrontendSettings(webhooks=WebhookSettings(secrets=(KEY,), hosts=("hooks.example.org",)))
    async with front_end(tmp_path, settings) as site:
        yield site


async def sent(site: FrontEnd, path: str = "/api/v1/jobs", **fields: str) -> httpx2.Response:
    files = {"file": ("a.png", picture(), "image/png")}
    return await site.client.post(path, files=files, data={"size": "Small", **fields})


async def test_a_webhook_is_kept_and_only_its_host_is_shown(site: FrontEnd) -> None:
    answer = await sent(site, webhook=f" {URL} ")
    assert answer.status_code == 202, answer.text
    assert answer.json()["webhook"] == "https://hooks.example.org"
    assert "webhook" not in answer.json()["parameters"]
    job = await site.jobs.read(answer.json()["id"])
    assert job is not None
    assert job.spec.webhook == URL
    page = (await site.client.get(f"/jobs/{job.id}")).text
    assert "https://hooks.example.org, told once the job is over" in page
    told = (await site.client.get(f"/api/v1/jobs/{job.id}/webhook")).json()
    assert told == {
        "to": "https://hooks.example.org",
        "state": "waiting",
        "tries": 0,
        "why": None,
        "tried_at": None,
        "next_at": None,
    }
    assert "of-ours" not in page + str(told)
    await site.client.post(f"/api/v1/jobs/{job.id}/cancel")
    assert "https://hooks.example.org, not told yet" in (await site.client.get(f"/jobs/{job.id}")).text


@pytest.mark.parametrize("path", ["/api/v1/jobs", "/jobs"])
@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://10.0.0.1/", "the address is not a public one"),
        ("http://hooks.example.org/", "has to begin with https://"),
        ("https://other.example.org/", "none of those that are allowed"),
    ],
)
async def test_a_webhook_that_can_not_be_told_is_refused_at_once(site: FrontEnd, path: str, url: str, why: str) -> None:
    answer = await sent(site, path, webhook=url)
    assert answer.status_code == 422
    assert why in answer.text
    if path != "/jobs":
        assert [each["field"] for each in answer.json()["errors"]] == ["webhook"]
    else:
        marked = 'aria-invalid="true" aria-describedby="field-webhook-fault field-webhook-hint"'
        assert f'value="{url}" {marked}' in answer.text
    assert (await site.jobs.list()).jobs == []


async def test_where_no_secret_is_set_no_webhook_is_offered_or_taken(tmp_path: Path) -> None:
    async with front_end(tmp_path) as site:
        assert 'name="webhook"' not in (await site.client.get("/")).text
        answer = await sent(site, webhook=URL)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "webhook")
        assert "webhooks are not set up here" in answer.text
        job = (await sent(site, webhook="")).json()
        assert job["webhook"] is None
        none = await site.client.get(f"/api/v1/jobs/{job['id']}/webhook")
        assert (none.status_code, none.json()["type"]) == (404, "urn:rolehost:problem:no-webhook")


async def test_the_form_offers_it_where_it_is_set_up(site: FrontEnd) -> None:
    assert 'name="webhook" type="url"' in (await site.client.get("/")).text
    answer = await sent(site, "/jobs", webhook=URL, form="a-nonce")
    again = await sent(site, "/jobs", webhook=URL, form="a-nonce")
    assert answer.status_code == 303
    assert answer.headers["location"] == again.headers["location"], "a form that is sent twice makes one job"
