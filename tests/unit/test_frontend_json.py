"""Jobs submitted as JSON: what is accepted, what is refused and where, and what is never shown."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import jsonschema  # type: ignore[import-untyped] # it has no stubs, and two calls need none
import pytest
from starlette.exceptions import HTTPException

from rolehost.frontend.json_submission import as_text
from rolehost.frontend.settings import FrontendSettings
from rolehost.jobs.sources import SourceSettings
from rolehost.jobs.table import TABLE
from rolehost.jobs.webhook_settings import WebhookSettings
from support.canary import NOT_PUBLIC
from support.front_end import FrontEnd, front_end, picture
from support.receiver import KEY

URL = "https://pictures.example.org/a/photo%20one.png?sig=swordfish"
JSON = {"Content-Type": "application/json"}
SOURCES = SourceSettings(hosts=("*",), refused_hosts=("own.example.org",), blobs=("assets/",))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FrontEnd]:
    settings = FrontendSettings(sources=SOURCES, webhooks=WebhookSettings(secrets=(KEY,)))
    async with front_end(tmp_path, settings) as site:
        await site.stores.blobs.put("assets/photo.png", picture())
        await site.stores.blobs.put("assets/empty.png", b"")
        await site.stores.blobs.put("assets/words.txt", b"words")
        await site.stores.blobs.put("elsewhere/photo.png", picture())
        yield site


async def sent(site: FrontEnd, body: object, **headers: str) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await site.client.post("/api/v1/jobs", content=content, headers=JSON | headers)


async def test_a_url_is_kept_whole_and_shown_without_its_query(site: FrontEnd) -> None:
    asked = {
        "kind": "thumbnail",
        "parameters": {"size": "Custom", "width": 64, "height": 48},
        "source": {"url": URL},
        "webhook": "https://hooks.example.org/x",
    }
    answer = await sent(site, asked)
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert told["source"] == {
        "name": "photo one.png",
        "size": None,
        "type": None,
        "url": "https://pictures.example.org/a/photo%20one.png",
    }
    assert (told["parameters"]["width"], told["parameters"]["format"]) == (64, "png")
    assert told["webhook"] == "https://hooks.example.org"
    job = await site.jobs.read(told["id"])
    assert job is not None
    assert job.spec.source.url == URL
    shown = "".join([(await site.client.get(path)).text for path in ("/jobs", f"/jobs/{job.id}", "/api/v1/jobs")])
    assert "photo one.png" in shown
    assert "swordfish" not in shown + answer.text
    assert (await site.client.get(f"/jobs/{job.id}/source")).status_code == 404


async def test_a_lent_blob_is_identified_at_once(site: FrontEnd) -> None:
    answer = await sent(site, {"source": {"blob": "assets/photo.png", "name": "mine.png"}})
    assert answer.status_code == 202, answer.text
    assert answer.json()["source"] == {
        "name": "mine.png",
        "size": None,
        "type": "image/png",
        "blob": "assets/photo.png",
    }
    page = await site.client.get(f"/jobs/{answer.json()['id']}")
    assert page.status_code == 200
    assert (await site.client.get(f"/jobs/{answer.json()['id']}/source")).status_code == 404, "it is not ours to show"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("assets/none.png", "there is no blob"),
        ("assets/empty.png", "is empty"),
        ("elsewhere/photo.png", "Sources.Blobs does not allow it"),
        ("inputs/x/source", "Sources.Blobs does not allow it"),
        ("assets/../inputs/x", "no blob name"),
        ("assets//x", "no blob name"),
        ("/assets/x", "no blob name"),
        ("assetsx/y", "does not allow it"),
        ("assets", "does not allow it"),
    ],
)
async def test_a_blob_that_is_not_lent_is_refused(site: FrontEnd, name: str, why: str) -> None:
    answer = await sent(site, {"source": {"blob": name}})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "/source/blob"), answer.text
    assert why in answer.text
    assert (await site.jobs.list()).jobs == []


async def test_a_blob_is_held_to_what_the_kind_takes(site: FrontEnd) -> None:
    assert (await sent(site, {"source": {"blob": "assets/words.txt"}})).status_code == 415


async def test_a_result_of_another_job_is_no_source(site: FrontEnd) -> None:
    own = await site.client.post("/api/v1/jobs", files={"file": ("a.png", picture(), "image/png")})
    job = await site.jobs.read(own.json()["id"])
    assert job is not None
    assert (await sent(site, {"source": {"blob": job.spec.source.blob}})).status_code == 422


URLS = [
    *("http://2130706433/", "https://0x7f.1/", "https://0177.0.0.1/", "https://127.1/", "https://127.0.0.1./"),
    *("https://\uff11\uff12\uff17.0.0.1/", "https://user@example.org/", "https://user:word@example.org/"),
    *(
        "https://example.org\\@127.0.0.1/",
        "https://example.org/\r\nX: y",
        "https://exam\tple.org/",
        "ftp://example.org/",
    ),
    *(
        "file:///etc/passwd",
        "gopher://example.org/",
        "data:,x",
        "//example.org/",
        "example.org",
        "https://ex ample.org/",
    ),
    *("https://example.org:22/", "https://example.org:25/", "https://example.org:6379/", "https://example.org:10000/"),
    *("http://example.org/", "https://own.example.org/", "https://127.0.0.1/", "https://[::ffff:127.0.0.1]/"),
]


async def test_a_url_that_leads_inwards_is_refused_at_once(site: FrontEnd) -> None:
    urls = URLS + [f"https://[{each}]/" if ":" in each else f"https://{each}/" for each in NOT_PUBLIC]
    for url in urls:
        answer = await sent(site, {"source": {"url": url}})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "/source/url"), url
        assert answer.json()["type"] == "urn:rolehost:problem:url-not-allowed"
    assert (await site.jobs.list()).jobs == []


async def test_a_url_of_the_service_itself_is_refused(tmp_path: Path) -> None:
    settings = FrontendSettings(sources=SOURCES, allowed_hosts="photos.example.org")
    async with front_end(tmp_path, settings) as site:
        for url in ("https://photos.example.org/api", "https://PHOTOS.example.org:443?x=y"):
            answer = await sent(site, {"source": {"url": url}}, Host="photos.example.org")
            assert answer.json()["type"] == "urn:rolehost:problem:url-not-allowed", answer.text


async def test_nothing_is_lent_or_fetched_unless_a_setting_allows_it(tmp_path: Path) -> None:
    async with front_end(tmp_path) as site:
        await site.stores.blobs.put("assets/photo.png", picture())
        for source, setting in (
            ({"url": URL}, "Sources.AllowedHosts"),
            ({"blob": "assets/photo.png"}, "Sources.Blobs"),
        ):
            answer = await sent(site, {"source": source})
            assert answer.status_code == 422
            assert setting in answer.text
        assert 'name="source_url"' not in (await site.client.get("/")).text


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"{", 400, ""),
        (b"", 400, ""),
        (b"\xff\xfe", 400, ""),
        (b'{"source": {"url": "\\ud800"}}', 400, ""),
        (b'{"kind": NaN}', 400, ""),
        (b'{"kind": 1e999, "source": {"url": "https://a.example/"}}', 422, "/kind"),
        (b'{"kind": "a", "kind": "b"}', 400, ""),
        (b"[" * 100_000, 400, ""),
        (b'{"a":' * 100_000, 413, ""),
        (b'{"kind": ' + b"9" * 5000 + b"}", 400, ""),
        (b"[]", 422, "/"),
        (b"null", 422, "/"),
        ({}, 422, "/source"),
        ({"source": "https://a.example/"}, 422, "/source"),
        ({"source": {}}, 422, "/source"),
        ({"source": {"url": URL, "blob": "assets/photo.png"}}, 422, "/source"),
        ({"source": {"url": 7}}, 422, "/source/url"),
        ({"source": {"url": ""}}, 422, "/source/url"),
        ({"source": {"url": "https://a.example/" + "x" * 3000}}, 422, "/source/url"),
        ({"source": {"url": URL, "colour": "red"}}, 422, "/source/colour"),
        ({"source": {"url": URL}, "co/lo~ur": "red"}, 422, "/co~1lo~0ur"),
        ({"source": {"url": URL}, "kind": "none-such"}, 422, "kind"),
        ({"source": {"url": URL}, "kind": 7}, 422, "/kind"),
        ({"source": {"url": URL}, "parameters": []}, 422, "/parameters"),
        ({"source": {"url": URL}, "parameters": {"size": None}}, 422, "/parameters/size"),
        ({"source": {"url": URL}, "parameters": {"size": ["Small"]}}, 422, "/parameters/size"),
        ({"source": {"url": URL}, "parameters": {"size": "Huge"}}, 422, "/parameters/size"),
        ({"source": {"url": URL}, "parameters": {"colour": "red"}}, 422, "/parameters/colour"),
        ({"source": {"url": URL}, "webhook": 7}, 422, "webhook"),
        ({"source": {"url": URL}, "webhook": "https://10.0.0.1/"}, 422, "webhook"),
    ],
)
async def test_a_body_that_is_not_as_described_is_refused_where_it_is_wrong(
    site: FrontEnd, body: object, status: int, field: str
) -> None:
    answer = await sent(site, body)
    assert answer.status_code == status, answer.text
    assert [each["field"] for each in answer.json().get("errors", [])] == ([field] if field else [])
    assert (await site.jobs.list()).jobs == []


async def test_a_key_makes_one_job_of_one_body(site: FrontEnd) -> None:
    first = await sent(site, {"source": {"url": URL}}, **{"Idempotency-Key": "k"})
    again = await sent(site, {"source": {"url": URL}, "kind": "thumbnail"}, **{"Idempotency-Key": "k"})
    other = await sent(site, {"source": {"url": URL + "x"}}, **{"Idempotency-Key": "k"})
    assert first.json()["id"] == again.json()["id"]
    assert (other.status_code, other.json()["type"]) == (422, "urn:rolehost:problem:idempotency-key-reused")
    assert len((await site.jobs.list()).jobs) == 1


async def test_the_schema_and_the_service_agree(site: FrontEnd) -> None:
    document = (await site.client.get("/api/v1/openapi.json")).json()
    schema = document["paths"]["/api/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    judge = jsonschema.Draft202012Validator(schema | {"components": document["components"]})
    bodies: list[dict[str, Any]] = [
        {"source": {"url": URL}},
        {"source": {"blob": "assets/photo.png"}, "kind": "thumbnail", "parameters": {"size": "Small"}},
        {"source": {}},
        {"source": {"url": URL, "blob": "assets/photo.png"}},
        {"source": {"url": URL}, "colour": "red"},
        {"source": {"url": URL}, "parameters": {"size": "Huge"}},
        {"kind": "thumbnail"},
    ]
    for body in bodies:
        assert judge.is_valid(body) == ((await sent(site, body)).status_code == 202), body


async def form(site: FrontEnd, **fields: str) -> httpx2.Response:
    """As a browser sends it where no file was chosen."""
    sent_fields = {"form": "nonce", "size": "Small", **fields}
    begins = "--x\r\nContent-Disposition: form-data; name="
    parts = [f'{begins}"{name}"\r\n\r\n{text}\r\n' for name, text in sent_fields.items()]
    parts.append(f'{begins}"file"; filename=""\r\n\r\n\r\n--x--\r\n')
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    return await site.client.post("/jobs", content="".join(parts).encode(), headers=headers)


async def test_the_form_takes_an_address_in_place_of_a_file(site: FrontEnd) -> None:
    page = (await site.client.get("/")).text
    assert 'name="source_url"' in page
    assert 'type="file" multiple required' not in page, "a browser would not send it without a file"
    answer = await form(site, source_url=f" {URL} ")
    assert answer.status_code == 303, answer.text
    assert (await form(site, source_url=URL)).headers["location"] == answer.headers["location"]
    (job,) = (await site.jobs.list()).jobs
    assert (job.spec.source.url, job.spec.parameters["size"]) == (URL, "Small")


async def test_the_form_takes_files_and_an_address_at_once(site: FrontEnd) -> None:
    files = {"file": ("a.png", picture(), "image/png")}
    answer = await site.client.post("/jobs", data={"size": "Small", "source_url": URL}, files=files)
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs")
    assert {job.spec.source.name for job in (await site.jobs.list()).jobs} == {"a.png", "photo one.png"}


async def test_an_address_that_can_not_be_asked_is_marked_in_the_form(site: FrontEnd) -> None:
    answer = await form(site, source_url="https://127.0.0.1/x")
    assert answer.status_code == 422
    assert 'value="https://127.0.0.1/x" aria-invalid="true" aria-describedby="field-source_url-fault' in answer.text
    assert "the address is not a public one" in answer.text
    assert (await site.jobs.list()).jobs == []


async def test_a_message_without_a_job_shows_no_secret_either(site: FrontEnd) -> None:
    """What lies on the poison desk was for a job whose row is gone: its body has the URLs whole."""
    answer = await sent(site, {"source": {"url": URL}, "webhook": "https://hooks.example.org/of-ours"})
    queue = site.stores.queue("thumbnail-jobs")
    (message,) = await queue.receive(1, hide=30, wait=5)
    assert "swordfish" in message.body
    row = await site.stores.table(TABLE).read(answer.json()["id"])
    assert row is not None
    await site.stores.table(TABLE).delete(row.key, row.version)
    await queue.dead_letter(message, reason="orphan", description="no job has this id")
    (entry,) = (await site.client.get("/api/v1/poison")).json()["entries"]
    places = (f"/api/v1/poison/{entry['id']}", f"/poison/{entry['id']}", f"/api/v1/poison/{entry['id']}/input")
    shown = [await site.client.get(place) for place in places]
    assert [each.status_code for each in shown] == [200, 200, 200]
    assert all("photo%20one.png" in each.text for each in shown)
    assert [word for word in ("swordfish", "of-ours") for each in shown if word in each.text] == []


async def test_a_body_of_unknown_length_is_cut_at_the_cap(site: FrontEnd) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'{"source": {"url": "https://pictures.example.org/a"}, "parameters": {'
        for number in range(300):
            yield f'"p{number}": "{"x" * 1000}", '.encode()
        yield b'"size": "Small"}}'

    answer = await site.client.post("/api/v1/jobs", content=body(), headers=JSON)
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:rolehost:problem:too-large")


def test_what_is_no_finite_number_is_no_value() -> None:
    assert [as_text(value, "/a") for value in (True, 7, 0.5, "x")] == ["true", "7", "0.5", "x"]
    assert as_text(10**400, "/a") == f"1{'0' * 400}", "no number is too large to be refused in a sentence"
    assert as_text(7.0, "/a") == "7", "which is a whole number by JSON's own schemas"
    wrong: list[object] = [math.inf, math.nan, None, [], {}]
    for value in wrong:
        with pytest.raises(HTTPException):
            as_text(value, "/a")
