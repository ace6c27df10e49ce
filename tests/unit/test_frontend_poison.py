"""The poison desk by the API and the pages: search, messages, replays that are made once, several at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped] # it has no stubs, and two calls need none
import pytest
from fastapi.routing import APIRoute

from rolehost.errors import StoreFullError, StoreUnavailableError
from rolehost.frontend import poison_api, poison_pages
from rolehost.frontend.authentication.identity import Permission
from rolehost.frontend.authentication.permissions import declared
from rolehost.jobs.job import Job, new_id
from rolehost.jobs.poison import PoisonDesk
from rolehost.jobs.poison.entries import letter_id
from rolehost.jobs.wake_up import WakeUp
from support.front_end import FrontEnd, Seed, front_end, picture

API = "/api/v1/poison"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[FrontEnd]:
    async with front_end(tmp_path / "data") as running:
        yield running


@pytest.fixture
async def bad(site: FrontEnd, tmp_path: Path) -> list[Job]:
    """Three poisoned jobs, the oldest first."""
    seed = Seed(site.stores, tmp_path)
    return [
        await seed.poisoned(
            await seed.queued(f"scan {number}.png"), f"app: at last font {number}", 2, stderr="no such font\n"
        )
        for number in range(3)
    ]


async def orphan(site: FrontEnd) -> str:
    """A message whose job is not there; its entry's id."""
    queue = site.stores.queue("thumbnail-jobs")
    job_id = new_id()
    await queue.put(WakeUp(job=job_id).encode(), message_id=f"{job_id}:0")
    for message in await queue.receive(32, hide=1):
        if message.id == f"{job_id}:0":
            await queue.dead_letter(message, reason="orphan", description="no job has this id")
    return letter_id("thumbnail-jobs", f"{job_id}:0")


async def ids(site: FrontEnd, **query: str) -> list[str]:
    answer = await site.client.get(API, params=query)
    assert answer.status_code == 200, answer.text
    return [entry["id"] for entry in answer.json()["entries"]]


async def test_the_list_is_searched_and_paged(site: FrontEnd, bad: list[Job]) -> None:
    entry = await orphan(site)
    newest_first = [job.id for job in reversed(bad)]
    assert await ids(site) == [*newest_first, entry]
    assert await ids(site, text="FONT 1") == [bad[1].id]
    assert await ids(site, kind="other") == []
    assert await ids(site, cause="app_error", newer="1h") == newest_first
    assert await ids(site, older="1h") == []
    assert await ids(site, cause="orphan", state="", older="", limit="") == [entry]
    page = (await site.client.get(API, params={"limit": "2"})).json()
    assert (page["looked_at"], page["cut"]) == (2, False)
    rest = (await site.client.get(API, params={"limit": "2", "cursor": page["cursor"]})).json()
    assert [each["id"] for each in rest["entries"]] == [bad[0].id, entry]
    assert rest["cursor"] is None


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("older=soon", "older"),
        ("newer=7", "newer"),
        ("state=queued", "state"),
        ("replayed=maybe", "replayed"),
        ("limit=101", "limit"),
        ("cursor=x", "cursor"),
        ("text=" + "x" * 201, "text"),
    ],
)
@pytest.mark.parametrize("verb", ["GET", "replay", "purge"])
@pytest.mark.usefixtures("bad")
async def test_bad_input_is_a_problem_that_names_the_field(site: FrontEnd, verb: str, query: str, wrong: str) -> None:
    path = f"{API}?{query}" if verb == "GET" else f"{API}/{verb}?all=true&{query}"
    answer = await site.client.request("GET" if verb == "GET" else "POST", path)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert [fault["field"] for fault in answer.json()["errors"]] == [wrong]
    assert (await site.jobs.counts())["poisoned"] == 3


async def test_one_entry_in_full(site: FrontEnd, bad: list[Job]) -> None:
    new = (await site.client.post(f"/api/v1/jobs/{bad[0].id}/replay")).json()["id"]
    told = (await site.client.get(f"{API}/{bad[0].id}")).json()
    assert [output["stderr"] for output in told["outputs"]] == ["no such font\n"] * 2
    assert [attempt["charged"] for attempt in told["job"]["attempts"]] == ["app", "app"]
    assert told["provenance"]["replays"] == [{"id": new, "state": "queued"}]
    kin = (await site.client.get(f"/api/v1/jobs/{new}/provenance")).json()
    assert kin == {"origins": [{"id": bad[0].id, "state": "poisoned"}], "replays": []}
    given = await site.client.get(f"{API}/{bad[0].id}/input")
    assert given.content == picture()
    assert given.headers["content-type"] == "application/octet-stream"
    assert 'attachment; filename="scan 0.png"' in given.headers["content-disposition"]
    entry = await orphan(site)
    told = (await site.client.get(f"{API}/{entry}")).json()
    assert (told["sort"], told["job"]) == ("orphan", None)
    assert told["message"]["job"] in told["body"]
    assert (await site.client.get(f"{API}/{entry}/input")).text == told["body"]


async def test_a_job_is_replayed_once_unless_asked_again(site: FrontEnd, bad: list[Job]) -> None:
    path = f"/api/v1/jobs/{bad[0].id}/replay"
    first = await site.client.post(path)
    second = await site.client.post(path)
    assert (second.status_code, second.json()["type"]) == (409, "urn:rolehost:problem:already-replayed")
    assert first.json()["id"] in second.json()["detail"]
    assert (await site.client.post(f"{path}?again=true")).status_code == 202
    assert await ids(site, replayed="yes") == [bad[0].id]
    page = f"/jobs/{bad[1].id}/replay"
    once, twice = await site.client.post(page), await site.client.post(page)
    assert once.headers["location"] == twice.headers["location"], "a double click makes one job"
    again = await site.client.post(f"{page}?again=yes")
    assert again.headers["location"] != once.headers["location"]


async def test_several_are_replayed_bounded_and_never_twice(site: FrontEnd, bad: list[Job]) -> None:
    refused = await site.client.post(f"{API}/replay")
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "all")
    query = {"text": "font", "limit": "2", "rate": "50/s"}
    dry = (await site.client.post(f"{API}/replay", params=query | {"dry_run": "true"})).json()
    assert ([each["id"] for each in dry["done"]], dry["dry_run"]) == ([bad[0].id, bad[1].id], True)
    assert (await site.jobs.counts())["queued"] == 0
    done = (await site.client.post(f"{API}/replay", params=query)).json()
    assert [each["job"]["origin"] for each in done["done"]] == [bad[0].id, bad[1].id]
    rest = (await site.client.post(f"{API}/replay", params=query)).json()
    assert [each["id"] for each in rest["done"]] == [bad[2].id]
    assert rest["cursor"] is None
    assert (await site.client.post(f"{API}/replay?all=true")).json()["done"] == []
    slow = await site.client.post(f"{API}/replay?all=true&rate=1/min")
    assert (slow.status_code, slow.json()["errors"][0]["field"]) == (422, "rate")


async def test_several_are_purged(site: FrontEnd, bad: list[Job]) -> None:
    entry = await orphan(site)
    assert (await site.client.post(f"{API}/purge")).status_code == 422
    dry = (await site.client.post(f"{API}/purge?all=true&dry_run=true")).json()
    assert [each["id"] for each in dry["done"]] == [job.id for job in bad] + [entry]
    assert (await site.client.post(f"{API}/purge?text=font+1")).json()["done"] == [{"id": bad[1].id, "job": None}]
    assert (await site.client.post(f"{API}/{entry}/purge")).json() == {"purged": entry}
    assert await ids(site) == [bad[2].id, bad[0].id]


async def test_messages_and_strangers_are_no_jobs(site: FrontEnd, tmp_path: Path) -> None:
    entry = await orphan(site)
    queued = await Seed(site.stores, tmp_path).queued()
    told = (await site.client.post(f"{API}/replay?cause=orphan")).json()
    assert [(each["id"], "can't be replayed" in each["why"]) for each in told["refused"]] == [(entry, True)]
    assert (await site.client.get(f"{API}/{queued.id}")).json()["type"].endswith("not-on-the-desk")
    for unknown in (new_id(), "x", "m-x", letter_id("thumbnail-jobs", "none"), letter_id("a/../b-jobs", "x")):
        for method, path in (("GET", ""), ("GET", "/input"), ("POST", "/purge")):
            assert (await site.client.request(method, f"{API}/{unknown}{path}")).status_code == 404
            assert (await site.client.request(method, f"/poison/{unknown}{path}")).status_code == 404


async def test_what_the_pages_form_never_sends(site: FrontEnd, bad: list[Job]) -> None:
    several = "/poison/several"
    for path in ("/poison?state=queued", "/poison?cursor=x", several, f"{several}?do=eat", "/poison?replayed=x"):
        assert (await site.client.get(path)).status_code == 404
    assert (await site.client.get("/poison?older=soon")).status_code == 422
    assert (await site.client.get(f"{several}?do=replay&limit=9999999&kind=thumbnail")).status_code == 200
    many: list[dict[str, Any]] = [{}, {"do": "eat", "id": "x"}, {"do": "replay"}, {"do": "replay", "id": ["x"] * 900}]
    for form in many:
        assert (await site.client.post(several, data=form)).status_code in {400, 404, 422}
    told = await site.client.post(several, data={"do": "purge", "id": [bad[0].id, "<b>", new_id()]})
    assert "1 purged, 2 left as they are" in told.text
    assert "<code>&lt;b&gt;</code>" in told.text
    assert (await site.jobs.counts())["poisoned"] == 2


def test_what_changes_something_is_for_operators() -> None:
    routes = [(route.methods, route.endpoint) for route in poison_api.router.routes if isinstance(route, APIRoute)]
    routes += [({method}, endpoint) for _, method, endpoint in poison_pages.ROUTES]
    looking = {poison_pages.confirm_several, poison_pages.confirm_purge, poison_pages.confirm_purge_of_message}
    for methods, endpoint in routes:
        operates = "POST" in (methods or ()) or endpoint in looking
        assert declared(endpoint) is (Permission.OPERATE if operates else Permission.READ), endpoint
    assert len(routes) == 16


@dataclass
class Described:
    """Requests whose answers are held against the document, and what was answered to which."""

    site: FrontEnd
    told: dict[str, Any]
    seen: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    async def given(self, method: str, path: str, entry_id: str = "", **request: Any) -> None:
        response = await self.site.client.request(method, path.replace("{entry_id}", entry_id or new_id()), **request)
        path = path.partition("?")[0]
        described = self.told["paths"][path][method.lower()]["responses"][str(response.status_code)]
        kind = str(response.headers["content-type"])
        schema = described["content"][kind]["schema"] | {"components": self.told["components"]}
        if kind.endswith("json"):
            jsonschema.validate(response.json(), schema, format_checker=jsonschema.FormatChecker())
        self.seen.setdefault((method.lower(), path), set()).add(str(response.status_code))


ONE, SOURCE, GONE = f"{API}/{{entry_id}}", f"{API}/{{entry_id}}/input", f"{API}/{{entry_id}}/purge"


async def test_every_documented_answer_is_given(
    site: FrontEnd, bad: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = Described(site, (await site.client.get("/api/v1/openapi.json")).json())
    given = described.given
    entry, seed = await orphan(site), Seed(site.stores, tmp_path)
    queued, failed = await seed.queued(), await seed.failed(await seed.queued(), "no picture")
    for which in ("", queued.id, failed.id, bad[0].id, entry):
        await given("GET", ONE, which)
        await given("GET", SOURCE, which)
    for which in ("", queued.id, failed.id):
        await given("POST", GONE, which)
    await given("POST", GONE, bad[0].id, headers={"Origin": "null"})
    await given("GET", API)
    await given("GET", f"{API}?limit=x")
    for verb in ("replay", "purge"):
        await given("POST", f"{API}/{verb}")
        await given("POST", f"{API}/{verb}?all=true&dry_run=true")
        await given("POST", f"{API}/{verb}?all=true", headers={"Origin": "null"})
    await given("POST", f"{API}/replay?text=font+0")
    await given("POST", f"{API}/purge?cause=orphan")
    monkeypatch.setattr(PoisonDesk, "replay", _failing(StoreFullError("x")))
    await given("POST", f"{API}/replay?all=true")
    for error in (StoreUnavailableError("x"), RuntimeError("x")):
        monkeypatch.setattr(PoisonDesk, "list", _failing(error))
        monkeypatch.setattr(PoisonDesk, "entry", _failing(error))
        for method, path in (("GET", ONE), ("GET", SOURCE), ("POST", GONE), ("GET", API)):
            await given(method, path, bad[1].id)
        for verb in ("replay", "purge"):
            await given("POST", f"{API}/{verb}?all=true")
    for (method, path), statuses in described.seen.items():
        documented = set(described.told["paths"][path][method]["responses"]) - {"default", "401"}
        assert statuses == documented, (method, path)


def _failing(error: Exception) -> Any:
    async def fail(*_: object, **__: object) -> None:
        raise error

    return fail
