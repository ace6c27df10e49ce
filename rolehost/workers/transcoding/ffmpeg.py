"""Where ffmpeg comes from, and how it is held to one local file of one format."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

from rolehost.errors import ProgramNotFoundError

DEMUXERS = {
    "audio/aac": "aac",
    "audio/aiff": "aiff",
    "audio/flac": "flac",
    "audio/mp4": "mov",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
    "audio/wav": "wav",
    "image/gif": "gif",
    "video/3gpp": "mov",
    "video/mp2t": "mpegts",
    "video/mp4": "mov",
    "video/mpeg": "mpeg",
    "video/ogg": "ogg",
    "video/quicktime": "mov",
    "video/webm": "matroska",
    "video/x-matroska": "matroska",
    "video/x-msvideo": "avi",
}
"""A type by content, and the one demuxer that reads it. None of them is a playlist's or a script's."""

_FILM = (
    "h264 hevc vp8 vp9 libvpx libvpx-vp9 av1 libdav1d libaom-av1 mpeg1video mpeg2video mpegvideo mpeg4 msmpeg4v2"
    " msmpeg4v3 msmpeg4 h263 flv1 flv mjpeg theora gif prores dnxhd dvvideo rawvideo png ffv1 vc1 wmv1 wmv2 wmv3"
)
_SOUND = (
    "aac aac_fixed aac_latm mp1 mp1float mp2 mp2float mp3 mp3float opus libopus vorbis libvorbis flac alac ac3"
    " ac3_fixed eac3 dts dca speex libspeex amr_nb amrnb amr_wb amrwb wmav1 wmav2 adpcm_ms adpcm_ima_wav adpcm_ima_qt"
    " pcm_u8 pcm_s8 pcm_s16le pcm_s16be pcm_s24le pcm_s24be pcm_s32le pcm_s32be pcm_f32le pcm_f32be pcm_f64le"
    " pcm_alaw pcm_mulaw pcm_bluray pcm_dvd"
)
CODECS = frozenset(f"{_FILM} {_SOUND}".split())
"""What cameras, telephones, recorders and the web write. Hundreds of other decoders stay shut."""

MOST_PIXELS = 8192 * 8192
MOST_STREAMS = 100


def find_ffmpeg(wanted: str, path: str) -> str:
    """The path of the ffmpeg that a setting names, of one on the PATH, or of the one in the wheel `imageio-ffmpeg`.

    Args:
        wanted: the setting; empty for none, and then nothing else is taken in its place.
        path: the PATH.

    Raises:
        ProgramNotFoundError: there is none.
    """
    found = shutil.which(wanted or "ffmpeg", path=path) or ("" if wanted else _of_the_wheel())
    if not found and wanted:
        raise ProgramNotFoundError(f"there is no {wanted}, which the setting Transcode.Ffmpeg names")
    if not found:
        raise ProgramNotFoundError(
            "ffmpeg is not installed: install it (apt-get install ffmpeg), or rolehost[ffmpeg], which brings its own,"
            " or name it in the setting Transcode.Ffmpeg"
        )
    return str(Path(found).absolute())


def _of_the_wheel() -> str:
    try:
        found: str = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    except (ImportError, RuntimeError, AttributeError):  # no wheel, none for this machine, another module of that name
        return ""
    return found


def source(media_type: str) -> tuple[str, ...]:
    """The options that open a job's source: as what its content is, and nothing beside it.

    Args:
        media_type: one of `DEMUXERS`.
    """
    demuxer = DEMUXERS[media_type]
    pinned = ("-f", demuxer, "-format_whitelist", demuxer, "-protocol_whitelist", "file")
    bounded = ("-codec_whitelist", ",".join(sorted(CODECS)), "-max_streams", str(MOST_STREAMS))
    return (*pinned, *bounded, "-i", "file:{source}")
