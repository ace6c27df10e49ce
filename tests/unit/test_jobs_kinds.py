"""Kinds of jobs, what files are, and names that clients give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rolehost.errors import InvalidParameterError, NotAPictureError
from rolehost.jobs.kinds import kind_named
from rolehost.jobs.sniffing import PICTURES, UNKNOWN, sniff, sniff_file
from rolehost.jobs.submission import display_name

THUMBNAIL = kind_named("thumbnail")
BMP = b"BM" + bytes(12)


@pytest.mark.parametrize(
    ("given", "source", "expected"),
    [
        ({}, "image/jpeg", ("Medium", 512, 512, "jpeg")),
        ({"size": "small"}, "image/png", ("Small", 128, 128, "png")),
        ({"size": "LARGE", "format": "JPG"}, "image/gif", ("Large", 1024, 1024, "jpeg")),
        ({"size": " Custom ", "width": "10", "height": " 10000 "}, "image/webp", ("Custom", 10, 10000, "webp")),
        ({"size": "Medium", "width": "", "height": " "}, "image/tiff", ("Medium", 512, 512, "png")),
        ({"format": " webp "}, "image/bmp", ("Medium", 512, 512, "webp")),
    ],
)
def test_parameters_of_a_thumbnail(given: dict[str, str], source: str, expected: tuple[Any, ...]) -> None:
    parsed = THUMBNAIL.parse(given, source)
    assert (parsed["size"], parsed["width"], parsed["height"], parsed["format"]) == expected


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        ({"size": "Huge"}, "size", "size must be Small, Medium, Large or Custom, not 'Huge'"),
        ({"size": "Custom"}, "width", "size Custom needs a width, in pixels"),
        ({"size": "Custom", "width": "5"}, "height", "size Custom needs a height, in pixels"),
        ({"width": "5"}, "width", "width goes with size Custom, not with Medium"),
        (
            {"size": "Custom", "width": "0", "height": "1"},
            "width",
            "width must be a whole number from 1 to 10000, not '0'",
        ),
        ({"size": "Custom", "width": "10001", "height": "1"}, "width", "from 1 to 10000"),
        ({"size": "Custom", "width": "-5", "height": "1"}, "width", "from 1 to 10000"),
        ({"size": "Custom", "width": "1e3", "height": "1"}, "width", "from 1 to 10000"),
        ({"size": "Custom", "width": "1.5", "height": "1"}, "width", "from 1 to 10000"),
        ({"size": "Custom", "width": "٣", "height": "1"}, "width", "from 1 to 10000"),
        ({"size": "Custom", "width": "9" * 5000, "height": "1"}, "width", "from 1 to 10000"),
        ({"format": "bmp"}, "format", "format must be jpeg, png or webp, not 'bmp'"),
        ({"quality": "9"}, "quality", "quality is not a parameter of a thumbnail"),
    ],
)
def test_wrong_parameters_are_refused_in_words(given: dict[str, str], field: str, message: str) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        THUMBNAIL.parse(given, "image/png")
    assert caught.value.field == field
    assert message in str(caught.value)


def test_a_users_kind_takes_any_file_and_any_text() -> None:
    kind = kind_named("ocr-2")
    kind.check_source(UNKNOWN, "x")
    assert kind.parse({"any": "thing"}, UNKNOWN) == {"any": "thing"}
    assert kind.queue == "ocr-2-jobs"


@pytest.mark.parametrize("name", ["", "Upper", "a_b", "-a", "a-", "a--b", "a/b", "a" * 47, "ä", "a\n"])
def test_what_can_name_no_queue_is_no_kind(name: str) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        kind_named(name)
    assert caught.value.field == "kind"


def test_what_is_no_picture_is_refused_with_its_name_and_what_would_do() -> None:
    with pytest.raises(
        NotAPictureError, match=r"notes\.jpg is not a picture of a known type \(BMP, GIF, JPG, PNG, TIF"
    ):
        THUMBNAIL.check_source(UNKNOWN, "notes.jpg")
    for media_type in PICTURES:
        THUMBNAIL.check_source(media_type, "x")


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "image/jpeg"),
        (b"\xff\xd8\xff\xdb", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "image/png"),
        (b"GIF87a", "image/gif"),
        (b"GIF89a\x01", "image/gif"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"II*\x00\x08\x00", "image/tiff"),
        (b"MM\x00*\x00\x00", "image/tiff"),
        (b"II+\x00\x08\x00", "image/tiff"),
        (b"MM\x00+\x00\x08", "image/tiff"),
        *((BMP + size.to_bytes(4, "little"), "image/bmp") for size in (12, 40, 52, 56, 64, 108, 124)),
    ],
)
def test_every_type_is_known_by_its_first_bytes(head: bytes, media_type: str) -> None:
    assert sniff(head) == media_type


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\x00",
        b"\x89PNG\n\x1a\n",  # line ends translated: damaged
        b"GIF88a",
        b"RIFF\x10\x00\x00\x00WAVEfmt ",
        b"RIFF\x10\x00\x00\x00",
        b"II",
        b"BM",
        b"BM and a letter that begins so",
        BMP + (41).to_bytes(4, "little"),
        b"<svg xmlns='http://www.w3.org/2000/svg'>",
        b"%PDF-1.7",
        b" GIF89a",
        b"\x00\x00\x00\x0cjP  ",
    ],
)
def test_lookalikes_are_not_taken(head: bytes) -> None:
    assert sniff(head) not in PICTURES


def test_a_file_is_what_it_holds_not_what_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "text.jpg"
    path.write_bytes(b"GIF89a" + bytes(100))
    assert sniff_file(path) == "image/gif"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("photo.jpg", "photo.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\photo.jpg", "photo.jpg"),
        ("a/b\\c.png", "c.png"),
        ("new\nline\x00\x1b[31m.png", "newline[31m.png"),
        ("bidi\u202egnp.exe", "bidignp.exe"),
        ("half\ud800.png", "half.png"),
        ("  spaces.png  ", "spaces.png"),
        ("grün 写真.jpg", "grün 写真.jpg"),
        ("", "unnamed"),
        ("/", "unnamed"),
        (".", "unnamed"),
        ("..", "unnamed"),
        ("a/..", "unnamed"),
        ("...", "unnamed"),
        ("\n\r", "unnamed"),
        (".hidden", ".hidden"),
    ],
)
def test_hostile_names_are_shown_harmlessly(given: str, shown: str) -> None:
    assert display_name(given) == shown


@pytest.mark.parametrize("name", ["x" * 1000 + ".jpeg", "x" * 1000, "." + "x" * 1000, "a." + "e" * 1000])
def test_long_names_are_cut_to_what_a_file_system_takes(name: str) -> None:
    assert 200 < len(display_name(name)) <= 255 or display_name(name).startswith("a.")
    assert len(display_name(name)) <= 255


def test_a_long_name_keeps_its_extension() -> None:
    assert display_name("x" * 1000 + ".jpeg").endswith("x.jpeg")
