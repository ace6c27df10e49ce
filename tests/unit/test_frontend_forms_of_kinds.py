"""The form of each kind, made from its declaration: what it asks for, what it says of faults, what it keeps."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path

import httpx2
import pytest

from rolehost.frontend.settings import FrontendSettings
from rolehost.jobs.kinds import KINDS
from support.front_end import FrontEnd, Seed, front_end, picture
from support.kinds import ANY, JPEG, NOTES, told

PNG = ("a.png", picture())
GOOD = {"quality": "75", "gamma": "1.5", "progressive": "true", "sampling": "4:2:0", "profile": "web", "code": "ABC-1"}


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FrontEnd]:
    monkeypatch.setenv(KINDS, told(JPEG, "thumbnail", NOTES, ANY))
    async with front_end(tmp_path / "data", FrontendSettings(upload_cap=200_000)) as running:
        yield running


class Form(HTMLParser):
    """The controls of a page's form by their names, its texts by their ids, and the options of its selects."""

    def __init__(self, response: httpx2.Response) -> None:
        super().__init__()
        self.controls: dict[str, dict[str, str | None]] = {}
        self.labels: dict[str, str] = {}
        self.texts: dict[str, str] = {}
        self.options: dict[str, list[tuple[str | None, bool]]] = {}
        self._select = self._into = ""
        self._where: dict[str, str] = self.texts
        self.feed(response.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        name = str(found.get("name"))
        if tag in {"input", "select"}:
            self.controls[name] = found
            self._select = name
        elif tag == "option":
            self.options.setdefault(self._select, []).append((found.get("value"), "selected" in found))
        elif tag == "label":
            self._where, self._into = self.labels, str(found.get("for"))
        elif tag == "p" and "id" in found:
            self._where, self._into = self.texts, str(found["id"])

    def handle_data(self, data: str) -> None:
        if self._into:
            self._where[self._into] = self._where.get(self._into, "") + data

    def handle_endtag(self, tag: str) -> None:
        if tag in {"label", "p"}:
            self._into = ""

    def fault(self, name: str) -> str:
        """What stands beside a field that is marked as wrong."""
        control = self.controls[name]
        if control.get("aria-invalid") != "true":
            return ""
        return " ".join(self.texts[each] for each in str(control["aria-describedby"]).split() if "fault" in each)


async def form(site: FrontEnd, path: str = "/submit/jpeg") -> Form:
    return Form(await site.client.get(path))


async def send(site: FrontEnd, *files: tuple[str, bytes], **fields: str) -> httpx2.Response:
    """As the page of the kind sends it."""
    hidden = {"form": "n", "kind": "jpeg"}
    return await site.client.post("/jobs", files=[("file", file) for file in files], data=hidden | fields)


async def test_every_type_of_parameter_has_its_control(site: FrontEnd) -> None:
    page = await form(site)
    controls = page.controls
    number = {name: controls["quality"].get(name) for name in ("type", "value", "min", "max", "step", "inputmode")}
    assert number == {"type": "number", "value": "75", "min": "0", "max": "100", "step": "1", "inputmode": "numeric"}
    assert (controls["gamma"]["step"], controls["gamma"]["min"], controls["gamma"]["value"]) == ("any", "0.1", "1.5")
    assert "max" not in controls["gamma"]
    assert controls["progressive"]["type"] == controls["grey"]["type"] == "checkbox"
    assert ("checked" in controls["progressive"], "checked" in controls["grey"]) == (True, False)
    assert page.options["sampling"] == [("4:4:4", False), ("4:2:0", True)]
    assert page.options["profile"] == [("", True), ("web", False), ("print", False)]
    assert (controls["comment"]["type"], controls["comment"]["maxlength"]) == ("text", "600")
    assert controls["comment"]["placeholder"] == "As usual"
    required = {name for name, control in controls.items() if "required" in control}
    assert required == {"file", "profile", "code"}
    assert page.labels["field-quality"] == "Quality"
    assert page.texts["field-quality-hint"] == "More is better and larger. From 0 to 100."
    assert controls["quality"]["aria-describedby"] == "field-quality-hint"
    assert controls["file"]["accept"] == "image/png,image/bmp,.tga"
    assert page.texts["file-hint"].startswith("PNG, BMP or .tga files. Up to 200 files")
    assert controls["kind"]["value"] == "jpeg"


async def test_every_control_has_a_label_and_every_id_is_there_once(site: FrontEnd) -> None:
    for kind in ("jpeg", "thumbnail", "notes", "shout"):
        response = await site.client.get(f"/submit/{kind}")
        page = Form(response)
        unlabelled = [
            name
            for name, control in page.controls.items()
            if control.get("type") not in {"hidden", "radio"} and str(control.get("id")) not in page.labels
        ]
        assert unlabelled == []
        ids = re.findall(r' id="([^"]+)"', response.text)
        assert len(ids) == len(set(ids))


async def test_the_first_kind_comes_first_and_the_others_are_a_step_away(site: FrontEnd) -> None:
    text = (await site.client.get("/")).text
    assert "<h1>JPEG from bitmaps</h1>" in text
    assert "<title>JPEG from bitmaps · rolehost</title>" in text
    links = re.findall(r'<a href="/submit/([^"]+)"( aria-current="page")?>([^<]+)</a>', text)
    assert links == [
        ("jpeg", ' aria-current="page"', "JPEG from bitmaps"),
        ("thumbnail", "", "Thumbnails"),
        ("notes", "", "notes"),
        ("shout", "", "shout"),
    ]
    assert "Thumbnails from your pictures" in (await site.client.get("/submit/thumbnail")).text
    assert "accept" not in (await form(site, "/submit/shout")).controls["file"]
    response = await site.client.get("/submit/gif")
    assert response.status_code == 404
    assert "There is nothing here" in response.text


@pytest.mark.parametrize(
    ("accepts", "words"),
    [
        (["video/*"], "Films. Up to"),
        (["text/plain", ".csv"], "Text or .csv files. Up to"),
        (["image/png", "application/pdf", ".md"], "PNG, PDF or .md files. Up to"),
        (["video/x-matroska", "video/webm", "audio/flac", "image/heic"], "Matroska, WebM, FLAC or HEIC. Up to"),
        ([f"image/x-{letter}" for letter in "abcdefgh"] + ["audio/mpeg", ".cbz"], "Pictures, sound or .cbz files. "),
        ([], "Files of any sort. Up to"),
    ],
)
async def test_what_is_accepted_is_told_in_words(
    site: FrontEnd, monkeypatch: pytest.MonkeyPatch, accepts: list[str], words: str
) -> None:
    monkeypatch.setenv(KINDS, told({"name": "any", "accepts": accepts, "parameters": []}))
    page = await form(site, "/")
    assert page.texts["file-hint"].startswith(words)
    assert page.controls["file"].get("accept") == (",".join(accepts) or None)


async def test_the_parameters_of_what_ships_go_together_or_are_refused_beside_the_field(
    site: FrontEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KINDS, told("transcode"))
    response = await send(site, PNG, kind="transcode", preset="png", height="100")
    assert response.status_code == 422
    assert Form(response).fault("height") == "height doesn't go with png"
    assert (await send(site, PNG, kind="transcode", preset="png", height="", format="")).status_code == 303


async def test_one_kind_needs_no_choice_of_kinds(site: FrontEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KINDS, told(NOTES))
    assert "/submit/" not in (await site.client.get("/")).text
    assert ">Submit files</a>" in (await site.client.get("/jobs")).text
    monkeypatch.setenv(KINDS, told("thumbnail"))
    assert ">Submit pictures</a>" in (await site.client.get("/jobs")).text


async def test_without_kinds_there_is_nothing_to_submit(site: FrontEnd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KINDS, "[]")
    response = await site.client.get("/")
    assert response.status_code == 200
    assert "This service has no workers that take files." in response.text
    assert 'type="file"' not in response.text


async def test_a_form_becomes_a_job_with_values_of_the_declared_types(site: FrontEnd) -> None:
    response = await send(site, PNG, **GOOD | {"quality": "40", "grey": "true", "comment": "Hello"})
    assert response.status_code == 303
    (job,) = (await site.client.get("/api/v1/jobs")).json()["jobs"]
    assert (job["kind"], response.headers["location"]) == ("jpeg", f"/jobs/{job['id']}")
    assert job["parameters"] == {
        "quality": 40,
        "gamma": 1.5,
        "progressive": True,
        "grey": True,
        "sampling": "4:2:0",
        "profile": "web",
        "comment": "Hello",
        "code": "ABC-1",
    }


async def test_a_box_that_is_not_ticked_means_no(site: FrontEnd) -> None:
    fields = {name: value for name, value in GOOD.items() if name != "progressive"}
    assert (await send(site, PNG, **fields)).status_code == 303
    (job,) = (await site.client.get("/api/v1/jobs")).json()["jobs"]
    assert job["parameters"]["progressive"] is False


async def test_all_faults_stand_beside_their_fields_and_what_was_typed_is_kept(site: FrontEnd) -> None:
    wrong = {"quality": "900", "gamma": "many", "sampling": "4:2:0", "code": "abc <b>", "comment": "kept", "grey": "on"}
    response = await send(site, PNG, **wrong)
    assert response.status_code == 422
    page = Form(response)
    assert {name: page.fault(name) for name in page.controls if page.fault(name)} == {
        "quality": "quality must be a whole number from 0 to 100, not 900",
        "gamma": "gamma must be a number from 0.1, not 'many'",
        "profile": "profile is missing",
        "code": "code must match [A-Z]{3}-[0-9]+, which 'abc <b>' does not",
    }
    values = {name: page.controls[name].get("value") for name in ("quality", "gamma", "code", "comment")}
    assert values == {"quality": "900", "gamma": "many", "code": "abc <b>", "comment": "kept"}
    assert page.controls["gamma"]["type"] == "text", "an input for numbers would not show it"
    for neither in ("nan", "1e999"):
        control = Form(await send(site, PNG, **wrong | {"gamma": neither})).controls["gamma"]
        assert (control["type"], control["value"]) == ("text", neither)
    assert ("checked" in page.controls["grey"], "checked" in page.controls["progressive"]) == (True, False)
    assert "abc <b>" not in response.text
    assert (await site.client.get("/api/v1/jobs")).json()["jobs"] == []
    again = {name: str(control.get("value") or "") for name, control in page.controls.items() if name != "file"}
    mended = again | {"quality": "90", "gamma": "2", "profile": "print", "code": "XYZ-7", "grey": "true"}
    mended.pop("progressive")
    assert (await send(site, PNG, **mended)).status_code == 303


async def test_a_file_that_the_kind_does_not_take_is_told_and_the_others_are_on_their_way(site: FrontEnd) -> None:
    response = await send(site, PNG, ("note.txt", b"words"), ("b.png", picture(9, 9)), **GOOD)
    assert response.status_code == 200
    assert "1 of 3 files could not be accepted" in response.text
    assert "note.txt is not accepted for jpeg" in response.text
    assert Form(response).controls["kind"]["value"] == "jpeg"
    assert len((await site.client.get("/api/v1/jobs")).json()["jobs"]) == 2


async def test_the_same_form_for_another_kind_is_another_job(site: FrontEnd) -> None:
    for kind in ("notes", "shout", "notes"):
        assert (await send(site, ("a.md", b"words"), kind=kind)).status_code == 303
    kinds = [job["kind"] for job in (await site.client.get("/api/v1/jobs")).json()["jobs"]]
    assert sorted(kinds) == ["notes", "shout"]


async def test_a_fault_of_a_field_that_the_form_does_not_show_is_told_all_the_same(site: FrontEnd) -> None:
    response = await send(site, PNG, kind="shout", loudness="11\0")
    assert response.status_code == 422
    assert "the parameter loudness holds a NUL character" in response.text


async def test_a_form_for_a_kind_that_is_gone(site: FrontEnd) -> None:
    response = await send(site, PNG, kind="gif")
    assert response.status_code == 422
    assert "There is no kind of job &#39;gif&#39; here" in response.text


async def test_pages_name_the_kind_and_its_parameters(site: FrontEnd, tmp_path: Path) -> None:
    job = await Seed(site.stores, tmp_path).queued("a.png", kind="jpeg", profile="web", code="ABC-1", grey="yes")
    text = (await site.client.get(f"/jobs/{job.id}")).text
    assert 'JPEG from bitmaps <span class="muted">jpeg</span>' in text
    for label, value in (("Quality", "75"), ("Shades of grey", "yes"), ("Order code", "ABC-1")):
        assert f"<dt>{label}</dt><dd>{value}</dd>" in text
    assert "JPEG from bitmaps: Quality 75, Gamma 1.5, Progressive yes" in (await site.client.get("/jobs")).text
    job = await Seed(site.stores, tmp_path).queued("b.png", kind="jpeg", profile="web", code="ABC-1", gamma="2e6")
    assert "<dt>Gamma</dt><dd>2000000</dd>" in (await site.client.get(f"/jobs/{job.id}")).text
