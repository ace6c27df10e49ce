"""The schemas of the OpenAPI document: what the answers' bodies look like."""

from __future__ import annotations

from typing import Any

from rolehost.frontend.instances import STATES
from rolehost.frontend.problems import URN
from rolehost.host.instance.status import PlatformStatus, Stage
from rolehost.jobs.job import CAPS, End, JobState, Priority
from rolehost.jobs.poison.entries import Sort
from rolehost.jobs.webhook_deliveries import DeliveryState

Schema = dict[str, Any]

_TIME: Schema = {"type": "string", "format": "date-time"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TEXT: Schema = {"type": "string"}


def or_null(schema: Schema) -> Schema:
    """What the schema says, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def an_object(**properties: Schema) -> Schema:
    """An object with these properties and no others."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _with_optional(schema: Schema, **properties: Schema) -> Schema:
    return schema | {"properties": schema["properties"] | properties}


def ref(name: str) -> Schema:
    """A reference to one of the document's schemas."""
    return {"$ref": f"#/components/schemas/{name}"}


_ATTEMPT = an_object(
    number={"type": "integer", "minimum": 1},
    started_at=_TIME,
    ended_at=or_null(_TIME),
    end=or_null({"type": "string", "enum": [*End]}),
    exit_code=or_null({"type": "integer"}),
    charged=or_null({"type": "string", "enum": [*CAPS]}),
    instance=TEXT,
)
_SHA256: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_JOB = an_object(
    id={"type": "string", "format": "uuid"},
    kind=TEXT,
    state={"type": "string", "enum": [*JobState]},
    reason=or_null(TEXT),
    submitted_at=_TIME,
    started_at=or_null(_TIME),
    finished_at=or_null(_TIME),
    retries_at=or_null(_TIME),
    parameters={"type": "object"},
    source=_with_optional(
        an_object(name=TEXT, size=or_null(COUNT), type=or_null(TEXT)),
        url=TEXT | {"description": "Of a source that is fetched: without its query."},
        blob=TEXT | {"description": "Of a source that was in the store before the job."},
    ),
    result=or_null(an_object(name=TEXT, size=COUNT, sha256=_SHA256, type=TEXT)),
    progress=or_null(ref("Progress")),
    charges=an_object(**dict.fromkeys(CAPS, COUNT)),
    attempts={"type": "array", "items": ref("Attempt")},
    origin=or_null(TEXT),
    batch=or_null(TEXT),
    webhook=or_null(TEXT | {"description": "Who is told of the job's end: scheme, host and port of the URL."}),
)
_JOB = _with_optional(
    _JOB,
    priority={"type": "string", "enum": [*Priority], "description": "Only where it is not normal."},
    group=TEXT | {"description": "Only of a job that is in an ordered group."},
    resources={
        "type": "array",
        "items": _with_optional(an_object(name=TEXT), url=TEXT, blob=TEXT),
        "description": "Only of a job that names files beside its source; URLs are without their queries.",
    },
)
_SECONDS: Schema = {"type": "number", "minimum": 0}
_RUNNING: Schema = {
    "type": "object",
    "description": "How far a running job is, where its worker can tell.",
    "properties": {
        "percent": or_null({"type": "number", "minimum": 0, "maximum": 100}),
        "eta_seconds": or_null(_SECONDS | {"description": "An estimate of the time that is left."}),
    },
}
_KIND = an_object(
    name=TEXT,
    title=TEXT,
    accepts={
        "type": "array",
        "items": TEXT,
        "description": "Media types by content, such as `image/png` and `audio/*`, and endings of names, such as "
        "`.md`; empty where any file is accepted.",
    },
    default={"type": "boolean", "description": "Whether it is the kind of a job that names none."},
    parameters={"type": "object", "description": "A JSON schema (draft 2020-12) of the parameters."},
)
_INTEGER: Schema = {"type": "integer"}
_INSTANCE = an_object(
    instance=TEXT,
    role=TEXT,
    state={"type": "string", "enum": [*STATES]},
    status={"type": "string", "enum": [*PlatformStatus], "description": "The state in the platform's words."},
    detail=TEXT,
    generation=COUNT | {"description": "The newest change of the deployment that the instance has taken."},
    recycles=COUNT,
    fault_domain=COUNT,
    update_domain=COUNT,
    pid=or_null(_INTEGER),
    started_at=or_null(_TIME),
    ready_at=or_null(_TIME),
    heartbeat_at=or_null(_TIME),
    endpoints={
        "type": "object",
        "additionalProperties": an_object(protocol=TEXT, address=TEXT, port={**COUNT, "maximum": 65535}),
    },
    last_crash=or_null(ref("Crash")),
    metadata=or_null(ref("Machine")),
    heartbeat_seconds=or_null(_SECONDS | {"description": "Since the last heartbeat."}),
    up_seconds=or_null(_SECONDS | {"description": "Since it was ready, else since it was started."}),
)
_CRASH = an_object(
    at=_TIME,
    reason=TEXT,
    stage=or_null({"type": "string", "enum": [*Stage]}),
    exit_code=or_null(_INTEGER),
    signal=or_null(_INTEGER),
    stderr=TEXT | {"description": "The last of it."},
)
_MACHINE = an_object(
    **dict.fromkeys(("vm_id", "name", "location", "size", "zone"), TEXT),
    fault_domain=or_null(COUNT),
    update_domain=or_null(COUNT),
    **dict.fromkeys(("scale_set", "address"), TEXT),
)
_PROBLEM: Schema = {
    "type": "object",
    "description": "RFC 9457. `type` is stable; `detail` is for a person.",
    "properties": {
        "type": {"type": "string", "format": "uri", "pattern": f"^{URN}[a-z-]+$"},
        "title": TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": TEXT,
        "instance": {"type": "string", "format": "uri-reference"},
        "errors": {"type": "array", "items": an_object(field=TEXT, detail=TEXT)},
    },
    "required": ["type", "title", "status", "detail", "instance"],
    "additionalProperties": False,
}
_ENTRY: dict[str, Schema] = {
    "id": TEXT | {"description": "The job's id; or `m-...`, which stands for a message."},
    "sort": {"type": "string", "enum": [*Sort]},
    "kind": TEXT,
    "cause": TEXT,
    "reason": or_null(TEXT),
    "since": or_null(_TIME),
    "why_not_replayable": or_null(TEXT),
    "replays": {"type": "array", "items": an_object(job=TEXT, at=_TIME)},
    "job": or_null(ref("Job")),
    "message": or_null(
        an_object(
            queue=TEXT,
            id=TEXT,
            reason=TEXT,
            description=TEXT,
            bytes=COUNT,
            job=or_null(TEXT),
            job_state=or_null({"type": "string", "enum": [*JobState]}),
        )
    ),
}
_OUTPUT = an_object(number={"type": "integer", "minimum": 1}, detail=TEXT, stdout=TEXT, stderr=TEXT)
_KIN: Schema = {
    "type": "array",
    "items": an_object(id=TEXT, state=or_null({"type": "string", "enum": [*JobState]})),
    "description": "`state` is null where the job was removed.",
}
_PROGRESS: dict[str, Schema] = {"cursor": or_null(TEXT), "looked_at": COUNT, "total": or_null(COUNT)}
_BACKLOG = an_object(
    runnable=COUNT | {"description": "Jobs that could be claimed now."},
    in_flight=COUNT | {"description": "Jobs that run."},
    oldest_seconds=_SECONDS | {"description": "How long the oldest runnable job has waited; 0 where there is none."},
    at=_TIME,
)
SCHEMAS = {
    "Backlog": _BACKLOG,
    "Attempt": _ATTEMPT,
    "Crash": _CRASH,
    "Desk": an_object(
        entries={"type": "array", "items": ref("Entry")},
        cut={"type": "boolean", "description": "The queue shows no more messages until some of these are purged."},
        **_PROGRESS,
    ),
    "Entry": an_object(**_ENTRY),
    "EntryInFull": an_object(
        **_ENTRY,
        outputs={"type": "array", "items": _OUTPUT},
        body=or_null(TEXT | {"description": "Of a message."}),
        provenance=ref("Provenance"),
    ),
    "Instance": _INSTANCE,
    "Instances": an_object(at=_TIME, instances={"type": "array", "items": ref("Instance")}),
    "Job": _with_optional(
        _JOB,
        priority={"type": "string", "enum": ["high", "normal", "low"], "description": "Where it is not normal."},
        group=TEXT,
    ),
    "Kind": _KIND,
    "Kinds": an_object(kinds={"type": "array", "items": ref("Kind")}),
    "Jobs": an_object(jobs={"type": "array", "items": ref("Job")}, cursor=or_null(TEXT)),
    "Machine": _MACHINE,
    "Problem": _PROBLEM,
    "Progress": _RUNNING,
    "Provenance": an_object(origins=_KIN, replays=_KIN),
    "Purged": an_object(purged=TEXT),
    "Webhook": an_object(
        to=TEXT,
        state={"type": "string", "enum": [*DeliveryState]},
        tries=COUNT,
        why=or_null(TEXT | {"description": "What came of the last try."}),
        tried_at=or_null(_TIME),
        next_at=or_null(_TIME),
    ),
    "Steps": an_object(
        dry_run={"type": "boolean"},
        done={"type": "array", "items": an_object(id=TEXT, job=or_null(ref("Job")))},
        refused={"type": "array", "items": an_object(id=TEXT, why=TEXT)},
        **_PROGRESS,
    ),
}
