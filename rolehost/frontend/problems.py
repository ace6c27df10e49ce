"""Errors as answers: one table from exceptions to problems (RFC 9457), JSON for programs and a page for people."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fastapi.exceptions import HTTPException as DetailedHTTPException
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from rolehost import errors
from rolehost.frontend.views import page

if TYPE_CHECKING:
    from collections.abc import Mapping

PROBLEM = "application/problem+json"
URN = "urn:rolehost:problem:"
API = "/api/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Why a request got no other answer.

    Args:
        status: the HTTP status.
        kind: what follows `urn:rolehost:problem:` in the stable `type`.
        detail: one sentence for a person.
        errors: what is wrong with which field.
        headers: what the answer's head needs.
    """

    status: int
    kind: str
    detail: str
    errors: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The status in words."""
        return HTTPStatus(self.status).phrase

    def to_json(self, instance: str) -> dict[str, Any]:
        """The problem as RFC 9457 has it."""
        told = {"type": URN + self.kind, "title": self.title, "status": self.status, "detail": self.detail}
        if self.errors:
            told["errors"] = [{"field": name, "detail": detail} for name, detail in self.errors]
        return told | {"instance": instance}


def refusal(status: int, kind: str, detail: str, *, wrong: str = "") -> HTTPException:
    """An exception that becomes a problem; `wrong` names the field that is."""
    fields = ((wrong, detail),) if wrong else ()
    return DetailedHTTPException(status, Problem(status=status, kind=kind, detail=detail, errors=fields))


# The first class that fits decides, so the special ones come first.
_TABLE: tuple[tuple[type[Exception], int, str, Mapping[str, str]], ...] = (
    (errors.TooLargeError, 413, "too-large", {}),
    (errors.NotAPictureError, 415, "not-a-picture", {}),
    (errors.UnsupportedTypeError, 415, "unsupported-type", {}),
    (errors.KeyReusedError, 422, "idempotency-key-reused", {}),
    (errors.KeyInFlightError, 409, "idempotency-key-in-flight", {"Retry-After": "1"}),
    (errors.AlreadyReplayedError, 409, "already-replayed", {}),
    (errors.UrlNotAllowedError, 422, "url-not-allowed", {}),
    (errors.InvalidParameterError, 422, "invalid-parameter", {}),
    (errors.UnknownJobError, 404, "unknown-job", {}),
    (errors.BatchStateError, 409, "batch-state", {}),
    (errors.UnknownBatchError, 404, "unknown-batch", {}),
    (errors.StoreFullError, 507, "store-full", {}),
    (errors.StoreUnavailableError, 503, "store-unavailable", {"Retry-After": "5"}),
    (errors.LimitExceededError, 413, "over-a-limit-of-the-store", {}),
    (errors.NotFoundError, 404, "content-gone", {}),
    (errors.VersionMismatchError, 409, "job-has-changed", {}),
)
_BY_STATUS = {404: "not-found", 405: "method-not-allowed", 400: "bad-request"}
_SENTENCES = {
    "store-full": "There is no space left to store this; nothing was kept of it.",
    "store-unavailable": "The store does not answer now; try again in a few seconds.",
    "content-gone": "The content of this job is no longer kept.",
    "job-has-changed": "The job has changed meanwhile; look at it again.",
    "not-found": "There is nothing at this address.",
    "method-not-allowed": "This address does not answer to this method.",
}


def problem_of(error: Exception) -> Problem:
    """The problem that an exception is to a client; what is no business of its becomes a bare 500."""
    if isinstance(error, HTTPException):
        given: Any = error.detail
        if isinstance(given, Problem):
            return given
        kind = _BY_STATUS.get(error.status_code, "refused")
        detail = _SENTENCES.get(kind, error.detail)
        return Problem(status=error.status_code, kind=kind, detail=detail, headers=error.headers or {})
    if isinstance(error, RequestValidationError):
        return _validation(error)
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Problem(status=507, kind="store-full", detail=_SENTENCES["store-full"])
    for class_, status, kind, headers in _TABLE:
        if isinstance(error, class_):
            name = getattr(error, "field", "")
            wrong = ((name, str(error)),) if name else ()
            detail = _SENTENCES.get(kind) or str(error)
            return Problem(status=status, kind=kind, detail=detail, errors=wrong, headers=headers)
    return Problem(status=500, kind="internal", detail="Something went wrong here; it was noted.")


# What each fault of a query parameter asks for instead, by pydantic's name of it; what is left out is just not valid.
_ASKED = {
    "enum": "must be {expected}",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "bool_parsing": "must be true or false",
    "string_too_long": "must have at most {max_length} characters",
}
LONGEST_SHOWN = 40


def _validation(error: RequestValidationError) -> Problem:
    wrong = tuple((str(fault["loc"][-1]), _sentence(fault)) for fault in error.errors())
    detail = "; ".join(sentence for _, sentence in wrong)
    return Problem(status=422, kind="invalid-parameter", detail=detail, errors=wrong)


def _sentence(fault: Mapping[str, Any]) -> str:
    """`limit must be at most 200, not '300'`."""
    name, asked = fault["loc"][-1], _ASKED.get(fault["type"])
    if asked is None:
        return f"{name} is not valid"
    facts = {key: str(value).replace("'", "") for key, value in fault.get("ctx", {}).items()}
    given = str(fault["input"])
    told = "" if len(given) > LONGEST_SHOWN else f", not {given!r}"
    return f"{name} {asked.format_map(facts)}{told}"


def answer(problem: Problem, path: str) -> Response:
    """A problem as the answer to a request for this path: JSON below `/api/`, else a page."""
    if path.startswith(API):
        told = problem.to_json(quote(path))
        return JSONResponse(told, problem.status, headers=dict(problem.headers), media_type=PROBLEM)
    return page("problem.html", problem.status, headers=problem.headers, problem=problem)
