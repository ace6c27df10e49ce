"""Any kind of job by the API: which kind a form means, in whatever order its parts come; schemas that say the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import jsonschema  # type: ignore[import-untyped] # it has no stubs, and three calls need none
import pytest

from rolehost.frontend.kinds import FORM, form_schema
from rolehost.frontend.settings import FrontendSettings
from rolehost.jobs.kinds import KINDS, JobKind
from rolehost.jobs.sources import URL_FIELD
from rolehost.service_model.worker_reading import read_worker
from support.front_end import FrontEnd, front_end, picture
from support.kinds import ANY, JPEG, NOTES, told

JOBS = "/api/v1/jobs"
TEXT = b"# Notes\n\nOf no picture.\n"
NEEDED = {"profile": "web", "code": "ABC-1"}


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FrontEnd]:
    monkeypatch.setenv(KINDS, told(JPEG, "thumbnail", NOTES, ANY))
    async with front_end(tmp_path / "data", FrontendSettings(upload_cap=200_000)) as running:
        yield running


async def post(site: FrontEnd, *parts: tuple[str, str] | tuple[str, str, bytes]) -> httpx2.Response:
    """Send a form's parts in their order: (name, text), or (name, file's name, content)."""
    body = b""
    for name, first, *content in parts:
        file = f'; filename="{first}"' if content else ""
        body += f'--x\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
        body += (content[0] if content else first.encode()) + b"\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    return await site.client.post(JOBS, content=body + b"--x--\r\n", headers=headers)


def problem(response: httpx2.Response) -> tuple[int, str, str]:
    """Status, end of the type, and the field."""
    found = response.json()
    wrong = found.get("errors") or [{"field": ""}]
    return response.status_code, found["type"].rpartition(":")[2], wrong[0]["field"]


PNG = ("file", "a.png", picture())
MD = ("file", "a.md", TEXT)
LARGE = ("file", "a.md", TEXT * 1000)
FIELDS = [("kind", "jpeg"), ("quality", "90"), ("grey", "on"), *NEEDED.items()]


@pytest.mark.parametrize("place", range(len(FIELDS) + 1))
async def test_the_file_may_come_anywhere_among_the_fields(site: FrontEnd, place: int) -> None:
    response = await post(site, *FIELDS[:place], PNG, *FIELDS[place:])
    assert response.status_code == 202
    job = response.json()
    assert job["kind"] == "jpeg"
    assert job["parameters"] == {
        "quality": 90,
        "gamma": 1.5,
        "progressive": True,
        "grey": True,
        "sampling": "4:2:0",
        "profile": "web",
        "code": "ABC-1",
    }


@pytest.mark.parametrize("fields", [[*FIELDS], [*FIELDS][::-1]])
async def test_the_order_of_the_fields_is_of_no_interest(site: FrontEnd, fields: list[tuple[str, str]]) -> None:
    assert (await post(site, *fields, PNG)).status_code == 202
    assert (await post(site, PNG, *fields)).status_code == 202


@pytest.mark.parametrize("file", [MD, LARGE, ("file", "b.txt", TEXT)])
async def test_a_file_is_held_to_the_kind_that_is_named_after_it(site: FrontEnd, file: tuple[str, str, bytes]) -> None:
    assert (await post(site, file, ("kind", "notes"))).json()["kind"] == "notes"
    assert (await post(site, file, ("kind", "shout"))).json()["kind"] == "shout"
    assert problem(await post(site, file, ("kind", "thumbnail"))) == (415, "not-a-picture", "")
    assert problem(await post(site, file, ("kind", "jpeg"), *NEEDED.items())) == (415, "unsupported-type", "")
    assert problem(await post(site, file)) == (415, "not-a-picture", "")
    assert problem(await post(site, PNG, ("kind", "notes"))) == (415, "unsupported-type", "")
    assert site.spooled() == []


async def test_thumbnails_are_the_usual_kind_among_several(site: FrontEnd) -> None:
    sent: list[list[Any]] = [[PNG], [PNG, ("kind", "")], [("size", "Small"), PNG], [("kind", "thumbnail"), PNG]]
    for parts in sent:
        assert (await post(site, *parts)).json()["kind"] == "thumbnail"


async def test_the_only_kind_needs_no_name(site: FrontEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KINDS, told(NOTES))
    assert (await post(site, MD)).json()["kind"] == "notes"
    assert problem(await post(site, MD, ("kind", "thumbnail"))) == (422, "unknown-kind", "kind")


async def test_one_of_several_kinds_without_a_usual_one_has_to_be_named(
    site: FrontEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KINDS, told(JPEG, NOTES))
    response = await post(site, MD)
    assert problem(response) == (422, "missing-kind", "kind")
    assert "jpeg, notes" in response.json()["detail"]
    assert (await post(site, MD, ("kind", "notes"))).status_code == 202


async def test_an_unknown_kind_is_told_which_there_are(site: FrontEnd) -> None:
    orders: list[list[Any]] = [[("kind", "gif"), PNG], [PNG, ("kind", "gif")]]
    for parts in orders:
        response = await post(site, *parts)
        assert problem(response) == (422, "unknown-kind", "kind")
        assert "'gif'" in response.json()["detail"]
        assert "jpeg, thumbnail, notes, shout" in response.json()["detail"]
    assert site.spooled() == []


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([("kind", "notes"), ("quality", "90"), MD], (422, "unknown-field", "quality")),
        ([("quality", "90"), MD, ("kind", "notes")], (422, "unknown-field", "quality")),
        ([("quality", "90"), PNG], (422, "unknown-field", "quality")),
        ([("kind", "jpeg"), ("kind", "jpeg"), PNG], (422, "invalid-parameter", "kind")),
        ([("kind", "jpeg"), ("quality", "900"), *NEEDED.items(), PNG], (422, "invalid-parameter", "quality")),
        ([("kind", "jpeg"), ("profile", "web"), PNG], (422, "invalid-parameter", "code")),
        ([("kind", "jpeg"), ("webhook", "http://x"), *NEEDED.items(), PNG], (422, "invalid-parameter", "webhook")),
        ([("kind", "jpeg"), ("form", "1"), PNG], (422, "unknown-field", "form")),
        ([("kind", "jpeg"), ("comment", "c" * 2500), PNG], (413, "field-too-large", "comment")),
        ([("kind", "jpeg"), ("code", "c" * 4100), PNG], (413, "field-too-large", "code")),
    ],
)
async def test_fields_are_held_to_the_kind(site: FrontEnd, parts: list[Any], expected: tuple[int, str, str]) -> None:
    assert problem(await post(site, *parts)) == expected
    assert site.spooled() == []


async def test_a_long_text_may_be_as_long_as_is_declared(site: FrontEnd) -> None:
    long = "ä" * 600
    response = await post(site, ("kind", "jpeg"), *NEEDED.items(), ("comment", long), PNG)
    assert response.json()["parameters"]["comment"] == long


async def test_a_kind_that_declares_nothing_takes_any_parameter(site: FrontEnd) -> None:
    response = await post(site, ("loudness", "11"), PNG, ("kind", "shout"), ("language", "en"))
    assert response.json()["parameters"] == {"loudness": "11", "language": "en"}
    assert problem(await post(site, ("loudness", "11"), PNG)) == (422, "unknown-field", "loudness")
    many = [(f"p{number}", "x") for number in range(150)]
    assert (await post(site, *many, PNG, ("kind", "shout"))).status_code == 422


async def test_kinds_are_listed_with_their_parameters(site: FrontEnd) -> None:
    found = (await site.client.get("/api/v1/kinds")).json()["kinds"]
    assert [(kind["name"], kind["title"], kind["default"]) for kind in found] == [
        ("jpeg", "JPEG from bitmaps", False),
        ("thumbnail", "Thumbnails", True),
        ("notes", "notes", False),
        ("shout", "shout", False),
    ]
    schemas = {kind["name"]: kind["parameters"] for kind in found}
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    assert found[0]["accepts"] == ["image/png", "image/bmp", ".tga"]
    assert schemas["jpeg"]["required"] == ["profile", "code"]
    assert schemas["jpeg"]["properties"]["quality"] == {
        "type": "integer",
        "title": "Quality",
        "description": "More is better and larger.",
        "default": 75,
        "minimum": 0,
        "maximum": 100,
    }
    assert set(schemas["thumbnail"]["properties"]) == {"size", "width", "height", "format"}


GOOD = {"kind": "jpeg", **NEEDED}


@pytest.mark.parametrize(
    ("fields", "good"),
    [
        (GOOD, True),
        (GOOD | {"quality": 100, "gamma": 0.5, "grey": True, "sampling": "4:4:4", "comment": "x"}, True),
        (GOOD | {"quality": 101}, False),
        (GOOD | {"quality": 7.5}, False),
        (GOOD | {"gamma": 0.05}, False),
        (GOOD | {"grey": "perhaps"}, False),
        (GOOD | {"sampling": "4:1:1"}, False),
        (GOOD | {"code": "abc"}, False),
        (GOOD | {"size": "Small"}, False),
        ({"kind": "jpeg"}, False),
        ({"kind": "gif"}, False),
        ({}, True),
        ({"size": "Small"}, True),
        ({"kind": "thumbnail", "format": "webp"}, True),
        ({"profile": "web", "code": "ABC-1"}, False),
        ({"kind": "shout", "anything": "at all"}, True),
    ],
)
async def test_the_document_and_the_service_agree(site: FrontEnd, fields: dict[str, Any], *, good: bool) -> None:
    document = (await site.client.get("/api/v1/openapi.json")).json()
    content = document["paths"][JOBS]["post"]["requestBody"]["content"]["multipart/form-data"]
    schema = content["schema"] | {"components": document["components"]}
    jsonschema.Draft202012Validator.check_schema(schema)
    assert jsonschema.Draft202012Validator(schema).is_valid({"file": "a"} | fields) == good
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in fields.items()}
    answer = await site.client.post(JOBS, files={"file": PNG[1:]}, data=texts)
    assert (answer.status_code == 202) == good
    if not good:
        assert answer.status_code == 422


async def test_each_kind_has_a_schema_with_a_name(site: FrontEnd) -> None:
    document = (await site.client.get("/api/v1/openapi.json")).json()
    schemas = document["components"]["schemas"]
    for name in ("jpeg", "thumbnail", "notes", "shout"):
        assert schemas[f"Submit_{name}"]["properties"]["kind"]["const"] == name
    encoding = document["paths"][JOBS]["post"]["requestBody"]["content"]["multipart/form-data"]["encoding"]
    assert encoding["file"]["contentType"] == "*/*"


async def test_the_page_of_the_api_has_an_example_of_each_kind(site: FrontEnd) -> None:
    text = (await site.client.get("/api")).text
    assert "-F kind=jpeg -F profile=web -F code=... " in text
    assert "-F kind=thumbnail -F size=Medium" in text


def test_no_parameter_can_be_called_as_a_field_that_every_kind_has() -> None:
    """One field would be read as both."""
    for name in (*form_schema(JobKind(name="k", parameters=()))["properties"], FORM, URL_FIELD):
        with pytest.raises(ValueError, match=f'"{name}" can\'t be the name of a parameter'):
            read_worker({"kind": "k", "parameters": {name: {}}})
