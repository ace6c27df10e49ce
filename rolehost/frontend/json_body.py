"""A request's body as JSON, read strictly: what two readers could understand differently is refused.

Names that come twice, NaN, half surrogate pairs and numbers of thousands of digits are no JSON here, and nesting ends
before the reader's stack does.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

from starlette.datastructures import Headers

from rolehost.frontend.problems import refusal
from rolehost.frontend.views import human_size

if TYPE_CHECKING:
    from starlette.requests import Request

JSON = "application/json"
_SUFFIX = "+json"


def is_json(headers: Headers) -> bool:
    """Whether a request says that its body is JSON."""
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == JSON or (media_type.startswith("application/") and media_type.endswith(_SUFFIX))


async def read_body(request: Request, most: int) -> bytes:
    """A body of some bytes at most.

    Raises:
        HTTPException: 413, it has more; no more than that is read.
    """
    length = request.headers.get("content-length", "0")
    body = bytearray()
    if not (length.isdigit() and int(length[:20]) > most):
        async for piece in request.stream():
            body += piece
            if len(body) > most:
                break
        else:
            return bytes(body)
    raise refusal(413, "too-large", f"The body is larger than the {human_size(most)} that are accepted.")


def parsed(body: bytes, what: str = "The body") -> Any:
    """The value that a body is.

    Args:
        body: or a field of a form.
        what: it is, as a sentence begins.

    Raises:
        HTTPException: 400, it is no JSON, or none that everybody reads alike.
    """
    try:
        text = body.decode()
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
        _check_text(value)
    except (ValueError, RecursionError) as error:
        told = f"{what} is no JSON that is accepted: {_why(error)}."
        raise refusal(400, "malformed-json", told) from error
    return value


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    if isinstance(error, UnicodeError):
        return "it is not UTF-8, or holds half a surrogate pair"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name[:80]!r} comes twice in an object")
        found[name] = value
    return found


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _check_text(value: Any) -> None:
    """Refuse half surrogate pairs, which JSON can spell and UTF-8 can't."""
    json.dumps(value, ensure_ascii=False).encode()
