"""Assets as answers: streamed, named safely, and shown inline only where the bytes are a picture that browsers know."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from unicodedata import combining, normalize
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from rolehost.frontend.headers import SANDBOX
from rolehost.jobs.sniffing import HEAD, UNKNOWN, sniff

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from rolehost.jobs.job import Result, Source
    from rolehost.stores import Blobs

DISPLAYABLE = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp", "image/bmp"})
# A blob never changes: what a browser has of it stays good. It is asked again after a purge only.
KEPT = "private, max-age=3600"


@dataclass(frozen=True, slots=True)
class Asset:
    """What is sent: the asset, whether it may be shown inline, and its entity tag if it has one."""

    facts: Source | Result
    inline: bool = False
    tag: str = ""


async def send_asset(request: Request, blobs: Blobs, asset: Asset) -> Response:
    """An asset as the answer to a request.

    Raises:
        NotFoundError: the blob is gone.
    """
    headers = {
        "Content-Security-Policy": SANDBOX,
        "Cache-Control": KEPT,
        "Content-Disposition": disposition(asset.facts.name, inline=False),
    }
    if asset.tag:
        headers["ETag"] = f'"{asset.tag}"'
        if _known(request.headers.get("if-none-match", ""), headers["ETag"]):
            return Response(status_code=304, headers=headers)
    pieces = blobs.stream(asset.facts.blob)
    first = await anext(pieces, b"")
    media_type = asset.facts.type
    if asset.inline:
        sniffed = sniff(first[:HEAD])
        media_type = sniffed if sniffed in DISPLAYABLE else UNKNOWN
        if media_type is not UNKNOWN:
            headers["Content-Disposition"] = disposition(asset.facts.name, inline=True)
    headers["Content-Length"] = str(asset.facts.size)
    return StreamingResponse(_rest(first, pieces), headers=headers, media_type=_header_safe(media_type))


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
