"""Kinds of jobs: what each accepts, and what its parameters mean. Front end, command line and worker meet here.

A kind is built in (`thumbnail`), or declared in the service's definition; the bootstrapper tells every role of a
service which kinds it has (`ROLEHOST_KINDS`). Any other name belongs to a worker of the user's that declares nothing:
it takes any file and any parameters, as text.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import Any

from rolehost.errors import InvalidParameterError, NotAPictureError, UnsupportedTypeError
from rolehost.jobs import contact_sheet_kind, transcode_kind
from rolehost.jobs.parameters import Parameter, parse_all
from rolehost.jobs.sniffing import EXTENSIONS, PICTURES, UNKNOWN

Parse = Callable[[Mapping[str, str], str], dict[str, Any]]

KINDS = "ROLEHOST_KINDS"
"""The variable that tells a role of the service's kinds: a JSON list; a text in it names one that is built in."""
SIZES = {"Small": 128, "Medium": 512, "Large": 1024}
CUSTOM = "Custom"
DEFAULT_SIZE = "Medium"
FORMATS = ("jpeg", "png", "webp")
LARGEST_SIDE = 10_000

# `<kind>-jobs-high-poison` has to be a queue's name in Azure Storage: 63 characters at most.
_NAME = re.compile(r"(?=.{1,46}\Z)[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKind:
    """A kind of job.

    Args:
        name: as it stands in the row; its queue is `<name>-jobs`.
        title: what people call it; empty: its name.
        accepts: media types by content (`image/png`, `audio/*`) and endings of names (`.md`); empty for any file.
        parameters: in the order in which a form shows them; None: any, as text.
        own_parse: checks what was submitted (names to text) for a source of a media type, where the declaration can't
            say it all.
    """

    name: str
    title: str = ""
    accepts: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] | None = None
    own_parse: Parse | None = None

    @property
    def queue(self) -> str:
        """The queue that wakes its workers."""
        return f"{self.name}-jobs"

    def takes(self, media_type: str, name: str) -> bool:
        """Whether a source is one that workers of this kind take.

        Args:
            media_type: by its content.
            name: as the client gave it: an ending says what content can't, as that a text is Markdown. It never makes
                something of content that is known to be of another sort.
        """
        sort = media_type.partition("/")[0]
        if not self.accepts or media_type in self.accepts or f"{sort}/*" in self.accepts:
            return True
        plain = media_type == UNKNOWN or sort == "text"
        return plain and PurePath(name).suffix.lower() in self.accepts

    def check_source(self, media_type: str, name: str) -> None:
        """Refuse what no worker of this kind takes.

        Raises:
            UnsupportedTypeError: the content is of a type that is not accepted.
        """
        if self.takes(media_type, name):
            return
        if self.accepts == _PICTURES:
            known = ", ".join(sorted(extension.upper() for extension in EXTENSIONS.values()))
            raise NotAPictureError(f"{name or 'the file'} is not a picture of a known type ({known})")
        told = "its type is not known" if media_type == UNKNOWN else f"it is {media_type}"
        raise UnsupportedTypeError(
            f"{name or 'the file'} is not accepted for {self.name} ({', '.join(self.accepts)}): {told}"
        )

    def parse(self, given: Mapping[str, str], source_type: str) -> dict[str, Any]:
        """The job's parameters, from what was submitted (names to text) for a source of a media type.

        Raises:
            InvalidParameterError: one is unknown, missing or wrong; its `field` names it.
        """
        if self.own_parse is not None:
            return self.own_parse(given, source_type)
        if self.parameters is None:
            return _any_parameters(given)
        return dict(parse_all(self.parameters, given, f"{self.name} jobs"))

    def to_json(self) -> dict[str, Any]:
        """The declaration."""
        told: dict[str, Any] = {"name": self.name, "title": self.title, "accepts": list(self.accepts)}
        if self.parameters is None:
            return told
        return told | {"parameters": [each.to_json() for each in self.parameters]}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> JobKind:
        """The reverse of `to_json`."""
        parameters = told.get("parameters")
        return cls(
            name=told["name"],
            title=told.get("title", ""),
            accepts=tuple(told.get("accepts", ())),
            parameters=None if parameters is None else tuple(Parameter.from_json(each) for each in parameters),
        )


def is_kind(name: str) -> bool:
    """Whether a kind of job may have this name."""
    return _NAME.fullmatch(name) is not None


def kind_named(name: str) -> JobKind:
    """The kind with this name: built in, declared, or the user's own.

    Raises:
        InvalidParameterError: it can't be the name of a kind.
    """
    if not is_kind(name):
        raise InvalidParameterError(
            f"a kind of job is named by 1 to 46 lower-case letters, digits and single hyphens, not {name!r}",
            field="kind",
        )
    declared = {kind.name: kind for kind in offered_kinds()}
    return declared.get(name) or BUILT_IN.get(name) or JobKind(name=name)


def offered_kinds(environ: Mapping[str, str] | None = None) -> Sequence[JobKind]:
    """The kinds that this service has workers for, as far as its definition says, in its order.

    Args:
        environ: of the role; None: this process's, or what it has learnt. Without `ROLEHOST_KINDS`, what is
            built in and ships.
    """
    if environ is None and (known := _known.get()) is not None:
        return known
    return _offered((os.environ if environ is None else environ).get(KINDS, '["thumbnail"]'))


def learn(kinds: Sequence[JobKind]) -> None:
    """From now on these are the kinds that are offered in this context: for processes that are no role."""
    _known.set(tuple(kinds))


@contextmanager
def knowing(kinds: Sequence[JobKind]) -> Iterator[None]:
    """The same, as long as the block lasts."""
    before = _known.set(tuple(kinds))
    try:
        yield
    finally:
        _known.reset(before)


_known: ContextVar[Sequence[JobKind] | None] = ContextVar("known", default=None)


@lru_cache(maxsize=8)
def _offered(text: str) -> Sequence[JobKind]:
    return tuple(_told(each) for each in json.loads(text))


def _told(kind: str | Mapping[str, Any]) -> JobKind:
    if isinstance(kind, str):
        return BUILT_IN.get(kind) or JobKind(name=kind)
    return JobKind.from_json(kind)


def _any_parameters(given: Mapping[str, str]) -> dict[str, Any]:
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


_PICTURES = tuple(sorted(PICTURES))
BUILT_IN = {
    "thumbnail": JobKind(name="thumbnail", title="Thumbnails", accepts=_PICTURES, own_parse=_thumbnail),
    "transcode": JobKind(
        name="transcode",
        title=transcode_kind.TITLE,
        accepts=transcode_kind.ACCEPTS,
        parameters=transcode_kind.PARAMETERS,
        own_parse=transcode_kind.parse,
    ),
    "contact-sheet": JobKind(
        name="contact-sheet",
        title=contact_sheet_kind.TITLE,
        accepts=contact_sheet_kind.ACCEPTS,
        parameters=contact_sheet_kind.PARAMETERS,
    ),
}
"""Kinds whose workers are in the package."""
