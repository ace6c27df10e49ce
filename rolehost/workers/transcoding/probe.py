"""What a file of sound or film holds, as ffmpeg itself says.

Not ffprobe: it may be missing, and it refuses a whole film for one track, as of subtitles, whose decoder stays shut.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rolehost.errors import BadInputError
from rolehost.workers.transcoding.ffmpeg import CODECS, MOST_PIXELS, source

LONGEST = 1e7
"""Seconds, four months: what claims to be longer says nothing of its length."""

_DURATION = re.compile(r"^  Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)", re.MULTILINE)
# The language in the parentheses is what the file says it is, such as `en-US`, and may be any text.
_STREAM = re.compile(r"^  Stream #0:(\d+)(?:\[\w+\])?(?:\(.*?\))?: (Video|Audio): (\w+)(.*)$", re.MULTILINE)
_SIZE = re.compile(r", (\d+)x(\d+)\b")
_OUT_TIME = re.compile(r"^out_time_us=(\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream of pictures or of sound.

    Args:
        index: its number in the file.
        codec: how it is coded.
        width: of a picture, in pixels.
        height: the same.
    """

    index: int
    codec: str
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class Film:
    """What a file holds.

    Args:
        seconds: how long it lasts; None: it doesn't say.
        video: the first stream of moving pictures; a cover is none.
        audio: the first stream of sound.
    """

    seconds: float | None
    video: Stream | None
    audio: Stream | None

    def check(self) -> None:
        """Refuse what no decoder here is to see.

        Raises:
            BadInputError: neither picture nor sound, an unusual codec, or too many pixels.
        """
        streams = [stream for stream in (self.video, self.audio) if stream is not None]
        if not streams:
            raise BadInputError("there is neither film nor sound in it")
        for stream in streams:
            if stream.codec not in CODECS:
                raise BadInputError(f"it is coded as {stream.codec}, which is not accepted")
            if stream.width * stream.height > MOST_PIXELS:
                raise BadInputError(f"too many pixels: {stream.width}x{stream.height}, the limit is {MOST_PIXELS:,}")


def probe_command(ffmpeg: str, media_type: str) -> tuple[str, ...]:
    """The argv template that looks into a job's source.

    Without an output it tells what it found, then ends with 1: it has nothing to do.
    """
    return (ffmpeg, "-nostdin", "-hide_banner", *source(media_type))


def measure_command(ffmpeg: str, media_type: str, film: Film) -> tuple[str, ...]:
    """The argv template that reads a source from end to end, decoding nothing, to see how long it lasts."""
    stream = film.video or film.audio
    told = ("-nostdin", "-hide_banner", "-loglevel", "error", "-nostats", "-progress", "pipe:1")
    mapped = ("-map", f"0:{stream.index if stream else 0}", "-c", "copy", "-f", "null", "-")
    return (ffmpeg, *told, *source(media_type), *mapped)


def measured(stdout: str) -> float | None:
    """Seconds, as `measure_command` told them."""
    found = _OUT_TIME.findall(stdout)
    return _sane(int(found[-1][:18]) / 1e6) if found else None


def read_probe(stderr: str) -> Film | None:
    """What `probe_command` said; None if it found nothing."""
    first: dict[str, Stream] = {}
    streams = _STREAM.findall(stderr)
    for index, sort, codec, rest in streams:
        if not rest.rstrip().endswith("(attached pic)"):
            size = _SIZE.search(rest)
            width, height = (int(size[1][:9]), int(size[2][:9])) if size else (0, 0)
            first.setdefault(sort, Stream(int(index[:9]), codec, width, height))
    lasts = _DURATION.search(stderr)
    seconds = int(lasts[1][:9]) * 3600 + int(lasts[2]) * 60 + float(lasts[3]) if lasts else None
    return Film(_sane(seconds), first.get("Video"), first.get("Audio")) if streams or lasts else None


def _sane(seconds: float | None) -> float | None:
    return seconds if seconds is not None and 0 < seconds <= LONGEST else None
