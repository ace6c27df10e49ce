"""Write a picture: pixels only, and the target is either whole or untouched."""

# ruff: noqa: PTH105, PTH108, PTH112, PTH113, PTH118, PTH120, PTH122, PTH123 - importing pathlib takes 3 ms of each run

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from console import BAD_INPUT, CANNOT_CREATE, IO_ERROR, USAGE, ConsoleError, printable, system_reason
from picture_colours import WHITE, on_white

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, BinaryIO

    from PIL import Image


class Format(NamedTuple):
    """How pictures of one format are written.

    Args:
        extension: What Pillow knows the format by.
        longest_side: In pixels.
        transparent: Whether the format knows transparency; if not, pictures are laid on white.
        options: For Pillow's encoder.
    """

    extension: str
    longest_side: int
    transparent: bool
    options: Mapping[str, Any]


FORMATS = {
    "jpeg": Format(".jpg", 65_500, transparent=False, options={"quality": 85}),
    "png": Format(".png", 2**31 - 1, transparent=True, options={}),
    "webp": Format(".webp", 16_383, transparent=True, options={"quality": 82}),
    "gif": Format(".gif", 65_535, transparent=True, options={}),
    "tiff": Format(".tiff", 2**31 - 1, transparent=True, options={"compression": "tiff_lzw"}),
    "bmp": Format(".bmp", 2**31 - 1, transparent=False, options={}),
}
OTHER_NAMES = {"jpg": "jpeg", "jpe": "jpeg", "jfif": "jpeg", "tif": "tiff"}


def format_named(name: str) -> str | None:
    """Return the format of that name ("JPG" is "jpeg"), or None where there is none."""
    lower = name.lower()
    lower = OTHER_NAMES.get(lower, lower)
    return lower if lower in FORMATS else None


def format_of_target(path: str) -> str:
    """Return the format that a target's extension names.

    Raises:
        ConsoleError: It names none of the six.
    """
    found = format_named(os.path.splitext(path)[1].removeprefix("."))
    if found is None:
        raise ConsoleError(USAGE, printable(path), f"its extension must name a format: {', '.join(FORMATS)}")
    return found


def check_target(path: str) -> None:
    """Find out early, before anything is decoded, that a target can't be created.

    Raises:
        ConsoleError: Its folder is missing, or what is there is no regular file.
    """
    if os.path.lexists(path) and not os.path.isfile(path):
        raise ConsoleError(CANNOT_CREATE, printable(path), "exists and is not a file")
    if not os.path.isdir(os.path.dirname(os.path.realpath(path))):
        raise ConsoleError(CANNOT_CREATE, printable(path), "its folder does not exist")


def write(picture: Image.Image, path: str, name: str) -> None:
    """Write a picture beside its target, then rename it into place.

    Args:
        picture: Of mode L, LA, RGB or RGBA; nothing but its pixels is written.
        path: The target; a file that is there already stays as it is until the new one is whole.
        name: A key of `FORMATS`.

    Raises:
        ConsoleError: The format can't hold the picture, the target can't be created, or the disk is full.
    """
    chosen = FORMATS[name]
    if max(picture.size) > chosen.longest_side:
        why = f"{name} holds {chosen.longest_side} pixels a side at most, not {picture.width}x{picture.height}"
        raise ConsoleError(BAD_INPUT, printable(path), why)
    plain = picture.copy()  # not the opened file any more: its encoder would write what else was in there
    plain.info.clear()
    options = dict(chosen.options)
    if not chosen.transparent:
        plain = on_white(plain)
    elif name == "gif" and plain.mode.endswith("A"):
        plain = _with_holes(plain)
        options["transparency"] = WHITE
    _replace(plain, os.path.realpath(path), chosen.extension, options)


def _with_holes(picture: Image.Image) -> Image.Image:
    """Fit for GIF, which knows no half transparency: the last colour of the palette means a hole."""
    palette = on_white(picture).convert("RGB").quantize(WHITE)
    palette.paste(WHITE, mask=picture.getchannel("A").point(lambda alpha: WHITE if alpha <= WHITE // 2 else 0))
    return palette


def _replace(picture: Image.Image, path: str, extension: str, options: dict[str, Any]) -> None:
    beside = os.path.join(os.path.dirname(path), f".picture-{os.urandom(6).hex()}{extension}")
    try:
        file: BinaryIO = open(beside, "xb")  # noqa: SIM115 - the `with` below closes it
    except OSError as error:
        raise ConsoleError(CANNOT_CREATE, printable(path), system_reason(error)) from error
    try:
        with file:
            picture.save(file, **options)  # without format=, Pillow loads the one plugin that the name asks for
        os.replace(beside, path)
    except OSError as error:
        if error.errno is None:
            raise
        renaming = error.filename2 is not None
        code = CANNOT_CREATE if renaming else IO_ERROR
        raise ConsoleError(code, printable(path), system_reason(error)) from error
    finally:
        if os.path.lexists(beside):
            os.unlink(beside)
