"""What the OpenAPI document says beyond what the routes themselves do: bodies, answers, headers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rolehost.frontend.json_submission import submission_schema
from rolehost.frontend.kinds import FILE, form_schema, media_types
from rolehost.frontend.openapi_schemas import COUNT, SCHEMAS, TEXT, Schema, ref
from rolehost.frontend.problems import PROBLEM
from rolehost.jobs.kinds import offered_kinds
from rolehost.jobs.submission import LONGEST_KEY

if TYPE_CHECKING:
    from fastapi import FastAPI

    from rolehost.frontend.settings import FrontendSettings

_SAID = {
    400: "The form or the Idempotency-Key is malformed.",
    403: "The page of another site sent the request.",
    404: "Nothing has this id.",
    408: "The body did not come in time.",
    409: "Not in the job's present state.",
    413: "The request is larger than is accepted; it was not read to its end.",
    415: "The file is not of a type that the kind accepts, or the body is neither a form nor JSON.",
    416: "The range lies beyond the result's end.",
    422: "A field is missing, unknown or wrong; `errors` names it.",
    500: "Something went wrong in the service.",
    503: "The store does not answer now.",
    507: "There is no space left.",
}
_ALWAYS = (500, 503)


def _header(description: str, schema: Schema | None = None) -> Schema:
    return {"description": description, "schema": schema or TEXT}


_LATER = {"Retry-After": _header("Seconds to wait.", COUNT)}


def _operation(
    *problems: int, body: Schema | None = None, key: bool = False, always: tuple[int, ...] = _ALWAYS, **answers: Schema
) -> dict[str, Any]:
    """What FastAPI's route decorators are told."""
    told: dict[int | str, Schema] = {int(code.removeprefix("_")): answer for code, answer in answers.items()}
    for status in (*problems, *always):
        told[status] = {"description": _SAID[status], "content": {PROBLEM: {"schema": ref("Problem")}}}
        if status == 503 or (status == 409 and key):  # noqa: PLR2004 - these two pass by themselves
            told[status]["headers"] = _LATER
    extra: Schema = {"requestBody": body} if body else {}
    if key:
        extra["parameters"] = [_KEY]
    return {"responses": told, "openapi_extra": extra, "response_model": None}


_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A request that is repeated with the same key and body within 24 hours makes no second job.",
    "schema": {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "pattern": "^[ -~]+$"},
}
_ACCEPTED = {
    "description": "The job is accepted.",
    "content": {"application/json": {"schema": ref("Job")}},
    "headers": {"Location": _header("The job's address.")} | _LATER,
}
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_DOWNLOAD = {
    "description": "The result's bytes.",
    "content": {"*/*": _BYTES},
    "headers": {
        "ETag": _header("The result's SHA-256."),
        "Content-Disposition": _header("The result's name."),
        "Accept-Ranges": _header("`bytes`."),
    },
}
_PART = _DOWNLOAD | {
    "description": "The range of bytes that was asked for.",
    "headers": {"Content-Range": _header("Which bytes of how many.")},
}


def _json(description: str, name: str) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": ref(name)}}}


_BODY: Schema = {"required": True, "content": {}}  # what it is depends on the service: see _request_body
# For the routes that are described in a file of their own.
operation, answer_of = _operation, _json
SUBMIT = _operation(
    *(400, 403, 408, 409, 413, 415, 422, 507),
    body=_BODY,
    key=True,
    _202=_ACCEPTED,
)
LIST = _operation(422, _200=_json("A page of jobs.", "Jobs"))
JOB = _operation(404, _200=_json("The job.", "Job"))
RESULT = _operation(404, 409, 416, _200=_DOWNLOAD, _206=_PART, _304={"description": "As you have it."})
KINDS = _operation(always=(), _200=_json("The kinds that the service has workers for.", "Kinds"))
LOG = _operation(404, _200={"description": "The log.", "content": {"text/plain; charset=utf-8": {"schema": TEXT}}})
SCALE = _operation(_200=_json("The backlog now.", "Backlog"))
INSTANCES = _operation(_200=_json("The instances that the stores know.", "Instances"))
REPLAY = _operation(403, 404, 409, 422, 507, _202=_ACCEPTED)
PROVENANCE = _operation(404, _200=_json("Origins, the nearest first, and replays.", "Provenance"))
WEBHOOK = _operation(404, _200=_json("The deliveries so far.", "Webhook"))
POISON_LIST = _operation(422, _200=_json("A page of the desk.", "Desk"))
POISON = _operation(404, 409, _200=_json("The entry.", "EntryInFull"))
POISON_INPUT = _operation(
    *(404, 409),
    _200={"description": "The bytes.", "content": {"application/octet-stream": _BYTES}},
)
POISON_REPLAY = _operation(403, 422, 507, _200=_json("What was done, or would be.", "Steps"))
POISON_PURGE = _operation(403, 422, _200=_json("What was done, or would be.", "Steps"))
POISON_PURGE_ONE = _operation(403, 404, 409, _200=_json("What is gone.", "Purged"))
CANCEL = _operation(403, 404, 409, _200=_json("The cancelled job.", "Job"))


_BEARER: Schema = {"type": "http", "scheme": "bearer", "description": "An API key, or a token (JWT) of the issuer."}


def complete(app: FastAPI, settings: FrontendSettings) -> None:
    """Add the schemas, and what depends on settings, to the document that the app serves."""
    made = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            told = made()
            made_too = told.setdefault("components", {}).setdefault("schemas", {})
            for unused in ("HTTPValidationError", "ValidationError"):
                made_too.pop(unused, None)
            made_too.update(SCHEMAS)
            for path in told["paths"].values():
                for operation in path.values():
                    _only_what_happens(operation["responses"])
            form = told["paths"]["/api/v1/jobs"]["post"]
            form["requestBody"] = _request_body(made_too)
            form["description"] += f"\n\nA request may have {settings.upload_cap} bytes."
            if getattr(app.state, "guard", None) is not None:
                told["components"]["securitySchemes"] = {"bearer": _BEARER}
                told["security"] = [{"bearer": []}]
            app.openapi_schema = told
        return app.openapi_schema or {}

    app.openapi = document  # type: ignore[method-assign] # FastAPI's own way to extend the document


def _request_body(schemas: dict[str, Schema]) -> Schema:
    """The form, one schema for each kind; which of them holds is decided by `kind`."""
    kinds = tuple(offered_kinds())
    forms = {f"Submit_{kind.name.replace('-', '_')}": form_schema(kind) for kind in kinds}
    if len(forms) == 1:
        (schema,) = forms.values()
    else:
        schemas.update(forms)
        schema = {"oneOf": [ref(name) for name in forms]} if forms else {"type": "object"}
    encoding = {FILE: {"contentType": ", ".join(media_types(kinds))}} if kinds else {}
    elsewhere: Schema = {"oneOf": [submission_schema(kind) for kind in kinds]}
    return _BODY | {
        "content": {
            "multipart/form-data": {"schema": schema, "encoding": encoding},
            "application/json": {"schema": elsewhere},
        }
    }


def _only_what_happens(responses: dict[str, Schema]) -> None:
    """The framework's own 422 goes where ids are just unknown; what any address may answer is told once."""
    for response in responses.values():  # the framework says JSON of everything
        content = response.get("content", {})
        if len(content) > 1 and content.get("application/json") == {"schema": {}}:
            del content["application/json"]
    if PROBLEM not in responses.get("422", {}).get("content", {PROBLEM: {}}):
        del responses["422"]
    told = (
        "A request that does not say who it is from, or is wrong about it (401, 429), that asks for more than its role "
        "may do (403), or that breaks a limit: its host, its method, its head, its body's size, time or coding."
    )
    responses["default"] = {"description": told, "content": {PROBLEM: {"schema": ref("Problem")}}}
