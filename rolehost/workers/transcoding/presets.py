"""What each preset asks of ffmpeg."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rolehost.errors import BadInputError
from rolehost.workers.transcoding.ffmpeg import MOST_PIXELS, source
from rolehost.workers.transcoding.probe import Film, Stream

EXTENSIONS = {"jpeg": "jpg", "tiff": "tif"}
"""Where a format's usual ending isn't its name."""
TYPES = {"mp4": "video/mp4", "m4a": "audio/mp4", "mp3": "audio/mpeg", "ogg": "audio/ogg"}
"""A format's media type, where it isn't `image/` and its name."""

_KBITS = {"low": 96, "medium": 160, "high": 256}
_CRF = {"low": 28, "medium": 23, "high": 19}
_SOUND = {"m4a": ("aac", "ipod"), "mp3": ("libmp3lame", "mp3"), "ogg": ("libopus", "ogg")}
_STILL = {
    "jpeg": ("-c:v", "mjpeg", "-q:v", "3", "-f", "image2pipe"),
    "png": ("-c:v", "png", "-f", "image2pipe"),
    "webp": ("-c:v", "libwebp", "-quality", "82", "-f", "webp"),
}
_PIXELS = {"jpeg": "yuvj420p", "png": "rgb24", "webp": "yuv420p"}
_LONGEST_SIDE = 16_000
"""Pixels; WebP ends at 16,383."""
_LARGEST_BLOCK = 1 << 30
"""Bytes that are asked for at once; a frame of the most pixels takes half of it."""
_FRAMES_A_SECOND = 10
_BACK = 10.0
"""Seconds before a moment from which on a film is decoded, so that a key frame comes first."""
_ONLY_KEY_FRAMES = 15.0
"""Seconds between two pictures of a contact sheet from which on only key frames are decoded."""
_STEREO = "aformat=sample_rates=44100|48000:channel_layouts=mono|stereo"
_BARE = ("-map_metadata", "-1", "-map_metadata:s", "-1", "-map_chapters", "-1", "-sn", "-dn", "-bitexact")
"""No title, no place, no device, no chapters, no subtitles, no data."""


@dataclass(frozen=True, slots=True)
class Command:
    """What a preset asks for.

    Args:
        before: options of the source.
        after: what follows the source.
        seconds: of film that will be written; None: nobody knows.
    """

    before: tuple[str, ...]
    after: tuple[str, ...]
    seconds: float | None

    def argv(self, ffmpeg: str, media_type: str, threads: int) -> tuple[str, ...]:
        """The whole template.

        Args:
            ffmpeg: its path.
            media_type: the source's.
            threads: of each decoder, filter and encoder.
        """
        told = ("-nostdin", "-hide_banner", "-loglevel", "error", "-nostats", "-progress", "pipe:1")
        paced = ("-stats_period", "0.5", "-filter_threads", str(threads), "-filter_complex_threads", str(threads))
        held = ("-max_alloc", str(_LARGEST_BLOCK), "-threads", str(threads), "-max_pixels", str(MOST_PIXELS))
        return (ffmpeg, *told, *paced, "-y", *held, *self.before, *source(media_type), *self.after)


def command(asked: Mapping[str, Any], film: Film, threads: int) -> Command:
    """What a job's parameters ask for, of this film.

    Raises:
        BadInputError: the film lacks what the preset works on.
    """
    name = str(asked["preset"])
    if name == "audio":
        if film.audio is None:
            raise BadInputError("there is no sound in it")
        return Command((), _audio(asked, film.audio, threads), film.seconds)
    if film.video is None:
        raise BadInputError("there is no film in it, only sound")
    match name:
        case "web-video":
            return Command((), _web_video(asked, film.video, film.audio, threads), film.seconds)
        case "poster":
            return _poster(asked, film.video, film.seconds)
        case "preview":
            return _preview(asked, film.video, film.seconds)
        case _:
            return _contact_sheet(asked, film.video, film.seconds)


def _audio(asked: Mapping[str, Any], sound: Stream, threads: int) -> tuple[str, ...]:
    codec, muxer = _SOUND[asked["format"]]
    coded = ("-af", _STEREO, "-c:a", codec, "-b:a", f"{_KBITS[asked['quality']]}k", "-threads", str(threads))
    return ("-map", f"0:{sound.index}", *coded, *_BARE, "-f", muxer, "file:{target}")


def _web_video(asked: Mapping[str, Any], video: Stream, sound: Stream | None, threads: int) -> tuple[str, ...]:
    side, longest = asked["height"], 4 * asked["height"]
    scaled = f"min(1,min({side}/min(iw*sar,ih),{longest}/max(iw*sar,ih)))"
    width, height = (f"max(2,2*trunc({each}*{scaled}/2))" for each in ("iw*sar", "ih"))
    filters = f"yadif=deint=interlaced,scale=w='{width}':h='{height}',setsar=1,format=yuv420p"
    pictures = ("-map", f"0:{video.index}", "-vf", filters, "-fpsmax", "60", "-c:v", "libx264")
    coded = ("-preset", "medium", "-crf", str(_CRF[asked["quality"]]), "-threads", str(threads))
    heard = () if sound is None else ("-map", f"0:{sound.index}", "-af", _STEREO, "-c:a", "aac", "-b:a", "128k")
    return (*pictures, *coded, *heard, *_BARE, "-movflags", "+faststart", "-f", "mp4", "file:{target}")


def _poster(asked: Mapping[str, Any], video: Stream, seconds: float | None) -> Command:
    before, cut = _from(asked, seconds, 0)
    filters = f"{cut}{_inside(_LONGEST_SIDE, asked.get('height', _LONGEST_SIDE))},format={_PIXELS[asked['format']]}"
    one = ("-map", f"0:{video.index}", "-vf", filters, "-frames:v", "1", *_BARE, *_STILL[asked["format"]])
    return Command(before, (*one, "file:{target}"), None)


def _preview(asked: Mapping[str, Any], video: Stream, seconds: float | None) -> Command:
    lasts = float(asked["seconds"])
    before, cut = _from(asked, seconds, lasts)
    filters = f"{cut}fps={_FRAMES_A_SECOND},{_inside(4 * asked['height'], asked['height'])}"
    if asked["format"] == "gif":
        filters += ",split[one][other];[one]palettegen[palette];[other][palette]paletteuse"
        coded: tuple[str, ...] = ("-c:v", "gif", "-loop", "0", "-f", "gif")
    else:
        coded = ("-c:v", "libwebp_anim", "-quality", "65", "-loop", "0", "-f", "webp")
    made = ("-map", f"0:{video.index}", "-vf", filters, *_BARE, *coded, "file:{target}")
    return Command(before, made, lasts if seconds is None else min(lasts, seconds))


def _contact_sheet(asked: Mapping[str, Any], video: Stream, seconds: float | None) -> Command:
    if seconds is None:
        raise BadInputError("how long the film lasts can't be told: there is nothing to divide")
    columns, rows = asked["columns"], asked["rows"]
    each = seconds / (columns * rows)
    height = min(asked["height"], _LONGEST_SIDE // rows)
    rate = f"{columns * rows * 1000}/{max(1, round(seconds * 1000))}"
    spread = f"setpts=PTS-STARTPTS-{each / 2:.6f}/TB,fps=fps={rate}:start_time=0:round=up"
    sheet = f"{spread},{_inside(min(4 * height, _LONGEST_SIDE // columns), height)},tile={columns}x{rows}"
    # The sheet is written when all is seen; what is thrown away tells meanwhile how far that is.
    graph = f"[0:{video.index}]split[seen][passed];[seen]{sheet},format={_PIXELS[asked['format']]}[sheet]"
    made = ("-filter_complex", graph, "-map", "[sheet]", "-frames:v", "1", *_BARE, *_STILL[asked["format"]])
    paced = ("-map", "[passed]", "-f", "null", "-")
    return Command(
        ("-skip_frame", "nokey") if each > _ONLY_KEY_FRAMES else (), (*made, "file:{target}", *paced), seconds
    )


def _inside(width: int, height: int) -> str:
    """A filter that makes pictures fit into a box, their pixels square; nothing is enlarged."""
    scaled = f"min(1,min({width}/(iw*sar),{height}/ih))"
    sides = (f"max(1,round({each}*{scaled}))" for each in ("iw*sar", "ih"))
    return "scale=w='{}':h='{}',setsar=1".format(*sides)


def _from(asked: Mapping[str, Any], seconds: float | None, lasts: float) -> tuple[tuple[str, ...], str]:
    """Go to where the job says, to the frame; else past the beginning, which is often black.

    Args:
        asked: the job's parameters; `at` in seconds.
        seconds: the film's length.
        lasts: seconds that will be taken from there; 0 for a single picture.

    Returns:
        Options of the source, and the beginning of a filter.
    """
    at = asked.get("at")
    if at is not None and seconds is not None and at >= seconds:
        raise BadInputError(f"it lasts {seconds:.1f} s: there is nothing at {at:g} s")
    if at is None:
        at = 0.0 if seconds is None else max(0.0, min(seconds / 10, seconds - lasts))
        if not lasts:  # a key frame may as well be it: there is one, however few frames a film has
            return ("-noaccurate_seek", "-ss", f"{at:.3f}"), ""
    # Broadcast streams have no index: a seek into them lands between key frames, and shows nothing until the next.
    before = min(float(at), _BACK)
    seek = ("-ss", f"{at - before:.3f}") if at > before else ()
    length = ("-t", f"{before + lasts:.3f}") if lasts else ()
    cut = f"trim=start={before:.3f}" + (f":duration={lasts:.3f}" if lasts else "")
    return (*seek, *length), f"{cut},setpts=PTS-STARTPTS,"
