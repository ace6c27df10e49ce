"""What the kind `transcode` accepts and what its parameters mean, before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from rolehost.errors import InvalidParameterError, UnsupportedTypeError
from rolehost.jobs.kinds import BUILT_IN
from rolehost.jobs.sniffing import FILMS, PICTURES, RECOGNISED, SOUNDS, TEXT, UNKNOWN
from rolehost.jobs.transcode_kind import ACCEPTS, PARAMETERS, PRESETS
from rolehost.workers.transcoding.ffmpeg import DEMUXERS

KIND = BUILT_IN["transcode"]


@pytest.mark.parametrize(
    ("given", "source", "meant"),
    [
        ({"preset": "web-video"}, "video/mp4", {"format": "mp4", "height": 720, "quality": "medium"}),
        (
            {"preset": "web-video", "height": "1080", "quality": "high"},
            "video/webm",
            {"format": "mp4", "height": 1080, "quality": "high"},
        ),
        ({"preset": "audio"}, "video/mp4", {"format": "m4a", "quality": "medium"}),
        ({"preset": "audio", "format": "mp3"}, "audio/wav", {"format": "mp3", "quality": "medium"}),
        ({"preset": "poster"}, "video/quicktime", {"format": "jpeg"}),
        ({"preset": "poster", "at": "12.5", "height": ""}, "video/mp4", {"format": "jpeg", "at": 12.5}),
        ({"preset": "preview"}, "image/gif", {"format": "webp", "height": 240, "seconds": 3}),
        (
            {"preset": "contact-sheet", "rows": "2"},
            "video/mp4",
            {"format": "jpeg", "height": 160, "columns": 4, "rows": 2},
        ),
        ({"preset": "webp"}, "image/png", {"format": "webp"}),
        ({"preset": "tiff"}, "image/gif", {"format": "tiff"}),
        ({"preset": "audio"}, UNKNOWN, {"format": "m4a", "quality": "medium"}),  # nobody knows yet what it is
    ],
)
def test_a_preset_has_its_parameters_and_no_others(given: dict[str, str], source: str, meant: dict[str, Any]) -> None:
    assert KIND.parse(given, source) == {"preset": given["preset"]} | meant


@pytest.mark.parametrize(
    ("given", "source", "field", "why"),
    [
        ({}, "video/mp4", "preset", "missing"),
        ({"preset": "Poster"}, "video/mp4", "preset", "must be"),
        ({"preset": "web-video"}, "audio/mpeg", "preset", "for films; this is audio/mpeg"),
        ({"preset": "web-video"}, "image/png", "preset", "for films; this is image/png"),
        ({"preset": "audio"}, "image/gif", "preset", "for sound; this is image/gif"),
        ({"preset": "jpeg"}, "video/mp4", "preset", "for pictures; this is video/mp4"),
        ({"preset": "poster", "format": "mp3"}, "video/mp4", "format", "jpeg, png or webp"),
        ({"preset": "web-video", "format": "webm"}, "video/mp4", "format", "must be"),
        ({"preset": "poster", "columns": "3"}, "video/mp4", "columns", "doesn't go with poster"),
        ({"preset": "jpeg", "height": "100"}, "image/png", "height", "doesn't go with jpeg"),
        ({"preset": "web-video", "height": "9999"}, "video/mp4", "height", "32 to 2160"),
        ({"preset": "web-video", "height": "nan"}, "video/mp4", "height", "whole number"),
        ({"preset": "poster", "at": "-1"}, "video/mp4", "at", "from 0"),
        ({"preset": "poster", "at": "1e999"}, "video/mp4", "at", "number"),
        ({"preset": "poster", "vf": "x"}, "video/mp4", "vf", "not a parameter"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(given: dict[str, str], source: str, field: str, why: str) -> None:
    with pytest.raises(InvalidParameterError, match=why) as refused:
        KIND.parse(given, source)
    assert refused.value.field == field


def test_every_combination_that_is_accepted_is_one_of_the_declaration() -> None:
    declared = {parameter.name: parameter for parameter in PARAMETERS}
    for name, preset in PRESETS.items():
        for wanted in preset.formats:
            source = {"audio": "audio/wav"}.get(name, "video/mp4" if preset.defaults else "image/png")
            given = {"preset": name} | ({"format": wanted} if preset.defaults else {})
            for parameter, value in KIND.parse(given, source).items():
                assert declared[parameter].parse(str(value)) == value


@pytest.mark.parametrize("media_type", [TEXT, UNKNOWN, "application/pdf", "image/heic", "image/x-portable-pixmap"])
def test_other_content_is_not_accepted_whatever_it_is_called(media_type: str) -> None:
    with pytest.raises(UnsupportedTypeError):
        KIND.check_source(media_type, "film.mp4")


def test_each_accepted_type_is_one_that_content_shows_and_each_film_has_its_demuxer() -> None:
    assert set(ACCEPTS) <= RECOGNISED
    assert set(DEMUXERS) == {*FILMS, *SOUNDS, "image/gif"}
    assert set(DEMUXERS) | PICTURES == set(ACCEPTS)
    for media_type in ACCEPTS:
        KIND.check_source(media_type, "x")
