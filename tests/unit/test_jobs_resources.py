"""What may be a job's resource file, how rows and messages keep them, and `rolehost submit --resource`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rolehost import clock
from rolehost.errors import InvalidParameterError, KeyReusedError, UrlNotAllowedError
from rolehost.jobs.codec import spec_from_json, spec_to_fields, spec_to_json
from rolehost.jobs.job import JobSpec, Resource, Source, new_id
from rolehost.jobs.resources import MOST, from_options, read_resources
from rolehost.jobs.sources import SourceSettings
from rolehost.jobs.table import TABLE, JobTable
from rolehost.stores import Stores
from support.commands import invoke, picture, with_stores
from support.jobs import CONTENT, open_bench

SOURCES = SourceSettings(hosts=("*.example.org",), blobs=("assets/",))
URL = "https://a.example.org/words?sig=swordfish"
LOGO = Resource(name="logo.png", blob="assets/logo.png")
WORDS = Resource(name="words.srt", url=URL)
ASKED = [{"name": "logo.png", "blob": "assets/logo.png"}, {"name": "words.srt", "url": URL}]


def read(value: object) -> tuple[Resource, ...]:
    return read_resources(value, check_url=SOURCES.check_url, check_blob=SOURCES.check_blob)


def blob(name: str) -> dict[str, str]:
    return {"name": name, "blob": "assets/a"}


def test_blobs_and_urls_are_taken_in_their_order() -> None:
    assert read(ASKED) == (LOGO, WORDS)
    assert read([]) == ()
    names = ["a", "SourceSansPro.ttf", "a-b_c.1", "_", "x" * 100, *(f"n{number}" for number in range(MOST - 5))]
    assert [each.name for each in read([blob(name) for name in names])] == names


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", ".a", "-a", "a.", "a/b", "../a", "/a", "a\\b", "a b", "a\n", "a\0", "ä", "a:b", "*"),
        "x" * 101,
        *("source", "source.png", "SOURCE.PNG", "target", "Target.x", "target.tar.gz"),
    ],
)
def test_a_name_is_one_plain_segment_and_none_of_ours(name: str) -> None:
    with pytest.raises(InvalidParameterError) as refused:
        read([blob("good"), blob(name)])
    assert refused.value.field == "/resources/1/name"


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"name": "a"}, "/resources"),
        (None, "/resources"),
        ("a", "/resources"),
        ([blob(f"n{number}") for number in range(MOST + 1)], "/resources"),
        (["a"], "/resources/0"),
        ([{"name": "a"}], "/resources/0"),
        ([{"blob": "assets/a"}], "/resources/0/name"),
        ([{"name": "a", "blob": "assets/a", "url": URL}], "/resources/0"),
        ([{"name": "a", "blob": "assets/a", "mode": "0777"}], "/resources/0"),
        ([{"name": "a", "blob": 1}], "/resources/0/blob"),
        ([{"name": "a", "url": "https://a.example.org/" + "x" * 2048}], "/resources/0/url"),
        ([blob("a"), blob("A")], "/resources/1/name"),
        ([{"name": "a", "blob": "inputs/x/source"}], "/resources/0/blob"),
        ([{"name": "a", "blob": "elsewhere/a"}], "/resources/0/blob"),
        ([{"name": "a", "blob": "assets/../inputs/a"}], "/resources/0/blob"),
    ],
)
def test_what_can_be_none_is_refused_and_where(value: object, field: str) -> None:
    with pytest.raises(InvalidParameterError) as refused:
        read(value)
    assert refused.value.field == field


@pytest.mark.parametrize("url", ["https://127.0.0.1/", "https://other.example/", "http://a.example.org/", "file:///x"])
def test_a_url_is_held_to_the_rules_of_sources(url: str) -> None:
    with pytest.raises(UrlNotAllowedError) as refused:
        read([{"name": "a", "url": url}])
    assert refused.value.field == "/resources/0/url"


def spec(*resources: Resource) -> JobSpec:
    source = Source(name="a", size=1, type="text/plain", blob="inputs/x/source")
    facts: dict[str, Any] = {
        "id": new_id(),
        "kind": "work",
        "submitted_at": clock.from_iso(clock.iso(clock.now())),
        "parameters": {},
    }
    return JobSpec(**facts, source=source, resources=resources)


def test_rows_and_messages_keep_them_and_are_as_before_without() -> None:
    some, none = spec(LOGO, WORDS), spec()
    assert spec_from_json(json.loads(json.dumps(spec_to_json(some)))) == some
    assert json.loads(str(spec_to_fields(some)["resources"])) == ASKED
    assert "resources" not in spec_to_json(none) | spec_to_fields(none)
    assert spec_from_json(spec_to_json(none)) == none


async def test_a_row_is_read_back_as_it_was_submitted(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        await bench.inner.blobs.put("assets/logo.png", b"a logo")
        job = await bench.submit(resources=(LOGO, WORDS))
        assert (await bench.row(job.id)).spec.resources == job.spec.resources == (LOGO, WORDS)
        assert (await bench.row((await bench.submit()).id)).spec.resources == ()


@pytest.mark.parametrize(("content", "why"), [(None, "there is no blob"), (b"", "is empty")])
async def test_a_blob_that_is_missing_or_empty_is_refused_at_once(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    async with open_bench(tmp_path) as bench:
        if content is not None:
            await bench.inner.blobs.put("assets/logo.png", content)
        with pytest.raises(InvalidParameterError, match=why) as refused:
            await bench.submit(resources=(WORDS, LOGO))
        assert refused.value.field == "/resources/1/blob"
        assert await bench.blobs("inputs/") == []


async def test_a_key_belongs_to_the_resources_too(tmp_path: Path) -> None:
    async with open_bench(tmp_path) as bench:
        await bench.inner.blobs.put("assets/logo.png", b"a logo")
        first = await bench.submit(content=CONTENT, key="k", resources=(LOGO, WORDS))
        assert (await bench.submit(content=CONTENT, key="k", resources=(LOGO, WORDS))).id == first.id
        other = Resource(name="other.png", blob=LOGO.blob)
        for resources in ((), (LOGO,), (WORDS, LOGO), (other, WORDS)):
            with pytest.raises(KeyReusedError):
                await bench.submit(content=CONTENT, key="k", resources=resources)


def test_options_name_them() -> None:
    assert from_options(["logo.png=blob:assets/logo.png", f"words.srt=url:{URL}"]) == ASKED
    assert from_options(["a=url:https://a.example.org/?b=c"])[0]["url"] == "https://a.example.org/?b=c"
    for text in ("logo.png", "logo.png=assets/logo.png", "a=file:/etc/passwd", "a=blob", "=", ""):
        with pytest.raises(InvalidParameterError, match="NAME=blob:BLOB"):
            from_options([text])


def test_the_command_line_submits_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ROLEHOST_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ROLEHOST_SETTING_Sources__AllowedHosts", "*.example.org")
    monkeypatch.setenv("ROLEHOST_SETTING_Sources__Blobs", "assets")
    picture(Path("photo.png"))

    async def lend(stores: Stores) -> None:
        await stores.blobs.put("assets/logo.png", b"a logo")

    with_stores(tmp_path / "data", lend)
    options = ["--resource", "logo.png=blob:assets/logo.png", "--resource", f"words.srt=url:{URL}"]
    (job,) = json.loads(invoke("submit", "photo.png", *options, "--json").stdout)["jobs"]
    assert job["resources"] == [ASKED[0], {"name": "words.srt", "url": "https://a.example.org/words"}]

    async def kept(stores: Stores) -> JobSpec:
        found = await JobTable(stores.table(TABLE)).read(job["id"])
        assert found is not None
        return found.spec

    assert with_stores(tmp_path / "data", kept).resources == (LOGO, WORDS)
    shown = invoke("job", job["id"]).stdout
    assert "logo.png from assets/logo.png, words.srt from https://a.example.org/words" in shown
    assert "swordfish" not in shown
    for wrong, why in (
        (["--resource", "a=blob:inputs/x/source"], "does not allow"),
        (["--resource", "../a=blob:assets/logo.png"], "no name of a resource"),
        (["--resource", "a=url:https://127.0.0.1/"], "can't be a source"),
        ([*options, "--batch", "b"], "no resource files"),
    ):
        result = invoke("submit", "photo.png", *wrong)
        assert result.exit_code == 2
        assert why in " ".join(result.stderr.replace("│", " ").split())
