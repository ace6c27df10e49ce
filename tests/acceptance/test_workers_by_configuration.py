"""Programs from Debian's packages become workers by the examples' definitions alone, in one service."""

from __future__ import annotations

import gzip
import io
import json
import math
import re
import struct
import urllib.error
import urllib.request
import wave
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rolehost.service_model import ServiceModel, load, write_model
from rolehost.service_model.model import frozen
from rolehost.service_model.worker_reading import read_worker
from support.programs import needs
from support.service import ROOT, Service, marked, until

pytestmark = [pytest.mark.acceptance, needs("cjpeg", "pngquant", "sox", "pandoc", "gzip")]

EXAMPLES = {name: ROOT / "examples" / name / "service.toml" for name in ("cjpeg", "pngquant", "sox", "pandoc")}
FRAMES = 44100


PACKING = {
    "kind": "pack",
    "program": ["gzip", "-c", "-n", "-{level}"],
    "stdin": "source",
    "stdout": "target",
    "result_name": "{name}.gz",
    "result_type": "application/gzip",
    "parameters": {"level": {"type": "integer", "default": 6, "least": 1, "most": 9}},
}


def all_in_one() -> ServiceModel:
    """The examples' workers beside one front end, and one that reads stdin and writes stdout."""
    models = [load(path, {}) for path in EXAMPLES.values()]
    roles = {name: role for model in models for name, role in model.roles.items()}
    roles["Pack"] = replace(roles["Jpeg"], name="Pack", worker=read_worker(PACKING))
    return replace(models[0], roles=frozen(roles))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("configured")
    started = Service(folder, {"ROLEHOST_SETTING_Worker__RetryMaxSeconds": "0.05"})
    started.define(write_model(all_in_one()))
    try:
        started.start()
        yield started
        assert started.stop() == 0
        assert marked(started.data) == []
    finally:
        started.close()


def done(service: Service, folder: Path, kind: str, source: Path, **parameters: object) -> tuple[dict[str, Any], Path]:
    """The completed job, and its result."""
    given = [part for name, value in parameters.items() for part in ("--parameter", f"{name}={value}")]
    answer = service.command(
        "submit", source, "--kind", kind, *given, "--wait", "--output", folder / "out", "--json", seconds=60
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    document = json.loads(answer.stdout)
    (job,), (written,) = document["jobs"], document["written"].values()
    return job, Path(written)


def failed(service: Service, kind: str, source: Path) -> dict[str, Any]:
    """The job of a source that is at fault."""
    answer = service.command("submit", source, "--kind", kind, "--wait", "--json", seconds=60)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    (job,) = json.loads(answer.stdout)["jobs"]
    assert [attempt["end"] for attempt in job["attempts"]] == ["bad_input"], job
    found: dict[str, Any] = job
    return found


def photograph(path: Path) -> Path:
    noise = Image.merge("RGB", [Image.effect_noise((160, 120), 60 + 20 * band) for band in range(3)])
    noise.save(path)
    return path


def tone(path: Path) -> Path:
    """A second of two channels: a tone, and silence."""
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(2)
        sound.setsampwidth(2)
        sound.setframerate(FRAMES)
        loudness = [round(20000 * math.sin(2 * math.pi * 440 * frame / FRAMES)) for frame in range(FRAMES)]
        sound.writeframes(b"".join(struct.pack("<hh", each, 0) for each in loudness))
    return path


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_a_definition_of_under_thirty_lines_and_nothing_else(name: str) -> None:
    assert len(EXAMPLES[name].read_text().splitlines()) < 30
    files = {path.name for path in EXAMPLES[name].parent.iterdir() if path.is_file()}
    assert files == {"README.md", "service.toml", f"test_{name}_example.py"}


def test_cjpeg_makes_a_jpeg_of_the_quality_that_is_asked_for(service: Service, tmp_path: Path) -> None:
    source = photograph(tmp_path / "noise.bmp")
    job, small = done(service, tmp_path, "jpeg", source, quality=10)
    _, large = done(service, tmp_path, "jpeg", source, grey="on")
    assert job["result"]["name"] == "noise-q10.jpg"
    assert job["result"]["type"] == "image/jpeg"
    assert job["parameters"] == {"quality": 10, "grey": False}
    with Image.open(small) as picture:
        assert (picture.format, picture.size, picture.mode) == ("JPEG", (160, 120), "RGB")
    with Image.open(large) as picture:
        assert (picture.format, picture.mode) == ("JPEG", "L")
    assert small.stat().st_size < large.stat().st_size


def test_a_program_that_goes_by_the_ending_of_a_name_is_given_it(service: Service, tmp_path: Path) -> None:
    _, result = done(service, tmp_path, "jpeg", photograph(tmp_path / "noise.tga"))
    with Image.open(result) as picture:
        assert (picture.format, picture.size) == ("JPEG", (160, 120))


def test_a_damaged_file_fails_at_once(service: Service, tmp_path: Path) -> None:
    whole = photograph(tmp_path / "noise.png").read_bytes()
    (tmp_path / "damaged.png").write_bytes(whole[:2000])
    job = failed(service, "pngquant", tmp_path / "damaged.png")
    assert job["attempts"][0]["exit_code"] == 25
    assert "damaged.png" not in job["reason"] or str(service.data) not in job["reason"]


def test_pngquant_leaves_so_many_colours(service: Service, tmp_path: Path) -> None:
    job, result = done(service, tmp_path, "pngquant", photograph(tmp_path / "noise.png"), colours=8, speed=11)
    assert job["result"]["name"] == "noise-8.png"
    with Image.open(result) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "P", (160, 120))
        assert len(picture.getcolors() or []) <= 8


def test_sox_mixes_and_resamples(service: Service, tmp_path: Path) -> None:
    source = tone(tmp_path / "tone.wav")
    _, result = done(service, tmp_path, "sound", source, format="wav", rate=8000)
    with wave.open(str(result)) as sound:
        assert (sound.getnchannels(), sound.getframerate(), sound.getnframes()) == (1, 8000, 8000)
    job, result = done(service, tmp_path, "sound", source)
    assert job["parameters"] == {"format": "flac"}
    assert job["result"]["type"] == "audio/flac"
    assert result.read_bytes()[:4] == b"fLaC"


def test_pandoc_takes_a_text_by_its_ending(service: Service, tmp_path: Path) -> None:
    source = tmp_path / "letter.md"
    source.write_text("# One\n\nA *word*.\n\n## Two\n")
    job, result = done(service, tmp_path, "document", source, title="{source} & $HOME", toc="true")
    page = result.read_text()
    assert job["result"] | {"sha256": ""} == {
        "name": "letter.html",
        "type": "text/html",
        "size": result.stat().st_size,
        "sha256": "",
    }
    assert "<em>word</em>" in page
    assert '<nav id="TOC"' in page
    assert "<title>{source} &amp; $HOME</title>" in page, "a value is text, whatever it looks like"
    _, plain = done(service, tmp_path, "document", source, format="rst")
    assert "A *word*." in plain.read_text()


def test_gzip_reads_its_input_and_prints_its_result(service: Service, tmp_path: Path) -> None:
    source = tmp_path / "bytes.bin"
    source.write_bytes(bytes(range(256)) * 5000)
    job, result = done(service, tmp_path, "pack", source, level=9)
    assert (job["result"]["name"], job["result"]["type"]) == ("bytes.bin.gz", "application/gzip")
    assert gzip.decompress(result.read_bytes()) == source.read_bytes()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("jpeg noise.bmp quality=101", "quality must be a whole number from 0 to 100, not 101"),
        ("jpeg noise.bmp speed=1", "speed is not a parameter of jpeg jobs: quality and grey are"),
        ("sound noise.bmp rate=8000", "noise.bmp is not accepted for sound"),
        ("document letter.md title=-o/tmp/there", "title must not begin with -"),
        ("document letter.md format=docx", "format must be html, rst, latex or org, not 'docx'"),
    ],
)
def test_what_no_worker_takes_is_refused_at_the_door(service: Service, tmp_path: Path, asked: str, told: str) -> None:
    kind, name, parameter = asked.split(" ")
    photograph(tmp_path / "noise.bmp")
    (tmp_path / "letter.md").write_text("# One")
    answer = service.command("submit", tmp_path / name, "--kind", kind, "--parameter", parameter, seconds=60)
    assert answer.returncode in {1, 2}
    assert told in " ".join((answer.stdout + answer.stderr).replace("│", " ").split())


def test_who_does_not_know_the_definition_is_refused_by_the_worker(service: Service, tmp_path: Path) -> None:
    """Submitted from elsewhere, where `jpeg` may be any kind: the worker looks at the job again."""
    elsewhere = Service(tmp_path, service.environ)
    elsewhere.data = service.data
    photograph(tmp_path / "noise.bmp")
    (tmp_path / "noise.tif").write_bytes(b"II*\x00 not a bitmap")
    for name, parameter in (("noise.bmp", "quality=-outfile"), ("noise.bmp", "extra=1"), ("noise.tif", "quality=5")):
        answer = elsewhere.command(
            *("submit", tmp_path / name, "--kind", "jpeg", "--parameter", parameter, "--wait", "--json"), seconds=60
        )
        (job,) = json.loads(answer.stdout)["jobs"]
        assert (job["state"], [each["end"] for each in job["attempts"]]) == ("failed", ["bad_input"]), job
        assert job["attempts"][0]["exit_code"] is None, "the program was not started"


def test_every_kind_has_its_form_and_its_schema(service: Service) -> None:
    told = json.loads(service.get("/api/v1/kinds"))["kinds"]
    assert [kind["name"] for kind in told] == ["jpeg", "pngquant", "sound", "document", "pack"]
    fields = {
        "jpeg": ["quality", "grey"],
        "pngquant": ["colours", "speed"],
        "sound": ["format", "rate", "tempo"],
        "document": ["format", "title", "toc"],
        "pack": ["level"],
    }
    for kind in told:
        form = service.get(f"/submit/{kind['name']}").decode()
        assert kind["title"] in form
        assert [name for name in fields[kind["name"]] if f'name="{name}"' not in form] == []
    (quality,) = re.findall(r'<input[^>]*name="quality"[^>]*>', service.get("/submit/jpeg").decode())
    assert all(each in quality for each in ('min="0"', 'max="100"', 'value="75"'))


def test_a_job_by_the_api(service: Service, tmp_path: Path) -> None:
    picture = photograph(tmp_path / "noise.ppm").read_bytes()

    def post(quality: str) -> tuple[int, dict[str, Any]]:
        parts = [
            *(
                f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
                for name, value in {"kind": "jpeg", "quality": quality}.items()
            ),
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="noise.ppm"\r\n\r\n',
            picture + b"\r\n--x--\r\n",
        ]
        request = urllib.request.Request(f"{service.url}/api/v1/jobs", b"".join(parts))  # noqa: S310 - loopback
        request.add_header("Content-Type", "multipart/form-data; boundary=x")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - the same
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, json.load(refused)

    status, job = post("5")
    assert (status, job["parameters"]) == (202, {"quality": 5, "grey": False})
    until(lambda: service.job(job["id"])["state"] == "completed", "it is done")
    with Image.open(io.BytesIO(service.get(f"/api/v1/jobs/{job['id']}/result"))) as result:
        assert (result.format, result.size) == ("JPEG", (160, 120))
    status, problem = post("101")
    assert status == 422
    assert "quality must be a whole number from 0 to 100, not 101" in json.dumps(problem)


def test_an_update_brings_the_new_table_to_the_worker_and_to_the_form(tmp_path: Path) -> None:
    definition = (
        '[service]\nname = "s"\n[roles.F]\nentry_point = "rolehost.frontend.role:ThumbnailFrontend"\n'
        'endpoints.Http = { protocol = "http", port = 8080 }\n'
        '[roles.A.worker]\nkind = "k"\ntitle = "Old"\nresult_name = "said.txt"\n'
        'program = ["sh", "-c", "echo $1 >$0", "{target}", "before", "{source}"]\n'
    )
    (tmp_path / "letter.txt").write_text("x")
    service = Service(tmp_path)
    service.define(definition)
    try:
        service.start()
        _, result = done(service, tmp_path / "first", "k", tmp_path / "letter.txt")
        assert result.read_text() == "before\n"
        service.define(definition.replace("before", "after").replace("Old", "New"))
        answer = service.command("update", "service.toml")
        assert answer.returncode == 0, answer.stderr
        assert "New" in service.get("/submit/k").decode()
        _, result = done(service, tmp_path / "second", "k", tmp_path / "letter.txt")
        assert result.read_text() == "after\n"
        service.define(definition.replace('"sh"', '"no-such-program"'))
        refused = service.command("update", "service.toml")
        assert refused.returncode == 1
        assert "no-such-program is not found on the PATH" in refused.stderr
        assert service.stop() == 0
    finally:
        service.close()
