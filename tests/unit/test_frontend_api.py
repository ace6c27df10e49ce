"""The JSON API, over HTTP and embedded stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from rolehost.errors import StoreFullError, StoreUnavailableError
from rolehost.jobs.job import JobState
from rolehost.jobs.submission import Submitter
from support.front_end import FrontEnd, Seed, front_end, picture, seed_all

JOBS = "/api/v1/jobs"
UNKNOWN = "01900000-0000-7000-8000-000000000000"
PNG = ("hills.png", picture(), "image/png")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FrontEnd]:
    async with front_end(tmp_path / "data") as running:
        yield running


async def post(site: FrontEnd, *files: Any, data: dict[str, str] | None = None, **headers: str) -> httpx2.Response:
    named = [("file", file) for file in files]
    return await site.client.post(
        JOBS, files=named, data=data or {}, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def problem(response: httpx2.Response, status: int, kind: str, field: str = "") -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = response.json()
    assert (response.status_code, told["status"], told["type"]) == (status, status, f"urn:rolehost:problem:{kind}"), (
        told
    )
    assert told["title"]
    assert told["detail"]
    assert told["instance"] == response.url.raw_path.decode().partition("?")[0]
    assert [fault["field"] for fault in told.get("errors", [])] == ([field] if field else [])
    return told


async def test_a_picture_becomes_a_queued_job(site: FrontEnd) -> None:
    response = await post(site, PNG, data={"size": "Custom", "width": "640", "height": "480", "format": "webp"})
    job = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"{JOBS}/{job['id']}"
    assert job["state"] == "queued"
    assert job["parameters"] == {"size": "Custom", "width": 640, "height": 480, "format": "webp"}
    assert job["source"] == {"name": "hills.png", "size": len(PNG[1]), "type": "image/png"}
    assert (await site.client.get(response.headers["location"])).json() == job
    assert site.spooled() == []


async def test_only_the_file_is_needed_and_its_content_decides(site: FrontEnd) -> None:
    response = await post(site, ("photo.txt", picture(kind="JPEG"), "text/plain"))
    assert response.json()["parameters"] == {"size": "Medium", "width": 512, "height": 512, "format": "jpeg"}
    assert response.json()["source"]["type"] == "image/jpeg"


async def test_a_large_upload_arrives_whole(site: FrontEnd) -> None:
    content = picture() + b"\0" * 3_000_000
    job = (await post(site, ("big.png", content, "image/png"))).json()
    pieces = [piece async for piece in site.stores.blobs.stream(f"inputs/{job['id']}/source")]
    assert b"".join(pieces) == content


@pytest.mark.parametrize(
    ("files", "data", "status", "kind", "field"),
    [
        ([], {"size": "Small"}, 422, "missing-file", "file"),
        ([PNG, PNG], {}, 422, "too-many-files", "file"),
        ([("empty.png", b"")], {}, 422, "empty-file", "file"),
        ([("note.jpg", b"I am no picture, whatever I am called.")], {}, 415, "not-a-picture", ""),
        ([("short.jpg", b"hello")], {}, 415, "not-a-picture", ""),
        ([("page.png", b"<html>" * 20)], {}, 415, "not-a-picture", ""),
        ([("tool.png", b"\x7fELF" * 20)], {}, 415, "not-a-picture", ""),
        ([PNG], {"size": "Huge"}, 422, "invalid-parameter", "size"),
        ([PNG], {"size": "Custom", "width": "5"}, 422, "invalid-parameter", "height"),
        ([PNG], {"size": "Custom", "width": "-5", "height": "5"}, 422, "invalid-parameter", "width"),
        ([PNG], {"size": "Custom", "width": "1e308", "height": "5"}, 422, "invalid-parameter", "width"),
        ([PNG], {"size": "Small", "width": "5"}, 422, "invalid-parameter", "width"),
        ([PNG], {"format": "tiff"}, 422, "invalid-parameter", "format"),
        ([PNG], {"colour": "red"}, 422, "unknown-field", "colour"),
        ([PNG], {"format": "x" * 3000}, 413, "field-too-large", "format"),
    ],
)
async def test_refusals(
    site: FrontEnd, *, files: list[Any], data: dict[str, str], status: int, kind: str, field: str
) -> None:
    form = [("file", file) for file in files] or {"size": (None, "Small")}
    response = await site.client.post(JOBS, files=form, data=data if files else {})
    problem(response, status, kind, field)
    assert (await site.client.get(JOBS)).json() == {"jobs": [], "cursor": None}
    assert site.spooled() == []


@pytest.mark.parametrize(
    ("content_type", "body", "status", "kind"),
    [
        ("application/xml", b"<a/>", 415, "unsupported-media-type"),
        ("application/x-www-form-urlencoded", b"size=Small", 415, "unsupported-media-type"),
        ("multipart/form-data", b"--x--", 400, "malformed-form"),
        ("multipart/form-data; boundary=x", b"nonsense", 400, "malformed-form"),
        ("multipart/form-data; boundary=x", b"", 400, "malformed-form"),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Disposition: attachment\r\n\r\nx\r\n--x--",
            400,
            "malformed-form",
        ),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Disposition: form-data\r\n\r\nx\r\n--x--",
            400,
            "malformed-form",
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + PNG[1],
            400,
            "malformed-form",
        ),
        ("multipart/form-data; boundary=" + "x" * 300, b"", 400, "malformed-form"),
        ("multipart/form-data; boundary=x", b"--x\r\n" + b"A: b\r\n" * 5000, 400, "malformed-form"),
        ("multipart/form-data; boundary=x", b"--x\r\nA: " + b"b" * 200_000, 400, "malformed-form"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="size"\r\n\r\n\xff\r\n--x--\r\n',
            422,
            "invalid-parameter",
        ),
    ],
)
async def test_bodies_that_are_no_form(site: FrontEnd, content_type: str, body: bytes, status: int, kind: str) -> None:
    response = await site.client.post(JOBS, content=body, headers={"Content-Type": content_type})
    problem(response, status, kind, "size" if status == 422 else "")


async def test_a_browser_that_sends_no_file(site: FrontEnd) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\n\r\n--x--\r\n'
    response = await site.client.post(JOBS, content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    problem(response, 422, "missing-file", "file")


async def test_ten_thousand_parts_are_refused_at_once(site: FrontEnd) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="size"\r\n\r\nSmall\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response = await site.client.post(JOBS, content=part * 10_001 + b"--x--\r\n", headers=headers)
    assert response.status_code == 422


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("../../etc/passwd.png", "passwd.png"),
        ("..\\..\\boot.png", "boot.png"),
        ("/abs.png", "abs.png"),
        ("%2e%2e%2fx.png", "%2e%2e%2fx.png"),
        ("a\u202egnp.exe.png", "agnp.exe.png"),
        ("-rf.png", "-rf.png"),
        ("con.txt", "con.txt"),
        ("Übersicht 東京 🏔.png", "Übersicht 東京 🏔.png"),
        ("n" * 4000 + ".png", "n" * 243 + ".png"),
    ],
)
async def test_names_are_only_ever_shown(site: FrontEnd, sent: str, shown: str) -> None:
    head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{sent}"\r\n\r\n'.encode()
    body = head.replace(b"\\", b"\\\\") + PNG[1] + b"\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response = await site.client.post(JOBS, content=body, headers=headers)
    assert response.status_code == 202
    assert response.json()["source"]["name"] == shown


async def test_the_same_key_makes_the_same_job(site: FrontEnd) -> None:
    first = await post(site, PNG, Idempotency_Key="k1")
    again = await post(site, PNG, Idempotency_Key="k1")
    assert (again.status_code, again.headers["location"]) == (202, first.headers["location"])
    problem(await post(site, PNG, data={"size": "Large"}, Idempotency_Key="k1"), 422, "idempotency-key-reused")
    assert len((await site.client.get(JOBS)).json()["jobs"]) == 1


async def test_a_key_that_is_worked_on_is_409(site: FrontEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    placing, go_on = asyncio.Event(), asyncio.Event()
    place = Submitter.place

    async def held_up(self: Submitter, *arguments: Any) -> Any:
        placing.set()
        await go_on.wait()
        return await place(self, *arguments)

    monkeypatch.setattr(Submitter, "place", held_up)
    first = asyncio.create_task(post(site, PNG, Idempotency_Key="k1"))
    await placing.wait()
    second = await post(site, PNG, Idempotency_Key="k1")
    go_on.set()
    problem(second, 409, "idempotency-key-in-flight")
    assert second.headers["retry-after"] == "1"
    assert (await first).status_code == 202


@pytest.mark.parametrize("key", ["", "x" * 10_000, "a\tb"])
async def test_bad_keys(site: FrontEnd, key: str) -> None:
    problem(await post(site, PNG, Idempotency_Key=key), 400, "bad-idempotency-key", "Idempotency-Key")


async def test_a_compressed_body_is_415(site: FrontEnd) -> None:
    response = await post(site, PNG, Content_Encoding="gzip")
    problem(response, 415, "content-encoding")
    assert response.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (StoreFullError("no space left on /secret/path"), 507, "store-full"),
        (OSError(28, "no space"), 507, "store-full"),
        (StoreUnavailableError("/secret/path is locked"), 503, "store-unavailable"),
        (RuntimeError("/secret/path"), 500, "internal"),
    ],
)
async def test_faults_of_ours_are_told_without_what_is_inside(
    site: FrontEnd, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, kind: str
) -> None:
    async def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Submitter, "submit", fail)
    response = await post(site, PNG)
    problem(response, status, kind)
    assert "secret" not in response.text
    assert response.headers.get("retry-after") == ("5" if status == 503 else None)
    assert site.spooled() == []


async def test_lists_by_state_and_page(site: FrontEnd, tmp_path: Path) -> None:
    await seed_all(site.stores, tmp_path)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = (await site.client.get(JOBS, params=query)).json()
        seen += [job["id"] for job in page["jobs"]]
        if (cursor := page["cursor"]) is None:
            break
    assert len(seen) == 10
    assert seen == sorted(seen, reverse=True)
    for state in JobState:
        found = (await site.client.get(JOBS, params={"state": state})).json()["jobs"]
        assert found
        assert {job["state"] for job in found} == {state}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=odd", "state"),
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("limit=201", "limit"),
        ("cursor=%00", "cursor"),
    ],
)
async def test_bad_queries(site: FrontEnd, query: str, field: str) -> None:
    problem(await site.client.get(f"{JOBS}?{query}"), 422, "invalid-parameter", field)


async def test_result_is_there_later_or_never(site: FrontEnd, tmp_path: Path) -> None:
    jobs = await seed_all(site.stores, tmp_path)
    for state, (status, kind) in {
        "queued": (409, "no-result-yet"),
        "running": (409, "no-result-yet"),
        "failed": (404, "no-result"),
        "poisoned": (404, "no-result"),
        "cancelled": (404, "no-result"),
    }.items():
        problem(await site.client.get(f"{JOBS}/{jobs[state].id}/result"), status, kind)
    result = jobs["completed"].result
    assert result
    response = await site.client.get(f"{JOBS}/{jobs['completed'].id}/result")
    assert response.status_code == 200
    assert len(response.content) == result.size == int(response.headers["content-length"])
    assert response.headers["content-type"] == "image/png"
    assert response.headers["content-disposition"].endswith("; filename*=UTF-8''DSC_4413-small.png")
    assert response.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    known = {"If-None-Match": response.headers["etag"]}
    assert (await site.client.get(response.url.path, headers=known)).status_code == 304


async def test_a_result_that_is_a_page_is_only_ever_saved(site: FrontEnd, tmp_path: Path) -> None:
    seed = Seed(site.stores, tmp_path)
    job = await seed.completed(await seed.queued(), b"<script>alert(1)</script>", kind="text/html")
    for path in (f"{JOBS}/{job.id}/result", f"/jobs/{job.id}/result", f"/jobs/{job.id}/picture"):
        response = await site.client.get(path)
        assert response.headers["content-type"] == "application/octet-stream"
        assert response.headers["content-disposition"].startswith("attachment;")
        assert response.headers["x-content-type-options"] == "nosniff"


async def test_log_has_every_attempt(site: FrontEnd, tmp_path: Path) -> None:
    jobs = await seed_all(site.stores, tmp_path)
    response = await site.client.get(f"{JOBS}/{jobs['poisoned'].id}/log")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    headings = [line for line in response.text.splitlines() if line.startswith("== attempt")]
    assert [heading.split(",")[0] for heading in headings] == [f"== attempt {n}: app_error" for n in range(1, 6)]
    assert "exit code 3" in headings[0]
    assert "--- stdout\nopening the picture\nwriting the thumbnail\n--- stderr\nTraceback" in response.text
    assert "\x1b" not in response.text
    queued = await site.client.get(f"{JOBS}/{jobs['queued'].id}/log")
    assert "no attempt has been made yet" in queued.text


async def test_log_is_whole_where_the_row_holds_head_and_tail_only(site: FrontEnd, tmp_path: Path) -> None:
    seed = Seed(site.stores, tmp_path)
    whole = "--- stdout\n" + "ä line\n" * 100_000
    await site.stores.blobs.put("logs/x/1-a.txt", whole.encode())
    job = await seed.completed(await seed.queued(), stdout="head\n[... left out ...]\ntail", log="logs/x/1-a.txt")
    assert (await site.client.get(f"{JOBS}/{job.id}/log")).text.endswith(whole)
    await site.stores.blobs.delete("logs/x/1-a.txt")
    assert (await site.client.get(f"{JOBS}/{job.id}/log")).text.endswith("--- stdout\nhead\n[... left out ...]\ntail\n")


async def test_replay_makes_a_new_job(site: FrontEnd, tmp_path: Path) -> None:
    jobs = await seed_all(site.stores, tmp_path)
    response = await site.client.post(f"{JOBS}/{jobs['poisoned'].id}/replay")
    assert response.status_code == 202
    assert response.json()["origin"] == jobs["poisoned"].id
    assert (await site.client.get(response.headers["location"])).json()["state"] == "queued"
    problem(await site.client.post(f"{JOBS}/{jobs['queued'].id}/replay"), 409, "not-replayable")


async def test_unknown_jobs(site: FrontEnd) -> None:
    for job_id in (UNKNOWN, "x", "..", "%00", UNKNOWN.upper(), "0" * 32, "%F0%9F%8F%94", "a" * 3000):
        for rest in ("", "/result", "/log"):
            response = await site.client.get(httpx2.URL(f"{site.url}{JOBS}/{job_id}{rest}"))
            assert response.status_code == 404, job_id
            assert response.headers["content-type"] == "application/problem+json"


async def test_head_is_get_without_the_body(site: FrontEnd) -> None:
    for path in ("/api", "/api/v1/jobs", "/", "/jobs", "/poison", "/api/v1/openapi.json", "/healthz"):
        head, get = await site.client.head(path), await site.client.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", JOBS, "GET, HEAD, POST"),
        ("PUT", f"{JOBS}/{UNKNOWN}", "GET, HEAD"),
        ("TRACE", JOBS, "GET, HEAD, POST"),
        ("GET", f"{JOBS}/{UNKNOWN}/replay", "POST"),
        ("DELETE", "/jobs", "GET, HEAD, POST"),
        ("POST", "/static/style.css", "GET, HEAD"),
    ],
)
async def test_other_methods(site: FrontEnd, method: str, path: str, allowed: str) -> None:
    response = await site.client.request(method, path)
    if path.startswith("/api"):
        problem(response, 405, "method-not-allowed")
    assert response.status_code == 405
    assert response.headers["allow"] == allowed


async def test_unknown_addresses_below_api(site: FrontEnd) -> None:
    for path in ("/api/v1/nothing", "/api/v2/jobs", "/api/v1/jobs/"):
        problem(await site.client.get(path), 404, "not-found")
