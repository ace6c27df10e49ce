"""Each preset of the transcoding worker, done by the real ffmpeg, and its result looked into."""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rolehost.errors import InvalidParameterError
from rolehost.testing import Ran, run_once
from rolehost.workers.transcode import TranscodeWorker
from rolehost.workers.transcoding.ffmpeg import find_ffmpeg
from support.films import colour, ffmpeg, film, looked, tone
from support.programs import needs

pytestmark = needs("ffmpeg", "ffprobe")
PLACE = "+48.2082+016.3738/"


@pytest.fixture(scope="module")
def holiday(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds, 640x360, with sound, a title, and where it was taken."""
    folder = tmp_path_factory.mktemp("films")
    told = ("-metadata", "title=Our garden", "-metadata", f"location={PLACE}", "-metadata:s:v", "handler_name=Phone 7")
    return film(folder / "holiday.mov", *told, "-g", "10", size="640x360", seconds=3)


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second, in a container that may hold anything, with a file attached and chapters."""
    folder = tmp_path_factory.mktemp("silent")
    (folder / "font.ttf").write_bytes(b"ATTACHMENT" * 100)
    (folder / "chapters.txt").write_text(
        ";FFMETADATA1\ntitle=secret title\n[CHAPTER]\nTIMEBASE=1/1\nSTART=0\nEND=1\ntitle=secret chapter\n"
    )
    attached = ("-attach", folder / "font.ttf", "-metadata:s:t", "mimetype=application/x-truetype-font")
    plain = film(folder / "plain.mkv", sound=False, seconds=1)
    ffmpeg(
        "-i",
        plain,
        "-i",
        folder / "chapters.txt",
        "-map",
        "0",
        "-map_metadata",
        "1",
        "-c",
        "copy",
        *attached,
        folder / "a.mkv",
    )
    return folder / "a.mkv"


def transcoded(path: Path, preset: str, folder: Path, **parameters: Any) -> Ran:
    return run_once(TranscodeWorker, path, parameters={"preset": preset, **parameters}, folder=folder)


def streams(ran: Ran) -> list[tuple[str, str]]:
    assert ran.ok, ran.detail
    assert ran.result is not None
    return [(each["codec_type"], each["codec_name"]) for each in looked(ran.result)["streams"]]


def test_web_video(holiday: Path, tmp_path: Path) -> None:
    ran = transcoded(holiday, "web-video", tmp_path, height=180, quality="low")
    assert streams(ran) == [("video", "h264"), ("audio", "aac")]
    assert (ran.result_name, ran.result_type) == ("holiday-web-video.mp4", "video/mp4")
    assert ran.result is not None
    told = looked(ran.result)
    picture = told["streams"][0]
    assert (picture["width"], picture["height"], picture["pix_fmt"]) == (320, 180, "yuv420p")
    assert float(told["format"]["duration"]) == pytest.approx(3, abs=0.2)
    assert ran.result_bytes is not None
    assert ran.result_bytes.index(b"moov") < ran.result_bytes.index(b"mdat"), "it can be shown before all has come"
    for secret in (b"garden", b"48.2082", b"Phone 7"):
        assert secret in holiday.read_bytes()
        assert secret not in ran.result_bytes
    assert ran.stdout == ""


@pytest.mark.parametrize(
    ("size", "options", "shown"),
    [
        ("180x320", (), (90, 160)),  # upright: its width is the shorter side
        ("101x51", (), (100, 50)),  # halved colours need even sides; it is not enlarged
        ("160x160", ("-vf", "setsar=2/1"), (180, 90)),  # pixels that are twice as wide
    ],
)
def test_a_web_video_fits_its_bound(
    size: str, options: tuple[str, ...], shown: tuple[int, int], tmp_path: Path
) -> None:
    path = film(tmp_path / "film.mkv", *options, "-c:v", "ffv1", size=size, seconds=0.3, sound=False)
    ran = transcoded(path, "web-video", tmp_path / "out", height=90)
    assert streams(ran) == [("video", "h264")]
    assert ran.result is not None
    picture = looked(ran.result)["streams"][0]
    assert (picture["width"], picture["height"]) == shown


def test_what_else_is_in_a_file_stays_there(silent: Path, tmp_path: Path) -> None:
    assert b"ATTACHMENT" in silent.read_bytes()
    ran = transcoded(silent, "web-video", tmp_path)
    assert streams(ran) == [("video", "h264")]
    assert ran.result is not None
    assert looked(ran.result)["chapters"] == []
    for secret in (b"ATTACHMENT", b"secret"):
        assert secret not in (ran.result_bytes or b"")


@pytest.mark.parametrize(
    ("wanted", "codec", "media_type"),
    [("m4a", "aac", "audio/mp4"), ("mp3", "mp3", "audio/mpeg"), ("ogg", "opus", "audio/ogg")],
)
def test_the_sound_of_a_film(wanted: str, codec: str, media_type: str, holiday: Path, tmp_path: Path) -> None:
    ran = transcoded(holiday, "audio", tmp_path, format=wanted)
    assert streams(ran) == [("audio", codec)]
    assert (ran.result_name, ran.result_type) == (f"holiday-audio.{wanted}", media_type)
    assert b"garden" not in (ran.result_bytes or b"")


@pytest.mark.parametrize("ending", ["wav", "mp3", "ogg"])
def test_sound_of_every_sort(ending: str, tmp_path: Path) -> None:
    ran = transcoded(tone(tmp_path / f"tone.{ending}", seconds=0.5), "audio", tmp_path / "out", format="mp3")
    assert streams(ran) == [("audio", "mp3")]


@pytest.mark.parametrize(("wanted", "name"), [("jpeg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")])
def test_one_frame(wanted: str, name: str, holiday: Path, tmp_path: Path) -> None:
    ran = transcoded(holiday, "poster", tmp_path, format=wanted, at=1.5, height=90)
    assert ran.ok, ran.detail
    assert ran.result is not None
    with Image.open(ran.result) as picture:
        assert (picture.format, picture.size, getattr(picture, "n_frames", 1)) == (name, (160, 90), 1)


@pytest.mark.parametrize("ending", ["mp4", "ts"])
def test_the_frame_at_a_moment(ending: str, tmp_path: Path) -> None:
    """Red for twelve seconds, then blue; of a broadcast stream, too, which has no index, and few key frames."""
    path = tmp_path / f"two.{ending}"
    red, blue = (
        ("-f", "lavfi", "-i", "color=red:size=64x64:rate=10:duration=12"),
        ("-f", "lavfi", "-i", "color=blue:size=64x64:rate=10:duration=2"),
    )
    ffmpeg(*red, *blue, "-filter_complex", "[0][1]concat", "-g", "50", path)
    for at, channel in ((0, 0), (11.8, 0), (12.1, 2)):
        ran = transcoded(path, "poster", tmp_path / str(at), format="png", at=at)
        assert ran.result is not None, ran.detail
        assert colour(ran.result, 32, 32)[channel] > 200


def test_a_film_of_one_frame_has_a_poster_a_preview_and_a_sheet(tmp_path: Path) -> None:
    path = film(tmp_path / "one.mp4", "-frames:v", "1", sound=False, seconds=1)
    for preset in ("poster", "preview", "contact-sheet", "web-video"):
        ran = transcoded(path, preset, tmp_path / preset)
        assert ran.ok, f"{preset}: {ran.detail}"


@pytest.mark.parametrize(("wanted", "name"), [("webp", "WEBP"), ("gif", "GIF")])
def test_an_animated_preview(wanted: str, name: str, holiday: Path, tmp_path: Path) -> None:
    ran = transcoded(holiday, "preview", tmp_path, format=wanted, seconds=1, height=90)
    assert ran.ok, ran.detail
    assert ran.result is not None
    with Image.open(ran.result) as picture:
        assert (picture.format, picture.size, picture.info["loop"]) == (name, (160, 90), 0)
        assert getattr(picture, "n_frames", 1) == pytest.approx(10, abs=1)


def test_a_contact_sheet_shows_the_whole_film(tmp_path: Path) -> None:
    """A film whose four seconds have one colour each."""
    colours = ("red", "lime", "blue", "white")
    path = tmp_path / "four.mp4"
    inputs = [
        part for each in colours for part in ("-f", "lavfi", "-i", f"color={each}:size=320x160:rate=5:duration=1")
    ]
    ffmpeg(*inputs, "-filter_complex", "[0][1][2][3]concat=n=4", path)
    ran = transcoded(path, "contact-sheet", tmp_path / "out", format="png", columns=2, rows=2, height=80)
    assert ran.result is not None, ran.detail
    with Image.open(ran.result) as sheet:
        assert sheet.size == (320, 160)
    seen = [colour(ran.result, x, y) for y in (40, 120) for x in (80, 240)]
    assert [tuple(channel > 128 for channel in each) for each in seen] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
        (True, True, True),
    ]


def test_an_animated_picture_is_a_film_too(tmp_path: Path) -> None:
    path = film(tmp_path / "moving.gif", size="64x64", sound=False, seconds=1)
    assert streams(transcoded(path, "web-video", tmp_path / "film")) == [("video", "h264")]
    still = transcoded(path, "png", tmp_path / "still")
    assert (still.ok, still.result_name, still.result_type) == (True, "moving.png", "image/png")


@pytest.mark.parametrize("wanted", ["jpeg", "png", "webp", "gif", "tiff", "bmp"])
def test_pictures_by_the_console_application_in_the_package(wanted: str, tmp_path: Path) -> None:
    Image.new("RGB", (60, 40), "red").save(tmp_path / "photo.png")
    ran = transcoded(tmp_path / "photo.png", wanted, tmp_path / "out")
    assert ran.ok, ran.detail
    assert ran.result_type == f"image/{wanted}"
    assert ran.result is not None
    with Image.open(ran.result) as picture:
        assert (picture.format, picture.size) == (wanted.upper(), (60, 40))


def test_what_a_preset_is_not_for_is_refused_at_once(holiday: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidParameterError, match="jpeg is for pictures; this is video/quicktime"):
        transcoded(holiday, "jpeg", tmp_path)


def test_a_stream_that_is_missing_is_the_inputs_fault(silent: Path, tmp_path: Path) -> None:
    ran = transcoded(silent, "audio", tmp_path / "silent")
    assert (ran.end, ran.state, ran.detail) == ("bad_input", "failed", "a.mkv: there is no sound in it")
    song = tone(tmp_path / "song.m4a", "-f", "mp4", seconds=0.5)  # by its first bytes it may be a film
    ran = transcoded(song, "poster", tmp_path / "song")
    assert (ran.end, ran.detail) == ("bad_input", "song.m4a: there is no film in it, only sound")
    ran = transcoded(silent, "poster", tmp_path / "late", at=100)
    assert (ran.end, ran.detail) == ("bad_input", "a.mkv: it lasts 1.0 s: there is nothing at 100 s")


def test_the_ffmpeg_of_the_wheel(holiday: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("imageio_ffmpeg") is None and not os.environ.get("CI"):
        pytest.skip("the extra ffmpeg is not installed here")
    own = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    assert find_ffmpeg("", "/nowhere") == own
    for preset, codec in (("web-video", "h264"), ("contact-sheet", "mjpeg")):
        ran = run_once(
            TranscodeWorker,
            holiday,
            parameters={"preset": preset},
            settings={"Transcode.Ffmpeg": own},
            folder=tmp_path / preset,
        )
        assert streams(ran)[0] == ("video", codec)


def test_without_any_ffmpeg_a_job_says_so(holiday: Path, tmp_path: Path) -> None:
    settings = {"Transcode.Ffmpeg": "/nowhere/ffmpeg"}
    ran = run_once(TranscodeWorker, holiday, parameters={"preset": "poster"}, settings=settings, folder=tmp_path / "a")
    assert (ran.end, ran.state) == ("app_error", "queued")
    assert ran.detail == "there is no /nowhere/ffmpeg, which the setting Transcode.Ffmpeg names"
    Image.new("RGB", (60, 40), "red").save(tmp_path / "photo.png")
    parameters = {"preset": "jpeg"}
    ran = run_once(
        TranscodeWorker, tmp_path / "photo.png", parameters=parameters, settings=settings, folder=tmp_path / "b"
    )
    assert ran.ok, "pictures need none"


def test_a_live_recording_that_does_not_say_how_long_it_is(tmp_path: Path) -> None:
    quick = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-live", "1", "-f", "webm")
    path = film(tmp_path / "live.webm", *quick, size="64x48", seconds=1, sound=False)
    ran = transcoded(path, "contact-sheet", tmp_path / "out", columns=2, rows=2)
    assert ran.ok, ran.detail
    assert ran.result is not None
    with Image.open(ran.result) as sheet:
        assert sheet.size == (128, 96)
