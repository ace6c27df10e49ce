"""Films and sound for tests: made by ffmpeg's own generators, small, and looked into by ffprobe."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

PICTURES = "testsrc2=size={size}:rate={rate}:duration={seconds}"
TONE = "sine=frequency=440:sample_rate=44100:duration={seconds}"


def ffmpeg(*arguments: str | Path) -> None:
    """Run ffmpeg, and fail with what it says if it does."""
    subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "error", "-y", *map(str, arguments)], check=True, capture_output=True, timeout=120
    )


def film(
    path: Path, *options: str, size: str = "320x180", rate: int = 10, seconds: float = 2.0, sound: bool = True
) -> Path:
    """A film at this path; its ending says in which container.

    Args:
        path: where.
        options: of the output, such as codecs and metadata.
        size: width and height, `320x180`.
        rate: frames a second.
        seconds: how long.
        sound: whether it has a tone.
    """
    values = {"size": size, "rate": rate, "seconds": seconds}
    tone = ("-f", "lavfi", "-i", TONE.format(**values)) if sound else ()
    ffmpeg("-f", "lavfi", "-i", PICTURES.format(**values), *tone, *options, path)
    return path


def tone(path: Path, *options: str, seconds: float = 2.0) -> Path:
    """Sound without pictures."""
    ffmpeg("-f", "lavfi", "-i", TONE.format(seconds=seconds), *options, path)
    return path


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that everybody reaches, as who ffmpeg runs as.

    Pytest's own won't do: each session that begins on a machine closes the folder of all of them to others.
    """
    with TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


def looked(path: Path) -> dict[str, Any]:
    """What ffprobe says: `format`, `streams`, `chapters`; frames are counted."""
    wanted = ("-show_format", "-show_streams", "-show_chapters", "-count_frames")
    argv = ["ffprobe", "-v", "error", "-print_format", "json", *wanted, str(path)]
    told: dict[str, Any] = json.loads(subprocess.run(argv, check=True, capture_output=True, timeout=60).stdout)
    return told


def colour(path: Path, x: int, y: int) -> tuple[int, int, int]:
    """The first frame's colour at a place: red, green, blue."""
    cropped = ("-vf", f"crop=1:1:{x}:{y},format=rgb24", "-frames:v", "1", "-f", "rawvideo", "-")
    argv = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(path), *cropped]
    red, green, blue = subprocess.run(argv, check=True, capture_output=True, timeout=60).stdout
    return red, green, blue
