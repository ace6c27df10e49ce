"""The kinds of jobs as clients see them: which one a form means, the fields that it may have, and its schema."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from rolehost.errors import InvalidParameterError
from rolehost.frontend import common_fields
from rolehost.frontend.problems import refusal
from rolehost.frontend.services import KIND as THUMBNAIL
from rolehost.jobs.kinds import BUILT_IN, CUSTOM, DEFAULT_SIZE, FORMATS, LARGEST_SIDE, SIZES, JobKind, offered_kinds
from rolehost.jobs.parameters import ParameterType, parse_all, text_of
from rolehost.jobs.resources import FIELD as RESOURCES
from rolehost.jobs.resources import LONGEST_FIELD as LONGEST_RESOURCES
from rolehost.jobs.sniffing import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rolehost.jobs.parameters import Value

FIELD = "kind"
FILE = "file"
FORM = "form"
"""The field of the pages' form that tells one filling in of it from another."""
LONGEST_FIELD = 2048
LARGEST_FIELD = 64 * 1024

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_RESOURCES: Schema = {
    "type": "string",
    "contentMediaType": "application/json",
    "maxLength": LONGEST_RESOURCES,
    "description": "JSON as a job's `resources` are where it is submitted as JSON: files beside the one that is sent.",
}
_SIDE: Schema = {
    "type": "integer",
    "minimum": 1,
    "maximum": LARGEST_SIDE,
    "description": f"Pixels; required with size {CUSTOM}, and refused with any other.",
}
_THUMBNAIL: dict[str, Schema] = {
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
}


def usual_kind() -> JobKind | None:
    """The kind of a job that names none: the only one there is, else thumbnails where they are offered."""
    offered = offered_kinds()
    if len(offered) == 1:
        return offered[0]
    return next((kind for kind in offered if kind.name == THUMBNAIL), None)


def chosen_kind(name: str) -> JobKind:
    """The kind that a client names; an empty name is as none.

    Raises:
        HTTPException: 422, there is no such kind here, or one has to be named.
    """
    if not name and (usual := usual_kind()):
        return usual
    for kind in offered_kinds():
        if kind.name == name:
            return kind
    known = ", ".join(kind.name for kind in offered_kinds()) or "none"
    if name:
        told = f"There is no kind of job {name[:80]!r} here; there are: {known}."
        raise refusal(422, "unknown-kind", told, wrong=FIELD)
    told = f"Say in the field kind which kind of job it is; there are: {known}."
    raise refusal(422, "missing-kind", told, wrong=FIELD)


def is_thumbnail(kind: JobKind) -> bool:
    """Whether it is our own kind of thumbnails, whose form has a look of its own."""
    return kind == BUILT_IN[THUMBNAIL]


def takes_any(kind: JobKind) -> bool:
    """Whether it declares no parameters: it takes any, as text."""
    return kind.parameters is None and not is_thumbnail(kind)


def names_of(kind: JobKind) -> frozenset[str]:
    """The names of a kind's parameters."""
    return frozenset(parameter_schemas(kind))


def field_caps(kinds: tuple[JobKind, ...]) -> dict[str, int]:
    """The small fields that a form for any of these kinds may have, and the bytes that each may take."""
    caps = dict.fromkeys((FIELD, *common_fields.NAMES), LONGEST_FIELD)
    for kind in kinds:
        for name in names_of(kind):
            caps.setdefault(name, LONGEST_FIELD)
        for each in kind.parameters or ():
            if each.type is ParameterType.TEXT:  # 4 bytes a character at most
                caps[each.name] = max(caps[each.name], min(4 * each.longest, LARGEST_FIELD))
    return caps


def parameters_given(kind: JobKind, fields: Mapping[str, str]) -> dict[str, str]:
    """The fields that are parameters of the kind."""
    if takes_any(kind):
        return {name: text for name, text in fields.items() if name not in {FIELD, FORM, *common_fields.NAMES}}
    names = names_of(kind)
    return {name: text for name, text in fields.items() if name in names}


def faults(kind: JobKind, given: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with which parameter; all of them where the declaration can tell."""
    wrong: dict[str, str] = {}
    for each in kind.parameters or ():
        try:
            parse_all((each,), _only(given, each.name))
        except InvalidParameterError as error:
            wrong[each.name] = str(error)
    if not wrong:  # what goes together, and what no declaration says
        try:
            kind.parse(given, UNKNOWN)
        except InvalidParameterError as error:
            wrong[error.field] = str(error)
    return wrong


def _only(given: Mapping[str, str], name: str) -> dict[str, str]:
    return {name: given[name]} if name in given else {}


def parameter_schemas(kind: JobKind) -> dict[str, Schema]:
    """The JSON schema of each parameter."""
    if is_thumbnail(kind):
        return _THUMBNAIL
    return {each.name: each.schema() for each in kind.parameters or ()}


def required(kind: JobKind) -> list[str]:
    """The parameters that have to be given."""
    return [each.name for each in kind.parameters or () if each.required]


def example_of(kind: JobKind) -> list[str]:
    """`quality=75`: the fields of a request that one could begin with."""
    if is_thumbnail(kind):
        return [f"size={DEFAULT_SIZE}"]
    needed = [each for each in kind.parameters or () if each.required]
    usual = [each for each in kind.parameters or () if each.default not in {None, ""}]
    shown = needed or usual[:2]
    return [f"{each.name}={_in_shell(each.choices[0] if each.choices else each.default)}" for each in shown]


def _in_shell(value: Value | None) -> str:
    return shlex.quote("..." if value is None else text_of(value))


def kind_json(kind: JobKind) -> dict[str, Any]:
    """A kind as the API tells of it."""
    usual = usual_kind()
    schema = {
        "type": "object",
        "properties": parameter_schemas(kind),
        "required": required(kind),
        "additionalProperties": _TEXT if takes_any(kind) else False,
    }
    return {
        "name": kind.name,
        "title": kind.title or kind.name,
        "accepts": list(kind.accepts),
        "default": usual is not None and usual.name == kind.name,
        "parameters": schema,
    }


def form_schema(kind: JobKind) -> Schema:
    """The JSON schema of a form that submits a job of this kind."""
    usual = usual_kind()
    is_usual = usual is not None and usual.name == kind.name
    named: Schema = {"type": "string", "const": kind.name} | ({"default": kind.name} if is_usual else {})
    told = f"The file. {accepted_words(kind)}" if kind.accepts else "The file."
    return {
        "type": "object",
        "title": kind.title or kind.name,
        "properties": {FILE: {"type": "string", "format": "binary", "description": told}, FIELD: named}
        | parameter_schemas(kind)
        | {each.name: dict(each.schema) for each in common_fields.COMMON}
        | {RESOURCES: _RESOURCES},
        "required": [FILE, *([] if is_usual else [FIELD]), *required(kind)],
        "additionalProperties": _TEXT if takes_any(kind) else False,
    }


def accepted_words(kind: JobKind) -> str:
    """`Accepts image/png, .md.`: what the kind takes, in the words of the declaration."""
    return f"Accepted: {', '.join(kind.accepts)}." if kind.accepts else "Any file."


def media_types(kinds: tuple[JobKind, ...]) -> list[str]:
    """The media types of files for any of these kinds; `*/*` where an ending or nothing says what is taken."""
    accepted = [each for kind in kinds for each in kind.accepts or (".",)]
    return ["*/*"] if any(each.startswith(".") for each in accepted) else sorted(set(accepted))
