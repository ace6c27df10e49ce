"""Resource files: what a job names beside its source, and finds in its scratch directory when its program starts.

Each is at a URL or in a blob, where sources may be by URL or blob, and is checked as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from rolehost.errors import InvalidParameterError
from rolehost.jobs.job import Resource

Check: TypeAlias = "Callable[[str, str], str]"
"""Gets a URL or a blob's name, and the field that it came in; raises `InvalidParameterError` where it may not be."""

FIELD = "resources"
MOST = 16
LONGEST_NAME = 100
LONGEST_FIELD = 64 * 1024
"""Bytes of the JSON text that a form has for them."""
_LONGEST_TEXT = 2048
_KEYS = ("name", "blob", "url")
_PLACES = ("blob", "url")
# One segment that means the same in every file system and to every program: no option, no hidden file, no wildcard.
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?", re.ASCII)
_OURS = frozenset({"source", "target"})
_TEXT = {"type": "string", "minLength": 1, "maxLength": _LONGEST_TEXT}
SCHEMA: Mapping[str, Any] = {
    "type": "array",
    "maxItems": MOST,
    "description": "Files that lie in the job's scratch directory when its program starts. Each is a url or a blob, "
    "where the service's settings allow that for sources.",
    "items": {
        "oneOf": [
            {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "pattern": f"^{_NAME.pattern}$", "maxLength": LONGEST_NAME},
                    place: _TEXT,
                },
                "required": ["name", place],
                "additionalProperties": False,
            }
            for place in _PLACES
        ]
    },
}


def read_resources(value: object, *, check_url: Check, check_blob: Check) -> tuple[Resource, ...]:
    """The resource files that some JSON names.

    Args:
        value: `[{"name": "logo.png", "blob": "assets/logo.png"}, {"name": "intro.srt", "url": "https://..."}]`.
        check_url: as `SourceSettings.check_url`.
        check_blob: as `SourceSettings.check_blob`.

    Raises:
        InvalidParameterError: one of them can't be; its field is a JSON Pointer.
    """
    if not isinstance(value, list):
        raise InvalidParameterError(f"{FIELD} must be a list of objects, each with a name and a blob or a url", _at())
    if len(value) > MOST:
        raise InvalidParameterError(f"a job has at most {MOST} resource files, not {len(value)}", _at())
    found = [_read(each, _at(index)) for index, each in enumerate(value)]
    return check_resources(found, check_url=check_url, check_blob=check_blob)


def check_resources(resources: Sequence[Resource], *, check_url: Check, check_blob: Check) -> tuple[Resource, ...]:
    """Resource files that a job may have, as far as their texts tell.

    Args:
        resources: whoever named them.
        check_url: as `SourceSettings.check_url`.
        check_blob: as `SourceSettings.check_blob`.

    Raises:
        InvalidParameterError: one of them can't be; its field is a JSON Pointer.
    """
    if len(resources) > MOST:
        raise InvalidParameterError(f"a job has at most {MOST} resource files, not {len(resources)}", _at())
    names: set[str] = set()
    for index, each in enumerate(resources):
        _check_name(each.name, names, _at(index, "name"))
        if bool(each.blob) == bool(each.url):
            raise InvalidParameterError(f"the resource {each.name} is a blob or a url: name one of them", _at(index))
        if each.url:
            check_url(each.url, _at(index, "url"))
        else:
            check_blob(each.blob, _at(index, "blob"))
    return tuple(resources)


def from_options(texts: Iterable[str]) -> list[dict[str, str]]:
    """`NAME=blob:assets/logo.png` and `NAME=url:https://...` of a command line, as `read_resources` takes them.

    Raises:
        InvalidParameterError: one is neither.
    """
    found = []
    for text in texts:
        name, _, rest = text.partition("=")
        place, colon, where = rest.partition(":")
        if not colon or place not in _PLACES:
            raise InvalidParameterError(f"a resource is NAME=blob:BLOB or NAME=url:URL, not {text[:80]!r}", FIELD)
        found.append({"name": name, place: where})
    return found


def _read(value: object, pointer: str) -> Resource:
    if not isinstance(value, dict):
        raise InvalidParameterError("a resource is an object with a name, and a blob or a url", pointer)
    if unknown := next((name for name in value if name not in _KEYS), None):
        raise InvalidParameterError(f"a resource has a name, and a blob or a url, no {str(unknown)[:80]!r}", pointer)
    for name, text in value.items():
        if not isinstance(text, str) or not text or len(text) > _LONGEST_TEXT:
            told = f"the {name} of a resource is a text of 1 to {_LONGEST_TEXT} characters"
            raise InvalidParameterError(told, f"{pointer}/{name}")
    return Resource(name=value.get("name", ""), blob=value.get("blob", ""), url=value.get("url", ""))


def _check_name(name: str, names: set[str], pointer: str) -> None:
    if len(name) > LONGEST_NAME or not _NAME.fullmatch(name):
        raise InvalidParameterError(
            f"{name[:80]!r} is no name of a resource: up to {LONGEST_NAME} letters, digits, '.', '-' and '_', "
            "beginning with neither '.' nor '-', and ending in no '.'",
            pointer,
        )
    if name.lower().partition(".")[0] in _OURS:
        raise InvalidParameterError(f"{name!r} is no name of a resource: files of ours are called so", pointer)
    if name.lower() in names:
        raise InvalidParameterError(f"two resources are called {name!r}, or differ by case alone", pointer)
    names.add(name.lower())


def _at(*path: object) -> str:
    return "".join(f"/{each}" for each in (FIELD, *path))
