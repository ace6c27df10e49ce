"""Media that nobody vouched for: nothing but the job's own file is opened, as nothing but what its content shows.

Where a vector is tried, a control shows first that it works on an ffmpeg that isn't held.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rolehost.errors import UnsupportedTypeError
from rolehost.jobs.job import JobSpec
from rolehost.testing import Ran, run_once
from rolehost.workers import transcode
from rolehost.workers.console_app import fill
from rolehost.workers.transcode import TranscodeWorker
from rolehost.workers.transcoding.ffmpeg import DEMUXERS, MOST_STREAMS
from rolehost.workers.transcoding.presets import command
from rolehost.workers.transcoding.probe import Film, Stream
from support.films import colour, ffmpeg, film, open_folder
from support.programs import needs

pytestmark = needs("ffmpeg", "ffprobe")
POSTER = {"preset": "poster", "format": "png"}
PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n"
SCRIPT = "ffconcat version 1.0\nfile '{url}'\n"
MANIFEST = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT2S">'
    '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{url}</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>"
)
DRAWING = '<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}"/></svg>'
TEXTS = [PLAYLIST, SCRIPT, MANIFEST, DRAWING]


class AnyKind(TranscodeWorker):
    """A front end that lets everything through: its kind isn't declared."""

    kind = "any-kind"

    def result_name(self, job: JobSpec) -> str:
        return job.source.name


@contextmanager
def canary() -> Iterator[tuple[str, list[str]]]:
    """An address on this machine, and the paths that were asked for there."""
    hits: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/segment.ts", hits
        server.shutdown()
        thread.join()


def tried(path: Path, folder: Path) -> Ran:
    return run_once(AnyKind, path, parameters=POSTER, folder=folder)


@pytest.mark.parametrize("text", TEXTS, ids=["playlist", "script", "manifest", "drawing"])
@pytest.mark.parametrize("name", ["film.mp4", "film.mov"])
def test_a_text_that_is_dressed_as_a_film_is_refused_by_its_content(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text.format(url="file:///etc/passwd"))
    with pytest.raises(UnsupportedTypeError, match=f"{name} is not accepted for transcode .* text/plain"):
        run_once(TranscodeWorker, path, parameters={"preset": "poster"})
    ran = tried(path, tmp_path / "out")
    assert (ran.end, ran.detail) == ("bad_input", f"{name}: poster is for films; this is text/plain")


def test_no_demuxer_that_is_pinned_follows_a_playlist(tmp_path: Path) -> None:
    """The layer below: as if a text's first bytes had been taken for those of each kind of film."""
    with canary() as (url, hits):
        for number, text in enumerate((PLAYLIST, SCRIPT)):
            path = tmp_path / f"{number}.mp4"
            path.write_text(text.format(url=url))
            free = ("-protocol_whitelist", "file,http,tcp", *(("-safe", "0", "-f", "concat") if number else ()))
            argv = ["ffmpeg", "-nostdin", "-v", "error", *free, "-i", str(path), "-f", "null", "-"]
            subprocess.run(argv, capture_output=True, timeout=60, check=False)
            assert len(hits) >= 1, "the control: an ffmpeg that isn't held asks"
            hits.clear()
            for media_type in {demuxer: media_type for media_type, demuxer in DEMUXERS.items()}.values():
                wanted = command(
                    {"preset": "web-video", "height": 90, "quality": "low"}, Film(1, Stream(0, "h264"), None), 1
                )
                template = wanted.argv("ffmpeg", media_type, 1)
                argv = fill(template, {"source": str(path), "target": str(tmp_path / "out.mp4")})
                subprocess.run(argv, capture_output=True, timeout=60, check=False)
            assert hits == [], text


def test_a_film_that_refers_to_another_file_does_not_get_it(tmp_path: Path) -> None:
    """QuickTime may keep its pictures elsewhere: here in a file that is all magenta."""
    secret = tmp_path / "secret.raw"
    secret.write_bytes(bytes((255, 0, 255)) * 40_000)
    path = tmp_path / "film.mov"
    ffmpeg("-f", "lavfi", "-i", "color=lime:size=64x64:rate=5:duration=1,format=rgb24", "-c:v", "rawvideo", path)
    path.write_bytes(referring(path.read_bytes(), secret))
    control = tmp_path / "control.png"
    ffmpeg("-enable_drefs", "1", "-use_absolute_path", "1", "-i", path, "-frames:v", "1", control)
    assert colour(control, 10, 10) == (255, 0, 255), "the control: an ffmpeg that is told to follows it"
    ran = tried(path, tmp_path / "out")
    if ran.result is not None:
        assert colour(ran.result, 10, 10) == (0, 255, 0), "what is in the file itself"
    else:
        assert ran.end == "bad_input"


def referring(content: bytes, path: Path) -> bytes:
    """A QuickTime film whose data reference is an alias of another file."""
    told = os.fsencode(path)
    record = b"\0\2" + len(told).to_bytes(2) + told + b"\0" * (len(told) % 2) + b"\xff\xff\0\0"
    alias = b"alis" + bytes(4) + bytes(150) + record
    entry = (4 + len(alias)).to_bytes(4) + alias
    at = content.index(b"dref") - 4
    old = int.from_bytes(content[at : at + 4])
    new = (16 + len(entry)).to_bytes(4) + b"dref" + bytes(4) + (1).to_bytes(4) + entry
    patched = bytearray(content[:at] + new + content[at + old :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):  # each holds the next
        start = patched.index(box, patched.index(b"moov") - 4) - 4
        if box == b"minf":
            start = patched.rindex(box, 0, at) - 4
        size = int.from_bytes(patched[start : start + 4]) + len(new) - old
        patched[start : start + 4] = size.to_bytes(4)
    return bytes(patched)


def test_a_decoder_that_nobody_needs_stays_shut(tmp_path: Path) -> None:
    path = film(tmp_path / "film.avi", "-c:v", "magicyuv", size="64x64", sound=False, seconds=0.5)
    ran = run_once(TranscodeWorker, path, parameters={"preset": "poster"}, folder=tmp_path / "out")
    assert (ran.end, ran.detail) == ("bad_input", "film.avi: it is coded as magicyuv, which is not accepted")
    wanted = command(POSTER, Film(0.5, Stream(0, "h264"), None), 1)  # as if the probe had been deceived
    argv = fill(wanted.argv("ffmpeg", "video/x-msvideo", 1), {"source": str(path), "target": str(tmp_path / "out.png")})
    run = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert "not on whitelist" in run.stderr
    assert not (tmp_path / "out.png").exists() or not (tmp_path / "out.png").stat().st_size


def test_a_film_of_countless_tracks_is_the_inputs_fault(tmp_path: Path) -> None:
    path = tmp_path / "many.mkv"
    tracks = ("-map", "0") * (MOST_STREAMS + 1)
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.05", *tracks, "-c:a", "pcm_s16le", path)
    ran = run_once(TranscodeWorker, path, parameters={"preset": "audio"}, folder=tmp_path / "out")
    if ran.end == "bad_input":
        assert ran.detail == "many.mkv: it can't be read as video/x-matroska: it has more than 100 tracks"
    else:
        assert ran.ok, "a newer ffmpeg leaves out what is beyond"


@pytest.mark.parametrize("cut", [0.02, 0.5])
def test_what_is_cut_off_before_its_index_is_the_inputs_fault(cut: float, tmp_path: Path) -> None:
    path = film(tmp_path / "whole.mp4", size="64x64", seconds=1)
    content = path.read_bytes()
    (tmp_path / "film.mp4").write_bytes(content[: int(len(content) * cut)])
    ran = run_once(TranscodeWorker, tmp_path / "film.mp4", parameters={"preset": "web-video"}, folder=tmp_path / "out")
    assert (ran.end, ran.state) == ("bad_input", "failed")
    assert ran.detail.startswith("film.mp4: it can't be read as video/mp4: ")
    assert str(tmp_path) not in ran.detail


def test_pictures_that_are_no_pictures_are_the_inputs_fault(tmp_path: Path) -> None:
    """The index is whole, and what it points to is noise."""
    path = film(tmp_path / "film.mp4", size="64x64", seconds=1, sound=False)
    content = bytearray(path.read_bytes())
    at = content.index(b"mdat") + 4
    end = at - 8 + int.from_bytes(content[at - 8 : at - 4])
    content[at:end] = bytes(end - at)
    path.write_bytes(content)
    ran = run_once(TranscodeWorker, path, parameters={"preset": "web-video"}, folder=tmp_path / "out")
    assert (ran.end, ran.state) == ("bad_input", "failed")


def wrapper(folder: Path, line: str) -> Path:
    """An ffmpeg, without a prober, that does something first."""
    path = folder / "ffmpeg"
    path.write_text(f'#!/bin/sh\n{line}\nexec {ffmpeg_path()} "$@"\n')
    path.chmod(0o755)
    return path


def ffmpeg_path() -> str:
    found = subprocess.run(["sh", "-c", "command -v ffmpeg"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def test_the_probe_is_held_as_the_application_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "canary")
    path = film(tmp_path / "film.mp4", size="64x64", seconds=1)
    with open_folder() as folder:
        told = "{ id -u; ulimit -n; grep -c . /proc/self/environ; env | grep -c canary; pwd; } | tr '\\n' ' '"
        program = wrapper(folder, f"({told}; echo) >> {folder}/told 2>&1")
        settings = {"Transcode.Ffmpeg": str(program)}
        ran = run_once(TranscodeWorker, path, parameters={"preset": "poster"}, settings=settings, folder=folder / "run")
        told_by = (folder / "told").read_text().splitlines()
    assert ran.ok, ran.detail
    probe, run = (line.split() for line in told_by)
    assert probe == run
    user, files, _, secrets, place = probe
    assert (int(user) != 0) or os.getuid() != 0
    assert (files, secrets) == ("256", "0")
    assert str(folder / "run") in place


def test_a_probe_that_does_not_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcode, "PROBE_SECONDS", 0.5)
    path = film(tmp_path / "film.mp4", size="64x64", seconds=1)
    with open_folder() as folder:
        settings = {"Transcode.Ffmpeg": str(wrapper(folder, "sleep 300")), "Worker.TermGraceSeconds": "1"}
        ran = run_once(TranscodeWorker, path, parameters={"preset": "poster"}, settings=settings, folder=folder / "run")
    assert (ran.end, ran.detail) == ("timeout", "looking into it took longer than 0.5 s")


@pytest.mark.parametrize(
    ("line", "end", "why"),
    [
        (
            "echo 'film.mp4: Permission denied' >&2; exit 1",
            "app_error",
            "the probe failed: film.mp4: Permission denied",
        ),
        (
            "echo 'error while loading shared libraries: libx' >&2; exit 127",
            "app_error",
            "the probe failed: error while",
        ),
        ("kill -SEGV $$", "killed", "the probe was ended by signal 11"),
    ],
)
def test_a_probe_that_fails_by_itself_is_not_the_inputs_fault(line: str, end: str, why: str, tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", "-metadata", "title=Permission denied", size="64x48", seconds=0.5)
    with open_folder() as folder:
        settings = {"Transcode.Ffmpeg": str(wrapper(folder, line))}
        ran = run_once(TranscodeWorker, path, parameters={"preset": "poster"}, settings=settings, folder=folder / "run")
    assert (ran.end, ran.state) == (end, "queued")
    assert ran.detail.startswith(why)
    ran = run_once(TranscodeWorker, path, parameters={"preset": "poster"}, folder=tmp_path / "out")
    assert ran.ok, "what a film is called says nothing"


def test_a_result_beyond_its_limit_is_not_made(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", rate=25, seconds=2, sound=False)
    settings = {"Transcode.ResultMegabytes": "1"}
    noise = tmp_path / "noise.mkv"
    ffmpeg("-i", path, "-vf", "noise=alls=100:allf=t", "-c:v", "mjpeg", "-q:v", "2", noise)
    parameters = {"preset": "web-video", "quality": "high"}
    ran = run_once(TranscodeWorker, noise, parameters=parameters, settings=settings, folder=tmp_path / "out")
    assert ran.end in {"killed", "app_error"}, ran.detail
    assert ran.result is None
