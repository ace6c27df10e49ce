"""Sound and film by their first bytes. Each function answers with a media type, or with nothing."""

from __future__ import annotations

import re

_BRANDS = (
    (re.compile(rb"qt  "), "video/quicktime"),
    (re.compile(rb"M4[ABP] |F4[AB] "), "audio/mp4"),
    (re.compile(rb"3g[2pre][0-9a-z]"), "video/3gpp"),
    (re.compile(rb"iso[m2-9]|mp4[12]|mmp4|avc1|dash|dby1|M4V[ HP]|f4v |MSNV|NDAS|XAVC|CAEP|cmf[2c]|msdh"), "video/mp4"),
)
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_FTYP_SIZES = range(16, 1028, 4)

_EBML = b"\x1a\x45\xdf\xa3"
_DOC_TYPE = 0x4282
_LONGEST_NUMBER = 8
_DOC_TYPES = {b"webm": "video/webm", b"matroska": "video/x-matroska"}

_OGG_PAGE = 27
_OGG_SOUND = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ")
_OGG_FILM = (b"\x80theora", b"BBCD\x00")

_PACKETS = ((188, 0), (192, 4))
"""Bytes of a packet of an MPEG transport stream, and where its sync byte stands: from the air, and from a camera."""
_SYNC = b"\x47"
_IN_A_ROW = 5
_PACK = re.compile(
    rb"\x00\x00\x01\xba[\x21\x23\x25\x27\x29\x2b\x2d\x2f\x44-\x47\x4c-\x4f\x54-\x57\x5c-\x5f\x64-\x67\x6c-\x6f\x74-\x77\x7c-\x7f]"
)
"""The start of a program stream's pack, and the marker bits after it: those of MPEG-1, and those of MPEG-2."""

_ID3 = re.compile(
    rb"ID3[\x02-\x04][^\xff][\x00\x10\x20\x30\x40\x50\x60\x70\x80\x90\xa0\xb0\xc0\xd0\xe0\xf0][\x00-\x7f]{4}", re.DOTALL
)
_MPEG_FRAME = re.compile(rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff]..", re.DOTALL)
"""Eleven bits of sync, a version and a layer that aren't reserved."""
_ADTS_FRAME = re.compile(rb"\xff[\xf0\xf1\xf8\xf9].{5}", re.DOTALL)
_VERSIONS = {3: 1, 2: 2, 0: 3}
"""MPEG-1, MPEG-2, and what is called MPEG-2.5."""
_THIRD = 3
_KBITS = {
    # By version and layer.
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_HERTZ = {1: (44100, 48000, 32000), 2: (22050, 24000, 16000), 3: (11025, 12000, 8000)}
_ADTS_RATES = 13


def iso_media(head: bytes) -> str:
    """MP4 and its relatives, by the brands they name; QuickTime's own files, which may name none."""
    size, kind = int.from_bytes(head[:4]), head[4:8]
    if kind == b"ftyp":
        return _by_brands(head, size)
    if kind == b"moov" and head[12:16] in {b"mvhd", b"cmov"}:
        return "video/quicktime"
    if head[:8] == b"\0\0\0\x08wide" and head[12:16] == b"mdat":
        return "video/quicktime"
    return ""


def _by_brands(head: bytes, size: int) -> str:
    if size not in _FTYP_SIZES or len(head) < size:
        return ""
    brands = [head[at : at + 4] for at in (8, *range(16, size, 4))]
    if brands[0] in _AVIF_BRANDS or (brands[0] in _HEIC_BRANDS and _AVIF_BRANDS.intersection(brands)):
        return "image/avif"
    if brands[0] in _HEIC_BRANDS:
        return "image/heic"
    known = (media_type for brand in brands for pattern, media_type in _BRANDS if pattern.fullmatch(brand))
    return next(known, "")  # the first that is known speaks for the file


def matroska(head: bytes) -> str:
    """Matroska and WebM, by the DocType in their EBML header."""
    if head[:4] != _EBML:
        return ""
    size, at = _ebml_size(head, 4)
    end = min(at + size, len(head))
    while at and at + 2 < end:
        length = _ebml_length(head[at])
        element = int.from_bytes(head[at : at + length])
        size, at = _ebml_size(head, at + length)
        if element == _DOC_TYPE and at + size <= end:
            return _DOC_TYPES.get(head[at : at + size].rstrip(b"\0"), "")
        at = at and at + size
    return ""


def _ebml_length(first: int) -> int:
    """Bytes of a number whose first byte this is: one more than the zeros it begins with."""
    return 9 - first.bit_length()


def _ebml_size(head: bytes, at: int) -> tuple[int, int]:
    """An element's size, and where its content begins: at 0 if nothing is there."""
    if at >= len(head) or (length := _ebml_length(head[at])) > _LONGEST_NUMBER:
        return 0, 0
    number = int.from_bytes(head[at : at + length])
    return number & ((1 << 7 * length) - 1), at + length


def ogg(head: bytes) -> str:
    """Ogg: a film if one of the streams that begin in it is."""
    sound = ""
    while head[:5] == b"OggS\0" and len(head) > _OGG_PAGE:
        table = head[_OGG_PAGE : _OGG_PAGE + head[26]]
        content = head[_OGG_PAGE + len(table) :]
        if content.startswith(_OGG_FILM):
            return "video/ogg"
        sound = "audio/ogg" if content.startswith(_OGG_SOUND) else sound
        head = content[sum(table) :]
    return sound


def mpeg_stream(head: bytes) -> str:
    """MPEG's transport stream, if packets in a row begin as they should, and its program stream."""
    for size, offset in _PACKETS:
        firsts = head[offset : offset + _IN_A_ROW * size : size]
        if firsts == _SYNC * _IN_A_ROW and head[offset + 3] & 0x30:
            return "video/mp2t"
    return "video/mpeg" if _PACK.match(head) else ""


def mpeg_audio(head: bytes) -> str:
    """MP3, its elder layers and AAC, by an ID3 tag, or by two frames of one stream in a row."""
    if _ID3.match(head):
        return "audio/mpeg"
    for media_type, length in (("audio/mpeg", _mpeg_frame(head)), ("audio/aac", _adts_frame(head))):
        if length and _stays(head) == _stays(head[length:]):
            return media_type
    return ""


def _stays(frame: bytes) -> int:
    """What stays in the headers of a stream's frames: sync, version, layer, sampling rate."""
    return int.from_bytes(frame[:4]) & 0xFF_FE_0C_00


def _mpeg_frame(head: bytes) -> int:
    """Bytes of the frame of MPEG audio that begins here; 0 if none does."""
    if not _MPEG_FRAME.match(head):
        return 0
    version, layer = _VERSIONS[head[1] >> 3 & 3], 4 - (head[1] >> 1 & 3)
    bits, rate, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if bits not in range(1, 15) or rate == len(_HERTZ[version]):
        return 0
    per_second, hertz = _KBITS[min(version, 2), layer][bits - 1] * 1000, _HERTZ[version][rate]
    if layer == 1:
        return (12 * per_second // hertz + padding) * 4
    return (72 if layer == _THIRD and version > 1 else 144) * per_second // hertz + padding


def _adts_frame(head: bytes) -> int:
    """Bytes of the frame of AAC that begins here; 0 if none does."""
    if not _ADTS_FRAME.match(head) or head[2] >> 2 & 15 >= _ADTS_RATES:
        return 0
    return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
