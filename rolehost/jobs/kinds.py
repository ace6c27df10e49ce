"""Kinds of jobs: what each accepts, and what its parameters mean. Front end and worker meet here.

A kind that is not listed belongs to a worker of the user's: it takes any file and any parameters, as text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rolehost.errors import InvalidParameterError, NotAPictureError
from rolehost.jobs.sniffing import EXTENSIONS, PICTURES

Parse = Callable[[Mapping[str, str], str], dict[str, Any]]

SIZES = {"Small": 128, "Medium": 512, "Large": 1024}
CUSTOM = "Custom"
DEFAULT_SIZE = "Medium"
FORMATS = ("jpeg", "png", "webp")
LARGEST_SIDE = 10_000

# `<kind>-jobs-poison` has to be a queue's name in Azure Storage: 63 characters at most.
_NAME = re.compile(r"(?=.{1,50}\Z)[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class JobKind:
    """A kind of job.

    Args:
        name: as it stands in the row; its queue is `<name>-jobs`.
        accepts: media types; empty for any.
        parse: checks what was submitted (names to text) for a source of a media type; answers the job's parameters.
    """

    name: str
    accepts: frozenset[str]
    parse: Parse

    @property
    def queue(self) -> str:
        """The queue that wakes its workers."""
        return f"{self.name}-jobs"

    def check_source(self, media_type: str, name: str) -> None:
        """Refuse what no worker of this kind takes.

        Raises:
            NotAPictureError: the content is of a type that is not accepted.
        """
        if self.accepts and media_type not in self.accepts:
            known = ", ".join(sorted(extension.upper() for extension in EXTENSIONS.values()))
            raise NotAPictureError(f"{name or 'the file'} is not a picture of a known type ({known})")


def kind_named(name: str) -> JobKind:
    """The kind with this name.

    Raises:
        InvalidParameterError: it can't be the name of a kind.
    """
    if not _NAME.fullmatch(name):
        raise InvalidParameterError(
            f"a kind of job is named by 1 to 50 lower-case letters, digits and single hyphens, not {name!r}",
            field="kind",
        )
    return _KINDS.get(name) or JobKind(name, frozenset(), _any_parameters)


def _any_parameters(given: Mapping[str, str], _source_type: str) -> dict[str, Any]:
    for name, value in given.items():
        if "\0" in value:  # no program can be given it
            raise InvalidParameterError(f"the parameter {name} holds a NUL character", field=name)
    return dict(given)


def _thumbnail(given: Mapping[str, str], source_type: str) -> dict[str, Any]:
    """`size`, `width`, `height`, `format` of a thumbnail, with their defaults."""
    unknown = sorted(set(given) - {"size", "width", "height", "format"})
    if unknown:
        raise InvalidParameterError(
            f"{unknown[0]} is not a parameter of a thumbnail: size, width, height, format are", field=unknown[0]
        )
    return _box(given) | {"format": _format(given.get("format", ""), source_type)}


def _box(given: Mapping[str, str]) -> dict[str, Any]:
    wanted = given.get("size", "").strip() or DEFAULT_SIZE
    by_lower = {name.lower(): name for name in (*SIZES, CUSTOM)}
    if (size := by_lower.get(wanted.lower())) is None:
        raise InvalidParameterError(f"size must be Small, Medium, Large or Custom, not {wanted!r}", field="size")
    if size != CUSTOM:
        for name in ("width", "height"):
            if given.get(name, "").strip():
                raise InvalidParameterError(f"{name} goes with size Custom, not with {size}", field=name)
        return {"size": size, "width": SIZES[size], "height": SIZES[size]}
    return {"size": size, "width": _side(given, "width"), "height": _side(given, "height")}


def _side(given: Mapping[str, str], name: str) -> int:
    text = given.get(name, "").strip()
    if not text:
        raise InvalidParameterError(f"size Custom needs a {name}, in pixels", field=name)
    if not (
        text.isascii() and text.isdigit() and len(text) <= len(str(LARGEST_SIDE)) and 1 <= int(text) <= LARGEST_SIDE
    ):
        raise InvalidParameterError(f"{name} must be a whole number from 1 to {LARGEST_SIDE}, not {text!r}", field=name)
    return int(text)


def _format(wanted: str, source_type: str) -> str:
    wanted = wanted.strip().lower()
    if not wanted:
        own = source_type.removeprefix("image/")
        return own if own in FORMATS else "png"
    wanted = "jpeg" if wanted == "jpg" else wanted
    if wanted not in FORMATS:
        raise InvalidParameterError(f"format must be jpeg, png or webp, not {wanted!r}", field="format")
    return wanted


_KINDS = {"thumbnail": JobKind("thumbnail", PICTURES, _thumbnail)}
