"""The key by which a client may send a request again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rolehost.errors import InvalidParameterError
from rolehost.frontend.problems import refusal
from rolehost.jobs.submission import check_key

if TYPE_CHECKING:
    from starlette.requests import Request

KEY = "Idempotency-Key"


def key_of(request: Request) -> str | None:
    """The idempotency key of a request, checked before its body is read.

    Raises:
        HTTPException: 400, it is none.
    """
    key = request.headers.get(KEY)
    if key is not None:
        try:
            check_key(key)
        except InvalidParameterError as error:
            raise refusal(400, "bad-idempotency-key", str(error), wrong=KEY) from error
    return key
