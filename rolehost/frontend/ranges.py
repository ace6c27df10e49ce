"""Requests for a part of an answer (RFC 9110, section 14): one range of bytes, as players of films ask for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi.exceptions import HTTPException

from rolehost.frontend.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

# More than one range is answered as none, which is allowed: nobody who plays asks for that.
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of an answer: the first, how many, and of how many."""

    start: int
    length: int
    size: int

    @property
    def content_range(self) -> str:
        """The header that goes with them."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{self.size}"


def asked_span(headers: Mapping[str, str], size: int, tag: str) -> Span | None:
    """The part that a request asks for; None for the whole.

    Args:
        headers: of the request.
        size: bytes of the whole.
        tag: its entity tag, quoted; empty for none.

    Raises:
        HTTPException: 416, nothing of it lies within the whole.
    """
    found = _RANGE.fullmatch(headers.get("range", "").strip())
    if not found or not size or not any(found.groups()) or headers.get("if-range", tag) != tag:
        return None
    first, last = found.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last) + 1 if first and last else size, size)
    if first and last and int(last) < int(first):
        return None
    if start >= end:
        told = {"Content-Range": f"bytes */{size}"}
        detail = f"The range lies beyond the end of the {size} bytes that there are."
        raise HTTPException(416, Problem(status=416, kind="range-not-satisfiable", detail=detail, headers=told))
    return Span(start, end - start, size)
