"""Read a picture that nobody vouched for: six formats, a limit before decoding, whole or not at all."""

# ruff: noqa: PTH116, PTH119, PTH123 - importing pathlib takes 3 ms of each run, os.path none

from __future__ import annotations

import contextlib
import importlib
import os
import stat
import warnings
from typing import TYPE_CHECKING

from console import BAD_INPUT, IO_ERROR, NO_INPUT, ConsoleError, printable, system_reason
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from PIL.ImageFile import ImageFile

# Decoded this is 400 MB at four bytes a pixel. Half-way numbers ("a warning range") don't exist here.
MOST_PIXELS = 100_000_000

# Decoding for thumbnails at 1.5 times their size or more keeps them as sharp as decoding all pixels.
DRAFT_MARGIN = 1.5

# First bytes -> module and class. Only the module that is needed is imported: all of Pillow's take 20 ms longer.
# A JPEG that holds several pictures (MPO, as many telephones write) is read as the plain JPEG it begins with.
READERS = {
    b"\xff\xd8\xff": ("JpegImagePlugin", "JpegImageFile"),
    b"\x89PNG\r\n\x1a\n": ("PngImagePlugin", "PngImageFile"),
    b"GIF87a": ("GifImagePlugin", "GifImageFile"),
    b"GIF89a": ("GifImagePlugin", "GifImageFile"),
    b"RIFF": ("WebPImagePlugin", "WebPImageFile"),
    b"II*\x00": ("TiffImagePlugin", "TiffImageFile"),
    b"MM\x00*": ("TiffImagePlugin", "TiffImageFile"),
    b"II+\x00": ("TiffImagePlugin", "TiffImageFile"),
    b"MM\x00+": ("TiffImagePlugin", "TiffImageFile"),
    b"BM": ("BmpImagePlugin", "BmpImageFile"),
}

# What EXIF calls orientation -> what turns the pixels upright.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LIES_ON_ITS_SIDE = 5  # from here on width and height change places


class SourcePicture:
    """A decoded picture, and what its file says about it.

    Args:
        pixels: The first picture of the file as decoded: perhaps smaller than the original, not yet upright.
        box: The part of `pixels` (left, upper, right, lower) that stands for the original, in fractions of pixels.
        size: Width and height of the original in pixels, upright.
        orientation: EXIF's value, 1 to 8; 1 is upright.
    """

    def __init__(
        self, pixels: ImageFile, box: tuple[float, float, float, float], size: tuple[int, int], orientation: int
    ) -> None:
        self.pixels = pixels
        self.box = box
        self.size = size
        self.orientation = orientation


def read(path: str, fit: Callable[[tuple[int, int]], tuple[int, int]]) -> SourcePicture:
    """Decode a picture's file.

    Args:
        path: The file; only its bytes say what it is, never its name.
        fit: Original size (width, height in pixels, upright) to the size that will be needed: a JPEG is
            decoded at a half, a quarter or an eighth where that is enough.

    Raises:
        ConsoleError: No such file, unreadable, no picture of the six formats, damaged, or too many pixels.
    """
    # Pillow warns about odd metadata, which goes anyway; what it refuses to decode still raises.
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    name = printable(os.path.basename(path) or path)
    with _open(path, name) as file:
        reader = _reader(file, name)
        try:
            pixels: ImageFile = reader(file, path)
            _refuse_bombs(pixels.size, name)
            with _libtiff_silenced() if pixels.format == "TIFF" else contextlib.nullcontext():
                return _decode(pixels, fit)
        except Image.DecompressionBombError as error:
            raise ConsoleError(BAD_INPUT, name, f"too many pixels: the limit is {MOST_PIXELS:,}") from error
        except (ConsoleError, MemoryError):
            raise
        except Exception as error:  # decoders meet hostile bytes in here, and fail in any way at all
            raise _unreadable(name, error) from error


def _open(path: str, name: str) -> BinaryIO:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ConsoleError(NO_INPUT, name, "not a file")
        return open(path, "rb")
    except OSError as error:
        raise ConsoleError(NO_INPUT, name, system_reason(error)) from error


def _reader(file: BinaryIO, name: str) -> Callable[[BinaryIO, str], ImageFile]:
    try:
        head = file.read(16)
        file.seek(0)
    except OSError as error:
        raise ConsoleError(IO_ERROR, name, system_reason(error)) from error
    if not head:
        raise ConsoleError(BAD_INPUT, name, "the file is empty")
    for signature, (module, reader) in READERS.items():
        if head.startswith(signature) and (signature != b"RIFF" or head[8:12] == b"WEBP"):
            found: Callable[[BinaryIO, str], ImageFile] = getattr(importlib.import_module(f"PIL.{module}"), reader)
            return found
    raise ConsoleError(BAD_INPUT, name, "not a picture in JPEG, PNG, GIF, WebP, TIFF or BMP format")


def _refuse_bombs(size: tuple[int, int], name: str) -> None:
    width, height = size
    if width * height > MOST_PIXELS:
        why = f"too many pixels: {width}x{height} is {width * height:,}, the limit is {MOST_PIXELS:,}"
        raise ConsoleError(BAD_INPUT, name, why)


def _decode(pixels: ImageFile, fit: Callable[[tuple[int, int]], tuple[int, int]]) -> SourcePicture:
    full = pixels.size
    box: tuple[float, float, float, float] = (0, 0, *full)
    orientation = 1
    if pixels.format == "JPEG":
        orientation = _orientation(pixels)
        needed = _turned(fit(_turned(full, orientation)), orientation)
        if needed != full:
            wanted = (round(needed[0] * DRAFT_MARGIN), round(needed[1] * DRAFT_MARGIN))
            drafted = pixels.draft(None, wanted)
            box = drafted[1] if drafted else box
    pixels.load()
    if pixels.format in {"PNG", "WEBP"}:  # PNG may keep its EXIF behind the pixels; TIFF comes upright from Pillow
        orientation = _orientation(pixels)
    return SourcePicture(pixels, box, _turned(full, orientation), orientation)


@contextlib.contextmanager
def _libtiff_silenced() -> Iterator[None]:
    """Keep libtiff from writing to stderr by itself: what is wrong is said once, in our words."""
    try:
        stderr = os.dup(2)
    except OSError:  # the caller closed it
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def _turned(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return (size[1], size[0]) if orientation >= LIES_ON_ITS_SIDE else size


def _orientation(pixels: ImageFile) -> int:
    try:
        orientation = pixels.getexif().get(0x0112, 1)
    except Exception:  # noqa: BLE001 - broken EXIF doesn't spoil the picture
        return 1
    return orientation if orientation in UPRIGHT else 1


def _unreadable(name: str, error: Exception) -> ConsoleError:
    if isinstance(error, OSError) and error.errno:
        return ConsoleError(IO_ERROR, name, system_reason(error))
    why = str(error)
    if "truncated" in why or "not large enough" in why or isinstance(error, EOFError):
        return ConsoleError(BAD_INPUT, name, "the picture is truncated: its end is missing")
    if why.startswith("decoder error"):  # followed by a number that says nothing
        why = "its pixels can't be decoded"
    return ConsoleError(BAD_INPUT, name, f"the picture is damaged: {printable(why) or type(error).__name__}")
