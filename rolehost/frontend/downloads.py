"""Assets as answers: streamed, whole or in part, named safely, and shown inline only where the bytes may be.

That is where they are, by their content, a picture, a film or sound that browsers know. Everything else is saved.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unicodedata import combining, normalize
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from rolehost.frontend.headers import SANDBOX
from rolehost.frontend.media import INLINE
from rolehost.frontend.ranges import asked_span
from rolehost.jobs.sniffing import HEAD, UNKNOWN, sniff

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from rolehost.jobs.job import Result, Source
    from rolehost.stores import Blobs

# A blob never changes: what a browser has of it stays good. It is asked again after a purge only.
KEPT = "private, max-age=3600"


@dataclass(frozen=True, slots=True)
class Asset:
    """What is sent: the asset, whether it may be shown inline, and its entity tag if it has one."""

    facts: Source | Result
    inline: bool = False
    tag: str = ""


async def send_asset(request: Request, blobs: Blobs, asset: Asset) -> Response:
    """An asset, or the range of it that is asked for, as the answer to a request.

    Raises:
        NotFoundError: the blob is gone.
        HTTPException: 416, the range lies beyond its end.
    """
    facts = asset.facts
    headers = {
        "Content-Security-Policy": SANDBOX,
        "Cache-Control": KEPT,
        "Content-Disposition": disposition(facts.name, inline=False),
        "Accept-Ranges": "bytes",
    }
    if asset.tag:
        headers["ETag"] = f'"{asset.tag}"'
        if _known(request.headers.get("if-none-match", ""), headers["ETag"]):
            return Response(status_code=304, headers=headers)
    span = asked_span(request.headers, facts.size, headers.get("ETag", ""))
    pieces = blobs.stream(facts.blob, start=span.start, length=span.length) if span else blobs.stream(facts.blob)
    first = await anext(pieces, b"")
    media_type = facts.type
    if asset.inline:
        sniffed = sniff(first[:HEAD] if span is None else await _head(blobs, facts.blob))
        media_type = sniffed if sniffed in INLINE else UNKNOWN
        if media_type is not UNKNOWN:
            headers["Content-Disposition"] = disposition(facts.name, inline=True)
    headers |= {"Content-Range": span.content_range} if span else {}
    headers["Content-Length"] = str(span.length if span else facts.size)
    body = _rest(first, pieces)
    return StreamingResponse(body, 206 if span else 200, headers=headers, media_type=_header_safe(media_type))


async def _head(blobs: Blobs, name: str) -> bytes:
    return b"".join([piece async for piece in blobs.stream(name, length=HEAD)])


def disposition(name: str, *, inline: bool) -> str:
    """A Content-Disposition that carries any name: RFC 6266, the name in the extended form of RFC 8187.

    Before it stands the name in ASCII, for programs that know no other form, such as `curl -OJ`.

    Args:
        name: the file's name; quotes, line ends and characters outside ASCII do no harm.
        inline: shown in the page, else saved.
    """
    kind = "inline" if inline else "attachment"
    extended = quote(name.encode("utf-8", "replace"), safe="")
    return f"{kind}; filename=\"{ascii_name(name)}\"; filename*=UTF-8''{extended}"


def ascii_name(name: str) -> str:
    """A file's name in characters that stand in a quoted string, on every file system, and hide no file."""
    bare = "".join(character for character in normalize("NFKD", name) if not combining(character))
    return re.sub(r"[^A-Za-z0-9 ()+,=@._-]", "_", bare).lstrip(" .") or "download"


def _known(sent: str, tag: str) -> bool:
    return tag in {known.strip().removeprefix("W/") for known in sent.split(",")}


def _header_safe(media_type: str) -> str:
    """A media type from a row, or the one of unknown content if it would break the head."""
    good = media_type.isascii() and media_type.isprintable() and "/" in media_type
    return media_type if good and not media_type.startswith("text/") else UNKNOWN


async def _rest(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in pieces:
        yield piece
