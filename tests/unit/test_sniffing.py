"""What a file is by its first bytes, beyond pictures: sound, film, documents, text; and what only looks like one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rolehost.jobs.sniffing import HEAD, PICTURES, RECOGNISED, TEXT, UNKNOWN, sniff


def ftyp(major: bytes, *compatible: bytes) -> bytes:
    brands = major + bytes(4) + b"".join(compatible)
    return (8 + len(brands)).to_bytes(4) + b"ftyp" + brands + b"\0\0\0\x08free"


def ebml(doc_type: bytes, size: int | None = None) -> bytes:
    version = b"\x42\x86\x81\x01"
    named = b"\x42\x82" + bytes([0x80 | len(doc_type)]) + doc_type
    length = len(version + named) if size is None else size
    return b"\x1a\x45\xdf\xa3" + bytes([0x80 | length]) + version + named


def ogg_page(content: bytes) -> bytes:
    return b"OggS\0\x02" + bytes(20) + b"\x01" + bytes([len(content)]) + content


def mpeg_frames(header: bytes, length: int) -> bytes:
    return (header + bytes(length - len(header))) * 2


TS = (b"\x47\x40\x00\x10" + bytes(184)) * 5
M2TS = (bytes(4) + b"\x47\x40\x00\x10" + bytes(184)) * 5


@pytest.mark.parametrize(
    ("head", "media_type"),
    [
        (b"P6\n640 480\n255\n", "image/x-portable-pixmap"),
        (b"P5 # a comment\n# and another\n640\t480 255\n", "image/x-portable-graymap"),
        (b"P4\n8 8\n\x00", "image/x-portable-bitmap"),
        (b"P1\n2 2\n0 1\n1 0\n", "image/x-portable-bitmap"),
        (b"RIFF\x10\x00\x00\x00WAVEfmt ", "audio/wav"),
        (b"RF64\xff\xff\xff\xffWAVEds64", "audio/wav"),
        (b"RIFF\x10\x00\x00\x00AVI LIST", "video/x-msvideo"),
        (b"FORM\x00\x00\x00\x10AIFFCOMM", "audio/aiff"),
        (b"fLaC\x00\x00\x00\x22" + bytes(34), "audio/flac"),
        (ogg_page(b"\x01vorbis\0\0\0\0"), "audio/ogg"),
        (ogg_page(b"OpusHead\x01"), "audio/ogg"),
        (ogg_page(b"OpusHead\x01") + ogg_page(b"\x80theora"), "video/ogg"),
        (ogg_page(b"fishead\0") + ogg_page(b"\x01vorbis"), "audio/ogg"),
        (b"ID3\x04\x00\x00\x00\x00\x01\x00", "audio/mpeg"),
        (mpeg_frames(b"\xff\xfb\x90\x00", 417), "audio/mpeg"),
        (mpeg_frames(b"\xff\xf3\x48\x00", 144), "audio/mpeg"),  # MPEG-2, layer III, 32 kbit/s, 16 kHz
        (mpeg_frames(b"\xff\xfd\xe8\x00", 1728), "audio/mpeg"),  # layer II at its most: 384 kbit/s, 32 kHz
        (mpeg_frames(b"\xff\xf1\x50\x80\x0d\x1f\xfc", 104), "audio/aac"),
        (ftyp(b"isom", b"isom", b"mp41"), "video/mp4"),
        (ftyp(b"XXXX", b"isom", b"avc1"), "video/mp4"),
        (ftyp(b"M4A ", b"isom"), "audio/mp4"),
        (ftyp(b"qt  "), "video/quicktime"),
        (ftyp(b"3gp4", b"isom"), "video/3gpp"),
        (ftyp(b"avif", b"mif1"), "image/avif"),
        (ftyp(b"mif1", b"avif"), "image/avif"),
        (ftyp(b"heic", b"mif1"), "image/heic"),
        (b"\0\0\x01\0moov\0\0\0\x6cmvhd", "video/quicktime"),
        (b"\0\0\0\x08wide\0\1\0\0mdat", "video/quicktime"),
        (ebml(b"webm"), "video/webm"),
        (ebml(b"matroska"), "video/x-matroska"),
        (TS, "video/mp2t"),
        (M2TS, "video/mp2t"),
        (b"\0\0\1\xba\x44\0\4\0", "video/mpeg"),
        (b"\0\0\1\xba\x21\0\1\0", "video/mpeg"),
        (b"%PDF-1.7\n", "application/pdf"),
        (b"PK\x03\x04\x14", "application/zip"),
        (b"PK\x05\x06" + bytes(18), "application/zip"),
        (b"\x1f\x8b\x08\x00", "application/gzip"),
    ],
)
def test_what_else_is_known(head: bytes, media_type: str) -> None:
    assert sniff(head) == media_type
    assert media_type in RECOGNISED
    assert media_type not in PICTURES


@pytest.mark.parametrize(
    "text",
    [
        b"plain",
        b"\xef\xbb\xbfwith a byte order mark\r\n",
        "grün, 写真, 🙂".encode(),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"#EXTM3U\nhttp://127.0.0.1/x\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"\x1b[31mred\x1b[0m\n",
        b"P6 is a format of pictures",
        b"ID3 is a tag",
        b"fLaC",
        b"%PDF-x",
        (b"a" * (HEAD - 1) + "ü".encode())[:HEAD],  # the head's end cuts the letter in two
    ],
)
def test_text_is_utf_8(text: bytes) -> None:
    assert sniff(text) == TEXT


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\xff\xfeg\x00r\x00u\x00n\x00",  # UTF-16
        b"text with a \x00",
        b"latin-1: gr\xfcn",
        b"cut \xc3",
        b"\xff\xfb\x90\x00" + bytes(500),  # one frame, and no other
        mpeg_frames(b"\xff\xfb\xf0\x00", 417),  # a bit rate that there isn't
        mpeg_frames(b"\xff\xfb\x9c\x00", 417),  # a sampling rate that there isn't
        mpeg_frames(b"\xff\xeb\x90\x00", 417),  # a version that there isn't
        b"ID3\x09\x00\x00\x00\x00\x01\x00",
        b"ID3\x04\x00\x00\xff\xff\xff\xff",
        ftyp(b"XXXX"),
        b"\0\0\0\x14ftypisom",  # cut
        b"\xff\xff\xff\xf0ftypisom" + bytes(64),
        b"\0\0\0\0ftypisom" + bytes(64),
        b"\0\0\0\x08moovmoovmoov",
        ebml(b"something"),
        ebml(b"webm", 0x7F)[:9],
        b"\x1a\x45\xdf\xa3\x00" + bytes(40),
        b"\x1a\x45\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xff\x42\x82\x01\xff\xff\xff\xff\xff\xff\xffwebm",
        b"\x1a\x45\xdf\xa3\x9f" + b"\xec\x80" * 20,
        ogg_page(b"unknown!"),
        b"OggS" + bytes(23) + b"\xff",
        TS[: 188 * 4],
        (b"\x47\x40\x00\x00" + bytes(184)) * 5,
        b"\0\0\1\xba\x00\0\0",
        b"fLaC\x01\x00\x00\x22",
        b"\x89HDF\r\n\x1a\n",
        b"\x7fELF\x02\x01\x01" + bytes(9),
        b"P7\n\x00",
        b"P6\n640 \x00480\n",
    ],
)
def test_lookalikes_are_unknown(head: bytes) -> None:
    assert sniff(head) == UNKNOWN


@pytest.mark.parametrize(
    ("signature", "filler"),
    [(b"OggS\0", b"OggS\0"), (b"P6", b"#"), (b"P6", b"\n"), (b"P6\n", b"#\n"), (b"\x1a\x45\xdf\xa3\xff", b"\x81\x80")],
)
def test_a_head_that_repeats_itself_is_decided_at_once(signature: bytes, filler: bytes) -> None:
    head = (signature + filler * HEAD)[:HEAD]
    assert sniff(head) in {UNKNOWN, TEXT}


_BEGINNINGS = st.sampled_from([
    b"", b"\xff\xfb\x90", b"\xff\xf1\x50", b"ID3", b"OggS\0\x02", b"\x1a\x45\xdf\xa3", b"\0\0\0\x20ftyp", b"\0\0\1\xba",
    b"\x47\x40", b"P6\n", b"RIFF", b"BM", b"moov", b"\xef\xbb\xbf",
])  # fmt: skip


@given(_BEGINNINGS, st.binary(max_size=600))
def test_whatever_comes_there_is_one_answer(beginning: bytes, rest: bytes) -> None:
    found = sniff(beginning + rest)
    assert found in RECOGNISED | {TEXT, UNKNOWN}
    assert sniff(beginning + rest) == found
