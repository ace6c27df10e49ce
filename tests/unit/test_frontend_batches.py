"""Batches over HTTP: made, filled, sealed, watched, cancelled, fetched; and their pages."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped] # it has no stubs, and one call needs none
import pytest

from rolehost.jobs.batches import BatchTable, Item
from rolehost.jobs.batches.driver import BatchDriver
from rolehost.jobs.batches.manifest import Manifest
from rolehost.jobs.kinds import KINDS
from support.batches import Mill, driver, step, work_off
from support.front_end import FrontEnd, front_end, picture

BATCHES = "/api/v1/batches"


@dataclass
class Site:
    """A front end, and what works behind it."""

    front: FrontEnd
    driving: BatchDriver
    mill: Mill

    async def post(self, path: str, status: int, **more: Any) -> dict[str, Any]:
        answer = await self.front.client.post(path, **more)
        assert answer.status_code == status, answer.text
        told: dict[str, Any] = answer.json()
        return told

    async def get(self, path: str, status: int = 200) -> dict[str, Any]:
        answer = await self.front.client.get(path)
        assert answer.status_code == status, answer.text
        told: dict[str, Any] = answer.json()
        await self.check(path, told)
        return told

    async def check(self, path: str, told: dict[str, Any]) -> None:
        """The answer is as the document of the API says."""
        document = (await self.front.client.get("/api/v1/openapi.json")).json()
        name = {"": "Batches", "jobs": "BatchItems"}.get(
            path.partition("?")[0].removeprefix(BATCHES).rpartition("/")[2]
        )
        schema = {"$ref": f"#/components/schemas/{name or 'Batch'}", "components": document["components"]}
        jsonschema.validate(told, schema)

    async def batch(self, names: list[str], **asked: Any) -> str:
        """A sealed batch of pictures."""
        made = await self.post(BATCHES, 201, json=asked)
        files = [("file", (name, picture(20 + number, 20), "image/png")) for number, name in enumerate(names)]
        added = await self.post(f"{BATCHES}/{made['id']}/jobs", 202, files=files)
        assert [each["name"] for each in added["added"]] == names
        assert added["refused"] == []
        sealed = await self.post(f"{BATCHES}/{made['id']}/seal", 202)
        assert sealed["state"] == "sealing"
        return str(made["id"])

    async def done(self, batch: str) -> None:
        await work_off(self.front.stores, batch, self.driving, self.mill)


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setenv(KINDS, '["thumbnail", "contact-sheet"]')
    async with front_end(tmp_path / "data") as front:
        mill = Mill(front.stores, kind="thumbnail", bad=frozenset({"bad.png"}))
        yield Site(front, driver(front.stores), mill)


async def test_from_the_first_file_to_the_zip(site: Site) -> None:
    batch = await site.batch(["b.png", "a.png", "bad.png"], name="holiday", parameters={"size": "Small"})
    await site.done(batch)
    told = await site.get(f"{BATCHES}/{batch}")
    assert (told["state"], told["items"], told["counts"]["completed"], told["counts"]["failed"]) == ("done", 3, 2, 1)
    assert [(each["name"], each["state"], each["reason"]) for each in told["troubles"]] == [
        ("bad.png", "failed", "it is bad")
    ]
    items = await site.get(f"{BATCHES}/{batch}/jobs?limit=2")
    assert [(each["name"], each["state"]) for each in items["items"]] == [
        ("a.png", "completed"),
        ("b.png", "completed"),
    ]
    rest = await site.get(f"{BATCHES}/{batch}/jobs?cursor={items['cursor']}")
    assert ([each["name"] for each in rest["items"]], rest["cursor"]) == (["bad.png"], None)
    job = rest["items"][0]["job"]
    assert (job["batch"], job["parameters"]["size"], job["id"]) == (batch, "Small", rest["items"][0]["id"])
    answer = await site.front.client.get(f"{BATCHES}/{batch}/results.zip")
    assert answer.headers["content-disposition"].startswith('attachment; filename="holiday.zip"')
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["a.png.out", "b.png.out", "errors.txt"]
        assert archive.read("errors.txt") == b"bad.png\tfailed\tit is bad\n"
    assert (await site.get(f"{BATCHES}?name=holiday"))["batches"][0]["id"] == batch


async def test_the_same_request_again_adds_nothing_twice(site: Site) -> None:
    made = await site.post(BATCHES, 201, json={"name": "again"})
    again = await site.post(BATCHES, 201, json={"name": "again"})
    assert again["id"] == made["id"]
    path, key = f"{BATCHES}/{made['id']}/jobs", {"Idempotency-Key": "one"}
    files = [("file", ("a.png", picture(), "image/png"))]
    first = await site.post(path, 202, files=files, headers=key)
    assert await site.post(path, 202, files=files, headers=key) == first
    assert await site.post(path, 202, files=files) == first, "the same file by another request is the same job"
    other = [("file", ("b.png", picture(), "image/png"))]
    assert (await site.post(path, 422, files=other, headers=key))["type"].endswith("idempotency-key-reused")
    assert (await site.post(BATCHES, 200, json={"name": "again"}))["added"] == 2
    await site.post(f"{BATCHES}/{made['id']}/seal", 202)
    await site.done(made["id"])
    assert (await site.get(f"{BATCHES}/{made['id']}"))["items"] == 1
    assert (await site.post(path, 409, files=files))["type"].endswith("batch-state")
    assert await site.post(path, 202, files=files, headers=key) == first, "it was done before: the answer was lost"
    assert (await site.post(BATCHES, 201, json={"name": "again"}))["id"] != made["id"], "it is over: the name is free"


async def test_what_came_too_late_is_not_said_to_be_there(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealed between the request's beginning and its slice: sent again under its key it is refused as before."""
    made = await site.post(BATCHES, 201, json={})
    path, key = f"{BATCHES}/{made['id']}/jobs", {"Idempotency-Key": "late"}
    files = [("file", ("a.png", picture(), "image/png"))]
    put = Manifest.add

    async def late(manifest: Manifest, name: str, items: Sequence[Item]) -> bool:
        await site.post(f"{BATCHES}/{made['id']}/seal", 202)
        await site.done(made["id"])
        return await put(manifest, name, items)

    monkeypatch.setattr(Manifest, "add", late)
    for _ in range(2):
        assert (await site.post(path, 409, files=files, headers=key))["type"].endswith("batch-state")
    assert (await site.get(f"{BATCHES}/{made['id']}"))["items"] == 0


async def test_an_empty_file_is_refused_and_the_others_are_added(site: Site) -> None:
    made = await site.post(BATCHES, 201, json={})
    path = f"{BATCHES}/{made['id']}/jobs"
    empty, full = ("file", ("empty.png", b"", "image/png")), ("file", ("a.png", picture(), "image/png"))
    told = await site.post(path, 202, files=[empty, full])
    assert [each["name"] for each in told["added"]] == ["a.png"]
    assert told["refused"] == [{"name": "empty.png", "reason": "empty.png is empty"}]
    assert (await site.post(path, 422, files=[empty]))["detail"] == "empty.png is empty"


async def test_two_requests_at_once_with_one_key_and_other_files(site: Site) -> None:
    """The one whose files are not in the batch is not told that they were added."""
    made = await site.post(BATCHES, 201, json={})
    path = f"{BATCHES}/{made['id']}/jobs"

    async def sent(name: str) -> int:
        files = [("file", (name, picture(), "image/png"))]
        answer = await site.front.client.post(path, files=files, headers={"Idempotency-Key": "one"})
        return int(answer.status_code)

    assert sorted(await asyncio.gather(sent("a.png"), sent("b.png"))) == [202, 422]
    assert (await site.get(f"{BATCHES}/{made['id']}"))["added"] == 1


async def test_what_is_wrong_is_told(site: Site) -> None:
    async def refused(status: int, asked: Any) -> str:
        told = await site.post(BATCHES, status, json=asked)
        return str((told.get("errors") or [{"field": told["type"]}])[0]["field"])

    assert await refused(422, {"nmae": "x"}) == "nmae"
    assert await refused(422, {"name": "a\tb"}) == "name"
    assert await refused(422, {"name": 1}) == "name"
    assert await refused(422, {"kind": "unknown"}) == "kind"
    assert await refused(422, {"parameters": {"size": "Huge"}}) == "size"
    assert await refused(422, {"parameters": {"size": ["Small"]}}) == "size"
    assert await refused(422, {"parameters": []}) == "parameters"
    assert await refused(422, {"priority": "urgent"}) == "priority"
    assert await refused(422, {"then": {"kind": "thumbnail"}}) == "then"
    assert await refused(422, {"then": {"kind": "contact-sheet", "parameters": {"columns": 1000}}}) == "columns"
    asked = b'{"then": {"kind": "contact-sheet", "parameters": {"columns": %s}}}'
    for number, status in ((b"4.0", 201), (b"1e999", 422), (b"4.5", 422)):
        headers = {"Content-Type": "application/json"}
        assert (await site.front.client.post(BATCHES, content=asked % number, headers=headers)).status_code == status
    assert await refused(422, []) == "urn:rolehost:problem:invalid-parameter"
    await site.post(BATCHES, 201, json={"name": "x"})
    assert await refused(409, {"name": "x", "priority": "low"}) == "urn:rolehost:problem:batch-state"
    answer = await site.front.client.post(BATCHES, content=b"{", headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert (await site.front.client.post(BATCHES, content=b"{}")).status_code == 415
    made = await site.post(BATCHES, 201, json={})
    path = f"{BATCHES}/{made['id']}"
    text = ("file", ("a.txt", b"no picture", "text/plain"))
    assert (await site.post(f"{path}/jobs", 415, files=[text]))["type"].endswith("not-a-picture")
    added = await site.post(f"{path}/jobs", 202, files=[text, ("file", ("a.png", picture(), "image/png"))])
    assert [each["name"] for each in added["added"]] == ["a.png"]
    assert [each["name"] for each in added["refused"]] == ["a.txt"]
    assert (await site.front.client.get(f"{path}/results.zip")).status_code == 409
    for unknown in ("01a1fd84-5267-7e48-bf79-dc75bc0a6e84", "none"):
        assert (await site.front.client.get(f"{BATCHES}/{unknown}")).status_code == 404
        assert (await site.front.client.post(f"{BATCHES}/{unknown}/seal")).status_code == 404


async def test_cancel_ends_what_waits(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rolehost.jobs.batches.turns.FIRST", 4)
    batch = await site.batch([f"{number}.png" for number in range(9)])
    await step(site.driving)
    await step(site.driving)
    await site.mill.grind(2)
    assert (await site.post(f"{BATCHES}/{batch}/cancel", 202))["state"] == "cancelling"
    await site.done(batch)
    told = await site.get(f"{BATCHES}/{batch}")
    assert (told["state"], told["counts"]["completed"], told["counts"]["cancelled"]) == ("cancelled", 2, 7)
    assert (await site.post(f"{BATCHES}/{batch}/cancel", 202))["state"] == "cancelled"
    assert await site.mill.grind() <= 4, "messages are left; no job is"
    assert sum(site.mill.runs.values()) == 2


async def test_pages_show_how_it_stands(site: Site) -> None:
    async def page(path: str) -> str:
        answer = await site.front.client.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text

    assert "There are no batches yet" in await page("/batches")
    then = {"kind": "contact-sheet"}
    batch = await site.batch(["a.png", "bad.png"], name="<b>holiday</b>", then=then, parameters={"size": "Small"})
    assert "sealing" in await page(f"/batches/{batch}")
    await site.done(batch)
    shown = await page(f"/batches/{batch}")
    assert "&lt;b&gt;holiday&lt;/b&gt;" in shown
    assert "it is bad" in shown
    assert "2 of 2 ended" in shown
    follows = (await BatchTable(site.front.stores).get(batch)).then_id
    assert f'href="/jobs/{follows}"' in shown
    assert f'href="/batches/{batch}"' in await page(f"/jobs/{follows}")
    assert f'href="/batches/{batch}"' in await page("/batches")
    assert "bad.png" in await page(f"/batches/{batch}/items")
    zipped = await site.front.client.get(f"/batches/{batch}/results.zip")
    assert zipfile.ZipFile(io.BytesIO(zipped.content)).namelist() == ["a.png.out", "errors.txt"]
    answer = await site.front.client.post(f"/batches/{batch}/cancel")
    assert answer.status_code == 409, "it is done"
