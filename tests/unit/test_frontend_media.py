"""Films and sound in pages: served inline by their content only, in ranges, under the policy of all content."""

from __future__ import annotations

import io
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.front_end import FrontEnd, Seed, front_end, picture

# The head of a WebM file, as far as it is looked at; what follows is of no interest to whoever serves it.
FILM = (
    b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webmB\x87\x81\x02B\x85\x81\x02"
    + bytes(range(256)) * 2400
)


def tone() -> bytes:
    """A second of silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as made:
        made.setnchannels(1)
        made.setsampwidth(2)
        made.setframerate(8000)
        made.writeframes(bytes(16_000))
    return file.getvalue()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FrontEnd]:
    async with front_end(tmp_path / "data") as running:
        yield running


async def made(site: FrontEnd, folder: Path, content: bytes, kind: str) -> str:
    """The id of a job whose result is this."""
    seed = Seed(site.stores, folder)
    job = await seed.completed(await seed.queued("words.txt", b"words", kind="shout"), content, kind=kind)
    return job.id


@pytest.mark.parametrize(("element", "kind"), [("video", "video/webm"), ("audio", "audio/wav")])
async def test_films_and_sound_are_played_in_the_page(site: FrontEnd, tmp_path: Path, element: str, kind: str) -> None:
    content = FILM if element == "video" else tone()
    job = await made(site, tmp_path, content, kind)
    text = (await site.client.get(f"/jobs/{job}")).text
    assert f'<{element} controls preload="metadata" src="/jobs/{job}/media" aria-label="The result">' in text
    response = await site.client.get(f"/jobs/{job}/media")
    assert (response.status_code, response.headers["content-type"]) == (200, kind)
    assert response.content == content
    assert response.headers["content-disposition"].startswith("inline;")
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    page = (await site.client.get(f"/jobs/{job}")).headers["content-security-policy"]
    assert "media-src 'self'" in page
    download = await site.client.get(f"/jobs/{job}/result")
    assert download.headers["content-disposition"].startswith("attachment;")


@pytest.mark.parametrize("kind", ["video/webm", "audio/mpeg", "image/png"])
async def test_what_only_says_that_it_is_a_film_is_saved(site: FrontEnd, tmp_path: Path, kind: str) -> None:
    job = await made(site, tmp_path, b"<script>alert(1)</script>" * 1000, kind)
    for headers in ({}, {"Range": "bytes=100-"}):
        response = await site.client.get(f"/jobs/{job}/media", headers=headers)
        assert response.headers["content-type"] == "application/octet-stream"
        assert response.headers["content-disposition"].startswith("attachment;")


@pytest.mark.parametrize("kind", ["text/plain", "application/pdf", "text/html", "image/svg+xml", "application/zip"])
async def test_everything_else_is_a_download(site: FrontEnd, tmp_path: Path, kind: str) -> None:
    job = await made(site, tmp_path, b"%PDF-1.7 " + b"words " * 100, kind)
    text = (await site.client.get(f"/jobs/{job}")).text
    assert "/media" not in text
    assert "/picture" not in text
    assert f'href="/jobs/{job}/result" download' in text
    for path in ("media", "picture", "result"):
        response = await site.client.get(f"/jobs/{job}/{path}")
        assert response.headers["content-disposition"].startswith("attachment;")
        assert response.headers["x-content-type-options"] == "nosniff"
        assert not response.headers["content-type"].startswith("text/")


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-", 0, None),
        ("bytes=0-0", 0, 1),
        ("bytes=1000-1999", 1000, 2000),
        ("bytes=600000-", 600_000, None),
        ("bytes=600000-99999999", 600_000, None),
        ("bytes=-500", -500, None),
        ("bytes=-99999999", 0, None),
    ],
)
async def test_a_range_is_sent_alone(site: FrontEnd, tmp_path: Path, asked: str, start: int, end: int | None) -> None:
    job = await made(site, tmp_path, FILM, "video/webm")
    for path in (f"/jobs/{job}/media", f"/jobs/{job}/result", f"/api/v1/jobs/{job}/result"):
        response = await site.client.get(path, headers={"Range": asked})
        assert response.status_code == 206
        assert response.content == FILM[start:end]
        first = start % len(FILM)
        last = (len(FILM) if end is None else end) - 1
        assert response.headers["content-range"] == f"bytes {first}-{last}/{len(FILM)}"
        assert int(response.headers["content-length"]) == len(response.content)
    inline = await site.client.get(f"/jobs/{job}/media", headers={"Range": asked})
    assert inline.headers["content-type"] == "video/webm"


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=5-1"},
        {"Range": "bytes=a-b"},
        {"Range": "bytes=-"},
        {"Range": "bytes=0-1,5-9"},
        {"Range": "lines=0-1"},
        {"Range": "bytes=0-9", "If-Range": '"another"'},
        {"Range": "bytes=" + "9" * 40 + "-"},
    ],
)
async def test_what_is_no_range_is_answered_whole(site: FrontEnd, tmp_path: Path, headers: dict[str, str]) -> None:
    job = await made(site, tmp_path, FILM, "video/webm")
    response = await site.client.get(f"/jobs/{job}/media", headers=headers)
    assert (response.status_code, response.content) == (200, FILM)
    assert "content-range" not in response.headers


async def test_a_range_of_what_has_not_changed(site: FrontEnd, tmp_path: Path) -> None:
    job = await made(site, tmp_path, FILM, "video/webm")
    tag = (await site.client.head(f"/jobs/{job}/media")).headers["etag"]
    response = await site.client.get(f"/jobs/{job}/media", headers={"Range": "bytes=5-9", "If-Range": tag})
    assert (response.status_code, response.content) == (206, FILM[5:10])
    known = await site.client.get(f"/jobs/{job}/media", headers={"Range": "bytes=5-9", "If-None-Match": tag})
    assert known.status_code == 304


@pytest.mark.parametrize("asked", [f"bytes={len(FILM)}-", "bytes=99999999-", "bytes=-0"])
async def test_a_range_beyond_the_end(site: FrontEnd, tmp_path: Path, asked: str) -> None:
    job = await made(site, tmp_path, FILM, "video/webm")
    response = await site.client.get(f"/api/v1/jobs/{job}/result", headers={"Range": asked})
    assert response.status_code == 416
    assert response.headers["content-range"] == f"bytes */{len(FILM)}"
    assert response.json()["type"] == "urn:rolehost:problem:range-not-satisfiable"


async def test_a_source_that_can_be_played_is_played(site: FrontEnd, tmp_path: Path) -> None:
    job = await Seed(site.stores, tmp_path).queued("concert.webm", FILM, kind="shout")
    text = (await site.client.get(f"/jobs/{job.id}")).text
    assert f'src="/jobs/{job.id}/source" aria-label="The source"' in text
    response = await site.client.get(f"/jobs/{job.id}/source", headers={"Range": "bytes=10-19"})
    assert (response.status_code, response.content) == (206, FILM[10:20])
    assert response.headers["content-type"] == "video/webm"


async def test_pictures_are_shown_as_before(site: FrontEnd, tmp_path: Path) -> None:
    job = await made(site, tmp_path, picture(), "image/png")
    assert f'<img src="/jobs/{job}/picture" alt="The result"' in (await site.client.get(f"/jobs/{job}")).text
    response = await site.client.get(f"/jobs/{job}/picture")
    assert (response.headers["content-type"], response.content) == ("image/png", picture())
