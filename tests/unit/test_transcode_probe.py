"""What a film holds, as ffmpeg tells it; and what claims too much."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from rolehost.errors import BadInputError, ProgramNotFoundError
from rolehost.jobs.job import End
from rolehost.processes import Exit
from rolehost.workers.console_app import fill
from rolehost.workers.exit_policy import end_of
from rolehost.workers.transcode import TranscodeWorker
from rolehost.workers.transcoding.ffmpeg import find_ffmpeg
from rolehost.workers.transcoding.presets import command
from rolehost.workers.transcoding.probe import Film, Stream, measure_command, measured, probe_command, read_probe
from support.films import ffmpeg, film, tone
from support.programs import needs


def probed(path: Path, media_type: str) -> Film | None:
    argv = fill(probe_command("ffmpeg", media_type), {"source": str(path)})
    run = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return read_probe(run.stderr)


@needs("ffmpeg")
def test_what_is_in_a_film(tmp_path: Path) -> None:
    path = film(
        tmp_path / "film.mkv", "-metadata", "Stream #0:7: Video: h264, 10x10=x", "-c:v", "libx264", "-c:a", "aac"
    )
    found = probed(path, "video/x-matroska")
    assert found is not None
    assert found.seconds == pytest.approx(2.0, abs=0.1)
    assert found.video == Stream(0, "h264", 320, 180)
    assert found.audio is not None
    assert found.audio == Stream(1, "aac")


@needs("ffmpeg")
def test_a_cover_is_no_film(tmp_path: Path) -> None:
    cover, sound, both = tmp_path / "cover.png", tone(tmp_path / "sound.mp3"), tmp_path / "both.mp3"
    ffmpeg("-f", "lavfi", "-i", "color=red:size=64x64", "-frames:v", "1", cover)
    ffmpeg("-i", sound, "-i", cover, "-map", "0", "-map", "1", "-c", "copy", "-disposition:v", "attached_pic", both)
    found = probed(both, "audio/mpeg")
    assert found is not None
    assert found.video is None
    assert found.audio is not None


@needs("ffmpeg")
def test_a_transport_stream_with_its_programs(tmp_path: Path) -> None:
    found = probed(film(tmp_path / "film.ts"), "video/mp2t")
    assert found is not None
    assert found.video is not None
    assert found.audio is not None
    assert found.seconds == pytest.approx(2.0, abs=0.2)


@needs("ffmpeg")
def test_a_live_recording_does_not_say_how_long_it_is_and_is_measured(tmp_path: Path) -> None:
    quick = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus", "-live", "1", "-f", "webm")
    path = film(tmp_path / "live.webm", *quick, size="64x48")
    found = probed(path, "video/webm")
    assert found is not None
    assert found.seconds is None
    argv = fill(measure_command("ffmpeg", "video/webm", found), {"source": str(path)})
    run = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert measured(run.stdout) == pytest.approx(2.0, abs=0.2)


@needs("ffmpeg")
@pytest.mark.parametrize("content", [b"", b"\0\0\0\x18ftypisom" + bytes(64), b"#EXTM3U\n/etc/passwd\n"])
def test_what_is_no_film_says_nothing(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    assert probed(path, "video/mp4") is None


@pytest.mark.parametrize("told", ["N/A", "00:00:00.00", "99999999:00:00.00", "9" * 5000 + ":00:00.00", "-00:00:01.00"])
def test_a_length_that_is_none(told: str) -> None:
    found = read_probe(
        f"Input #0, aac, from 'x':\n  Duration: {told}, bitrate: 1 kb/s\n  Stream #0:0: Audio: aac (LC), mono\n"
    )
    assert found == Film(None, None, Stream(0, "aac"))


def test_a_film_with_tracks_that_nobody_asked_for(tmp_path: Path) -> None:
    """Subtitles, whose decoder stays shut, don't keep it from being read."""
    (tmp_path / "words.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    plain = film(tmp_path / "plain.mkv", "-c:v", "libx264", "-c:a", "aac", size="64x48", seconds=1)
    ffmpeg("-i", plain, "-i", tmp_path / "words.srt", "-map", "1", "-map", "0", "-c", "copy", tmp_path / "film.mkv")
    found = probed(tmp_path / "film.mkv", "video/x-matroska")
    assert found is not None
    assert (found.video, found.audio) == (Stream(1, "h264", 64, 48), Stream(2, "aac"))


@pytest.mark.parametrize("language", ["", "(eng)", "(en-US)", "(a b)", "[0x1](pt-BR)", "(a(b)c)"])
def test_a_language_may_be_any_text(language: str) -> None:
    found = read_probe(f"  Stream #0:0{language}: Video: h264 (High), yuv420p, 64x48, 25 fps (default)\n")
    assert found == Film(None, Stream(0, "h264", 64, 48), None)


@pytest.mark.parametrize(
    "said",
    [
        "Cannot determine format of input stream 0:0 after EOF\nError marking filters as finished",
        "[abuffer @ 0x5] Value inf for parameter 'time_base' out of range\nError configuring filter graph",
        "[graph_0_in @ 0x5] Neither number of channels nor channel layout specified\n[af#0:0 @ 0x5] Error",
        "[yadif @ 0x5] Video of less than 3 columns or lines is not supported\nError while processing",
    ],
)
def test_what_breaks_off_before_its_first_frame_is_the_inputs_fault(said: str) -> None:
    rules, codes = TranscodeWorker.app.exit_rules, TranscodeWorker.app.bad_input_exit_codes
    assert end_of(Exit(code=1), f"{said}\n", rules, codes) is End.BAD_INPUT
    assert end_of(Exit(code=1), f"{said}\nCannot allocate memory\n", rules, codes) is End.APP_ERROR


@pytest.mark.parametrize(
    ("held", "why"),
    [
        (Film(1.0, None, None), "neither film nor sound"),
        (Film(1.0, Stream(0, "magicyuv", 64, 64), None), "coded as magicyuv"),
        (Film(1.0, Stream(0, "h264", 100_000, 100_000), None), "too many pixels: 100000x100000"),
        (Film(1.0, None, Stream(1, "unheard_of")), "coded as unheard_of"),
    ],
)
def test_what_no_decoder_is_to_see(held: Film, why: str) -> None:
    with pytest.raises(BadInputError, match=why):
        held.check()


@pytest.mark.parametrize(
    ("asked", "held", "why"),
    [
        ({"preset": "audio", "format": "m4a"}, Film(1.0, Stream(0, "h264", 2, 2), None), "no sound"),
        ({"preset": "poster", "format": "jpeg"}, Film(1.0, None, Stream(0, "aac")), "only sound"),
        ({"preset": "poster", "format": "jpeg", "at": 9}, Film(1.0, Stream(0, "h264", 2, 2), None), "lasts 1.0 s"),
        ({"preset": "contact-sheet", "columns": 1, "rows": 1}, Film(None, Stream(0, "h264"), None), "how long"),
    ],
)
def test_what_a_preset_needs_and_does_not_find(asked: dict[str, str], held: Film, why: str) -> None:
    with pytest.raises(BadInputError, match=why):
        command(asked, held, 1)


def test_where_ffmpeg_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mine/ffmpeg", "path/ffmpeg", "wheel/ffmpeg-linux"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    path, mine = str(tmp_path / "path"), str(tmp_path / "mine/ffmpeg")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ProgramNotFoundError, match="ffmpeg is not installed"):
        find_ffmpeg("", str(tmp_path / "none"))
    with pytest.raises(ProgramNotFoundError, match=r"no /nowhere/ffmpeg, which the setting Transcode.Ffmpeg names"):
        find_ffmpeg("/nowhere/ffmpeg", path)
    assert find_ffmpeg("", path) == f"{path}/ffmpeg"
    assert find_ffmpeg(mine, path) == mine
    wheel = SimpleNamespace(get_ffmpeg_exe=lambda: str(tmp_path / "wheel/ffmpeg-linux"))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", wheel)
    assert find_ffmpeg("", path) == f"{path}/ffmpeg"
    assert find_ffmpeg("", str(tmp_path / "none")) == str(tmp_path / "wheel/ffmpeg-linux")
