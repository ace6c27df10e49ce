"""What a file is, by its first bytes: names and declared types are claims, not facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HEAD = 32
EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/tiff": "tif",
    "image/bmp": "bmp",
}
PICTURES = frozenset(EXTENSIONS)
UNKNOWN = "application/octet-stream"

_SIGNATURES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"II+\x00", "image/tiff"),
    (b"MM\x00+", "image/tiff"),
)
_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})


def sniff(head: bytes) -> str:
    """The media type of the file that begins so, `application/octet-stream` for all that no worker here takes.

    Args:
        head: the first `HEAD` bytes, or all there are.
    """
    for signature, media_type in _SIGNATURES:
        if head.startswith(signature):
            return media_type
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "image/bmp"
    return UNKNOWN


def sniff_file(path: Path) -> str:
    """The media type of a file, by its content."""
    with path.open("rb") as file:
        return sniff(file.read(HEAD))
