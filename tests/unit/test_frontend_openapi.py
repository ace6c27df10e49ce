"""The OpenAPI document is what the service does: no more, no less."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import jsonschema  # type: ignore[import-untyped] # it has no stubs, and three calls need none
import pytest

from rolehost.errors import StoreFullError, StoreUnavailableError
from rolehost.frontend import instances
from rolehost.frontend.settings import FrontendSettings
from rolehost.jobs.poison import PoisonDesk
from rolehost.jobs.submission import Submitter
from rolehost.jobs.table import JobTable
from support.front_end import FrontEnd, front_end, picture, seed_all
from support.seeded_instances import seed_instances

SETTINGS = FrontendSettings(upload_cap=100_000, grace_seconds=0.3, body_seconds=0.3)
FILE = {"file": ("a.png", picture(), "image/png")}
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FrontEnd]:
    async with front_end(tmp_path / "data", SETTINGS) as running:
        yield running


async def document(site: FrontEnd) -> dict[str, Any]:
    told: dict[str, Any] = (await site.client.get("/api/v1/openapi.json")).json()
    return told


def holds(told: dict[str, Any], operation: dict[str, Any], response: httpx2.Response) -> None:
    """The answer is one that the document has for this operation, down to its body."""
    described = operation["responses"][str(response.status_code)]
    kinds = described.get("content", {})
    kind = str(response.headers.get("content-type"))
    if response.status_code == 304:
        return
    if kind not in kinds and "*/*" in kinds:
        kind = "*/*"
    assert kind in kinds, (response.status_code, kind)
    for name in described.get("headers", {}):
        assert name in response.headers
    if kind.endswith("json"):
        schema = kinds[kind]["schema"] | {"components": told["components"]}
        jsonschema.validate(response.json(), schema, format_checker=jsonschema.FormatChecker())


async def test_it_is_openapi_3_1_and_needs_nothing_from_elsewhere(site: FrontEnd) -> None:
    response = await site.client.get("/api/v1/openapi.json")
    assert response.json()["openapi"].startswith("3.1")
    assert "http://" not in response.text.replace("http://127.0.0.1", "")
    assert (await site.client.get("/docs")).status_code == 404
    assert set(response.json()["paths"]) == {
        "/api/v1/kinds",
        "/api/v1/batches",
        "/api/v1/batches/{batch_id}",
        "/api/v1/batches/{batch_id}/cancel",
        "/api/v1/batches/{batch_id}/jobs",
        "/api/v1/batches/{batch_id}/results.zip",
        "/api/v1/batches/{batch_id}/seal",
        "/api/v1/jobs",
        "/api/v1/jobs/{job_id}",
        "/api/v1/jobs/{job_id}/result",
        "/api/v1/jobs/{job_id}/log",
        "/api/v1/jobs/{job_id}/cancel",
        "/api/v1/jobs/{job_id}/replay",
        "/api/v1/jobs/{job_id}/provenance",
        "/api/v1/jobs/{job_id}/webhook",
        "/api/v1/poison",
        "/api/v1/poison/replay",
        "/api/v1/poison/purge",
        "/api/v1/poison/{entry_id}",
        "/api/v1/poison/{entry_id}/input",
        "/api/v1/poison/{entry_id}/purge",
        "/api/v1/instances",
        "/api/v1/scale",
    }


async def test_every_reference_in_it_leads_somewhere(site: FrontEnd) -> None:
    told = await document(site)
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(told)))
    assert named == set(told["components"]["schemas"])
    for schema in told["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(
    ("fields", "good"),
    [
        ({}, True),
        ({"size": "Small"}, True),
        ({"size": "Custom", "width": 5, "height": 5}, True),
        ({"size": "Custom", "width": 5, "height": 10_001}, False),
        ({"colour": "red"}, False),
    ],
)
async def test_the_form_schema_and_the_service_agree(site: FrontEnd, fields: dict[str, Any], *, good: bool) -> None:
    told = await document(site)
    form = told["paths"]["/api/v1/jobs"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert jsonschema.Draft202012Validator(form).is_valid({"file": "a"} | fields) == good
    sent = {name: str(value) for name, value in fields.items()}
    answer = await site.client.post("/api/v1/jobs", files=FILE, data=sent)
    assert answer.status_code == (202 if good else 422)


async def test_every_documented_answer_of_submit_is_given(site: FrontEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    told = await document(site)
    operation = told["paths"]["/api/v1/jobs"]["post"]
    seen = set()

    async def given(**request: Any) -> None:
        response = await site.client.post("/api/v1/jobs", **request)
        holds(told, operation, response)
        seen.add(str(response.status_code))

    await given(files=FILE)
    await given(content=b"x", headers=FORM)
    await given(files=FILE, headers={"Idempotency-Key": ""})
    await given(files=FILE, headers={"Sec-Fetch-Site": "cross-site"})
    await given(files={"file": ("a.png", picture() + b"z" * 100_000)})
    await given(files={"file": ("a.png", b"text")})
    await given(content=b"x")
    await given(files=FILE, data={"size": "Huge"})
    await given(files=FILE, headers={"Idempotency-Key": "k"})
    await given(files=FILE, data={"size": "Small"}, headers={"Idempotency-Key": "k"})
    await given(content=_never_ending(), headers=FORM)
    await asyncio.gather(*(given(files=FILE, headers={"Idempotency-Key": "same"}) for _ in range(8)))
    for error in (StoreFullError("x"), StoreUnavailableError("x"), RuntimeError("x")):
        monkeypatch.setattr(Submitter, "submit", _failing(error))
        await given(files=FILE)
    assert seen | {"default"} == set(operation["responses"])


async def _never_ending() -> AsyncIterator[bytes]:
    yield b"--x\r\n"
    await asyncio.sleep(1)


def _failing(error: Exception) -> Any:
    async def fail(*_: object, **__: object) -> None:
        raise error

    return fail


async def test_every_documented_answer_of_the_others_is_given(
    site: FrontEnd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = await document(site)
    jobs = await seed_all(site.stores, tmp_path)
    seen: dict[tuple[str, str], set[str]] = {}

    async def given(method: str, path: str, which: str = "", **request: Any) -> httpx2.Response:
        job_id = jobs[which].id if which else "01900000-0000-7000-8000-000000000000"
        response = await site.client.request(method, path.replace("{job_id}", job_id), **request)
        holds(told, told["paths"][path.partition("?")[0]][method.lower()], response)
        seen.setdefault((method.lower(), path.partition("?")[0]), set()).add(str(response.status_code))
        return response

    paths = ["/api/v1/jobs/{job_id}" + rest for rest in ("", "/result", "/log", "/provenance")]
    for which in ("", *jobs):
        for path in paths:
            await given("GET", path, which)
    tag = (await given("GET", paths[1], "completed")).headers["etag"]
    await given("GET", paths[1], "completed", headers={"If-None-Match": tag})
    await given("GET", paths[1], "completed", headers={"Range": "bytes=0-9"})
    await given("GET", paths[1], "completed", headers={"Range": "bytes=99999999-"})
    await given("GET", "/api/v1/kinds")
    await given("GET", "/api/v1/jobs")
    await given("GET", "/api/v1/jobs?limit=0")
    await given("GET", "/api/v1/instances")
    await seed_instances(site.stores)
    await given("GET", "/api/v1/instances")
    replay = "/api/v1/jobs/{job_id}/replay"
    for which in ("", "poisoned", "queued"):
        await given("POST", replay, which)
    await given("POST", replay, "failed", headers={"Origin": "null"})
    await given("POST", replay + "?again=perhaps", "failed")
    cancel = "/api/v1/jobs/{job_id}/cancel"
    for which in ("", "poisoned", "queued"):
        await given("POST", cancel, which)
    await given("POST", cancel, "queued", headers={"Origin": "null"})
    monkeypatch.setattr(PoisonDesk, "replay", _failing(StoreFullError("x")))
    await given("POST", replay, "failed")
    for error in (StoreUnavailableError("x"), RuntimeError("x")):
        monkeypatch.setattr(JobTable, "read", _failing(error))
        monkeypatch.setattr(JobTable, "list", _failing(error))
        monkeypatch.setattr(instances, "stored_status", _failing(error))
        for path in paths:
            await given("GET", path, "queued")
        await given("GET", "/api/v1/jobs")
        await given("GET", "/api/v1/instances")
        await given("POST", replay, "queued")
        await given("POST", cancel, "queued")
    for (method, path), statuses in seen.items():
        assert statuses | {"default"} == set(told["paths"][path][method]["responses"]), (method, path)


async def test_what_any_address_may_answer_is_a_problem_too(site: FrontEnd) -> None:
    told = await document(site)
    schema = told["paths"]["/api/v1/jobs"]["get"]["responses"]["default"]["content"]["application/problem+json"][
        "schema"
    ]
    for request, status in (
        ({"method": "DELETE"}, 405),
        ({"method": "GET", "headers": {"Cookie": "c" * 40_000}}, 431),
        ({"method": "GET", "headers": {"Content-Encoding": "gzip"}}, 415),
        ({"method": "GET", "content": b"z" * 200_000}, 413),
    ):
        response = await site.client.request(url="/api/v1/jobs", **request)
        assert response.status_code == status
        jsonschema.validate(response.json(), schema | {"components": told["components"]})


async def test_the_form_is_described_as_it_is_read(site: FrontEnd) -> None:
    """What the schema allows is accepted, what it forbids is refused."""
    told = await document(site)
    form = told["paths"]["/api/v1/jobs"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["required"] == ["file"]
    for size in form["properties"]["size"]["enum"]:
        sides = {"width": "1", "height": str(form["properties"]["height"]["maximum"])} if size == "Custom" else {}
        for kind in form["properties"]["format"]["enum"]:
            answer = await site.client.post("/api/v1/jobs", files=FILE, data={"size": size, "format": kind} | sides)
            assert answer.status_code == 202
    wrong = {"size": "Custom", "width": "0", "height": str(form["properties"]["height"]["maximum"] + 1)}
    assert (await site.client.post("/api/v1/jobs", files=FILE, data=wrong)).status_code == 422
    default = (await site.client.post("/api/v1/jobs", files=FILE)).json()["parameters"]["size"]
    assert default == form["properties"]["size"]["default"]
