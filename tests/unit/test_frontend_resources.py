"""Resource files over HTTP: in JSON, and beside an upload."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import jsonschema  # type: ignore[import-untyped] # it has no stubs, and two calls need none
import pytest

from rolehost.frontend.settings import FrontendSettings
from rolehost.jobs.sources import SourceSettings
from support.front_end import FrontEnd, front_end, picture

URL = "https://pictures.example.org/words?sig=swordfish"
SOURCES = SourceSettings(hosts=("*",), refused_hosts=("own.example.org",), blobs=("assets/",))
ASKED = [{"name": "logo.png", "blob": "assets/photo.png"}, {"name": "words.srt", "url": URL}]
SHOWN = [ASKED[0], {"name": "words.srt", "url": "https://pictures.example.org/words"}]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FrontEnd]:
    async with front_end(tmp_path, FrontendSettings(sources=SOURCES, allowed_hosts="*")) as site:
        await site.stores.blobs.put("assets/photo.png", picture())
        yield site


async def by_json(site: FrontEnd, resources: object, **headers: str) -> httpx2.Response:
    body = {"source": {"blob": "assets/photo.png"}, "resources": resources}
    return await site.client.post("/api/v1/jobs", json=body, headers=headers)


async def by_form(site: FrontEnd, resources: object, **more: str) -> httpx2.Response:
    text = resources if isinstance(resources, str) else json.dumps(resources)
    fields = {"size": "Small", "resources": text, **more}
    return await site.client.post("/api/v1/jobs", files={"file": ("a.png", picture())}, data=fields)


@pytest.mark.parametrize("send", [by_json, by_form])
async def test_they_are_accepted_beside_a_source_and_shown_without_queries(site: FrontEnd, send: Any) -> None:
    answer = await send(site, ASKED)
    assert answer.status_code == 202, answer.text
    assert answer.json()["resources"] == SHOWN
    job = await site.jobs.read(answer.json()["id"])
    assert job is not None
    assert [(each.name, each.blob, each.url) for each in job.spec.resources] == [
        ("logo.png", "assets/photo.png", ""),
        ("words.srt", "", URL),
    ]
    page = (await site.client.get(f"/jobs/{job.id}")).text
    assert "words.srt" in page
    assert "swordfish" not in page + answer.text


@pytest.mark.parametrize("send", [by_json, by_form])
@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": "a/b", "blob": "assets/photo.png"}, "/resources/0/name"),
        ({"name": "a", "blob": "inputs/x/source"}, "/resources/0/blob"),
        ({"name": "a", "blob": "assets/none.png"}, "/resources/0/blob"),
        ({"name": "a", "url": "https://169.254.169.254/"}, "/resources/0/url"),
        ({"name": "a", "url": "https://own.example.org/"}, "/resources/0/url"),
        ({"name": "a"}, "/resources/0"),
    ],
)
async def test_one_that_may_not_be_is_refused_and_where(site: FrontEnd, send: Any, wrong: object, field: str) -> None:
    answer = await send(site, [wrong])
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), answer.text
    assert (await site.jobs.list()).jobs == []


async def test_they_do_not_lead_back_to_where_the_request_was_sent(site: FrontEnd) -> None:
    asked = [{"name": "a", "url": "https://front.example.org/x"}]
    assert (await by_json(site, asked)).status_code == 202
    answer = await by_json(site, asked, Host="front.example.org")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "/resources/0/url"), answer.text
    assert "this service's own" in answer.text


async def test_a_form_has_them_as_strict_json_of_some_length(site: FrontEnd) -> None:
    assert "resources" not in (await by_form(site, "")).json()
    for text, status in (("[", 400), ('[{"name": "a", "name": "b"}]', 400), ("[" + " " * 65536 + "]", 413)):
        answer = await by_form(site, text)
        assert answer.status_code == status, answer.text
        assert "resources" in answer.json()["detail"]
    names = [{"name": f"n{number}", "url": f"https://a.example.org/{'x' * 1500}"} for number in range(16)]
    assert (await by_form(site, names)).status_code == 202


async def test_they_are_no_parameter_of_a_kind_that_takes_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLEHOST_KINDS", '["shout"]')
    async with front_end(tmp_path, FrontendSettings(sources=SOURCES)) as site:
        await site.stores.blobs.put("assets/photo.png", picture())
        answer = await by_form(site, ASKED, kind="shout")
        assert answer.status_code == 202, answer.text
        assert (answer.json()["parameters"], answer.json()["resources"]) == ({"size": "Small"}, SHOWN)


async def test_the_document_of_the_api_knows_them(site: FrontEnd) -> None:
    told = (await site.client.get("/api/v1/openapi.json")).json()
    content = told["paths"]["/api/v1/jobs"]["post"]["requestBody"]["content"]
    body = {"source": {"blob": "assets/photo.png"}, "kind": "thumbnail"}
    schema = jsonschema.Draft202012Validator(content["application/json"]["schema"])
    assert schema.is_valid(body | {"resources": ASKED})
    for wrong in ([{"name": "a"}], [{"name": "a/b", "url": URL}], [{"name": "a", "url": URL, "blob": "a"}], "a"):
        assert not schema.is_valid(body | {"resources": wrong})
    form = jsonschema.Draft202012Validator(content["multipart/form-data"]["schema"])
    assert form.is_valid({"file": "a", "resources": json.dumps(ASKED)})
