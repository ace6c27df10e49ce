"""Pictures of a ZIP on one sheet: each is read as any picture that nobody vouched for."""

# ruff: noqa: PTH107, PTH118, PTH119, PTH123 - importing pathlib takes 3 ms of each run, os.path none

from __future__ import annotations

import math
import os
import sys
import tempfile
import zipfile
import zlib
from typing import TYPE_CHECKING

from console import BAD_INPUT, NO_INPUT, ConsoleError, printable, system_reason
from picture_colours import to_eight_bits, to_srgb
from picture_conversion import REDUCING_GAP, fit
from picture_reading import UPRIGHT, read
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_PICTURES = 2_000
LARGEST_SIDE = 10_000
"""Of the sheet: in memory it takes 300 MB then."""
LARGEST_FILE = 256 * 1024 * 1024
"""Bytes of one picture's file, unpacked: a ZIP of kilobytes may hold terabytes."""
LARGEST_ALL = 32 * 1024 * 1024 * 1024
"""Bytes of all of them: one file in it may be listed thousands of times, and each time is unpacked."""
PIECE = 1024 * 1024
WHITE = (255, 255, 255)
SPACE = 20
"""Of a tile's side a twentieth is left free between pictures."""


class Sheet:
    """A sheet.

    Args:
        pixels: What is to be written.
        pictures: How many are on it.
        left_out: How many files of the ZIP are not.
    """

    def __init__(self, pixels: Image.Image, pictures: int, left_out: int) -> None:
        self.pixels = pixels
        self.pictures = pictures
        self.left_out = left_out


def lay_out(source: str, columns: int, tile: int) -> Sheet:
    """Lay out the pictures of a ZIP.

    Args:
        source: The ZIP.
        columns: How many stand side by side; 0 for a sheet that is about square.
        tile: Pixels of a square's side.

    Raises:
        ConsoleError: No such file, no ZIP, a damaged one, or one that holds too much.
    """
    name = printable(os.path.basename(source) or source)
    try:
        with zipfile.ZipFile(source) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            some = entries[:MOST_PICTURES]
            if sum(entry.file_size for entry in some if entry.file_size <= LARGEST_FILE) > LARGEST_ALL:
                raise ConsoleError(
                    BAD_INPUT, name, f"the ZIP is too large unpacked: the limit is {LARGEST_ALL:,} bytes"
                )
            across, down = _shape(len(some), columns)
            tile = max(1, min(tile, LARGEST_SIDE // max(across, down)))
            pixels = Image.new("RGB", (across * tile, down * tile), WHITE)
            pictures = 0
            for picture in _pictures(archive, some, tile):
                left, top = pictures % across * tile, pictures // across * tile
                pixels.paste(picture, (left + (tile - picture.width) // 2, top + (tile - picture.height) // 2))
                pictures += 1
    except OSError as error:
        raise ConsoleError(NO_INPUT, name, system_reason(error)) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise ConsoleError(BAD_INPUT, name, f"the ZIP is damaged, or no ZIP: {error}") from error
    across, down = min(across, max(pictures, 1)), max(1, math.ceil(pictures / across))
    return Sheet(pixels.crop((0, 0, across * tile, down * tile)), pictures, len(entries) - pictures)


def _shape(count: int, columns: int) -> tuple[int, int]:
    columns = min(columns or math.ceil(math.sqrt(count)), max(count, 1)) or 1
    return columns, max(1, math.ceil(count / columns))


def _pictures(archive: zipfile.ZipFile, entries: list[zipfile.ZipInfo], tile: int) -> Iterator[Image.Image]:
    inner = max(1, tile - tile // SPACE)
    with tempfile.TemporaryDirectory(prefix=".picture-", dir=".") as folder:
        path = os.path.join(folder, "picture")
        for done, entry in enumerate(entries, 1):
            if entry.file_size <= LARGEST_FILE and _unpacked(archive, entry, path):
                try:
                    yield _small(path, inner)
                except ConsoleError as error:
                    print(f"{printable(entry.filename)}: {error.why}", file=sys.stderr)
                os.remove(path)
            print(f"{done} of {len(entries)} ({100 * done // len(entries)}%)", flush=True)


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: str) -> bool:
    left = LARGEST_FILE
    with archive.open(entry) as packed, open(path, "wb") as file:
        while left > 0 and (piece := packed.read(min(PIECE, left))):
            left -= len(piece)
            file.write(piece)
    if left <= 0:
        os.remove(path)
    return left > 0


def _small(path: str, side: int) -> Image.Image:
    """The picture, upright, in sRGB, on white, inside a square."""
    picture = read(path, lambda size: fit(size, (side, side)))
    width, height = fit(picture.size, (side, side))
    try:
        pixels = to_eight_bits(picture.pixels)
    except ValueError as error:
        raise ConsoleError(BAD_INPUT, "picture", f"the picture can't be converted: {error}") from error
    lying = (height, width) if picture.orientation >= 5 else (width, height)  # noqa: PLR2004 - EXIF's: on its side
    if lying != pixels.size:
        pixels = pixels.resize(lying, Image.Resampling.LANCZOS, picture.box, REDUCING_GAP)
    pixels = to_srgb(pixels, picture.pixels.info.get("icc_profile"))
    if picture.orientation in UPRIGHT:
        pixels = pixels.transpose(UPRIGHT[picture.orientation])
    whole = pixels.convert("RGBA")
    ground = Image.new("RGB", whole.size, WHITE)
    ground.paste(whole, mask=whole)
    return ground
