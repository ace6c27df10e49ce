"""The pages as a browser without JavaScript gets them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx2
import pytest

from rolehost.errors import StoreUnavailableError
from rolehost.frontend.settings import FrontendSettings
from rolehost.jobs.submission import Submission, Submitter
from support.front_end import FrontEnd, Seed, front_end, picture, seed_all

GOOD = picture()
EVIL = "\"><script>alert(1)</script>'&.png"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FrontEnd]:
    settings = FrontendSettings(upload_cap=200_000, form_cap=2_000_000, form_files=5)
    async with front_end(tmp_path / "data", settings) as running:
        yield running


async def send(site: FrontEnd, *files: tuple[str, bytes], **fields: str) -> httpx2.Response:
    return await site.client.post("/jobs", files=[("file", file) for file in files], data=fields)


class Outline(HTMLParser):
    """Tags with their attributes, to see what a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def every(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


async def jobs(site: FrontEnd) -> list[Any]:
    listed: list[Any] = (await site.client.get("/api/v1/jobs")).json()["jobs"]
    return listed


async def test_one_picture_leads_to_its_page(site: FrontEnd) -> None:
    response = await send(site, ("a.png", GOOD), size="Small", format="webp", width="9", height="")
    (job,) = await jobs(site)
    assert (response.status_code, response.headers["location"]) == (303, f"/jobs/{job['id']}")
    assert job["parameters"] == {"size": "Small", "width": 128, "height": 128, "format": "webp"}


async def test_several_pictures_lead_to_the_list(site: FrontEnd) -> None:
    response = await send(
        site, *[(f"{n}.png", GOOD) for n in range(3)], size="Custom", width="9", height="8", format=""
    )
    assert (response.status_code, response.headers["location"]) == (303, "/jobs")
    assert {job["source"]["name"] for job in await jobs(site)} == {"0.png", "1.png", "2.png"}
    assert {job["parameters"]["width"] for job in await jobs(site)} == {9}


async def test_refused_files_are_listed_and_the_others_are_on_their_way(site: FrontEnd) -> None:
    files = [
        ("a.png", GOOD),
        ("note.jpg", b"text"),
        ("big.png", GOOD + b"z" * 200_000),
        ("empty.png", b""),
        ("b.png", GOOD),
    ]
    response = await send(site, *files, size="Large")
    assert response.status_code == 200
    assert "3 of 5 files could not be accepted" in response.text
    assert "note.jpg is not a picture of a known type" in response.text
    assert "big.png is larger than 195.3 KiB" in response.text
    assert "empty.png is empty" in response.text
    assert 'value="Large" checked' in response.text
    assert [job["source"]["name"] for job in await jobs(site)] == ["b.png", "a.png"]
    assert site.spooled() == []


@pytest.mark.parametrize(
    ("files", "status"),
    [([("note.jpg", b"text")], 415), ([("big.png", GOOD + b"z" * 200_000)], 413), ([("e.png", b"")], 422)],
)
async def test_when_no_file_is_accepted_the_status_says_why(
    site: FrontEnd, files: list[tuple[str, bytes]], status: int
) -> None:
    assert (await send(site, *files)).status_code == status
    assert await jobs(site) == []


async def test_a_wrong_field_is_marked_and_the_input_kept(site: FrontEnd) -> None:
    response = await send(site, ("a.png", GOOD), size="Custom", width="0", height="77", format="webp")
    assert response.status_code == 422
    fields = {
        str(field.get("name")): field for field in Outline(response.text).every("input") if field.get("type") != "radio"
    }
    assert fields["width"]["aria-invalid"] == "true"
    assert f'id="{fields["width"]["aria-describedby"]}"' in response.text
    assert (fields["width"]["value"], fields["height"]["value"]) == ("0", "77")
    assert 'value="Custom" checked' in response.text
    assert 'value="webp" selected' in response.text
    assert "width must be a whole number from 1 to 10000" in response.text
    assert await jobs(site) == []


async def test_no_file_at_all(site: FrontEnd) -> None:
    response = await site.client.post("/jobs", files={"size": (None, "Small")})
    assert response.status_code == 422
    assert "Choose one or more pictures." in response.text


async def test_too_many_files(site: FrontEnd) -> None:
    response = await send(site, *[("a.png", GOOD)] * 6)
    assert response.status_code == 422
    assert "At most 5 files can be sent at once." in response.text


async def test_a_form_that_is_sent_again_makes_no_second_job(site: FrontEnd) -> None:
    page = (await site.client.get("/")).text
    nonce = next(str(field["value"]) for field in Outline(page).every("input") if field.get("name") == "form")
    first = await send(site, ("a.png", GOOD), size="Small", form=nonce)
    again = await send(site, ("a.png", GOOD), size="Small", form=nonce)
    other = await send(site, ("a.png", picture(9, 9)), size="Small", form=nonce)
    assert first.headers["location"] == again.headers["location"] != other.headers["location"]
    assert len(await jobs(site)) == 2


async def test_what_was_accepted_is_told_although_the_store_fails_later(
    site: FrontEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = Submitter.submit

    async def fail_for_b(self: Submitter, asked: Submission) -> Any:
        if asked.name == "b.png":
            raise StoreUnavailableError("secret")
        return await submit(self, asked)

    monkeypatch.setattr(Submitter, "submit", fail_for_b)
    response = await send(site, ("a.png", GOOD), ("b.png", GOOD))
    assert "1 of 2 files could not be accepted" in response.text
    assert "The store does not answer now" in response.text
    assert (await send(site, ("b.png", GOOD))).status_code == 503


async def test_pages_of_every_job(site: FrontEnd, tmp_path: Path) -> None:
    for state, job in (await seed_all(site.stores, tmp_path)).items():
        response = await site.client.get(f"/jobs/{job.id}")
        outline = Outline(response.text)
        assert response.status_code == 200
        shown = {str(image["src"]).rpartition("/")[2] for image in outline.every("img")}
        assert ("picture" in shown) == (state == "completed")
        assert "source" in shown
        assert bool(outline.every("meta")[-1].get("http-equiv")) == (state in {"queued", "waiting", "running"})
        actions = {str(form.get("action")) for form in outline.every("form")}
        assert (f"/jobs/{job.id}/replay" in actions) == (state in {"failed", "poisoned"})
        assert (f"/jobs/{job.id}/cancel" in actions) == (state in {"queued", "waiting", "running"})


async def test_a_poisoned_job_says_all(site: FrontEnd, tmp_path: Path) -> None:
    seeded = await seed_all(site.stores, tmp_path)
    text = (await site.client.get(f"/jobs/{seeded['poisoned'].id}")).text
    assert "spent its 5 charges" in text
    assert "app 5 of 5, resource 0 of 2, lost 0 of 3" in text
    assert text.count("ThumbnailBackend_IN_0") == 5
    assert "opening the picture" in text
    assert "&lt;script&gt;alert(1)" in text
    assert "<script" not in text
    assert "\x1b" not in text


async def test_hostile_texts_are_inert(site: FrontEnd, tmp_path: Path) -> None:
    seed = Seed(site.stores, tmp_path)
    await seed.poisoned(await seed.queued(EVIL), f"reason {EVIL}", stderr=EVIL, stdout=EVIL, detail=EVIL)
    await seed.failed(await seed.queued(EVIL), f"reason {EVIL}", stderr=EVIL)
    for path in ["/", "/jobs", "/poison", *[f"/jobs/{job['id']}" for job in await jobs(site)]]:
        text = (await site.client.get(path)).text
        assert "alert(1)" in text
        assert Outline(text).every("script") == []
    refused = await send(site, (EVIL, b"text"), size=EVIL, width=EVIL)
    assert Outline(refused.text).every("script") == []


async def test_lists_show_counts_and_refresh_while_something_is_open(site: FrontEnd, tmp_path: Path) -> None:
    await seed_all(site.stores, tmp_path)
    text = (await site.client.get("/jobs")).text
    assert 'http-equiv="refresh"' in text
    assert re.search(r"completed <b>4</b>", text)
    assert re.search(r"all <b>10</b>", text)
    done = (await site.client.get("/jobs?state=completed")).text
    assert 'http-equiv="refresh"' not in done
    assert "<title>Completed jobs · rolehost</title>" in done
    assert done.count('class="row"') == 4
    assert 'http-equiv="refresh"' not in (await site.client.get("/")).text, "it would throw away the chosen files"


async def test_long_lists_have_pages(site: FrontEnd, tmp_path: Path) -> None:
    seed = Seed(site.stores, tmp_path)
    for number in range(45):
        await seed.queued(f"{number}.png")
    first = await site.client.get("/jobs?state=queued")
    older = next(str(link["href"]) for link in Outline(first.text).every("a") if link.get("rel") == "next")
    second = await site.client.get(older)
    assert (first.text.count('class="row"'), second.text.count('class="row"')) == (40, 5)
    assert 'rel="next"' not in second.text
    assert 'href="/jobs?state=queued">Newest' in second.text


@pytest.mark.parametrize(
    "path", ["/nothing", "/jobs?state=odd", "/jobs?cursor=%00", "/jobs/x", "/jobs/x/picture", "/static/x"]
)
async def test_a_page_that_is_not_there(site: FrontEnd, path: str) -> None:
    response = await site.client.get(path)
    assert response.status_code == 404
    assert "There is nothing here" in response.text
    assert 'href="/jobs"' in response.text


async def test_the_poison_desk(site: FrontEnd, tmp_path: Path) -> None:
    seeded = await seed_all(site.stores, tmp_path)
    poisoned, queued = seeded["poisoned"], seeded["queued"]
    assert "spent its 5 charges" in (await site.client.get("/poison")).text
    response = await site.client.post(f"/jobs/{poisoned.id}/replay")
    assert response.status_code == 303
    assert f'href="/jobs/{poisoned.id}"' in (await site.client.get(response.headers["location"])).text
    response = await site.client.post(f"/jobs/{poisoned.id}/purge")
    assert (response.status_code, response.headers["location"]) == (303, "/poison")
    assert "Nothing is poisoned." in (await site.client.get("/poison")).text
    for action in ("replay", "purge"):
        assert (await site.client.post(f"/jobs/{queued.id}/{action}")).status_code == 409
        assert (await site.client.post(f"/jobs/{poisoned.id}/{action}")).status_code == 404


async def test_a_purge_is_confirmed_first(site: FrontEnd, tmp_path: Path) -> None:
    seeded = await seed_all(site.stores, tmp_path)
    job = seeded["poisoned"]
    for path in ("/poison", f"/jobs/{job.id}", f"/jobs/{seeded['failed'].id}"):
        actions = [str(form["action"]) for form in Outline((await site.client.get(path)).text).every("form")]
        assert actions
        assert not [action for action in actions if action.endswith("/purge")], "no single click removes anything"
    address = f"/jobs/{job.id}/purge"
    assert f'href="{address}"' in (await site.client.get("/poison")).text
    asked = await site.client.get(address)
    assert "Remove this job for good?" in asked.text
    assert "mit einem sehr langen Namen" in asked.text
    assert "spent its 5 charges" in asked.text
    assert "5 attempts" in asked.text
    assert [form["action"] for form in Outline(asked.text).every("form")] == [address]
    assert f'href="/jobs/{job.id}">Keep it' in asked.text
    assert (await site.client.get(f"/jobs/{job.id}")).status_code == 200, "to look is not to remove"
    assert (await site.client.post(address)).status_code == 303
    assert (await site.client.get(address)).status_code == 404
    assert (await site.client.get(f"/jobs/{seeded['queued'].id}/purge")).status_code == 409


async def test_sources_are_shown_as_what_they_are(site: FrontEnd, tmp_path: Path) -> None:
    seed = Seed(site.stores, tmp_path)
    for kind, shown in (("JPEG", True), ("BMP", True), ("GIF", True), ("TIFF", False)):
        job = await seed.queued(f"a.{kind} \"'\r\n;ü", picture(kind=kind))
        response = await site.client.get(f"/jobs/{job.id}/source")
        assert response.headers["content-type"] == (f"image/{kind.lower()}" if shown else "application/octet-stream")
        disposition = response.headers["content-disposition"]
        assert disposition.startswith(f'{"inline" if shown else "attachment"}; filename="a.{kind} ___u"; ')
        assert disposition.endswith(f"; filename*=UTF-8''a.{kind}%20%22%27%3B%C3%BC")
        text = (await site.client.get(f"/jobs/{job.id}")).text
        assert ("be shown by browsers" in text) != shown


async def test_what_is_served_is_small_and_our_own(site: FrontEnd, tmp_path: Path) -> None:
    await seed_all(site.stores, tmp_path)
    page = await site.client.get("/jobs")
    outline = Outline(page.text)
    assets = [str(link["href"]) for link in outline.every("link")]
    addresses = [*assets, *[str(image["src"]) for image in outline.every("img")]]
    assert all(address.startswith("/") and not address.startswith("//") for address in addresses)
    weight = len(page.content)
    for asset in assets:
        response = await site.client.get(asset)
        assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
        known = await site.client.get(asset, headers={"If-None-Match": response.headers["etag"]})
        assert known.status_code == 304
        weight += len(response.content)
    assert weight < 100_000
    assert (await site.client.get("/static/style.css")).headers["cache-control"] == "no-cache"


async def test_every_page_has_landmarks_labels_and_a_title(site: FrontEnd, tmp_path: Path) -> None:
    seeded = await seed_all(site.stores, tmp_path)
    titles = set()
    for path in ("/", "/jobs", "/poison", "/api", "/nothing", f"/jobs/{seeded['poisoned'].id}"):
        text = (await site.client.get(path)).text
        outline = Outline(text)
        assert outline.every("html") == [{"lang": "en"}]
        assert len(outline.every("main")) == len(outline.every("h1")) == 1
        assert all("alt" in image for image in outline.every("img"))
        labelled = {str(label.get("for")) for label in outline.every("label")}
        inputs = outline.every("input") + outline.every("select")
        assert all(i.get("id") in labelled for i in inputs if i.get("type") not in {"radio", "hidden"})
        ids = [str(attributes["id"]) for _, attributes in outline.tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        titles.add(re.search("<title>(.*)</title>", text)[1])  # type: ignore[index] # it is there, or the test fails
    assert len(titles) == 6


async def test_a_job_is_cancelled(site: FrontEnd, tmp_path: Path) -> None:
    seeded = await seed_all(site.stores, tmp_path)
    response = await site.client.post(f"/jobs/{seeded['queued'].id}/cancel")
    assert (response.status_code, response.headers["location"]) == (303, f"/jobs/{seeded['queued'].id}")
    assert "There is no thumbnail: the job is cancelled." in (await site.client.get(response.headers["location"])).text
    answer = await site.client.post(f"/api/v1/jobs/{seeded['running'].id}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert [attempt["end"] for attempt in answer.json()["attempts"]][-1] == "cancelled"
    assert (await site.client.post(f"/jobs/{seeded['completed'].id}/cancel")).status_code == 409
