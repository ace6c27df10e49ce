"""What a file is, by its first bytes: names and declared types are claims, not facts."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

from rolehost.jobs.sniffing_media import iso_media, matroska, mpeg_audio, mpeg_stream, ogg

if TYPE_CHECKING:
    from pathlib import Path

HEAD = 4096
"""Bytes that decide: the second frame of any MPEG audio begins within them."""
EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/tiff": "tif",
    "image/bmp": "bmp",
}
PICTURES = frozenset(EXTENSIONS)
"""The pictures that the console applications in the package read."""
UNKNOWN = "application/octet-stream"
TEXT = "text/plain"
FILMS = (
    "video/3gpp",
    "video/mp2t",
    "video/mp4",
    "video/mpeg",
    "video/ogg",
    "video/quicktime",
    "video/webm",
    "video/x-matroska",
    "video/x-msvideo",
)
SOUNDS = ("audio/aac", "audio/aiff", "audio/flac", "audio/mp4", "audio/mpeg", "audio/ogg", "audio/wav")
_OTHERS = (
    *("application/gzip", "application/pdf", "application/zip"),
    *("image/avif", "image/heic"),
    *("image/x-portable-bitmap", "image/x-portable-graymap", "image/x-portable-pixmap"),
)
RECOGNISED = PICTURES.union(FILMS, SOUNDS, _OTHERS)
"""Types whose files show what they are: one that was promised, and isn't found, isn't there."""

_SIGNATURES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"II+\x00", "image/tiff"),
    (b"MM\x00+", "image/tiff"),
    (b"fLaC\x00\x00\x00\x22", "audio/flac"),  # its first block is STREAMINFO, 34 bytes
    (b"fLaC\x80\x00\x00\x22", "audio/flac"),  # the same, and the last
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x05\x06", "application/zip"),  # an empty one
    (b"\x1f\x8b\x08", "application/gzip"),
)
_CHUNKS = {
    (b"RIFF", b"WEBP"): "image/webp",
    (b"RIFF", b"WAVE"): "audio/wav",
    (b"RF64", b"WAVE"): "audio/wav",
    (b"RIFF", b"AVI "): "video/x-msvideo",
    (b"FORM", b"AIFF"): "audio/aiff",
    (b"FORM", b"AIFC"): "audio/aiff",
}
"""A container's letters, and after its size what it contains."""
_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})
_PDF = re.compile(rb"%PDF-[12]\.[0-9]")
_GAP = rb"(?:[ \t\r\n]|#[^\r\n]*[\r\n])+"
_NETPBM = re.compile(rb"P([1-6])" + _GAP + rb"[0-9]{1,7}" + _GAP + rb"[0-9]{1,7}[ \t\r\n]")
_PORTABLE = {b"1": "bitmap", b"2": "graymap", b"3": "pixmap", b"4": "bitmap", b"5": "graymap", b"6": "pixmap"}
_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
"""Control characters that no text has; tabs, line ends, page feeds and the escapes of terminals it may."""


def sniff(head: bytes) -> str:
    """The media type of the file that begins so, `application/octet-stream` for all that isn't known here.

    Args:
        head: the first `HEAD` bytes, or all there are.
    """
    known = _by_signature(head) or iso_media(head) or matroska(head) or ogg(head) or mpeg_stream(head)
    return known or mpeg_audio(head) or _netpbm(head) or (TEXT if _is_text(head) else UNKNOWN)


def sniff_file(path: Path) -> str:
    """The media type of a file, by its content."""
    with path.open("rb") as file:
        return sniff(file.read(HEAD))


def _by_signature(head: bytes) -> str:
    for signature, media_type in _SIGNATURES:
        if head.startswith(signature):
            return media_type
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "image/bmp"
    if _PDF.match(head):
        return "application/pdf"
    return _CHUNKS.get((head[:4], head[8:12]), "")


def _netpbm(head: bytes) -> str:
    """A bitmap, greymap or pixmap of the Netpbm tools, plain or raw, by its head: letters, width, height."""
    found = _NETPBM.match(head)
    return f"image/x-portable-{_PORTABLE[found[1]]}" if found else ""


def _is_text(head: bytes) -> bool:
    """Whether it is text in UTF-8; a character that the head's end cuts in two counts as whole."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) < HEAD)
    except UnicodeDecodeError:
        return False
    return bool(text) and _NO_TEXT.search(text) is None
