"""A picture's way from one file to another: read, eight bits, resize, sRGB, upright, write."""

# ruff: noqa: PTH119 - importing pathlib takes 3 ms of each run, os.path none

from __future__ import annotations

import os

from console import BAD_INPUT, ConsoleError, printable
from picture_colours import to_eight_bits, to_srgb
from picture_reading import LIES_ON_ITS_SIDE, UPRIGHT, read
from picture_writing import check_target, write
from PIL import Image

# Averaging to no less than three times the wanted size first saves most of the filter's time, and can't be seen.
REDUCING_GAP = 3.0


def convert(source: str, target: str, format_name: str, box: tuple[int, int] | None = None) -> str:
    """Write a picture again in another format, and smaller where it doesn't fit inside the box.

    Args:
        source: The file to read.
        target: The file to write.
        format_name: A key of `picture_writing.FORMATS`.
        box: Width and height in pixels; the picture keeps its aspect and is never enlarged. None keeps its size.

    Returns:
        One line that says what was done.

    Raises:
        ConsoleError: With the exit code of what went wrong.
    """
    check_target(target)
    picture = read(source, lambda size: fit(size, box))
    size = fit(picture.size, box)
    profile = picture.pixels.info.get("icc_profile")
    name = printable(os.path.basename(source))
    try:
        pixels = to_eight_bits(picture.pixels)
    except ValueError as error:
        raise ConsoleError(BAD_INPUT, name, f"the picture can't be converted: {error}") from error
    lying = (size[1], size[0]) if picture.orientation >= LIES_ON_ITS_SIDE else size
    if lying != pixels.size:
        pixels = pixels.resize(lying, Image.Resampling.LANCZOS, picture.box, REDUCING_GAP)
    pixels = to_srgb(pixels, profile)
    if picture.orientation in UPRIGHT:
        pixels = pixels.transpose(UPRIGHT[picture.orientation])
    write(pixels, target, format_name)
    before, after = (f"{width}x{height}" for width, height in (picture.size, size))
    return f"{name}: {before} -> {after} {format_name}"


def fit(size: tuple[int, int], box: tuple[int, int] | None) -> tuple[int, int]:
    """Return the largest size of the same aspect that fits inside the box, never larger than it was.

    Args:
        size: Width and height in pixels.
        box: The same of the box; None for no limit.
    """
    if box is None or (size[0] <= box[0] and size[1] <= box[1]):
        return size
    scale = min(box[0] / size[0], box[1] / size[1])
    # A side of a very long, narrow picture may come to less than half a pixel.
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
