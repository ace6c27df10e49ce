"""Pictures for tests: photographs as a camera writes them, and fifty mixed files with what is to become of each."""

from __future__ import annotations

import io
import random
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from support.colour_profiles import light_inks, swapped_rgb

if TYPE_CHECKING:
    from pathlib import Path

Colour = tuple[int, int, int]
Corners = tuple[Colour | None, Colour | None, Colour | None, Colour | None]

RED, GREEN, BLUE, YELLOW = (200, 30, 30), (30, 160, 40), (30, 50, 190), (230, 210, 40)
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
FLAG: Corners = (RED, GREEN, BLUE, YELLOW)
HOLE: Corners = (RED, GREEN, BLUE, None)  # the last corner is transparent

# What no thumbnail may give away: files with metadata hold it in EXIF, XMP, comments or text.
SECRET = "Kirchstrasse 7"  # noqa: S105 - an address, no password
LATITUDE = (47.0, 22.0, 11.0)

# EXIF's orientation -> how an upright picture is laid into the file.
LAID = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@dataclass(frozen=True)
class Sample:
    """A file, and what its thumbnail must look like.

    Args:
        path: The file.
        size: Width and height in pixels, upright.
        corners: The colours in the middle of the four quarters (top left, top right, bottom left, bottom right),
            None for transparent; no corners where any colour will do.
        verdict: "good", "truncated" (recognised as a picture, but can't be decoded) or "no picture".
        tolerance: How far a channel may be off.
    """

    path: Path
    size: tuple[int, int] = (0, 0)
    corners: Corners | None = FLAG
    verdict: str = "good"
    tolerance: int = 14

    def thumbnail_size(self, box: int = 512) -> tuple[int, int]:
        """Return the size of the thumbnail for a square box."""
        scale = min(1.0, box / max(self.size))
        return max(1, round(self.size[0] * scale)), max(1, round(self.size[1] * scale))

    def problems(self, thumbnail: Path, box: int = 512) -> list[str]:
        """Compare a thumbnail with what is expected; an empty list means that it is right."""
        with Image.open(thumbnail) as picture:
            found = [] if picture.size == self.thumbnail_size(box) else [f"size {picture.size}"]
            alpha = picture.format in {"PNG", "WEBP", "GIF", "TIFF"}
            colours = corners_of(picture)
        found += [f"gives away {clue!r}" for clue in traces(thumbnail)]
        for position, (wanted, colour) in enumerate(zip(self.corners or (), colours, strict=False)):
            if wanted is None and alpha:
                right = colour[3] == 0
            else:
                right = colour[3] == 255 and self._close(colour, wanted or WHITE)
            if not right:
                found.append(f"corner {position}: {colour}, expected {wanted}")
        return found

    def _close(self, colour: tuple[int, ...], wanted: Colour) -> bool:
        return all(abs(c - w) <= self.tolerance for c, w in zip(colour, wanted, strict=False))


def corners_of(picture: Image.Image) -> list[tuple[int, int, int, int]]:
    """Return the colours (red, green, blue, alpha) in the middle of the four quarters."""
    coloured = picture.convert("RGBA")
    places = [(x * picture.width // 4, y * picture.height // 4) for y in (1, 3) for x in (1, 3)]
    return [_rgba(coloured.getpixel(place)) for place in places]


def _rgba(pixel: Any) -> tuple[int, int, int, int]:
    red, green, blue, alpha = pixel
    return red, green, blue, alpha


def traces(path: Path) -> list[str]:
    """List what a picture's file still says apart from its pixels."""
    with Image.open(path) as picture:
        told = [kind for kind in ("exif", "xmp", "comment", "photoshop") if picture.info.get(kind)]
        told += ["GPS"] if picture.getexif().get_ifd(0x8825) else []
    return told + ([SECRET] if SECRET.encode() in path.read_bytes() else [])


def flag(size: tuple[int, int] = (800, 600), corners: Corners = FLAG) -> Image.Image:
    """Return a picture of four coloured quarters: RGB, or RGBA where one of them is transparent."""
    picture = Image.new("RGBA", size, (0, 0, 0, 0))
    left, top = size[0] // 2, size[1] // 2
    boxes = ((0, 0, left, top), (left, 0, *(size[0], top)), (0, top, left, size[1]), (left, top, *size))
    for box, colour in zip(boxes, corners, strict=True):
        if colour:
            picture.paste((*colour, 255), box)
    return picture if None in corners else picture.convert("RGB")


def camera_exif(orientation: int = 1) -> Image.Exif:
    """Return what a telephone writes beside the pixels: maker, time, place, and how it was held."""
    exif = Image.Exif()
    exif[0x010F], exif[0x013B], exif[0x0132] = "Maker", SECRET, "2026:07:01 12:00:00"
    exif[0x0112] = orientation
    exif.get_ifd(0x8825).update({1: "N", 2: LATITUDE, 3: "E", 4: (8.0, 32.0, 1.0)})
    return exif


def photograph(path: Path, megapixels: float = 12, *, seed: int = 7, orientation: int = 1, **options: Any) -> Path:
    """Write a photograph as a camera would: 4:3, upright, with EXIF and GPS; at 12 megapixels 3 to 4 MB of JPEG.

    Args:
        path: The file; its extension says the format.
        megapixels: Millions of pixels.
        seed: Another seed, another picture.
        orientation: How the camera was held, in EXIF's numbers; from 5 on the upright picture is 3:4.
        options: For Pillow's encoder.
    """
    chance = random.Random(seed)  # noqa: S311 - pictures, no secrets
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5 / 4) * 4
    size = (width, width * 3 // 4)
    pixels = Image.new("RGB", size)
    # Large shapes, smaller ones, and the grain of a sensor.
    for grid, share in (((8, 6), 1.0), ((size[0] // 24, size[1] // 24), 0.35)):
        layer = Image.frombytes("RGB", grid, chance.randbytes(grid[0] * grid[1] * 3))
        pixels = Image.blend(pixels, layer.resize(size, Image.Resampling.BICUBIC), share)
    grain = Image.frombytes("L", size, chance.randbytes(size[0] * size[1]))
    pixels = Image.blend(pixels, Image.merge("RGB", (grain, grain, grain)), 0.06)
    pixels.save(path, **{"exif": camera_exif(orientation), **options})
    return path


def truncated(path: Path, source: Path) -> Path:
    """Write the first half of a picture: its header is whole, its pixels are not."""
    whole = source.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def sixteen_bit_rgb_png(path: Path, picture: Image.Image) -> Path:
    """Write a PNG of 16 bits a channel, which Pillow itself can't."""
    deep = bytes(byte for value in picture.tobytes() for byte in (value, value))
    row = picture.width * 6
    lines = b"".join(b"\0" + deep[start : start + row] for start in range(0, len(deep), row))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", *picture.size, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(lines)),
        (b"IEND", b""),
    )
    data = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    return path


def bomb(path: Path, width: int = 20_000, height: int = 20_000) -> Path:
    """Write a small PNG whose header promises very many pixels."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(2500))))
    data = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    return path


def without_adobe_marker(jpeg: bytes) -> bytes:
    """Take the APP14 segment out of a JPEG: then its CMYK is not inverted, by convention."""
    start = jpeg.index(b"\xff\xee\x00\x0eAdobe")
    return jpeg[:start] + jpeg[start + 16 :]


def grey(corners: Corners = FLAG) -> Corners:
    """Return the corners as a picture without colour shows them."""
    first, second, third, fourth = (
        (round(0.299 * c[0] + 0.587 * c[1] + 0.114 * c[2]),) * 3 if c else None for c in corners
    )
    return first, second, third, fourth


def mixed(folder: Path) -> list[Sample]:
    """Write fifty mixed pictures: 48 good ones, a truncated JPEG, and a text named .jpg."""
    folder.mkdir(parents=True, exist_ok=True)
    good = [*_jpegs(folder), *_pngs(folder), *_gifs_and_webps(folder), *_tiffs_and_bmps(folder)]
    whole = photograph(folder / "whole.tmp.jpg", 1, seed=3)
    cut = truncated(folder / "truncated.jpg", whole)
    whole.unlink()
    text = folder / "text.jpg"
    text.write_text("This is a shopping list, whatever its name says: milk, bread, apples.\n", encoding="utf-8")
    return [*good, Sample(cut, corners=None, verdict="truncated"), Sample(text, corners=None, verdict="no picture")]


class _Writer:
    """Writes one sample after the other into a folder and keeps what is expected."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.samples: list[Sample] = []

    def add(self, name: str, picture: Image.Image, corners: Corners | None = FLAG, **options: Any) -> None:
        size = options.pop("upright", picture.size)
        picture.save(self.folder / name, **options)
        self.samples.append(Sample(self.folder / name, size, corners))

    def add_bytes(self, name: str, data: bytes, size: tuple[int, int], corners: Corners | None = FLAG) -> None:
        (self.folder / name).write_bytes(data)
        self.samples.append(Sample(self.folder / name, size, corners))


def _ink(cyan: int, magenta: int, yellow: int, black: int, size: tuple[int, int] = (600, 400)) -> Image.Image:
    return Image.new("CMYK", size, (cyan, magenta, yellow, black))


def _jpegs(folder: Path) -> list[Sample]:
    writer = _Writer(folder)
    writer.samples.append(Sample(photograph(folder / "photograph.jpg", 3), (2000, 1500), None))
    writer.samples.append(Sample(photograph(folder / "portrait.jpg", 3, orientation=6), (1500, 2000), None))
    writer.add("plain.jpg", flag())
    writer.add("small.jpg", flag((100, 75)), comment=SECRET)
    writer.add("narrow.jpg", flag((1, 3000)), None)
    writer.add("flat.jpg", flag((6000, 40)), None)
    writer.add("progressive.jpg", flag(), progressive=True, xmp=f"<x>{SECRET}</x>".encode())
    writer.add("grey.jpg", flag().convert("L"), grey())
    for orientation, laid in LAID.items():
        exif = camera_exif(orientation)
        writer.add(f"orientation-{orientation}.jpg", flag().transpose(laid), upright=(800, 600), exif=exif)
    writer.add("cmyk-adobe.jpg", flag().convert("CMYK"))
    writer.add("cmyk-profile.jpg", _ink(255, 0, 0, 0), ((70, 205, 79),) * 4, icc_profile=light_inks())
    plain_inks = io.BytesIO()
    _ink(0, 0, 0, 0).save(plain_inks, "JPEG")  # stored as 255, which without Adobe's marker means full ink
    writer.add_bytes("cmyk-no-marker.jpg", without_adobe_marker(plain_inks.getvalue()), (600, 400), (BLACK,) * 4)
    writer.add("swapped-profile.jpg", flag((1200, 900), (RED,) * 4), ((30, 200, 30),) * 4, icc_profile=swapped_rgb())
    writer.add("several.mpo.jpg", flag(), format="MPO", save_all=True, append_images=[flag((200, 200))])
    return writer.samples


def _pngs(folder: Path) -> list[Sample]:
    writer = _Writer(folder)
    holed = flag(corners=HOLE)
    holed_palette = holed.quantize(16)
    text = _png_text()
    writer.add("plain.png", flag(), pnginfo=text, exif=camera_exif())
    writer.add("transparent.png", holed, HOLE)
    writer.add("palette.png", flag().quantize(8))
    writer.add("palette-transparent.png", holed_palette, HOLE)
    writer.add("one-bit.png", flag(corners=(BLACK, WHITE, WHITE, BLACK)).convert("1"), (BLACK, WHITE, WHITE, BLACK))
    writer.add("grey.png", flag().convert("L"), grey())
    writer.add("grey-transparent.png", holed.convert("LA"), grey(HOLE))
    writer.add("grey-hole.png", flag(corners=(RED, GREEN, BLUE, BLACK)).convert("L"), grey(HOLE), transparency=0)
    writer.add("colour-hole.png", flag(), HOLE, transparency=YELLOW)
    writer.add("grey-16.png", _deep(flag()), grey())
    size = (600, 400)
    sixteen_bit_rgb_png(folder / "colour-16.png", flag(size))
    writer.samples.append(Sample(folder / "colour-16.png", size))
    writer.add("turned.png", flag().transpose(LAID[8]), upright=(800, 600), exif=camera_exif(8))
    writer.add("animated.png", flag(), save_all=True, append_images=[flag(corners=(BLUE,) * 4)], duration=100)
    return writer.samples


def _gifs_and_webps(folder: Path) -> list[Sample]:
    writer = _Writer(folder)
    holed, later = flag(corners=HOLE), [flag(corners=(BLUE,) * 4)]
    writer.add("plain.gif", flag(), comment=SECRET.encode())
    writer.add("transparent.gif", holed, HOLE)
    writer.add("animated.gif", flag(), save_all=True, append_images=later, duration=100)
    writer.add("plain.webp", flag(), exif=camera_exif(), quality=90)
    writer.add("transparent.webp", holed, HOLE, lossless=True)
    writer.add("animated.webp", flag(), save_all=True, append_images=later, duration=100, quality=90)
    writer.add("turned.webp", flag().transpose(LAID[6]), upright=(800, 600), exif=camera_exif(6), quality=90)
    return writer.samples


def _tiffs_and_bmps(folder: Path) -> list[Sample]:
    writer = _Writer(folder)
    two_tones: Corners = (BLACK, WHITE, WHITE, BLACK)
    writer.add("plain.tiff", flag(), exif=camera_exif())
    writer.add("cmyk.tiff", flag().convert("CMYK"), compression="tiff_lzw")
    writer.add("grey-16.tiff", _deep(flag()), grey(), compression="tiff_deflate")
    writer.add("float.tiff", flag().convert("L").convert("F").point(lambda v: v * (1 / 255) + 0.0), grey())
    writer.add("fax.tiff", flag(corners=two_tones).convert("1"), two_tones, compression="group4")
    writer.add("pages.tiff", flag(), save_all=True, append_images=[flag((50, 50))])
    turned = camera_exif(6)
    writer.add("turned.tiff", flag().transpose(LAID[6]), upright=(800, 600), exif=turned)
    writer.add("plain.bmp", flag())
    return writer.samples


def _deep(picture: Image.Image) -> Image.Image:
    """Return grey of 16 bits over their whole range."""
    values = picture.convert("L").tobytes()
    return Image.frombytes("I;16", picture.size, bytes(byte for value in values for byte in (value, value)))


def _png_text() -> Any:
    from PIL.PngImagePlugin import PngInfo  # noqa: PLC0415 - not every user of this module writes PNG

    text = PngInfo()
    text.add_text("Comment", SECRET)
    return text
