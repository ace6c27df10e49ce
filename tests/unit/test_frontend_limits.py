"""What a front end does to those who send too much, too slowly or from elsewhere: raw sockets, bytes counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rolehost.frontend.settings import FrontendSettings
from support.front_end import FrontEnd, front_end, picture, until

CAP = 1_000_000
SETTINGS = FrontendSettings(
    upload_cap=CAP,
    form_cap=3 * CAP,
    form_files=3,
    body_seconds=1.0,
    grace_seconds=0.5,
    header_seconds=0.5,
    allowed_hosts="*",
)
FORM = b"Content-Type: multipart/form-data; boundary=x\r\n"
FILE = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FrontEnd]:
    async with front_end(tmp_path / "data", SETTINGS) as running:
        yield running


@asynccontextmanager
async def connection(site: FrontEnd) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
    try:
        yield reader, writer
    finally:
        writer.close()


def head(path: str, *lines: bytes) -> bytes:
    return b"POST " + path.encode() + b" HTTP/1.1\r\nHost: localhost\r\n" + FORM + b"".join(lines) + b"\r\n"


async def answered(reader: asyncio.StreamReader) -> bytes:
    """The answer's head and body, up to the end of the connection."""
    answer = b""
    async with asyncio.timeout(10):
        try:
            while piece := await reader.read(65536):
                answer += piece
        except ConnectionResetError:
            pass  # what was sent too much is thrown away by the system
    return answer


@pytest.mark.parametrize(("path", "cap"), [("/api/v1/jobs", CAP), ("/jobs", 3 * CAP)])
async def test_a_declared_length_over_the_cap_is_answered_before_anything_is_sent(
    site: FrontEnd, path: str, cap: int
) -> None:
    async with connection(site) as (reader, writer):
        writer.write(head(path, b"Content-Length: %d\r\n" % (cap + 1)))
        answer = await answered(reader)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nconnection: close\r\n" in answer.lower()


async def test_who_asks_first_is_told_without_sending(site: FrontEnd) -> None:
    async with connection(site) as (reader, writer):
        writer.write(head("/api/v1/jobs", b"Expect: 100-continue\r\nContent-Length: %d\r\n" % (CAP + 1)))
        assert (await answered(reader)).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    "first", [FILE + picture(), FILE + picture() + b"\r\n--x--\r\n"], ids=["file", "after the end"]
)
async def test_a_chunked_body_is_cut_at_the_cap(site: FrontEnd, first: bytes) -> None:
    """The client would go on for ever: what it could send before the answer says how much was read."""
    sent = 0
    async with connection(site) as (reader, writer):
        writer.write(head("/api/v1/jobs", b"Transfer-Encoding: chunked\r\n"))
        writer.write(b"%x\r\n%s\r\n" % (len(first), first))
        answering = asyncio.create_task(answered(reader))
        while not answering.done() and sent < 50 * CAP:
            writer.write(b"10000\r\n" + b"z" * 65536 + b"\r\n")
            sent += 65536
            try:
                await writer.drain()
            except ConnectionError:
                break
        answer = await answering
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert sent < 20 * CAP, "only the buffers of the system may hold more than the cap"
    assert site.spooled() == []


@pytest.mark.parametrize(
    ("first", "status"), [(b"I am text" * 500, b"415"), (b"", b"408")], ids=["no picture", "nothing comes"]
)
async def test_an_answer_comes_before_the_end_of_the_body(site: FrontEnd, first: bytes, status: bytes) -> None:
    async with connection(site) as (reader, writer):
        writer.write(head("/api/v1/jobs", b"Content-Length: 900000\r\n") + FILE + first)
        answer = await answered(reader)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"\r\nconnection: close\r\n" in answer.lower()
    assert site.spooled() == []


async def test_a_body_that_trickles_is_408(site: FrontEnd) -> None:
    async with connection(site) as (reader, writer):
        writer.write(head("/api/v1/jobs", b"Content-Length: 900000\r\n") + FILE + picture()[:40])
        answering = asyncio.create_task(answered(reader))
        while not answering.done():
            writer.write(b"z")
            await asyncio.wait({answering}, timeout=0.05)
    assert answering.result().startswith(b"HTTP/1.1 408 ")
    assert site.spooled() == []


@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\nX: "], ids=["silent", "endless head"])
async def test_a_head_that_does_not_come_ends_the_connection(site: FrontEnd, first: bytes) -> None:
    async with connection(site) as (reader, writer):
        writer.write(first)
        assert await answered(reader) == b""


async def test_a_second_head_that_does_not_come_ends_the_connection(site: FrontEnd) -> None:
    async with connection(site) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
        writer.write(b"GET / HTTP/1.1\r\nX: ")
        assert await answered(reader) == b""


async def test_a_huge_head_is_refused(site: FrontEnd) -> None:
    async with connection(site) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nCookie: " + b"c" * 100_000 + b"\r\n\r\n")
        assert (await answered(reader))[:12] in {b"HTTP/1.1 400", b"HTTP/1.1 431"}


NO_HTTP = (b"Content-Length: -5\r\n\r\n", b"Content-Length: x\r\n\r\n", b"no header\r\n\r\n", b"Host: b\r\n\r\n")


@pytest.mark.parametrize("rest", NO_HTTP)
@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"], ids=["first", "second"])
async def test_what_is_no_http_below_api_is_a_problem(site: FrontEnd, before: bytes, rest: bytes) -> None:
    async with connection(site) as (reader, writer):
        if before:
            writer.write(before)
            await reader.readuntil(b"}")
        writer.write(b"POST /api/v1/j%6Fbs?x=1 HTTP/1.1\r\n")
        await writer.drain()
        writer.write(b"Host: a\r\n" + rest)
        top, _, body = (await answered(reader)).partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 400 ")
    assert b"\r\ncontent-type: application/problem+json" in top.lower()
    assert b"\r\nx-content-type-options: nosniff" in top.lower()
    told = json.loads(body)
    assert (told["type"], told["status"]) == ("urn:rolehost:problem:bad-request", 400)
    assert told["instance"] == "/api/v1/jobs"


@pytest.mark.parametrize("sent", [b"GET /jobs HTTP/1.1\r\nno header\r\n\r\n", b"\x16\x03\x01\r\n\r\n", b"GET\r\n\r\n"])
async def test_what_is_no_http_elsewhere_is_a_page(site: FrontEnd, sent: bytes) -> None:
    async with connection(site) as (reader, writer):
        writer.write(sent)
        top, _, body = (await answered(reader)).partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 400 ")
    assert b"\r\ncontent-type: text/html" in top.lower()
    assert b"Invalid HTTP request" in body


async def test_nonsense_after_an_early_answer_just_ends_the_connection(site: FrontEnd) -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    first = FILE + b"I am text" * 500
    async with connection(site) as (reader, writer):
        writer.write(head("/api/v1/jobs", b"Transfer-Encoding: chunked\r\n") + b"%x\r\n%s\r\n" % (len(first), first))
        assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 415 ")
        writer.write(b"no chunk\r\n")
        await answered(reader)
    assert faults == []


async def test_a_client_that_goes_away_leaves_nothing(site: FrontEnd) -> None:
    async with connection(site) as (_, writer):
        writer.write(head("/api/v1/jobs", b"Content-Length: 900000\r\n") + FILE + picture() + b"z" * 600_000)
        await writer.drain()
        await until(site.spooled)
    await until(lambda: not site.spooled())
    assert (await site.client.get("/api/v1/jobs")).json()["jobs"] == []


async def test_a_kept_connection_serves_the_next_request(site: FrontEnd) -> None:
    files = {"file": ("a.png", picture(), "image/png")}
    for _ in range(3):
        assert (await site.client.post("/api/v1/jobs", files=files)).status_code == 202


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"Sec-Fetch-Site": "same-origin"}, 202),
        ({"Sec-Fetch-Site": "none"}, 202),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "{url}"}, 403),
        ({"Sec-Fetch-Site": "odd"}, 403),
        ({"Origin": "{url}"}, 202),
        ({"Origin": "https://127.0.0.1:{port}"}, 202),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:{port}.evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "http://[::1"}, 403),
        ({"Origin": "https://photos.example", "Host": "photos.example"}, 202),
        ({"Origin": "http://photos.example", "Host": "photos.example:80"}, 202),
    ],
)
async def test_who_may_change_something(site: FrontEnd, headers: dict[str, str], status: int) -> None:
    told = {name: value.format(url=site.url, port=site.port) for name, value in headers.items()}
    files = {"file": ("a.png", picture(), "image/png")}
    response = await site.client.post("/api/v1/jobs", files=files, headers=told)
    assert response.status_code == status
    if status == 403:
        assert response.json()["type"] == "urn:rolehost:problem:cross-site"
    assert (await site.client.get("/api/v1/jobs", headers=told)).status_code == 200


async def test_every_answer_says_how_it_may_be_used(site: FrontEnd) -> None:
    for path in ("/", "/jobs", "/nothing", "/api/v1/jobs", "/api/v1/nothing", "/healthz", "/static/style.css"):
        headers = (await site.client.get(path)).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in headers
