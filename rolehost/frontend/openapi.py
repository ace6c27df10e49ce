"""What the OpenAPI document says beyond what the routes themselves do: bodies, answers, headers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rolehost.frontend.instances import STATES
from rolehost.frontend.problems import PROBLEM, URN
from rolehost.host.instance.status import PlatformStatus, Stage
from rolehost.jobs.job import CAPS, End, JobState
from rolehost.jobs.kinds import CUSTOM, DEFAULT_SIZE, FORMATS, LARGEST_SIDE, SIZES
from rolehost.jobs.poison.entries import Sort
from rolehost.jobs.sniffing import EXTENSIONS
from rolehost.jobs.submission import LONGEST_KEY
from rolehost.jobs.webhook_deliveries import DeliveryState
from rolehost.jobs.webhook_settings import FIELD

if TYPE_CHECKING:
    from fastapi import FastAPI

    from rolehost.frontend.settings import FrontendSettings

Schema = dict[str, Any]

_TIME: Schema = {"type": "string", "format": "date-time"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_TEXT: Schema = {"type": "string"}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_ATTEMPT = _object(
    number={"type": "integer", "minimum": 1},
    started_at=_TIME,
    ended_at=_or_null(_TIME),
    end=_or_null({"type": "string", "enum": [*End]}),
    exit_code=_or_null({"type": "integer"}),
    charged=_or_null({"type": "string", "enum": [*CAPS]}),
    instance=_TEXT,
)
_SHA256: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_JOB = _object(
    id={"type": "string", "format": "uuid"},
    kind=_TEXT,
    state={"type": "string", "enum": [*JobState]},
    reason=_or_null(_TEXT),
    submitted_at=_TIME,
    started_at=_or_null(_TIME),
    finished_at=_or_null(_TIME),
    retries_at=_or_null(_TIME),
    parameters={"type": "object"},
    source=_object(name=_TEXT, size=_COUNT, type=_TEXT),
    result=_or_null(_object(name=_TEXT, size=_COUNT, sha256=_SHA256, type=_TEXT)),
    progress=_or_null({"type": "object"}),
    charges=_object(**dict.fromkeys(CAPS, _COUNT)),
    attempts={"type": "array", "items": _ref("Attempt")},
    origin=_or_null(_TEXT),
    batch=_or_null(_TEXT),
    webhook=_or_null(_TEXT | {"description": "Who is told of the job's end: scheme, host and port of the URL."}),
)
_SECONDS: Schema = {"type": "number", "minimum": 0}
_INTEGER: Schema = {"type": "integer"}
_INSTANCE = _object(
    instance=_TEXT,
    role=_TEXT,
    state={"type": "string", "enum": [*STATES]},
    status={"type": "string", "enum": [*PlatformStatus], "description": "The state in the platform's words."},
    detail=_TEXT,
    generation=_COUNT | {"description": "The newest change of the deployment that the instance has taken."},
    recycles=_COUNT,
    fault_domain=_COUNT,
    update_domain=_COUNT,
    pid=_or_null(_INTEGER),
    started_at=_or_null(_TIME),
    ready_at=_or_null(_TIME),
    heartbeat_at=_or_null(_TIME),
    endpoints={
        "type": "object",
        "additionalProperties": _object(protocol=_TEXT, address=_TEXT, port={**_COUNT, "maximum": 65535}),
    },
    last_crash=_or_null(_ref("Crash")),
    metadata=_or_null(_ref("Machine")),
    heartbeat_seconds=_or_null(_SECONDS | {"description": "Since the last heartbeat."}),
    up_seconds=_or_null(_SECONDS | {"description": "Since it was ready, else since it was started."}),
)
_CRASH = _object(
    at=_TIME,
    reason=_TEXT,
    stage=_or_null({"type": "string", "enum": [*Stage]}),
    exit_code=_or_null(_INTEGER),
    signal=_or_null(_INTEGER),
    stderr=_TEXT | {"description": "The last of it."},
)
_MACHINE = _object(
    **dict.fromkeys(("vm_id", "name", "location", "size", "zone"), _TEXT),
    fault_domain=_or_null(_COUNT),
    update_domain=_or_null(_COUNT),
    **dict.fromkeys(("scale_set", "address"), _TEXT),
)
_PROBLEM: Schema = {
    "type": "object",
    "description": "RFC 9457. `type` is stable; `detail` is for a person.",
    "properties": {
        "type": {"type": "string", "format": "uri", "pattern": f"^{URN}[a-z-]+$"},
        "title": _TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": _TEXT,
        "instance": {"type": "string", "format": "uri-reference"},
        "errors": {"type": "array", "items": _object(field=_TEXT, detail=_TEXT)},
    },
    "required": ["type", "title", "status", "detail", "instance"],
    "additionalProperties": False,
}
_ENTRY: dict[str, Schema] = {
    "id": _TEXT | {"description": "The job's id; or `m-...`, which stands for a message."},
    "sort": {"type": "string", "enum": [*Sort]},
    "kind": _TEXT,
    "cause": _TEXT,
    "reason": _or_null(_TEXT),
    "since": _or_null(_TIME),
    "why_not_replayable": _or_null(_TEXT),
    "replays": {"type": "array", "items": _object(job=_TEXT, at=_TIME)},
    "job": _or_null(_ref("Job")),
    "message": _or_null(
        _object(
            queue=_TEXT,
            id=_TEXT,
            reason=_TEXT,
            description=_TEXT,
            bytes=_COUNT,
            job=_or_null(_TEXT),
            job_state=_or_null({"type": "string", "enum": [*JobState]}),
        )
    ),
}
_OUTPUT = _object(number={"type": "integer", "minimum": 1}, detail=_TEXT, stdout=_TEXT, stderr=_TEXT)
_KIN: Schema = {
    "type": "array",
    "items": _object(id=_TEXT, state=_or_null({"type": "string", "enum": [*JobState]})),
    "description": "`state` is null where the job was removed.",
}
_PROGRESS: dict[str, Schema] = {"cursor": _or_null(_TEXT), "looked_at": _COUNT, "total": _or_null(_COUNT)}
_BACKLOG = _object(
    runnable=_COUNT | {"description": "Jobs that could be claimed now."},
    in_flight=_COUNT | {"description": "Jobs that run."},
    oldest_seconds=_SECONDS | {"description": "How long the oldest runnable job has waited; 0 where there is none."},
    at=_TIME,
)
SCHEMAS = {
    "Backlog": _BACKLOG,
    "Attempt": _ATTEMPT,
    "Crash": _CRASH,
    "Desk": _object(
        entries={"type": "array", "items": _ref("Entry")},
        cut={"type": "boolean", "description": "The queue shows no more messages until some of these are purged."},
        **_PROGRESS,
    ),
    "Entry": _object(**_ENTRY),
    "EntryInFull": _object(
        **_ENTRY,
        outputs={"type": "array", "items": _OUTPUT},
        body=_or_null(_TEXT | {"description": "Of a message."}),
        provenance=_ref("Provenance"),
    ),
    "Instance": _INSTANCE,
    "Instances": _object(at=_TIME, instances={"type": "array", "items": _ref("Instance")}),
    "Job": _JOB,
    "Jobs": _object(jobs={"type": "array", "items": _ref("Job")}, cursor=_or_null(_TEXT)),
    "Machine": _MACHINE,
    "Problem": _PROBLEM,
    "Provenance": _object(origins=_KIN, replays=_KIN),
    "Purged": _object(purged=_TEXT),
    "Webhook": _object(
        to=_TEXT,
        state={"type": "string", "enum": [*DeliveryState]},
        tries=_COUNT,
        why=_or_null(_TEXT | {"description": "What came of the last try."}),
        tried_at=_or_null(_TIME),
        next_at=_or_null(_TIME),
    ),
    "Steps": _object(
        dry_run={"type": "boolean"},
        done={"type": "array", "items": _object(id=_TEXT, job=_or_null(_ref("Job")))},
        refused={"type": "array", "items": _object(id=_TEXT, why=_TEXT)},
        **_PROGRESS,
    ),
}
_SIDE: Schema = {
    "type": "integer",
    "minimum": 1,
    "maximum": LARGEST_SIDE,
    "description": f"Pixels; required with size {CUSTOM}, and refused with any other.",
}
_FORM: Schema = {
    "type": "object",
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "A JPEG, PNG, GIF, WebP, TIFF or BMP file."},
        "size": {
            "type": "string",
            "enum": [*SIZES, CUSTOM],
            "default": DEFAULT_SIZE,
            "description": "The box that the picture is to fit in: "
            + ", ".join(f"{name} is {side} by {side}" for name, side in SIZES.items())
            + f", {CUSTOM} is width by height. A picture is never enlarged.",
        },
        "width": _SIDE,
        "height": _SIDE,
        "format": {
            "type": "string",
            "enum": [*FORMATS],
            "description": "The source's own by default, or png where a thumbnail can't be of that format.",
        },
        FIELD: {
            "type": "string",
            "format": "uri",
            "maxLength": 2048,
            "description": "A URL that is told of the job's end, where the service is set up for that.",
        },
    },
    "required": ["file"],
    "additionalProperties": False,
}
_BODY: Schema = {
    "required": True,
    "content": {"multipart/form-data": {"schema": _FORM, "encoding": {"file": {"contentType": ", ".join(EXTENSIONS)}}}},
}
_SAID = {
    400: "The form or the Idempotency-Key is malformed.",
    403: "The page of another site sent the request.",
    404: "No job has this id.",
    408: "The body did not come in time.",
    409: "Not in the job's present state.",
    413: "The request is larger than is accepted; it was not read to its end.",
    415: "The file is no picture of a known type, or the body is of another type than multipart/form-data.",
    422: "A parameter is missing, unknown or wrong; `errors` names it.",
    500: "Something went wrong in the service.",
    503: "The store does not answer now.",
    507: "There is no space left.",
}
_ALWAYS = (500, 503)


def _header(description: str, schema: Schema | None = None) -> Schema:
    return {"description": description, "schema": schema or _TEXT}


_LATER = {"Retry-After": _header("Seconds to wait.", _COUNT)}


def _operation(*problems: int, body: Schema | None = None, key: bool = False, **answers: Schema) -> dict[str, Any]:
    """What FastAPI's route decorators are told."""
    told: dict[int | str, Schema] = {int(code.removeprefix("_")): answer for code, answer in answers.items()}
    for status in (*problems, *_ALWAYS):
        told[status] = {"description": _SAID[status], "content": {PROBLEM: {"schema": _ref("Problem")}}}
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
    "content": {"application/json": {"schema": _ref("Job")}},
    "headers": {"Location": _header("The job's address.")} | _LATER,
}
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_DOWNLOAD = {
    "description": "The result's bytes.",
    "content": {"image/jpeg": _BYTES, "image/png": _BYTES, "image/webp": _BYTES, "application/octet-stream": _BYTES},
    "headers": {"ETag": _header("The result's SHA-256."), "Content-Disposition": _header("The result's name.")},
}


def _json(description: str, name: str) -> Schema:
    return {"description": description, "content": {"application/json": {"schema": _ref(name)}}}


SUBMIT = _operation(
    *(400, 403, 408, 409, 413, 415, 422, 507),
    body=_BODY,
    key=True,
    _202=_ACCEPTED,
)
LIST = _operation(422, _200=_json("A page of jobs.", "Jobs"))
JOB = _operation(404, _200=_json("The job.", "Job"))
RESULT = _operation(404, 409, _200=_DOWNLOAD, _304={"description": "As you have it."})
LOG = _operation(404, _200={"description": "The log.", "content": {"text/plain; charset=utf-8": {"schema": _TEXT}}})
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
            form["description"] += f"\n\nA request may have {settings.upload_cap} bytes."
            if getattr(app.state, "guard", None) is not None:
                told["components"]["securitySchemes"] = {"bearer": _BEARER}
                told["security"] = [{"bearer": []}]
            app.openapi_schema = told
        return app.openapi_schema or {}

    app.openapi = document  # type: ignore[method-assign] # FastAPI's own way to extend the document


def _only_what_happens(responses: dict[str, Schema]) -> None:
    """The framework's own 422 goes where ids are just unknown; what any address may answer is told once."""
    if PROBLEM not in responses.get("422", {}).get("content", {PROBLEM: {}}):
        del responses["422"]
    told = (
        "A request that does not say who it is from, or is wrong about it (401, 429), that asks for more than its role "
        "may do (403), or that breaks a limit: its host, its method, its head, its body's size, time or coding."
    )
    responses["default"] = {"description": told, "content": {PROBLEM: {"schema": _ref("Problem")}}}
