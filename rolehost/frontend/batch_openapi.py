"""What the OpenAPI document says of batches."""

from __future__ import annotations

from typing import Any

from rolehost.frontend.openapi import answer_of, operation
from rolehost.frontend.openapi_schemas import SCHEMAS, ref
from rolehost.jobs.batches.adding import LARGEST_SLICE
from rolehost.jobs.batches.model import COUNTED, LONGEST_NAME, BatchState
from rolehost.jobs.job import Priority

Schema = dict[str, Any]


def or_null(schema: Schema) -> Schema:
    """The schema, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def an_object(**properties: Schema) -> Schema:
    """An object that has all of these, and nothing else."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


_TEXT: Schema = {"type": "string"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_ID: Schema = {"type": "string", "format": "uuid"}
_STATE: Schema = {"type": "string", "enum": [*COUNTED]}
_PRIORITY: Schema = {"type": "string", "enum": [*Priority]}
_VALUES: Schema = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
_THEN: Schema = {
    "type": "object",
    "description": "The job that starts when all others have ended, on the ZIP of their results.",
    "properties": {"kind": _TEXT, "parameters": _VALUES},
    "required": ["kind"],
    "additionalProperties": False,
}
_ASKED: Schema = {
    "type": "object",
    "properties": {
        "name": {**_TEXT, "minLength": 1, "maxLength": LONGEST_NAME, "description": "One batch at a time has it."},
        "kind": {**_TEXT, "description": "The kind of all its jobs."},
        "parameters": _VALUES,
        "then": _THEN,
        "webhook": {**_TEXT, "format": "uri", "description": "A URL that is told of each job's end."},
        "priority": {**_PRIORITY, "default": Priority.NORMAL},
    },
    "additionalProperties": False,
}
_FILES: Schema = {
    "type": "object",
    "properties": {
        "file": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "minItems": 1,
            "maxItems": LARGEST_SLICE,
            "description": "Each becomes a job. The same file, by name and content, is one job however often it comes.",
        }
    },
    "required": ["file"],
    "additionalProperties": False,
}
SCHEMAS |= {
    "Batch": an_object(
        id=_ID,
        name=or_null(_TEXT),
        kind=_TEXT,
        state={"type": "string", "enum": [*BatchState]},
        parameters={"type": "object"},
        priority=_PRIORITY,
        submitter=or_null(_TEXT),
        made_at=_TIME,
        sealed_at=or_null(_TIME),
        ended_at=or_null(_TIME),
        items=or_null(_COUNT | {"description": "Known once the batch is sealed and its list is made."}),
        added=_COUNT | {"description": "Files so far; until the batch is sealed one that came twice counts twice."},
        counts=an_object(**dict.fromkeys(COUNTED, _COUNT)),
        as_of=_TIME | {"description": "When the counts were so."},
        troubles={"type": "array", "items": ref("Trouble"), "description": "Some that did not complete."},
        then=or_null(an_object(kind=_TEXT, parameters={"type": "object"}, job=_ID)),
        webhook=or_null(_TEXT | {"description": "Scheme, host and port of the URL."}),
    ),
    "Batches": an_object(batches={"type": "array", "items": ref("Batch")}, cursor=or_null(_TEXT)),
    "Trouble": an_object(id=_ID, name=_TEXT, state=_STATE, reason=_TEXT),
    "BatchItem": an_object(position=_COUNT, id=_ID, name=_TEXT, folder=_TEXT, state=_STATE, job=or_null(ref("Job"))),
    "BatchItems": an_object(items={"type": "array", "items": ref("BatchItem")}, cursor=or_null(_TEXT)),
    "Added": an_object(
        batch=_ID,
        added={"type": "array", "items": an_object(id=_ID, name=_TEXT)},
        refused={"type": "array", "items": an_object(name=_TEXT, reason=_TEXT)},
    ),
}
_JSON: Schema = {"required": True, "content": {"application/json": {"schema": _ASKED}}}
_FORM: Schema = {"required": True, "content": {"multipart/form-data": {"schema": _FILES}}}
_ZIP = {
    "description": "The results so far, each under a name of its own; `errors.txt` names the other items.",
    "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
}

CREATE = operation(
    *(400, 403, 409, 413, 415, 422),
    body=_JSON,
    _201=answer_of("The new batch.", "Batch"),
    _200=answer_of("The batch of this name that is still open.", "Batch"),
)
ADD = operation(
    *(400, 403, 404, 408, 409, 413, 415, 422, 507), body=_FORM, key=True, _202=answer_of("What was added.", "Added")
)
SEAL = operation(403, 404, 409, _202=answer_of("The batch.", "Batch"))
LIST = operation(422, _200=answer_of("A page of batches.", "Batches"))
BATCH = operation(404, _200=answer_of("The batch.", "Batch"))
ITEMS = operation(404, 422, _200=answer_of("A page of the batch's items, in their order.", "BatchItems"))
CANCEL = operation(403, 404, 409, _202=answer_of("The batch.", "Batch"))
RESULTS = operation(404, 409, _200=_ZIP)
