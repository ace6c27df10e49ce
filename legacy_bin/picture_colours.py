"""Bring what cameras, scanners and printers write to eight bits a channel, in sRGB."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

# Modes that can be resized as they are.
PLAIN_MODES = {"L", "LA", "RGB", "RGBA", "CMYK"}

# A mode -> the kind of ICC profile that can speak about it.
PROFILE_SPACES = {"L": "GRAY", "LA": "GRAY", "RGB": "RGB", "RGBA": "RGB", "CMYK": "CMYK"}

WHITE = 255
TIFF_BITS_PER_SAMPLE = 258
TIFF_PHOTOMETRIC = 262


def to_eight_bits(picture: ImageFile) -> Image.Image:
    """Convert any mode to L, LA, RGB, RGBA or CMYK, without loss of brightness, gradation or transparency."""
    mode = picture.mode
    if mode == "F" or mode.startswith("I"):
        return _grey(picture)
    if mode == "LAB":
        return _from_lab(picture)
    if mode == "CMYK" and picture.format == "JPEG" and "adobe" not in picture.info:
        # Pillow takes every CMYK JPEG for Adobe's, which are inverted.
        return picture.point(lambda ink: WHITE - ink)
    if picture.has_transparency_data:
        return picture if mode in PLAIN_MODES and mode.endswith("A") else picture.convert("RGBA")
    if mode in PLAIN_MODES:
        return picture
    return picture.convert("L" if mode == "1" else "RGB")


def to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert to sRGB by the picture's own ICC profile; CMYK without one by the plain formula.

    Args:
        picture: Of a mode that `to_eight_bits` returns.
        profile: The profile in the picture's file. One that is damaged, or made for other colours, is ignored.
    """
    if profile and not _is_srgb(profile):
        picture = _by_profile(picture, profile) or picture
    return picture.convert("RGB") if picture.mode == "CMYK" else picture


def on_white(picture: Image.Image) -> Image.Image:
    """Lay a transparent picture on white."""
    if not picture.mode.endswith("A"):
        return picture
    ground = Image.new(picture.mode[:-1], picture.size, "white")
    ground.paste(picture.convert(ground.mode), mask=picture.getchannel("A"))
    return ground


def _grey(picture: ImageFile) -> Image.Image:
    """Scale grey of 16 or 32 bits, or in floating point, to eight bits: neither clipped nor black."""
    wide = picture.convert("I").convert("F") if picture.mode.startswith("I;") else picture.convert("F")
    low, high = _extremes(wide)
    tags = getattr(picture, "tag_v2", {})
    if picture.mode.startswith("I;"):
        low, high = 0.0, 2.0 ** tags.get(TIFF_BITS_PER_SAMPLE, (16,))[0] - 1
    elif low >= 0:
        usual = (1.0, 255.0, 65535.0) if picture.mode == "F" else (255.0, 65535.0)
        low, high = 0.0, next((top for top in usual if high <= top), high)
    scale = WHITE / (high - low or 1.0)
    half = 0.5  # the conversion to L cuts off what follows the point
    grey = wide.point(lambda value: value * scale + (half - low * scale)).convert("L")
    if picture.mode.startswith("I;") and tags.get(TIFF_PHOTOMETRIC) == 0:  # white is zero
        return grey.point(lambda value: WHITE - value)
    return grey


def _extremes(picture: Image.Image) -> tuple[float, float]:
    low, high = picture.getextrema()
    if not (isinstance(low, float) and isinstance(high, float) and math.isfinite(low) and math.isfinite(high)):
        raise ValueError("its brightness is not a number")
    return low, high


def _from_lab(picture: Image.Image) -> Image.Image:
    from PIL import ImageCms  # noqa: PLC0415 - only a few pictures need it

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB") or picture


def _is_srgb(profile: bytes) -> bool:
    """Whether the profile calls itself sRGB, as most do: then colour management has nothing to do."""
    for entry in range(132, min(len(profile), 132 + 12 * int.from_bytes(profile[128:132])), 12):
        if profile[entry : entry + 4] == b"desc":
            start, size = (int.from_bytes(profile[at : at + 4]) for at in (entry + 4, entry + 8))
            # Text in one byte a character (version 2) or two (version 4), behind a short head.
            words = profile[start + 12 : start + min(size, 200)].replace(b"\0", b"")
            return b"sRGB" in words and b"inear" not in words
    return False


def _by_profile(picture: Image.Image, profile: bytes) -> Image.Image | None:
    try:
        from PIL import ImageCms  # noqa: PLC0415 - only a few pictures need it
    except ImportError:  # a Pillow built without it
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != PROFILE_SPACES[picture.mode]:
            return None
        opaque = picture.convert(picture.mode[:-1]) if picture.mode.endswith("A") else picture
        converted = ImageCms.profileToProfile(
            opaque,
            source,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (OSError, ValueError, ImageCms.PyCMSError):
        return None
    if converted is None:
        return None
    result = converted.convert("L") if opaque.mode == "L" else converted
    if opaque is not picture:
        result.putalpha(picture.getchannel("A"))
    return result
