"""A job submitted as JSON: its source is a URL that a worker fetches, or a blob that is in the store already."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from rolehost.errors import InvalidParameterError, UrlNotAllowedError
from rolehost.frontend.common_fields import COMMON, common_values
from rolehost.frontend.hosts import name_of
from rolehost.frontend.json_body import parsed, read_body
from rolehost.frontend.kinds import FIELD, chosen_kind, parameter_schemas, required, takes_any, usual_kind
from rolehost.frontend.problems import refusal
from rolehost.jobs.parameters import text_of
from rolehost.jobs.resources import FIELD as RESOURCES
from rolehost.jobs.resources import SCHEMA, read_resources
from rolehost.jobs.sources import URL_FIELD
from rolehost.jobs.submission import Submission

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from starlette.requests import Request

    from rolehost.frontend.services import Services
    from rolehost.jobs.job import Job, Resource
    from rolehost.jobs.kinds import JobKind

MOST_BYTES = 256 * 1024
PARAMETERS = "parameters"
SOURCE = "source"
_SOURCES = ("url", "blob")
_NAME = "name"
_OWN = frozenset({FIELD, PARAMETERS, SOURCE, RESOURCES})
_LONGEST = 2048

Schema = dict[str, Any]
Found = TypeVar("Found")


async def submit_json(request: Request, services: Services, key: str | None) -> Job:
    """Accept the job that a request's body asks for.

    Raises:
        HTTPException: as `read_json`.
        SubmissionError: as `Submitter.submit`; fields are named by JSON Pointers.
    """
    asked = await read_json(request, services, key)
    return await found_at(services.submitter.submit(asked), f"/{SOURCE}/blob")


async def found_at(work: Awaitable[Found], place: str) -> Found:
    """What comes of a submission whose blob was named at a place of some JSON: it is wrong there, if it can't be had.

    Raises:
        SubmissionError: as `Submitter.submit`.
    """
    try:
        return await work
    except InvalidParameterError as error:
        if error.field != "blob":
            raise
        raise InvalidParameterError(str(error), place) from error


async def read_json(request: Request, services: Services, key: str | None) -> Submission:
    """The job that a request's body asks for.

    Args:
        request: its body has not been touched.
        services: say what is allowed here.
        key: the idempotency key that came with it.

    Raises:
        HTTPException: the body is no JSON, or not as the document of the API says; fields are named by JSON Pointers.
        InvalidParameterError: a value can't be used.
    """
    value = parsed(await read_body(request, MOST_BYTES))
    told = _object(value, "", {*_OWN, *(each.name for each in COMMON)})
    kind = chosen_kind(_text(told, "", FIELD) if FIELD in told else "")
    given = texts(_object(told.get(PARAMETERS, {}), f"/{PARAMETERS}"), f"/{PARAMETERS}")
    source = _object(told.get(SOURCE), f"/{SOURCE}", {*_SOURCES, _NAME})
    common = texts({name: value for name, value in told.items() if name not in _OWN}, "")
    return Submission(
        name=_text(source, f"/{SOURCE}", _NAME) if _NAME in source else "",
        kind=kind.name,
        given=checked(kind, given),
        key=key,
        resources=resources_of(request, services, told.get(RESOURCES, [])),
        **_chosen(request, services, source),
        **common_values(services, common),
    )


def checked(kind: JobKind, given: Mapping[str, str]) -> Mapping[str, str]:
    """The parameters, as far as they can be judged before the source is there.

    Raises:
        InvalidParameterError: one is wrong; the pointer to it is its field.
    """
    try:
        kind.parse(given, "")
    except InvalidParameterError as error:
        raise InvalidParameterError(str(error), f"/{PARAMETERS}/{_escaped(error.field)}") from error
    return given


def source_url(request: Request, services: Services, url: str, field: str = URL_FIELD) -> str:
    """A URL that may be a job's source; it does not lead back to where the request was sent.

    Raises:
        UrlNotAllowedError: it may not, or it does.
    """
    sources = services.settings.sources
    sources.check_url(url, field)
    host = url.partition("://")[2].partition("/")[0].partition("?")[0].partition("#")[0]
    own = name_of(request.headers.get("host", ""))
    if own and name_of(host) == own and own not in sources.hosts:
        raise UrlNotAllowedError("this URL can't be a source: it is this service's own", field)
    return url


def resources_of(request: Request, services: Services, value: object) -> tuple[Resource, ...]:
    """The resource files that some JSON names.

    Raises:
        InvalidParameterError: one of them may not be had.
    """
    check_blob = services.settings.sources.check_blob
    return read_resources(value, check_url=partial(source_url, request, services), check_blob=check_blob)


def texts(values: Mapping[str, Any], place: str) -> dict[str, str]:
    """Scalars as the texts that a form would have sent.

    Raises:
        HTTPException: 422, a value is none.
    """
    return {name: as_text(value, f"{place}/{_escaped(name)}") for name, value in values.items()}


def as_text(value: object, pointer: str) -> str:
    """A scalar as text.

    Raises:
        HTTPException: 422, it is an object, a list, null, or no finite number.
    """
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return text_of(value)
    raise _wrong(pointer, f"{pointer} must be a text, a number, true or false.")


def submission_schema(kind: JobKind) -> Schema:
    """The JSON schema of a body that submits a job of this kind."""
    text: Schema = {"type": "string", "maxLength": _LONGEST}
    source = [
        {
            "type": "object",
            "properties": {each: text | {"description": told}, _NAME: text | {"description": "Shown in its place."}},
            "required": [each],
            "additionalProperties": False,
        }
        for each, told in (
            ("url", "Fetched by the worker, where the service's settings allow it."),
            ("blob", "The name of a blob in a folder that the service's settings name."),
        )
    ]
    parameters = {
        "type": "object",
        "properties": parameter_schemas(kind),
        "required": required(kind),
        "additionalProperties": {"type": ["string", "number", "boolean"]} if takes_any(kind) else False,
    }
    named = {"type": "string", "const": kind.name}
    return {
        "type": "object",
        "title": f"{kind.title or kind.name}, from elsewhere",
        "properties": {FIELD: named, PARAMETERS: parameters, SOURCE: {"oneOf": source}, RESOURCES: dict(SCHEMA)}
        | {each.name: dict(each.schema) for each in COMMON},
        "required": [SOURCE, *([] if kind == usual_kind() else [FIELD]), *([PARAMETERS] if required(kind) else [])],
        "additionalProperties": False,
    }


def _chosen(request: Request, services: Services, source: Mapping[str, Any]) -> dict[str, Any]:
    """The one source that is named, checked."""
    named = [each for each in _SOURCES if each in source]
    if len(named) != 1:
        raise _wrong(f"/{SOURCE}", "The source is a url or a blob: name one of them, or upload a file as a form.")
    text, pointer = _text(source, f"/{SOURCE}", named[0]), f"/{SOURCE}/{named[0]}"
    if named[0] == "url":
        return {"url": source_url(request, services, text, pointer)}
    return {"blob": services.settings.sources.check_blob(text, pointer)}


def _object(value: object, place: str, known: set[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(place or "/", f"{place or 'The body'} must be an object.")
    for name in value:
        if known is not None and name not in known:
            pointer = f"{place}/{_escaped(name[:80])}"
            raise refusal(422, "unknown-field", f"There is no field {pointer!r} here.", wrong=pointer)
    return value


def _text(told: Mapping[str, Any], place: str, name: str) -> str:
    value, pointer = told[name], f"{place}/{name}"
    if not isinstance(value, str) or not value or len(value) > _LONGEST:
        raise _wrong(pointer, f"{pointer} must be a text of 1 to {_LONGEST} characters.")
    return value


def _wrong(pointer: str, told: str) -> Exception:
    return refusal(422, "invalid-parameter", told, wrong=pointer)


def _escaped(name: str) -> str:
    """A name as a reference token of a JSON Pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")
