"""The example's service as a user runs it: films and pictures go in by the command line and by HTTP."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.films import film, looked, open_folder
from support.programs import needs
from support.service import ROOT, Service, marked

pytestmark = [pytest.mark.acceptance, needs("ffmpeg", "ffprobe")]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with open_folder() as folder:
        shutil.copy(ROOT / "examples" / "transcode" / "service.toml", folder)
        started = Service(folder)
        try:
            started.start()
            yield started
            assert started.stop() == 0
            assert marked(started.data) == []
        finally:
            started.close()


def submitted(service: Service, folder: Path, source: Path, **parameters: object) -> tuple[int, dict[str, Any], Path]:
    """The exit code, the job, and what was written."""
    given = [part for name, value in parameters.items() for part in ("--parameter", f"{name}={value}")]
    answer = service.command(
        "submit", source, "--kind", "transcode", *given, "--wait", "--output", folder / "out", "--json", seconds=120
    )
    document = json.loads(answer.stdout)
    (job,) = document["jobs"]
    return answer.returncode, job, Path(next(iter(document["written"].values()), "nothing"))


def test_a_film_becomes_what_each_preset_says(service: Service, tmp_path: Path) -> None:
    path = film(tmp_path / "Holiday.mov", size="640x360")
    code, job, written = submitted(service, tmp_path, path, preset="web-video", height=180)
    assert code == 0, job
    assert job["parameters"] == {"preset": "web-video", "format": "mp4", "height": 180, "quality": "medium"}
    assert (job["result"]["name"], job["result"]["type"]) == ("Holiday-web-video.mp4", "video/mp4")
    assert looked(written)["streams"][0]["height"] == 180
    code, job, written = submitted(service, tmp_path, path, preset="contact-sheet", columns=3, rows=2, height=60)
    assert code == 0, job
    with Image.open(written) as sheet:
        assert (sheet.format, sheet.size) == ("JPEG", (321, 120))


def test_a_picture_needs_no_ffmpeg(service: Service, tmp_path: Path) -> None:
    Image.new("RGB", (60, 40), "red").save(tmp_path / "photo.png")
    code, job, written = submitted(service, tmp_path, tmp_path / "photo.png", preset="webp")
    assert (code, job["result"]["name"]) == (0, "photo.webp")
    with Image.open(written) as picture:
        assert (picture.format, picture.size) == ("WEBP", (60, 40))


def test_a_silent_film_has_no_sound_to_take_out(service: Service, tmp_path: Path) -> None:
    path = film(tmp_path / "silent.mp4", size="64x48", sound=False, seconds=0.5)
    code, job, _ = submitted(service, tmp_path, path, preset="audio")
    assert code == 1
    assert (job["state"], job["reason"]) == ("failed", "silent.mp4: there is no sound in it")
    assert [attempt["end"] for attempt in job["attempts"]] == ["bad_input"]


@pytest.mark.parametrize("text", ["#EXTM3U\n/etc/passwd\n", "ffconcat version 1.0\nfile /etc/passwd\n", "<svg/>"])
def test_a_text_dressed_as_a_film_gets_no_job(text: str, service: Service, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_text(text)
    answer = service.command("submit", path, "--kind", "transcode", "--parameter", "preset=poster", "--wait")
    assert answer.returncode != 0
    assert "film.mp4 is not accepted for transcode" in answer.stdout + answer.stderr
    argv = ["curl", "--silent", "--form", f"file=@{path}", "--form", "kind=transcode", "--form", "preset=poster"]
    told = subprocess.run(
        [*argv, "--write-out", "%{http_code}", f"{service.url}/api/v1/jobs"], capture_output=True, text=True, check=True
    ).stdout
    assert told.endswith("415"), told


def test_the_form_and_the_document_of_the_api_show_the_presets(service: Service) -> None:
    form = service.get("/submit/transcode").decode()
    for preset in ("web-video", "audio", "poster", "preview", "contact-sheet", "webp"):
        assert f'value="{preset}"' in form
    assert "contact-sheet" in service.get("/api/v1/openapi.json").decode()


def test_check_says_where_no_ffmpeg_is(service: Service) -> None:
    apart = Service(service.directory, {"ROLEHOST_SETTING_Transcode__Ffmpeg": "/nowhere/ffmpeg"})
    answer = apart.bare("check")
    assert answer.returncode == 1
    assert "there is no /nowhere/ffmpeg, which the setting Transcode.Ffmpeg names" in answer.stdout + answer.stderr
