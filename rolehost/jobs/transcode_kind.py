"""The kind `transcode`: what its presets take, and what their parameters mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rolehost.errors import InvalidParameterError
from rolehost.jobs.parameters import Parameter, ParameterType, parse_all
from rolehost.jobs.sniffing import FILMS, PICTURES, SOUNDS

TITLE = "Transcode"
ACCEPTS = (*sorted(PICTURES), *FILMS, *SOUNDS)
_ANIMATED = "image/gif"


class Sort(StrEnum):
    """What a preset works on."""

    PICTURE = "pictures"
    FILM = "films"
    SOUND = "sound"


@dataclass(frozen=True, slots=True)
class Preset:
    """One way to transcode.

    Args:
        takes: what it works on; a film may have sound.
        formats: of its result; the first is the usual one.
        defaults: the parameters it knows beside `format`, with their defaults; None: there is none.
    """

    takes: tuple[Sort, ...]
    formats: tuple[str, ...]
    defaults: Mapping[str, str | int | float | None]


PRESETS = {
    "web-video": Preset((Sort.FILM,), ("mp4",), {"height": 720, "quality": "medium"}),
    "audio": Preset((Sort.SOUND,), ("m4a", "mp3", "ogg"), {"quality": "medium"}),
    "poster": Preset((Sort.FILM,), ("jpeg", "png", "webp"), {"height": None, "at": None}),
    "preview": Preset((Sort.FILM,), ("webp", "gif"), {"height": 240, "at": None, "seconds": 3}),
    "contact-sheet": Preset((Sort.FILM,), ("jpeg", "png", "webp"), {"height": 160, "columns": 4, "rows": 4}),
    **{name: Preset((Sort.PICTURE,), (name,), {}) for name in ("jpeg", "png", "webp", "gif", "tiff", "bmp")},
}
QUALITIES = ("low", "medium", "high")

_FORMATS = tuple(dict.fromkeys(each for preset in PRESETS.values() for each in preset.formats))
_HEIGHT = "Pixels: the shorter side of a web video, the height of other pictures. Never enlarged."
PARAMETERS = (
    Parameter(name="preset", choices=tuple(PRESETS), label="Preset", help="What to make of it."),
    Parameter(
        name="format", choices=_FORMATS, optional=True, label="Format", help="Of sound, posters, previews and sheets."
    ),
    Parameter(
        name="height", type=ParameterType.INTEGER, least=32, most=2160, optional=True, label="Height", help=_HEIGHT
    ),
    Parameter(
        name="quality", choices=QUALITIES, optional=True, label="Quality", help="Of web videos and sound; else medium."
    ),
    Parameter(
        name="at", type=ParameterType.NUMBER, least=0, most=1e6, optional=True, label="At", help="Second of the film."
    ),
    Parameter(
        name="seconds",
        type=ParameterType.NUMBER,
        least=0.5,
        most=15,
        optional=True,
        label="Seconds",
        help="Of a preview.",
    ),
    Parameter(name="columns", type=ParameterType.INTEGER, least=1, most=10, optional=True, label="Columns"),
    Parameter(name="rows", type=ParameterType.INTEGER, least=1, most=10, optional=True, label="Rows"),
)


def parse(given: Mapping[str, str], source_type: str) -> dict[str, Any]:
    """The job's parameters: those that its preset knows, each with its value.

    Args:
        given: what was submitted.
        source_type: of the source by its content; a type that isn't in `ACCEPTS` says nothing: it isn't known yet.

    Raises:
        InvalidParameterError: one is unknown, wrong, none of the preset's, or the preset isn't for such a source.
    """
    asked = dict(parse_all(PARAMETERS, given, "transcode jobs"))
    name = str(asked.pop("preset"))
    preset = PRESETS[name]
    if source_type in ACCEPTS and (wrong := misfit(name, source_type)):
        raise InvalidParameterError(wrong, field="preset")
    if asked.get("format", preset.formats[0]) not in preset.formats:
        raise InvalidParameterError(
            f"the format of {name} is {_listed(preset.formats)}, not {asked['format']}", field="format"
        )
    for each in asked:
        if each != "format" and each not in preset.defaults:
            raise InvalidParameterError(f"{each} doesn't go with {name}", field=each)
    wanted = {"preset": name, "format": preset.formats[0]} | dict(preset.defaults) | asked
    return {each: value for each, value in wanted.items() if value is not None}


def misfit(preset: str, media_type: str) -> str:
    """Why a preset is not for a source of this type, in words; empty if it is."""
    takes = PRESETS[preset].takes
    return "" if sorts_of(media_type).intersection(takes) else f"{preset} is for {_listed(takes)}; this is {media_type}"


def sorts_of(media_type: str) -> frozenset[Sort]:
    """What a file of such a type may be, before anybody has looked inside."""
    if media_type in FILMS:
        return frozenset({Sort.FILM, Sort.SOUND})
    if media_type in SOUNDS:
        return frozenset({Sort.SOUND})
    if media_type == _ANIMATED:
        return frozenset({Sort.PICTURE, Sort.FILM})
    return frozenset({Sort.PICTURE}) if media_type in PICTURES else frozenset()


def _listed(words: tuple[str, ...]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
